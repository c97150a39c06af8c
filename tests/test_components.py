import functools

import pytest

from cellpheno.components import build, describe, resolve
from cellpheno.errors import ConfigError
from cellpheno.names import well_name


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "pathlib.Path.write_text",
        "subprocess.run",
        "builtins.eval",
        "torch.load",
        "numpy.load",
        "cellpheno.components.importlib.import_module",  # through a module of ours to a foreign function
        "cellpheno.plates.commit.shutil.rmtree",
        "sklearn.utils.os.system",
    ],
)
def test_foreign_functions_are_refused_however_they_are_reached(target):
    with pytest.raises(ConfigError, match=r"wanted one of|may only name|nothing that can be called"):
        resolve(target)


def test_a_misspelt_component_is_named():
    with pytest.raises(ConfigError, match=r"cellpheno\.names\.parse_wel: nothing"):
        resolve("cellpheno.names.parse_wel")


def test_a_component_survives_being_written_down():
    part = functools.partial(well_name, column=3)
    data = describe({"outer": [part]})
    assert data == {"outer": [{"_target_": "cellpheno.names.well_name", "_partial_": True, "column": 3}]}
    assert build(data)["outer"][0]("B") == "B03"
    assert describe(build(data)) == data


def test_a_setting_that_the_component_does_not_take_is_refused():
    with pytest.raises(ConfigError, match="slpoe"):
        build({"_target_": "cellpheno.names.well_name", "slpoe": 7})


def test_what_is_not_data_is_refused():
    with pytest.raises(TypeError, match="cannot be written as data"):
        describe(object())

import re
from pathlib import Path

import numpy as np
import pytest

from cellpheno.config import config_groups, load_config
from cellpheno.measure.columns import describe_column, documented_columns, features_page, read_features
from cellpheno.measure.field import SECTIONS, measure_field

PAGE = Path(__file__).parents[2] / "docs" / "features.md"
MORE = ["measurements.relation.relations.distances=true", "measurements.channel.radial.scaled=false"]  # all columns


@pytest.fixture(scope="module")
def columns():
    """Columns of a field of three compartments and two channels with every measurement of the configuration."""
    from cellpheno.components import build

    options = sorted(config_groups()["measurements"])
    config = load_config("measure", f"measurements=[{','.join(options)}]", "plate=P1.zarr", *MORE)
    measurements = build(config.measurements)
    assert set(measurements) <= set(SECTIONS)
    cells = np.kron([[1, 2], [3, 4]], np.ones((20, 20), int))
    nuclei = np.where(np.kron(np.ones((2, 2), int), np.pad(np.ones((8, 8), int), 6)) > 0, cells, 0)
    labels = {"cells": cells, "nuclei": nuclei, "cytoplasm": np.where(nuclei > 0, 0, cells)}
    image = np.random.default_rng(0).integers(0, 2**16, (2, 40, 40)).astype(np.uint16)
    return [name for name in measure_field(labels, image, ["DNA", "ER"], measurements) if name[:8] != "Metadata"]


def entries_of(feature):
    """Templates that a feature fits, by a reading of its own: part by part."""
    found = []
    for entry in documented_columns():
        pattern = "".join(r"[A-Za-z0-9]+" if p[0] == "<" else re.escape(p) for p in re.findall("<.*?>|[^<]+", entry[0]))
        if re.fullmatch(pattern, feature):
            found.append(entry.template)
    return found


def test_every_column_has_one_entry_and_every_entry_a_column(columns):
    features = {name.partition("_")[2] for name in columns}
    assert len(features) > 150
    found = {feature: entries_of(feature) for feature in features}
    assert {feature: templates for feature, templates in found.items() if len(templates) != 1} == {}
    assert {entry.template for entry in documented_columns()} == {templates[0] for templates in found.values()}


def test_a_column_is_described_with_its_parts(columns):
    for name in columns:
        column = describe_column(name)
        assert column.compartment == name.partition("_")[0]
        filled = column.template
        for part, value in column.fields.items():
            filled = filled.replace(f"<{part}>", value)
        assert f"{column.compartment}_{filled}" == name
    texture = describe_column("Cells_Texture_Contrast_DNA_3_00_256")
    assert texture.fields == {"channel": "DNA", "scale": "3", "direction": "00", "levels": "256"}
    assert "doi:10.1109/TSMC.1973.4309314" in texture.source
    assert describe_column("Texture_Contrast_DNA_3_00_256") == texture._replace(compartment="")


@pytest.mark.parametrize("name", ["Metadata_Well", "Cells_Intensity_MeanIntensity", "Cells_", "", "Cells_Area"])
def test_a_column_that_no_measurement_gives_is_refused(name):
    with pytest.raises(ValueError, match="no measurement documents it"):
        describe_column(name)


def test_units_are_of_a_short_list():
    units = {re.sub(r"\^.+", "", entry.unit) for entry in documented_columns()}
    assert units <= {"pixel", "degree", "radian", "grey level", "fraction", "percent", "count", "label", "bit", "1"}


def test_the_page_is_what_the_docstrings_say():
    assert PAGE.read_text(encoding="utf-8") == features_page(), "python -m cellpheno.measure.columns > docs/features.md"
    for entry in documented_columns():
        assert PAGE.read_text(encoding="utf-8").count(f"| `{entry.template}` |") == 1


def test_reads_entries_of_a_docstring():
    def measure(objects):
        """Brightness.

        Features
        --------
        A_<k>_<channel> : grey level
            One line
            and another.
        B : 1
            Short.

        References
        ----------
        Somebody 1999,
        doi:10.1/2

        Examples
        --------
        """

    first, second = read_features(measure)
    assert first == (
        "A_<k>_<channel>",
        "grey level",
        "One line and another.",
        "test_columns.measure",
        "Brightness.",
        "Somebody 1999, doi:10.1/2",
    )
    assert second[:3] == ("B", "1", "Short.")
    assert read_features(entries_of) == []
    measure.__doc__ = "Brightness.\n\nFeatures\n--------\nA_<k>\n    No unit."
    with pytest.raises(ValueError, match="wanted template : unit"):
        read_features(measure)

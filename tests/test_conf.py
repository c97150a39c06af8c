"""The configuration agrees with the code: every option of every group composes, and says what the signature says."""

import functools
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from cellpheno.cli import STEPS
from cellpheno.components import build, resolve
from cellpheno.config import CONF, check, config_groups, load_config
from cellpheno.steps import parameters, step_function

WHOLE = {"experiment", "preset"}  # groups that set keys of others
ABSENT = {("logger", name) for name in ("tensorboard", "mlflow", "wandb") if find_spec(name) is None}
OPTIONS = [
    (group, option)
    for group, options in config_groups().items()
    for option in options
    if group not in WHOLE and (group, option) not in ABSENT  # tests/training/test_loggers.py: these are refused
]
EXPERIMENTS = config_groups()["experiment"]
NEEDED = ["plate=P1.zarr", "folder=raw"]
EXTRA = {  # options that need a value that only a user can give
    ("baselines", "elsewhere"): ["baselines.elsewhere.profiles.path=profiles.csv"],
    ("importer", "table"): ["importer.table=t.csv", "importer.planes={DNA: 'a-{Row}.tif'}"],
    ("split", "leave_one_group_out"): ["split.leave_one_group_out.group=Metadata_drug"],
}
OTHER_DEFAULTS = {"field_bags", "mil_fields"}  # the same class set up for whole fields
MANY = {"measurements", "split", "baselines", "callbacks", "contestants"}  # several options may be chosen
NOT_AS_SIGNED = {*WHOLE, "simulation", "baselines", "augmentation", "contestants"}  # settings of their own
# given by the data or by the caller, so they stand in no YAML
SUPPLIED = {
    "folder",
    "truth_folder",
    "plate",
    "wells",
    "seed",
    "workers",
    "image",
    "channels",
    "metadata",
    "objects",
} | {
    *("channel", "others", "train", "validation", "test", "classes", "normalization", "limits", "optimizer", "n_steps"),
    *("encoder", "pooling", "scheduler", "augment", "class_weights", "n_channels", "n_classes", "n_features", "crops"),
    *("generator", "split", "step", "jobs", "root", "instances", "table", "label", "save_dir", "labelled", "params"),
    *("multilabel", "values", "configuration", "random_state", "explain"),
}


def compose(group, option):
    return compose_row(0 if group in MANY else [o for g, o in OPTIONS if g == group].index(option))


@functools.cache  # composing takes a second, and nothing below changes what it gives
def compose_row(k):
    """The k-th option of each group at once, or its last one; of several that may be chosen all."""
    chosen, extra = [], []
    for group in dict.fromkeys(g for g, _ in OPTIONS):
        options = [o for g, o in OPTIONS if g == group]
        own = options if group in MANY else [options[min(k, len(options) - 1)]]
        chosen.append(f"{group}=[{','.join(own)}]" if group in MANY else f"{group}={own[0]}")
        extra += [setting for option in own for setting in EXTRA.get((group, option), [])]
    return load_config("run", *chosen, *NEEDED, *extra)


def targets(node):
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield node
        for key in node:
            if not OmegaConf.is_missing(node, key):
                yield from targets(node[key])


def test_every_yaml_file_is_an_option_of_a_group_or_a_step():
    files = {path.relative_to(CONF).as_posix() for path in Path(CONF).rglob("*.yaml")}
    options = {f"{group}/{option}.yaml" for group, options in config_groups().items() for option in options}
    parts = {name for name in files if Path(name).name.startswith("_")}  # of options, each of which is used
    assert files - parts == options | {f"{step}.yaml" for step in STEPS}
    texts = [(Path(CONF) / name).read_text() for name in options]
    unused = {Path(part).stem for part in parts}
    unused -= {entry for text in texts for entry in re.findall(r"- (_\w+)[@\n]", text)}
    assert unused == set()
    assert len(OPTIONS) >= 30


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{g}-{o}" for g, o in OPTIONS])
def test_every_option_composes_and_passes_the_check(group, option):
    config = compose(group, option)
    assert check("run", config) == []
    assert list(targets(config[group]))


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{g}-{o}" for g, o in OPTIONS])
def test_every_option_can_be_made(group, option):
    build(OmegaConf.to_container(compose(group, option)[group]))


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{g}-{o}" for g, o in OPTIONS])
def test_the_yaml_has_every_knob_of_the_signature_with_the_same_default(group, option):
    for node in targets(compose(group, option)[group]):
        target = resolve(node["_target_"])
        if not target.__module__.startswith("cellpheno"):
            continue
        for name, parameter in inspect.signature(target).parameters.items():
            if parameter.default is parameter.empty or name in SUPPLIED or parameter.kind is parameter.VAR_KEYWORD:
                continue
            assert name in node, f"{group}/{option}: {name} of {node['_target_']} cannot be set"


@pytest.mark.parametrize("group", sorted(config_groups().keys() - NOT_AS_SIGNED))
def test_the_first_option_has_the_defaults_of_the_signature(group):
    options = [o for g, o in OPTIONS if g == group and o not in OTHER_DEFAULTS]
    for option in options:
        for node in targets(compose(group, option)[group]):
            target = resolve(node["_target_"])
            if not target.__module__.startswith("cellpheno"):
                continue
            for name, parameter in inspect.signature(target).parameters.items():
                plain = isinstance(parameter.default, bool | int | float | str)
                if plain and name in node and name not in SUPPLIED and not OmegaConf.is_missing(node, name):
                    assert node[name] == parameter.default, f"{group}/{option}: {name}"


@pytest.mark.parametrize("step", [s for s in STEPS if s != "run"])
def test_every_key_of_a_step_has_its_default_in_run_yaml(step):
    config = load_config("run", *NEEDED)
    for name, parameter in (parameters(step) or {}).items():
        assert name in list(config), f"{step} takes {name}, which run.yaml does not have"
        if isinstance(parameter.default, bool | int | float | str):
            assert config[name] == parameter.default, name
    assert step_function(step).__doc__


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment):
    load_config("run", f"experiment={experiment}", *([] if experiment == "demo" else ["folder=raw"]))


@pytest.mark.parametrize("preset", config_groups()["preset"])
def test_every_preset_composes_and_passes_the_check(preset):
    load_config("run", f"preset={preset}", *NEEDED)


def test_settings_of_options_that_were_not_chosen_do_not_stay():
    config = load_config("run", "experiment=bbbc013", "split=[by_well]", "folder=raw")
    assert list(config.split) == ["by_well"]
    assert config.split.by_well.n_folds == 4


def test_settings_of_contestants_that_were_not_chosen_do_not_stay():
    whole = load_config("run", "experiment=bbbc021_contest", "folder=raw")
    assert whole.contestants.fields.data.patch_px == 128
    config = load_config("run", "experiment=bbbc021_contest", "contestants=[linear_probe]", "folder=raw")
    assert list(config.contestants) == ["linear_probe"]
    assert not load_config("run", "experiment=bbbc021_contest", "contestants=[]", "folder=raw").contestants

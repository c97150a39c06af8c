"""Configuration: compose it, check it, make the call. The only file that imports hydra.

A step is a function of ``cellpheno.stages``; the names of its parameters are its keys. ``conf/run.yaml`` holds every
key with its default, and a step takes from it those that its signature names.
"""

import functools
import importlib
import inspect
import itertools
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

import cellpheno.stages
from cellpheno.components import resolve
from cellpheno.config_check import configuration_faults, kind_faults, node_faults
from cellpheno.errors import ConfigError
from cellpheno.overrides import Override, choices, group_fault, nearest, parse, quoted
from cellpheno.steps import parameters, step_function

CONF = Path(importlib.import_module("cellpheno.conf").__path__[0])


def load_config(step: str, *overrides: str, config_dir: Path | None = None) -> DictConfig:
    """Compose the configuration of a step and check it; nothing of it has run when this returns.

    Parameters as for `compose_step`; every value must be there and fit what takes it.

    Raises
    ------
    ConfigError
        With every fault: unknown keys and options (and the nearest known ones), missing values, wrong kinds.

    Examples
    --------
    >>> load_config("segment", "plate=007.zarr", "wells=[B03-D06]").plate
    '007.zarr'
    """
    whole = _whole(step, overrides, config_dir)
    known = _known(step, whole, _needed(step, whole))
    missing = [key for key in _flat(whole) if key.split(".")[0] in known and _is_missing(whole, key)]
    config = _own_keys(step, whole)
    _raise(
        [f"{key} is missing: set {key}=VALUE (see cellpheno {step} --help)" for key in missing] + check(step, config)
    )
    return config


def compose_step(step: str, *overrides: str, config_dir: Path | None = None) -> DictConfig:
    """Compose the configuration of a step; values may still be missing.

    Parameters
    ----------
    step : str
        ``segment``, ``train``, ..., ``run``.
    *overrides : str
        Hydra's ``key=value``. Text stays as typed: ``plate=12E4`` is the text ``12E4``.
    config_dir : Path, optional
        A folder with groups of one's own, such as ``experiment/mine.yaml``.

    Returns
    -------
    DictConfig
        The keys that the step's function names, with ``_target_``.

    Raises
    ------
    ConfigError
        If an override names an unknown key or option; the nearest known ones stand beside it.
    """
    return _own_keys(step, _whole(step, overrides, config_dir))


def _whole(step: str, overrides: Sequence[str], config_dir: Path | None) -> DictConfig:
    typed = [o for o in map(parse, overrides) if (o.key, o.value) != ("experiment", "null")]
    searchpath = [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"]
    groups = config_groups(config_dir)
    unknown = [fault for o in typed if (fault := group_fault(o, groups))]
    several = _groups_of_several()
    typed = [o._replace(value="[]") if o.key in several and o.value == "null" else o for o in typed]
    left_out = [o.key for o in typed if o.key in groups and o.value == "null"]  # Hydra itself cannot choose null
    picked = [o for o in typed if o.key.split("@")[0] in groups and not group_fault(o, groups)]
    chosen = [f"~{o.key}" if o.key in left_out else str(o) for o in picked]
    base = _compose(step, [*searchpath, *chosen], left_out)
    _raise([*unknown, *_key_faults(step, typed, base, groups)])
    settings = [str(_as_text(step, o, base)) for o in typed if o.key.split("@")[0] not in groups]
    return _compose(step, [*searchpath, *chosen, *settings], left_out)


@functools.cache
def _groups_of_several() -> frozenset[str]:
    """Groups of which several options are chosen, such as split."""
    entries = [entry for entry in OmegaConf.load(CONF / "run.yaml").defaults if isinstance(entry, DictConfig)]
    return frozenset(
        str(group) for entry in entries for group, options in entry.items() if isinstance(options, ListConfig)
    )


def _own_keys(step: str, whole: DictConfig) -> DictConfig:
    """The keys that the step's function names, with what they refer to filled in."""
    config = whole.copy()
    OmegaConf.resolve(config)
    groups = config_groups()
    for key in config:
        _drop_unchosen(config._get_node(key), groups.get(str(key), ()))
    names = parameters(step)
    return (
        config
        if names is None
        else OmegaConf.masked_copy(config, ["_target_", *(n for n in names if n in list(config))])
    )


def _drop_unchosen(several: Any, options: Sequence[str]) -> None:
    """Drop what an experiment sets of options, such as splits, that were not chosen: no component stands there.

    A contestant is several components by name; one of the user's own may be plain settings, and stays.
    """
    if not isinstance(several, DictConfig) or several._is_none() or several._is_missing() or "_target_" in several:
        return
    nodes = {name: several._get_node(name) for name in several}
    components = [name for name, node in nodes.items() if isinstance(node, DictConfig) and "_target_" in node]
    with open_dict(several):
        for name, node in nodes.items():
            if name not in components and (components or name in options) and not _is_option(node):
                del several[name]


def _is_option(node: Any) -> bool:
    """Whether an option of a group stands here: a component, or (a contestant) several of them by name."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return False
    below = [node._get_node(name) for name in node]
    return "_target_" in node or any(isinstance(part, DictConfig) and "_target_" in part for part in below)


def _known(step: str, whole: DictConfig, names: Iterable[str]) -> list[str]:
    """Keys of a step, and those that its keys refer to, such as ``plate`` in ``plates=[${plate}]``."""
    found = [str(key) for key in whole if key in list(names)]
    for key in found:  # grows while it is read
        referred = re.findall(
            r"\$\{(\w+)", str(OmegaConf.to_container(OmegaConf.masked_copy(whole, key), resolve=False))
        )
        found += [name for name in referred if name in list(whole) and name not in found]
    return found


def referred_keys(step: str, config_dir: Path | None = None) -> dict[str, str]:
    """Keys that only the settings of a step refer to, as ``feature_reference``, with what ``run.yaml`` says of them."""
    whole = _whole(step, (), config_dir)
    names = parameters(step)
    own = [str(key) for key in (whole if names is None else names)]
    comments = dict(re.findall(r"^(\w+):.*? # (.+)$", (CONF / "run.yaml").read_text(encoding="utf-8"), re.MULTILINE))
    return {key: comments.get(key, "") for key in _known(step, whole, own) if names is None or key not in own}


def sweep(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Every combination of a multirun's comma lists and sweeps, in order.

    Examples
    --------
    >>> sweep(["plate=007,12E4", "seed=range(1,3)"])
    [('plate=007', 'seed=1'), ('plate=007', 'seed=2'), ('plate=12E4', 'seed=1'), ('plate=12E4', 'seed=2')]
    """
    return list(itertools.product(*(_swept(parse(text)) for text in overrides)))


def _swept(override: Override) -> tuple[str, ...]:
    if re.match(r"(choice|range|glob|interval|sort|shuffle)\(", override.value or ""):
        values = OverridesParser.create().parse_override(str(override)).sweep_string_iterator()
        return tuple(f"{override.sign}{override.key}={value}" for value in values)
    return tuple(choices(override))


def to_yaml(config: DictConfig) -> str:
    """A configuration as YAML, interpolations resolved where they can be."""
    return OmegaConf.to_yaml(config)


def config_groups(config_dir: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Options of every config group, those of ``config_dir`` included.

    Examples
    --------
    >>> "noisy_and" in config_groups()["pooling"]
    True
    """
    found: dict[str, set[str]] = {}
    for root in [CONF, *([Path(config_dir)] if config_dir else [])]:
        for path in root.rglob("*.yaml"):
            if path.parent != root and not path.stem.startswith("_"):  # else a part of options, no option itself
                found.setdefault(path.parent.relative_to(root).as_posix(), set()).add(path.stem)
    return {group: tuple(sorted(options)) for group, options in sorted(found.items())}


def check(step: str, config: DictConfig) -> list[str]:
    """List the faults of a composed configuration: targets, their settings, kinds and bounds of values."""
    faults = node_faults(step, config) + configuration_faults(config, config)
    if parameters(step) is None:
        for chosen in config.steps:
            function = step_function(chosen)
            own = [name for name in parameters(chosen) or {} if name in config]
            faults += [fault for n in own for fault in kind_faults(n, config[n], function, n)]
        faults += _contestant_faults(config)
    return list(dict.fromkeys(faults))


def _contestant_faults(config: DictConfig) -> list[str]:
    """Faults of the keys of train that contestants set for themselves; their components are checked as all are."""
    faults: list[str] = []
    contestants = config.get("contestants") or {}
    for name in map(str, contestants):
        own: Any = contestants[name]
        if not isinstance(own, DictConfig):
            faults.append(f"contestants.{name}={own}: wanted keys of train in which it differs, such as pooling")
            continue
        faults += configuration_faults(config, own, f"contestants.{name}.")
        for key in (str(key) for key in own if not OmegaConf.is_missing(own, str(key))):
            faults += kind_faults(f"contestants.{name}.{key}", own[key], step_function("train"), key)
    return faults


def shown(config: DictConfig, key: str) -> str:
    """Value of a key as a person would type it; ``???`` is a value that must be given."""
    if OmegaConf.is_missing(config, key):
        return "???"
    value = config[key]
    plain = OmegaConf.to_container(value, resolve=False) if isinstance(value, DictConfig | ListConfig) else value
    return "null" if plain is None else str(plain)


def chosen_options(step: str) -> dict[str, list[str]]:
    """The default option of each group, by group."""
    with initialize_config_module("cellpheno.conf", version_base="1.3"):
        choices = compose(step, return_hydra_config=True).hydra.runtime.choices
    found: dict[str, list[str]] = {}
    for group, option in choices.items():
        if not group.startswith("hydra/") and option is not None:
            found[group] = [str(o) for o in option] if _is_node(option) else [str(option)]
    return found


def _needed(step: str, config: DictConfig) -> set[str]:
    """Keys whose values must be there: of the step's function, or for ``run`` of the steps it does."""
    names = parameters(step)
    if names is None:  # the names of steps are needed to know the rest
        faults = kind_faults("steps", config.steps, step_function(step), "steps")
        known = [path.stem for path in Path(cellpheno.stages.__file__).parent.glob("*.py")]
        _raise(faults or [f"steps: no step {s!r}{nearest(s, known)}" for s in config.steps if s not in known])
    return set(names) if names is not None else {name for chosen in config.steps for name in (parameters(chosen) or {})}


def _key_faults(
    step: str, overrides: Sequence[Override], base: DictConfig, groups: Mapping[str, Sequence[str]]
) -> list[str]:
    """Keys that the step does not take, all in one fault, and each that nothing takes."""
    names = parameters(step)
    known = _known(step, base, [str(key) for key in (base if names is None else names) if key != "_target_"])
    tops = [override.key.split("@")[-1].split(".")[0] for override in overrides]  # of group@key=option it is the key
    foreign = dict.fromkeys(top for top in tops if top in list(base) and top not in known)
    are = "is no key" if len(foreign) == 1 else "are no keys"
    faults = [f"{', '.join(foreign)} {are} of {step}, which takes: {', '.join(known)}"] if foreign else []
    for top, override in zip(tops, overrides, strict=True):
        settled = top in foreign or top in ("hydra", "experiment", "preset") or override.sign in ("+", "++")
        if not settled and override.key.split("@")[0] not in groups and override.key not in _flat(base):
            candidates = [k for k in _flat(base) if k.split(".")[0] in known] + [g for g in groups if g in known]
            faults.append(f"{override.key} is unknown{nearest(override.key, candidates)}")
    return faults


def _flat(config: Any, key: str = "") -> list[str]:
    if not isinstance(config, DictConfig) or config._is_none() or config._is_missing():
        return [key] if key else []
    below = [
        name for child in config for name in _flat(config._get_node(child), f"{key}.{child!s}" if key else str(child))
    ]
    return ([key] if key else []) + [name for name in below if not name.endswith("_")]


def _is_missing(config: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return isinstance(node, DictConfig) and OmegaConf.is_missing(node, name)


def _as_text(step: str, override: Override, base: DictConfig) -> Override:
    """Quote a value that belongs to a text parameter, so that Hydra's grammar leaves it as typed."""
    value = override.value
    if value is None or value == "null" or value.startswith(("???", "'", '"', "{", "[{")):
        return override
    parent, _, name = override.key.rpartition(".")
    node = OmegaConf.select(base, parent, throw_on_missing=False) if parent else None
    target = step_function(step) if not parent else node and "_target_" in node and resolve(node["_target_"])
    if parameters(step) is None and not parent:
        steps = [path.stem for path in sorted(CONF.glob("*.yaml"))]  # all: `steps` itself may be among the overrides
        target = next((step_function(s) for s in steps if name in (parameters(s) or {})), None)
    hint = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target).get(name) if target else None
    if hint is None or not re.search(r"\bstr\b|\bPath\b", str(hint)):
        return override
    if value.startswith("[") and value.endswith("]"):
        items = [item.strip().strip("'\"") for item in value[1:-1].split(",") if item.strip()]
        return override._replace(value=f"[{','.join(quoted(item) for item in items)}]")
    return override._replace(value=quoted(value))


def _compose(step: str, overrides: Sequence[str], left_out: Iterable[str] = ()) -> DictConfig:
    if not (CONF / f"{step}.yaml").is_file():
        raise ConfigError(f"no step {step!r}{nearest(step, [p.stem for p in CONF.glob('*.yaml')])}")
    try:
        with initialize_config_module("cellpheno.conf", version_base="1.3"):
            composed = compose(step, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error).strip()) from error
    with open_dict(composed):
        composed.update(dict.fromkeys(left_out))
    return composed


def _is_node(value: Any) -> bool:
    return isinstance(value, DictConfig | ListConfig)


def _raise(faults: Sequence[str]) -> None:
    if faults:
        raise ConfigError(*faults)

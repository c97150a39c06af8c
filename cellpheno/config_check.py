"""What can be wrong with a composed configuration: its targets, their settings, and the kinds of these."""

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from cellpheno.bounds import Listed, Range
from cellpheno.components import resolve
from cellpheno.errors import ConfigError
from cellpheno.overrides import nearest

_PLAIN_KINDS = (int, float, bool, str, Path, types.NoneType)


def node_faults(step: str, config: DictConfig) -> list[str]:
    """List the faults of every node that names a ``_target_``, each with its dotted key."""
    faults = []
    for key, node in _nodes(config):
        try:
            target = resolve(str(node["_target_"]))
        except ConfigError as error:
            faults.append(f"{key or step}: {error}")
            continue
        faults += _signature_faults(key, node, target)
    return faults


def kind_faults(key: str, value: Any, target: Callable[..., Any], name: str) -> list[str]:
    """Say why a value (it stands at ``key``) is none for a parameter: its kind, its bounds; nothing where it fits."""
    hint = _hint(target, name)
    plain = OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
    kinds = _options(hint)
    if not any(_fits(plain, kind) for kind in kinds):
        names = " or ".join(_said(kind) for kind in kinds)
        text = {str, Path} & set(kinds) and not isinstance(plain, dict | list)
        what = "; YAML read it as a number, put it in quotes" if text else ""
        what = f"; write {key}=[{plain}]" if isinstance(plain, str) and names.startswith("a list") else what
        chosen = any(typing.get_origin(kind) is typing.Literal for kind in kinds)
        came = "null" if plain is None else f"{plain!r}" if chosen else f"{plain!r} is {type(plain).__name__}"
        return [f"{key}={came}: wanted {names}{what}"]
    bounds = [bound for bound in getattr(hint, "__metadata__", ()) if isinstance(bound, Range | Listed)]
    return [f"{key}={_typed(plain)}: wanted {wanted}" for bound in bounds if (wanted := bound.wanted(plain))]


def configuration_faults(config: DictConfig, among: DictConfig, where: str = "") -> list[str]:
    """What is wrong with values of ``configurations``, such as ``{optimizer.lr: 0.01}``, of a run or a contestant.

    Parameters
    ----------
    config : DictConfig
        The run's own components, which count where ``among`` has none of that name.
    among : DictConfig
        Holds ``configurations``, and maybe components.
    where : str
        Key of ``among`` with a dot behind it; empty: it is the configuration itself.
    """
    faults = []
    several = among.get("configurations")
    for settings in several if isinstance(several, ListConfig) else []:
        for dotted, value in settings.items() if isinstance(settings, DictConfig) else []:
            place, _, name = str(dotted).rpartition(".")
            node = OmegaConf.select(among, place) or OmegaConf.select(config, place)
            if isinstance(node, DictConfig) and "_target_" in node:
                target = resolve(str(node["_target_"]))
                faults += kind_faults(f"{where}configurations: {dotted!s}", value, target, name)
    return faults


def _nodes(config: Any, key: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every node that names a ``_target_``, with its dotted key."""
    if isinstance(config, DictConfig) and not config._is_none() and not config._is_missing():
        if "_target_" in config:
            yield key, config
        for name in config:
            if not OmegaConf.is_missing(config, str(name)):
                yield from _nodes(config._get_node(name), f"{key}.{name!s}" if key else str(name))
    elif isinstance(config, ListConfig) and not config._is_none() and not config._is_missing():
        for index in range(len(config)):
            yield from _nodes(config._get_node(index), f"{key}[{index}]")


def _signature_faults(key: str, node: DictConfig, target: Callable[..., Any]) -> list[str]:
    signature = inspect.signature(target)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    settings = [str(name) for name in node if not (str(name).startswith("_") and str(name).endswith("_"))]
    dotted = f"{key}." if key else ""
    faults = []
    for name in settings:
        if name not in signature.parameters:
            if not takes_any:
                faults.append(f"{dotted}{name} is unknown{nearest(name, signature.parameters)}")
        elif not OmegaConf.is_missing(node, name):
            faults += kind_faults(f"{dotted}{name}", node[name], target, name)
    if key and not node.get("_partial_", False):
        required = [n for n, p in signature.parameters.items() if p.default is p.empty and p.kind <= p.KEYWORD_ONLY]
        required = [n for n in required if signature.parameters[n].kind is not inspect.Parameter.VAR_POSITIONAL]
        faults += [
            f"{dotted}{name} is missing: {node['_target_']} needs it" for name in required if name not in settings
        ]
    return faults


def _hint(target: Callable[..., Any], name: str) -> Any:
    """Annotation of a parameter with its bounds; Any where there is none that can be read."""
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return Any
    return hints.get(name, Any)


def _options(hint: Any) -> tuple[Any, ...]:
    """Kinds of which a parameter takes any."""
    if typing.get_origin(hint) is typing.Annotated:
        return _options(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(kind for option in typing.get_args(hint) for kind in _options(option))
    return (hint,)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind; of what is no plain kind, list, mapping or component nothing can be said."""
    if kind in _PLAIN_KINDS:
        return type(value) in {float: (float, int), Path: (str, Path)}.get(kind, (kind,))
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if origin in (list, Sequence):
        item = (*typing.get_args(kind), Any)[0]
        return isinstance(value, list | tuple) and all(any(_fits(v, k) for k in _options(item)) for v in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    return origin is not Callable or isinstance(value, Mapping) or callable(value)


def _said(kind: Any) -> str:
    """A kind in words."""
    if kind is types.NoneType:
        return "nothing (null)"
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return " or ".join(dict.fromkeys(map(str, typing.get_args(kind))))
    if origin in (list, Sequence):
        return "a list of " + " or ".join(_said(item) for item in _options((*typing.get_args(kind), Any)[0]))
    named = {dict: "a mapping {name: value}", Mapping: "a mapping {name: value}", Callable: "an option of its group"}
    return named.get(origin, "") or str(getattr(kind, "__name__", kind))


def _typed(value: Any) -> str:
    """A value as a person would type it."""
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) or value == {} else str(value)

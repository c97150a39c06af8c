"""What can be wrong with a composed configuration: its targets, their settings, and the kinds of these."""

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

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
    """Say what is wrong with the kind of a value (it stands at ``key``) for a parameter; nothing where it fits."""
    if not (wanted := _kinds(target, name)):
        return []
    accepted = set(wanted) | ({int} if float in wanted else set()) | ({str} if Path in wanted else set())
    if type(value) in accepted:
        return []
    names = " or ".join("nothing (null)" if w is types.NoneType else w.__name__ for w in wanted)
    text = str in accepted and not isinstance(value, DictConfig | ListConfig)
    hint = "; YAML read it as a number, put it in quotes" if text else ""
    return [f"{key}={value!r} is {type(value).__name__}: wanted {names}{hint}"]


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


def _kinds(target: Callable[..., Any], name: str) -> tuple[type, ...]:
    """Plain types that a parameter takes; empty where its annotation is not a union of plain types."""
    try:
        hint = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target).get(name)
    except (NameError, TypeError, AttributeError):
        return ()
    if hint is None:
        return ()
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return tuple(options) if all(option in _PLAIN_KINDS for option in options) else ()

"""A component as data: a callable with its settings, written down as ``_target_`` plus keyword arguments.

Configs, keys and checkpoint cards all speak of components. What a file names is data until `resolve` has seen that the
object it leads to is one of ours or of a named library: a card or a config from elsewhere cannot call anything else.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cellpheno.errors import ConfigError, InputError

ALLOWED = ("cellpheno", "pytorch_lightning", "sklearn", "torch.nn", "torch.optim")


def resolve(target: str) -> Callable[..., Any]:
    """Find the object that a dotted name leads to, if it is allowed.

    The check is on the resolved object, since a name can lead through an allowed module to a foreign function.

    Raises
    ------
    ConfigError
        If nothing stands at the name, or what stands there does not belong to an allowed library.

    Examples
    --------
    >>> resolve("cellpheno.names.parse_well")("b3")
    'B03'
    >>> resolve("cellpheno.components.importlib.import_module")
    Traceback (most recent call last):
    cellpheno.errors.ConfigError: cellpheno.components.importlib.import_module belongs to importlib: wanted one of ...
    """
    parts = target.split(".")
    if parts[0] not in {name.split(".")[0] for name in ALLOWED}:
        raise ConfigError(f"{target} is outside {', '.join(ALLOWED)}: a config may only name components of these")
    found: Any = None
    for depth in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:depth]))
        except ModuleNotFoundError as error:
            if not target.startswith(str(error.name)):
                raise ConfigError(f"{target} needs the package {error.name!r}, which is not installed") from error
            continue
        for part in parts[depth:]:
            found = getattr(found, part, None)
        break
    if not callable(found):
        raise ConfigError(f"{target}: nothing that can be called stands at that name")
    home = str(getattr(found, "__module__", ""))
    if not any(home == name or home.startswith(f"{name}.") for name in ALLOWED):
        raise ConfigError(f"{target} belongs to {home}: wanted one of {', '.join(ALLOWED)}")
    return found  # type: ignore[no-any-return]


def describe(value: Any) -> Any:
    """Write a component, or anything made of components and plain values, as plain data.

    Examples
    --------
    >>> from cellpheno.names import well_name
    >>> describe({"f": functools.partial(well_name, column=3), "n": (1, 2)})
    {'f': {'_target_': 'cellpheno.names.well_name', '_partial_': True, 'column': 3}, 'n': [1, 2]}
    """
    if isinstance(value, functools.partial):
        settings = {**inspect.signature(value.func).bind_partial(*value.args).arguments, **value.keywords}
        return {**describe(value.func), **{key: describe(item) for key, item in settings.items()}}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [describe(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if callable(value):
        return {"_target_": f"{value.__module__}.{value.__qualname__}", "_partial_": True}
    raise TypeError(f"{value!r} cannot be written as data: wanted plain values and functools.partial of callables")


def build(data: Any) -> Any:
    """Undo `describe`, and make what a config describes.

    As in Hydra's configs, a component with ``_partial_: true`` becomes a partial; without it, it is called.

    Raises
    ------
    ConfigError
        If a ``_target_`` is not allowed or does not take the settings that stand beside it.

    Examples
    --------
    >>> build({"_target_": "cellpheno.names.well_name", "_partial_": True, "column": 3})("b")
    'B03'
    """
    if isinstance(data, Mapping):
        settings = {str(key): build(item) for key, item in data.items() if key not in ("_target_", "_partial_")}
        if "_target_" not in data:
            return settings
        target = resolve(str(data["_target_"]))
        try:
            inspect.signature(target).bind_partial(**settings)
        except TypeError as error:
            raise ConfigError(f"{data['_target_']}: {error}") from error
        made = functools.partial(target, **settings)
        return made if data.get("_partial_") else made()
    return [build(item) for item in data] if isinstance(data, list) else data


def refusal(make: Callable[..., Any], parts: Mapping[str, Callable[..., Any]], where: str = "") -> list[str]:
    """Why something cannot be made of components, with the setting that is to blame; empty where it can be made.

    A library says what is wrong with a value, but not always of which setting: it is the one without which the same
    can be made.

    Parameters
    ----------
    make : callable
        Takes the components by name.
    parts : mapping of str to partial
    where : str
        Stands before the names.

    Examples
    --------
    >>> refusal(lambda number: number(), {"number": functools.partial(complex, real=1, imag="x")})
    ["number.imag=x: complex() second arg can't be a string"]
    """
    try:
        make(**parts)
    except InputError as error:
        return [f"{where}{fault}" for fault in error.faults]
    except Exception as error:  # a library may raise anything at a value of the wrong kind
        told = str(error).strip() or type(error).__name__
        for name, part in parts.items():
            for key, value in _settings(part).items():
                rest = functools.partial(_function(part), **{k: v for k, v in _settings(part).items() if k != key})
                if _can(make, {**parts, name: rest}):
                    return [f"{where}{name}.{key}={_typed(value)}: {told}"]
        if not isinstance(error, ValueError | RuntimeError | ImportError):
            raise  # no setting is to blame
        return [f"{where}{', '.join(parts)}: {told}"]
    return []


def _can(make: Callable[..., Any], parts: Mapping[str, Callable[..., Any]]) -> bool:
    try:
        make(**parts)
    except Exception:
        return False
    return True


def _function(part: Callable[..., Any]) -> Callable[..., Any]:
    return part.func if isinstance(part, functools.partial) else part


def _settings(part: Callable[..., Any]) -> dict[str, Any]:
    return dict(part.keywords) if isinstance(part, functools.partial) else {}


def _typed(value: Any) -> Any:
    """A setting as it stands in a message; a component within one by its name."""
    return getattr(_function(value), "__name__", value) if callable(value) else value


def targets(data: Any) -> Iterator[str]:
    """Names of all components in described data, nested ones included.

    Examples
    --------
    >>> list(targets({"_target_": "a.B", "part": [{"_target_": "c.D"}]}))
    ['a.B', 'c.D']
    """
    if isinstance(data, Mapping):
        if "_target_" in data:
            yield str(data["_target_"])
        data = list(data.values())
    if isinstance(data, list):
        for item in data:
            yield from targets(item)

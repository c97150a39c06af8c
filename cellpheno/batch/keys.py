"""A unit's key: the hash of all that its result depends on. Same key, same result, so the unit is skipped."""

import ast
import functools
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from cellpheno.components import describe, targets

PACKAGE = Path(__file__).parents[1]


def make_key(step: str, **parts: Any) -> str:
    """Hash of the code, the step and everything named.

    Parameters
    ----------
    step : str
    **parts : plain values and components
        Config that matters, content hashes of the inputs, the plate-map row, facts. The order does not matter.

    Returns
    -------
    str
        64 hexadecimal digits.

    Examples
    --------
    >>> make_key("segment", a=1, b=2) == make_key("segment", b=2, a=1) != make_key("segment", a=1, b=3)
    True
    """
    data = {name: describe(part) for name, part in parts.items()}
    modules = sorted({f"cellpheno.stages.{step}", *(target.rpartition(".")[0] for target in targets(data))})
    return _sha256({"code": code_version(*modules), "step": step, **data})


@functools.cache
def code_version(*modules: str) -> str:
    """Version of the package; in an editable install, where it stands still, with a hash of the source in use.

    Parameters
    ----------
    *modules : str
        Modules whose source counts, with all of the package that they import.
    """
    version = importlib.metadata.version("cellpheno")
    if not (PACKAGE.parent / "pyproject.toml").is_file():
        return version
    reached = {module for module in modules if _source(module)}
    waiting = list(reached)
    while waiting:
        new = set(_imports(waiting.pop())) - reached
        reached |= new
        waiting += new
    return f"{version}+{_sha256({name: _source(name) for name in sorted(reached)})[:16]}"


def _sha256(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@functools.cache
def _source(module: str) -> str:
    """Source of a module of the package; empty where it is none."""
    place = PACKAGE.parent.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if module.startswith("cellpheno.") and path.is_file():
            return path.read_text(encoding="utf-8")
    return ""


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of the package that a module imports."""
    names = []
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if _source(name))

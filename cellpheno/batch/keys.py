"""A unit's key: the hash of all that its result depends on. Same key, same result, so the unit is skipped."""

import functools
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import cellpheno
from cellpheno.components import describe


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
    data = {"code": code_version(), "step": step, **{name: describe(part) for name, part in parts.items()}}
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@functools.cache
def code_version() -> str:
    """Version of the package; in an editable install with the hash of its source, since the version stands still there."""
    version = importlib.metadata.version("cellpheno")
    package = Path(cellpheno.__file__).parent
    if not (package.parent / "pyproject.toml").is_file():
        return version
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return f"{version}+{digest.hexdigest()[:16]}"

"""Imports go one way: the layers of the house, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cellpheno"
LOW = {"names", "errors", "seeds", "components", "classes", "bounds"}
ALLOWED = {
    "names": set(),
    "errors": set(),
    "seeds": set(),
    "classes": set(),
    "bounds": set(),
    "components": {"errors"},
    "overrides": {"errors"},
    "measure": {"names", "bounds"},
    "models": {"bounds"},
    "plates": LOW,
    "importers": LOW | {"plates"},
    "simulate": LOW,
    "images": LOW | {"plates", "measure"},
    "profiles": LOW,
    "training": LOW | {"plates", "images", "models"},
    "compare": LOW | {"profiles"},
    "batch": LOW | {"plates"},
    "report": LOW | {"measure", "compare", "profiles", "plates", "images"},
    "studies": LOW | {"plates", "simulate", "images", "models", "training", "profiles", "compare"},
    "stages": LOW
    | {"plates", "importers", "simulate", "images", "measure", "profiles", "models", "training", "compare"}
    | {"batch", "report", "studies"},
    "config_check": LOW | {"overrides"},
    "steps": LOW | {"batch", "plates"},
    "config": LOW | {"config_check", "steps", "stages", "conf", "overrides"},
    "cli": LOW | {"stages", "config", "steps", "plates", "overrides"},
}
FORBIDDEN = {"compare": {"torch"}, "measure": {"torch", "zarr"}, "profiles": {"torch"}, "models": {"zarr", "hydra"}}
HYDRA = {"config", "config_check", "steps"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


SOURCES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


def test_every_room_is_in_the_table():
    assert {room(p) for p in SOURCES} == set(ALLOWED)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(path):
    own = room(path)
    for module in imported(path):
        top, _, rest = module.partition(".")
        assert top not in FORBIDDEN.get(own, set()), f"{path.name} imports {module}"
        assert top not in ("hydra", "omegaconf") or own in HYDRA, f"{path.name} imports {module}"
        if top == "cellpheno" and rest:
            other = rest.partition(".")[0]
            assert other == own or other in ALLOWED[own], f"{path.name} ({own}) imports {module}"


def test_importing_the_package_loads_neither_torch_nor_hydra():
    code = "import sys, cellpheno; sys.exit(bool({'torch', 'hydra', 'zarr'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""What is shipped works where it is installed, and what the README says can be typed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cellpheno.cli import STEPS
from cellpheno.config import compose_step, sweep

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split(" #")[0] for line in README.splitlines() if line.startswith("cellpheno ")]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(folder)], check=True)
    wheel = next(folder.glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
    return folder


def test_the_wheel_carries_its_configuration_and_template(installed):
    env = {**os.environ, "PYTHONPATH": str(installed / "site")}
    code = "import cellpheno, cellpheno.config as c; print(cellpheno.__file__); print(c.CONF)"
    said = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=installed, check=True, capture_output=True, text=True
    )
    assert all(line.startswith(str(installed)) for line in said.stdout.splitlines())
    command = [sys.executable, "-m", "cellpheno.cli", "train", "plate=P1.zarr", "pooling=noisy_and", "--cfg", "job"]
    said = subprocess.run(command, env=env, cwd=installed, check=True, capture_output=True, text=True)
    assert "cellpheno.models.pooling.NoisyAnd" in said.stdout
    assert (installed / "site/cellpheno/report/templates/report.html.j2").is_file()
    assert (installed / "site/cellpheno/py.typed").is_file()


def test_the_readme_has_commands():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readmes_commands_can_be_typed(command):
    step, *arguments = shlex.split(command)[1:]
    if step in ("--help", "init") or "--help" in arguments or "--config-dir" in arguments:
        return
    assert step in STEPS
    overrides = [a for a in arguments if not a.startswith("-") and a != "job"]
    for job in sweep(overrides) if "-m" in arguments else [tuple(overrides)]:
        compose_step(step, *job)


def test_the_changelog_names_the_version():
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

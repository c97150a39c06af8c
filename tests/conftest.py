"""A small simulated screen, made once by the command line and copied by the tests that change it."""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from cellpheno.cli import main

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # no test is a race
settings.load_profile("untimed")

SMALL = [
    "simulation.wells_per_class=4",
    "simulation.plate_format=24",
    "simulation.phenotypes={control: {pattern: cytosolic}, nuclear: {pattern: nuclear}, membrane: null, puncta: null, "
    "mitochondria: null}",
    "simulation.responders=0.9",
    "simulation.fields=2",
    "simulation.field_px=200",
    "folder=raw",
    "truth=truth",
    "plate=SIM1.zarr",
    "output=runs/small",
    "pixel_size_um=0.6",
    "segmentation.cells=CellMask",
    "measurements=[shape,intensity,relations]",
    "encoder.width=8",
    "encoder.depth=2",
    "trainer.max_epochs=2",
    "split.by_well.n_folds=2",
    "n_bootstrap=100",
    "no_leak=[image]",  # two compounds a class, in wells that are dealt singly
    "workers=1",
    "threads=1",
]
FIRST = "steps=[simulate,import_plate,segment,measure,crop]"
WHOLE = "steps=[simulate,import_plate,segment,measure,crop,train,predict,compare,report]"


class Screen(NamedTuple):
    """A screen's folder, and the command line inside it."""

    folder: Path

    def __call__(self, step: str, *overrides: str) -> int:
        with contextlib.chdir(self.folder):
            return main([step, *overrides])

    def run(self, *overrides: str) -> int:
        """Run the whole job with the small settings, the overrides last."""
        return self("run", *SMALL, *overrides)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file but logs and timings, whose bytes may differ."""
        return {
            name: hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
            and not {"log", "timing.json"} & set((name := path.relative_to(self.folder).as_posix()).split("/"))
        }


@pytest.fixture(scope="session")
def cropped_screen(tmp_path_factory):
    """Eight wells up to their crops; not to be changed."""
    screen = Screen(tmp_path_factory.mktemp("screen"))
    assert screen.run(FIRST) == 0
    return screen


@pytest.fixture(scope="session")
def finished_screen(cropped_screen, tmp_path_factory):
    """The same up to the report; not to be changed."""
    screen = Screen(tmp_path_factory.mktemp("finished") / "screen")
    shutil.copytree(cropped_screen.folder, screen.folder)
    assert screen.run(WHOLE) == 0
    return screen


@pytest.fixture
def fresh_copy(tmp_path):
    """Copy a screen to a folder of the test's own."""

    def copy(screen: Screen, name: str = "copy") -> Screen:
        shutil.copytree(screen.folder, tmp_path / name)
        return Screen(tmp_path / name)

    return copy


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if name not in os.environ:
            monkeypatch.setenv(name, "1")


def pytest_collection_modifyitems(items):
    """Begin with the files that take minutes, so that no worker is left alone with one at the end."""
    long = ("test_notebooks.py", "test_bbbc013.py", "test_contestants.py")
    items.sort(key=lambda item: item.path.name not in long)  # else in their order

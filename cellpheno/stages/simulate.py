"""A virtual microscope's plate: a raw folder as a real one would write it, and the truth beside it."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.bounds import Range


def simulate(
    folder: Path,
    truth: Path,
    simulation: Callable[..., pd.DataFrame],
    engine: Callable[..., Outcome],
    seed: Annotated[int, Range(0)] = 1,
    workers: Annotated[int, Range(0)] = 2,
) -> Outcome:
    """Simulate a plate: raw images and plate map, with the truth of every cell kept apart.

    Parameters
    ----------
    folder : Path
        Where the raw images and platemap.csv go.
    truth : Path
        Where the truth of every cell goes; the other steps never read it.
    simulation : callable
        The virtual microscope.
    engine : callable
        Where the work runs.
    seed : int
        Of everything random.
    workers : int
        Processes; the plate does not depend on it.
    """
    work = functools.partial(_simulate, folder, truth, functools.partial(simulation, seed=seed, workers=workers))
    job = Job("simulation", make_key("simulate", simulation=simulation, seed=seed), work)
    return engine("simulate", [job], folder=truth, root=_common(folder, truth))._replace(path=folder)


def _simulate(folder: Path, truth: Path, simulation: Callable[..., pd.DataFrame]) -> Result:
    cells = simulation(folder, truth)
    files = [path for part in (folder, truth) for path in part.rglob("*") if path.is_file()]
    kept = [path for path in files if path.parent.name not in ("ledger", "log")]
    return Result("done", kept, (), {"n_cells": len(cells)})


def _common(folder: Path, truth: Path) -> Path:
    """The nearest folder above both."""
    return next(parent for parent in truth.parents if folder.is_relative_to(parent))

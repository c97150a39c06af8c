"""Labelled single cells of a virtual plate in a folder, as `cellpheno import_crops` would leave them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import read_record
from cellpheno.errors import InputError
from cellpheno.names import well_order
from cellpheno.studies.simulated_cells import simulate_cells


def simulated_crops(
    make: Callable[..., Any],
    folder: Path,
    *,
    crop_px: int,
    seed: int,
    engine: Callable[..., Outcome],
    workers: int,
) -> Outcome:
    """Make the cells of a virtual plate in one go, then a record a well, which tells later steps that it is there.

    Parameters
    ----------
    make : callable
        The virtual microscope with its settings.
    folder : Path
        Gets crops/, cells/ and ledger/.
    crop_px, seed, workers : int
        Of `cellpheno.studies.simulated_cells.simulate_cells`.
    engine : callable
        Where the work runs.

    Raises
    ------
    InputError
        If crops of other wells stand in the folder.
    """
    key = make_key("transfer_curve", make=make, crop_px=crop_px, seed=seed, name=folder.name)
    work = functools.partial(_all_wells, make, folder, crop_px, seed, workers)
    made = engine("transfer_curve", [Job("cells", key, work)], folder=folder, root=folder)
    if made.exit_code:
        return made
    files = map(Path, read_record(folder, "cells")["transfer_curve"]["files"])
    wells = sorted({file.stem for file in files if file.suffix == ".parquet"}, key=well_order)
    if others := sorted({path.stem for path in (folder / "crops").glob("*.zarr")} - set(wells)):
        raise InputError(f"{folder}: {others[0]} and maybe more are not of this simulation; give a new folder")
    jobs = [Job(well, key, functools.partial(_well, folder, well)) for well in wells]
    return engine("import_crops", jobs, folder=folder, root=folder, workers=1)  # files are hashed, no more


def _all_wells(make: Callable[..., Any], folder: Path, crop_px: int, seed: int, workers: int) -> Result:
    return Result("done", simulate_cells(make, folder, crop_px=crop_px, seed=seed, workers=workers))


def _well(folder: Path, well: str) -> Result:
    crops = [path for path in (folder / "crops" / f"{well}.zarr").rglob("*") if path.is_file()]
    return Result("done", [*crops, folder / "cells" / f"{well}.parquet"])

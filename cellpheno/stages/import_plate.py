"""A raw folder to an OME-Zarr plate: look at every header, plan, then import well by well."""

import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.bounds import Listed, Range
from cellpheno.errors import InputError
from cellpheno.importers.convert import PlatePlan, create_planned_plate, import_well, plan_plate
from cellpheno.importers.read import Header
from cellpheno.names import WELL, well_order
from cellpheno.plates.commit import commit_file, hash_file
from cellpheno.plates.plate import Plate, open_plate
from cellpheno.plates.write import drop_empty_wells
from cellpheno.stages.well_steps import chosen_wells, do_wells

PYRAMID = 1.4  # all levels of a field over its full-size level, compressed hardly at all in the worst case


def import_plate(
    folder: Path,
    plate: Path,
    importer: Callable[..., pd.DataFrame],
    platemap: Callable[..., pd.DataFrame] | None,
    engine: Callable[..., Outcome],
    wells: Annotated[Sequence[str] | None, Listed()] = None,
    pixel_size_um: Annotated[float | None, Range(0, open_low=True)] = None,
) -> Outcome:
    """Turn a microscope's raw folder into an OME-Zarr plate; damaged wells are set aside by name.

    Parameters
    ----------
    folder : Path
        The raw images.
    plate : Path
        The OME-Zarr plate to write, such as P1.zarr.
    importer : callable
        How file names or tables become a list of planes.
    platemap : callable, optional
        How the plate map is read; null for none.
    engine : callable
        Where the work runs.
    wells : sequence of str, optional
        Only these wells: names or rectangles such as B03-D06.
    pixel_size_um : float, optional
        Where the raw files do not say.
    """
    plan, mapped = _look(folder, importer, platemap, pixel_size_um)
    _check_disk(plate, plan)
    opened = create_planned_plate(plate, plan)
    if mapped is not None:
        with commit_file(opened.folder / "platemap.csv") as temporary:
            mapped.to_csv(temporary, index=False)
    chosen = set(plan.wells) if wells is None else set(chosen_wells(wells))
    jobs = [_job(plate, plan, well) for well in sorted(chosen & set(plan.wells), key=well_order)]
    if not jobs:
        raise InputError(f"wells={list(wells or [])}: none of them has images in {folder}")
    outcome = do_wells("import_plate", opened, jobs, engine, plate)
    drop_empty_wells(plate)
    planned = set() if mapped is None or wells is not None else set(mapped[WELL])
    missing = [f"{well}: in the plate map, but without images" for well in sorted(planned - set(plan.wells))]
    unknown = [line for well in plan.faults if well not in plan.wells for line in plan.faults[well]]
    return outcome._replace(left_out=(*outcome.left_out, *missing, *unknown))


def _look(
    folder: Path,
    importer: Callable[..., pd.DataFrame],
    platemap: Callable[..., pd.DataFrame] | None,
    pixel_size_um: float | None,
) -> tuple[PlatePlan, pd.DataFrame | None]:
    """Read headers and plate map; the faults of both are told at once."""
    if not folder.is_dir():
        raise InputError(f"folder={folder}: there is no such folder")
    faults: list[str] = []
    plan = mapped = None
    try:
        plan = plan_plate(importer(folder), pixel_size_um=pixel_size_um)
    except InputError as error:
        faults += error.faults
    try:
        mapped = platemap(plate=plan.name if plan else "?") if platemap else None
    except InputError as error:
        faults += error.faults if plan else [f for f in error.faults if "'?'" not in f]
    if faults or plan is None:
        raise InputError(*faults)
    return plan, mapped


def _check_disk(plate: Path, plan: PlatePlan) -> None:
    parent = next(p for p in plate.absolute().parents if p.is_dir())
    free = shutil.disk_usage(parent).free
    if not plate.exists() and free < PYRAMID * plan.n_bytes:
        needed = PYRAMID * plan.n_bytes / 2**30
        raise InputError(f"plate={plate} may need {needed:.1f} GiB, and {free / 2**30:.1f} GiB are free there")


def _job(plate: Path, plan: PlatePlan, well: str) -> Job:
    planes = plan.wells[well]
    named = planes.assign(sha256=[_hash(path) for path in planes["path"]]).drop(columns="path")
    inputs = named.astype(str).to_dict("list")
    key = make_key(
        "import_plate",
        inputs=inputs,
        header=[list(plan.header.shape), plan.header.dtype],
        channels=plan.channels,
        pixel_size_um=plan.pixel_size_um,
        sites=sorted({site for sites in plan.fields.values() for site in sites}),
    )
    return Job(well, key, functools.partial(import_planned_well, plate, well, planes, plan.header))


def _hash(path: str) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"  # the import will say so, and a repaired file has another key


def import_planned_well(plate: Path, well: str, planes: pd.DataFrame, header: Header) -> Result:
    """Import one well; the files of its images and its own metadata are its output."""
    imported = import_well(plate, well, planes, header)
    opened: Plate = open_plate(plate)
    target = opened.well(well)
    files = [target.path / "zarr.json"]
    for field in target.fields:
        below = (path for path in field.path.rglob("*") if path.is_file())
        files += [path for path in below if "labels" not in path.relative_to(field.path).parts]
    return Result(imported.status, files, imported.messages, {"n_fields": imported.n_fields})

"""Single-cell images to crops: one file a cell and a table become the crops and the cell tables of wells."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.bounds import Range
from cellpheno.errors import DamagedInput, InputError
from cellpheno.images.crops import Crops, sample_cells, write_crops
from cellpheno.importers.cells import cell_header, fit_size, read_cell
from cellpheno.importers.read import Header
from cellpheno.names import OBJECT, PLATE, SITE, WELL, well_order
from cellpheno.plates.commit import commit_file, commit_folder, hash_file
from cellpheno.seeds import derived_seed
from cellpheno.stages.well_steps import write_status

SHOWN = 20  # faults of one kind that are listed one by one


def import_crops(
    folder: Path,
    plate: Path,
    channels: Mapping[str, int | None],
    cell_images: Callable[..., pd.DataFrame],
    engine: Callable[..., Outcome],
    crop_px: Annotated[int | None, Range(1)] = None,
    pixel_size_um: Annotated[float | None, Range(0, open_low=True)] = None,
    seed: Annotated[int, Range(0)] = 1,
) -> Outcome:
    """Turn single-cell images and their table into crops; damaged images are left out by name.

    Parameters
    ----------
    folder : Path
        The images and their table.
    plate : Path
        The folder to write, such as mitosis: crops/ and cells/, a well each.
    channels : mapping
        Channels in order and where they are in a file: the page of a TIFF with several; of a colour PNG or BMP 0 red,
        1 green, 2 blue; null for the only plane. Such as {H2B: 0, tubulin: 1}.
    cell_images : callable
        How the table names files, wells and groups.
    engine : callable
        Where the work runs.
    crop_px : int, optional
        Side of a crop in pixels: images of another size are cut to their middle or padded with zeros; null refuses
        images that differ.
    pixel_size_um : float, optional
        Size of a pixel; the images do not say.
    seed : int
        Of the order in which cells are stored.
    """
    if not folder.is_dir():
        raise InputError(f"folder={folder}: there is no such folder")
    if plate.suffix == ".zarr" or (plate / "zarr.json").exists():
        raise InputError(f"plate={plate}: single cells make no OME-Zarr plate; give a folder such as {plate.stem}")
    _check_channels(channels)
    cells = cell_images(folder)
    header = _look(cells, channels, crop_px)
    work = functools.partial(
        import_cells,
        channels=dict(channels),
        header=header,
        plate=plate,
        crop_px=crop_px,
        pixel_size_um=pixel_size_um,
        seed=seed,
    )
    wells = sorted(set(cells[WELL]), key=well_order)
    if stale := sorted({path.stem for path in (plate / "crops").glob("*.zarr")} - set(wells)):
        raise InputError(
            f"plate={plate} holds wells {', '.join(stale)} of another import; give a new folder, or empty it"
        )
    jobs = [_job(work, well, cells[cells[WELL] == well].reset_index(drop=True)) for well in wells]
    try:
        return engine("import_crops", jobs, folder=plate, root=plate.parent)._replace(path=plate)
    finally:
        write_status(plate, plate.name)


def _check_channels(channels: Mapping[str, int | None]) -> None:
    faults = [] if channels else ["channels is empty: wanted {name: page}, such as {H2B: 0, tubulin: 1}"]
    faults += [
        f"channels.{name}={page}: wanted a page or colour counted from 0, or null"
        for name, page in channels.items()
        if page is not None and (not isinstance(page, int) or page < 0)
    ]
    if faults:
        raise InputError(*faults)


def _look(cells: pd.DataFrame, channels: Mapping[str, int | None], crop_px: int | None) -> Header:
    """Common header of all images that can be read; the others are left out when their well is imported."""
    headers: dict[str, Header] = {}
    damaged: list[str] = []
    for path in cells["path"]:
        try:
            headers[path] = cell_header(path, channels)
        except DamagedInput as error:
            damaged += error.faults
    if not headers:
        raise InputError(f"none of {len(cells)} images can be read; the first ones:", *damaged[:SHOWN])
    common = Counter(headers.values()).most_common(1)[0][0]
    faults = []
    for path, header in headers.items():
        if header.dtype != common.dtype:
            faults.append(f"{path}: {header.dtype}, most images are {common.dtype}: intensities are not comparable")
        elif crop_px is None and header.shape != common.shape:
            faults.append(f"{path}: {_size(header)} pixels, most images have {_size(common)}; or give crop_px")
    if crop_px is None and common.shape[0] != common.shape[1]:
        faults.append(f"images of {_size(common)} pixels are not square; give crop_px, the side of the crops")
    if crop_px is not None and crop_px < 8:
        faults.append(f"crop_px={crop_px}: wanted 8 or more")
    if faults:
        rest = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise InputError(*faults[:SHOWN], *rest)
    return common


def _size(header: Header) -> str:
    return f"{header.shape[0]} x {header.shape[1]}"


def _job(work: "functools.partial[Result]", well: str, cells: pd.DataFrame) -> Job:
    hashes = [_hash(path) for path in cells["path"]]
    settings = {name: value for name, value in work.keywords.items() if name != "plate"}
    settings["header"] = [list(settings["header"].shape), settings["header"].dtype]
    settings["name"] = work.keywords["plate"].name
    rows = cells.drop(columns=["path", "line"]).astype(str).to_dict("list")
    key = make_key("import_crops", settings=settings, rows=rows, images=hashes)
    return Job(well, key, functools.partial(work, well, cells))


def _hash(path: str) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"  # the import will say so, and a repaired file has another key


def import_cells(
    well: str,
    cells: pd.DataFrame,
    *,
    plate: Path,
    channels: Mapping[str, int | None],
    header: Header,
    crop_px: int | None,
    pixel_size_um: float | None,
    seed: int,
) -> Result:
    """Read and store the cells of one well; cells whose image is damaged or missing are left out and named."""
    images: list[np.ndarray[Any, Any]] = []
    padded: list[bool] = []
    good: list[int] = []
    messages: list[str] = []
    for i, path in enumerate(cells["path"]):
        try:
            own = header if crop_px is None else Header(cell_header(path, channels).shape, header.dtype)
            pixels = read_cell(path, channels, own)
            padded.append(crop_px is not None and min(own.shape) < crop_px)
            images.append(pixels if crop_px is None else fit_size(pixels, crop_px))
            good.append(i)
        except DamagedInput as error:
            messages += [f"cell {cells[OBJECT][i]} of site {cells[SITE][i]}: {fault}" for fault in error.faults]
    if not good:
        raise DamagedInput(*messages)
    kept = cells.iloc[good].reset_index(drop=True)
    order = sample_cells(len(kept), None, np.random.default_rng(derived_seed(seed, plate.name, well, "crops")))
    site, number = (kept[name].to_numpy(np.int32)[order] for name in (SITE, OBJECT))
    crops = Crops(np.stack(images)[order], site, number, np.array(padded)[order])
    about: dict[str, Any] = {"plate": plate.name, "well": well, "channels": list(channels), "seed": seed}
    if pixel_size_um is not None:
        about |= {"pixel_size_um": pixel_size_um, "crop_um": crops.pixels.shape[-1] * pixel_size_um}
    path = plate / "crops" / f"{well}.zarr"
    with commit_folder(path) as temporary:
        write_crops(temporary, crops, **about)
    table = kept.drop(columns=["path", "line"]).sort_values([SITE, OBJECT], ignore_index=True)
    table.insert(0, PLATE, plate.name)
    table_path = plate / "cells" / f"{well}.parquet"
    with commit_file(table_path) as temporary:
        table.to_parquet(temporary, index=False)
    files = [*(p for p in path.rglob("*") if p.is_file()), table_path]
    facts = {"n_cells": len(kept), "n_crops": len(kept)}
    return Result("partial" if messages else "done", files, messages, facts)

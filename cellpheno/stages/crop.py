"""Cells to crops: every cell cut out once, one Zarr group a well, the model's only input."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import Record, input_hashes
from cellpheno.bounds import Listed, Range
from cellpheno.errors import InputError
from cellpheno.images.crops import Crops, crop_size, cut_crops, sample_cells, write_crops
from cellpheno.names import OBJECT, SITE
from cellpheno.plates.commit import commit_file, commit_folder
from cellpheno.plates.plate import Field, Plate, open_plate
from cellpheno.seeds import derived_seed
from cellpheno.stages.well_steps import do_wells, records_after

SAMPLED_WELLS = 24  # enough cells to know their median size on a plate of any format


def crop(
    plate: Path,
    engine: Callable[..., Outcome],
    wells: Annotated[Sequence[str] | None, Listed()] = None,
    crop_um: Annotated[float | None, Range(0, open_low=True)] = None,
    cells_per_well: Annotated[int | None, Range(1)] = None,
    hide_neighbours: bool = False,
    seed: Annotated[int, Range(0)] = 1,
) -> Outcome:
    """Cut every cell out of its field, centred on the nucleus, and store the crops of a well together.

    Parameters
    ----------
    plate : Path
        The OME-Zarr plate, measured.
    engine : callable
        Where the work runs.
    wells : sequence of str, optional
        Only these wells: names or rectangles such as B03-D06.
    crop_um : float, optional
        Side of a crop in micrometres; by default 1.5 diameters of the plate's median cell.
    cells_per_well : int, optional
        At most so many cells a well, drawn by the seed; all by default.
    hide_neighbours : bool
        Set pixels outside the crop's own cell to zero.
    seed : int
        Of the draw and of the order in which cells are stored.
    """
    opened = open_plate(plate)
    records = records_after(opened, "measure", wells)
    size = _size_px(opened, crop_um, seed)
    work = functools.partial(
        crop_well, plate, size=size, cells_per_well=cells_per_well, hide_neighbours=hide_neighbours, seed=seed
    )
    jobs = [Job(well, _key(record, work), functools.partial(work, well)) for well, record in records.items()]
    return do_wells("crop", opened, jobs, engine, opened.folder / "crops")


def _key(record: Record, work: "functools.partial[Result]") -> str:
    return make_key("crop", settings=work.keywords, inputs=input_hashes(record, "import_plate", "segment", "measure"))


def _size_px(plate: Plate, crop_um: float | None, seed: int) -> int:
    """Side of a crop in pixels: as asked, or from the cells of a seeded sample of wells, a fact of the plate."""
    if crop_um is not None:
        if plate.pixel_size_um is None:
            raise InputError(f"crop_um={crop_um}: {plate.path} does not know its pixel size; leave crop_um out")
        return max(8, 8 * round(crop_um / plate.pixel_size_um / 8))
    measured = records_after(plate, "measure", None)
    order = np.random.default_rng(derived_seed(seed, plate.name, "crop size")).permutation(sorted(measured))
    sample = sorted(str(well) for well in order[:SAMPLED_WELLS])
    tables = [pd.read_parquet(plate.folder / "cells" / f"{well}.parquet") for well in sample]
    areas = pd.concat([t.filter(regex="^(Cells|Nuclei)_AreaShape_Area$") for t in tables], ignore_index=True)
    column = next(name for name in ("Cells_AreaShape_Area", "Nuclei_AreaShape_Area") if name in areas)
    size = crop_size(areas[column].to_numpy(float)) if areas[column].notna().any() else 64  # no cell: any size serves
    facts = {"crop_px": size, "cells": len(areas), "inputs": {w: input_hashes(measured[w], "measure") for w in sample}}
    path = plate.folder / "facts" / "crop_size.json"
    with commit_file(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return size


def crop_well(
    plate: Path, well: str, *, size: int, cells_per_well: int | None, hide_neighbours: bool, seed: int
) -> Result:
    """Cut and store the cells of one well."""
    opened = open_plate(plate)
    cells = pd.read_parquet(opened.folder / "cells" / f"{well}.parquet")
    generator = np.random.default_rng(derived_seed(seed, opened.name, well, "crops"))
    chosen = cells.iloc[sample_cells(len(cells), cells_per_well, generator)].reset_index(drop=True)
    parts: list[Crops] = []
    rows: list[np.ndarray] = []
    for field in opened.well(well).fields:
        own = chosen[chosen[SITE] == field.site]
        if own.empty and parts:
            continue
        numbers = own[OBJECT].to_numpy(np.int32)
        mask = {"cells": _rows_label(field), "object_number": numbers} if hide_neighbours else {}
        pixels, at_border = cut_crops(field.read(), _centres(own), size, **mask)
        parts.append(Crops(pixels, np.full(len(own), field.site, np.int32), numbers, at_border))
        rows.append(own.index.to_numpy())
    order = np.argsort(np.concatenate(rows), kind="stable")  # back to the drawn order, fields mixed
    crops = Crops(*(np.concatenate(arrays)[order] for arrays in zip(*parts, strict=True)))
    path = opened.folder / "crops" / f"{well}.zarr"
    pixel = opened.pixel_size_um
    about: dict[str, Any] = {"plate": opened.name, "well": well, "channels": list(opened.channels), "seed": seed}
    if pixel is not None:
        about |= {"pixel_size_um": pixel, "crop_um": size * pixel}
    with commit_folder(path) as temporary:
        write_crops(temporary, crops, **about)
    return Result("done", [p for p in path.rglob("*") if p.is_file()], (), {"n_crops": len(chosen)})


def _rows_label(field: Field) -> np.ndarray:
    """The label image whose objects are the rows of the cell table."""
    return field.labels("cells" if "cells" in field.label_names else "nuclei")


def _centres(cells: pd.DataFrame) -> np.ndarray:
    """Row and column of each nucleus, of the cell where it has none: (n, 2) pixels."""
    axes = []
    for axis in "YX":
        columns = [c for c in (f"Nuclei_AreaShape_Center_{axis}", f"Cells_AreaShape_Center_{axis}") if c in cells]
        axes.append(cells[columns].bfill(axis=1).iloc[:, 0].to_numpy(float))
    return np.stack(axes, axis=1)

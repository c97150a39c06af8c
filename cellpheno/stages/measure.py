"""Labels and pixels to the cell table: one Parquet file a well, a row a cell."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes, is_done
from cellpheno.bounds import Listed
from cellpheno.errors import DamagedInput
from cellpheno.measure.field import Measurements, measure_field, warm_up
from cellpheno.plates.plate import Field, open_plate
from cellpheno.stages.cell_tables import cells_path, write_cells
from cellpheno.stages.well_steps import do_wells, records_after, root

LABELS = ("nuclei", "cells", "cytoplasm")


def measure(
    plate: Path,
    measurements: Annotated[Measurements, Listed()],
    engine: Callable[..., Outcome],
    wells: Annotated[Sequence[str] | None, Listed()] = None,
) -> Outcome:
    """Measure every cell: CellProfiler's features under CellProfiler's names, one table a well.

    Parameters
    ----------
    plate : Path
        The OME-Zarr plate, segmented.
    measurements : mapping
        What is measured: sections shape, channel, pair, relation.
    engine : callable
        Where the work runs.
    wells : sequence of str, optional
        Only these wells: names or rectangles such as B03-D06.
    """
    opened = open_plate(plate)
    records = records_after(opened, "segment", wells)
    jobs = [
        Job(
            well,
            make_key("measure", measurements=measurements, inputs=input_hashes(record, "import_plate", "segment")),
            functools.partial(measure_well, plate, well, measurements),
        )
        for well, record in records.items()
    ]
    if not all(is_done(records[job.unit].get("measure"), job.key, root(opened)) for job in jobs):
        warm_up(opened.channels, measurements)  # here, so that worker processes find the kernels compiled
    return do_wells("measure", opened, jobs, engine, opened.folder / "cells")


def measure_well(plate: Path, well: str, measurements: Measurements) -> Result:
    """Measure the segmented fields of one well, one at a time, and write its cell table."""
    opened = open_plate(plate)
    fields = [field for field in opened.well(well).fields if set(LABELS) & set(field.label_names)]
    if not fields:
        raise DamagedInput(f"well {well}: no field has labels any more; segment the well again")
    path = cells_path(opened.folder, well)
    facts = write_cells(path, (measure_one(field, measurements) for field in fields))
    return Result("done", [path], (), facts)


def measure_one(field: Field, measurements: Measurements) -> pd.DataFrame:
    """Measure one field; a row a cell, the plate, well and site before its features."""
    labels = {name: field.labels(name) for name in LABELS if name in field.label_names}
    table = measure_field(labels, field.read(), field.well.plate.channels, measurements)
    for position, (key, value) in enumerate(field.metadata.items()):
        table.insert(position, key, value)
    return table

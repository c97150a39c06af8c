"""Whole fields to a table of their grey levels, a Parquet file a well: features for where nothing was segmented."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes
from cellpheno.bounds import Listed
from cellpheno.errors import DamagedInput
from cellpheno.images.grey_levels import field_statistics
from cellpheno.plates.plate import open_plate
from cellpheno.stages.run_folder import write_parquet
from cellpheno.stages.well_steps import do_wells, records_after


def image_statistics(
    plate: Path, engine: Callable[..., Outcome], wells: Annotated[Sequence[str] | None, Listed()] = None
) -> Outcome:
    """Measure the grey levels of whole fields, without cells: what the baseline image_statistics rests on.

    Parameters
    ----------
    plate : Path
        The OME-Zarr plate.
    engine : callable
        Where the work runs.
    wells : sequence of str, optional
        Only these wells: names or rectangles such as B03-D06.
    """
    opened = open_plate(plate)
    jobs = [
        Job(
            well,
            make_key("image_statistics", inputs=input_hashes(record, "import_plate")),
            functools.partial(_one_well, plate, well),
        )
        for well, record in records_after(opened, "import_plate", wells).items()
    ]
    return do_wells("image_statistics", opened, jobs, engine, opened.folder / "image_statistics")


def statistics_path(folder: Path, well: str) -> Path:
    """Where a well's table stands in the folder of its plate: a row a field."""
    return folder / "image_statistics" / f"{well}.parquet"


def _one_well(plate: Path, well: str) -> Result:
    """Measure the fields of one well; a field that cannot be read is left out and named."""
    opened = open_plate(plate)
    fields = opened.well(well).fields
    rows: list[dict[str, str | int | float]] = []
    messages: list[str] = []
    for field in fields:
        try:
            rows.append({**field.metadata, **field_statistics(field.read(), opened.channels)})
        except DamagedInput as error:
            messages += error.faults
    if not rows:
        raise DamagedInput(*messages)
    path = write_parquet(pd.DataFrame(rows), statistics_path(opened.folder, well))
    return Result("partial" if len(rows) < len(fields) else "done", [path], messages)

"""Labels and pixels to the cell table: one Parquet file a well, a row a cell."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes
from cellpheno.measure.field import measure_field
from cellpheno.names import channel_tokens
from cellpheno.plates.commit import commit_file
from cellpheno.plates.plate import open_plate
from cellpheno.stages.well_steps import do_wells, records_after

LABELS = ("nuclei", "cells", "cytoplasm")

Measurements = Mapping[str, Mapping[str, Callable[..., Any]]]


def measure(
    plate: Path, measurements: Measurements, engine: Callable[..., Outcome], wells: Sequence[str] | None = None
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
    jobs = [
        Job(
            well,
            make_key("measure", measurements=measurements, inputs=input_hashes(record, "import_plate", "segment")),
            functools.partial(measure_well, plate, well, measurements),
        )
        for well, record in records_after(opened, "segment", wells).items()
    ]
    return do_wells("measure", opened, jobs, engine, opened.folder / "cells")


def measure_well(plate: Path, well: str, measurements: Measurements) -> Result:
    """Measure the segmented fields of one well and write its cell table."""
    opened = open_plate(plate)
    channels = channel_tokens(opened.channels)
    tables = []
    for field in opened.well(well).fields:
        labels = {name: field.labels(name) for name in LABELS if name in field.label_names}
        if not labels:
            continue  # a field that segmentation left out, and named
        table = measure_field(labels, field.read(), channels, measurements)
        for position, (key, value) in enumerate(field.metadata.items()):
            table.insert(position, key, value)
        tables.append(table)
    cells = pd.concat(tables, ignore_index=True)
    path = opened.folder / "cells" / f"{well}.parquet"
    with commit_file(path) as temporary:
        cells.to_parquet(temporary, index=False)
    return Result("done", [path], (), {"n_cells": len(cells)})

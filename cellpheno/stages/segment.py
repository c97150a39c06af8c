"""Pixels to labels: nuclei, cells and cytoplasm of every field."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes
from cellpheno.bounds import Listed
from cellpheno.errors import DamagedInput
from cellpheno.plates.plate import open_plate
from cellpheno.plates.write import write_labels
from cellpheno.stages.well_steps import do_wells, records_after

Labels = dict[str, NDArray[np.int32]]


def segment(
    plate: Path,
    segmentation: Callable[..., Labels],
    engine: Callable[..., Outcome],
    wells: Annotated[Sequence[str] | None, Listed()] = None,
) -> Outcome:
    """Find nuclei and cells in every field and write them into the plate as label images.

    Parameters
    ----------
    plate : Path
        The OME-Zarr plate.
    segmentation : callable
        How nuclei and cells are found.
    engine : callable
        Where the work runs.
    wells : sequence of str, optional
        Only these wells: names or rectangles such as B03-D06.
    """
    opened = open_plate(plate)
    jobs = [
        Job(
            well,
            make_key("segment", segmentation=segmentation, inputs=input_hashes(record, "import_plate")),
            functools.partial(segment_well, plate, well, segmentation),
        )
        for well, record in records_after(opened, "import_plate", wells).items()
    ]
    return do_wells("segment", opened, jobs, engine, plate)


def segment_well(plate: Path, well: str, segmentation: Callable[..., Labels]) -> Result:
    """Segment the fields of one well; a field that cannot be read is left out and named."""
    opened = open_plate(plate)
    files: list[Path] = []
    messages: list[str] = []
    n_cells = n_fields = 0
    for field in opened.well(well).fields:
        try:
            labels = segmentation(field.read(), opened.channels, field.metadata)
        except DamagedInput as error:
            messages += error.faults
            continue
        write_labels(field, labels)
        files += [path for path in (field.path / "labels").rglob("*") if path.is_file()]
        n_cells += np.unique(labels["cells" if "cells" in labels else "nuclei"]).size - 1  # less the background
        n_fields += 1
    if not n_fields:
        raise DamagedInput(*messages)
    if not n_cells:
        messages.append(f"well {well}: no cell found in {n_fields} fields")
    status = "partial" if n_fields < len(opened.well(well).fields) else "warned" if messages else "done"
    return Result(status, files, messages, {"n_cells": int(n_cells), "n_fields": n_fields})

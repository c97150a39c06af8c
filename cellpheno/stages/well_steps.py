"""What the steps that go well by well share: which wells they work on, and the plate's status table afterwards."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from cellpheno.batch.engine import Job, Outcome
from cellpheno.batch.ledger import USABLE, Record, read_record, status_table
from cellpheno.errors import InputError
from cellpheno.names import WELL, parse_wells
from cellpheno.plates.commit import commit_file
from cellpheno.plates.plate import Plate


def records_after(plate: Plate, step: str, wells: Sequence[str] | None) -> dict[str, Record]:
    """Records of the wells that can be worked on after ``step``, by well.

    A well that the step set aside is left out; a plate that others made has no ledger, and all its wells are taken.

    Parameters
    ----------
    plate : Plate
    step : str
        The step whose output is needed, such as ``segment``.
    wells : sequence of str, optional
        ``B03`` or ``B03-D06``; all wells by default.

    Raises
    ------
    InputError
        If a chosen well is not on the plate, or no well has come through the step.
    """
    on_plate = [well.name for well in plate.wells]
    chosen = on_plate if wells is None else list(chosen_wells(wells))
    if unknown := [well for well in chosen if well not in on_plate]:
        raise InputError(f"wells {', '.join(unknown)} are not on {plate.path}; it has {on_plate[0]} to {on_plate[-1]}")
    records = {well: read_record(plate.folder, well) for well in chosen}
    if step == "import_plate" and not any("import_plate" in record for record in records.values()):
        return records
    ready = {well: record for well, record in records.items() if record.get(step, {}).get("status") in USABLE}
    if not ready:
        raise InputError(f"{plate.path}: no well has come through {step} yet; run: cellpheno {step} plate={plate.path}")
    return ready


def chosen_wells(wells: Sequence[str]) -> tuple[str, ...]:
    """Read a selection of wells; what is no well is refused by name."""
    try:
        return parse_wells(wells)
    except ValueError as error:
        raise InputError(f"wells={list(wells)}: {error}") from error


def do_wells(step: str, plate: Plate, jobs: Sequence[Job], engine: Callable[..., Outcome], path: Path) -> Outcome:
    """Do a step's jobs and write the plate's status table.

    Returns
    -------
    Outcome
        With ``path``, where the step's result stands.
    """
    try:
        return engine(step, jobs, folder=plate.folder, root=root(plate))._replace(path=path)
    finally:
        write_status(plate)


def write_status(plate: Plate) -> pd.DataFrame:
    """Write ``status.csv``: every well of plate map and images once, derived from the ledger."""
    path = plate.folder / "platemap.csv"
    planned = list(pd.read_csv(path, dtype=str, keep_default_na=False)[WELL]) if path.is_file() else []
    table = status_table(plate.folder, plate.name, planned)
    with commit_file(plate.folder / "status.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def root(plate: Plate) -> Path:
    """The screen's folder, to which the paths of a manifest are relative."""
    return plate.folder.parent

"""What the steps share that go well by well: which wells they work on, what is set aside, the plate's status table."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from cellpheno.batch.engine import Job, Outcome
from cellpheno.batch.ledger import USABLE, Record, commit_step, read_record, status_table
from cellpheno.batch.locks import unit_lock
from cellpheno.errors import DamagedInput, InputError
from cellpheno.names import PLATE, WELL, parse_wells
from cellpheno.plates.commit import commit_file
from cellpheno.plates.plate import Plate
from cellpheno.training.instances import Instances

log = logging.getLogger("cellpheno")


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
        write_status(plate.folder, plate.name)


def write_status(folder: Path, plate: str) -> None:
    """Write ``status.csv``: every well of plate map and images once, derived from the ledger in the plate's folder."""
    path = folder / "platemap.csv"
    planned = list(pd.read_csv(path, dtype=str, keep_default_na=False)[WELL]) if path.is_file() else []
    with commit_file(folder / "status.csv") as temporary:
        status_table(folder, plate, planned).to_csv(temporary, index=False)


def without_damaged(wells: pd.DataFrame, instances: Instances, again: Callable[[], Outcome]) -> Outcome | None:
    """Set wells aside that cannot be read, and do a step again that met one; None where all can be read.

    A well is set aside in its plate's ledger, in the step that wrote what is damaged: no later step counts on it, and
    that step makes it anew when it comes by again. A plate whose ledger does not know that step is left as it is.

    Parameters
    ----------
    wells : DataFrame
        All wells of the step: Metadata_Plate, Metadata_Well, folder (the plate's), place (of the instances).
    instances : Instances
    again : callable
    """
    lost = [line for _, well in wells.iterrows() if (line := _set_aside_damaged(well, instances))]
    if not lost:
        return None
    for folder, plate in wells[["folder", PLATE]].drop_duplicates().itertuples(index=False):
        write_status(Path(folder), plate)
    log.warning("set aside, everything is done again without: %s", "; ".join(lost))
    outcome = again()
    return outcome._replace(left_out=(*lost, *outcome.left_out))


def _set_aside_damaged(well: pd.Series, instances: Instances) -> str:
    """Read a well; where that fails, note it in the ledger and say so."""
    folder, name = Path(well["folder"]), str(well[WELL])
    piece = 256 if instances.same_size else 16  # whole fields are large
    try:
        for start in range(0, instances.count(well["place"]), piece):
            instances.read(well["place"], slice(start, start + piece))
    except DamagedInput as error:
        with unit_lock(folder / "ledger" / f"{name}.lock"):
            record = read_record(folder, name)
            made_by = [step for step in (instances.step, "import_crops") if step in record]
            if not made_by:
                return ""
            entry = {**record[made_by[0]], "status": "quarantined", "messages": list(error.faults)}
            commit_step(folder, name, made_by[0], entry)
        return f"{well[PLATE]} {name}: {'; '.join(error.faults)}"
    return ""


def root(plate: Plate) -> Path:
    """The screen's folder, to which the paths of a manifest are relative."""
    return plate.folder.parent

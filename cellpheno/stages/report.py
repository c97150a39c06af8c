"""The run's tables as one page that a person reads."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes, read_record
from cellpheno.batch.timing import Cost, read_costs
from cellpheno.bounds import Listed, Range
from cellpheno.errors import InputError
from cellpheno.plates.commit import hash_file, hash_tree
from cellpheno.plates.plate import Plate
from cellpheno.report import html
from cellpheno.report.assay import Doses
from cellpheno.report.cells import open_plates
from cellpheno.report.run import read_run
from cellpheno.stages.contest_check import dose_faults
from cellpheno.stages.run_folder import read_csv

SHOWN = ("*.csv", "*.parquet", "config/*.yaml", "models/**/card.json", "models/**/history.csv")


def report(
    plates: Annotated[Sequence[Path], Listed()],
    output: Path,
    engine: Callable[..., Outcome],
    title: str | None = None,
    cells_per_class: Annotated[int, Range(0)] = 12,
    show_cost: bool = False,
    dose: str | None = None,
    dose_by: str | None = None,
) -> Outcome:
    """Write the report: one HTML file that needs no network.

    Parameters
    ----------
    plates : sequence of Path
        OME-Zarr plates whose cells are shown.
    output : Path
        The run's folder.
    engine : callable
        Where the work runs.
    title : str, optional
        Heading of the report; by default the name of the run's folder.
    cells_per_class : int
        Cells of highest and of lowest attention that are shown, a class each.
    show_cost : bool
        Show seconds and memory of each contestant; the page is then not the same to the byte.
    dose : str, optional
        Column of the plate map with a dose.
    dose_by : str, optional
        Column whose values, such as drugs, have a curve each.
    """
    if not (output / "predictions.parquet").is_file():
        raise InputError(f"{output} has no predictions to report; run: cellpheno compare output={output} ...")
    _check_dose(output, dose, dose_by)
    shown = {p.relative_to(output).as_posix(): hash_file(p) for glob in SHOWN for p in sorted(output.glob(glob))}
    templates = hash_tree(Path(html.__file__).parent / "templates")
    cost = _costs(plates, output) if show_cost else None
    pixels = {name: _pictures(plate) for name, plate in open_plates(plates).plates.items()}
    settings = {"title": title, "cells": cells_per_class, "dose": [dose, dose_by], "cost": cost}
    key = make_key("report", **settings, shown=shown, templates=templates, pixels=pixels)
    work = functools.partial(_report, plates, output, title, cells_per_class, show_cost, dose, dose_by)
    outcome = engine("report", [Job("report", key, work)], folder=output, root=output)
    return outcome._replace(path=output / "report.html")


def _pictures(plate: Plate) -> dict[str, list[str]]:
    """Hashes of what the cells and fields of each well are drawn from."""
    units = sorted(path.stem for path in (plate.folder / "ledger").glob("*.json"))
    return {unit: input_hashes(read_record(plate.folder, unit), "import_plate", "segment", "crop") for unit in units}


def _check_dose(output: Path, dose: str | None, dose_by: str | None) -> None:
    columns = [str(c) for c in read_csv(output / "wells.csv") if str(c).startswith("Metadata_")]
    answers = [] if dose is None else read_run(output).answers
    if faults := dose_faults(columns, answers, dose, dose_by):
        raise InputError(*faults)


def _costs(plates: Sequence[Path], output: Path) -> list[dict[str, dict[str, Cost]]]:
    """Costs that the page shows: not its own, which would make every page another."""
    folders = [
        output,
        *sorted((output / "contestants").glob("*/")),
        *(plate.folder for plate in open_plates(plates).plates.values()),
    ]
    return [{step: own for step, own in read_costs(folder).items() if step != "report"} for folder in folders]


def _report(
    plates: Sequence[Path],
    output: Path,
    title: str | None,
    cells_per_class: int,
    show_cost: bool,
    dose: str | None,
    dose_by: str | None,
) -> Result:
    doses = None
    if dose is not None:
        by = None if dose_by is None else f"Metadata_{dose_by}"
        doses = Doses(f"Metadata_{dose}", by, read_run(output).answers)
    page = html.write_report(
        output, title=title, plates=plates, cells_per_class=cells_per_class, doses=doses, show_cost=show_cost
    )
    return Result("done", [page, *sorted((output / "class_maps").rglob("*.png"))])

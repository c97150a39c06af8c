"""The units of a transfer study, each committed on its own: the source model, and one training an arm and draw."""

import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.batch.engine import Job, Result
from cellpheno.batch.keys import make_key
from cellpheno.plates.commit import commit_folder
from cellpheno.seeds import derived_seed
from cellpheno.stages.cell_folds import set_aside
from cellpheno.stages.facts import as_lists
from cellpheno.stages.labelled_cells import key_rows
from cellpheno.stages.run_folder import write_csv
from cellpheno.stages.start import write_taught
from cellpheno.studies.transfer import Unit, draw_examples, train_unit
from cellpheno.training.fit import fit_fold

Arms = Mapping[str, Mapping[str, Any]]


def study_key(work: "functools.partial[Any]") -> dict[str, Any]:
    """Settings of a piece of work as plain data, without places and tables."""
    places = ("folder", "output", "pool", "held", "start", "arms", "about")
    left = {name: value for name, value in work.keywords.items() if name not in places}
    about = dict(work.keywords["about"])
    limits = as_lists(about.pop("limits"))
    normalization = about.pop("normalization")
    knobs = {"kind": type(normalization).__name__, **vars(normalization)}
    return {**left, **about, "limits": limits, "normalization": knobs}


def train_source(
    cells: pd.DataFrame,
    *,
    folder: Path,
    resume: Path,
    classes: Sequence[str],
    about: Mapping[str, Any],
    components: Mapping[str, Any],
    validation: float,
    patience: int | None,
    seed: int,
    threads: int,
) -> Result:
    """Train the first network on all cells of the source."""
    chosen = set_aside(cells, validation, seed, None) if validation else cells.iloc[:0]
    training = cells.drop(index=chosen.index)
    with commit_folder(folder) as temporary:
        fit_fold(
            training, chosen, classes=classes, folder=temporary, resume=resume, seed=derived_seed(seed, "source"),
            threads=threads, patience=patience, **about, **components,
        )  # fmt: skip
        write_taught(cells, None, temporary)
    resume.unlink(missing_ok=True)
    return Result("done", [path for path in folder.rglob("*") if path.is_file()], (), {"n_cells": len(cells)})


def unit_job(unit: Unit, work: "functools.partial[Result]", start_hash: str) -> Job:
    """Draw the examples of a unit and bind them to its work."""
    pool, held = work.keywords["pool"], work.keywords["held"]
    training = draw_examples(pool, unit.n, derived_seed(work.keywords["seed"], "examples", unit.resample))
    settings = study_key(work)
    arm = work.keywords["arms"][unit.arm]
    start = start_hash if arm["start"] else None
    rows = [key_rows(training), key_rows(held)]
    key = make_key("transfer_curve", unit=unit.name, arm=arm, settings=settings, rows=rows, start=start)
    own = {**work.keywords, "pool": training}
    return Job(unit.name, key, functools.partial(work.func, unit, **own))


def do_unit(
    unit: Unit,
    *,
    pool: pd.DataFrame,
    held: pd.DataFrame,
    arms: Arms,
    start: Path | None,
    output: Path,
    about: Mapping[str, Any],
    components: Mapping[str, Any],
    seed: int,
    **settings: Any,
) -> Result:
    """Train and score one model of the study; the model itself is not kept."""
    arm = dict(arms[unit.arm])
    begins = arm.pop("start")
    with tempfile.TemporaryDirectory() as scratch:
        row = train_unit(
            pool,
            held,
            unit=unit,
            settings=arm,
            start=start if begins else None,
            folder=Path(scratch),
            components={**components, "logger": None},
            seed=derived_seed(seed, unit.n, unit.resample),
            **settings,
            **about,
        )
    return Result("done", [write_csv(pd.DataFrame([row]), output / "units" / f"{unit.name}.csv")])

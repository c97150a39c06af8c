"""What more wells would bring: the scores of the run's contests on few training wells, in one table."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.bounds import Listed, Range
from cellpheno.errors import InputError
from cellpheno.plates.commit import hash_file
from cellpheno.stages.compare import FEW
from cellpheno.stages.run_folder import curve_folder, write_csv

TABLE = "learning_curve.csv"
PLAN = ("wells.csv", "folds.csv", "classes.csv")  # that a contest on few wells shares with the run


def learning_curve(
    output: Path, curve: Annotated[Sequence[int], Range(1), Listed(rising=True)], engine: Callable[..., Outcome]
) -> Outcome:
    """Collect the contests on few training wells of each class that ``run`` made: score against number of wells.

    Each fold draws its wells anew, the same ones for all contestants and each smaller draw a part of the larger, so a
    curve over five folds rests on five draws; every point is scored on all held-out wells. No configuration is chosen:
    the first of each contestant counts.

    Parameters
    ----------
    output : Path
        The run's folder.
    curve : sequence of int
        Training wells of each class.
    engine : callable
        Where the work runs.
    """
    if not curve or min(curve) < 1 or list(curve) != sorted(set(curve)):
        raise InputError(f"curve={list(curve)}: wanted numbers of wells from 1, rising")
    tables = {n: curve_folder(output, n) / "scores.csv" for n in curve}
    if missing := [str(path) for path in tables.values() if not path.is_file()]:
        raise InputError(f"{', '.join(missing)}: not there; run: cellpheno run steps=[learning_curve] output={output}")
    shown = [name for name in PLAN if (output / name).is_file()]
    if old := [n for n, path in tables.items() if any(_differs(path.with_name(name), output / name) for name in shown)]:
        raise InputError(
            f"{', '.join(str(curve_folder(output, n)) for n in old)}: of other wells or folds than the run's; run: "
            f"cellpheno run steps=[learning_curve] output={output}"
        )
    about = {str(n): [hash_file(path), hash_file(path.with_name("messages.csv"))] for n, path in tables.items()}
    key = make_key("learning_curve", scores=about)
    work = functools.partial(_collect, tables, output)
    outcome = engine("learning_curve", [Job("learning_curve", key, work)], folder=output, root=output)
    return outcome._replace(path=output / TABLE)


def _differs(path: Path, other: Path) -> bool:
    return not path.is_file() or hash_file(path) != hash_file(other)


def _collect(tables: dict[int, Path], output: Path) -> Result:
    parts = []
    for n, path in tables.items():
        points = pd.read_csv(path, dtype=str, keep_default_na=False).assign(wells_per_class=n)
        told = pd.read_csv(path.with_name("messages.csv"), dtype=str, keep_default_na=False)["message"]
        notes = [note for note in told if note.startswith(FEW)]
        parts.append(points.assign(note=["; ".join([*filter(None, [note]), *notes]) for note in points["note"]]))
    table = pd.concat(parts, ignore_index=True)
    whole = table[(table["class"] == "") & ~table["metric"].isin(["calibration_error", "calibration_limit"])]
    first = ["contestant", "split", "wells_per_class", "metric", "value", "low", "high", "n", "n_unit", "unit", "note"]
    return Result("done", [write_csv(whole[first], output / TABLE)])

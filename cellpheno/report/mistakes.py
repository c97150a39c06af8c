"""For which compounds, or other units, each contestant calls wells wrong."""

from typing import Any

import pandas as pd

from cellpheno.compare.leaks import compound_column
from cellpheno.names import PLATE, WELL
from cellpheno.report.run import Run, one_row_a_well, stated
from cellpheno.report.summary import in_order
from cellpheno.report.words import contestant_label, split_label


def unit_column(run: Run) -> str | None:
    """Column of the wells that tells what was resampled, or else their compound; None where neither is known."""
    unit = "" if run.scores is None or "unit" not in run.scores else str(run.scores["unit"].iloc[0])
    named = {str(column).removeprefix("Metadata_").lower(): str(column) for column in run.wells}
    return named.get(unit) if unit != "well" else compound_column(run.wells, None, "".join(stated(run, "label")))


def mistakes(run: Run) -> list[dict[str, Any]]:
    """Count, a split and contestant that is no control, the wells called wrong of each unit, most first.

    Returns
    -------
    list of dict
        ``split``, ``unit`` (its name) and ``rows``: (contestant, wells called wrong, wells, where in words).
    """
    column = unit_column(run)
    if column is None or run.multilabel:
        return []
    held = run.predictions[run.predictions["role"].eq("out_of_fold") & run.predictions["true"].isin(run.answers)]
    wells = one_row_a_well(held, run.classes)
    if column not in wells:
        wells = wells.merge(run.wells[[PLATE, WELL, column]], on=[PLATE, WELL])
    sections = []
    for split, part in wells.groupby("split", sort=False):
        names = [name for name in in_order(part["contestant"]) if name not in run.controls]
        rows = [(contestant_label(name), *_told(part[part["contestant"] == name], column)) for name in names]
        sections.append({"split": split_label(str(split)), "unit": column.removeprefix("Metadata_"), "rows": rows})
    return sections


def _told(rows: pd.DataFrame, column: str) -> tuple[int, int, str]:
    """Wells called wrong, all wells, and the units that hold them in words."""
    wrong = (rows["pred"] != rows["true"]).groupby(rows[column], sort=True).agg(["sum", "size"])
    worst = wrong[wrong["sum"] > 0].sort_values("sum", ascending=False, kind="stable")
    told = ", ".join(f"{name or '(none)'} {own['sum']} of {own['size']}" for name, own in worst.iterrows())
    return int(wrong["sum"].sum()), len(rows), told or "none"

"""Dose-response pictures and assay quality, where a plate has doses and controls."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from cellpheno.names import PLATE, WELL
from cellpheno.report.palette import class_colours, contestant_styles
from cellpheno.report.plots import dose_response
from cellpheno.report.run import Run, one_row_a_well, records
from cellpheno.report.summary import in_order, score_table
from cellpheno.report.svg import inline_svg
from cellpheno.report.words import contestant_label, interval, metric, number, split_label

LEADING = 2  # contestants whose curves are drawn; the table holds all
QUOTED = ("z_prime", "robust_z_prime", "spearman")  # below each curve


class Doses(NamedTuple):
    """Columns of wells.csv that dose.csv was made from, so that its single wells can be drawn."""

    dose: str
    by: str | None  # each value has a curve of its own, such as a drug
    controls: Sequence[str]  # negative and positive class: the margin is positive minus negative logit


def assay(run: Run, doses: Doses | None = None) -> list[dict[str, Any]]:
    """Arrange assay.csv as tables and dose.csv as pictures, a split each; a picture a group and contestant."""
    tables = [table for table in (run.assay, run.dose) if table is not None]
    splits = dict.fromkeys(str(split) for table in tables for split in table["split"])
    return [
        {
            "split": split_label(split),
            "table": _table(run.assay[run.assay["split"] == split]) if run.assay is not None else None,
            "groups": _groups(run, run.dose[run.dose["split"] == split], doses) if run.dose is not None else [],
        }
        for split in splits
    ]


def _table(rows: pd.DataFrame) -> dict[str, Any]:
    return score_table(rows, ("group", "contestant"))


def _groups(run: Run, means: pd.DataFrame, doses: Doses | None) -> list[dict[str, Any]]:
    wells = _well_scores(run, doses)
    colours, styles = class_colours(run.classes), contestant_styles(in_order(means["contestant"]))
    labels = [doses.dose.removeprefix("Metadata_") if doses else "dose", "logit margin"]
    groups = []
    for group, part in means.groupby("group", sort=False):
        plots = []
        for contestant in in_order(part["contestant"])[:LEADING]:
            own = part[part["contestant"] == contestant].sort_values("dose")
            split = str(own["split"].iloc[0])
            here = wells[(wells["contestant"] == contestant) & (wells["split"] == split) & (wells["group"] == group)]
            title = contestant_label(contestant)
            figure = dose_response(own, here, styles[contestant], colours, title=title, labels=labels)
            picture = inline_svg(figure, f"dose {split} {group} {contestant}", f"dose-response of {group}, {title}")
            plots.append({"picture": picture, "caption": _caption(run, contestant, split, str(group))})
        groups.append({"name": group, "plots": plots})
    return groups


def _well_scores(run: Run, doses: Doses | None) -> pd.DataFrame:
    """Margin of each well beside its dose; no rows where the columns are not told."""
    columns = ["contestant", "split", "group", WELL, "dose", "score", "label"]
    if doses is None or len(doses.controls) != 2:
        return pd.DataFrame(columns=columns)
    negative, positive = doses.controls
    table = one_row_a_well(run.predictions, run.classes)
    table = table.assign(score=table[f"logit_{positive}"] - table[f"logit_{negative}"])
    known = [PLATE, WELL, "label", doses.dose, *([doses.by] if doses.by else [])]
    table = table.merge(run.wells[list(dict.fromkeys(known))], on=[PLATE, WELL], how="left")
    dose = pd.to_numeric(table[doses.dose].where(table[doses.dose] != ""), errors="coerce")  # refused when it was made
    return table.assign(group=table[doses.by] if doses.by else "", dose=dose).dropna(subset="dose")[columns]


def _caption(run: Run, contestant: str, split: str, group: str) -> str:
    if run.assay is None:
        return ""
    rows = run.assay[run.assay[["contestant", "split", "group"]].eq([contestant, split, group]).all(axis=1)]
    parts = [
        f"{metric(row['metric']).label} {number(row['value'], 2)} {interval(row['low'], row['high'], 2)}".strip()
        for row in records(rows)
        if row["metric"] in QUOTED
    ]
    return ", ".join(parts)

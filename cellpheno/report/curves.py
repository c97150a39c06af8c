"""The contest on few training wells: its curves, and where they cross."""

from typing import Any

import pandas as pd

from cellpheno.report.learning import learning_curve
from cellpheno.report.palette import contestant_styles
from cellpheno.report.run import Run
from cellpheno.report.sections import ordered
from cellpheno.report.summary import chance_of, in_order, main_metric, score_table
from cellpheno.report.svg import inline_svg
from cellpheno.report.verdict import leading, reference_of
from cellpheno.report.words import contestant_label, metric, split_label


def learning_curves(run: Run) -> list[dict[str, Any]]:
    """Draw and list the scores over the number of training wells, a split each."""
    if run.learning_curve is None or run.learning_curve.empty:
        return []
    sections, styles = [], contestant_styles(in_order(run.learning_curve["contestant"]))
    named = {contestant_label(name): style for name, style in styles.items()}
    for split, part in run.learning_curve.groupby("split", sort=False):
        plots = []
        leaders = [name for name, _ in leading(run, str(split))]
        drawn = part[part["contestant"].isin(leaders)] if len(leaders) > 1 else part
        for name, rows in ordered(drawn).groupby("metric", sort=False):
            words = metric(str(name))
            if words.better != "higher":  # the axis goes from 0 to 1
                continue
            points = rows.drop(columns="n").rename(columns={"wells_per_class": "n", "value": "mean"})
            points = points.assign(arm=rows["contestant"].map(contestant_label))
            figure = learning_curve(
                points,
                named,
                title=words.label,
                labels=("training wells a class", words.label),
                chance=chance_of(str(name), len(run.answers)),
            )
            plots.append(inline_svg(figure, f"curve {split} {name}", f"{words.label} over training wells a class"))
        notes = [str(note) for note in dict.fromkeys(part["note"]) if str(note)] if "note" in part else []
        table = score_table(part.sort_values("wells_per_class", kind="stable"), ("wells_per_class", "contestant"))
        more = sorted(set(part["contestant"]) - set(drawn["contestant"]))
        told = {"crossings": crossings(run, str(split), part), "notes": notes, "n_more": len(more)}
        sections.append({"split": split_label(str(split)), "plots": plots, "table": table, **told})
    return sections


def crossings(run: Run, split: str, curve: pd.DataFrame) -> list[str]:
    """Say of each contestant that is no control where its curve crosses that of the reference, by the points alone."""
    if run.differences is None or (pairs := run.differences[run.differences["split"] == split]).empty:
        return []
    reference = reference_of(pairs)
    name = main_metric(curve)
    points = curve[curve["metric"] == name]
    table = points.pivot_table(index="wells_per_class", columns="contestant", values="value").sort_index()
    if reference not in table or len(table) < 2:
        return []
    sign = -1.0 if metric(name).better == "lower" else 1.0
    named = [one for one in in_order(table.columns) if one not in (reference, *run.controls)]
    than = contestant_label(reference)
    return [f"{contestant_label(one)} {_crossing(sign * (table[one] - table[reference]), than)}." for one in named]


def _crossing(lead: "pd.Series[float]", than: str) -> str:
    """Where a lead, by number of wells, changes its sign; equal points belong to what was before.

    Examples
    --------
    >>> _crossing(pd.Series([-0.1, 0.0, 0.2], [1, 2, 4]), "engineered")
    'is below engineered with 1 to 2 training wells a class and above with 4'
    """
    told = lead[lead.round(9) != 0]
    if told.empty:
        return f"equals {than} at every number"
    signs = lead.where(lead.round(9) != 0).ffill().bfill().gt(0)
    runs = signs.groupby((signs != signs.shift()).cumsum())
    parts = [(values.iloc[0], values.index[0], values.index[-1]) for _, values in runs]
    words = [
        f"{'above' if side else 'below'}{f' {than}' if i == 0 else ''} with "
        f"{first if first == last else f'{first} to {last}'}{' training wells a class' if i == 0 else ''}"
        for i, (side, first, last) in enumerate(parts)
    ]
    return "is " + " and ".join(words)

"""What a run says in words and tables: the numbers that it rests on, what to beware of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cellpheno.compare.confounding import COUNTS, LAYOUT, confounding
from cellpheno.compare.strict_splits import unscored
from cellpheno.names import PLATE, WELL, well_order
from cellpheno.report.palette import CONTESTANT_STYLES, OTHER_STATUS, STATUS_STYLES
from cellpheno.report.run import Run, one_row_a_well, records, seed_of
from cellpheno.report.words import DASH, contestant_label, count, interval, metric, number, split_label

FEW_WELLS = 10  # labelled wells a class below which intervals are rough
MEASURED = ("done", "warned", "partial")
MAIN_METRICS = ("balanced_accuracy", "mean_average_precision")  # the second where a well may have several classes


def in_order(contestants: Iterable[str]) -> list[str]:
    """Order contestants as all tables and pictures show them: MIL, engineered, others, then the controls.

    Examples
    --------
    >>> in_order(["position", "forest", "mil"])
    ['mil', 'forest', 'position']
    """
    known = list(CONTESTANT_STYLES)
    place = {name: i if i < 2 else i + 100 for i, name in enumerate(known)}
    return sorted(dict.fromkeys(contestants), key=lambda name: place.get(name, 2))


def told_score(row: Mapping[str, Any]) -> str:
    """Value and interval of one row of scores."""
    return f"{number(row['value'])} {interval(row['low'], row['high'])}".strip()


def chance_of(name: str, n_classes: int) -> float | None:
    """Score of guessing, where it does not depend on the data.

    Examples
    --------
    >>> chance_of("balanced_accuracy", 4), chance_of("log_loss", 4)
    (0.25, None)
    """
    return {"balanced_accuracy": 1 / n_classes, "macro_auroc": 0.5, "auroc": 0.5}.get(name)


def main_metric(table: pd.DataFrame) -> str:
    """Metric of a table of scores or differences that the verdict is about."""
    there = set(table["metric"])
    return next((name for name in MAIN_METRICS if name in there), str(table["metric"].iloc[0]))


def key_numbers(run: Run) -> list[tuple[str, str, str]]:
    """List (name, number, detail) of what the run rests on."""
    wells, labelled = run.wells, run.wells[run.wells["label"] != ""]
    measured = wells["status"].isin(MEASURED).sum()
    splits = run.predictions[run.predictions["role"] == "out_of_fold"].groupby("split", sort=False)
    folds = [f"{split_label(str(s))}: {part.groupby(['repeat', 'fold']).ngroups} folds" for s, part in splits]
    numbers = [
        ("plates", count(wells[PLATE].nunique()), ""),
        ("wells", count(len(wells)), f"{count(len(labelled))} labelled, {count(measured)} measured"),
    ]
    if "n_fields" in wells:
        numbers.append(("fields", count(wells["n_fields"].fillna(0).sum()), ""))
    if "n_cells" in wells and wells["n_cells"].notna().any():  # not where nothing was segmented
        cells = wells.loc[wells["status"].isin(MEASURED), "n_cells"].fillna(0)
        numbers.append(("cells", count(cells.sum()), f"median {count(np.median(cells) if len(cells) else 0)} a well"))
    junk = len(run.classes) - len(run.answers)
    numbers += [
        ("classes", count(len(run.classes)), f"{junk} of them junk" if junk else ""),
        ("splits", count(len(splits)), ", ".join(folds)),
    ]
    return [*numbers, ("seed", seed_of(run) or DASH, "" if seed_of(run) else "not stated in the run's folder")]


def warnings_of(run: Run) -> list[str]:
    """List what a reader should know before quoting the verdict."""
    labelled = run.labelled()
    few = ", ".join(f"{name} ({labelled.get(name, 0)})" for name in run.classes if labelled.get(name, 0) < FEW_WELLS)
    notes = [f"Few labelled wells a class: {few}. Intervals over so few wells are rough."] if few else []
    notes += [*_junk_notes(run), *_unscored_notes(run), *_layout_notes(run)]
    notes += [*_control_notes(run), *_calibration_notes(run), *_configuration_notes(run), *run.messages]
    if run.scores is not None and "note" in run.scores:
        whole = run.scores[run.scores["class"] == ""]
        told = whole["note"].value_counts().drop("", errors="ignore")
        notes += [f"{n} of {len(whole)} scores have {note}." for note, n in told.items()]
    lost = run.wells[run.wells["status"].isin(["partial", "quarantined", "missing"])]["status"].value_counts()
    if len(lost):
        text = ", ".join(f"{n} {name}" for name, n in lost.items())
        notes.append(f"Of {len(run.wells)} wells, {text}; they are listed with their reasons below.")
    return [*notes, *_empty_notes(run)]


def _empty_notes(run: Run) -> list[str]:
    """Name the wells without a cell, and say what the scores are without them."""
    if "n_cells" not in run.wells:
        return []
    empty = run.wells[run.wells["status"].isin(MEASURED) & (run.wells["n_cells"] == 0)]
    if empty.empty:
        return []
    names = f"{len(empty)} ({', '.join(empty[WELL].head(8))})"
    notes = [f"Wells without a cell: {names}. What looks at cells answers with its training prior there."]
    if (table := run.scores_with_cells) is not None:
        name = main_metric(table)
        rows = table[(table["class"] == "") & (table["metric"] == name)]
        for split, part in rows.groupby("split", sort=False):
            own = part.set_index("contestant").loc[in_order(part["contestant"])].reset_index()
            told = "; ".join(f"{contestant_label(r['contestant'])} {told_score(r)}" for r in records(own))
            notes.append(f"Without them, {metric(name).label} of split {split_label(str(split))} is: {told}.")
    return notes


def _junk_notes(run: Run) -> list[str]:
    """Tell what junk there is: wells that stand in no score, and wells that the first contestant calls junk."""
    junk = [name for name in run.classes if name not in run.answers]
    if not junk:
        return []
    names = ", ".join(junk)
    notes = [f"Wells of {names} are junk and stand in no score: {int(run.wells['label'].isin(junk).sum())}."]
    first = in_order(run.predictions["contestant"])[0]
    for split, part in run.predictions[run.predictions["contestant"] == first].groupby("split", sort=False):
        others = one_row_a_well(part, run.classes)
        others = others[~others["true"].isin(junk)]
        called = others[others["pred"].isin(junk)]
        where = f" ({', '.join(called[WELL].head(8))})" if len(called) else ""
        told = f"{contestant_label(first)} calls {len(called)} of {len(others)} other wells junk{where}"
        notes.append(f"{told}, split {split_label(str(split))}.")
    return notes


def _layout_notes(run: Run) -> list[str]:
    """Tell under which splits the layout of the plates or the number of cells predicts the class."""
    if run.scores is None:
        return []
    name = "macro_auroc" if run.multilabel else "balanced_accuracy"
    named = {one: f"{contestant_label(one)!r}" for one in (*run.places, *run.numbers)} | LAYOUT | COUNTS
    layout, counts = ({one: named[one] for one in part} for part in (run.places, run.numbers))
    chance = 0.5 if run.multilabel else 1 / len(run.answers)
    return confounding(run.scores, chance, name, layout=layout, counts=counts)


def _unscored_notes(run: Run) -> list[str]:
    """Name the wells and classes that stand in no score of a split, with the denominator."""
    if run.folds is None:
        return []
    notes, labelled = [], (run.wells["label"] != "").sum()
    for (split, why), part in unscored(run.folds, run.wells).groupby(["split", "note"], sort=False):
        scored = set(run.predictions.loc[run.predictions["split"] == split, "true"]) - {""}
        lost = sorted(set(part["label"]) - scored)
        classes = f"; nothing is scored of {', '.join(lost)}" if lost else ""
        notes.append(
            f"Split {split_label(str(split))}: {len(part)} of {labelled} labelled wells stand in no score, since {why}"
            f"{classes}."
        )
    return notes


def _calibration_notes(run: Run) -> list[str]:
    """Tell whose probabilities are farther from the truth than chance allows."""
    if run.scores is None:
        return []
    notes = []
    for split, part in run.scores[run.scores["class"] == ""].groupby("split", sort=False):
        values = {(row["contestant"], row["metric"]): float(row["value"]) for row in records(part)}
        pairs = {
            name: (values[name, "calibration_error"], values.get((name, "calibration_limit"), np.inf))
            for name in in_order(part["contestant"])
            if (name, "calibration_error") in values
        }
        told = [
            f"{contestant_label(name)} {number(error, 2)} (limit {number(limit, 2)})"
            for name, (error, limit) in pairs.items()
            if error > limit
        ]
        if told:
            notes.append(
                f"Probabilities that are not to be taken at their word, split {split_label(str(split))}, with their "
                f"calibration error and the limit of 95 % of calibrated contestants: {', '.join(told)}."
            )
    return notes


def _configuration_notes(run: Run) -> list[str]:
    """Tell if some contestants could choose among more configurations than others."""
    if run.tuning is None:
        return []
    tried = run.tuning.groupby("contestant")["configuration"].nunique()
    numbers: dict[int, list[str]] = {}
    for name in in_order(run.predictions["contestant"]):
        numbers.setdefault(int(tried.get(name, 1)), []).append(contestant_label(name))
    if len(numbers) < 2:
        return []
    told = "; ".join(f"{n} for {', '.join(names)}" for n, names in sorted(numbers.items(), reverse=True))
    return [f"Contestants chose among different numbers of configurations: {told}."]


def _control_notes(run: Run) -> list[str]:
    """Tell where the first network is no better than a control; the pair may stand either way round."""
    if run.scores is None or not run.networks:
        return []
    rows, own = (
        run.scores[(run.scores["class"] == "") & (run.scores["metric"] == main_metric(run.scores))],
        run.networks[0],
    )
    notes = []
    for split, part in rows.groupby("split", sort=False):
        score = {row["contestant"]: row for row in records(part)}
        if beaten := [name for name in run.controls if name in score and score[name]["high"] >= score[own]["low"]]:
            names = ", ".join(f"{contestant_label(name)} ({told_score(score[name])})" for name in beaten)
            than = f"{contestant_label(own)} ({told_score(score[own])})"
            notes.append(f"Not clearly below {than}, split {split_label(str(split))}: {names}.")
    return notes


def score_table(scores: pd.DataFrame, by: Sequence[str] = ("contestant",)) -> dict[str, Any]:
    """Arrange scores for the page: a row a contestant, a column a metric, in the order of the table.

    Parameters
    ----------
    scores : DataFrame
        Rows of scores.csv of one split (and one class).
    by : sequence of str
        What a row stands for.

    Returns
    -------
    dict with ``heads`` (metrics in words) and ``rows`` (names, cells)
    """
    metrics = list(dict.fromkeys(scores["metric"]))
    rows = []
    for key, part in scores.groupby(list(by), sort=False):
        values = part.drop_duplicates("metric").set_index("metric")
        cells = [score_cell(values.loc[m]) if m in values.index else None for m in metrics]
        rows.append({"names": key, "cells": cells, "n": number(float(part["n"].max()), 0)})
    place = [list(dict.fromkeys(scores[column])) for column in by[:-1]] + [in_order(scores["contestant"])]
    rows.sort(key=lambda row: [order.index(name) for order, name in zip(place, row["names"], strict=True)])
    return {"heads": [metric(name) for name in metrics], "rows": rows}


def score_cell(row: Any) -> dict[str, str]:
    """One number with its interval, rounded to be read, and in full for the pointer."""
    low, high = float(row.get("low", np.nan)), float(row.get("high", np.nan))
    n = "" if pd.isna(row.get("n", np.nan)) else f"{int(row['n'])} wells"
    unit = "" if pd.isna(row.get("n_unit", np.nan)) else f"{int(row['n_unit'])} {row.get('unit', 'unit')}s resampled"
    full = "; ".join(filter(None, [repr(float(row["value"])), n, unit]))
    return {"value": number(float(row["value"])), "interval": interval(low, high), "full": full, "n": n}


def status_counts(run: Run) -> list[dict[str, Any]]:
    """Count the wells of each status, those that need no word first."""
    counts = run.wells["status"].value_counts()
    names = [*[s for s in STATUS_STYLES if s in counts], *sorted(set(counts.index) - set(STATUS_STYLES))]
    return [{"name": name, "n": int(counts[name]), "style": STATUS_STYLES.get(name, OTHER_STATUS)} for name in names]


def wells_left_out(run: Run) -> list[dict[str, str]]:
    """List every well that is not plainly done, with its messages, or else what its status means."""
    wells = run.wells[run.wells["status"] != "done"]
    rows = []
    for _, well in wells.iterrows():
        style = STATUS_STYLES.get(well["status"], OTHER_STATUS)
        message = str(well.get("messages", "")) or style.meaning
        rows.append(
            {"plate": well[PLATE], "well": well[WELL], "label": well["label"], "status": well["status"], "why": message}
        )
    return sorted(rows, key=lambda row: (row["plate"], well_order(row["well"])))

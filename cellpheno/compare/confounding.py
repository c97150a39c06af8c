"""Can the class be had without looking at a phenotype: what the scores of the controls say of all others."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cellpheno.compare.baselines import fit_predict_categories

PLACE, NUMBER, FEATURES, NETWORK = "place", "number", "features", "network"  # what a contestant looks at
LAYOUT = {
    "position": "the position on the plate",
    "plate": "the plate",
    "week": "the week",
    "batch": "the batch",
    "week_position": "week and position",
    "plate_position": "plate and position",
}  # words for controls that know where a well stands and nothing of its cells; others are called by their name
COUNTS = {"cell_count": "the number of cells"}


def looks_at(baseline: Callable[..., Any]) -> str:
    """What a baseline looks at: a well's place, numbers such as its count of cells, or features of its cells.

    Examples
    --------
    >>> looks_at(functools.partial(fit_predict_categories, columns=["Metadata_Row"]))
    'place'
    >>> looks_at(lambda train, test, columns=("Metadata_Count_Cells",): None)
    'number'
    """
    if isinstance(baseline, functools.partial) and baseline.func is fit_predict_categories:
        return PLACE
    parameter = inspect.signature(baseline).parameters.get("columns")
    columns = () if parameter is None else parameter.default
    return NUMBER if columns and all(str(c).startswith("Metadata_") for c in columns) else FEATURES


def confounding(
    scores: pd.DataFrame,
    chance: float,
    metric: str = "balanced_accuracy",
    *,
    layout: Mapping[str, str] = LAYOUT,
    counts: Mapping[str, str] = COUNTS,
) -> list[str]:
    """Tell, in sentences for the report, under which splits a score is no evidence of a phenotype.

    A control is above chance if its interval is, or without one its value by a tenth.

    Parameters
    ----------
    scores : DataFrame
        As from `cellpheno.compare.statistics.scores`.
    chance : float
        What guessing scores.
    metric : str
        Of the whole; higher is better.
    layout : mapping of contestant to words
        Controls that know only where a well stands: above chance, the layout predicts the class.
    counts : mapping of contestant to words
        Controls that know one number of a well.

    Returns
    -------
    list of str
        A sentence a split and control above chance, and one a contestant that is above chance under such a split and
        not under another.

    Examples
    --------
    >>> table = pd.DataFrame({"contestant": ["plate"], "split": "by_well", "metric": "balanced_accuracy",
    ...                       "class": "", "value": 0.9, "low": 0.8, "high": 0.95})
    >>> confounding(table, 0.5)[0]  # doctest: +ELLIPSIS
    'Split by well: the plate alone predicts the class, balanced accuracy 0.90 [0.80, 0.95], guessing 0.50. So a ...'
    """
    rows = scores[(scores["metric"] == metric) & (scores["class"] == "")]
    table = {(str(row["split"]), str(row["contestant"])): row for row in rows.to_dict("records")}
    splits, told = list(dict.fromkeys(rows["split"])), []
    alarmed = []
    for split in splits:
        for name, words in {**layout, **counts}.items():
            row = table.get((split, name))
            if row is None or not _above(row, chance):
                continue
            figures = f"{metric.replace('_', ' ')} {_figures(row)}, guessing {chance:.2f}"
            where = f"Split {_words(split)}: {words} alone predicts the class, {figures}."
            if name in layout:
                alarmed.append(split)
                told.append(f"{where} So a score under this split is no evidence of a phenotype.")
            else:
                told.append(f"{where} So a score may owe to that number; look for what goes beyond it.")
    others = [name for name in dict.fromkeys(rows["contestant"]) if name not in layout]
    for split in dict.fromkeys(alarmed):
        for strict in (s for s in splits if s not in alarmed):
            told += _falls(table, others, split, strict, chance)
    return told


def _falls(
    table: Mapping[tuple[str, str], Mapping[Any, Any]], contestants: list[str], loose: str, strict: str, chance: float
) -> list[str]:
    """Contestants that are above chance under one split and not under the other."""
    told = []
    for name in contestants:
        first, second = table.get((loose, name)), table.get((strict, name))
        if first is None or second is None or not _above(first, chance) or _above(second, chance):
            continue
        told.append(
            f"{name} scores {_figures(first)} under split {_words(loose)} and {_figures(second)} under split "
            f"{_words(strict)}, where the layout does not help: there it is not told from guessing, so nothing shows "
            "that it knows more than the layout."
        )
    return told


def _above(row: Mapping[Any, Any], chance: float) -> bool:
    low = float(row["low"])
    return float(row["value"]) > chance + 0.1 if np.isnan(low) else low > chance


def _figures(row: Mapping[Any, Any]) -> str:
    bounds = "no interval" if np.isnan(float(row["low"])) else f"{row['low']:.2f}, {row['high']:.2f}"
    return f"{row['value']:.2f} [{bounds}]"


def _words(split: str) -> str:
    return split.replace("_", " ")

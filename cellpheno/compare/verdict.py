"""From a difference with its interval and its p to a verdict, and to a sentence that can be quoted."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cellpheno.compare.metrics import LOWER_IS_BETTER

AHEAD, BEHIND, NO_DIFFERENCE = "ahead", "behind", "no evidence of a difference"


def verdict(row: Mapping[Hashable, Any], level: float) -> str:
    """Whether a row of differences tells a lead at this level: ``ahead``, ``behind`` or no evidence of either."""
    if not (row["p_holm"] < level and (row["low"] > 0 or row["high"] < 0)):
        return NO_DIFFERENCE
    better = (row["value"] < 0) == (row["metric"] in LOWER_IS_BETTER)
    return AHEAD if better else BEHIND


def note_with_reason(row: Mapping[Hashable, Any], level: float) -> str:
    """Note of a difference, with what stands against a lead where p alone would tell one."""
    note = str(row["note"])
    if not row["p"] < level or verdict(row, level) != NO_DIFFERENCE:
        return note
    reasons = [note] if note else []
    least = 0.5 ** (row["n_unit"] - 1)  # all swapped one way, or the other
    if row["low"] <= 0 <= row["high"]:
        also = ", which reckons with other training wells," if row["spread"] > 1 else ""
        reasons.append(f"the interval{also} holds zero")
    if least >= level:
        reasons.append(f"of {row['n_unit']} units too few swaps are possible, the least p is {least:.3f}")
    elif row["p_holm"] >= level:
        reasons.append(f"with ties counted whole and corrected for the number of contestants p is {row['p_holm']:.3f}")
    return "; ".join(reasons)


def verdict_sentence(difference: "pd.Series[float] | dict[str, object]", split: str = "") -> str:
    """One row of `differences` as a sentence to quote, with the name of the split where it is given.

    Examples
    --------
    >>> row = {"contestant": "mil", "reference": "engineered", "metric": "balanced_accuracy", "value": 0.04,
    ...        "low": 0.01, "high": 0.07, "p": 0.012, "n": 110, "n_unit": 110, "unit": "well", "verdict": "ahead"}
    >>> verdict_sentence(row)
    'mil is ahead of engineered by 0.04 [0.01, 0.07] balanced accuracy over 110 wells (p = 0.012).'
    >>> verdict_sentence({**row, "n_unit": 18, "unit": "compound", "p_holm": 0.024}, "by treatment").split("over ")[1]
    '110 wells, 18 compounds (split by treatment; p = 0.024, Holm-corrected).'
    """
    row = dict(difference)
    value, low, high = (float(str(row[key])) for key in ("value", "low", "high"))
    behind, less_is_better = row["verdict"] == BEHIND, row["metric"] in LOWER_IS_BETTER
    if row["verdict"] != NO_DIFFERENCE and behind != less_is_better:  # "behind by 0.04", not by -0.04
        value, low, high = -value, -high, -low
    names = {
        "macro_auroc": "macro AUROC",
        "mean_average_precision": "mAP",
        "macro_f1": "macro F1",
        "log_loss": "log loss (less is better)",
        "brier": "Brier score (less is better)",
    }
    metric = names.get(str(row["metric"]), str(row["metric"]).replace("_", " "))
    bounds = "[no interval]" if np.isnan(low) else f"[{_plain(low)}, {_plain(high)}]"
    units = "" if row["unit"] == "well" else f", {row['n_unit']} {row['unit']}s"
    p = float(str(row.get("p_holm", row["p"])))
    small = ("p < 0.001" if p < 0.001 else f"p = {p:.3f}") + (", Holm-corrected" if "p_holm" in row else "")
    where = f"split {split}; " if split else ""
    figures = f"{_plain(value)} {bounds} {metric} over {row['n']} wells{units} ({where}{small})."
    if row["verdict"] == NO_DIFFERENCE:
        least = float(str(row.get("detectable", "nan")))
        power = "" if np.isnan(least) else f" A difference of {_plain(least)} would have been shown 4 times in 5."
        if least > 1 and not less_is_better:  # of scores from 0 to 1
            power = " Over so few, no difference would have been shown 4 times in 5."
        if row.get("note") and not low <= 0 <= high:  # else the interval shows why
            power += f" No lead is told: {row['note']}."
        return f"No evidence of a difference between {row['contestant']} and {row['reference']}: {figures}{power}"
    return f"{row['contestant']} is {row['verdict']}{'' if behind else ' of'} {row['reference']} by {figures}"


def _plain(value: float) -> str:
    """Two decimals, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"

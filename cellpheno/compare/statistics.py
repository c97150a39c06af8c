"""How good each contestant is, how sure that is, and whether one is ahead of another.

All contestants of a split are scored on the same wells and the same resamples, so that their differences are paired;
how the intervals are made is told in `cellpheno.compare.resampling`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from cellpheno.compare.metrics import (
    LOWER_IS_BETTER,
    Floats,
    auroc_rows,
    average_precision_rows,
    count_metrics,
    log_losses,
    log_odds,
    metrics_for,
    score,
    tallies,
    truth_table,
)
from cellpheno.compare.resampling import (
    Contest,
    Resamples,
    contests,
    fraction_interval,
    generator,
    most_units,
    no_interval,
    percentiles,
    positive_interval,
    resample,
    unit_name,
)
from cellpheno.errors import InputError

AHEAD, BEHIND, NO_DIFFERENCE = "ahead", "behind", "no evidence of a difference"


def scores(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    *,
    unit: str = "well",
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    seed: int,
    multilabel: bool = False,
    junk: Sequence[str] = (),
) -> pd.DataFrame:
    """Score every contestant on every split, with intervals.

    Parameters
    ----------
    predictions : DataFrame
        The prediction table; rows of the role ``out_of_fold`` count.
    classes : sequence of str
    unit : str
        What is resampled: ``well``, or a column of ``predictions`` such as ``Metadata_Plate``.
    n_bootstrap : int
    confidence : float
    seed : int
    multilabel : bool
        A well may have several classes.
    junk : sequence of str
        Classes that are no answer: their wells are left out, and of the others it is scored what is said of the other
        classes, as if these were all.

    Returns
    -------
    DataFrame
        ``contestant, split, metric, class, value, low, high, n, n_junk, n_unit, unit, note``: the metrics of
        `cellpheno.compare.metrics.score`, those of the whole with an empty class. Areas and average precisions are of
        a class against the rest, and means over the classes. ``n_junk`` wells were left out. Without an interval
        ``low`` and ``high`` are nan and ``note`` says why.

    Raises
    ------
    InputError
        If columns are missing, classes are unknown, or contestants of a split were scored on different wells.
    """
    rows = []
    for contest in contests(predictions, classes, unit, multilabel, junk):
        draws = resample(contest, unit, n_bootstrap, seed)
        for contestant, logits in contest.logits.items():
            result = score(logits, contest.truth, draws.weights)
            columns: list[tuple[str, int | None, Floats]]
            columns = [(metric, None, values) for metric, values in result.overall.items()]
            for metric, table in result.per_class.items():
                columns += [(metric, k, table[:, k]) for k in range(len(contest.classes))]
            for metric, k, values in columns:
                low, high, note = _bounds(metric, k, values, draws, confidence)
                row = (contestant, contest.split, metric, "" if k is None else contest.classes[k], values[0], low, high)
                rows.append((*row, len(contest.truth), contest.n_junk, draws.n_units, unit_name(unit), note))
    names = ["contestant", "split", "metric", "class", "value", "low", "high", "n", "n_junk", "n_unit", "unit", "note"]
    return pd.DataFrame(rows, columns=names)


def differences(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    *,
    reference: str,
    unit: str = "well",
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    seed: int,
    multilabel: bool = False,
    junk: Sequence[str] = (),
) -> pd.DataFrame:
    """Compare every other contestant with a reference on the same wells.

    The interval resamples the same units for both. ``p`` is from a paired permutation test: the two contestants'
    predictions are swapped unit by unit at random (for the area under the ROC curve, Bandos et al. 2005,
    doi:10.1002/sim.2149, and for average precision their ranks); ties count half (mid-p). A contestant is "ahead" or
    "behind" only if ``p`` is below 1 - confidence and the interval leaves out zero.

    Parameters
    ----------
    predictions, classes, unit, n_bootstrap, confidence, seed, multilabel, junk
        As in `scores`.
    reference : str
        A contestant.

    Returns
    -------
    DataFrame
        ``contestant, reference, split, metric, value, low, high, p, n, n_unit, unit, verdict, note``; ``value`` is
        contestant minus reference, also for ``log_loss``, where less is better.

    Raises
    ------
    InputError
        As `scores`, or if the reference has no predictions in a split.
    """
    rows = []
    for contest in contests(predictions, classes, unit, multilabel, junk):
        if reference not in contest.logits:
            raise InputError(f"split {contest.split}: no contestant {reference!r}; there are {list(contest.logits)}")
        draws = resample(contest, unit, n_bootstrap, seed)
        base = score(contest.logits[reference], contest.truth, draws.weights).overall
        for contestant, logits in contest.logits.items():
            if contestant == reference:
                continue
            own = score(logits, contest.truth, draws.weights).overall
            swapped = _swapped(contest, logits, contest.logits[reference], n_bootstrap, seed)
            for metric in metrics_for(contest.truth):
                gap = own[metric] - base[metric]
                note = no_interval(gap[1:], draws)
                low, high = (np.nan, np.nan) if note else percentiles(gap[1:], draws, confidence)
                p = _mid_p(swapped[metric])
                verdict = _verdict(metric, gap[0], low, high, p, 1 - confidence)
                row = (contestant, reference, contest.split, metric, gap[0], low, high, p)
                rows.append((*row, len(contest.truth), draws.n_units, unit_name(unit), verdict, note))
    names = ["contestant", "reference", "split", "metric", "value", "low", "high", "p", "n", "n_unit", "unit"]
    return pd.DataFrame(rows, columns=[*names, "verdict", "note"])


def verdict_sentence(difference: "pd.Series[float] | dict[str, object]") -> str:
    """One row of `differences` as a sentence to quote.

    Examples
    --------
    >>> row = {"contestant": "mil", "reference": "engineered", "metric": "balanced_accuracy", "value": 0.04,
    ...        "low": 0.01, "high": 0.07, "p": 0.012, "n": 110, "n_unit": 110, "unit": "well", "verdict": "ahead"}
    >>> verdict_sentence(row)
    'mil is ahead of engineered by 0.04 [0.01, 0.07] balanced accuracy over 110 wells (p = 0.012).'
    """
    row = dict(difference)
    value, low, high, p = (float(str(row[key])) for key in ("value", "low", "high", "p"))
    behind, less_is_better = row["verdict"] == BEHIND, row["metric"] in LOWER_IS_BETTER
    if row["verdict"] != NO_DIFFERENCE and behind != less_is_better:  # "behind by 0.04", not by -0.04
        value, low, high = -value, -high, -low
    names = {
        "macro_auroc": "macro AUROC",
        "mean_average_precision": "mAP",
        "macro_f1": "macro F1",
        "log_loss": "log loss (less is better)",
    }
    metric = names.get(str(row["metric"]), str(row["metric"]).replace("_", " "))
    bounds = "[no interval]" if np.isnan(low) else f"[{_plain(low)}, {_plain(high)}]"
    units = "" if row["unit"] == "well" else f", {row['n_unit']} {row['unit']}s"
    small = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    figures = f"{_plain(value)} {bounds} {metric} over {row['n']} wells{units} ({small})."
    if row["verdict"] == NO_DIFFERENCE:
        return f"No evidence of a difference between {row['contestant']} and {row['reference']}: {figures}"
    return f"{row['contestant']} is {row['verdict']}{'' if behind else ' of'} {row['reference']} by {figures}"


def _bounds(
    metric: str, k: int | None, values: Floats, draws: Resamples, confidence: float
) -> tuple[float, float, str]:
    """Interval of one score (first of the values), and why there is none."""
    value, drawn = float(values[0]), values[1:]
    if note := no_interval(drawn, draws):
        return np.nan, np.nan, note
    if metric in LOWER_IS_BETTER:
        return *positive_interval(value, drawn, draws, confidence), ""
    most = most_units(metric, value, k, draws)
    return *fraction_interval(value, drawn, most, draws, confidence), ""


def _swapped(contest: Contest, own: Floats, base: Floats, n_permutations: int, seed: int) -> dict[str, Floats]:
    """Differences (1 + R,) of each metric when the two contestants are swapped unit by unit; first unswapped."""
    rng, truth = generator(seed, "swap", contest.split), contest.truth
    flips = rng.random((1 + n_permutations, contest.unit.max() + 1)) < 0.5
    flips[0] = False
    swap = flips[:, contest.unit]  # (1 + R, n)
    n, n_classes = own.shape
    pair = [tallies(logits, truth) for logits in (own, base)]  # (n, 3 K) each
    moved = (swap @ (pair[1] - pair[0])).reshape(-1, 3, n_classes)
    totals = [one.sum(axis=0).reshape(3, n_classes) for one in pair]
    left, right = count_metrics(totals[0] + moved), count_metrics(totals[1] - moved)
    gaps = {name: left[name] - right[name] for name in left}
    gaps["log_loss"] = np.where(swap, -1.0, 1.0) @ (log_losses(own, truth) - log_losses(base, truth)) / n
    positive, odds = truth_table(truth, n_classes), [log_odds(logits, truth.ndim == 2) for logits in (own, base)]
    for name, of in (("macro_auroc", auroc_rows), ("mean_average_precision", average_precision_rows)):
        each = []
        for k in range(n_classes):
            a, b = (rankdata(one[:, k]) for one in odds)
            each.append(of(np.where(swap, b, a), positive[:, k]) - of(np.where(swap, a, b), positive[:, k]))
        gaps[name] = np.mean(each, axis=0)
    return gaps


def _mid_p(gaps: Floats) -> float:
    """Two-sided p of the first value among all of them, ties counting half."""
    if not np.isfinite(gaps[0]):
        return np.nan
    size = np.abs(gaps)
    return float(((size > size[0] + 1e-12).mean() + (size >= size[0] - 1e-12).mean()) / 2)


def _verdict(metric: str, value: float, low: float, high: float, p: float, level: float) -> str:
    if not (p < level and (low > 0 or high < 0)):
        return NO_DIFFERENCE
    better = value < 0 if metric in LOWER_IS_BETTER else value > 0
    return AHEAD if better else BEHIND


def _plain(value: float) -> str:
    """Two decimals, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"

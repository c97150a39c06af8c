"""How good each contestant is, how sure that is, and whether one is ahead of another.

All contestants of a split are scored on the same wells and the same resamples, so that their differences are paired;
how they are drawn is told in `cellpheno.compare.resampling`, how intervals are made in `cellpheno.compare.intervals`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cellpheno.compare.calibration import calibration_error, calibration_limit
from cellpheno.compare.intervals import (
    detectable_difference,
    fraction_interval,
    gap_bounds,
    least_detectable,
    most_units,
    no_interval,
    positive_interval,
    untold,
)
from cellpheno.compare.metrics import (
    LOWER_IS_BETTER,
    OF_ANSWERS,
    Flags,
    Floats,
    metrics_for,
    score,
)
from cellpheno.compare.paired_tests import holm, mcnemar, mid_p, swapped_gaps, whole_p
from cellpheno.compare.resampling import (
    Contest,
    Resamples,
    contests,
    generator,
    resample,
    unit_name,
    units_apart,
    units_mistaken,
)
from cellpheno.compare.strict_splits import LEAKY, LEAKY_NOTE
from cellpheno.compare.verdict import note_with_reason, verdict
from cellpheno.errors import InputError

DIFFERENCE_COLUMNS = ["contestant", "reference", "split", "metric", "value", "low", "high", "p", "p_whole", "p_holm"]
DIFFERENCE_COLUMNS += ["p_mcnemar", "detectable", "n", "n_unit", "unit", "verdict", "note"]


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
        a class against the rest, and means over the classes; where a split scores some classes only, over those, and
        ``note`` says which are lacking. ``n_junk`` wells were left out. Without an interval ``low`` and ``high`` are
        nan and ``note`` says why. ``calibration_error`` has no interval, since it is not 0 for perfect probabilities
        over few wells: beside it stands ``calibration_limit``, below which 95 % of perfectly calibrated contestants
        stay.

    Raises
    ------
    InputError
        If columns are missing, classes are unknown, or contestants of a split were scored on different wells.
    """
    rows = []
    for contest in contests(predictions, classes, unit, multilabel, junk):
        draws = resample(contest, unit, n_bootstrap, seed)
        over, mark = scored_classes(draws), _mark(contest, draws, contest.classes)
        for contestant, logits in contest.logits.items():
            result = score(logits, contest.truth, draws.weights, over)
            wrong = units_mistaken(contest, logits)
            columns: list[tuple[str, int | None, Floats]]
            columns = [(metric, None, values) for metric, values in result.overall.items()]
            for metric, table in result.per_class.items():
                columns += [(metric, k, table[:, k]) for k in range(len(contest.classes))]
            for metric, k, values in columns:
                low, high, note = _bounds(metric, k, values, draws, wrong[k], confidence)
                note = note or (mark if k is None or LEAKY_NOTE in mark else "")
                row = (contestant, contest.split, metric, "" if k is None else contest.classes[k], values[0], low, high)
                rows.append((*row, len(contest.truth), contest.n_junk, draws.n_units, unit_name(unit), note))
            for metric, value in _calibration(contest, contestant, seed).items():
                row = (contestant, contest.split, metric, "", value, np.nan, np.nan)
                note = draws.note or (LEAKY_NOTE if LEAKY_NOTE in mark else "")
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

    The interval resamples the same units for both and, after a cross-validation, reckons with other training wells
    (`cellpheno.compare.resampling.fold_spread`). ``p`` is of the models as they were fitted, from a paired permutation
    test: the two contestants' predictions are swapped unit by unit at random (for the area under the ROC curve, Bandos
    et al. 2005, doi:10.1002/sim.2149, and for average precision their ranks); ties count half (mid-p), in ``p_whole``
    whole. ``p_holm`` is ``p_whole`` corrected for the number of contestants that are compared with the reference (Holm
    1979, Scand J Stat 6, 65). A contestant is "ahead" or "behind" only if ``p_holm`` is below 1 - confidence and the
    interval leaves out zero: so equals are told apart in 5 % of contests at most; where ``p`` is below 1 - confidence
    and no lead is told, ``note`` says why. ``p_mcnemar`` is McNemar's exact test on the wells that one of the two gets
    right, where each well is a unit of its own and has one class. ``detectable`` is the difference that would have been
    shown with a chance of 80 %, from the standard error of the resamples, as much larger as the folds ask.

    Parameters
    ----------
    predictions, classes, unit, n_bootstrap, confidence, seed, multilabel, junk
        As in `scores`.
    reference : str
        A contestant.

    Returns
    -------
    DataFrame
        ``contestant, reference, split, metric, value, low, high, p, p_whole, p_holm, p_mcnemar, detectable, n, n_unit,
        unit, verdict, note``; ``value`` is contestant minus reference, also for ``log_loss`` and ``brier``, where less
        is better.

    Raises
    ------
    InputError
        As `scores`, or if the reference has no predictions in a split.
    """
    tables = []
    for contest in contests(predictions, classes, unit, multilabel, junk):
        if reference not in contest.logits:
            raise InputError(f"split {contest.split}: no contestant {reference!r}; there are {list(contest.logits)}")
        draws = resample(contest, unit, n_bootstrap, seed)
        others = [contestant for contestant in contest.logits if contestant != reference]
        rows = [row for other in others for row in _compared(contest, draws, other, reference, confidence, seed)]
        tables.append(pd.DataFrame(rows, columns=list(rows[0]) if rows else [*DIFFERENCE_COLUMNS, "spread"]))
    table = pd.concat(tables, ignore_index=True).assign(unit=unit_name(unit))
    table["p_holm"] = table.groupby(["split", "metric"], sort=False)["p_whole"].transform(lambda p: holm(p.to_numpy()))
    facts = table.to_dict("records")
    table["verdict"] = [verdict(row, 1 - confidence) for row in facts]
    table["note"] = [note_with_reason(row, 1 - confidence) for row in facts]
    return table[DIFFERENCE_COLUMNS]


def _compared(
    contest: Contest, draws: Resamples, contestant: str, reference: str, confidence: float, seed: int
) -> list[dict[str, Any]]:
    """Rows of one contestant against the reference, a metric each."""
    own, base = contest.logits[contestant], contest.logits[reference]
    over = scored_classes(draws)
    left, right = (score(logits, contest.truth, draws.weights, over).overall for logits in (own, base))
    swapped = swapped_gaps(contest, own, base, len(draws.weights) - 1, seed, over)
    n_apart = units_apart(contest, own, base)[None]
    rows = []
    for metric in metrics_for(contest.truth):
        gap = left[metric] - right[metric]
        note = no_interval(gap[1:], draws)
        leaky = LEAKY_NOTE if contest.split.startswith(LEAKY) else ""
        most = most_units(metric, float(right[metric][0]), None, draws)
        low, high = (np.nan, np.nan) if note else gap_bounds(metric, gap, most[0], n_apart, draws, confidence)
        row: dict[str, Any] = {
            "contestant": contestant,
            "reference": reference,
            "split": contest.split,
            "metric": metric,
        }
        row |= {"value": gap[0], "low": low, "high": high, "p": mid_p(swapped[metric])}
        row |= {"p_whole": whole_p(swapped[metric]), "spread": draws.spread}
        row["p_mcnemar"] = (
            mcnemar(own, base, contest.truth.astype(np.intp)) if _wells_alone(metric, contest) else np.nan
        )
        row["detectable"] = np.nan if note else _detectable(metric, gap[1:], most, n_apart, draws, confidence)
        rows.append({**row, "n": len(contest.truth), "n_unit": draws.n_units, "note": note or leaky})
    return rows


def _detectable(
    metric: str, drawn: Floats, most: tuple[float, float], n_apart: int, draws: Resamples, confidence: float
) -> float:
    """Difference that would have been told; of scores from 0 to 1 no less than the doubt, or so many wells show."""
    found = detectable_difference(drawn, draws, confidence)
    if metric in LOWER_IS_BETTER:
        return found
    doubt = untold(most[0], n_apart if metric in OF_ANSWERS else draws.n_units, draws, confidence)
    return float(np.fmax(found, max(doubt, least_detectable(most[1], draws, confidence))))


def _wells_alone(metric: str, contest: Contest) -> bool:
    """Whether each well is right or wrong by itself, so that McNemar's test holds."""
    alone = len(np.unique(contest.unit)) == len(contest.unit)
    return metric == "balanced_accuracy" and contest.truth.ndim == 1 and alone


def _bounds(
    metric: str, k: int | None, values: Floats, draws: Resamples, n_mistaken: int, confidence: float
) -> tuple[float, float, str]:
    """Interval of one score (first of the values), and why there is none."""
    value, drawn = float(values[0]), values[1:]
    if note := no_interval(drawn, draws):
        return np.nan, np.nan, note
    if metric in LOWER_IS_BETTER:
        return *positive_interval(value, drawn, draws, confidence), ""
    most = most_units(metric, value, k, draws)
    return *fraction_interval(value, drawn, most, n_mistaken, draws, confidence), ""


def scored_classes(draws: Resamples) -> Flags:
    """Classes (K,) of which a split scores a well."""
    scored: Flags = draws.per_class > 0
    return scored


def _mark(contest: Contest, draws: Resamples, classes: Sequence[str]) -> str:
    """Tell what a reader must know of all scores of a split: classes that are lacking, dishonest folds."""
    over = scored_classes(draws)
    lost = [name for name, there in zip(classes, over, strict=True) if not there]
    marks = [LEAKY_NOTE] if contest.split.startswith(LEAKY) else []
    if lost:
        marks.append(f"means over {int(over.sum())} of {len(over)} classes, without {', '.join(lost)}")
    return "; ".join(marks)


def _calibration(contest: Contest, contestant: str, seed: int) -> dict[str, float]:
    logits, rng = contest.logits[contestant], generator(seed, "calibration", contest.split)
    return {
        "calibration_error": calibration_error(logits, contest.truth),
        "calibration_limit": calibration_limit(logits, contest.truth.ndim == 2, rng),
    }

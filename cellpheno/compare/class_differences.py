"""On which classes one contestant is better than another: described with intervals, not tested."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cellpheno.compare.intervals import gap_bounds, most_units, no_interval
from cellpheno.compare.metrics import score
from cellpheno.compare.resampling import Contest, Resamples, contests, resample, unit_name, units_apart
from cellpheno.compare.statistics import scored_classes

METRICS = ("recall", "auroc")
COLUMNS = ["contestant", "reference", "split", "metric", "class", "value", "low", "high", "n", "n_unit", "unit", "note"]


def class_differences(
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
    """Compare every contestant with a reference class by class, on the resamples of the whole.

    Parameters
    ----------
    predictions, classes, reference, unit, n_bootstrap, confidence, seed, multilabel, junk
        As in `cellpheno.compare.statistics.differences`.

    Returns
    -------
    DataFrame
        ``contestant, reference, split, metric, class, value, low, high, n, n_unit, unit, note``: ``value`` is the
        contestant's recall (or area under the ROC curve, class against rest) minus the reference's, ``n`` and
        ``n_unit`` are the wells and units of the class. So many comparisons would need a correction to tell a lead, so
        none is told.
    """
    parts = []
    for contest in contests(predictions, classes, unit, multilabel, junk):
        draws = resample(contest, unit, n_bootstrap, seed)
        others = [contestant for contestant in contest.logits if contestant != reference]
        rows = [row for other in others for row in _by_class(contest, draws, other, reference, confidence)]
        parts.append(pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "unit"]))
    return pd.concat(parts, ignore_index=True).assign(unit=unit_name(unit))[COLUMNS]


def _by_class(
    contest: Contest, draws: Resamples, contestant: str, reference: str, confidence: float
) -> Iterator[tuple[Any, ...]]:
    """Rows of one contestant against the reference, a metric and class each."""
    own, base = contest.logits[contestant], contest.logits[reference]
    over, n_apart = scored_classes(draws), units_apart(contest, own, base)
    left, right = (score(logits, contest.truth, draws.weights, over).per_class for logits in (own, base))
    for metric in METRICS:
        for k in map(int, np.flatnonzero(over)):
            gap = left[metric][:, k] - right[metric][:, k]
            most = most_units(metric, float(right[metric][0, k]), k, draws)[0]
            note = no_interval(gap[1:], draws)
            bounds = (np.nan, np.nan) if note else gap_bounds(metric, gap, most, n_apart[k], draws, confidence)
            n, n_unit = int(draws.wells_per_class[k]), int(draws.per_class[k])
            yield contestant, reference, contest.split, metric, contest.classes[k], gap[0], *bounds, n, n_unit, note

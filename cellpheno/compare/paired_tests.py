"""Is one contestant ahead of another on the same wells: permutation and McNemar tests, and their correction."""

import numpy as np
from scipy.stats import binomtest, rankdata

from cellpheno.compare.metrics import (
    Flags,
    Floats,
    Ints,
    areas_of_places,
    count_metrics,
    log_odds,
    tallies,
    truth_table,
    well_losses,
)
from cellpheno.compare.resampling import Contest, generator


def swapped_gaps(
    contest: Contest, own: Floats, base: Floats, n_permutations: int, seed: int, over: Flags
) -> dict[str, Floats]:
    """Differences (1 + R,) of each metric when the two contestants are swapped unit by unit; first unswapped.

    All ways to swap are gone through where they are no more than ``n_permutations``, so that p is exact.
    """
    truth = contest.truth
    flips = _flips(int(contest.unit.max()) + 1, n_permutations, generator(seed, "swap", contest.split))
    swap = flips[:, contest.unit]  # (1 + R, n)
    n, n_classes = own.shape
    pair = [tallies(logits, truth) for logits in (own, base)]  # (n, 3 K) each
    moved = (swap @ (pair[1] - pair[0])).reshape(-1, 3, n_classes)
    totals = [one.sum(axis=0).reshape(3, n_classes) for one in pair]
    left, right = (count_metrics(counts[..., over]) for counts in (totals[0] + moved, totals[1] - moved))
    gaps = {name: left[name] - right[name] for name in left}
    losses = [well_losses(logits, truth) for logits in (own, base)]
    for name in losses[0]:
        gaps[name] = np.where(swap, -1.0, 1.0) @ (losses[0][name] - losses[1][name]) / n
    positive, odds = truth_table(truth, n_classes), [log_odds(logits, truth.ndim == 2) for logits in (own, base)]
    each = []
    for k in np.flatnonzero(over):
        a, b = np.unique(np.stack([rankdata(one[:, k]) for one in odds]), return_inverse=True)[1].reshape(2, -1)
        areas = [areas_of_places(np.where(swap, *two), positive[:, k]) for two in ((b, a), (a, b))]
        each.append([first - second for first, second in zip(*areas, strict=True)])
    gaps["macro_auroc"], gaps["mean_average_precision"] = np.mean(each, axis=0)
    return gaps


def _flips(n_units: int, n_permutations: int, rng: np.random.Generator) -> Flags:
    """Which units are swapped (1 + R, n_units), first none: every way there is, or so many at random."""
    if 2**n_units <= n_permutations:
        every: Flags = (np.arange(2**n_units)[:, None] >> np.arange(n_units)) % 2 == 1
        return every
    flips: Flags = rng.random((1 + n_permutations, n_units)) < 0.5
    flips[0] = False
    return flips


def mid_p(gaps: Floats) -> float:
    """Two-sided p of the first value among all of them, ties counting half."""
    if not np.isfinite(gaps[0]):
        return np.nan
    size = np.abs(gaps)
    return float(((size > size[0] + 1e-12).mean() + (size >= size[0] - 1e-12).mean()) / 2)


def whole_p(gaps: Floats) -> float:
    """Two-sided p of the first value among all of them, ties counting whole: never too small.

    Examples
    --------
    >>> whole_p(np.array([2.0, -2.0, 1.0, 0.0]))
    0.5
    """
    size = np.abs(gaps)
    return float((size >= size[0] - 1e-12).mean()) if np.isfinite(gaps[0]) else float("nan")


def holm(p: Floats) -> Floats:
    """Correct p values for their number, step by step from the smallest; nan is left out.

    References
    ----------
    Holm 1979, Scandinavian Journal of Statistics 6, 65

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: int(np.isfinite(p).sum())]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def mcnemar(own: Floats, base: Floats, truth: Ints) -> float:
    """Two-sided p of McNemar's exact test on the wells that one of two contestants gets right; logits (n, K).

    References
    ----------
    McNemar 1947, Psychometrika 12, 153, doi:10.1007/BF02295996

    Examples
    --------
    >>> mcnemar(np.eye(2)[[0] * 6], np.eye(2)[[1] * 6], np.zeros(6, dtype=np.intp))
    0.03125
    """
    right, other = own.argmax(axis=1) == truth, base.argmax(axis=1) == truth
    won, lost = int((right & ~other).sum()), int((other & ~right).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0

"""From the resamples of a score to its interval, and to the difference that would have been told.

Few units widen intervals by Student's t (Hesterberg 2015, doi:10.1080/00031305.2015.1089789); over hardly any mistakes,
or hardly any unit that tells two contestants apart, the resamples know too little, and what so few units can know at
best takes their place.
"""

import numpy as np
from scipy.stats import beta, norm
from scipy.stats import t as student

from cellpheno.compare.metrics import LOWER_IS_BETTER, OF_ANSWERS, Floats
from cellpheno.compare.resampling import Resamples

TELLING = 3  # clusters with mistakes, or in which two contestants differ, that tell how alike their wells are


def no_interval(draws: Floats, resamples: Resamples) -> str:
    """Say why the draws of a score give no interval; "" if they do."""
    if resamples.note:
        return resamples.note
    undefined = not np.isfinite(draws).mean() >= 0.9
    return "no interval: undefined in more than a tenth of the resamples" if undefined else ""


def difference_interval(values: Floats, resamples: Resamples, confidence: float) -> tuple[float, float]:
    """Interval of a difference, the first of ``values``, from its draws, the others.

    Over larger units than wells it is Student's t on the standard error of the draws, since the tails of a few units'
    resamples are too short; over wells the percentiles, stretched about the value as t is wider than the normal.
    Either is as many times wider as the folds ask (``resamples.spread``).

    Examples
    --------
    >>> six = Resamples(np.ones((1, 60)), 6, *[np.full(2, 6.0)] * 3, 5, "")
    >>> low, high = difference_interval(np.r_[0.1, np.tile([-0.1, 0.3], 50)], six, 0.95)
    >>> round(low, 3), round(high, 3)  # 0.1 and 2.571 times 0.2
    (-0.414, 0.614)
    """
    tail, value = (1 - confidence) / 2, float(values[0])
    draws, quantile = values[1:][np.isfinite(values[1:])], float(student.ppf(tail, resamples.degrees))
    if resamples.n_units < resamples.weights.shape[1]:
        half = -quantile * resamples.spread * float(draws.std())
        return value - half, value + half
    stretch = resamples.spread * quantile / float(norm.ppf(tail))
    low, high = np.quantile(draws, [tail, 1 - tail])
    return value + stretch * (float(low) - value), value + stretch * (float(high) - value)


def gap_bounds(
    metric: str, gap: Floats, most: float, n_apart: int, draws: Resamples, confidence: float
) -> tuple[float, float]:
    """Interval of a difference, of scores from 0 to 1 at most 1; where few units tell two apart, doubt is left."""
    low, high = difference_interval(gap, draws, confidence)
    if metric in LOWER_IS_BETTER:
        return low, high
    if np.ptp(gap[np.isfinite(gap)]) <= 1e-12:
        n_apart = 0
    elif metric not in OF_ANSWERS:
        n_apart = draws.n_units  # ranks of all wells tell them apart
    value, doubt = float(gap[0]), untold(most, n_apart, draws, confidence)
    return max(min(low, value - doubt), -1.0), min(max(high, value + doubt), 1.0)


def untold(n: float, n_apart: int, resamples: Resamples, confidence: float) -> float:
    """How far a difference of two fractions may be from its value though few resamples, or none, tell the two apart.

    It is half of Jeffreys' interval of the share of ``n`` units that tell the two apart, where none was seen. With the
    second and third of the ``n_apart`` units that do it falls to 0: from there on the resamples know.

    Examples
    --------
    >>> one_model = Resamples(np.ones((1, 20)), 20, *[np.full(2, 10.0)] * 3, 18, "")
    >>> [round(untold(20.0, n_apart, one_model, 0.95), 3) for n_apart in (0, 1, 2, 3)]
    [0.117, 0.117, 0.059, 0.0]
    """
    tail = (1 - confidence) / 2
    none_seen = float(beta.ppf(1 - tail, 0.5, n / _less_known(resamples, tail) ** 2 + 0.5))
    return (1 - _known(n_apart)) * resamples.spread * none_seen


def least_detectable(n: float, resamples: Resamples, confidence: float, power: float = 0.8) -> float:
    """Smallest difference of two fractions that could be told at best, whatever was seen.

    A difference d needs a share d at least of n wells that tell the two apart, whose mean has a standard error of
    sqrt(d (1 - d) / n), as if all wells were independent: where few were seen to disagree, the resamples know of less.

    Examples
    --------
    >>> one_model = Resamples(np.ones((1, 20)), 20, *[np.full(2, 10.0)] * 3, 18, "")
    >>> round(least_detectable(20.0, one_model, 0.95), 3)
    0.305
    """
    square = (resamples.spread * _errors_to_tell(resamples, confidence, power)) ** 2
    return square / (n + square)


def detectable_difference(draws: Floats, resamples: Resamples, confidence: float, power: float = 0.8) -> float:
    """Smallest difference that would be told from 0 with this power, given the standard error of the resamples.

    Nan where all resamples agree: no difference was seen to vary.

    Examples
    --------
    >>> many = Resamples(np.ones((1, 2)), 1000, *[np.full(2, 500.0)] * 3, 998, "")
    >>> round(detectable_difference(np.array([-0.1, 0.1] * 500), many, 0.95), 3)  # (1.96 + 0.84) 0.1
    0.28
    """
    error = resamples.spread * float(np.std(draws[np.isfinite(draws)]))
    if error < 1e-12:
        return float("nan")
    return error * _errors_to_tell(resamples, confidence, power)


def _errors_to_tell(resamples: Resamples, confidence: float, power: float) -> float:
    """Standard errors that a difference has to measure to be told from 0 with this power."""
    return float(student.ppf((1 + confidence) / 2, resamples.degrees) + student.ppf(power, resamples.degrees))


def fraction_interval(
    value: float, draws: Floats, most: tuple[float, float], n_mistaken: int, resamples: Resamples, confidence: float
) -> tuple[float, float]:
    """Jeffreys' interval on the effective number of units: for scores from 0 to 1.

    The effective number is that of a plain proportion with the variance of the draws, less where these come from few
    units, and at best that of wells which are all independent (second of ``most``). Mistakes within one unit, or none,
    do not tell how alike the wells of a unit are: then it is the number of units at most (first of ``most``). From
    there it rises to its own with the second and third of the ``n_mistaken`` units that hold a mistake.

    References
    ----------
    Brown, Cai, DasGupta 2001, doi:10.1214/ss/1009213286; Franco et al. 2019, doi:10.1093/jssam/smy019

    Examples
    --------
    >>> never_wrong = Resamples(np.ones((1, 20)), 20, *[np.full(2, 10.0)] * 3, 18, "")
    >>> low, high = fraction_interval(1.0, np.ones(100), (20.0, 20.0), 0, never_wrong, 0.95)
    >>> round(low, 3), high
    (0.883, 1.0)
    """
    variance = float(np.var(draws[np.isfinite(draws)]))
    tail = (1 - confidence) / 2
    few = _less_known(resamples, tail)
    n = units = most[0] / few**2
    if variance > 1e-12:
        drawn = min(most[1], value * (1 - value) / variance / few**2)
        n = drawn - (1 - _known(n_mistaken)) * max(drawn - units, 0.0)
    low, high = beta.ppf([tail, 1 - tail], value * n + 0.5, (1 - value) * n + 0.5)
    return (0.0 if value == 0 else float(low)), (1.0 if value == 1 else float(high))


def _known(n_units: int) -> float:
    """How much so many units tell of how alike the wells of a unit are: 0 one or none, 1 `TELLING` or more."""
    return min(max(n_units - 1, 0) / (TELLING - 1), 1.0)


def _less_known(resamples: Resamples, tail: float) -> float:
    """How many times wider an interval is over these units than over as many as there are wells."""
    n_wells = resamples.weights.shape[1]
    return float(student.ppf(tail, resamples.degrees) / student.ppf(tail, n_wells - 1))


def positive_interval(value: float, draws: Floats, resamples: Resamples, confidence: float) -> tuple[float, float]:
    """Student's t on the logarithm: for losses, which are above 0 and skewed.

    The error of the logarithm is that of the draws over the value (the delta method): logarithms of draws that miss
    the few wells with a loss would stretch the interval beyond all bounds.
    """
    error = float(draws[np.isfinite(draws)].std() / value) if value else 0.0
    half = float(student.ppf((1 + confidence) / 2, resamples.degrees)) * error
    return value * float(np.exp(-half)), value * float(np.exp(half))


def most_units(metric: str, value: float, k: int | None, resamples: Resamples) -> tuple[float, float]:
    """Effective number of units of a score at best, and of wells, as if they were independent and classes alike.

    Parameters
    ----------
    metric : str
    value : float
        The score.
    k : int or None
        Class, None for a mean over classes.
    resamples : Resamples

    Returns
    -------
    tuple of float
        Units, then wells, of the class for its recall and its average precision; the harmonic number for means over
        classes; for areas under the ROC curve that of Hanley and McNeil's variance.

    References
    ----------
    Hanley, McNeil 1982, Radiology 143, 29, doi:10.1148/radiology.143.1.7063747; Boyd, Eng, Page 2013,
    doi:10.1007/978-3-642-40994-3_29 (average precision as a proportion of the positives)
    """
    wells, n_wells = resamples.wells_per_class, resamples.weights.shape[1]
    of_units = _effective(metric, value, k, resamples.per_class, resamples.rest)
    of_wells = _effective(metric, value, k, wells, n_wells - wells)
    return of_units, of_wells


def _effective(metric: str, value: float, k: int | None, own: Floats, rest: Floats) -> float:
    """Effective number from how many are of each class (K,) and how many are not."""
    there = own > 0  # classes that a split can score
    own, rest = (part[there] if k is None else part[k : k + 1] for part in (own, rest))
    if "auroc" not in metric:
        return float(len(own) ** 2 / np.sum(1 / own))
    rest = np.maximum(rest, 1.0)
    a = min(max(value, 1 - value), 1 - 1e-6)  # the limit at 1
    first, second = a / (2 - a) - a**2, 2 * a**2 / (1 + a) - a**2
    variance = (a * (1 - a) + (own - 1) * first + (rest - 1) * second) / (own * rest)
    # The areas of two classes are one and the same; those of more are less and less alike.
    return float(a * (1 - a) / variance.mean() * max(len(own) - 1, 1))

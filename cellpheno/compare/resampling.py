"""Wells resampled, or larger units such as plates or compounds; never cells.

Wells that were predicted in several repeats count once, with the mean logit over the repeats.

Of each stratum of m units, m - 1 are drawn with replacement and weighted m / (m - 1), which gives a mean its unbiased
variance (Rao, Wu 1988, doi:10.1080/01621459.1988.10478591). Strata are the classes, or for larger units and for wells
of several classes the sets of classes that a unit holds; sets that one unit alone holds are one stratum together.
Few units widen intervals by Student's t (Hesterberg 2015, doi:10.1080/00031305.2015.1089789).

Contestants of a cross-validation learned from training wells that the folds share, and how lucky these were no draw of
held-out wells can know (Bengio, Grandvalet 2004, JMLR 5, 1089). Hence differences have the error of the draws times
sqrt(1 + K / (K - 1)) over K folds (`fold_spread`).
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import beta, norm
from scipy.stats import t as student

from cellpheno.classes import membership, unknown_classes
from cellpheno.compare.metrics import Flags, Floats, Ints, mistaken, truth_table
from cellpheno.compare.predictions import OUT_OF_FOLD, mean_over_repeats
from cellpheno.errors import InputError
from cellpheno.names import OBJECT, PLATE, WELL, row_keys

MIN_UNITS = 5  # fewer clusters say nothing about how clusters vary
TELLING = 3  # clusters with mistakes, or in which two contestants differ, that tell how alike their wells are


class Contest(NamedTuple):
    """One split: the same n wells for every contestant."""

    split: str
    truth: Ints | Flags  # (n,) index of the class; (n, K) whether a well has it, where it may have several
    logits: dict[str, Floats]  # contestant: (n, K)
    unit: Ints  # (n,) index of the resampled unit
    classes: list[str]  # K of them, without junk
    n_junk: int  # wells left out, since their class is junk
    n_folds: int = 1  # of one repeat; 1: all wells were predicted by the same models


class Resamples(NamedTuple):
    """Weights of the wells, the plain score's ones first, and what stands against an interval ("" if nothing)."""

    weights: Floats  # (1 + R, n)
    n_units: int
    per_class: Floats  # (K,) units that hold the class
    wells_per_class: Floats  # (K,) wells of the class
    rest: Floats  # (K,) units, or of larger units their classes, that are other than the class
    degrees: int  # degrees of freedom
    note: str
    spread: float = 1.0  # errors of a difference over those of the draws


def contests(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    unit: str,
    multilabel: bool = False,
    junk: Sequence[str] = (),
) -> list[Contest]:
    """Take the out-of-fold predictions apart by split, and see that contestants were scored on the same wells."""
    rows = predictions[predictions["role"] == OUT_OF_FOLD]
    unknown = unknown_classes(rows["true"], classes, multilabel)
    faults = [f"true class {name!r}: the classes are {list(classes)}" for name in unknown]
    if unit != "well" and unit not in predictions:
        faults.append(f"unit {unit!r}: wanted 'well' or a column of the predictions, such as 'Metadata_Plate'")
    if faults or rows.empty:
        raise InputError(*(sorted(faults) or ["predictions: no row of the role out_of_fold to score"]))
    is_junk = rows["true"].isin(list(junk))
    n_junk = rows[is_junk].drop_duplicates(["split", *row_keys(rows.columns)]).groupby("split").size()
    rows, answers = rows[~is_junk], [name for name in classes if name not in junk]
    means = mean_over_repeats(rows, answers)
    columns = [f"logit_{name}" for name in answers]  # without those of junk the rest is renormalised
    found, keys = [], row_keys(means.columns)
    for split, table in means.groupby("split", sort=True):
        logits: dict[str, Floats] = {}
        first = pd.DataFrame()
        for contestant, own in table.groupby("contestant", sort=True):
            wells = own[[*keys, "true"]].reset_index(drop=True)
            first = wells if first.empty else first
            if not wells.equals(first):
                n, other = len(wells), len(first)
                raise InputError(f"split {split}: {contestant} was scored on other wells ({n}) than the rest ({other})")
            logits[str(contestant)] = own[columns].to_numpy(np.float64)
        unit_of: Ints = np.arange(len(first), dtype=np.intp)
        if unit == "well" and OBJECT in keys:  # rows are cells: their whole wells are drawn
            unit_of = np.asarray(first.groupby([PLATE, WELL], sort=False).ngroup(), dtype=np.intp)
        elif unit != "well":
            names = rows[rows["split"] == split].drop_duplicates(keys)[[*keys, unit]] if unit not in keys else first
            named = first.merge(names, on=keys, how="left") if unit not in keys else first
            unit_of = pd.factorize(named[unit], use_na_sentinel=False)[0].astype(np.intp)
        held = membership(first["true"], answers, multilabel)  # (n, K)
        truth = held if multilabel else held.argmax(axis=1)
        n_folds = int(rows[rows["split"] == split].groupby("repeat")["fold"].nunique().max())
        found.append(Contest(str(split), truth, logits, unit_of, answers, int(n_junk.get(split, 0)), n_folds))
    return found


def generator(seed: int, *what: str) -> np.random.Generator:
    """Random numbers that depend on the seed and on what they are for."""
    return np.random.default_rng([seed, *(zlib.crc32(word.encode()) for word in what)])


def resample(contest: Contest, unit: str, n_bootstrap: int, seed: int) -> Resamples:
    """Draw units within strata; the head of this file says how."""
    rng, n = generator(seed, "bootstrap", contest.split), len(contest.truth)
    units, n_classes = np.unique(contest.unit), next(iter(contest.logits.values())).shape[1]
    positive = truth_table(contest.truth, n_classes)
    held = [tuple(np.flatnonzero(positive[contest.unit == u].any(axis=0)).tolist()) for u in units]
    alike = Counter(held)
    strata: dict[object, list[int]] = {}
    for u, classes in zip(units, held, strict=True):
        strata.setdefault(classes if alike[classes] > 1 else "alone", []).append(int(u))
    if contest.truth.ndim == 2 and len(strata) > 1 and len(strata.get("alone", "..")) < 2:
        max(strata.values(), key=len).extend(strata.pop("alone"))  # one rare set of classes is no class with one well
    weights = np.ones((1 + n_bootstrap, n))
    for members in strata.values():
        if (m := len(members)) < 2:
            continue
        drawn = rng.multinomial(m - 1, np.full(m, 1 / m), size=n_bootstrap) * (m / (m - 1))  # (R, m)
        place = np.full(units.max() + 1, -1)
        place[members] = np.arange(m)
        here = np.flatnonzero(place[contest.unit] >= 0)
        weights[1:, here] = drawn[:, place[contest.unit[here]]]
    note = ""
    if (unit != "well" or len(units) < n) and len(units) < MIN_UNITS:
        note = f"no interval: {len(units)} {unit_name(unit)}s, {MIN_UNITS} or more are wanted"
    elif min(map(len, strata.values())) < 2:
        note = f"no interval: a class with one {unit_name(unit)}"
    per_class = np.array([sum(k in classes for classes in held) for k in range(n_classes)], dtype=np.float64)
    rest = len(units) - per_class if contest.truth.ndim == 2 else per_class.sum() - per_class
    wells = positive.sum(axis=0).astype(np.float64)
    degrees, spread = len(units) - len(strata), fold_spread(contest.n_folds)
    return Resamples(weights, len(units), per_class, wells, rest, degrees, note, spread)


def fold_spread(n_folds: int) -> float:
    """Error of a difference after a cross-validation, over that of the same wells predicted by one model each.

    After Nadeau and Bengio (2003, doi:10.1023/A:1024068626366): the variance of the mean over K folds is not 1 / K of
    that between folds but 1 / K + n_test / n_train, where n_test / n_train is 1 / (K - 1).

    Parameters
    ----------
    n_folds : int
        Folds of one repeat; 1 where all wells were predicted by one model, of which alone is spoken then.

    Examples
    --------
    >>> fold_spread(5), fold_spread(1)
    (1.5, 1.0)
    """
    return float(np.sqrt(1 + n_folds / (n_folds - 1))) if n_folds > 1 else 1.0


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

    A difference d needs a share d at least of n units that tell the two apart, whose mean has a standard error of
    sqrt(d (1 - d) / n): where few units were seen to disagree, the resamples know of less.

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


def units_mistaken(contest: Contest, logits: Floats) -> dict[int | None, int]:
    """Count the units that hold a well of which something wrong is said: of each class, by its index; None: at all."""
    wrong = mistaken(logits, contest.truth)  # (n, K)
    found: dict[int | None, int] = {k: len(np.unique(contest.unit[own])) for k, own in enumerate(wrong.T)}
    return {**found, None: len(np.unique(contest.unit[wrong.any(axis=1)]))}


def units_apart(contest: Contest, own: Floats, other: Floats) -> int:
    """Count the units that hold a well of which one contestant says something wrong that the other does not."""
    apart = (mistaken(own, contest.truth) != mistaken(other, contest.truth)).any(axis=1)
    return len(np.unique(contest.unit[apart]))


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


def unit_name(unit: str) -> str:
    """Word for the resampled unit: ``plate`` for ``Metadata_Plate``."""
    return unit.removeprefix("Metadata_").lower()

"""Wells resampled, or larger units such as plates or compounds; never cells.

Wells that were predicted in several repeats count once, with the mean logit over the repeats.

Of each stratum of m units, m - 1 are drawn with replacement and weighted m / (m - 1), which gives a mean its unbiased
variance (Rao, Wu 1988, doi:10.1080/01621459.1988.10478591). Strata are the classes, or for larger units and for wells
of several classes the sets of classes that a unit holds; sets that one unit alone holds are one stratum together.

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

from cellpheno.classes import membership, unknown_classes
from cellpheno.compare.metrics import Flags, Floats, Ints, mistaken, truth_table
from cellpheno.compare.predictions import OUT_OF_FOLD, mean_over_repeats
from cellpheno.errors import InputError
from cellpheno.names import OBJECT, PLATE, WELL, row_keys

MIN_UNITS = 5  # fewer clusters say nothing about how clusters vary


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
            unit_of = _numbered(named[unit])
        held = membership(first["true"], answers, multilabel)  # (n, K)
        truth = held if multilabel else held.argmax(axis=1)
        n_folds = int(rows[rows["split"] == split].groupby("repeat")["fold"].nunique().max())
        found.append(Contest(str(split), truth, logits, unit_of, answers, int(n_junk.get(split, 0)), n_folds))
    return found


def _numbered(names: pd.Series) -> Ints:
    """Number of each row's unit; a well whose unit has no name, such as a control's compound, is one of its own.

    Examples
    --------
    >>> _numbered(pd.Series(["taxol", "", "taxol", None])).tolist()
    [0, 1, 0, 2]
    """
    named = names.fillna("").astype(str)
    alone = named.where(named != "", [f"\0{i}" for i in range(len(named))])  # no name begins like this
    return np.asarray(pd.factorize(alone)[0], dtype=np.intp)


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


def units_mistaken(contest: Contest, logits: Floats) -> dict[int | None, int]:
    """Count the units that hold a well of which something wrong is said: of each class, by its index; None: at all."""
    return _units_with(mistaken(logits, contest.truth), contest.unit)


def units_apart(contest: Contest, own: Floats, other: Floats) -> dict[int | None, int]:
    """Count the units where one says something wrong that the other does not: of each class; None: at all."""
    apart = mistaken(own, contest.truth) != mistaken(other, contest.truth)  # (n, K)
    return _units_with(apart, contest.unit)


def _units_with(flags: Flags, unit: Ints) -> dict[int | None, int]:
    """Count the units that hold a flagged well: in each column, and in any."""
    found: dict[int | None, int] = {k: len(np.unique(unit[own])) for k, own in enumerate(flags.T)}
    return {**found, None: len(np.unique(unit[flags.any(axis=1)]))}


def unit_name(unit: str) -> str:
    """Word for the resampled unit: ``plate`` for ``Metadata_Plate``."""
    return unit.removeprefix("Metadata_").lower()

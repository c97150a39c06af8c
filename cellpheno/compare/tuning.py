"""Which of a contestant's configurations counts in a fold: chosen on training wells set aside, the same way for all.

A baseline's ``grid`` lists settings that take the place of its classifier's own. Every fold sets aside the same part of
its training wells for all contestants, whole groups where the split holds out groups, and each contestant's best
configuration there is fitted anew on all training wells. No held-out well is looked at.
"""

import functools
import inspect
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.classes import membership
from cellpheno.compare.classifiers import fit_decision
from cellpheno.compare.splits import LABEL, inner_split
from cellpheno.components import describe, refusal
from cellpheno.errors import InputError

Baseline = Callable[..., NDArray[np.float64]]
COLUMNS = [
    *("contestant", "split", "repeat", "fold", "configuration", "settings", "n_inner", "inner_score", "chosen", "note")
]


def fold_seed(seed: int, split: str, repeat: int, fold: int) -> int:
    """Seed of all that is drawn in one fold, the same for every contestant.

    Examples
    --------
    >>> fold_seed(1, "by_well", 0, 0)
    156128986
    """
    return zlib.crc32(f"{seed} {split} {repeat} {fold}".encode())


def configurations(baseline: Baseline) -> list[dict[str, Any]]:
    """Settings of the classifier that a baseline may choose from; one without any where it has no ``grid``.

    Examples
    --------
    >>> configurations(lambda train, test, grid=({"C": 1}, {"C": 10}): None)
    [{'C': 1}, {'C': 10}]
    """
    parameter = inspect.signature(baseline).parameters.get("grid")
    return list(parameter.default) if parameter else [{}]


def check_grids(baselines: Mapping[str, Baseline]) -> None:
    """Refuse a contest in which some may choose from more configurations than others, or that cannot be made.

    Raises
    ------
    InputError
        With all faults: the contestants' grids differ in length, or a setting is none of the classifier's.
    """
    sizes = {name: len(configurations(baseline)) for name, baseline in baselines.items()}
    faults = []
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        faults.append(
            f"configurations to choose from: {told}; give every contestant as many, one at least, in its grid"
        )
    for name, baseline in baselines.items():
        classifier = inspect.signature(baseline).parameters.get("classifier")
        known = list(inspect.signature(classifier.default).parameters) if classifier else []
        for settings in configurations(baseline):
            keys = list(settings) if isinstance(settings, Mapping) else []
            if not isinstance(settings, Mapping) or (classifier and not set(keys) <= set(known)):
                faults.append(f"grid of {name}: {settings} is no setting of its classifier, which takes {known}")
    if faults := faults or _classifier_faults(baselines):
        raise InputError(*dict.fromkeys(faults))


def _classifier_faults(baselines: Mapping[str, Baseline]) -> list[str]:
    """Values that a classifier refuses: some say so only when they are fitted, so each is, on eight made-up wells."""
    x = np.random.default_rng(0).normal(size=(8, 2))
    labels, tried, faults = pd.Series(["a", "b"] * 4), list[Any](), list[str]()
    for name, baseline in baselines.items():
        if (classifier := inspect.signature(baseline).parameters.get("classifier")) is None:
            continue
        for settings in configurations(baseline):
            made = _quick(functools.partial(classifier.default, **settings))
            if (known := describe(made)) in tried:
                continue
            tried.append(known)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                where = f"grid of {name}: {settings}: " if settings else ""
                faults += refusal(lambda classifier: _fit_once(classifier, x, labels), {"classifier": made}, where)
    return faults


def _quick(classifier: Callable[..., Any]) -> Callable[..., Any]:
    """The same classifier with one tree or one round, where it was to have more: only its values are tried."""
    given = inspect.signature(classifier).parameters
    many = {name: given[name].default for name in ("n_estimators", "max_iter", "n_members") if name in given}
    return functools.partial(classifier, **{name: 1 for name, n in many.items() if isinstance(n, int) and n > 1})


def _fit_once(classifier: Callable[..., Any], x: NDArray[np.float64], labels: "pd.Series[str]") -> None:
    if not np.isfinite(fit_decision(classifier, x, labels, ("a", "b"), 0, False)(x)).all():
        raise ValueError("what it says of wells is no number")


def inner_wells(
    train: pd.DataFrame, fraction: float, seed: int, group: str | None, multilabel: bool
) -> tuple[pd.DataFrame, str]:
    """Training wells that are set aside to choose, and why there are none.

    Parameters
    ----------
    train : DataFrame, a row a well
        Labelled wells of a fold's training part, those without cells left out.
    fraction : float
        About how many of them; 0: none.
    seed : int
    group : str, optional
        Column whose values the split holds out as a whole.
    multilabel : bool
        A well may have several classes.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": [f"A{i:02d}" for i in range(1, 9)],
    ...                       "label": ["a"] * 4 + ["b"] * 4, "Metadata_Drug": "d1"})
    >>> len(inner_wells(wells, 0.25, 0, None, False)[0])
    2
    >>> inner_wells(wells, 0.25, 0, "Metadata_Drug", False)[1]
    'the training wells have one Metadata_Drug'
    """
    if not fraction:
        return train.iloc[:0], ""
    if group is not None and train[group].nunique() < 2:
        return train.iloc[:0], f"the training wells have one {group}"
    try:
        return inner_split(train, fraction, seed, group, multilabel), ""
    except InputError as error:  # too few wells or groups: no other wells may be looked at, so nothing is chosen
        return train.iloc[:0], "; ".join(error.faults)


def choose(
    baseline: Baseline, train: pd.DataFrame, inner: pd.DataFrame, why_none: str, classes: Sequence[str], **options: Any
) -> pd.DataFrame:
    """Score every configuration of a baseline on the wells set aside.

    Parameters
    ----------
    baseline : callable
    train : DataFrame, a row a well
        All training wells of a fold.
    inner : DataFrame
        Some of their rows; empty: the first configuration counts.
    why_none : str
        Why it is empty.
    classes : sequence of str
    **options
        Of the baseline: ``seed``, ``multilabel``.

    Returns
    -------
    DataFrame, a row a configuration
        ``configuration, settings, n_inner, inner_score`` (nan: not scored, never chosen before one that is),
        ``chosen``, ``note``. Of equal scores the earlier configuration is chosen.
    """
    grid = configurations(baseline)
    values, note = np.full(len(grid), np.nan), why_none
    if len(inner) and len(grid) > 1:
        rest, faults = train.drop(index=inner.index), list[str]()
        for i in range(len(grid)):
            try:
                logits = baseline(rest, inner, classes=classes, configuration=i, **options)
                values[i] = inner_score(logits, inner[LABEL], classes, bool(options.get("multilabel", False)))
            except InputError as error:  # a class whose wells left without features, a training that diverged
                faults += error.faults
        note = "; ".join(dict.fromkeys(faults))
    best = 0 if np.isnan(values).all() else int(np.nanargmax(values))
    settings = [", ".join(f"{key}={value}" for key, value in entry.items()) or "as configured" for entry in grid]
    about = {"configuration": range(len(grid)), "settings": settings, "n_inner": len(inner), "inner_score": values}
    return pd.DataFrame({**about, "chosen": [i == best for i in range(len(grid))], "note": note})


def inner_score(
    logits: NDArray[np.float64], labels: "pd.Series[str]", classes: Sequence[str], multilabel: bool
) -> float:
    """Balanced accuracy over the classes that are there; with several classes a well the mean of each class's own.

    Examples
    --------
    >>> inner_score(np.array([[1.0, 0], [1, 0], [0, 1]]), pd.Series(["a", "b", "b"]), ["a", "b", "c"], False)
    0.75
    """
    truth = membership(labels, classes, multilabel)  # (n, K)
    if not multilabel:
        right = logits.argmax(axis=1) == truth.argmax(axis=1)
        return float(np.mean([right[own].mean() for own in truth.T if own.any()]))
    right = (logits > 0) == truth
    sides = [[right[side, k].mean() for side in (own, ~own) if side.any()] for k, own in enumerate(truth.T)]
    return float(np.mean([np.mean(own) for own in sides]))

"""Contestants on engineered features, and the controls that a deep model has to beat.

A baseline is a function ``(train, test, *, classes, seed, multilabel) -> logits (n, K)`` on well tables: everything it
learns (selection, scaling, classifier) comes from the training wells of one fold. Wells without cells carry no
information: they are left out of the fitting, and every baseline predicts the training fold's prior for them. With
several classes a well (``multilabel``) one classifier a class answers yes or no.
"""

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import OneHotEncoder

from cellpheno.classes import membership, unknown_classes
from cellpheno.compare.predictions import NEW, OUT_OF_FOLD, prediction_rows, prior_logits, with_untaught
from cellpheno.compare.splits import LABEL
from cellpheno.compare.strict_splits import UNSCORED, training_wells
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL, split_well
from cellpheno.profiles.aggregate import COUNT
from cellpheno.profiles.normalize import Scaling, apply_scaling
from cellpheno.profiles.select import Selection

Baseline = Callable[..., NDArray[np.float64]]


def fit_predict(
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    columns: Sequence[str],
    without: Sequence[str],
    classifier: Callable[[], Any],
    normalize: Callable[[pd.DataFrame], Scaling],
    select: Callable[[pd.DataFrame], Selection],
    clip: float = 10.0,
    classes: Sequence[str],
    seed: int,
    multilabel: bool = False,
) -> NDArray[np.float64]:
    """Fit a classifier on the features of training wells and score test wells.

    Undefined values count as the training median (0 after scaling). If no feature is left by the selection, every
    well gets the prior, as a classifier without features would say.

    Parameters
    ----------
    train, test : DataFrame, a row a well
        Features and ``Metadata_Count_Cells``; ``train`` also has ``label``.
    columns : sequence of str
        Patterns of the features' names, such as ``Cells_Intensity_*``.
    without : sequence of str
        Patterns of those left out again: what says where in the field a cell lies, or which number it got, is no
        phenotype.
    classifier : callable
        Makes a scikit-learn classifier.
    normalize : callable
        Such as `cellpheno.profiles.normalize.fit_robust_z`.
    select : callable
        Such as `cellpheno.profiles.select.select_features`.
    clip : float
        Scaled values beyond this are cut, so that one odd well cannot rule a fold.
    classes : sequence of str
    seed : int
    multilabel : bool
        A well may have several classes.

    Returns
    -------
    array of shape (n, K), float64
        Decision values in the order of ``classes``: linear scores, ``(-d/2, d/2)`` for two classes, or log
        probabilities where the classifier has no decision function. With several classes a well, those of yes minus
        those of no.

    Raises
    ------
    InputError
        If a pattern matches no column or a class has no training well with cells.
    """
    names = [str(c) for c in train.columns if _fits(str(c), columns) and not _fits(str(c), without)]
    if unmatched := [p for p in columns if not any(fnmatchcase(str(c), p) for c in train.columns)]:
        raise InputError(f"columns {unmatched} match nothing in the well table of {train.shape[1]} columns")
    fitted = train[(train[COUNT] > 0) & train[names].notna().any(axis=1)]
    logits = _prior(train[LABEL], len(test), classes, multilabel)  # (n, K)
    known = ((test[COUNT] > 0) & test[names].notna().any(axis=1)).to_numpy()
    kept = list(select(fitted[names]).kept)
    if not kept or not known.any():
        return logits
    scaling = normalize(fitted[kept])

    def matrix(table: pd.DataFrame) -> NDArray[np.float64]:
        scaled = apply_scaling(table, scaling).to_numpy(np.float64)
        return np.where(np.isnan(scaled), 0.0, np.clip(scaled, -clip, clip))

    x, new = matrix(fitted), matrix(test[known])
    logits[known] = _scores(classifier, x, fitted[LABEL], new, classes, seed, multilabel)
    return logits


def fit_predict_categories(
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    columns: Sequence[str],
    classifier: Callable[[], Any],
    classes: Sequence[str],
    seed: int,
    multilabel: bool = False,
) -> NDArray[np.float64]:
    """Fit a classifier on where a well stands, one indicator a value: a control for layout and batch effects.

    Parameters
    ----------
    train, test : DataFrame, a row a well
    columns : sequence of str
        ``Metadata_Row`` and ``Metadata_Column`` (taken from the well's name), or any column such as
        ``Metadata_Plate``. A value that no training well has counts as none.
    classifier : callable
        Makes a scikit-learn classifier.
    classes : sequence of str
    seed : int
    multilabel : bool
        A well may have several classes.

    Returns
    -------
    array of shape (n, K), float64

    Raises
    ------
    InputError
        If a column is missing or a class has no training well with cells.
    """
    places = [_with_position(table) for table in (train, test)]
    if missing := [column for column in columns if column not in places[0]]:
        raise InputError(f"position baseline: the well table has no columns {missing}")
    known, filled = (train[COUNT] != 0).to_numpy(), (test[COUNT] != 0).to_numpy()  # nan: cells were not counted
    logits = _prior(train[LABEL], len(test), classes, multilabel)  # (n, K)
    if filled.any():
        texts = [place[list(columns)].astype(str).to_numpy(dtype=object) for place in places]
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(texts[0][known])
        x, new = encoder.transform(texts[0][known]), encoder.transform(texts[1][filled])
        logits[filled] = _scores(classifier, x, train[LABEL][known], new, classes, seed, multilabel)
    return logits


def baseline_predictions(
    wells: pd.DataFrame,
    features: pd.DataFrame,
    folds: pd.DataFrame,
    baselines: Mapping[str, Baseline],
    classes: Sequence[str],
    seed: int,
    not_trained: Collection[tuple[str, str]] = (),
    multilabel: bool = False,
) -> pd.DataFrame:
    """Out-of-fold predictions of the labelled wells, and predictions of the new ones, for every baseline and split.

    Parameters
    ----------
    wells : DataFrame, a row a well
        ``Metadata_Plate``, ``Metadata_Well``, ``label`` (empty: new).
    features : DataFrame, a row a well
        As from `cellpheno.profiles.aggregate.aggregate`, for every well of ``wells``.
    folds : DataFrame
        As from `cellpheno.compare.splits.assign_folds`.
    baselines : mapping of name to callable
    classes : sequence of str
    seed : int
    not_trained : collection of (plate, well)
        Labelled wells that are predicted but never trained on, such as those that lost a field.
    multilabel : bool
        A well may have several classes.

    Returns
    -------
    DataFrame
        The prediction table.

    Raises
    ------
    InputError
        With all faults: wells without features or fold, folds of unknown wells, labels of unknown classes.
    """
    _check(wells, features, folds, classes, multilabel)
    extra = [column for column in features.columns if column not in wells.columns or column in (PLATE, WELL)]
    table = wells.merge(features[extra], on=[PLATE, WELL], how="left", validate="one_to_one")
    table = table.sort_values([PLATE, WELL])  # a fit may depend on the order of wells in its last bit
    table = table.assign(n_cells=table[COUNT], **{LABEL: table[LABEL].fillna("")})
    table.index = pd.MultiIndex.from_frame(table[[PLATE, WELL]])
    new = table[table[LABEL] == ""]
    several = {"multilabel": True} if multilabel else {}
    spared = table.index.isin(list(not_trained))
    parts: list[pd.DataFrame] = []
    for split, split_folds in folds.groupby("split", sort=False):
        for name, baseline in baselines.items():
            about: dict[str, Any] = {"contestant": name, "split": str(split), "multilabel": multilabel}
            of_new: list[NDArray[np.float64]] = []
            for (repeat, fold), held in _each_fold(split_folds):
                here = table.index.isin(pd.MultiIndex.from_frame(held[[PLATE, WELL]]))
                train = table[training_wells(table, held) & ~spared & (table[LABEL] != "")]
                test = pd.concat([table[here], new])
                model_seed = zlib.crc32(f"{seed} {split} {repeat} {fold}".encode())
                taught = list(classes) if multilabel else [c for c in classes if (train[LABEL] == c).any()]
                logits = baseline(train, test, classes=taught, seed=model_seed, **several)
                logits = with_untaught(logits, taught, classes, len(train))
                place: dict[str, Any] = {"repeat": repeat, "fold": fold, "role": OUT_OF_FOLD}
                parts.append(prediction_rows(table[here], logits[: here.sum()], classes, **place, **about))
                of_new.append(logits[here.sum() :])
            if len(new):
                parts.append(prediction_rows(new, np.mean(of_new, axis=0), classes, role=NEW, **about))
    return pd.concat(parts, ignore_index=True)


def _each_fold(folds: pd.DataFrame) -> Iterator[tuple[tuple[int, int], pd.DataFrame]]:
    """Yield ((repeat, fold), held-out wells) of one split in order."""
    folds = folds[folds["fold"] != UNSCORED]
    numbers = folds[["repeat", "fold"]].drop_duplicates().sort_values(["repeat", "fold"])
    for repeat, fold in numbers.to_numpy(np.int64).tolist():
        yield (repeat, fold), folds[(folds["repeat"] == repeat) & (folds["fold"] == fold)]


def _check(
    wells: pd.DataFrame, features: pd.DataFrame, folds: pd.DataFrame, classes: Sequence[str], multilabel: bool
) -> None:
    keys = [PLATE, WELL]
    faults: list[str] = []
    for what, table in (("wells", wells), ("well features", features)):
        faults += [f"{what}: {p} {w} is listed twice" for p, w in table.loc[table.duplicated(keys), keys].to_numpy()]
    labels = wells[LABEL].fillna("")
    known, measured = set(map(tuple, wells[keys].to_numpy())), set(map(tuple, features[keys].to_numpy()))
    labelled = set(map(tuple, wells.loc[labels != "", keys].to_numpy()))
    faults += [f"well features: no row for {p} {w}; aggregate with the list of wells" for p, w in known - measured]
    for split, rows in folds.groupby("split"):
        held = set(map(tuple, rows[keys].to_numpy()))
        faults += [f"split {split}: {p} {w} has no fold" for p, w in labelled - held]
        faults += [f"split {split}: {p} {w} has a fold but is no labelled well" for p, w in held - labelled]
    faults += [
        f"label {name!r}: the classes are {list(classes)}" for name in unknown_classes(labels, classes, multilabel)
    ]
    if faults:
        raise InputError(*sorted(faults))


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _prior(labels: "pd.Series[str]", n: int, classes: Sequence[str], multilabel: bool) -> NDArray[np.float64]:
    """What is said of wells without a feature (n, K)."""
    counts = membership(labels, classes, multilabel).sum(axis=0)
    return np.tile(prior_logits(counts, len(labels), multilabel), (n, 1))


def _with_position(table: pd.DataFrame) -> pd.DataFrame:
    places = [split_well(str(well)) for well in table[WELL]]
    return table.assign(Metadata_Row=[row for row, _ in places], Metadata_Column=[column for _, column in places])


def _scores(
    classifier: Callable[[], Any],
    x: NDArray[np.float64],
    labels: "pd.Series[str]",
    new: NDArray[np.float64],
    classes: Sequence[str],
    seed: int,
    multilabel: bool,
) -> NDArray[np.float64]:
    """Fit and score: (n, K) in the order of ``classes``."""
    if multilabel:
        return _yes_no_scores(classifier, x, labels, new, classes, seed)
    if lacking := [name for name in classes if not (labels == name).any()]:
        raise InputError(f"a training fold has no well with cells of class {', '.join(map(repr, lacking))}")
    model = classifier()
    seeds = [key for key in model.get_params() if key.rsplit("__", 1)[-1] == "random_state"]
    model.set_params(**dict.fromkeys(seeds, seed))
    model.fit(x, labels.to_numpy(dtype=object).astype(str))
    if hasattr(model, "decision_function"):
        scores = np.asarray(model.decision_function(new), dtype=np.float64)
        scores = np.stack([-scores / 2, scores / 2], axis=1) if scores.ndim == 1 else scores
    else:  # a forest's vote of 0 is no proof: one vote in a thousand
        scores = np.log(np.clip(model.predict_proba(new), 1e-3, None))
    return scores[:, [list(model.classes_).index(name) for name in classes]]


def _yes_no_scores(
    classifier: Callable[[], Any],
    x: NDArray[np.float64],
    labels: "pd.Series[str]",
    new: NDArray[np.float64],
    classes: Sequence[str],
    seed: int,
) -> NDArray[np.float64]:
    """Fit and score one classifier a class, yes against no: (n, K) in the order of ``classes``."""
    truth, scores = membership(labels, classes, True), _prior(labels, len(new), classes, True)
    for k, yes in enumerate(truth.T):
        if yes.any() and not yes.all():  # else there is nothing to tell apart, and the prior stands
            answers = pd.Series(np.where(yes, "yes", "no"), index=labels.index, dtype=object)
            own = _scores(classifier, x, answers, new, ("no", "yes"), seed, False)
            scores[:, k] = own[:, 1] - own[:, 0]
    return scores

"""Contestants on engineered features, and the controls that a deep model has to beat.

A baseline is a function ``(train, test, *, classes, seed, configuration, multilabel) -> logits (n, K)`` on well tables:
all that it learns (selection, scaling, whitening, classifier) comes from the training wells of one fold. Wells without
cells carry no information: they are left out of the fitting, and every baseline predicts the training fold's prior for
them. With several classes a well (``multilabel``) one classifier a class answers yes or no. ``configuration`` is the
entry of its ``grid`` that `cellpheno.compare.tuning` chose.
"""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import OneHotEncoder

from cellpheno.classes import unknown_classes
from cellpheno.compare.classifiers import fit_decision, prior
from cellpheno.compare.importance import Fitted, importance_table, watch_fold
from cellpheno.compare.learning import fewer_wells
from cellpheno.compare.predictions import NEW, OUT_OF_FOLD, prediction_rows, with_untaught
from cellpheno.compare.scaled_features import chosen_columns, known_wells, scaled_features, with_profiles
from cellpheno.compare.splits import LABEL
from cellpheno.compare.strict_splits import each_fold, training_wells
from cellpheno.compare.tuning import COLUMNS, Baseline, choose, fold_seed, inner_wells
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL, split_well
from cellpheno.profiles.aggregate import COUNT
from cellpheno.profiles.normalize import Scaling
from cellpheno.profiles.select import Selection
from cellpheno.profiles.sphere import Sphering, apply_sphering


class Contest(NamedTuple):
    """What the baselines said, and how each came to its configuration."""

    predictions: pd.DataFrame  # the prediction table
    tuning: pd.DataFrame  # a row a contestant, split, repeat, fold and configuration
    features: pd.DataFrame  # how much each contestant rests on each feature; empty where it was not asked


def fit_predict(
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    columns: Sequence[str],
    without: Sequence[str],
    classifier: Callable[..., Any],
    normalize: Callable[[pd.DataFrame], Scaling],
    select: Callable[[pd.DataFrame], Selection],
    sphere: Callable[[NDArray[np.float64]], Sphering] | None = None,
    profiles: Callable[[], pd.DataFrame] | None = None,
    clip: float = 10.0,
    grid: Sequence[Mapping[Any, Any]] = ({},),
    classes: Sequence[str],
    seed: int,
    configuration: int = 0,
    multilabel: bool = False,
    explain: Callable[[Fitted], None] | None = None,
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
    sphere : callable, optional
        Such as `cellpheno.profiles.sphere.fit_sphering`; after the scaling.
    profiles : callable, optional
        Reads features made elsewhere, a row a well, which take the place of the table's own: see
        `cellpheno.profiles.elsewhere.read_profiles`. Wells that it lacks get the prior, whatever their cells.
    clip : float
        Scaled values beyond this are cut, so that one odd well cannot rule a fold.
    grid : sequence of mapping
        Configurations to choose from: settings that take the place of the classifier's own.
    classes : sequence of str
    seed : int
    configuration : int
        The entry of ``grid`` that counts.
    multilabel : bool
        A well may have several classes.
    explain : callable, optional
        Is shown the fitted contestant and the features of the test wells, as `cellpheno.compare.importance` needs them.

    Returns
    -------
    array of shape (n, K), float64
        Decision values in the order of ``classes``: linear scores, ``(-d/2, d/2)`` for two classes, or log
        probabilities where the classifier has no decision function. With several classes a well, those of yes minus
        those of no.

    Raises
    ------
    InputError
        If a pattern matches no column, or fewer than two classes have a training well with cells.
    """
    if profiles is not None:
        train, test = (with_profiles(table, profiles()) for table in (train, test))
    names = chosen_columns(train, columns, without)
    fitted, known = train[known_wells(train, names)], known_wells(test, names)
    logits = prior(train[LABEL], len(test), classes, multilabel)  # (n, K)
    kept = list(select(fitted[names]).kept)
    if not kept or not known.any():
        return logits
    tables = [fitted, test[known]]
    x, new = scaled_features(fitted, tables, kept, normalize=normalize, sphere=None, clip=clip)
    sphering = sphere(x) if sphere is not None else None

    def whitened(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        return scaled if sphering is None else apply_sphering(scaled, sphering)

    configured = functools.partial(classifier, **grid[configuration])
    decide = _taught(configured, whitened(x), fitted[LABEL], classes, seed, multilabel)
    logits[known] = decide(whitened(new))
    if explain is not None:
        explain(Fitted(tuple(kept), x, new, known, lambda scaled: decide(whitened(scaled))))
    return logits


def fit_predict_categories(
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    columns: Sequence[str],
    classifier: Callable[..., Any],
    combined: bool = False,
    grid: Sequence[Mapping[Any, Any]] = ({},),
    classes: Sequence[str],
    seed: int,
    configuration: int = 0,
    multilabel: bool = False,
) -> NDArray[np.float64]:
    """Fit a classifier on where or when a well stands, one indicator a value: a control for layout and batch effects.

    Parameters
    ----------
    train, test : DataFrame, a row a well
    columns : sequence of str
        ``Metadata_Row`` and ``Metadata_Column`` (taken from the well's name), or any column such as
        ``Metadata_Plate``. A value that no training well has counts as none.
    classifier : callable
        Makes a scikit-learn classifier.
    combined : bool
        One indicator a combination of the columns' values, as in a look-up, in place of one a value: where plates of a
        week repeat their layout, week and well together can tell the class though neither does alone.
    grid : sequence of mapping
        Configurations to choose from: settings that take the place of the classifier's own.
    classes : sequence of str
    seed : int
    configuration : int
        The entry of ``grid`` that counts.
    multilabel : bool
        A well may have several classes.

    Returns
    -------
    array of shape (n, K), float64

    Raises
    ------
    InputError
        If a column is missing, or fewer than two classes have a training well with cells.
    """
    places = [_with_position(table) for table in (train, test)]
    if missing := [column for column in columns if column not in places[0]]:
        there = ", ".join(sorted(str(c) for c in places[0] if str(c).startswith("Metadata_")))
        raise InputError(
            f"columns {missing} of a baseline are not in the well table; choose from {there}: "
            "baselines.NAME.columns=[...]"
        )
    known, filled = (train[COUNT] != 0).to_numpy(), (test[COUNT] != 0).to_numpy()  # nan: cells were not counted
    logits = prior(train[LABEL], len(test), classes, multilabel)  # (n, K)
    if filled.any():
        texts = [place[list(columns)].astype(str).to_numpy(dtype=object) for place in places]
        texts = [np.array([["\x1f".join(row)] for row in text], dtype=object) for text in texts] if combined else texts
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(texts[0][known])
        x, new = encoder.transform(texts[0][known]), encoder.transform(texts[1][filled])
        configured = functools.partial(classifier, **grid[configuration])
        logits[filled] = _taught(configured, x, train[LABEL][known], classes, seed, multilabel)(new)
    return logits


def _taught(
    classifier: Callable[[], Any],
    x: NDArray[np.float64],
    labels: "pd.Series[str]",
    classes: Sequence[str],
    seed: int,
    multilabel: bool,
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """`fit_decision` over the classes that some well with features has; the others are never called."""
    taught = list(classes) if multilabel else [name for name in classes if (labels == name).any()]
    if len(taught) < 2:
        raise InputError(
            f"a training fold has wells with cells of class {', '.join(map(repr, taught)) or 'none'} alone"
        )
    decide = fit_decision(classifier, x, labels, taught, seed, multilabel)
    return lambda new: with_untaught(decide(new), taught, classes, len(labels))


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

    Nothing is chosen: the first configuration of each baseline counts. Parameters and faults are those of
    `contest`, of which this is the prediction table.
    """
    return contest(wells, features, folds, baselines, classes, seed, not_trained, multilabel).predictions


def contest(
    wells: pd.DataFrame,
    features: pd.DataFrame,
    folds: pd.DataFrame,
    baselines: Mapping[str, Baseline],
    classes: Sequence[str],
    seed: int,
    not_trained: Collection[tuple[str, str]] = (),
    multilabel: bool = False,
    *,
    tuning: float = 0.0,
    groups: Mapping[str, str | None] | None = None,
    wells_per_class: int | None = None,
    explain: bool = False,
) -> Contest:
    """Fit every baseline in every fold, each with the configuration that is best on training wells set aside.

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
    tuning : float
        Fraction of a fold's training wells that choose the configuration; 0: the first counts.
    groups : mapping of split to column, optional
        What a split holds out as a whole is set aside as a whole.
    wells_per_class : int, optional
        Train on so many wells of each class (`cellpheno.compare.learning.fewer_wells`).
    explain : bool
        Measure how much each contestant rests on each of its features.

    Returns
    -------
    Contest
        ``predictions``, ``tuning`` and ``features``.

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
    table.index = pd.MultiIndex.from_frame(table[[PLATE, WELL]], names=[None, None])
    new = table[table[LABEL] == ""]
    spared = table.index.isin(list(not_trained))
    parts: list[pd.DataFrame] = []
    tried: list[pd.DataFrame] = []
    shown: list[pd.DataFrame] = []
    for split, split_folds in folds.groupby("split", sort=False):
        group = (groups or {}).get(str(split))
        for name, baseline in baselines.items():
            about: dict[str, Any] = {"contestant": name, "split": str(split), "multilabel": multilabel}
            of_new: list[NDArray[np.float64]] = []
            for (_, repeat, fold), held in each_fold(split_folds):
                here = table.index.isin(pd.MultiIndex.from_frame(held[[PLATE, WELL]]))
                model_seed = fold_seed(seed, str(split), repeat, fold)
                train = table[training_wells(table, held) & ~spared & (table[LABEL] != "")]
                train = fewer_wells(train, wells_per_class, model_seed, (train[COUNT] != 0).to_numpy())
                test = pd.concat([table[here], new])
                taught = list(classes) if multilabel else [c for c in classes if (train[LABEL] == c).any()]
                options: dict[str, Any] = {"seed": model_seed, **({"multilabel": True} if multilabel else {})}
                inner, why_none = inner_wells(train[train[COUNT] != 0], tuning, model_seed, group, multilabel)
                rows = choose(baseline, train, inner, why_none, taught, **options)
                best = int(rows["chosen"].to_numpy().argmax())
                options |= {"configuration": best} if best else {}  # without a grid there is none to name
                if explain and "explain" in inspect.signature(baseline).parameters:
                    options["explain"] = watch_fold(shown, test[LABEL], taught, seed=model_seed, **about)
                logits = baseline(train, test, classes=taught, **options)
                logits = with_untaught(logits, taught, classes, len(train))
                place: dict[str, Any] = {"repeat": repeat, "fold": fold}
                tried.append(rows.assign(contestant=name, split=str(split), **place))
                parts.append(
                    prediction_rows(table[here], logits[: here.sum()], classes, role=OUT_OF_FOLD, **place, **about)
                )
                of_new.append(logits[here.sum() :])
            if len(new):
                parts.append(prediction_rows(new, np.mean(of_new, axis=0), classes, role=NEW, **about))
    tuned = pd.concat(tried, ignore_index=True)[COLUMNS]
    return Contest(pd.concat(parts, ignore_index=True), tuned, importance_table(shown))


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


def _with_position(table: pd.DataFrame) -> pd.DataFrame:
    places = [split_well(str(well)) for well in table[WELL]]
    return table.assign(Metadata_Row=[row for row, _ in places], Metadata_Column=[column for _, column in places])

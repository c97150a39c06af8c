"""Contestants on engineered features, and the controls that a deep model has to beat.

A baseline is a function ``(train, test, *, classes, seed, configuration, multilabel) -> logits (n, K)`` on well tables:
all that it learns (selection, scaling, whitening, classifier) comes from the training wells of one fold. Wells without
cells carry no information: they are left out of the fitting, and every baseline predicts the training fold's prior for
them. With several classes a well (``multilabel``) one classifier a class answers yes or no. ``configuration`` is the
entry of its ``grid`` that `cellpheno.compare.tuning` chose.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import OneHotEncoder

from cellpheno.bounds import Range
from cellpheno.compare.classifiers import fit_decision, prior
from cellpheno.compare.importance import Fitted
from cellpheno.compare.scaled_features import chosen_columns, known_wells, scaled_features, with_profiles
from cellpheno.compare.splits import LABEL
from cellpheno.errors import InputError
from cellpheno.names import WELL, split_well
from cellpheno.profiles.normalize import Scaling
from cellpheno.profiles.select import Selection
from cellpheno.profiles.sphere import Sphering, apply_sphering


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
    clip: Annotated[float, Range(0, open_low=True)] = 10.0,
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
    decide = fit_decision(configured, whitened(x), fitted[LABEL], classes, seed, multilabel)
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
        If a column is missing, or fewer than two classes have a training well.
    """
    places = [_with_position(table) for table in (train, test)]
    if missing := [column for column in columns if column not in places[0]]:
        there = ", ".join(sorted(str(c) for c in places[0] if str(c).startswith("Metadata_")))
        raise InputError(
            f"columns {missing} of a baseline are not in the well table; choose from {there}: "
            "baselines.NAME.columns=[...]"
        )
    texts = [place[list(columns)].astype(str).to_numpy(dtype=object) for place in places]
    texts = [np.array([["\x1f".join(row)] for row in text], dtype=object) for text in texts] if combined else texts
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(texts[0])
    x, new = (encoder.transform(text) for text in texts)
    configured = functools.partial(classifier, **grid[configuration])
    return fit_decision(configured, x, train[LABEL], classes, seed, multilabel)(new)


def _with_position(table: pd.DataFrame) -> pd.DataFrame:
    places = [split_well(str(well)) for well in table[WELL]]
    return table.assign(Metadata_Row=[row for row, _ in places], Metadata_Column=[column for _, column in places])

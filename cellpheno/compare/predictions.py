"""The prediction table: a row a well a contestant, joined with everything else on ``Metadata_*``.

Columns: ``contestant, split, repeat, fold, role, Metadata_Plate, Metadata_Well, true, pred, prob_<class>...,
logit_<class>..., n_cells``. ``role`` is ``out_of_fold`` (a labelled well, predicted by the model that never saw it) or
``new`` (an unlabelled well: the mean logit of all fold models, ``repeat`` and ``fold`` -1, ``true`` empty).
With several classes a well (``multilabel``) ``true`` and ``pred`` are labels as in `cellpheno.classes`: ``pred`` names
all classes above 0.5 and is ``(none)`` where there is none, and the probabilities do not sum to 1.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logsumexp, softmax

from cellpheno.classes import called_classes
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL, row_keys

OUT_OF_FOLD, NEW = "out_of_fold", "new"


def prediction_rows(
    wells: pd.DataFrame,
    logits: NDArray[np.float64],
    classes: Sequence[str],
    *,
    contestant: str,
    split: str,
    repeat: int = -1,
    fold: int = -1,
    role: str = OUT_OF_FOLD,
    multilabel: bool = False,
) -> pd.DataFrame:
    """Rows of the prediction table for some wells.

    Parameters
    ----------
    wells : DataFrame, a row a well
        ``Metadata_Plate``, ``Metadata_Well``, ``label`` (empty for new wells), ``n_cells``.
    logits : array of shape (n, K), float
        Decision values in the order of ``classes``; see `probabilities`.
    classes : sequence of str
    contestant, split, role : str
    repeat, fold : int
    multilabel : bool
        A well may have several classes.

    Raises
    ------
    ValueError
        If the shapes disagree or a logit is not finite.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": ["P1"], "Metadata_Well": ["B03"], "label": ["b"], "n_cells": [7]})
    >>> rows = prediction_rows(wells, np.array([[0.0, 1.0]]), ["a", "b"], contestant="mil", split="by_well")
    >>> rows.loc[0, "pred"], round(float(rows.loc[0, "prob_b"]), 3)
    ('b', 0.731)
    """
    logits = np.asarray(logits, dtype=np.float64)  # (n, K)
    if logits.shape != (len(wells), len(classes)):
        raise ValueError(f"{contestant}: logits of shape {logits.shape}, wanted {(len(wells), len(classes))}")
    if not np.isfinite(logits).all():
        bad = wells[WELL].to_numpy()[~np.isfinite(logits).all(axis=1)].tolist()
        raise ValueError(f"{contestant}, split {split}: logits of wells {bad} are not finite")
    chances = probabilities(logits, multilabel)
    rows = {
        **{"contestant": contestant, "split": split, "repeat": repeat, "fold": fold, "role": role},
        **{key: wells[key].to_numpy() for key in row_keys(wells.columns)},
        **{"true": wells["label"].fillna("").to_numpy(), "pred": called_classes(logits, classes, multilabel)},
        **{f"prob_{name}": chances[:, k] for k, name in enumerate(classes)},
        **{f"logit_{name}": logits[:, k] for k, name in enumerate(classes)},
        **{key: wells[key].to_numpy() for key in ("n_cells",) if key in wells},
    }
    return pd.DataFrame(rows, index=pd.RangeIndex(len(wells)))


def probabilities(logits: NDArray[np.float64], multilabel: bool) -> NDArray[np.float64]:
    """Probability of each class (n, K): the softmax of a well's logits, or their sigmoid with several classes a well.

    Examples
    --------
    >>> logits = np.array([[0.0, 0.0, 0.0, 0.0]])
    >>> probabilities(logits, False).tolist(), probabilities(logits, True).tolist()
    ([[0.25, 0.25, 0.25, 0.25]], [[0.5, 0.5, 0.5, 0.5]])
    """
    chances: NDArray[np.float64] = expit(logits) if multilabel else softmax(logits, axis=1)
    return chances


def prior_logits(counts: Sequence[int] | NDArray[np.integer], n_wells: int, multilabel: bool) -> NDArray[np.float64]:
    """Logits (K,) of a well of which nothing is known but how many training wells each class had.

    Each class is counted half a well up, and with several classes a well half a well down too, so that nothing is
    impossible.

    Examples
    --------
    >>> prior_logits([3, 1], 4, False).round(3).tolist(), prior_logits([3, 1], 4, True).round(3).tolist()
    ([0.424, -0.424], [0.847, -0.847])
    """
    yes = np.log(np.asarray(counts) + 0.5)
    prior: NDArray[np.float64] = yes - (np.log(n_wells - np.asarray(counts) + 0.5) if multilabel else yes.mean())
    return prior


def with_untaught(
    logits: NDArray[np.float64], taught: Sequence[str], classes: Sequence[str], n_wells: int
) -> NDArray[np.float64]:
    """Logits (n, K) of all classes from those of the classes that had training wells.

    A strict split can leave a fold without training wells of a class. Each such class gets the probability of half a
    training well, as in `prior_logits`: it is not impossible, and is never called.

    Examples
    --------
    >>> probabilities(with_untaught(np.array([[0.0, 0.0]]), ["a", "c"], ["a", "b", "c"], 9), False).round(3).tolist()
    [[0.474, 0.053, 0.474]]
    """
    whole = np.empty((len(logits), len(classes)))
    whole[:] = (logsumexp(logits, axis=1) + np.log(0.5 / max(n_wells, 1)))[:, None]
    whole[:, [list(classes).index(name) for name in taught]] = logits
    return whole


def mean_over_repeats(predictions: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One row a contestant, split, role and well: the mean logit over repeats.

    Returns
    -------
    DataFrame
        ``contestant, split, role, Metadata_Plate, Metadata_Well, true, logit_<class>...``, sorted by these keys.

    Raises
    ------
    InputError
        If a column is missing, or a well has two true classes.
    """
    keys = ["contestant", "split", "role", *(row_keys(predictions.columns) or [PLATE, WELL])]
    logits = [f"logit_{name}" for name in classes]
    if missing := [column for column in (*keys, "true", *logits) if column not in predictions]:
        raise InputError(f"predictions: no columns {missing}; the classes are {list(classes)}")
    table = predictions.groupby([*keys, "true"], sort=True, as_index=False, observed=True)[logits].mean()
    if (double := table.duplicated(keys)).any():
        raise InputError(*(f"predictions: {w} has two true classes" for w in table.loc[double, WELL].unique()))
    return table

"""Scores of predictions, for many weightings of the wells at once.

A resample is a row of weights over the wells, so that thousands of resamples are a few matrix products.
Axes: R weightings, n wells, K classes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import rankdata

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

METRICS = ("balanced_accuracy", "macro_auroc", "macro_f1", "log_loss")
LOWER_IS_BETTER = frozenset({"log_loss"})


class Scores(NamedTuple):
    """Scores of R weightings: ``overall[metric]`` has shape (R,), ``per_class[metric]`` (R, K)."""

    overall: dict[str, Floats]
    per_class: dict[str, Floats]


def score(logits: Floats, truth: Ints, weights: Floats) -> Scores:
    """All metrics for each row of weights.

    Parameters
    ----------
    logits : array of shape (n, K), float
    truth : array of shape (n,), int, in 0..K-1
    weights : array of shape (R, n), float
        All ones for the plain score.

    Returns
    -------
    Scores
        A class without a well has no recall and no area, and neither has the mean over classes: nan.

    Examples
    --------
    >>> logits = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    >>> plain = score(logits, np.array([0, 0, 1, 1]), np.ones((1, 4)))
    >>> plain.overall["balanced_accuracy"].tolist(), plain.overall["macro_auroc"].tolist()
    ([0.5], [0.75])
    """
    n, n_classes = logits.shape
    one_hot = np.zeros((n, n_classes * n_classes))
    one_hot[np.arange(n), truth * n_classes + logits.argmax(axis=1)] = 1
    counts = (weights @ one_hot).reshape(-1, n_classes, n_classes)  # (R, true, predicted)
    odds = log_odds(logits)
    areas = np.stack([auroc(odds[:, k], truth == k, weights) for k in range(n_classes)], axis=1)  # (R, K)
    overall = count_metrics(counts) | {
        "macro_auroc": areas.mean(axis=1),
        "log_loss": weights @ log_losses(logits, truth) / weights.sum(axis=1),
    }
    return Scores({name: overall[name] for name in METRICS}, {"auroc": areas, "recall": recall(counts)})


def recall(counts: Floats) -> Floats:
    """Fraction of each class that is found: (..., K) from confusion counts (..., true, predicted)."""
    with np.errstate(invalid="ignore"):
        fractions: Floats = np.diagonal(counts, axis1=-2, axis2=-1) / counts.sum(axis=-1)
    return fractions


def count_metrics(counts: Floats) -> dict[str, Floats]:
    """Balanced accuracy and macro F1 (...,) from confusion counts (..., true, predicted)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        f1 = 2 * hits / (counts.sum(axis=-1) + counts.sum(axis=-2))  # (..., K)
    return {"balanced_accuracy": recall(counts).mean(axis=-1), "macro_f1": f1.mean(axis=-1)}


def log_losses(logits: Floats, truth: Ints) -> Floats:
    """Minus the log of the softmax probability of each well's true class: (n,)."""
    losses: Floats = logsumexp(logits, axis=1) - logits[np.arange(len(truth)), truth]
    return losses


def log_odds(logits: Floats) -> Floats:
    """Log odds of each class against the rest (n, K): in the order of its probability, and never saturated."""
    odds = np.empty_like(logits, dtype=np.float64)
    for k in range(logits.shape[1]):
        odds[:, k] = logits[:, k] - logsumexp(np.delete(logits, k, axis=1), axis=1)
    return odds.round(10)  # equal scores stay equal whatever the last bits


def auroc(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Weighted area under the ROC curve: the chance that a positive outranks a negative, ties counting half.

    Parameters
    ----------
    scores : array of shape (n,), float
    positive : array of shape (n,), bool
    weights : array of shape (R, n), float

    Returns
    -------
    array of shape (R,), float64
        nan where a side has no weight.

    Examples
    --------
    >>> auroc(np.array([1.0, 2.0, 2.0]), np.array([False, False, True]), np.ones((1, 3))).tolist()
    [0.75]
    """
    order = np.argsort(scores, kind="stable")
    ranked, is_positive = scores[order], positive[order]
    mass = weights[:, order]
    below = np.zeros((len(weights), len(scores) + 1))
    np.cumsum(mass * ~is_positive, axis=1, out=below[:, 1:])  # negative weight before each place
    first = np.searchsorted(ranked, ranked[is_positive], side="left")
    last = np.searchsorted(ranked, ranked[is_positive], side="right")
    won = (mass[:, is_positive] * (below[:, first] + below[:, last])).sum(axis=1) / 2
    with np.errstate(invalid="ignore"):
        area: Floats = won / (mass[:, is_positive].sum(axis=1) * below[:, -1])
    return area


def auroc_rows(scores: Floats, positive: NDArray[np.bool_]) -> Floats:
    """Area under the ROC curve of each row of scores (R, n) on the same wells: (R,).

    Examples
    --------
    >>> auroc_rows(np.array([[1.0, 2.0, 2.0]]), np.array([False, False, True])).tolist()
    [0.75]
    """
    n_positive = int(positive.sum())
    wins = rankdata(scores, axis=1)[:, positive].sum(axis=1) - n_positive * (n_positive + 1) / 2
    with np.errstate(invalid="ignore"):
        area: Floats = wins / np.float64(n_positive * (len(positive) - n_positive))
    return area

"""Scores of predictions, for many weightings of the wells at once.

A resample is a row of weights over the wells, so that thousands of resamples are a few matrix products.
Axes: R weightings, n wells, K classes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from cellpheno.compare.predictions import probabilities

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Flags = NDArray[np.bool_]

METRICS = ("balanced_accuracy", "macro_auroc", "mean_average_precision", "macro_f1", "log_loss", "brier")
MULTILABEL_METRICS = ("mean_average_precision", "macro_auroc", "macro_f1", "log_loss", "brier")
LOWER_IS_BETTER = frozenset({"log_loss", "brier"})
OF_ANSWERS = frozenset({"balanced_accuracy", "macro_f1", "recall"})  # of what wells are called, not of how surely


class Scores(NamedTuple):
    """Scores of R weightings: ``overall[metric]`` has shape (R,), ``per_class[metric]`` (R, K)."""

    overall: dict[str, Floats]
    per_class: dict[str, Floats]


def score(logits: Floats, truth: Ints | Flags, weights: Floats, over: Flags | None = None) -> Scores:
    """All metrics for each row of weights.

    Parameters
    ----------
    logits : array of shape (n, K), float
    truth : array of shape (n,), int, in 0..K-1; or of shape (n, K), bool
        The class of each well; or whether it has each class, where a well may have several.
    weights : array of shape (R, n), float
        All ones for the plain score.
    over : array of shape (K,), bool, optional
        Classes over which means are taken, where a split can score some only; all by default.

    Returns
    -------
    Scores
        `METRICS` overall, ``auroc, average_precision, recall`` a class; with several classes a well
        `MULTILABEL_METRICS` (a class is called where its logit is above 0), and ``precision`` a class too. A class
        without a well has no recall, no area and no average precision, and neither has the mean over classes: nan.

    Examples
    --------
    >>> logits = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
    >>> plain = score(logits, np.array([0, 0, 1, 1]), np.ones((1, 4)))
    >>> plain.overall["balanced_accuracy"].tolist(), plain.overall["macro_auroc"].tolist()
    ([0.5], [0.75])
    >>> several = score(logits, np.array([[True, True], [False, True], [True, False], [False, True]]), np.ones((1, 4)))
    >>> several.overall["macro_f1"].round(4).tolist(), several.overall["mean_average_precision"].round(4).tolist()
    ([0.9], [0.9583])
    """
    n_classes, odds = logits.shape[1], log_odds(logits, truth.ndim == 2)
    over = np.ones(n_classes, dtype=bool) if over is None else over
    positive = truth_table(truth, n_classes)  # (n, K)
    ranked = {
        name: np.stack([of(odds[:, k], positive[:, k], weights) for k in range(n_classes)], axis=1)
        for name, of in (("auroc", auroc), ("average_precision", average_precision))
    }  # (R, K)
    counts = (weights @ tallies(logits, truth)).reshape(-1, 3, n_classes)
    overall = count_metrics(counts[..., over]) | {
        "macro_auroc": ranked["auroc"][:, over].mean(axis=1),
        "mean_average_precision": ranked["average_precision"][:, over].mean(axis=1),
    }
    for name, losses in well_losses(logits, truth).items():
        overall[name] = weights @ losses / weights.sum(axis=1)
    found = {"recall": recall(counts)} | ({"precision": precision(counts)} if truth.ndim == 2 else {})
    return Scores({name: overall[name] for name in metrics_for(truth)}, ranked | found)


def metrics_for(truth: Ints | Flags) -> tuple[str, ...]:
    """Metrics of the whole for one class a well, or for several."""
    return MULTILABEL_METRICS if truth.ndim == 2 else METRICS


def truth_table(truth: Ints | Flags, n_classes: int) -> Flags:
    """Whether each well has each class (n, K).

    Examples
    --------
    >>> truth_table(np.array([1, 0]), 2).tolist()
    [[False, True], [True, False]]
    """
    return truth.astype(bool) if truth.ndim == 2 else np.arange(n_classes) == truth[:, None]


def tallies(logits: Floats, truth: Ints | Flags) -> Floats:
    """What each well adds to the counts (3, K) of the classes: called rightly, called at all, there. (n, 3 K)."""
    positive, called = truth_table(truth, logits.shape[1]), _called(logits, truth)
    return np.concatenate([called & positive, called, positive], axis=1).astype(np.float64)


def mistaken(logits: Floats, truth: Ints | Flags) -> Flags:
    """Whether each well is called a class that it has not, or not called one that it has: (n, K).

    Examples
    --------
    >>> mistaken(np.array([[2.0, 1.0, 0.0], [0.0, 0.5, 0.0]]), np.array([0, 2])).tolist()
    [[False, False, False], [False, True, True]]
    """
    wrong: Flags = _called(logits, truth) != truth_table(truth, logits.shape[1])
    return wrong


def _called(logits: Floats, truth: Ints | Flags) -> Flags:
    return logits > 0 if truth.ndim == 2 else truth_table(logits.argmax(axis=1), logits.shape[1])


def recall(counts: Floats) -> Floats:
    """Fraction of each class that is found: (..., K) from `tallies` summed over wells, (..., 3, K)."""
    with np.errstate(invalid="ignore"):
        fractions: Floats = counts[..., 0, :] / counts[..., 2, :]
    return fractions


def precision(counts: Floats) -> Floats:
    """Fraction of the wells called so that are of the class: (..., K) from (..., 3, K); 0 where none was called."""
    return counts[..., 0, :] / np.where(counts[..., 1, :] > 0, counts[..., 1, :], 1.0)


def count_metrics(counts: Floats) -> dict[str, Floats]:
    """Balanced accuracy and macro F1 (...,) from `tallies` summed over wells, (..., 3, K)."""
    hits, called, there = (counts[..., i, :] for i in range(3))
    with np.errstate(invalid="ignore"):
        f1 = 2 * hits / (called + there)  # (..., K)
    return {"balanced_accuracy": recall(counts).mean(axis=-1), "macro_f1": f1.mean(axis=-1)}


def log_losses(logits: Floats, truth: Ints | Flags) -> Floats:
    """Surprise (n,) at each well's class, in nats; with several classes a well the mean over the K answers."""
    losses: Floats
    if truth.ndim == 2:
        losses = np.logaddexp(0, np.where(truth, -logits, logits)).mean(axis=1)
    else:
        losses = logsumexp(logits, axis=1) - logits[np.arange(len(truth)), truth]
    return losses


def brier_losses(logits: Floats, truth: Ints | Flags) -> Floats:
    """Squared error (n,) of each well's probabilities, half its sum over the classes, so from 0 to 1.

    With several classes a well the mean over the K answers, each from 0 to 1 too.

    References
    ----------
    Brier 1950, Monthly Weather Review 78, 1

    Examples
    --------
    >>> brier_losses(np.array([[0.0, 0.0], [99.0, 0.0]]), np.array([0, 1])).tolist()
    [0.25, 1.0]
    """
    wrong = probabilities(logits, truth.ndim == 2) - truth_table(truth, logits.shape[1])
    losses: Floats = (wrong**2).mean(axis=1) if truth.ndim == 2 else (wrong**2).sum(axis=1) / 2
    return losses


def well_losses(logits: Floats, truth: Ints | Flags) -> dict[str, Floats]:
    """Metrics that are a mean over wells: what each well adds (n,)."""
    return {"log_loss": log_losses(logits, truth), "brier": brier_losses(logits, truth)}


def log_odds(logits: Floats, multilabel: bool) -> Floats:
    """Log odds of each class (n, K): in the order of its probability, and never saturated.

    With one class a well against the other classes; with several they are the logits.
    """
    odds = np.array(logits, dtype=np.float64)
    for k in range(0 if multilabel else logits.shape[1]):
        odds[:, k] = logits[:, k] - logsumexp(np.delete(logits, k, axis=1), axis=1)
    return odds.round(10)  # equal scores stay equal whatever the last bits


def auroc(scores: Floats, positive: Flags, weights: Floats) -> Floats:
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


def average_precision(scores: Floats, positive: Flags, weights: Floats) -> Floats:
    """Weighted average precision: the mean over the positives of the precision among the wells that score as high.

    Parameters
    ----------
    scores : array of shape (n,), float
    positive : array of shape (n,), bool
    weights : array of shape (R, n), float

    Returns
    -------
    array of shape (R,), float64
        nan where no positive has weight.

    Examples
    --------
    >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]), np.ones((1, 3))).round(4).tolist()
    [0.8333]
    """
    order = np.argsort(-scores, kind="stable")
    ranked, is_positive = -scores[order], positive[order]
    mass = weights[:, order]
    last = np.searchsorted(ranked, ranked[is_positive], side="right") - 1  # the last well that scores as high
    above, right = np.cumsum(mass, axis=1)[:, last], np.cumsum(mass * is_positive, axis=1)[:, last]
    own = mass[:, is_positive]
    share = np.divide(right, above, out=np.zeros_like(right), where=above > 0)  # (R, positives)
    with np.errstate(invalid="ignore"):
        precision: Floats = (own * share).sum(axis=1) / own.sum(axis=1)
    return precision


def areas_of_places(places: Ints, positive: Flags) -> tuple[Floats, Floats]:
    """Area under the ROC curve and average precision of each row of scores on the same wells, by counting.

    Parameters
    ----------
    places : array of shape (R, n), int
        Scores as small whole numbers from 0 on, such as dense ranks; the highest is best, equal ones are ties.
    positive : array of shape (n,), bool

    Returns
    -------
    two arrays of shape (R,), float64
        nan where there is no positive; the area also where there is no negative.

    Examples
    --------
    >>> area, precision = areas_of_places(np.array([[2, 1, 0], [0, 1, 1]]), np.array([True, False, True]))
    >>> area.tolist(), precision.round(4).tolist()
    ([0.5, 0.25], [0.8333, 0.5833])
    """
    (n_rows, n), width = places.shape, int(places.max()) + 2
    at = places + np.arange(n_rows)[:, None] * width + 1  # before each row a 0
    of_positive = at[:, positive]  # (R, p)
    every, own = (
        np.bincount(part.ravel(), minlength=n_rows * width).reshape(n_rows, width).cumsum(axis=1).ravel()
        for part in (at, of_positive)
    )  # wells of this place and below
    below, right = every[of_positive - 1], of_positive.shape[1] - own[of_positive - 1]
    p = of_positive.shape[1]
    wins = (below + every[of_positive] + 1).sum(axis=1) / 2 - p * (p + 1) / 2  # from mean ranks
    with np.errstate(invalid="ignore"):
        return wins / np.float64(p * (n - p)), (right / (n - below)).sum(axis=1) / np.float64(p)

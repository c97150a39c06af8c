"""Whether probabilities mean what they say: expected calibration error, against what chance alone gives.

The error of a contestant whose probabilities are perfect is not 0 over few wells, so it stands beside the limit below
which 95 % of such contestants stay.
"""

import numpy as np

from cellpheno.compare.metrics import Flags, Floats, Ints
from cellpheno.compare.predictions import probabilities

N_BINS = 15


def calibration_error(logits: Floats, truth: Ints | Flags, n_bins: int = N_BINS) -> float:
    """Expected calibration error of the called class, in bins of equal width from 0 to 1.

    With several classes a well each answer of yes or no counts, with the probability of the answer that is called.

    Parameters
    ----------
    logits : array of shape (n, K), float
    truth : array of shape (n,), int; or of shape (n, K), bool
    n_bins : int

    Returns
    -------
    float
        Mean over the bins, weighted by their wells, of the gap between mean probability and fraction right.

    References
    ----------
    Guo et al. 2017, doi:10.48550/arXiv.1706.04599

    Examples
    --------
    >>> calibration_error(np.log([[0.8, 0.2]] * 5), np.array([0, 0, 0, 0, 1])).__round__(12)
    0.0
    >>> calibration_error(np.log([[0.8, 0.2]] * 5), np.array([0, 0, 1, 1, 1])).__round__(12)
    0.4
    """
    sure, right = _answers(logits, truth)
    return float(_error(sure, right[None].astype(np.float64), n_bins)[0])


def calibration_limit(
    logits: Floats, multilabel: bool, rng: np.random.Generator, n_bins: int = N_BINS, n_draws: int = 1000
) -> float:
    """Calibration error below which 95 % of contestants stay that say the same and are perfectly calibrated.

    The truth is drawn from the probabilities themselves, well by well.

    Parameters
    ----------
    logits : array of shape (n, K), float
    multilabel : bool
    rng : numpy Generator
    n_bins, n_draws : int

    Examples
    --------
    >>> fair = np.log([[0.8, 0.2]] * 100)
    >>> 0.07 < calibration_limit(fair, False, np.random.default_rng(0)) < 0.09  # 1.96 (0.8 * 0.2 / 100) ** 0.5 = 0.078
    True
    """
    sure = _confidence(logits, multilabel)
    right = rng.random((n_draws, len(sure))) < sure
    return float(np.quantile(_error(sure, right.astype(np.float64), n_bins), 0.95))


def _confidence(logits: Floats, multilabel: bool) -> Floats:
    """Probability of what is called: (n,), or (n K,) with several classes a well."""
    chances = probabilities(logits, multilabel)
    sure: Floats = np.maximum(chances, 1 - chances).ravel() if multilabel else chances.max(axis=1)
    return sure


def _answers(logits: Floats, truth: Ints | Flags) -> tuple[Floats, Flags]:
    """Probability of what is called, and whether it is right."""
    right = ((logits > 0) == truth).ravel() if truth.ndim == 2 else logits.argmax(axis=1) == truth
    return _confidence(logits, truth.ndim == 2), right


def _error(sure: Floats, right: Floats, n_bins: int) -> Floats:
    """Calibration error (R,) of confidences (n,) and outcomes (R, n)."""
    place = np.minimum((sure * n_bins).astype(np.intp), n_bins - 1)
    bins = np.arange(n_bins) == place[:, None]  # (n, bins)
    gaps: Floats = np.abs((right - sure) @ bins.astype(np.float64)).sum(axis=1) / len(sure)
    return gaps

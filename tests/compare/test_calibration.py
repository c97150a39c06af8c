import numpy as np
import pytest

from cellpheno.compare.calibration import calibration_error, calibration_limit
from cellpheno.compare.predictions import probabilities


def naive_error(sure, right, n_bins):
    total = 0.0
    for b in range(n_bins):
        here = [i for i, p in enumerate(sure) if b / n_bins <= p < (b + 1) / n_bins or (b == n_bins - 1 and p == 1)]
        if here:
            gap = np.mean([right[i] for i in here]) - np.mean([sure[i] for i in here])
            total += len(here) / len(sure) * abs(gap)
    return total


@pytest.mark.parametrize("n_bins", [5, 15])
@pytest.mark.parametrize("multilabel", [False, True])
def test_the_error_equals_a_loop_over_bins(n_bins, multilabel):
    rng = np.random.default_rng(n_bins)
    logits = rng.normal(scale=3, size=(60, 3))
    logits[0] = 0, 0, 200  # a probability of 1 stands in the last bin
    p = probabilities(logits, multilabel)
    if multilabel:
        truth = rng.random(size=p.shape) < 0.4
        sure, right = np.maximum(p, 1 - p).ravel(), ((p > 0.5) == truth).ravel()
    else:
        truth = rng.integers(3, size=60)
        sure, right = p.max(axis=1), p.argmax(axis=1) == truth
    assert calibration_error(logits, truth, n_bins) == pytest.approx(naive_error(sure, right, n_bins), abs=1e-12)


def test_a_calibrated_contestant_stays_below_the_limit_as_often_as_it_should_and_a_boastful_one_does_not():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=1.5, size=(300, 4))
    p = probabilities(logits, False)
    limit = calibration_limit(logits, False, np.random.default_rng(1))
    truths = (rng.random((400, 300, 1)) > p.cumsum(axis=1)[None]).sum(axis=2)
    below = np.mean([calibration_error(logits, truth) <= limit for truth in truths])
    assert 0.92 <= below <= 0.98
    boastful = 3 * logits
    assert calibration_error(boastful, truths[0]) > calibration_limit(boastful, False, np.random.default_rng(1)) + 0.05

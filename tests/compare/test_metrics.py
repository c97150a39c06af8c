import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, log_loss, recall_score, roc_auc_score

from cellpheno.compare.metrics import METRICS, areas_of_places, auroc, score


def draw(n_classes, seed, n=24):
    rng = np.random.default_rng(seed)
    truth = np.r_[np.arange(n_classes), rng.integers(n_classes, size=n - n_classes)]
    logits = rng.normal(size=(n, n_classes)).round(1)  # ties
    logits[np.arange(n), truth] += 1
    return logits, truth, rng


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6))
def test_plain_scores_equal_scikit_learn(n_classes, seed):
    logits, truth, _ = draw(n_classes, seed)
    probabilities, classes = softmax(logits, axis=1), np.arange(n_classes)
    result = score(logits, truth, np.ones((1, len(truth))))
    predicted = logits.argmax(axis=1)
    own = [roc_auc_score(truth == k, probabilities[:, k].round(12)) for k in classes]
    np.testing.assert_allclose(result.per_class["auroc"][0], own, rtol=1e-12)
    np.testing.assert_allclose(result.per_class["recall"][0], recall_score(truth, predicted, average=None))
    expected = {
        "balanced_accuracy": balanced_accuracy_score(truth, predicted),
        "macro_auroc": np.mean(own),
        "macro_f1": f1_score(truth, predicted, average="macro", zero_division=0),
        "log_loss": log_loss(truth, probabilities, labels=classes),
        "brier": ((probabilities - np.eye(n_classes)[truth]) ** 2).sum(axis=1).mean() / 2,
    }
    assert tuple(result.overall) == METRICS
    for name, value in expected.items():
        assert result.overall[name][0] == pytest.approx(value, rel=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(0, 10**6))
def test_a_weight_of_two_is_a_well_that_stands_there_twice(n_classes, seed):
    logits, truth, rng = draw(n_classes, seed)
    weights = rng.integers(0, 4, size=(3, len(truth)))
    weights[:, :n_classes] = 1  # every class stays
    weighted = score(logits, truth, weights.astype(float))
    for r, times in enumerate(weights):
        plain = score(np.repeat(logits, times, axis=0), np.repeat(truth, times), np.ones((1, times.sum())))
        for name in METRICS:
            assert weighted.overall[name][r] == pytest.approx(plain.overall[name][0], rel=1e-10)


def test_auroc_is_the_chance_to_outrank():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 4, size=(5, 15)).astype(float), np.arange(15) < 6
    naive = [np.mean([(p > n) + 0.5 * (p == n) for p in row[positive] for n in row[~positive]]) for row in scores]
    np.testing.assert_allclose(areas_of_places(rankdata(scores, "dense", axis=1) - 1, positive)[0], naive)
    np.testing.assert_allclose([auroc(row, positive, np.ones((1, 15)))[0] for row in scores], naive)


def test_auroc_does_not_saturate_with_the_probability():
    logits = np.array([[0.0, 800.0], [0.0, 900.0]])  # both probabilities are 1.0 in double precision
    assert score(logits, np.array([0, 1]), np.ones((1, 2))).overall["macro_auroc"][0] == 1.0


def test_brier_of_two_classes_is_scikit_learns():
    logits, truth, _ = draw(2, 0)
    expected = brier_score_loss(truth, softmax(logits, axis=1)[:, 1])
    assert score(logits, truth, np.ones((1, len(truth)))).overall["brier"][0] == pytest.approx(expected, rel=1e-12)


def test_means_are_over_the_classes_that_are_asked_for():
    logits, truth, _ = draw(4, 1)
    over = np.array([True, True, False, True])
    here = truth != 2
    result = score(logits[here], truth[here], np.ones((1, here.sum())), over)
    own = [(logits[truth == k].argmax(axis=1) == k).mean() for k in (0, 1, 3)]
    assert result.overall["balanced_accuracy"][0] == pytest.approx(np.mean(own))
    assert result.overall["macro_auroc"][0] == pytest.approx(result.per_class["auroc"][0, over].mean())
    assert np.isfinite([values[0] for values in result.overall.values()]).all()


def test_a_class_without_wells_has_no_number():
    result = score(np.eye(3)[[0, 0, 1, 1]], np.array([0, 0, 1, 1]), np.ones((1, 4)))
    assert np.isnan(result.per_class["recall"][0]).tolist() == [False, False, True]
    assert np.isnan(result.overall["balanced_accuracy"][0])
    assert np.isnan(result.overall["macro_auroc"][0])
    assert result.overall["log_loss"][0] > 0

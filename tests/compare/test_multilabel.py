"""Several classes a well: splits, baselines, scores, differences and intervals, against scikit-learn and by hand."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from cellpheno.classes import join_classes, membership
from cellpheno.compare.baselines import fit_predict_categories
from cellpheno.compare.contest import contest
from cellpheno.compare.metrics import (
    METRICS,
    MULTILABEL_METRICS,
    areas_of_places,
    average_precision,
    score,
)
from cellpheno.compare.predictions import prediction_rows
from cellpheno.compare.resampling import contests, resample
from cellpheno.compare.splits import by_group, by_well, inner_split
from cellpheno.compare.statistics import differences, scores
from cellpheno.errors import InputError

CLASSES = ["er", "membrane", "nuclear"]
SETS = ["er", "membrane", "nuclear", "nuclear|membrane", "(none)", "er|nuclear"]


def draw(seed, n=30, n_classes=3):
    rng = np.random.default_rng(seed)
    truth = rng.random((n, n_classes)) < 0.4
    truth[0], truth[1] = True, False  # every class has a yes and a no
    logits = (rng.normal(size=(n, n_classes)) + 1.5 * truth - 0.7).round(1)  # ties
    return logits, truth, rng


def well_table(sets=SETS, times=4):
    labels = [label for label in sets for _ in range(times)]
    wells = [f"{'ABCDEFGH'[i // 12]}{i % 12 + 1:02d}" for i in range(len(labels))]
    drugs = [f"d{i % 3}" for i in range(len(labels))]
    return pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": wells, "label": labels, "Metadata_Drug": drugs})


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_scores_equal_scikit_learn(seed):
    logits, truth, _ = draw(seed)
    result, p = score(logits, truth, np.ones((1, len(truth)))), expit(logits)
    own = {
        "auroc": [roc_auc_score(truth[:, k], p[:, k]) for k in range(3)],
        "average_precision": [average_precision_score(truth[:, k], p[:, k]) for k in range(3)],
        "recall": recall_score(truth, p > 0.5, average=None),
        "precision": precision_score(truth, p > 0.5, average=None, zero_division=0),
    }
    assert list(result.per_class) == list(own)
    for name, expected in own.items():
        np.testing.assert_allclose(result.per_class[name][0], expected, rtol=1e-10, err_msg=name)
    whole = {
        "mean_average_precision": average_precision_score(truth, p, average="macro"),
        "macro_auroc": roc_auc_score(truth, p, average="macro"),
        "macro_f1": f1_score(truth, p > 0.5, average="macro"),
        "log_loss": np.mean([log_loss(truth[:, k], p[:, k]) for k in range(3)]),
        "brier": np.mean([brier_score_loss(truth[:, k], p[:, k]) for k in range(3)]),
    }
    assert tuple(result.overall) == MULTILABEL_METRICS == tuple(whole)
    for name, expected in whole.items():
        assert result.overall[name][0] == pytest.approx(expected, rel=1e-10), name


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_average_precision_is_scikit_learns_for_every_weighting(seed):
    logits, truth, rng = draw(seed)
    scored, positive = logits[:, 0], truth[:, 0]
    weights = rng.integers(0, 4, size=(4, len(truth))).astype(float)
    weights[:, 0] = 1
    expected = [average_precision_score(positive, scored, sample_weight=row) for row in weights]
    np.testing.assert_allclose(average_precision(scored, positive, weights), expected, rtol=1e-12)
    rows = np.stack([scored, -scored, np.zeros_like(scored)])
    naive = [average_precision_score(positive, row) for row in rows]
    np.testing.assert_allclose(areas_of_places(rankdata(rows, "dense", axis=1) - 1, positive)[1], naive, rtol=1e-12)


def test_mean_average_precision_of_one_class_a_well_is_that_of_its_probabilities():
    rng = np.random.default_rng(0)
    truth = np.arange(24) % 3
    logits = rng.normal(size=(24, 3)) + np.eye(3)[truth]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = average_precision_score(np.eye(3)[truth], p, average="macro")
    assert score(logits, truth, np.ones((1, 24))).overall["mean_average_precision"][0] == pytest.approx(expected)


def test_average_precision_by_hand():
    """Right, wrong, right: precision 1 at the first, 2 of 3 at the last; two that score alike count at their end."""
    positive = np.array([True, False, True])
    assert average_precision(np.array([3.0, 2.0, 1.0]), positive, np.ones((1, 3)))[0] == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([2.0, 2.0, 1.0]), positive, np.ones((1, 3)))[0] == pytest.approx(
        (1 / 2 + 2 / 3) / 2
    )
    assert np.isnan(average_precision(np.zeros(3), np.zeros(3, bool), np.ones((1, 3)))[0])
    assert np.isnan(areas_of_places(np.zeros((2, 3), int), np.zeros(3, bool))).all()


def table_of(logits, labels, contestant, plates="P1"):
    wells = pd.DataFrame({"Metadata_Plate": plates, "Metadata_Well": [f"w{i:03d}" for i in range(len(labels))]})
    wells = wells.assign(label=labels, n_cells=9)
    about = {"contestant": contestant, "split": "by_well", "repeat": 0, "fold": 0, "multilabel": True}
    return prediction_rows(wells, logits, CLASSES, **about)


def test_predictions_name_all_classes_above_half_and_say_where_there_is_none():
    rows = table_of(np.array([[2.0, -1.0, 0.5], [-1.0, -2.0, -3.0]]), ["er", "er|nuclear"], "mil")
    assert rows["pred"].tolist() == ["er|nuclear", "(none)"]
    assert rows["true"].tolist() == ["er", "er|nuclear"]
    np.testing.assert_allclose(rows["prob_er"], expit([2.0, -1.0]))


def test_intervals_hold_the_value_and_a_better_contestant_is_ahead():
    logits, truth, rng = draw(3, n=60)
    labels = [join_classes(row, CLASSES) for row in truth]
    poor = rng.normal(size=logits.shape)
    predictions = pd.concat([table_of(logits + 2 * truth, labels, "mil"), table_of(poor, labels, "engineered")])
    about = {"n_bootstrap": 200, "seed": 0, "multilabel": True}
    found = scores(predictions, CLASSES, **about)
    plain = score(logits + 2 * truth, truth, np.ones((1, 60)))
    mil = found[found["contestant"] == "mil"].set_index(["metric", "class"])
    assert mil.loc[("mean_average_precision", ""), "value"] == pytest.approx(
        plain.overall["mean_average_precision"][0], rel=1e-12
    )
    expected = plain.per_class["average_precision"][0, 2]
    assert mil.loc[("average_precision", "nuclear"), "value"] == pytest.approx(expected, rel=1e-12)
    found = found[~found["metric"].str.startswith("calibration")]
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()
    gaps = differences(predictions, CLASSES, reference="engineered", **about).set_index("metric")
    assert tuple(gaps.index) == MULTILABEL_METRICS
    assert gaps.loc["mean_average_precision", "verdict"] == gaps.loc["log_loss", "verdict"] == "ahead"
    assert gaps.loc["mean_average_precision", "p"] < 0.02


def test_one_class_each_gives_the_same_areas_as_one_class_a_well():
    """The same wells and logits asked both ways: what does not compare classes with each other must not differ."""
    rng = np.random.default_rng(5)
    truth = np.arange(30) % 3
    logits = rng.normal(size=(30, 3)) + 2 * np.eye(3)[truth]
    one_hot = np.eye(3, dtype=bool)[truth]
    several = score(logits, one_hot, np.ones((1, 30))).per_class
    binary = [
        score(np.stack([-z / 2, z / 2], 1), one_hot[:, k].astype(int), np.ones((1, 30))) for k, z in enumerate(logits.T)
    ]
    for name in ("auroc", "average_precision", "recall"):
        np.testing.assert_allclose(several[name][0], [own.per_class[name][0, 1] for own in binary])
    losses = [own.overall["log_loss"][0] for own in binary]
    assert score(logits, one_hot, np.ones((1, 30))).overall["log_loss"][0] == pytest.approx(np.mean(losses))
    assert set(METRICS) - {"balanced_accuracy"} == set(MULTILABEL_METRICS)


def test_a_set_of_classes_that_one_well_has_costs_no_interval():
    labels = ["er", "er", "er", "nuclear", "nuclear", "nuclear", "membrane", "membrane", "er|membrane|nuclear"]
    predictions = table_of(np.random.default_rng(0).normal(size=(9, 3)), labels, "mil")
    (contest,) = contests(predictions, CLASSES, "well", multilabel=True)
    draws = resample(contest, "well", 300, seed=0)
    assert draws.note == ""
    assert draws.per_class.tolist() == [4, 3, 4]
    assert draws.rest.tolist() == [5, 6, 5]
    np.testing.assert_allclose(draws.weights[1:].sum(axis=1), 9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4))
def test_folds_deal_each_class_evenly_and_rare_sets_do_no_harm(seed, n_folds):
    wells = pd.concat([well_table(), well_table(["er|membrane|nuclear"], 1).assign(Metadata_Well="H12")])
    folds = by_well(wells, n_folds=n_folds, seed=seed, multilabel=True, stratify=["Metadata_Drug"])
    table = wells.merge(folds, on=["Metadata_Plate", "Metadata_Well"])
    held = membership(table["label"], CLASSES, True)
    counts = np.stack([held[table["fold"] == f].sum(axis=0) for f in range(n_folds)])  # (folds, K)
    sizes = table.groupby("fold").size()
    assert len(table) == 25
    assert np.ptp(counts, axis=0).max() <= 2
    assert np.ptp(sizes) <= 3
    again = by_well(
        wells.sample(frac=1, random_state=0), n_folds=n_folds, seed=seed, multilabel=True, stratify=["Metadata_Drug"]
    )
    pd.testing.assert_frame_equal(folds, again)


def test_each_class_is_dealt_evenly_to_a_well():
    wells = pd.concat([well_table(), well_table(["er|membrane|nuclear"], 1).assign(Metadata_Well="H12")])
    keys, uneven = ["Metadata_Plate", "Metadata_Well"], 0
    for seed in (*range(50), 209):
        folds = by_well(wells, n_folds=3, seed=seed, multilabel=True, stratify=["Metadata_Drug"])
        table = wells.merge(folds, on=keys)
        held = membership(table["label"], CLASSES, True)
        uneven += np.ptp([held[table["fold"] == f].sum(axis=0) for f in range(3)], axis=0).max() > 1
    assert uneven == 0


def test_two_wells_of_a_class_in_two_sets_are_never_in_one_fold():
    wells = well_table(["er", "nuclear"], 6)
    wells.loc[[0, 6], "label"] = ["er|membrane", "membrane|nuclear"]
    for seed in range(20):
        folds = by_well(wells, n_folds=2, seed=seed, multilabel=True)
        assert folds.set_index("Metadata_Well")["fold"][["A01", "A07"]].nunique() == 2


def test_faults_of_the_classes_are_told():
    few = well_table(["er", "er|nuclear"], 3)
    with pytest.raises(InputError, match="'er' is in all 6 labelled wells"):
        by_well(few, n_folds=2, seed=0, multilabel=True)
    lone = well_table(["er", "nuclear"], 3)
    lone.loc[0, "label"] = "er|membrane"
    with pytest.raises(InputError, match=r"class 'membrane' has one well \(P1 A01\)"):
        by_well(lone, n_folds=2, seed=0, multilabel=True)
    grouped = well_table(["er", "nuclear|membrane"], 3).assign(Metadata_Drug=["d0", "d0", "d1", "d1", "d1", "d1"])
    with pytest.raises(InputError, match="no training well of class 'membrane' is left"):
        by_group(grouped, group="Metadata_Drug", seed=0, multilabel=True)


def test_validation_wells_leave_every_class_to_the_training():
    wells = well_table()
    chosen = inner_split(wells, 0.25, seed=1, multilabel=True)
    rest = wells.drop(index=chosen.index)
    assert 4 <= len(chosen) <= 8
    assert membership(rest["label"], CLASSES, True).any(axis=0).all()


def test_a_baseline_is_one_yes_or_no_classifier_a_class():
    wells = well_table()
    wells["Metadata_Column"] = wells["Metadata_Well"].str[1:]
    features = wells[["Metadata_Plate", "Metadata_Well"]].assign(Metadata_Count_Cells=7.0)
    folds = by_well(wells, n_folds=3, seed=0, multilabel=True)
    regression = partial(LogisticRegression, C=0.1, class_weight="balanced")
    baseline = partial(fit_predict_categories, columns=["Metadata_Drug"], classifier=regression)
    table = contest(wells, features, folds, {"drug": baseline}, CLASSES, 0, multilabel=True).predictions
    table = table.set_index("Metadata_Well").loc[wells["Metadata_Well"]].reset_index()
    fold = wells.merge(folds, on=["Metadata_Plate", "Metadata_Well"])["fold"].to_numpy()
    held = fold == fold[0]
    x = np.eye(3)[np.arange(len(wells)) % 3]
    truth = membership(wells["label"], CLASSES, True)
    for k, name in enumerate(CLASSES):
        expected = regression().fit(x[~held], truth[~held, k]).predict_proba(x[held])[:, 1]
        np.testing.assert_allclose(table.loc[held, f"prob_{name}"], expected, rtol=1e-6)

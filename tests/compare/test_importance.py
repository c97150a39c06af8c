"""Importance of features: scikit-learn's own figures, a naive loop, and a planted feature that comes first."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.utils import check_random_state

from cellpheno.compare import importance
from cellpheno.compare.baselines import fit_predict, fit_predict_categories
from cellpheno.compare.classifiers import fit_decision
from cellpheno.compare.contest import contest
from cellpheno.compare.importance import log_loss_rise
from cellpheno.compare.splits import by_group, by_well
from cellpheno.profiles.normalize import fit_robust_z
from cellpheno.profiles.select import select_features

CLASSES = ["a", "b", "c"]
REGRESSION = partial(LogisticRegression, C=0.1, max_iter=5000)
ENGINEERED = partial(
    fit_predict, columns=["Cells_*"], without=[], classifier=REGRESSION, normalize=fit_robust_z, select=select_features
)


def screen(n=36, d=8, planted=3, seed=0):
    """Wells of three classes; only the feature ``planted`` knows them."""
    rng = np.random.default_rng(seed)
    names = [f"{'ABCDEF'[i // 6]}{i % 6 + 1:02d}" for i in range(n)]
    wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": names, "label": [CLASSES[i % 3] for i in range(n)]})
    wells["Metadata_drug"] = [f"{label}{i // 3 % 2}" for i, label in enumerate(wells["label"])]
    values = rng.normal(size=(n, d))
    values[:, planted] += 3 * np.arange(n) % 9
    features = pd.DataFrame(values, columns=[f"Cells_Intensity_Feature{j}_DNA" for j in range(d)])
    keys = wells[["Metadata_Plate", "Metadata_Well"]].assign(Metadata_Count_Cells=50)
    return wells, pd.concat([keys, features], axis=1)


def sklearn_shuffles(seed, n, n_repeats):
    """The rows that scikit-learn's permutation importance takes for each well, the same ones for every feature."""
    own = check_random_state(check_random_state(seed).randint(np.iinfo(np.int32).max + 1))
    shuffled, rows, found = np.arange(n), np.arange(n), []
    for _ in range(n_repeats):
        own.shuffle(shuffled)
        rows = rows[shuffled]  # what is shuffled already is shuffled again
        found.append(rows)
    return np.array(found)


@pytest.mark.parametrize("numbers_at_once", [1, 2**22])
@pytest.mark.parametrize("make", [REGRESSION, partial(RandomForestClassifier, n_estimators=20, min_samples_leaf=5)])
def test_shuffled_among_themselves_the_figures_are_those_of_scikit_learn(make, numbers_at_once, monkeypatch):
    monkeypatch.setattr(importance, "NUMBERS_AT_ONCE", numbers_at_once)
    wells, features = screen()
    x, y = features.iloc[:, 3:].to_numpy(), wells["label"].to_numpy(dtype=str)
    train, new = x[:24], x[24:]
    model = make(**({} if make is REGRESSION else {"random_state": 0})).fit(train, y[:24])
    expected = permutation_importance(model, new, y[24:], scoring="neg_log_loss", n_repeats=5, random_state=3)
    decide = fit_decision(make, train, wells["label"][:24], CLASSES, 0, False)
    truth = np.array([CLASSES.index(name) for name in y[24:]])
    if make is not REGRESSION:  # scikit-learn's log loss does not cut a vote of 0 where ours does

        def decide(rows):
            return np.log(model.predict_proba(rows))

    found = log_loss_rise(decide, new, truth, new, sklearn_shuffles(3, len(new), 5))
    np.testing.assert_allclose(found, expected.importances_mean, atol=1e-9)
    assert found.argmax() == 3


def test_values_come_from_the_training_wells_as_a_loop_over_wells_takes_them():
    wells, features = screen()
    x = features.iloc[:, 3:].to_numpy()
    train, new, rng = x[:24], x[24:], np.random.default_rng(5)
    decide = fit_decision(REGRESSION, train, wells["label"][:24], CLASSES, 0, False)
    truth, draws = np.arange(24, 36) % 3, rng.integers(24, size=(4, 12))
    model = REGRESSION().fit(train, wells["label"][:24].to_numpy(dtype=str))
    before = log_loss(truth, model.predict_proba(new), labels=[0, 1, 2])
    for j, value in enumerate(log_loss_rise(decide, new, truth, train, draws)):
        losses = []
        for r in range(4):
            for i in range(12):
                row = new[i].copy()
                row[j] = train[draws[r, i], j]
                losses.append(-np.log(model.predict_proba(row[None])[0, truth[i]]))
        assert value == pytest.approx(np.mean(losses) - before)


@pytest.mark.parametrize("split", ["wells", "drugs"])
def test_a_planted_feature_comes_first_and_held_out_wells_of_one_class_do_not_hide_it(split):
    wells, features = screen()
    groups = partial(by_group, group="Metadata_drug", n_folds=6)
    folds = by_well(wells, n_folds=3, seed=0) if split == "wells" else groups(wells, seed=0)
    controls = {"position": partial(fit_predict_categories, columns=["Metadata_Row"], classifier=REGRESSION)}
    made = contest(wells, features, folds, {"x": ENGINEERED, **controls}, CLASSES, seed=1, explain=True)
    plain = contest(wells, features, folds, {"x": ENGINEERED, **controls}, CLASSES, seed=1)
    pd.testing.assert_frame_equal(made.predictions, plain.predictions)
    assert len(plain.features) == 0
    table = made.features
    assert set(table["contestant"]) == {"x"}  # the place of a well is no feature
    assert len(table) == 8
    first, second = table.iloc[0], table.iloc[1]
    assert first["feature"] == "Cells_Intensity_Feature3_DNA"
    assert first["importance"] > 2 * max(second["importance"], 0.01)
    assert first["low"] > 0
    assert (table["low"] <= table["importance"]).all()
    assert (table["importance"] <= table["high"]).all()
    assert (table["n_folds"] == folds["fold"].nunique()).all()
    pd.testing.assert_frame_equal(
        table, contest(wells, features, folds, {"x": ENGINEERED}, CLASSES, seed=1, explain=True).features
    )


def test_wells_in_several_classes_and_wells_without_cells():
    wells, features = screen()
    sets = {"a": "(none)", "b": "b", "c": "b|c"}
    wells["label"] = wells["label"].map(sets)
    wells.loc[35, "label"] = ""  # new
    features.loc[0, [c for c in features if c.startswith("Cells_")]] = np.nan
    features.loc[0, "Metadata_Count_Cells"] = 0
    folds = by_well(wells[wells["label"] != ""], n_folds=3, seed=0)
    table = contest(wells, features, folds, {"x": ENGINEERED}, ["b", "c"], 1, (), True, explain=True).features
    assert table["feature"].iloc[0] == "Cells_Intensity_Feature3_DNA"
    assert table["importance"].iloc[0] > 0.1

"""Contestants beside each other: equal tuning, nothing learned from held-out wells, controls, classifiers."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.svm import SVC

from cellpheno.compare.baselines import fit_predict, fit_predict_categories
from cellpheno.compare.classifiers import LinearSVMEnsemble, fit_decision
from cellpheno.compare.contest import contest
from cellpheno.compare.splits import by_group, by_well
from cellpheno.compare.tuning import check_grids, choose, configurations, inner_score, inner_wells
from cellpheno.components import build
from cellpheno.errors import InputError
from cellpheno.profiles.normalize import fit_robust_z, fit_standard
from cellpheno.profiles.select import Selection, select_features
from cellpheno.profiles.sphere import fit_sphering

CONF = Path(__file__).parents[2] / "conf"
KEYS = ["Metadata_Plate", "Metadata_Well"]
CLASSES = ["a", "b", "c"]
REGRESSION = partial(LogisticRegression, C=0.1, class_weight="balanced", max_iter=5000)
GRID = [{}, {"C": 0.001}, {"C": 1.0}, {"C": 10.0}]
ENGINEERED = partial(
    fit_predict,
    columns=["Cells_*"],
    without=[],
    classifier=REGRESSION,
    normalize=fit_robust_z,
    select=select_features,
    sphere=partial(fit_sphering, regularization=0.3),
    grid=GRID,
)
OPTIONS = sorted((CONF / "classifier").glob("*.yaml"))


def screen(seed=0, shift=1.5, plates=4):
    """Plates of 9 wells, three of each class; the first feature of each class is shifted."""
    rng = np.random.default_rng(seed)
    wells = pd.DataFrame(
        {
            "Metadata_Plate": [f"P{p}" for p in range(plates) for _ in range(9)],
            "Metadata_Well": [f"{'ABC'[i // 3]}{i % 3 + 1:02d}" for _ in range(plates) for i in range(9)],
            "label": [CLASSES[i % 3] for _ in range(plates) for i in range(9)],
        }
    )
    values = rng.normal(size=(len(wells), 12))
    values[np.arange(len(wells)), [CLASSES.index(label) for label in wells["label"]]] += shift
    features = pd.DataFrame(values, columns=[f"Cells_Intensity_Feature{j}_DNA" for j in range(12)])
    return wells, pd.concat([wells[KEYS].assign(Metadata_Count_Cells=50), features], axis=1)


def classifier(path):
    node = OmegaConf.to_container(OmegaConf.load(path))
    return build(node["classifier"]), node["grid"]


def test_the_choice_is_that_of_a_loop_over_scikit_learn():
    wells, features = screen()
    table = wells.merge(features, on=KEYS)
    held = table.groupby("Metadata_Plate").get_group("P2")
    plain = partial(ENGINEERED, sphere=None, normalize=fit_standard, clip=np.inf)
    rows = choose(plain, table, held, "", CLASSES, seed=0)
    rest, names, expected = table.drop(index=held.index), list(features.columns[3:]), []
    for settings in GRID:
        x = rest[names]
        model = REGRESSION(**settings).fit((x - x.mean()) / x.std(), rest["label"].to_numpy(dtype=str))
        called = model.predict((held[names] - x.mean()) / x.std())
        expected.append(balanced_accuracy_score(held["label"].to_numpy(dtype=str), called))
    np.testing.assert_allclose(rows["inner_score"], expected)
    assert rows["chosen"].tolist() == [i == int(np.argmax(expected)) for i in range(4)]
    assert rows["settings"].tolist() == ["as configured", "C=0.001", "C=1.0", "C=10.0"]


def test_inner_scores_equal_scikit_learn_and_count_present_classes_only():
    rng = np.random.default_rng(0)
    for _ in range(10):
        labels = pd.Series(rng.choice(["a", "b"], size=9))
        logits = rng.normal(size=(9, 3))
        called = np.array(CLASSES)[logits.argmax(axis=1)]
        own = np.mean([(called == name)[labels == name].mean() for name in sorted(set(labels))])
        assert inner_score(logits, labels, CLASSES, False) == pytest.approx(own)
        two = rng.normal(size=(9, 2))
        expected = balanced_accuracy_score(labels, np.array(["a", "b"])[two.argmax(axis=1)])
        assert inner_score(two, labels, ["a", "b"], False) == pytest.approx(expected)
        sets = pd.Series(["a", "b", "a|b", "(none)"] * 3)
        three = rng.normal(size=(12, 2))
        each = [balanced_accuracy_score(sets.str.contains(name), three[:, k] > 0) for k, name in enumerate("ab")]
        assert inner_score(three, sets, ["a", "b"], True) == pytest.approx(np.mean(each))


@pytest.mark.parametrize("group", [None, "Metadata_Plate"])
def test_every_contestant_tries_as_many_on_the_same_wells_and_the_chosen_one_predicts(group):
    wells, features = screen()
    folds = by_group(wells, group=group, seed=0, split="s") if group else by_well(wells, n_folds=4, seed=0, split="s")
    two = {"one": ENGINEERED, "other": partial(ENGINEERED, grid=GRID[::-1])}
    result = contest(wells, features, folds, two, CLASSES, seed=1, tuning=0.34, groups={"s": group})
    assert result.tuning.groupby(["contestant", "fold"]).size().tolist() == [4] * 8
    assert (result.tuning.groupby(["contestant", "fold"])["chosen"].sum() == 1).all()
    one, other = (result.tuning[result.tuning["contestant"] == name] for name in two)
    pd.testing.assert_series_equal(
        one["inner_score"].reset_index(drop=True),
        other.iloc[::-1].sort_values("fold", kind="stable")["inner_score"].reset_index(drop=True),
    )
    assert (one["n_inner"] == 9).all()
    chosen = one.loc[one["chosen"] & (one["fold"] == 0), "configuration"].item()
    fixed = {"one": partial(ENGINEERED, grid=[GRID[chosen]])}
    plain = contest(wells, features, folds, fixed, CLASSES, seed=1).predictions
    kept = result.predictions[result.predictions["contestant"] == "one"]
    pd.testing.assert_frame_equal(*(table[table["fold"] == 0] for table in (plain, kept)))


def test_whole_groups_are_set_aside_and_nothing_where_there_is_one():
    wells, _ = screen()
    inner, why = inner_wells(wells, 0.25, 0, "Metadata_Plate", False)
    assert why == ""
    assert inner["Metadata_Plate"].nunique() == 1
    assert len(inner) == 9
    one = wells[wells["Metadata_Plate"] == "P0"].assign(label=["a"] * 4 + ["b"] * 5)
    inner, why = inner_wells(one, 0.34, 0, "Metadata_Plate", False)
    assert len(inner) == 0
    assert why == "the training wells have one Metadata_Plate"
    rows = choose(ENGINEERED, one, inner, why, ["a", "b"], seed=0)
    assert rows["chosen"].tolist() == [True, False, False, False]
    assert rows["inner_score"].isna().all()
    assert set(rows["note"]) == {why}


def moved(baseline, tuning=0.0):
    """Whether wild features of some held-out wells move the predictions of the others in their fold."""
    wells, features = screen()
    folds = by_group(wells, group="Metadata_Plate", n_folds=2, seed=0, split="s")
    folds["fold"] = (folds["Metadata_Plate"] > "P1").astype(int)
    wild = features.copy()
    odd = (wild["Metadata_Plate"] == "P0") & (wild["Metadata_Well"] < "B02")
    wild.loc[odd, wild.columns[3:]] = 100.0 * np.arange(1, 13) + 7 * np.arange(odd.sum())[:, None]
    others = {"tuning": tuning, "groups": {"s": "Metadata_Plate"}}
    plain, changed = (
        contest(wells, table, folds, {"x": baseline(table)}, CLASSES, seed=1, **others) for table in (features, wild)
    )
    here = [(t.predictions["fold"] == 0).to_numpy() & ~odd.to_numpy()[: len(t.predictions)] for t in (plain, changed)]
    keys = ["logit_a", "logit_b", "logit_c"]
    first = plain.predictions.loc[here[0], keys].to_numpy(), changed.predictions.loc[here[1], keys].to_numpy()
    tuned = [t.tuning[t.tuning["fold"] == 0].to_csv() for t in (plain, changed)]
    return not np.array_equal(*first) or tuned[0] != tuned[1]


def test_a_leak_is_seen_wherever_it_is_planted_and_the_pipeline_has_none():
    """Fitted on all wells, each part lets held-out wells speak of each other; fitted inside the fold, none does."""
    names = [f"Cells_Intensity_Feature{j}_DNA" for j in range(12)]

    def leaky_scaling(table):
        return partial(ENGINEERED, normalize=lambda train: fit_robust_z(table[list(train.columns)]))

    def leaky_selection(table):
        def select(train):
            kept = select_features(table[names], max_correlation=0.8).kept
            return Selection(kept, pd.DataFrame())

        return partial(ENGINEERED, select=select)

    def leaky_whitening(table):
        return partial(ENGINEERED, clip=1e9, sphere=lambda x: fit_sphering(table[names].to_numpy()))

    assert not moved(lambda table: ENGINEERED, tuning=0.5)
    for leaky in (leaky_scaling, leaky_selection, leaky_whitening):
        assert moved(leaky), leaky.__name__


def test_week_and_place_together_are_a_look_up_that_neither_is_alone():
    """Two weeks, two replicate plates each; the layout of one week is the other's turned round."""
    wells, features = screen()
    week = wells["Metadata_Plate"].map({"P0": "1", "P1": "1", "P2": "2", "P3": "2"})
    place = wells["Metadata_Well"].rank(method="dense").astype(int) - 1
    labels = np.where(week == "1", "ab" * 1, "").astype(object)
    labels = ["ab"[(p + (w == "2")) % 2] for p, w in zip(place, week, strict=True)]
    wells = wells.assign(label=labels, Metadata_week=week)
    folds = by_group(wells, group="Metadata_Plate", seed=0)
    look_up = partial(fit_predict_categories, columns=["Metadata_week", "Metadata_Well"], classifier=REGRESSION)
    contestants = {
        "together": partial(look_up, combined=True),
        "apart": look_up,
        "plate": partial(look_up, columns=["Metadata_Plate"]),
    }
    table = contest(wells, features, folds, contestants, ["a", "b"], seed=0).predictions
    right = (table["true"] == table["pred"]).groupby(table["contestant"]).mean()
    assert right["together"] == 1.0
    assert right["apart"] < 0.7
    assert right["plate"] < 0.7


def test_a_batch_column_that_is_not_there_is_named_with_those_that_are():
    wells, features = screen()
    folds = by_well(wells, n_folds=3, seed=0)
    week = partial(fit_predict_categories, columns=["Metadata_week"], classifier=REGRESSION)
    with pytest.raises(InputError, match=r"Metadata_week.*choose from .*Metadata_Plate"):
        contest(wells, features, folds, {"week": week}, CLASSES, seed=0).predictions


def test_where_cells_were_not_counted_whole_fields_still_speak_and_a_dark_well_gets_the_prior():
    wells, features = screen(shift=6.0)
    fields = features.rename(columns=lambda c: c.replace("Cells_", "Image_")).assign(Metadata_Count_Cells=np.nan)
    fields.loc[4, [c for c in fields if c.startswith("Image_")]] = np.nan
    folds = by_well(wells, n_folds=4, seed=0)
    images = {
        "image_statistics": partial(ENGINEERED, columns=["Image_*"]),
        "cell_count": partial(ENGINEERED, columns=["Metadata_Count_Cells"]),
    }
    table = contest(wells, fields, folds, images, CLASSES, seed=0).predictions
    own = table[table["contestant"] == "image_statistics"].sort_values(KEYS).reset_index(drop=True)
    dark = (own["Metadata_Plate"] == "P0") & (own["Metadata_Well"] == "B02")
    assert (own["true"] == own["pred"])[~dark].mean() > 0.9
    keys = [f"prob_{name}" for name in CLASSES]
    counted = table[table["contestant"] == "cell_count"]
    np.testing.assert_allclose(counted[keys], 1 / 3, atol=0.05)  # each fold's prior
    prior = counted.set_index(KEYS).loc[("P0", "B02"), keys].to_numpy(float)
    np.testing.assert_allclose(own.loc[dark, keys].to_numpy(float)[0], prior)


def test_a_contest_of_unequal_grids_is_refused():
    with pytest.raises(InputError, match="one 4, other 1"):
        check_grids({"one": ENGINEERED, "other": partial(ENGINEERED, grid=[{}])})
    with pytest.raises(InputError, match=r"grid of one: \{'depth': 3\}.*takes \[.*'C'"):
        check_grids({"one": partial(ENGINEERED, grid=[{"depth": 3}])})
    check_grids({"one": ENGINEERED, "other": partial(ENGINEERED, grid=GRID[::-1])})


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_every_classifier_finds_a_planted_phenotype_with_each_of_its_four_configurations(path):
    make, grid = classifier(path)
    assert len(grid) == 4
    assert grid[0] == {}
    wells, features = screen(shift=4.0, plates=3)
    table = wells.merge(features, on=KEYS)
    own = [table["Metadata_Plate"] == name for name in ("P0", "P1")]
    train, test = table[own[0] | own[1]], table[~(own[0] | own[1])]
    quick = {"n_estimators": 20} if "n_estimators" in make.keywords else {}
    quick |= {"max_iter": 20} if "max_leaf_nodes" in make.keywords else {}
    baseline = partial(ENGINEERED, classifier=partial(make, **quick), sphere=None, grid=grid)
    for i in range(4):
        logits = baseline(train, test, classes=CLASSES, seed=0, configuration=i)
        assert np.isfinite(logits).all()
        assert (np.array(CLASSES)[logits.argmax(axis=1)] == test["label"]).mean() >= 0.75, grid[i]
    sets = {"a": "(none)", "b": "b", "c": "b|c"}
    logits = baseline(train.assign(label=train["label"].map(sets)), test, classes=["b", "c"], seed=0, multilabel=True)
    truth = np.array([["b" in sets[t], "c" in sets[t]] for t in test["label"]])
    assert logits.shape == (9, 2)
    assert ((logits > 0) == truth).mean() >= 0.75


def test_options_of_classifiers_are_those_laid_down():
    assert [path.stem for path in OPTIONS] == [
        *("gradient_boosting", "logistic_regression", "random_forest", "svm", "svm_ensemble")
    ]
    assert configurations(ENGINEERED) == GRID


@pytest.mark.parametrize("classes", [["a", "b"], ["a", "b", "c"]])
def test_the_ensemble_is_the_mean_of_its_machines(classes):
    rng = np.random.default_rng(0)
    y = np.array([classes[i % len(classes)] for i in range(18)])
    x, new = rng.normal(size=(18, 5)) + (y == "b")[:, None], rng.normal(size=(7, 5))
    model = LinearSVMEnsemble(C=0.5, n_members=4, random_state=3).fit(x, y)
    again, found = np.random.default_rng(3), []
    for name in classes[1:] if len(classes) == 2 else classes:
        values = []
        for _ in range(4):
            rows = np.concatenate(
                [again.choice(s, size=len(s)) for s in (np.where(y == name)[0], np.where(y != name)[0])]
            )
            machine = SVC(kernel="linear", C=0.5, class_weight="balanced").fit(x[rows], y[rows] == name)
            values.append(machine.decision_function(new))
        found.append(np.mean(values, axis=0))
    expected = found[0] if len(classes) == 2 else np.stack(found, axis=1)
    np.testing.assert_allclose(model.decision_function(new), expected, atol=1e-9)
    assert clone(model).get_params() == {"C": 0.5, "n_members": 4, "random_state": 3}
    one, two = (
        fit_decision(partial(LinearSVMEnsemble, n_members=3), x, pd.Series(y), classes, seed, False)(new)
        for seed in (1, 2)
    )
    assert not np.array_equal(one, two)

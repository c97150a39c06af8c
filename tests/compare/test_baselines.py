import inspect
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellpheno.compare.baselines import fit_predict, fit_predict_categories
from cellpheno.compare.contest import contest
from cellpheno.compare.predictions import NEW, OUT_OF_FOLD
from cellpheno.compare.splits import by_group, by_well
from cellpheno.config import load_config
from cellpheno.errors import InputError
from cellpheno.profiles.normalize import fit_robust_z, fit_standard
from cellpheno.profiles.select import select_features

KEYS = ["Metadata_Plate", "Metadata_Well"]
CLASSES = ("a", "b", "c")
REGRESSION = partial(LogisticRegression, C=0.1, class_weight="balanced", max_iter=5000)
ENGINEERED = partial(
    fit_predict,
    columns=["Cells_*"],
    without=["*_Number_*"],
    classifier=REGRESSION,
    normalize=fit_robust_z,
    select=select_features,
)


def screen(n_classes=3, per_class=8, n_features=20, new=4, seed=0, shift=2.0):
    """Wells, and features of which the first of each class is shifted."""
    rng = np.random.default_rng(seed)
    labels = [CLASSES[i % n_classes] for i in range(n_classes * per_class)] + [""] * new
    wells = pd.DataFrame(
        {
            "Metadata_Plate": "P1",
            "Metadata_Well": [f"{'ABCDEFGH'[i // 12]}{i % 12 + 1:02d}" for i in range(len(labels))],
            "label": labels,
        }
    )
    values = rng.normal(size=(len(wells), n_features))
    for i, label in enumerate(labels[: n_classes * per_class]):
        values[i, CLASSES.index(label)] += shift
    features = pd.DataFrame(values, columns=[f"Cells_Intensity_Feature{j}_DNA" for j in range(n_features)])
    count = rng.integers(50, 150, size=len(wells))
    return wells, pd.concat([wells[KEYS].assign(Metadata_Count_Cells=count), features], axis=1)


def predict(wells, features, baseline=ENGINEERED, classes=CLASSES, **options):
    folds = by_well(wells, n_folds=4, seed=1)
    return contest(wells, features, folds, {"engineered": baseline}, classes, seed=1, **options).predictions


@pytest.mark.parametrize("n_classes", [2, 3])
def test_logits_equal_scikit_learn_by_hand(n_classes):
    wells, features = screen(n_classes)
    train = wells.merge(features, on=KEYS)[: 6 * n_classes]
    test, names = features[6 * n_classes :], list(features.columns[3:])
    classes = CLASSES[:n_classes][::-1]  # not the alphabet's order
    baseline = partial(ENGINEERED, normalize=fit_standard, clip=np.inf)
    logits = baseline(train, test, classes=classes, seed=0)
    pipeline = make_pipeline(StandardScaler(), REGRESSION())
    scale = np.sqrt(len(train) / (len(train) - 1))  # scikit-learn divides by n
    x = pipeline[0].fit_transform(train[names]) / scale
    expected = (
        pipeline[1].fit(x, train["label"].to_numpy(dtype=str)).predict_proba(pipeline[0].transform(test[names]) / scale)
    )
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), expected[:, ::-1], rtol=1e-4)
    if n_classes == 2:
        np.testing.assert_allclose(logits.sum(axis=1), 0, atol=1e-12)


def test_a_planted_phenotype_is_found_and_every_well_is_predicted_once():
    wells, features = screen(per_class=12, shift=6.0)
    table = predict(wells, features)
    held, new = table[table["role"] == OUT_OF_FOLD], table[table["role"] == NEW]
    assert (held["true"] == held["pred"]).mean() >= 0.9
    assert sorted(table["Metadata_Well"]) == sorted(wells["Metadata_Well"])
    assert (new[["repeat", "fold"]] == -1).all(axis=None)
    assert (new["true"] == "").all()


def test_new_wells_get_the_mean_logit_of_the_fold_models():
    wells, features = screen()
    folds = by_well(wells, n_folds=4, seed=1)
    table = wells.merge(features, on=KEYS).sort_values(KEYS)
    logits = []
    for fold in range(4):
        held = folds.loc[folds["fold"] == fold, "Metadata_Well"]
        train = table[~table["Metadata_Well"].isin(held) & (table["label"] != "")]
        logits.append(ENGINEERED(train, table[table["label"] == ""], classes=CLASSES, seed=0))
    predicted = predict(wells, features)
    own = predicted.loc[predicted["role"] == NEW, [f"logit_{name}" for name in CLASSES]]
    np.testing.assert_allclose(own, np.mean(logits, axis=0), rtol=1e-12)


def test_the_held_out_fold_leaves_no_trace_in_its_model():
    """Wild features of some held-out wells must not move the predictions of the others in their fold."""
    wells, features = screen()
    folds = by_well(wells, n_folds=4, seed=1)
    first, *others = folds.loc[folds["fold"] == 0, "Metadata_Well"]
    wild = features.copy()
    wild.loc[wild["Metadata_Well"] == first, wild.columns[3:]] = 1e6 * np.arange(1, 21)
    plain, changed = (predict(wells, table).set_index("Metadata_Well") for table in (features, wild))
    assert len(others) > 2
    pd.testing.assert_frame_equal(plain.loc[others], changed.loc[others])
    assert not np.allclose(plain.loc["A12", "logit_a"], changed.loc["A12", "logit_a"]) or "A12" in others


def test_row_order_changes_no_bit():
    wells, features = screen()
    shuffled = predict(wells.sample(frac=1, random_state=3), features.sample(frac=1, random_state=4))
    pd.testing.assert_frame_equal(predict(wells, features), shuffled)


def test_a_well_without_cells_gets_the_prior_from_features_of_cells_but_has_a_count_and_a_place():
    wells, features = screen(per_class=8)
    features.loc[2, "Metadata_Count_Cells"] = 0
    features.loc[2, features.columns[3:]] = np.nan
    table = predict(wells, features, ENGINEERED).set_index("Metadata_Well")
    held = by_well(wells, n_folds=4, seed=1).set_index("Metadata_Well")["fold"]
    train = wells[(wells["label"] != "") & (wells["Metadata_Well"].map(held) != held["A03"])]
    counts = np.array([(train["label"] == name).sum() + 0.5 for name in CLASSES])
    names = [f"prob_{name}" for name in CLASSES]
    np.testing.assert_allclose(table.loc["A03", names].astype(float), counts / counts.sum())
    assert table.loc["A03", "n_cells"] == 0
    assert table["n_cells"].notna().all()
    count = partial(ENGINEERED, columns=["Metadata_Count_Cells"], without=[])
    position = partial(fit_predict_categories, columns=["Metadata_Column"], classifier=REGRESSION)
    for baseline in (count, position):
        own = predict(wells, features, baseline).set_index("Metadata_Well").loc["A03", names].astype(float)
        assert np.abs(own - counts / counts.sum()).max() > 0.01


def test_wells_that_are_not_trained_on_are_still_predicted():
    wells, features = screen()
    wild = features.copy()
    wild.loc[0, wild.columns[3:]] = 50.0
    kept = [predict(wells, table, not_trained=[("P1", "A01")]).set_index("Metadata_Well") for table in (features, wild)]
    pd.testing.assert_frame_equal(kept[0].drop("A01"), kept[1].drop("A01"))
    assert "A01" in kept[0].index


def test_position_is_learned_from_the_well_name_alone():
    wells, features = screen(2, per_class=12, new=0)  # classes alternate, so the column gives them away
    column = partial(fit_predict_categories, columns=["Metadata_Column"], classifier=REGRESSION)
    row = partial(fit_predict_categories, columns=["Metadata_Row"], classifier=REGRESSION)
    seen = predict(wells, features, column, classes=("a", "b"))
    blind = predict(wells, features, row, classes=("a", "b"))
    assert (seen["true"] == seen["pred"]).all()
    assert (blind["true"] == blind["pred"]).mean() < 0.75


def test_a_plate_that_was_never_seen_counts_as_no_value():
    wells, features = screen(2, new=0)
    wells["Metadata_Plate"] = features["Metadata_Plate"] = ["P1", "P1", "P2", "P2"] * 4
    folds = by_group(wells, group="Metadata_Plate", seed=0)
    plate = partial(fit_predict_categories, columns=["Metadata_Plate"], classifier=REGRESSION)
    table = contest(wells, features, folds, {"plate": plate}, ("a", "b"), seed=0).predictions
    np.testing.assert_allclose(table["prob_a"], 0.5, atol=1e-6)


def test_a_feature_that_never_varies_says_the_prior():
    wells, features = screen(2)
    count = partial(ENGINEERED, columns=["Metadata_Count_Cells"])
    table = predict(wells, features.assign(Metadata_Count_Cells=7), count, classes=("a", "b"))
    np.testing.assert_allclose(table["prob_a"], 0.5)


def test_a_forest_is_seeded_and_gives_finite_logits():
    wells, features = screen()
    forest = partial(ENGINEERED, classifier=partial(RandomForestClassifier, n_estimators=20))
    one, two = (predict(wells, features, forest) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert np.isfinite(one["logit_a"]).all()


def test_all_faults_come_at_once():
    wells, features = screen()
    folds = by_well(wells, n_folds=4, seed=1)
    folds = folds[folds["Metadata_Well"] != "A02"]
    wells.loc[3, "label"] = "strange"
    with pytest.raises(InputError) as caught:
        contest(wells, features.iloc[1:], folds, {"engineered": ENGINEERED}, CLASSES, seed=0).predictions
    text = str(caught.value)
    assert len(caught.value.faults) == 3
    assert all(part in text for part in ("no row for P1 A01", "P1 A02 has no fold", "'strange'"))


def test_a_pattern_without_a_column_is_named():
    wells, features = screen()
    with pytest.raises(InputError, match=r"Nuclei_\*"):
        predict(wells, features, partial(ENGINEERED, columns=["Cells_*", "Nuclei_*"]))


def test_a_class_that_lost_all_its_cells_is_never_called_and_two_are_wanted():
    wells, features = screen()
    cells = [column for column in features if column.startswith("Cells_")]
    features.loc[wells["label"] == "c", ["Metadata_Count_Cells", *cells]] = [0, *[np.nan] * len(cells)]
    found = predict(wells, features)
    seen = found[found["n_cells"] > 0]
    assert (seen["pred"] != "c").all()
    assert seen["prob_c"].between(0, 0.2, inclusive="neither").all()
    features.loc[wells["label"] == "b", ["Metadata_Count_Cells", *cells]] = [0, *[np.nan] * len(cells)]
    with pytest.raises(InputError, match="wells with features of class 'a' alone"):
        predict(wells, features)


def test_what_is_left_out_changes_nothing():
    wells, features = screen()
    numbered = features.assign(Cells_Number_Object_Number=np.arange(len(features), dtype=float) ** 2)
    pd.testing.assert_frame_equal(predict(wells, numbered), predict(wells, features))


CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(path for group in ("split", "baselines") for path in (CONF / group).glob("[a-z]*.yaml"))
NEEDED = ("baselines.elsewhere.profiles.path=cells.csv", "split.leave_one_group_out.group=Metadata_drug")
FROM_DATA = {"wells", "train", "test", "table", "values", "classes", "seed", "split", "multilabel", "configuration"} | {
    "explain"
}


@pytest.fixture(scope="module")
def composed():
    """Every option of both groups, as the command line sees it."""
    names = {group: [path.stem for path in OPTIONS if path.parent.name == group] for group in ("split", "baselines")}
    asked = [f"{group}=[{','.join(own)}]" for group, own in names.items()]
    config = load_config("run", "plate=P1.zarr", "folder=raw", *asked, *NEEDED)
    return {**OmegaConf.to_container(config.split), **OmegaConf.to_container(config.baselines, resolve=False)}


@pytest.mark.parametrize("option", [path.stem for path in OPTIONS])
def test_every_knob_stands_in_the_option_with_the_default_of_the_code(option, composed):
    def check(node):
        module, name = node["_target_"].rsplit(".", 1)
        function = getattr(__import__(module, fromlist=[name]), name)
        knobs = {k: p.default for k, p in inspect.signature(function).parameters.items() if k not in FROM_DATA}
        assert set(node) == {"_target_", "_partial_", *knobs}
        for knob, default in knobs.items():
            value = node[knob]
            if knob in ("classifier", "grid"):
                continue  # options of a group of their own
            if isinstance(value, dict):
                check(value)
            elif default is not inspect.Parameter.empty and not str(value).startswith("${") and knob != "combined":
                assert (tuple(value) if isinstance(value, list) else value) == default

    check(composed[option])


def test_there_are_as_many_options_as_were_laid_down():
    assert [path.stem for path in OPTIONS] == [
        *("cell_count", "elsewhere", "engineered", "engineered_gradient_boosting", "engineered_random_forest"),
        *("engineered_sphered", "engineered_svm", "engineered_svm_ensemble", "image_statistics", "mean_intensity"),
        *("plate", "position", "week_position"),
        *("by_compound_and_week", "by_plate", "by_treatment", "by_well", "column", "leave_one_group_out"),
        "random_cells",
    ]


def test_profiles_may_have_a_column_called_label():
    wells, features = screen()
    made = features.drop(columns="Metadata_Count_Cells").assign(label=np.arange(len(features)))
    given = partial(ENGINEERED, columns=["*"], without=["Metadata_*", "label"])
    elsewhere, plain = (partial(given, profiles=lambda t=t: t) for t in (made, made.drop(columns="label")))
    pd.testing.assert_frame_equal(predict(wells, features, elsewhere), predict(wells, features, plain))


@pytest.mark.parametrize("seed", range(6))
def test_a_well_without_cells_is_not_drawn_for_a_learning_curve(seed):
    wells, features = screen()
    features.loc[wells["label"].eq("a").idxmax(), "Metadata_Count_Cells"] = 0
    folds = by_well(wells, n_folds=4, seed=seed)
    found = contest(wells, features, folds, {"engineered": ENGINEERED}, CLASSES, seed, wells_per_class=1)
    own = found.predictions.query("role == 'out_of_fold' and n_cells > 0")
    assert (own.groupby("fold")["prob_a"].max() > 0.2).all()  # the class was taught in every fold

"""Intervals and verdicts in simulated contests on plates: wells of a plate go right or wrong together."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from cellpheno.compare.baselines import fit_predict
from cellpheno.compare.contest import contest
from cellpheno.compare.intervals import gap_bounds, most_units
from cellpheno.compare.metrics import METRICS, score
from cellpheno.compare.paired_tests import mid_p, swapped_gaps, whole_p
from cellpheno.compare.resampling import Contest, resample, units_apart, units_mistaken
from cellpheno.compare.splits import by_well
from cellpheno.compare.statistics import _bounds, differences, scores
from cellpheno.compare.verdict import verdict
from cellpheno.profiles.normalize import fit_robust_z
from cellpheno.profiles.select import select_features
from tests.compare.test_statistics import prediction_table

PLATE = "Metadata_Plate"
TOLD = "no evidence of a difference"
NAMES = ["c0", "c1", "c2"]


def draw(n_plates, rng, icc, sharpness=(1.5, 1.5), shared=0.5, per_class=2, n_classes=3):
    """Truth (n,), plate (n,) and scores (n, K) of contestants; a plate shifts the margin of all its wells."""
    truth = np.tile(np.repeat(np.arange(n_classes), per_class), n_plates)
    plate = np.repeat(np.arange(n_plates), per_class * n_classes)
    well, of_plate = rng.normal(size=(len(truth), n_classes)), rng.normal(size=n_plates)
    out = []
    for d in sharpness:
        own = np.sqrt(shared) * well + np.sqrt(1 - shared) * rng.normal(size=well.shape)
        shift = np.sqrt(shared) * of_plate + np.sqrt(1 - shared) * rng.normal(size=n_plates)
        logits = np.sqrt(1 - icc) * own
        logits[np.arange(len(truth)), truth] += d + np.sqrt(2 * icc) * shift[plate]
        out.append(logits)
    return truth, plate, out


def tables(n_plates, rng, icc, n_bootstrap=300, unit=PLATE, **options):
    truth, plate, logits = draw(n_plates, rng, icc, **options)
    table, names = prediction_table(
        truth, 3, dict(zip(("mil", "engineered"), logits, strict=False)), plates=[f"P{p}" for p in plate]
    )
    about = {"unit": unit, "n_bootstrap": n_bootstrap, "seed": int(rng.integers(10**6))}
    return table, names, about


def many(runs, n_plates, icc, seed, n_bootstrap=300, **options):
    """Contests of two contestants (a row a contest and metric), by the parts that `scores` and `differences` are of.

    Both contestants have the same truth where they are equal; that the parts give what the tables give is the test
    below.
    """
    rng, rows = np.random.default_rng(seed), []
    for _ in range(runs):
        truth, plate, logits = draw(n_plates, rng, icc, **options)
        contest = Contest("by_well", truth, dict(zip(("mil", "engineered"), logits, strict=True)), plate, NAMES, 0)
        number = int(rng.integers(10**6))
        draws = resample(contest, PLATE, n_bootstrap, number)
        drawn = [score(one, truth, draws.weights).overall for one in logits]
        swapped = swapped_gaps(contest, *logits, n_bootstrap, number, np.ones(len(NAMES), dtype=bool))
        for metric in METRICS:
            wrong = [units_mistaken(contest, one)[None] for one in logits]
            bounds = [
                _bounds(metric, None, one[metric], draws, n, 0.95)[:2] for one, n in zip(drawn, wrong, strict=True)
            ]
            gap = drawn[0][metric] - drawn[1][metric]
            most, n_apart = most_units(metric, drawn[1][metric][0], None, draws)[0], units_apart(contest, *logits)[None]
            low, high = gap_bounds(metric, gap, most, n_apart, draws, 0.95)
            row = {"metric": metric, "value": gap[0], "low": low, "high": high, "p": mid_p(swapped[metric])}
            told = verdict(row | {"p_holm": whole_p(swapped[metric])}, 0.05)
            of_one = {"score": drawn[0][metric][0], "score_low": bounds[0][0], "score_high": bounds[0][1]}
            rows.append(row | of_one | {"verdict": told})
    return pd.DataFrame(rows)


def truth_of(n_wells, icc, sharpness):
    """Scores of a contestant over very many plates."""
    truth, _, (logits,) = draw(n_wells // 6, np.random.default_rng(0), icc, sharpness=(sharpness,))
    return pd.Series(
        {name: values[0] for name, values in score(logits, truth, np.ones((1, len(truth)))).overall.items()}
    )


def rates(found, true):
    """A row a metric: how often intervals hold the true score, p is small, intervals hold 0, a lead is told."""
    return (
        found.assign(
            covers=(found["score_low"] <= found["metric"].map(true))
            & (found["metric"].map(true) <= found["score_high"]),
            small=found["p"] < 0.05,
            holds=(found["low"] <= 0) & (found["high"] >= 0),
            told=found["verdict"] != TOLD,
        )
        .groupby("metric")[["covers", "small", "holds", "told"]]
        .mean()
    )


def test_the_parts_give_what_the_tables_give():
    rng = np.random.default_rng(4)
    truth, plate, logits = draw(8, rng, 0.1)
    number = int(rng.integers(10**6))
    table, names = prediction_table(
        truth, 3, dict(zip(("mil", "engineered"), logits, strict=True)), plates=[f"P{p}" for p in plate]
    )
    about = {"unit": PLATE, "n_bootstrap": 300, "seed": number}
    gap = differences(table, names, reference="engineered", **about).set_index("metric")
    row = scores(table, names, **about).query("contestant == 'mil' and `class` == ''").set_index("metric")
    own = many(1, 8, 0.1, seed=4).set_index("metric")
    for name in ("value", "low", "high", "p"):
        np.testing.assert_array_equal(own[name], gap.loc[own.index, name])
    for name in ("low", "high"):
        np.testing.assert_array_equal(own[f"score_{name}"], row.loc[own.index, name])
    assert own["verdict"].tolist() == gap.loc[own.index, "verdict"].tolist()


def test_intervals_and_tests_over_plates_are_sane_in_a_few_contests():
    found = rates(many(60, 8, 0.1, seed=0, n_bootstrap=200), truth_of(20000, 0.1, 1.5))
    assert found["covers"].min() >= 0.85
    assert found["holds"].min() >= 0.85
    assert found["small"].max() <= 0.15
    assert found["told"].max() <= 0.1


def test_shuffled_labels_cover_chance_and_show_no_lead():
    rng = np.random.default_rng(5)
    truth, plate, (one, two) = draw(10, rng, 0.1, sharpness=(0.0, 0.0))  # a sharpness of 0: labels mean nothing
    table, names = prediction_table(truth, 3, {"mil": one, "engineered": two}, plates=[f"P{p}" for p in plate])
    row = scores(table, names, unit=PLATE, n_bootstrap=300, seed=0).set_index(["contestant", "metric"])
    for contestant in ("mil", "engineered"):
        own = row.loc[(contestant, "balanced_accuracy")]
        assert own["low"] <= 1 / 3 <= own["high"]
    assert (differences(table, names, reference="mil", n_bootstrap=300, seed=0)["verdict"] == TOLD).all()


@pytest.mark.full
@pytest.mark.parametrize("n_plates", [6, 10, 20, 40])
def test_over_plates_intervals_cover_and_equals_are_told_apart_at_the_level(n_plates):
    """Averaged over how alike the wells of a plate are: an interval cannot know that from few plates."""
    found = pd.concat(
        [rates(many(334, n_plates, icc, seed=20 + i), truth_of(30000, icc, 1.5)) for i, icc in enumerate((0, 0.1, 0.2))]
    )
    found = found.groupby("metric").mean()
    # Ranks near 1 have wide intervals: draws of 6 plates vary 10 % more than the score does. Drawing weights a tenth
    # of the way, so that their spread is linear, brought 0.980 to 0.978.
    wide = found.index.isin(["macro_auroc", *(["mean_average_precision"] if n_plates == 6 else [])])
    for column in ("covers", "holds"):
        assert found.loc[~wide, column].between(0.93, 0.97).all(), found
        assert found.loc[wide, column].between(0.93, 0.985).all(), found
    # Over 6 plates many of the 64 ways to swap leave as many wells right: no level near 0.05 is attained.
    least = pd.Series(0.03, found.index).where((found.index != "balanced_accuracy") | (n_plates > 6), 0.015)
    assert (found["small"] >= least).all(), found
    assert (found["small"] <= 0.07).all(), found
    assert found["told"].max() <= 0.05 + 0.01, found


@pytest.mark.full
def test_a_lead_between_equals_is_told_in_one_contest_of_twenty_at_most():
    found = many(1000, 10, 0.1, seed=99)
    assert (found.loc[found["metric"] == "balanced_accuracy", "verdict"] != TOLD).mean() <= 0.05


@pytest.mark.full
def test_the_detectable_difference_is_shown_four_times_in_five():
    rng, rows = np.random.default_rng(3), []
    for _ in range(300):
        table, names, about = tables(20, rng, 0.0, unit="well", sharpness=(1.75, 1.5))
        rows.append(differences(table, names, reference="engineered", **about).set_index("metric").loc["log_loss"])
    found = pd.DataFrame(rows)
    power, ratio = (found["verdict"] != TOLD).mean(), found["value"].mean() / found["detectable"].mean()
    assert power == pytest.approx(norm.cdf((1.96 + 0.84) * abs(ratio) - 1.96), abs=0.07)  # 0.8 at a ratio of 1
    assert 0.2 < power < 0.95


def failing(rng, wrong, icc):
    """Truth (108,), compound (108,) and logits of two contestants: six classes of three compounds of six wells each.

    ``wrong``: how often each contestant fails; the higher the ICC, the more wells of a compound together.
    """
    truth, compound = np.repeat(np.arange(6), 18), np.repeat(np.arange(18), 6)
    logits, alike = {}, 1 / icc - 1
    for name, rate in zip(("mil", "engineered"), wrong, strict=True):
        fails = rng.random((6, 3, 6)) < rng.beta(rate * alike, (1 - rate) * alike, (6, 3))[..., None]
        logits[name] = np.eye(6)[(truth + fails.ravel()) % 6]
    return truth, compound, logits


@pytest.mark.full
@pytest.mark.parametrize("icc", [0.1, 0.3])
def test_over_compounds_too_the_detectable_difference_is_what_can_be_shown(icc):
    rng, rows = np.random.default_rng(5), []
    for _ in range(80):
        truth, compound, logits = failing(rng, (0.25, 0.02), icc)
        table, names = prediction_table(truth, 6, logits, [f"P{c}" for c in compound], 5)
        found = differences(table, names, reference="engineered", unit=PLATE, n_bootstrap=300, seed=0)
        rows.append(found.set_index("metric").loc["balanced_accuracy"])
    found = pd.DataFrame(rows)
    ratio = 0.23 / found["detectable"].mean()
    assert (found["verdict"] != TOLD).mean() == pytest.approx(norm.cdf((1.96 + 0.84) * ratio - 1.96), abs=0.2)


def nearly_perfect(rng, wrong):
    """Difference of two contestants that fail for whole compounds, with its interval."""
    truth, compound, logits = failing(rng, wrong, icc=0.5)
    contest = Contest("by_compound", truth, logits, compound, [f"c{k}" for k in range(6)], 0)
    draws = resample(contest, "Metadata_compound", 300, int(rng.integers(10**6)))
    mil, engineered = (score(own, truth, draws.weights).overall["balanced_accuracy"] for own in logits.values())
    most, n_apart = (
        most_units("balanced_accuracy", engineered[0], None, draws)[0],
        units_apart(contest, *logits.values())[None],
    )
    return (mil[0] - engineered[0], *gap_bounds("balanced_accuracy", mil - engineered, most, n_apart, draws, 0.95))


@pytest.mark.full
@pytest.mark.parametrize("wrong", [(0.02, 0.02), (0.06, 0.02), (0.12, 0.02)])
def test_where_compounds_go_wrong_as_a_whole_and_few_do_differences_cover(wrong):
    """Before few units that tell two apart left doubt, intervals held a true difference of 0.04 in 91 of 100."""
    rng = np.random.default_rng(8)
    found = np.array([nearly_perfect(rng, wrong) for _ in range(400)])
    holds = (found[:, 1] <= wrong[1] - wrong[0]) & (wrong[1] - wrong[0] <= found[:, 2])
    assert holds.mean() >= 0.93, holds.mean()


def shape_contest(rng, shuffle=False, n_wells=60):
    """Two contestants on wells whose classes differ in shape alone; each sees the same shapes with noise of its own."""
    label = np.repeat(NAMES, n_wells // 3)
    shape = rng.normal(size=(n_wells, 4))
    shape[:, :3] += 2.0 * (label[:, None] == np.array(NAMES))
    columns = {}
    for compartment in ("Cells", "Deep"):
        seen, other = shape + rng.normal(size=shape.shape), rng.normal(size=(n_wells, 8))
        columns |= {f"{compartment}_AreaShape_{j}": seen[:, j] for j in range(4)}
        columns |= {f"{compartment}_Intensity_{j}": other[:, j] for j in range(8)}
    keys = pd.DataFrame({PLATE: "P1", "Metadata_Well": [f"{'ABCDE'[i // 12]}{i % 12 + 1:02d}" for i in range(n_wells)]})
    wells = keys.assign(label=rng.permutation(label) if shuffle else label)
    features = keys.assign(Metadata_Count_Cells=9).join(pd.DataFrame(columns))
    seed = int(rng.integers(10**6))
    learn = partial(LogisticRegression, C=0.1, class_weight="balanced", max_iter=5000)
    same = {"without": [], "classifier": learn, "normalize": fit_robust_z, "select": select_features}
    sides = {"engineered": partial(fit_predict, columns=["Cells_*"], **same)}
    sides["mil"] = partial(fit_predict, columns=["Deep_*"], **same)
    table = contest(wells, features, by_well(wells, n_folds=4, seed=seed), sides, NAMES, seed).predictions
    found = differences(table, NAMES, reference="engineered", n_bootstrap=300, seed=seed)
    return found.assign(accuracy=(table["pred"] == table["true"]).mean())


def test_what_differs_in_shape_alone_is_learned_by_both_and_nothing_from_shuffled_labels():
    found = shape_contest(np.random.default_rng(0))
    assert found["accuracy"][0] >= 0.5
    assert shape_contest(np.random.default_rng(0), shuffle=True)["accuracy"][0] <= 0.45


@pytest.mark.full
def test_where_classes_differ_in_shape_alone_engineered_features_are_not_told_worse():
    rng = np.random.default_rng(1)
    found = pd.concat([shape_contest(rng) for _ in range(200)])
    worse = (found["verdict"] == "ahead").groupby(found["metric"]).mean()  # the other contestant, of engineered
    assert worse.max() <= 0.05, worse


@pytest.mark.full
def test_differences_on_shuffled_labels_hold_zero():
    """Both contestants learn from the same few wells: held-out wells alone would say 83 to 86 in 100."""
    rng = np.random.default_rng(2)
    found = pd.concat([shape_contest(rng, shuffle=True) for _ in range(200)])
    holds = ((found["low"] <= 0) & (found["high"] >= 0)).groupby(found["metric"]).mean()
    told = (found["verdict"] != TOLD).groupby(found["metric"]).mean()
    assert holds.between(0.93, 0.99).all(), holds
    assert told.max() <= 0.05, told

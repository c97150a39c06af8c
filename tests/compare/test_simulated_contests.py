"""Intervals and verdicts in simulated contests on plates: wells of a plate go right or wrong together."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from cellpheno.compare.metrics import METRICS, score
from cellpheno.compare.paired_tests import mid_p, swapped_gaps, whole_p
from cellpheno.compare.resampling import Contest, difference_interval, resample
from cellpheno.compare.statistics import _bounds, _verdict, differences, scores
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
            bounds = [_bounds(metric, None, one[metric], draws, 0.95)[:2] for one in drawn]
            gap = drawn[0][metric] - drawn[1][metric]
            low, high = difference_interval(gap, draws, 0.95)
            row = {"metric": metric, "value": gap[0], "low": low, "high": high, "p": mid_p(swapped[metric])}
            verdict = _verdict(row | {"p_holm": whole_p(swapped[metric])}, 0.05)
            of_one = {"score": drawn[0][metric][0], "score_low": bounds[0][0], "score_high": bounds[0][1]}
            rows.append(row | of_one | {"verdict": verdict})
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


def test_intervals_and_tests_over_plates_are_sane_in_a_few_contests():
    assert coverage(25, 8, 0.1, seed=0).min() >= 0.8
    found = null_contests(25, 8, 0.1, seed=0, n_bootstrap=200)
    assert found["small"].max() <= 0.2
    assert found["holds"].min() >= 0.8


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
def test_intervals_over_plates_cover(n_plates):
    """Averaged over how alike the wells of a plate are: an interval cannot know that from few plates."""
    covered = pd.DataFrame([coverage(500, n_plates, icc, seed=i) for i, icc in enumerate((0.0, 0.1, 0.2))]).mean()
    assert covered.drop("macro_auroc").between(0.93, 0.97).all(), covered
    assert covered["macro_auroc"] >= 0.93  # wide near 1, on purpose


@pytest.mark.full
@pytest.mark.parametrize("n_plates", [6, 10, 20, 40])
def test_differences_over_plates_hold_zero_and_are_rejected_at_the_level(n_plates):
    found = pd.concat([null_contests(400, n_plates, icc, seed=10 + i) for i, icc in enumerate((0.0, 0.1, 0.2))])
    found = found.groupby("metric").mean()
    counted = {"balanced_accuracy": 0.015, "macro_f1": 0.015} if n_plates == 6 else {}  # 64 swaps, many of them tied
    least = pd.Series(0.03, index=found.index) - pd.Series(counted).reindex(found.index).fillna(0)
    assert (found["small"] >= least).all(), found
    assert (found["small"] <= 0.07).all(), found
    assert found["holds"].drop("macro_auroc").between(0.93, 0.97).all(), found
    assert found.loc["macro_auroc", "holds"] >= 0.93  # wide near 1, on purpose
    assert found["told"].max() <= 0.05 + 0.01, found


@pytest.mark.full
def test_a_lead_between_equals_is_told_in_one_contest_of_twenty_at_most():
    found = null_contests(1000, 10, 0.1, seed=99)
    assert found.loc["balanced_accuracy", "told"] <= 0.05, found


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

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import permutation_test, t

from cellpheno.compare.metrics import METRICS
from cellpheno.compare.metrics import score as plain_score
from cellpheno.compare.resampling import Contest, fold_spread, resample, units_mistaken
from cellpheno.compare.statistics import _bounds, differences, scores
from cellpheno.compare.verdict import note_with_reason, verdict_sentence
from cellpheno.errors import InputError


def draw_logits(truth, n_classes, sharpness, shared, rng):
    """Scores of two contestants (n, K) that are wrong on partly the same wells."""
    common = rng.normal(size=(len(truth), n_classes))
    out = []
    for d in sharpness:
        logits = np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=common.shape)
        logits[np.arange(len(truth)), truth] += d
        out.append(logits)
    return out


def prediction_table(truth, n_classes, logits, plates=None, n_folds=1):
    names = [f"c{k}" for k in range(n_classes)]
    tables = []
    for contestant, values in logits.items():
        columns = {f"logit_{name}": values[:, k] for k, name in enumerate(names)}
        tables.append(
            pd.DataFrame(
                {
                    **{
                        "contestant": contestant,
                        "split": "by_well",
                        "repeat": 0,
                        "fold": np.arange(len(truth)) % n_folds,
                    },
                    **{"role": "out_of_fold", "Metadata_Plate": "P1" if plates is None else plates},
                    **{"Metadata_Well": [f"w{i:04d}" for i in range(len(truth))]},
                    **{"true": [names[k] for k in truth], **columns},
                }
            )
        )
    return pd.concat(tables, ignore_index=True), names


def two_contestants(n_per_class=10, n_classes=3, sharpness=(2.0, 2.0), shared=0.5, seed=0, **options):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(n_classes), n_per_class)
    one, two = draw_logits(truth, n_classes, sharpness, shared, rng)
    return *prediction_table(truth, n_classes, {"mil": one, "engineered": two}, **options), truth, one, two


def test_values_are_the_plain_scores_and_intervals_hold_them():
    predictions, names, truth, one, _ = two_contestants()
    table = scores(predictions, names, n_bootstrap=300, seed=0)
    expected = plain_score(one, truth, np.ones((1, len(truth))))
    own = table[table["contestant"] == "mil"].set_index(["metric", "class"])
    for metric in METRICS:
        assert own.loc[(metric, ""), "value"] == pytest.approx(expected.overall[metric][0], rel=1e-12)
    for k, name in enumerate(names):
        assert own.loc[("recall", name), "value"] == expected.per_class["recall"][0, k]
    table = table[~table["metric"].str.startswith("calibration")]
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert (table["low"] < table["high"]).all()
    assert set(table["n"]) == set(table["n_unit"]) == {30}
    bounded = table[table["metric"] != "log_loss"]
    assert bounded["low"].ge(0).all()
    assert bounded["high"].le(1).all()


def test_the_same_seed_gives_the_same_bits_whatever_the_order_of_rows():
    predictions, names, *_ = two_contestants()
    shuffled = predictions.sample(frac=1, random_state=1)
    for function in (scores, partial(differences, reference="engineered")):
        one, two = (function(table, names, seed=3, n_bootstrap=50) for table in (predictions, shuffled))
        pd.testing.assert_frame_equal(one, two)


def test_never_wrong_is_not_certain():
    truth = np.repeat([0, 1], 10)
    predictions, names = prediction_table(truth, 2, {"mil": 9.0 * np.eye(2)[truth]})
    table = scores(predictions, names, n_bootstrap=100, seed=0).set_index(["metric", "class"])
    assert table.loc[("balanced_accuracy", ""), "value"] == table.loc[("balanced_accuracy", ""), "high"] == 1
    assert table.loc[("balanced_accuracy", ""), "low"] == pytest.approx(0.883, abs=0.002)  # Jeffreys, 20 of 20
    assert 0.5 < table.loc[("macro_auroc", ""), "low"] < 0.95
    assert 0.7 < table.loc[("recall", "c0"), "low"] < 0.8  # Jeffreys, 10 of 10: 0.783 before the small sample's t


@pytest.mark.parametrize(("unit", "n_folds"), [("well", 1), ("well", 4), ("Metadata_Plate", 1)])
def test_two_that_are_never_wrong_may_still_differ(unit, n_folds):
    """By about the rate that 1 of 20 contests does not show, of 30 wells or of ten plates with both classes."""
    truth = np.repeat([0, 1], 15)
    right = 9.0 * np.eye(2)[truth]
    plates = [f"P{i % 10}" for i in range(30)]
    predictions, names = prediction_table(truth, 2, {"mil": right, "engineered": 0.5 * right}, plates, n_folds)
    table = differences(predictions, names, reference="engineered", unit=unit, n_bootstrap=200, seed=0)
    row = table.set_index("metric").loc["balanced_accuracy"]
    hidden = (1 - 0.05 ** (1 / (30 if unit == "well" else 20))) * fold_spread(n_folds)
    assert row["value"] == 0
    assert row["high"] == -row["low"] == pytest.approx(hidden, rel=0.35)
    assert row["verdict"] == "no evidence of a difference"
    losses = table.set_index("metric").loc["log_loss"]
    assert losses["low"] <= losses["value"] <= losses["high"]


@pytest.mark.parametrize("n", [24, 110])
def test_what_could_have_been_shown_is_no_less_than_so_few_wells_can_tell_apart(n):
    """One well of n disagrees; of a difference as large as is promised the standard error is that of its n wells."""
    truth = np.repeat([0, 1], n // 2)
    right = 9.0 * np.eye(2)[truth]
    one = right.copy()
    one[0] = one[0, ::-1]
    predictions, names = prediction_table(truth, 2, {"mil": one, "engineered": right})
    table = differences(predictions, names, reference="engineered", n_bootstrap=500, seed=0).set_index("metric")
    found = table.loc["balanced_accuracy", "detectable"]
    seen = np.random.default_rng(0).binomial(n, found, 100_000) / n
    quantiles = t.ppf(0.975, n - 2) + t.ppf(0.8, n - 2)
    assert found == pytest.approx(quantiles * seen.std(), rel=0.05)


def test_p_equals_scipys_permutation_test():
    _, _, truth, one, two = case = two_contestants(n_per_class=6, n_classes=2, sharpness=(2.5, 1.0), seed=4)
    table = differences(case[0], case[1], reference="engineered", n_bootstrap=6000, seed=0).set_index("metric")
    losses = [np.log(np.exp(x).sum(axis=1)) - x[np.arange(len(truth)), truth] for x in (one, two)]
    exact = permutation_test(losses, lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf)
    assert table.loc["log_loss", "p"] == pytest.approx(exact.pvalue, abs=0.015)
    right = [(x.argmax(axis=1) == truth).astype(float) for x in (one, two)]  # equal classes: the mean is balanced
    null = permutation_test(right, lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf)
    size, gap = np.abs(null.null_distribution), abs(null.statistic)
    mid = ((size > gap + 1e-9).mean() + (size >= gap - 1e-9).mean()) / 2
    assert table.loc["balanced_accuracy", "p"] == pytest.approx(mid, abs=0.02)


def test_a_clear_lead_is_told_and_is_antisymmetric():
    predictions, names, *_ = two_contestants(n_per_class=30, sharpness=(3.5, 1.0))
    ahead = differences(predictions, names, reference="engineered", n_bootstrap=400, seed=0)
    behind = differences(predictions, names, reference="mil", n_bootstrap=400, seed=0)
    assert (ahead["verdict"] == "ahead").all()
    assert (behind["verdict"] == "behind").all()
    np.testing.assert_allclose(ahead["value"], -behind["value"], atol=1e-12)
    np.testing.assert_allclose(ahead["low"], -behind["high"], atol=1e-12)
    np.testing.assert_allclose(ahead["p"], behind["p"])


def test_equal_contestants_show_no_difference_and_a_p_of_one_half_or_more():
    _, names, _, one, _ = two_contestants()
    same, _ = prediction_table(np.repeat(np.arange(3), 10), 3, {"a": one, "b": one})
    table = differences(same, names, reference="a", n_bootstrap=100, seed=0)
    assert (table["verdict"] == "no evidence of a difference").all()
    assert (table["value"] == 0).all()
    assert (table["p"] >= 0.5).all()


def test_scale_of_the_logits_does_not_matter_to_auroc_and_its_test():
    predictions, names, truth, one, two = two_contestants(n_classes=2)
    scaled, _ = prediction_table(truth, 2, {"mil": 50 * one, "engineered": two})
    for table in (predictions, scaled):
        table["row"] = differences(table, names, reference="engineered", n_bootstrap=100, seed=0)["p"][1]
    assert predictions["row"][0] == scaled["row"][0]


def test_few_clusters_give_no_interval_and_say_so():
    predictions, names, *_ = two_contestants(plates=[f"P{i % 4}" for i in range(30)])
    table = scores(predictions, names, unit="Metadata_Plate", n_bootstrap=50, seed=0)
    assert table[["low", "high"]].isna().all(axis=None)
    assert (table["note"] == "no interval: 4 plates, 5 or more are wanted").all()
    assert (table["n_unit"] == 4).all()
    gaps = differences(predictions, names, reference="engineered", unit="Metadata_Plate", n_bootstrap=50, seed=0)
    assert (gaps["verdict"] == "no evidence of a difference").all()
    assert "[no interval]" in verdict_sentence(gaps.iloc[0])


def test_wells_that_share_a_plate_widen_the_interval():
    """Plates right or wrong as a whole: 10 units, not 100 wells."""
    truth, plate = np.tile([0, 1], 50), np.repeat(np.arange(10), 10)
    logits = np.eye(2)[np.where(plate < 7, truth, 1 - truth)]
    predictions, names = prediction_table(truth, 2, {"mil": logits}, plates=[f"P{p}" for p in plate])
    wide, narrow = (
        scores(predictions, names, unit=unit, n_bootstrap=500, seed=0).query("metric == 'balanced_accuracy'").iloc[0]
        for unit in ("Metadata_Plate", "well")
    )
    assert wide["unit"] == "plate"
    assert wide["high"] - wide["low"] > 2.5 * (narrow["high"] - narrow["low"])
    assert wide["low"] < 0.45


def compound_contest(right, n_wells=6):
    """Two classes, compounds of ``n_wells`` wells each, of which some are right (compounds, wells)."""
    truth = np.repeat(np.arange(2), right.size // 2)
    logits = np.eye(2)[np.where(right.ravel(), truth, 1 - truth)]
    return Contest("s", truth, {"mil": logits}, np.repeat(np.arange(len(right)), n_wells), ["a", "b"], 0)


def accuracy_bounds(contest, seed=0):
    draws = resample(contest, "compound", 300, seed)
    values = plain_score(contest.logits["mil"], contest.truth, draws.weights).overall["balanced_accuracy"]
    wrong = units_mistaken(contest, contest.logits["mil"])[None]
    return _bounds("balanced_accuracy", None, values, draws, wrong, 0.95)[:2]


def test_a_mistake_makes_an_interval_over_compounds_no_narrower():
    right, widths = np.ones((18, 6), dtype=bool), []
    for compound in range(5):
        low, high = accuracy_bounds(compound_contest(right))
        widths.append(high - low)
        right[compound * 4, 0] = False
    assert widths[1] > widths[0]  # one well wrong, against none
    assert widths[4] < widths[1]  # four compounds tell that wells are wrong alone


def test_intervals_cover_where_few_compounds_are_mistaken():
    """Compounds are mistaken as a whole or not at all: 0.88 was covered when the draws alone were asked."""
    rng, inside, n = np.random.default_rng(1), 0, 300
    for _ in range(n):
        share = rng.beta(0.95, 0.05, size=20)  # a mean of 0.95, an intraclass correlation of 0.5
        low, high = accuracy_bounds(compound_contest(rng.random((20, 6)) < share[:, None]))
        inside += low <= 0.95 <= high
    assert inside / n >= 0.93


def test_losses_of_few_wells_give_no_boundless_interval():
    """One surprise among forty wells: resamples without it have next to no loss, and their logarithms no end."""
    truth = np.repeat([0, 1], 20)
    logits = np.where(np.eye(2)[truth] > 0, 10.0, 0.0)
    logits[0] = [0.0, 3.0]
    predictions, names = prediction_table(truth, 2, {"mil": logits})
    row = scores(predictions, names, n_bootstrap=500, seed=0).query("metric == 'log_loss'").iloc[0]
    assert 0 < row["low"] < row["value"] < row["high"] < 20 * row["value"]


def test_repeats_of_a_well_are_one_well():
    predictions, names, *_ = two_contestants()
    twice = pd.concat([predictions, predictions.assign(repeat=1)])
    pd.testing.assert_frame_equal(
        scores(predictions, names, n_bootstrap=50, seed=0), scores(twice, names, n_bootstrap=50, seed=0)
    )


def test_contestants_on_other_wells_are_refused():
    predictions, names, *_ = two_contestants()
    for wrong, word in (
        (predictions.iloc[1:], "other wells"),
        (predictions.assign(true="x"), "'x'"),
        (predictions.assign(role="new"), "out_of_fold"),
    ):
        with pytest.raises(InputError, match=word):
            scores(wrong, names, n_bootstrap=10, seed=0)
    with pytest.raises(InputError, match="'cnn'"):
        differences(predictions, names, reference="cnn", n_bootstrap=10, seed=0)
    with pytest.raises(InputError, match="'Metadata_Compound'"):
        scores(predictions, names, unit="Metadata_Compound", n_bootstrap=10, seed=0)


@pytest.mark.parametrize(
    ("verdict", "metric", "value", "expected"),
    [
        ("behind", "macro_auroc", -0.04, "mil is behind engineered by 0.04 [0.03, 0.05] macro AUROC over 9 wells"),
        ("ahead", "log_loss", -0.04, "mil is ahead of engineered by 0.04 [0.03, 0.05] log loss (less is better)"),
        ("behind", "log_loss", 0.04, "mil is behind engineered by 0.04 [0.03, 0.05] log loss (less is better)"),
        ("no evidence of a difference", "macro_f1", -0.04, "between mil and engineered: -0.04 [-0.05, -0.03] macro F1"),
    ],
)
def test_sentences(verdict, metric, value, expected):
    row = {"contestant": "mil", "reference": "engineered", "metric": metric, "value": value, "p": 0.01, "n": 9}
    row |= {"low": value - 0.01, "high": value + 0.01, "n_unit": 9, "unit": "well", "verdict": verdict}
    assert expected in verdict_sentence(row)


def coverage(runs, n_per_class, n_classes, sharpness, seed):
    """Fraction of intervals that hold the true balanced accuracy and log loss."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(n_classes), 10000)
    (logits,) = draw_logits(truth, n_classes, [sharpness], 0.0, rng)
    true = plain_score(logits, truth, np.ones((1, len(truth)))).overall
    inside = dict.fromkeys(METRICS, 0)
    truth = np.repeat(np.arange(n_classes), n_per_class)
    for run in range(runs):
        (logits,) = draw_logits(truth, n_classes, [sharpness], 0.0, rng)
        predictions, names = prediction_table(truth, n_classes, {"mil": logits})
        table = scores(predictions, names, n_bootstrap=300, seed=run).set_index("metric")
        for metric in METRICS:
            inside[metric] += table.loc[metric, "low"] <= true[metric][0] <= table.loc[metric, "high"]
    return {metric: count / runs for metric, count in inside.items()}


def rejections(runs, n_per_class, n_classes, sharpness, seed):
    """Fraction of null contests in which p is below 0.05, and in which a lead is told."""
    small, told = dict.fromkeys(METRICS, 0), dict.fromkeys(METRICS, 0)
    for run in range(runs):
        case = two_contestants(n_per_class, n_classes, (sharpness, sharpness), 0.5, seed + run)
        table = differences(case[0], case[1], reference="engineered", n_bootstrap=300, seed=run).set_index("metric")
        for metric in METRICS:
            small[metric] += table.loc[metric, "p"] < 0.05
            told[metric] += table.loc[metric, "verdict"] != "no evidence of a difference"
    return {m: n / runs for m, n in small.items()}, {m: n / runs for m, n in told.items()}


def test_intervals_and_tests_are_sane_in_a_few_simulated_contests():
    covered = coverage(25, 20, 2, 1.2, seed=0)
    assert min(covered.values()) >= 0.8
    small, _ = rejections(25, 20, 2, 1.2, seed=0)
    assert max(small.values()) <= 0.2


@pytest.mark.full
def test_intervals_cover_at_40_wells():
    """Averaged over how good a contestant is, since the exact coverage of a proportion jumps with it."""
    settings = [(n, k, d) for n, k in ((20, 2), (10, 4)) for d in (0.8, 1.2, 1.6, 2.0)]
    covered = pd.DataFrame([coverage(120, *setting, seed=i) for i, setting in enumerate(settings)])
    assert 0.93 <= covered["balanced_accuracy"].mean() <= 0.97
    assert 0.93 <= covered["macro_f1"].mean() <= 0.975
    assert 0.92 <= covered["log_loss"].mean() <= 0.97
    assert covered["macro_auroc"].mean() >= 0.94  # wide near 1, on purpose


@pytest.mark.full
@pytest.mark.parametrize(("n_per_class", "n_classes", "sharpness"), [(20, 2, 1.2), (10, 4, 1.5)])
def test_null_contests_are_rejected_at_the_level(n_per_class, n_classes, sharpness):
    small, told = rejections(1000, n_per_class, n_classes, sharpness, seed=10**6)
    assert all(0.03 <= fraction <= 0.07 for fraction in small.values()), small
    assert all(0.02 <= fraction <= 0.07 for fraction in told.values()), told


def test_a_small_p_without_a_lead_is_explained():
    """By hand: five plates allow 32 swaps, so the least p, of two of them, is 0.0625, and half of that by mid-p."""
    truth = np.tile([0, 1], 20)
    right, wrong = np.eye(2)[truth] * 4, np.eye(2)[1 - truth] * 4
    table, names = prediction_table(
        truth, 2, {"mil": right, "engineered": wrong}, plates=[f"P{i // 8}" for i in range(40)]
    )
    about = {"reference": "engineered", "n_bootstrap": 4000, "seed": 0}
    found = differences(table, names, unit="Metadata_Plate", **about)
    row = found[found["metric"] == "balanced_accuracy"].iloc[0]
    assert row["p"] == pytest.approx(1 / 32, abs=0.008)
    assert row["verdict"] == "no evidence of a difference"
    assert row["note"] == "of 5 units too few swaps are possible, the least p is 0.062"
    assert "No lead is told: of 5 units" in verdict_sentence(row)
    assert (differences(table, names, **about)["note"] == "").all()  # a lead is told over 40 wells

    def told(**facts):
        row = {"p": 0.04, "p_whole": 0.04, "p_holm": 0.04, "low": 0.1, "high": 0.3, "value": 0.2, "n_unit": 40}
        return note_with_reason({**row, "metric": "macro_f1", "note": "", "spread": 1.0, **facts}, 0.05)

    assert told() == ""
    assert told(low=-0.1) == "the interval holds zero"
    assert told(low=-0.1, spread=1.5) == "the interval, which reckons with other training wells, holds zero"
    assert told(p_holm=0.08) == "with ties counted whole and corrected for the number of contestants p is 0.080"
    assert told(p=0.06, p_holm=0.08, low=-0.1) == ""
    assert told(low=np.nan, high=np.nan, note="no interval: few") == "no interval: few"


@pytest.mark.parametrize("unit", ["well", "Metadata_Plate"])
def test_after_five_folds_a_difference_is_half_as_uncertain_again_and_a_score_is_not(unit):
    """1/5 + 1/4 is 2.25 times 1/5 (Nadeau, Bengio 2003, equation 9)."""
    about = {"n_per_class": 20, "sharpness": (1.5, 1.0), "plates": [f"P{i % 10}" for i in range(60)]}
    (one, names, *_), (five, *_) = (two_contestants(n_folds=n, **about) for n in (1, 5))
    options = {"unit": unit, "n_bootstrap": 200, "seed": 1}
    pd.testing.assert_frame_equal(scores(one, names, **options), scores(five, names, **options))
    apart, crossed = (differences(t, names, reference="engineered", **options) for t in (one, five))
    for name in ("low", "high"):
        np.testing.assert_allclose(crossed[name] - crossed["value"], 1.5 * (apart[name] - apart["value"]))
    losses = crossed["metric"].isin(["log_loss", "brier"])
    np.testing.assert_allclose(crossed["detectable"][losses], 1.5 * apart["detectable"][losses])
    assert (crossed["detectable"] > apart["detectable"]).all()
    np.testing.assert_array_equal(crossed["p"], apart["p"])
    twice = pd.concat([five, five.assign(repeat=1)])  # repeats are averaged: still five folds
    pd.testing.assert_frame_equal(differences(twice, names, reference="engineered", **options), crossed)


def test_one_well_that_tells_two_apart_leaves_no_less_doubt_than_none():
    """Of 18 compounds, wells of one, then of three, are called otherwise: from there on the resamples know."""
    truth = np.repeat(np.arange(3), 36)
    right = np.eye(3)[truth] * 4
    compounds = [f"{i // 6:02d}" for i in range(len(truth))]

    def half_width(wells):
        other = right.copy()
        other[wells] = np.eye(3)[(truth[wells] + 1) % 3] * 4
        table, names = prediction_table(truth, 3, {"mil": other, "engineered": right}, plates=compounds)
        about = {"reference": "engineered", "unit": "Metadata_Plate", "n_bootstrap": 300, "seed": 0}
        row = differences(table, names, **about).set_index("metric").loc["balanced_accuracy"]
        assert row["value"] == pytest.approx(-len(wells) / 108)
        return (row["high"] - row["low"]) / 2

    none, one, three = half_width([]), half_width([0]), half_width([0, 40, 80])
    assert one == pytest.approx(none)
    assert 0.02 < three < one / 2

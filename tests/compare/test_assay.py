import numpy as np
import pandas as pd
import pytest
from scipy.stats import median_abs_deviation, spearmanr

from cellpheno.compare.assay import (
    assay_quality,
    dose_response,
    dose_trend,
    fit_hill,
    hill,
    robust_z_prime,
    z_prime,
)
from cellpheno.errors import InputError

CLASSES = ("negative", "positive")


def plate(n_control=8, seed=0, noise=0.5):
    """Two drugs: controls, and four wells at each of nine doses; the margin follows a Hill curve."""
    rng = np.random.default_rng(seed)
    rows = []
    for drug, ec50 in (("A", 4.0), ("B", 16.0)):
        for name, dose in (("negative", 0.0), ("positive", 1e4)):
            rows += [(drug, name, dose, ec50)] * n_control
        rows += [(drug, "", dose, ec50) for dose in 2.0 ** np.arange(9) for _ in range(4)]
    wells = pd.DataFrame(rows, columns=["Metadata_Drug", "label", "dose", "ec50"])
    wells["Metadata_Plate"], wells["Metadata_Well"] = "P1", [f"w{i:03d}" for i in range(len(wells))]
    margin = hill(wells["dose"].to_numpy(), -20.0, 30.0, np.log(wells["ec50"].to_numpy()), 2.0)
    margin = margin + noise * rng.normal(size=len(wells))
    wells["Metadata_Dose"] = wells["dose"].astype(str)
    predictions = pd.DataFrame(
        {
            **{"contestant": "mil", "split": "by_well", "repeat": 0, "fold": 0},
            **{"role": np.where(wells["label"] == "", "new", "out_of_fold")},
            **{key: wells[key] for key in ("Metadata_Plate", "Metadata_Well")},
            **{"true": wells["label"], "logit_negative": -margin / 2, "logit_positive": margin / 2},
        }
    )
    return predictions, wells, margin


def test_z_primes_by_hand():
    positive, negative = np.array([10.0, 12.0, 11.0, 15.0]), np.array([1.0, 2.0, 0.0, -1.0])
    spread = np.std(positive, ddof=1) + np.std(negative, ddof=1)
    assert z_prime(positive, negative) == pytest.approx(1 - 3 * spread / (12.0 - 0.5))
    robust = 1.4826 * (median_abs_deviation(positive) + median_abs_deviation(negative))
    assert robust_z_prime(positive, negative) == pytest.approx(1 - 3 * robust / (11.5 - 0.5))
    assert np.isnan(z_prime(positive, positive))


def test_quality_uses_the_controls_of_each_group_and_its_interval_holds_the_value():
    predictions, wells, margin = plate()
    table = assay_quality(predictions, wells, CLASSES, by="Metadata_Drug", n_bootstrap=500, seed=0)
    own = (wells["Metadata_Drug"] == "A").to_numpy()
    arms = [margin[own & (wells["label"] == name).to_numpy()] for name in ("positive", "negative")]
    first = table.iloc[0]
    assert (first["group"], first["metric"], first["n"]) == ("A", "z_prime", 16)
    assert first["value"] == pytest.approx(float(z_prime(*arms)))
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()
    assert table["high"].lt(1).all()


@pytest.mark.parametrize(("n", "value", "interval"), [(1, False, False), (2, True, False), (3, True, True)])
def test_few_controls_give_no_interval_or_no_number(n, value, interval):
    predictions, wells, _ = plate(n_control=n)
    row = assay_quality(predictions, wells, CLASSES, by="Metadata_Drug", n_bootstrap=200, seed=0).iloc[0]
    assert [np.isfinite(row["value"]), np.isfinite(row["low"])] == [value, interval]


def test_points_of_the_dose_response_by_hand():
    predictions, wells, margin = plate()
    points = dose_response(predictions, wells, CLASSES, dose="Metadata_Dose", by="Metadata_Drug")
    here = margin[((wells["Metadata_Drug"] == "B") & (wells["dose"] == 8.0)).to_numpy()]
    row = points[(points["group"] == "B") & (points["dose"] == 8.0)].iloc[0]
    assert (row["mean"], row["sd"], row["n"]) == (pytest.approx(here.mean()), pytest.approx(here.std(ddof=1)), 4)
    assert points.groupby("group")["n"].sum().tolist() == [52, 52]


def test_trend_equals_scipy_and_recovers_the_curve():
    predictions, wells, margin = plate()
    trend = dose_trend(predictions, wells, CLASSES, dose="Metadata_Dose", by="Metadata_Drug")
    for drug, ec50 in (("A", 4.0), ("B", 16.0)):
        own = trend[trend["group"] == drug].set_index("metric")["value"]
        new = predictions.drop_duplicates("Metadata_Well").set_index("Metadata_Well")["role"] == "new"
        here = (wells["Metadata_Drug"] == drug).to_numpy() & new[wells["Metadata_Well"]].to_numpy()
        assert own["spearman"] == pytest.approx(spearmanr(wells["dose"][here], margin[here]).statistic)
        assert own["hill_ec50"] == pytest.approx(ec50, rel=0.05)
        assert own["hill_slope"] == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize(("x", "y"), [([1, 2, 4], [0, 1, 2]), ([0, 1, 2, 4, 8], [3, 3, 3, 3, 3])])
def test_a_curve_that_cannot_be_fitted_is_nan(x, y):
    assert np.isnan(fit_hill(np.array(x, float), np.array(y, float))).all()


def test_wells_without_a_dose_are_left_out_and_words_are_refused():
    predictions, wells, _ = plate()
    wells.loc[wells["label"] != "", "Metadata_Dose"] = ""
    points = dose_response(predictions, wells, CLASSES, dose="Metadata_Dose", by="Metadata_Drug")
    assert sorted(points["dose"].unique()) == list(2.0 ** np.arange(9))
    wells.loc[3, "Metadata_Dose"] = "high"
    with pytest.raises(InputError, match="w003: Metadata_Dose 'high' is no dose"):
        dose_trend(predictions, wells, CLASSES, dose="Metadata_Dose")
    with pytest.raises(InputError, match="Metadata_Doze"):
        dose_response(predictions, wells, CLASSES, dose="Metadata_Doze")
    with pytest.raises(InputError, match="wanted"):
        dose_response(predictions, wells, ("a", "b", "c"), dose="Metadata_Dose")


@pytest.mark.full
@pytest.mark.parametrize(("n", "lowest"), [(4, 0.93), (8, 0.91), (16, 0.92)])
def test_intervals_of_z_prime_cover(n, lowest):
    """Controls 12 standard deviations apart: the true Z' is 0.5."""
    rng, inside = np.random.default_rng(n), 0
    for run in range(400):
        truth = np.repeat(["negative", "positive"], n)
        margin = rng.normal(size=2 * n) + 12.0 * (truth == "positive")
        wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": [f"w{i}" for i in range(2 * n)]})
        predictions = wells.assign(
            contestant="mil", split="s", role="out_of_fold", true=truth, logit_negative=0.0, logit_positive=margin
        )
        row = assay_quality(predictions, wells, CLASSES, n_bootstrap=400, seed=run).iloc[0]
        inside += row["low"] <= 0.5 <= row["high"]
    assert inside / 400 >= lowest

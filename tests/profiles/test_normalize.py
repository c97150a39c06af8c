import numpy as np
import pandas as pd
import pytest
from scipy.stats import median_abs_deviation, zscore

from cellpheno.profiles.normalize import apply_scaling, fit_robust_z, fit_standard


@pytest.fixture
def table():
    values = np.random.default_rng(3).normal(5, 2, size=(30, 3))
    values[4, 1] = np.nan
    return pd.DataFrame(values, columns=["a", "b", "c"])


def test_robust_z_equals_scipy(table):
    scaled = apply_scaling(table, fit_robust_z(table))
    for name in table:
        x = table[name].to_numpy()
        expected = (x - np.nanmedian(x)) / (1.4826 * median_abs_deviation(x, nan_policy="omit"))
        np.testing.assert_allclose(scaled[name], expected, rtol=1e-12)


def test_standard_equals_scipy(table):
    expected = zscore(table.to_numpy(), ddof=1, nan_policy="omit")
    np.testing.assert_allclose(apply_scaling(table, fit_standard(table)), expected, rtol=1e-12)


def test_a_feature_of_a_minority_keeps_a_finite_scale():
    values = pd.DataFrame({"a": [0.0] * 8 + [4.0, 6.0]})  # MAD 0, mean absolute deviation 1
    assert fit_robust_z(values).scale["a"] == pytest.approx(1.2533)


@pytest.mark.parametrize("fit", [fit_robust_z, fit_standard])
def test_a_constant_becomes_nan_not_a_huge_number(fit):
    constant = pd.DataFrame({"a": [2.0, 2.0, 2.0]})
    assert apply_scaling(pd.DataFrame({"a": [2.0, 3.0]}), fit(constant))["a"].isna().all()


def test_only_the_fitted_columns_come_back_and_a_missing_one_is_named(table):
    scaling = fit_standard(table[["a", "b"]])
    assert list(apply_scaling(table, scaling)) == ["a", "b"]
    with pytest.raises(ValueError, match="'b'"):
        apply_scaling(table[["a"]], scaling)

"""Corrections, tests and power as statsmodels has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from cellpheno.compare.intervals import detectable_difference
from cellpheno.compare.paired_tests import holm, mcnemar
from cellpheno.compare.resampling import Resamples


@pytest.mark.parametrize("p", [[0.3], [0.04, 0.01], [0.02, 0.02, 1.0, 0.0], [0.9, 0.012, 0.011, 0.5, 0.01, 0.03]])
def test_holm(p):  # few: multipletests collects garbage on every call
    np.testing.assert_allclose(holm(np.array(p)), multipletests(p, method="holm")[1], rtol=1e-12)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5), st.integers(0, 5))
def test_mcnemar_exact(won, lost, both, neither):
    right = np.repeat([True, True, False, False], [both, won, lost, neither])
    other = np.repeat([True, False, True, False], [both, won, lost, neither])
    truth = np.zeros(len(right), dtype=np.intp)
    logits = [np.eye(2)[np.where(ok, 0, 1)].reshape(-1, 2) for ok in (right, other)]
    theirs = their_mcnemar([[both, won], [lost, neither]], exact=True).pvalue
    assert mcnemar(*logits, truth) == pytest.approx(theirs if won + lost else 1.0, rel=1e-9)


@pytest.mark.parametrize("n_units", [6, 20, 100])
def test_detectable_difference_has_the_power_that_it_claims(n_units):
    """Their power is by the noncentral t distribution; ours is its usual approximation by two quantiles."""
    draws = Resamples(np.ones((1, 9 * n_units)), n_units, *[np.ones(2)] * 3, n_units - 1, "")
    error = 0.1  # standard error of the difference: its spread over units / sqrt(n_units)
    found = detectable_difference(np.array([-error, error] * 500), draws, 0.95)
    effect = found / (error * np.sqrt(n_units))
    assert TTestPower().power(effect, n_units, 0.05) == pytest.approx(0.8, abs=0.02)

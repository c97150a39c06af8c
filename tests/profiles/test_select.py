import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellpheno.profiles.select import select_features


def naive_kept(table, limit):
    kept = []
    for name in table:
        if all(abs(np.corrcoef(table[name], table[other])[0, 1]) <= limit for other in kept):
            kept.append(name)
    return tuple(kept)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.8, 0.95]))
def test_correlated_features_go_as_in_the_naive_loop(seed, limit):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(20, 3))
    values = factors @ rng.normal(size=(3, 10)) + 0.3 * rng.normal(size=(20, 10))
    table = pd.DataFrame(values, columns=[f"f{j}" for j in range(10)])
    selection = select_features(table, max_correlation=limit)
    assert selection.kept == naive_kept(table, limit)
    assert sorted([*selection.kept, *selection.dropped["feature"]]) == sorted(table.columns)


def test_every_reason_is_told():
    table = pd.DataFrame(
        {
            "fine": [1.0, 2.0, 4.0, 3.0],
            "constant": 0.1 + 0.2,
            "rounding": [1.0, 1.0 + 1e-15, 1.0, 1.0],
            "empty": np.nan,
            "gaps": [1.0, np.nan, 3.0, 2.0],
            "copy": [-2.0, -4.0, -8.0, -6.0],
            "free": [1.0, -1.0, 1.0, -1.0],
        }
    )
    selection = select_features(table)
    assert selection.kept == ("fine", "free")
    assert dict(selection.dropped.to_numpy()) == {
        "constant": "constant",
        "rounding": "constant",
        "empty": "undefined in 100% of wells",
        "gaps": "undefined in 25% of wells",
        "copy": "correlation -1.000 with fine",
    }


@pytest.mark.parametrize(("max_nan", "kept"), [(0.2, ()), (0.25, ("gaps",))])
def test_the_allowed_fraction_of_gaps_is_inclusive(max_nan, kept):
    assert select_features(pd.DataFrame({"gaps": [1.0, np.nan, 3.0, 2.0]}), max_nan=max_nan).kept == kept


def test_no_wells_keep_nothing():
    assert select_features(pd.DataFrame({"a": np.empty(0)})).kept == ()

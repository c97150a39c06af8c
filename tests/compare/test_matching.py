import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from cellpheno.compare.matching import match_treatments, treatment_profiles
from cellpheno.errors import InputError

FEATURES = ["f0", "f1", "f2"]


def treatments(n, seed):
    rng = np.random.default_rng(seed)
    compound = rng.integers(0, 6, size=n)
    table = pd.DataFrame(rng.normal(size=(n, 3)), columns=FEATURES)
    return table.assign(
        moa=[f"m{c % 3}" for c in compound],
        drug=[f"d{c}" for c in compound],
        week=["|".join(f"w{w}" for w in sorted(set(rng.integers(0, 4, size=2)))) for _ in range(n)],
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 25), st.integers(0, 10**6), st.booleans())
def test_matches_equal_a_loop_over_pairs(n, seed, batch):
    table = treatments(n, seed)
    if table["moa"].nunique() < 2:
        return
    found = match_treatments(table, FEATURES, label="moa", compound="drug", batch="week" if batch else None)
    right, able = 0, 0
    for i, own in table.iterrows():
        others = [
            (cosine(own[FEATURES].to_numpy(float), other[FEATURES].to_numpy(float)), j)
            for j, other in table.iterrows()
            if other["drug"] != own["drug"]
            and not (batch and set(other["week"].split("|")) & set(own["week"].split("|")))
        ]
        row = found.matches.loc[i]
        assert (row["note"] == "") == any(table.loc[j, "moa"] == own["moa"] for _, j in others)
        if not others:
            assert row["neighbour"] == -1
            assert row["pred"] == ""
            continue
        distance, nearest = min(others)
        assert row["neighbour"] == nearest
        assert row["distance"] == pytest.approx(distance, abs=1e-12)
        right += table.loc[nearest, "moa"] == own["moa"]
        able += row["note"] == ""
    whole = found.scores.set_index(["metric", "class"])
    assert whole.loc[("accuracy", ""), "value"] == pytest.approx(right / n)
    assert whole.loc[("accuracy", ""), "n"] == n
    assert whole.loc[("accuracy_of_scorable", ""), "n"] == able
    if able:
        assert whole.loc[("accuracy_of_scorable", ""), "value"] == pytest.approx(right / able)


def test_a_class_of_one_compound_or_one_week_is_named_with_the_denominator():
    """Nearest is always the twin: 100 % of what can be scored; the class in one week is lost when the batch is out."""
    angle = np.repeat([0.0, 0.8, 1.6], 4) + np.tile([0.0, 0.01, 0.02, 0.03], 3)
    table = pd.DataFrame({"x": np.cos(angle), "y": np.sin(angle)}).assign(
        moa=np.repeat(["actin", "kinase", "alone"], 4),
        drug=["a1", "a1", "a2", "a2", "k1", "k1", "k2", "k2", "z", "z", "z", "z"],
        week=["1", "1", "2", "2", "3", "3", "3", "3", "1", "1", "2", "2"],
    )
    nsc, nscb = (
        match_treatments(table, ["x", "y"], label="moa", compound="drug", batch=batch) for batch in (None, "week")
    )
    first, strict = (found.scores.set_index(["metric", "class"]) for found in (nsc, nscb))
    assert first.loc[("accuracy", ""), "value"] == pytest.approx(8 / 12)
    assert first.loc[("accuracy_of_scorable", ""), ["value", "n", "n_all"]].tolist() == [1, 8, 12]
    assert first.loc[("accuracy", ""), "note"] == "cannot be scored: alone (4 of 12 treatments)"
    assert strict.loc[("accuracy_of_scorable", ""), ["value", "n", "n_all"]].tolist() == [1, 4, 12]
    assert strict.loc[("accuracy", ""), "note"] == "cannot be scored: alone, kinase (8 of 12 treatments)"
    assert np.isnan(strict.loc[("recall", "kinase"), "value"])
    assert strict.loc[("recall", "kinase"), "note"] == "no treatment of its class with another compound and batch"
    low = first.loc[("accuracy_of_scorable", ""), "low"]
    assert low == pytest.approx(0.5551, abs=1e-3)  # Jeffreys: 4 of 4 compounds, not 8 of 8 treatments


def test_profiles_of_treatments_are_medians_and_batches_are_joined():
    wells = pd.DataFrame({"drug": list("aab"), "dose": list("112"), "week": list("231"), "f": [1.0, 5.0, 7.0]})
    table = treatment_profiles(wells, ["f"], ["drug", "dose"], ["drug", "week"])
    assert table.to_dict("list") == {"drug": ["a", "b"], "dose": ["1", "2"], "week": ["2|3", "1"], "f": [3.0, 7.0]}


def test_profiles_that_point_nowhere_are_refused():
    table = treatments(8, 0)
    with pytest.raises(InputError, match="no columns"):
        match_treatments(table, ["g"], label="moa", compound="drug")
    table.loc[0, FEATURES] = 0.0
    with pytest.raises(InputError, match="1 profiles are zero"):
        match_treatments(table, FEATURES, label="moa", compound="drug")
    with pytest.raises(InputError, match="two classes"):
        match_treatments(treatments(8, 0).assign(moa="m"), FEATURES, label="moa", compound="drug")

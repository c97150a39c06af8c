import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test

from cellpheno.compare.paired_tests import holm, mcnemar
from cellpheno.compare.statistics import differences
from cellpheno.compare.verdict import verdict_sentence
from tests.compare.test_statistics import draw_logits, prediction_table


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.3))
def test_holm_rejects_what_its_steps_reject(p, level):
    """The procedure as Holm tells it: from the smallest p on, until one is not below level / (number left)."""
    rejected = set()
    for step, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if not p[i] * (len(p) - step) < level:
            break
        rejected.add(i)
    assert set(np.flatnonzero(holm(np.array(p)) < level)) == rejected


def test_holm_leaves_out_what_is_undefined():
    np.testing.assert_allclose(holm(np.array([0.02, np.nan, 0.5])), [0.04, np.nan, 0.5])


def test_mcnemar_equals_the_exact_permutation_of_right_and_wrong():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 8)
    one, two = draw_logits(truth, 2, [2.5, 0.5], 0.3, rng)
    right = [(x.argmax(axis=1) == truth).astype(float) for x in (one, two)]
    exact = permutation_test(right, lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf)
    assert mcnemar(one, two, truth) == pytest.approx(exact.pvalue, rel=1e-9)
    assert mcnemar(one, one, truth) == 1


def test_differences_are_corrected_for_the_number_of_contestants_and_say_what_could_have_been_shown():
    rng = np.random.default_rng(3)
    truth = np.repeat([0, 1, 2], 20)
    logits = dict(zip("abcd", draw_logits(truth, 3, [2.6, 1.5, 1.4, 1.5], 0.5, rng), strict=True))
    table = differences(*prediction_table(truth, 3, logits), reference="d", n_bootstrap=400, seed=0)
    for _, own in table.groupby("metric"):
        np.testing.assert_allclose(own["p_holm"], holm(own["p_whole"].to_numpy()))
    balanced = table[table["metric"] == "balanced_accuracy"].set_index("contestant")
    for name in "abc":
        assert balanced.loc[name, "p_mcnemar"] == mcnemar(logits[name], logits["d"], truth)
    assert table.loc[table["metric"] != "balanced_accuracy", "p_mcnemar"].isna().all()
    told = table["verdict"] != "no evidence of a difference"
    assert (told <= (table["p_holm"] < 0.05)).all()
    width = (table["high"] - table["low"]) / 2
    np.testing.assert_allclose(table["detectable"] / width, (1.96 + 0.84) / 1.96, rtol=0.25)
    row = balanced.loc["b"].to_dict() | {"contestant": "b", "metric": "balanced_accuracy"}
    assert f"A difference of {row['detectable']:.2f} would have been shown 4 times in 5." in verdict_sentence(row)
    assert verdict_sentence(row | {"detectable": 1.2}).endswith("no difference would have been shown 4 times in 5.")
    clustered, names = prediction_table(truth, 3, logits, plates=[f"P{i % 10}" for i in range(60)])
    by_plate = differences(clustered, names, reference="d", unit="Metadata_Plate", n_bootstrap=50, seed=0)
    assert by_plate["p_mcnemar"].isna().all()  # wells of a plate are not alone

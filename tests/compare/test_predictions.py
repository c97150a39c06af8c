import numpy as np
import pandas as pd
import pytest

from cellpheno.compare.predictions import mean_over_repeats, prediction_rows
from cellpheno.errors import InputError

WELLS = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["B03", "B04"], "label": ["a", None], "n_cells": [5, 0]})


def rows(logits, **options):
    return prediction_rows(WELLS, np.array(logits), ["b", "a"], contestant="mil", split="by_well", **options)


def test_columns_are_those_of_the_table_and_probabilities_sum_to_one():
    table = rows([[1.0, 3.0], [0.0, 0.0]], repeat=1, fold=2)
    assert ",".join(table) == (
        "contestant,split,repeat,fold,role,Metadata_Plate,Metadata_Well,true,pred,prob_b,prob_a,logit_b,logit_a,n_cells"
    )
    np.testing.assert_allclose(table["prob_a"], [1 / (1 + np.exp(-2.0)), 0.5])
    assert table["pred"].tolist() == ["a", "b"]
    assert table["true"].tolist() == ["a", ""]


@pytest.mark.parametrize("logits", [[[1.0, np.nan], [0.0, 0.0]], [[1.0, np.inf], [0.0, 0.0]]])
def test_a_logit_that_is_no_number_is_refused_with_its_well(logits):
    with pytest.raises(ValueError, match="B03"):
        rows(logits)


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"wanted \(2, 2\)"):
        rows([[1.0, 2.0]])


def test_repeats_count_once_with_the_mean_logit():
    both = pd.concat([rows([[1.0, 3.0], [0.0, 1.0]], repeat=0), rows([[3.0, 0.0], [0.0, 2.0]], repeat=1)])
    table = mean_over_repeats(both, ["b", "a"])
    assert table[["logit_b", "logit_a"]].to_numpy().tolist() == [[2.0, 1.5], [0.0, 1.5]]


def test_a_well_with_two_truths_is_refused():
    first = rows([[1.0, 3.0], [0.0, 1.0]])
    with pytest.raises(InputError, match="B03 has two true classes"):
        mean_over_repeats(pd.concat([first, first.assign(true="b")]), ["b", "a"])

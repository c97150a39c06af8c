"""Differences of each class: those of its own wells, with doubt where few units tell two contestants apart."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from cellpheno.compare.class_differences import class_differences
from tests.compare.test_statistics import draw_logits, prediction_table


def case(rng):
    truth = np.repeat([0, 1, 2], [12, 15, 18])
    one, two = draw_logits(truth, 3, [2.0, 1.0], 0.3, rng)
    return truth, one, two


def test_a_difference_of_a_class_is_that_of_its_recalls_and_areas():
    truth, one, two = case(np.random.default_rng(0))
    table, names = prediction_table(truth, 3, {"mil": one, "engineered": two})
    found = class_differences(table, names, reference="engineered", n_bootstrap=300, seed=0)
    assert found.groupby("metric").size().to_dict() == {"auroc": 3, "recall": 3}
    for k, name in enumerate(names):
        own = found[found["class"] == name].set_index("metric")
        wells = truth == k
        recalls = [(logits.argmax(axis=1) == k)[wells].mean() for logits in (one, two)]
        assert own.loc["recall", "value"] == recalls[0] - recalls[1]
        odds = [x[:, k] - np.log(np.exp(np.delete(x, k, axis=1)).sum(axis=1)) for x in (one, two)]
        areas = [roc_auc_score(wells, score) for score in odds]
        np.testing.assert_allclose(own.loc["auroc", "value"], areas[0] - areas[1], atol=1e-12)
        assert (own["low"] <= own["value"]).all()
        assert (own["value"] <= own["high"]).all()
        assert own["n"].tolist() == [wells.sum()] * 2
        spread = np.sqrt(
            np.var(np.subtract(*[(x.argmax(axis=1) == k)[wells].astype(float) for x in (one, two)])) / wells.sum()
        )
        assert 2.5 * spread < own.loc["recall", "high"] - own.loc["recall", "low"] < 8 * spread + 0.3


def test_where_no_unit_tells_two_apart_doubt_is_left_and_too_few_give_no_interval():
    truth, one, _ = case(np.random.default_rng(1))
    table, names = prediction_table(truth, 3, {"mil": one, "engineered": one}, [f"P{i % 6}" for i in range(45)])
    found = class_differences(table, names, reference="engineered", unit="Metadata_Plate", n_bootstrap=100, seed=0)
    assert (found["value"] == 0).all()
    assert (found["high"] > 0.05).all()
    few = class_differences(
        table.assign(Metadata_Plate="P0"), names, reference="engineered", unit="Metadata_Plate", n_bootstrap=50, seed=0
    )
    assert few["low"].isna().all()
    assert few["note"].str.startswith("no interval").all()


def test_wells_whose_unit_has_no_name_are_units_of_their_own():
    truth, one, two = case(np.random.default_rng(2))
    table, names = prediction_table(truth, 3, {"mil": one, "engineered": two})
    compound = np.where(truth[: len(truth)] == 0, "", [f"c{i // 3}" for i in range(45)])
    wells = table[table["contestant"] == "mil"]["Metadata_Well"].tolist()
    named = table.assign(Metadata_compound=table["Metadata_Well"].map(dict(zip(wells, compound, strict=True))))
    found = class_differences(
        named, names, reference="engineered", unit="Metadata_compound", n_bootstrap=50, seed=0
    ).drop_duplicates("class")
    assert pd.Series(found["n_unit"].to_numpy(), found["class"]).to_dict() == dict(zip(names, [12, 5, 6], strict=True))

"""A planted artefact of the plate: known by well, gone by plate, and said so."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cellpheno.compare.baselines import fit_predict, fit_predict_categories
from cellpheno.compare.confounding import confounding
from cellpheno.compare.contest import contest
from cellpheno.compare.splits import assign_folds, by_group, by_well
from cellpheno.compare.statistics import scores
from cellpheno.profiles.normalize import fit_robust_z
from cellpheno.profiles.select import select_features

CLASSIFIER = partial(LogisticRegression, C=1.0, class_weight="balanced", max_iter=2000)
CONTESTANTS = {
    "engineered": partial(
        fit_predict, columns=["Cells_*"], without=[], classifier=CLASSIFIER, normalize=fit_robust_z,
        select=select_features,
    ),
    "plate": partial(fit_predict_categories, columns=["Metadata_Plate"], classifier=CLASSIFIER),
    "position": partial(fit_predict_categories, columns=["Metadata_Row", "Metadata_Column"], classifier=CLASSIFIER),
}  # fmt: skip


def screen(artefact, phenotype, seed=0):
    """Eight plates of mostly one class each; features that know the plate, or the class."""
    rng = np.random.default_rng(seed)
    plate, well = np.repeat(np.arange(8), 12), np.tile(np.arange(12), 8)
    common = rng.permutation(np.repeat([0, 1], 4))[plate]
    truth = np.where(rng.permuted(np.tile(np.arange(12) < 1, (8, 1)), axis=1).ravel(), 1 - common, common)
    wells = pd.DataFrame(
        {
            "Metadata_Plate": [f"P{p}" for p in plate],
            "Metadata_Well": [f"{'ABC'[w // 4]}{w % 4 + 1:02d}" for w in well],
            "label": np.array(["a", "b"])[truth],
        }
    )
    values = rng.normal(size=(96, 8)) + artefact * 4 * np.eye(8)[plate]
    values[:, 0] += phenotype * truth
    names = [f"Cells_Texture_F{j}_DNA" for j in range(8)]
    features = pd.concat(
        [wells.drop(columns="label").assign(Metadata_Count_Cells=9), pd.DataFrame(values, columns=names)], axis=1
    )
    splits = {"by_well": partial(by_well, n_folds=4), "by_plate": partial(by_group, group="Metadata_Plate", n_folds=4)}
    folds = assign_folds(wells, splits, seed=1)
    predictions = contest(wells, features, folds, CONTESTANTS, ["a", "b"], seed=0).predictions
    return scores(predictions, ["a", "b"], n_bootstrap=300, seed=0)


def values(table):
    rows = table[(table["metric"] == "balanced_accuracy") & (table["class"] == "")]
    return rows.set_index(["split", "contestant"])["value"]


def test_a_planted_plate_artefact_is_high_by_well_at_chance_by_plate_and_the_sentences_say_so():
    table = screen(artefact=1, phenotype=0)
    value = values(table)
    assert value["by_well", "engineered"] > 0.8
    assert value["by_plate", "engineered"] < 0.65
    told = confounding(table, chance=0.5)
    assert told[0].startswith("Split by well: the plate alone predicts the class, balanced accuracy 0.9")
    assert told[0].endswith("guessing 0.50. So a score under this split is no evidence of a phenotype.")
    (fall,) = (text for text in told if text.startswith("engineered scores"))
    assert "under split by plate, where the layout does not help: there it is not told from guessing" in fall
    assert f"scores {value['by_well', 'engineered']:.2f} [" in fall
    assert not any(text.startswith("Split by plate") for text in told)


def test_a_phenotype_that_survives_the_plate_split_is_not_called_layout():
    told = confounding(screen(artefact=1, phenotype=6), chance=0.5)
    assert any(text.startswith("Split by well: the plate alone") for text in told)
    assert not any(text.startswith("engineered scores") for text in told)


@pytest.mark.parametrize(("low", "value", "n"), [(0.6, 0.7, 1), (0.4, 0.7, 0), (np.nan, 0.7, 1), (np.nan, 0.55, 0)])
def test_a_count_above_chance_is_told_with_or_without_an_interval(low, value, n):
    row = {"contestant": "cell_count", "split": "by_well", "metric": "balanced_accuracy", "class": "", "value": value}
    told = confounding(pd.DataFrame([{**row, "low": low, "high": 0.8}]), chance=0.5)
    assert len(told) == n
    assert all("the number of cells alone predicts the class" in text for text in told)

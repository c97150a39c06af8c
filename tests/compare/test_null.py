from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cellpheno.compare.baselines import fit_predict
from cellpheno.compare.null import permutation_null
from cellpheno.compare.splits import by_well
from cellpheno.errors import InputError
from cellpheno.profiles.normalize import fit_robust_z
from cellpheno.profiles.select import select_features

CLASSES = ["a", "b", "c", "d"]
ENGINEERED = partial(
    fit_predict,
    columns=["Cells_*"],
    without=[],
    classifier=partial(LogisticRegression, C=0.1, class_weight="balanced", max_iter=5000),
    normalize=fit_robust_z,
    select=select_features,
)


def screen(n_features, seed, shift=0.0):
    """60 wells of 4 classes with correlated features; the shift plants a phenotype."""
    rng = np.random.default_rng(seed)
    wells = pd.DataFrame(
        {"Metadata_Plate": "P1", "Metadata_Well": [f"{'ABCDE'[i // 12]}{i % 12 + 1:02d}" for i in range(60)]}
    )
    truth = rng.permutation(60) % 4
    factors = rng.normal(size=(60, 30))
    factors[np.arange(60), truth] += shift
    values = factors @ rng.normal(size=(30, n_features)) + rng.normal(size=(60, n_features))
    features = pd.DataFrame(values, columns=[f"Cells_Texture_Feature{j}_DNA" for j in range(n_features)])
    return wells.assign(label=[CLASSES[k] for k in truth]), pd.concat(
        [wells.assign(Metadata_Count_Cells=9), features], axis=1
    )


def test_permutations_stay_within_folds_and_the_first_is_the_truth():
    wells, features = screen(5, seed=0)
    folds = by_well(wells, n_folds=3, seed=0)
    seen = []

    def spy(train, test, *, classes, seed):
        seen.append(train.set_index("Metadata_Well")["label"])
        return np.zeros((len(test), 4))

    table = permutation_null(wells, features, folds, spy, CLASSES, n_permutations=4, seed=0)
    assert table["permutation"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(table["macro_auroc"], 0.5)
    truth, fold = wells.set_index("Metadata_Well")["label"], folds.set_index("Metadata_Well")["fold"]
    for labels in seen:
        of = pd.DataFrame({"label": labels, "fold": fold.loc[labels.index], "true": truth.loc[labels.index]})
        for _, own in of.groupby("fold"):
            assert sorted(own["label"]) == sorted(own["true"])
    assert all((labels == truth.loc[labels.index]).all() for labels in seen[:3])
    assert not any((labels == truth.loc[labels.index]).all() for labels in seen[3:])


def test_several_repeats_are_refused():
    wells, features = screen(5, seed=0)
    folds = by_well(wells, n_repeats=2, seed=0)
    with pytest.raises(InputError, match="one repeat"):
        permutation_null(wells, features, folds, ENGINEERED, CLASSES, seed=0)


@pytest.mark.full
def test_engineered_features_score_chance_on_permuted_labels_and_more_on_a_planted_phenotype():
    wells, features = screen(300, seed=1, shift=3.0)
    folds = by_well(wells, n_folds=4, seed=1)
    table = permutation_null(wells, features, folds, ENGINEERED, CLASSES, n_permutations=200, seed=1)
    own, null = table.iloc[0], table.iloc[1:]
    assert own["balanced_accuracy"] > null["balanced_accuracy"].max()
    assert null["balanced_accuracy"].mean() == pytest.approx(0.25, abs=0.03)
    assert null["macro_auroc"].mean() == pytest.approx(0.5, abs=0.03)
    for metric in ("balanced_accuracy", "macro_auroc"):
        values = null[metric].to_numpy()
        p = np.array([(values >= value).mean() for value in values])
        assert 0.02 <= (p <= 0.05).mean() <= 0.09

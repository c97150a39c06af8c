"""What a baseline scores when the labels mean nothing: chance."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cellpheno.compare.baselines import fit_predict
from cellpheno.compare.contest import contest
from cellpheno.compare.metrics import score
from cellpheno.compare.predictions import mean_over_repeats
from cellpheno.compare.splits import LABEL, by_well
from cellpheno.names import PLATE, WELL
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


def permutation_null(wells, features, folds, baseline, *, n_permutations, seed):
    """Scores of a baseline that is fitted anew to labels which were permuted within folds; row 0 has them as they are.

    To permute labels against predictions that stay would be cheaper and wrong: out-of-fold predictions depend on each
    other through the training wells that they share (Ojala, Garriga 2010, J Mach Learn Res 11, 1833).
    """
    held = wells.merge(folds, on=[PLATE, WELL], how="inner", validate="one_to_one").sort_values([PLATE, WELL])
    rng, rows = np.random.default_rng(seed), []
    for permutation in range(1 + n_permutations):
        if permutation > 0:
            held[LABEL] = held.groupby("fold", sort=True)[LABEL].transform(lambda own: rng.permutation(own.to_numpy()))
        table = contest(held, features, folds, {"baseline": baseline}, CLASSES, seed).predictions
        means = mean_over_repeats(table, CLASSES)
        truth = np.array([CLASSES.index(name) for name in means["true"]], dtype=np.intp)
        logits = means[[f"logit_{name}" for name in CLASSES]].to_numpy(np.float64)
        overall = score(logits, truth, np.ones((1, len(truth)))).overall
        rows.append((permutation, float(overall["balanced_accuracy"][0]), float(overall["macro_auroc"][0])))
    return pd.DataFrame(rows, columns=["permutation", "balanced_accuracy", "macro_auroc"])


def test_permutations_stay_within_folds_and_the_first_is_the_truth():
    wells, features = screen(5, seed=0)
    folds = by_well(wells, n_folds=3, seed=0)
    seen = []

    def spy(train, test, *, classes, seed):
        seen.append(train.set_index("Metadata_Well")["label"])
        return np.zeros((len(test), 4))

    table = permutation_null(wells, features, folds, spy, n_permutations=4, seed=0)
    assert table["permutation"].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(table["macro_auroc"], 0.5)
    truth, fold = wells.set_index("Metadata_Well")["label"], folds.set_index("Metadata_Well")["fold"]
    for labels in seen:
        of = pd.DataFrame({"label": labels, "fold": fold.loc[labels.index], "true": truth.loc[labels.index]})
        for _, own in of.groupby("fold"):
            assert sorted(own["label"]) == sorted(own["true"])
    assert all((labels == truth.loc[labels.index]).all() for labels in seen[:3])
    assert not any((labels == truth.loc[labels.index]).all() for labels in seen[3:])


@pytest.mark.full
def test_engineered_features_score_chance_on_permuted_labels_and_more_on_a_planted_phenotype():
    wells, features = screen(300, seed=1, shift=3.0)
    folds = by_well(wells, n_folds=4, seed=1)
    table = permutation_null(wells, features, folds, ENGINEERED, n_permutations=200, seed=1)
    own, null = table.iloc[0], table.iloc[1:]
    assert own["balanced_accuracy"] > null["balanced_accuracy"].max()
    assert null["balanced_accuracy"].mean() == pytest.approx(0.25, abs=0.03)
    assert null["macro_auroc"].mean() == pytest.approx(0.5, abs=0.03)
    for metric in ("balanced_accuracy", "macro_auroc"):
        values = null[metric].to_numpy()
        p = np.array([(values >= value).mean() for value in values])
        assert 0.02 <= (p <= 0.05).mean() <= 0.09

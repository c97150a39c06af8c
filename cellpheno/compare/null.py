"""What a baseline scores when the labels mean nothing."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cellpheno.compare.contest import contest
from cellpheno.compare.metrics import score
from cellpheno.compare.predictions import mean_over_repeats
from cellpheno.compare.splits import LABEL
from cellpheno.compare.tuning import Baseline
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL


def permutation_null(
    wells: pd.DataFrame,
    features: pd.DataFrame,
    folds: pd.DataFrame,
    baseline: Baseline,
    classes: Sequence[str],
    *,
    n_permutations: int = 200,
    seed: int,
) -> pd.DataFrame:
    """Fit and score a baseline again and again on labels that were permuted within folds.

    Everything is fitted anew for each permutation. To permute labels against predictions that stay would be cheaper
    and wrong: out-of-fold predictions depend on each other through the training wells that they share.
    ``p`` of a score is ``(1 + number of permutations that score as high) / (1 + n_permutations)``.

    Parameters
    ----------
    wells, features, baseline, classes
        As in `cellpheno.compare.contest.contest`.
    folds : DataFrame
        One split with one repeat.
    n_permutations : int
    seed : int

    Returns
    -------
    DataFrame
        ``permutation, balanced_accuracy, macro_auroc``; permutation 0 has the labels as they are.

    Raises
    ------
    InputError
        If ``folds`` has several splits or repeats, or as `contest` does.

    References
    ----------
    Ojala, Garriga 2010, J Mach Learn Res 11, 1833
    """
    if len(folds[["split", "repeat"]].drop_duplicates()) != 1:
        raise InputError("permutation null: wanted the folds of one split and one repeat")
    held = wells.merge(folds, on=[PLATE, WELL], how="inner", validate="one_to_one").sort_values([PLATE, WELL])
    rng, rows = np.random.default_rng(seed), []
    for permutation in range(1 + n_permutations):
        if permutation > 0:
            held[LABEL] = held.groupby("fold", sort=True)[LABEL].transform(lambda own: rng.permutation(own.to_numpy()))
        table = contest(held, features, folds, {"baseline": baseline}, classes, seed).predictions
        means = mean_over_repeats(table, classes)
        truth = np.array([list(classes).index(name) for name in means["true"]], dtype=np.intp)
        logits = means[[f"logit_{name}" for name in classes]].to_numpy(np.float64)
        overall = score(logits, truth, np.ones((1, len(truth)))).overall
        rows.append((permutation, float(overall["balanced_accuracy"][0]), float(overall["macro_auroc"][0])))
    return pd.DataFrame(rows, columns=["permutation", "balanced_accuracy", "macro_auroc"])

"""Learning curves: the same folds with fewer training wells, the same ones for every contestant."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.compare.splits import LABEL
from cellpheno.compare.strict_splits import each_fold, training_wells
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL


def fewer_wells(
    training: pd.DataFrame, wells_per_class: int | None, seed: int, filled: NDArray[np.bool_]
) -> pd.DataFrame:
    """Draw the same number of training wells of each class; a class that has fewer gives all it has.

    The smaller draws of one seed are parts of the larger ones. Wells without cells are passed over: a contestant that
    sees none there takes the next in the order of all.

    Parameters
    ----------
    training : DataFrame, a row a well
        Labelled wells of a fold's training part, in any order. Where a well may have several classes, each set of
        classes counts as one.
    wells_per_class : int or None
        None: all wells.
    seed : int
        Of the fold.
    filled : array of shape (n,), bool
        Whether there is something to learn from in a well.

    Returns
    -------
    DataFrame
        Some rows of ``training``, in their order.

    Raises
    ------
    InputError
        For a number below 1.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "A02", "A03"], "label": ["a", "a", "b"]})
    >>> fewer_wells(wells, 1, seed=0, filled=np.ones(3, bool))["Metadata_Well"].tolist()
    ['A01', 'A03']
    >>> fewer_wells(wells, 1, seed=0, filled=np.array([False, True, True]))["Metadata_Well"].tolist()
    ['A02', 'A03']
    """
    if wells_per_class is None:
        return training
    if wells_per_class < 1:
        raise InputError(f"wells_per_class={wells_per_class}: wanted 1 or more, or null for all training wells")
    order = np.random.default_rng(seed).permutation(len(training))
    place = training.sort_values([PLATE, WELL]).index[order]  # the draw does not depend on the order of rows
    place = place[place.isin(training.index[filled])]
    kept = training.loc[place].groupby(LABEL, sort=False).head(wells_per_class).index
    return training[training.index.isin(kept)]


def short_classes(wells: pd.DataFrame, folds: pd.DataFrame, wells_per_class: int) -> dict[str, int]:
    """Classes that cannot give so many training wells in every fold, with the fewest that they give.

    Parameters
    ----------
    wells : DataFrame, a row a well
        Labelled wells that may teach.
    folds : DataFrame
        As from `cellpheno.compare.splits.assign_folds`.
    wells_per_class : int

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "A02", "A03"], "label": ["a", "a", "b"]})
    >>> folds = wells[["Metadata_Plate", "Metadata_Well"]].assign(split="s", repeat=0, fold=[0, 1, 1])
    >>> short_classes(wells, folds, 1)
    {'b': 0}
    """
    fewest: dict[str, int] = {}
    for _, held in each_fold(folds):
        counts = wells.loc[training_wells(wells, held), LABEL].value_counts()
        for name in wells[LABEL].unique():
            fewest[str(name)] = min(fewest.get(str(name), wells_per_class), int(counts.get(name, 0)))
    return {name: n for name, n in sorted(fewest.items()) if n < wells_per_class}

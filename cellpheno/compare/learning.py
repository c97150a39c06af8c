"""Learning curves: the same folds with fewer training wells, the same ones for every contestant."""

import numpy as np
import pandas as pd

from cellpheno.compare.splits import LABEL
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL


def fewer_wells(training: pd.DataFrame, wells_per_class: int | None, seed: int) -> pd.DataFrame:
    """Draw the same number of training wells of each class; a class that has fewer gives all it has.

    The smaller draws of one seed are parts of the larger ones.

    Parameters
    ----------
    training : DataFrame, a row a well
        Labelled wells of a fold's training part, in any order. Where a well may have several classes, each set of
        classes counts as one.
    wells_per_class : int or None
        None: all wells.
    seed : int
        Of the fold.

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
    >>> fewer_wells(wells, 1, seed=0)["Metadata_Well"].tolist()
    ['A01', 'A03']
    """
    if wells_per_class is None:
        return training
    if wells_per_class < 1:
        raise InputError(f"wells_per_class={wells_per_class}: wanted 1 or more, or null for all training wells")
    order = np.random.default_rng(seed).permutation(len(training))
    place = training.sort_values([PLATE, WELL]).index[order]  # the draw does not depend on the order of rows
    kept = training.loc[place].groupby(LABEL, sort=False).head(wells_per_class).index
    return training[training.index.isin(kept)]

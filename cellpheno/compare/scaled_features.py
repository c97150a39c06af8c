"""Features of wells as a matrix: chosen by name, selected, scaled and perhaps whitened as one table of wells says."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.compare.splits import LABEL
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL, fits
from cellpheno.profiles.normalize import Scaling, apply_scaling
from cellpheno.profiles.sphere import Sphering, apply_sphering


def chosen_columns(table: pd.DataFrame, columns: Sequence[str], without: Sequence[str]) -> list[str]:
    """Columns that fit a pattern of ``columns`` and none of ``without``, in the table's order.

    Raises
    ------
    InputError
        If a pattern of ``columns`` matches nothing.

    Examples
    --------
    >>> chosen_columns(pd.DataFrame(columns=["Cells_A", "Cells_B", "label"]), ["Cells_*"], ["*_B"])
    ['Cells_A']
    """
    if unmatched := [p for p in columns if not any(fits(str(c), [p]) for c in table.columns)]:
        way = "; cellpheno image_statistics makes them" if any(p.startswith("Image_") for p in unmatched) else ""
        raise InputError(f"columns {unmatched} match nothing in the well table of {table.shape[1]} columns{way}")
    return [str(c) for c in table.columns if fits(str(c), columns) and not fits(str(c), without)]


def known_wells(table: pd.DataFrame, names: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each well (n,) has any of the features: of cells it has none where there are none, but their count is 0.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Count_Cells": [12, 0], "Cells_A": [0.5, np.nan]})
    >>> known_wells(wells, ["Cells_A"]).tolist(), known_wells(wells, ["Metadata_Count_Cells"]).tolist()
    ([True, False], [True, True])
    """
    known: NDArray[np.bool_] = table[list(names)].notna().any(axis=1).to_numpy()
    return known


def scaled_features(
    fitted: pd.DataFrame,
    tables: Sequence[pd.DataFrame],
    kept: Sequence[str],
    *,
    normalize: Callable[[pd.DataFrame], Scaling],
    sphere: Callable[[NDArray[np.float64]], Sphering] | None,
    clip: float,
) -> list[NDArray[np.float64]]:
    """Scale, and perhaps whiten, wells as those of ``fitted`` say; an undefined value counts as their middle, 0.

    Parameters
    ----------
    fitted : DataFrame, a row a well
    tables : sequence of DataFrame, a row a well
    kept : sequence of str
        Features, d of them.
    normalize, sphere, clip
        As in `cellpheno.compare.baselines.fit_predict`.

    Returns
    -------
    list of arrays of shape (n, d), float64
        One a table.

    Examples
    --------
    >>> from cellpheno.profiles.normalize import fit_standard
    >>> wells = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    >>> (x,) = scaled_features(wells, [wells], ["a"], normalize=fit_standard, sphere=None, clip=10)
    >>> x.tolist()
    [[-1.0], [0.0], [1.0]]
    """
    scaling = normalize(fitted[list(kept)])

    def matrix(table: pd.DataFrame) -> NDArray[np.float64]:
        scaled = apply_scaling(table, scaling).to_numpy(np.float64)
        return np.where(np.isnan(scaled), 0.0, np.clip(scaled, -clip, clip))

    found = [matrix(table) for table in tables]
    if sphere is None:
        return found
    sphering = sphere(matrix(fitted))
    return [apply_sphering(x, sphering) for x in found]


def with_profiles(table: pd.DataFrame, profiles: pd.DataFrame) -> pd.DataFrame:
    """Features made elsewhere in place of the table's own."""
    profiles = profiles.drop(columns=LABEL, errors="ignore")  # such as the number of an object
    own = table[[c for c in (PLATE, WELL, LABEL) if c in table]].reset_index(drop=True)
    return own.merge(profiles, on=[PLATE, WELL], how="left", validate="many_to_one").set_axis(table.index)

"""Leave out features that carry nothing, or nothing new: decided on training wells only."""

from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.bounds import Range


class Selection(NamedTuple):
    """Features that stay, in the table's order, and a row (feature, reason) for each that goes."""

    kept: tuple[str, ...]
    dropped: pd.DataFrame


def select_features(
    table: pd.DataFrame,
    *,
    max_nan: Annotated[float, Range(0, 1)] = 0.05,
    max_correlation: Annotated[float, Range(0, 1)] = 0.95,
) -> Selection:
    """Drop features that are undefined too often, constant, or a near copy of an earlier one.

    Of features that correlate, the first in the table's order stays. Undefined values count as the feature's
    median in the correlation.

    Parameters
    ----------
    table : DataFrame of shape (n, d), float
        Training wells, features only.
    max_nan : float
        Largest fraction of wells in which a feature may be undefined.
    max_correlation : float
        Largest absolute Pearson correlation with a feature that stays; 1 keeps all.

    Examples
    --------
    >>> table = pd.DataFrame({"a": [1.0, 2, 3], "b": [2.0, 4, 6], "c": [7.0, 7, 7], "d": [1.0, 0, 1]})
    >>> selection = select_features(table)
    >>> selection.kept
    ('a', 'd')
    >>> selection.dropped["reason"].tolist()
    ['correlation 1.000 with a', 'constant']
    """
    values = table.to_numpy(np.float64)  # (n, d)
    undefined = np.isnan(values).mean(axis=0) if len(values) else np.ones(values.shape[1])  # (d,)
    low, high = np.fmin.reduce(values, axis=0, initial=np.inf), np.fmax.reduce(values, axis=0, initial=-np.inf)
    varies = high - low > 1e-9 * np.maximum(np.abs(low), np.abs(high))  # beyond rounding
    reasons: dict[int, str] = {}
    for j in range(values.shape[1]):
        if undefined[j] > max_nan or undefined[j] == 1:
            reasons[j] = f"undefined in {undefined[j]:.0%} of wells"
        elif not varies[j]:
            reasons[j] = "constant"
    left = np.array([j for j in range(values.shape[1]) if j not in reasons], dtype=np.intp)
    for j, (twin, r) in _copies(values[:, left], max_correlation).items():
        reasons[int(left[j])] = f"correlation {r:.3f} with {table.columns[left[twin]]}"
    kept = tuple(column for j, column in enumerate(table.columns) if j not in reasons)
    rows = [(table.columns[j], reasons[j]) for j in sorted(reasons)]
    return Selection(kept, pd.DataFrame(rows, columns=["feature", "reason"]))


def _copies(values: NDArray[np.float64], limit: float) -> dict[int, tuple[int, float]]:
    """Columns that correlate beyond the limit with an earlier column that stays, and which, and how much."""
    if limit >= 1 or values.shape[1] < 2:
        return {}
    filled = np.where(np.isnan(values), np.nanmedian(values, axis=0), values)
    centred = filled - filled.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=0)
    r = unit.T @ unit  # (d, d)
    stays = np.ones(len(r), dtype=bool)
    copies: dict[int, tuple[int, float]] = {}
    for j in range(1, len(r)):
        earlier = np.where(stays[:j], np.abs(r[j, :j]), -1.0)
        twin = int(earlier.argmax())
        if earlier[twin] > limit:
            stays[j], copies[j] = False, (twin, float(r[j, twin]))
    return copies

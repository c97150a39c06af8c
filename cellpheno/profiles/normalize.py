"""Centre and scale features: fitted on training wells, applied to any wells."""

from typing import NamedTuple

import numpy as np
import pandas as pd


class Scaling(NamedTuple):
    """What a normalisation learned: one centre and one scale a feature, indexed by the feature's name."""

    center: "pd.Series[float]"
    scale: "pd.Series[float]"  # nan where the feature does not vary


def fit_robust_z(table: pd.DataFrame) -> Scaling:
    """Median and 1.4826 times the median absolute deviation (MAD) of each column.

    Where more than half of the values are identical the MAD is 0; there the scale is 1.2533 times the mean
    absolute deviation from the median, so that a feature that only a minority of wells shows is not lost.

    Parameters
    ----------
    table : DataFrame of shape (n, d), float
        Training wells; nan is left out.

    References
    ----------
    Iglewicz, Hoaglin 1993, How to Detect and Handle Outliers (the modified z-score)

    Examples
    --------
    >>> fit_robust_z(pd.DataFrame({"a": [1.0, 2.0, 3.0, 50.0]})).scale.round(4).tolist()
    [1.4826]
    """
    center = table.median()
    deviation = (table - center).abs()
    scale = (1.4826 * deviation.median()).where(lambda mad: mad > 0, 1.2533 * deviation.mean())
    return Scaling(center, scale.where(scale > 0))


def fit_standard(table: pd.DataFrame) -> Scaling:
    """Mean and standard deviation (n - 1) of each column.

    Examples
    --------
    >>> fit_standard(pd.DataFrame({"a": [1.0, 2.0, 3.0]})).scale.tolist()
    [1.0]
    """
    scale = table.std()
    return Scaling(table.mean(), scale.where(scale > 0))


def apply_scaling(table: pd.DataFrame, scaling: Scaling) -> pd.DataFrame:
    """Centre and scale the columns that were fitted; a feature that did not vary becomes nan.

    Raises
    ------
    ValueError
        If the table lacks a fitted feature.

    Examples
    --------
    >>> train = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    >>> apply_scaling(pd.DataFrame({"a": [4.0]}), fit_standard(train))["a"].tolist()
    [2.0]
    """
    features = list(scaling.center.index)
    if missing := [feature for feature in features if feature not in table.columns]:
        raise ValueError(f"well table: no columns {missing}, on which the normalisation was fitted")
    values = table[features].to_numpy(np.float64)
    scaled = (values - scaling.center.to_numpy(np.float64)) / scaling.scale.to_numpy(np.float64)
    return pd.DataFrame(scaled, index=table.index, columns=features)

"""From the cell table to the well table: one row a well, whatever happened to its cells."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cellpheno.names import PLATE, WELL, is_feature

COUNT = "Metadata_Count_Cells"  # pycytominer's name
STATISTICS = ("median", "mean", "mad", "std")


def aggregate(
    cells: pd.DataFrame,
    by: Sequence[str] = (PLATE, WELL),
    statistics: Sequence[str] = ("median",),
    wells: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Summarise the cells of each well, leaving out undefined values feature by feature.

    The median keeps the feature's name, so that pycytominer and earlier tables agree with it; every other statistic
    ends in its own name (``Cells_AreaShape_Area_mad``), however many are asked for.

    Parameters
    ----------
    cells : DataFrame, a row a cell
        The columns ``by`` and the features (``Cells_*``, ``Nuclei_*``, ``Cytoplasm_*``); nan where undefined.
    by : sequence of str
        Keys of a row of the result.
    statistics : sequence of str
        Of ``median``, ``mean``, ``mad`` (median absolute deviation, not scaled) and ``std`` (n - 1).
    wells : DataFrame, optional
        The rows that are wanted, with the columns ``by``. Wells without cells get a count of 0 and nan features.

    Returns
    -------
    DataFrame
        ``by``, ``Metadata_Count_Cells``, then the features; in the order of ``wells``, or sorted by ``by``.

    Raises
    ------
    ValueError
        For an unknown statistic, infinite or non-numeric features, a missing key, or cells of wells that are not
        listed.

    Examples
    --------
    >>> cells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["B03", "B03", "B03", "B04"],
    ...                       "Cells_AreaShape_Area": [1.0, 2.0, 9.0, 5.0]})
    >>> wells = aggregate(cells, statistics=("median", "mad"))
    >>> wells.columns[2:].tolist()
    ['Metadata_Count_Cells', 'Cells_AreaShape_Area', 'Cells_AreaShape_Area_mad']
    >>> wells.iloc[:, 2:].to_numpy().tolist()
    [[3.0, 2.0, 1.0], [1.0, 5.0, 0.0]]
    """
    keys, features = list(by), [column for column in cells.columns if is_feature(column)]
    _check(cells, keys, features, statistics)
    groups = cells.groupby(keys, sort=True, observed=True)
    values = groups[features]
    count = groups.size()
    parts = [count.astype(np.int64).rename(COUNT).to_frame()]
    for statistic in statistics:
        if statistic == "mad":
            deviation = (cells[features] - values.transform("median")).abs()
            part = deviation.groupby([cells[key] for key in keys], sort=True, observed=True).median()
        else:
            part = values.agg(statistic)
        parts.append(part if statistic == "median" else part.add_suffix(f"_{statistic}"))
    table = pd.concat(parts, axis=1).reset_index()
    return table if wells is None else _listed(table, wells, keys)


def _check(cells: pd.DataFrame, keys: list[str], features: list[str], statistics: Sequence[str]) -> None:
    if unknown := [statistic for statistic in statistics if statistic not in STATISTICS]:
        raise ValueError(f"statistics {unknown}: wanted some of {STATISTICS}")
    if missing := [key for key in keys if key not in cells.columns or cells[key].isna().any()]:
        raise ValueError(f"cell table: columns {missing} are absent or have empty rows; every cell needs its keys")
    if texts := [name for name, kind in cells[features].dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]:
        raise ValueError(f"cell table: columns {texts} hold no numbers")
    infinite = np.isinf(cells[features].to_numpy(np.float64)).any(axis=0)
    if infinite.any():
        names = [column for column, bad in zip(features, infinite, strict=True) if bad]
        raise ValueError(f"cell table: infinite values in {names}; an undefined measurement is nan")


def _listed(table: pd.DataFrame, wells: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Rows of the wells that are wanted, in their order."""
    wanted = wells[keys]
    if (double := wanted.duplicated()).any():
        raise ValueError(f"wells listed twice: {wanted[double].to_numpy().tolist()}")
    extra = table[keys].merge(wanted, on=keys, how="left", indicator=True)
    if (stray := extra["_merge"] == "left_only").any():
        raise ValueError(f"cells of wells that are not listed: {extra.loc[stray, keys].to_numpy().tolist()}")
    result = wanted.merge(table, on=keys, how="left", validate="one_to_one")
    result[COUNT] = result[COUNT].fillna(0).astype(np.int64)
    return result

"""What stands on both sides of a fold and should not: the same compound, the same picture."""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from cellpheno.compare.splits import labelled_wells
from cellpheno.compare.strict_splits import UNSCORED, training_wells
from cellpheno.names import PLATE, WELL

IMAGE = "image"
Well = tuple[str, str]


def leaks(
    wells: pd.DataFrame, folds: pd.DataFrame, no_leak: Sequence[str], images: Mapping[Well, Collection[str]]
) -> list[str]:
    """Say where a model would be scored on what it was trained on, one fault a split and column.

    Parameters
    ----------
    wells : DataFrame, a row a well
        ``Metadata_Plate``, ``Metadata_Well``, ``label`` and the columns of ``no_leak``.
    folds : DataFrame
        As from `cellpheno.compare.splits.assign_folds`.
    no_leak : sequence of str
        Columns of which no value may stand on both sides, such as ``Metadata_compound`` (empty values are no compound),
        and ``image``: no picture may.
    images : mapping of (plate, well) to hashes
        Of the pictures of each well.

    Returns
    -------
    list of str

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "A02"], "label": ["a", "b"],
    ...                       "Metadata_drug": "taxol"})
    >>> folds = wells[["Metadata_Plate", "Metadata_Well"]].assign(split="by_well", repeat=0, fold=[0, 1])
    >>> leaks(wells, folds, ["Metadata_drug"], {})[0].split(";")[0]
    "split by_well: Metadata_drug 'taxol' is on both sides of fold 0 (held out P1 A01, trained on P1 A02)"
    """
    labelled = labelled_wells(wells).reset_index(drop=True)
    faults = [
        f"no_leak={column}: the plate map has no such column; its columns: {_columns(wells)}"
        for column in no_leak
        if column != IMAGE and column not in wells
    ]
    if faults:
        return faults
    keys = [(str(p), str(w)) for p, w in labelled[[PLATE, WELL]].to_numpy()]
    for column in no_leak:
        values = (
            [set(images.get(key, ())) for key in keys]
            if column == IMAGE
            else [{str(text)} - {""} for text in labelled[column].fillna("")]
        )
        for split, rows in folds[folds["fold"] != UNSCORED].groupby("split", sort=False):
            faults += _first_leak(labelled, rows, str(split), column, values)
    return faults


def _first_leak(
    labelled: pd.DataFrame, rows: pd.DataFrame, split: str, column: str, values: Sequence[Collection[str]]
) -> list[str]:
    """Tell the first leak of a split, and in how many of its folds there is one."""
    told, leaking = "", 0
    folds = rows.groupby(["repeat", "fold"], sort=True)
    for (_, fold), held in folds:
        out = pd.MultiIndex.from_frame(labelled[[PLATE, WELL]]).isin(pd.MultiIndex.from_frame(held[[PLATE, WELL]]))
        taught: dict[str, int] = {}
        for row in training_wells(labelled, held).nonzero()[0].tolist():
            taught.update(dict.fromkeys(values[row], row))
        both = [(value, row) for row in out.nonzero()[0].tolist() for value in sorted(values[row]) if value in taught]
        leaking += bool(both)
        if both and not told:
            value, first = both[0]
            names = [" ".join(map(str, labelled.loc[row, [PLATE, WELL]])) for row in (first, taught[value])]
            what = "the same picture" if column == IMAGE else f"{column} {value!r}"
            told = f"{what} is on both sides of fold {fold} (held out {names[0]}, trained on {names[1]})"
    if not told:
        return []
    way = (
        "leave one of the wells out, or allow it: no_leak without image"
        if column == IMAGE
        else f"hold whole groups out (split=leave_one_group_out, group={column}), or allow it: no_leak without {column}"
    )
    return [f"split {split}: {told}; so it is in {leaking} of {folds.ngroups} folds; {way}"]


def _columns(wells: pd.DataFrame) -> str:
    return ", ".join(str(c) for c in wells if str(c).startswith("Metadata_"))

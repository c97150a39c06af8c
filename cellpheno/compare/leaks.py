"""What stands on both sides of a fold and should not: the same compound, the same picture."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from cellpheno.compare.splits import labelled_wells
from cellpheno.compare.strict_splits import UNSCORED, training_wells
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL

IMAGE, COMPOUND = "image", "compound"
COMPOUND_NAMES = ("compound", "treatment", "drug", "pert_iname", "perturbation")  # taken for it, in whatever case
UNKNOWN = (
    "No column of the plate map was taken for the compound (compound=COLUMN names it): nothing is known of whether one "
    "stands on both sides of a fold."
)
Well = tuple[str, str]


class Shared(NamedTuple):
    """What one fold has on both sides: (value, row that is held out, row that teaches)."""

    fold: int
    found: list[tuple[str, int, int]]


def compound_column(wells: pd.DataFrame, compound: str | None, label: str) -> str | None:
    """Find the column of the wells that names their compound.

    Parameters
    ----------
    wells : DataFrame, a row a well
    compound : str or None
        Its name in the plate map, without ``Metadata_``. None takes a column that is called compound, or else
        treatment, drug, pert_iname or perturbation; none where the class itself is read from it, since it is asked then
        which compound a well has.
    label : str
        Column of the plate map that holds the class.

    Raises
    ------
    InputError
        If a column was named that the plate map does not have.

    Examples
    --------
    >>> compound_column(pd.DataFrame(columns=["Metadata_Compound", "label"]), None, "moa")
    'Metadata_Compound'
    """
    if compound is not None:
        if (column := f"Metadata_{compound}") not in wells:
            raise InputError(f"compound={compound}: the plate map has no such column; its columns: {_columns(wells)}")
        return column
    called = {str(c).removeprefix("Metadata_").lower(): str(c) for c in wells if str(c).startswith("Metadata_")}
    found = next((called[name] for name in COMPOUND_NAMES if name in called), None)
    return None if found == f"Metadata_{label}" else found


def leaks(
    wells: pd.DataFrame,
    folds: pd.DataFrame,
    no_leak: Sequence[str],
    images: Mapping[Well, Collection[str]],
    compound: str | None = None,
) -> list[str]:
    """Say where a model would be scored on what it was trained on, one fault a split and column.

    Parameters
    ----------
    wells : DataFrame, a row a well
        ``Metadata_Plate``, ``Metadata_Well``, ``label`` and the columns of ``no_leak``.
    folds : DataFrame
        As from `cellpheno.compare.splits.assign_folds`.
    no_leak : sequence of str
        Columns of which no value may stand on both sides, such as ``Metadata_batch`` (empty values are none),
        ``image``: no picture may, and ``compound``: no value of the column ``compound``. There a compound that is all
        of its class, such as a control, is spared as long as other classes have several: the class could not be taught
        without it.
    images : mapping of (plate, well) to hashes
        Of the pictures of each well.
    compound : str, optional
        Column as from `compound_column`; without it nothing is known of compounds.

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
        if column not in (IMAGE, COMPOUND) and column not in wells
    ]
    if faults:
        return faults
    keys = [(str(p), str(w)) for p, w in labelled[[PLATE, WELL]].to_numpy()]
    for word in no_leak:
        if word == COMPOUND and compound is None:
            continue
        column = str(compound) if word == COMPOUND else word
        rest = f"no_leak=[{','.join(name for name in no_leak if name != word)}]"
        spared: set[str] = set()
        if word == IMAGE:
            way = f"leave one of the wells out, or allow it: {rest}"
            values = [set(images.get(key, ())) for key in keys]
        else:
            values = _values(labelled, column)
            way = f"hold whole groups out (split=[by_treatment] split.by_treatment.group={column}), or allow it: {rest}"
        if word == COMPOUND:
            spared, several = _alone(labelled, column)
            if several and spared:
                names = ", ".join(sorted(spared))
                way += f"; wells of {names} need groups of their own there, since nothing else is of their class"
            if not several:
                spared = set()
                way = f"each class is one compound, so none can be held out; allow it: {rest}, and scores tell of new "
                way += "wells of these compounds, not of new compounds"
        values = [own - spared for own in values]
        for split, rows in _splits(folds):
            faults += _first_leak(labelled, rows, split, column, values, way)
    return faults


def both_sides(wells: pd.DataFrame, folds: pd.DataFrame, compound: str | None, label: str = "label") -> pd.DataFrame:
    """Tell, a split each, which compounds stand on both sides of a fold, so that a report can say so.

    Parameters
    ----------
    wells, folds, compound
        As in `leaks`.
    label : str
        Column of the plate map that holds the class.

    Returns
    -------
    DataFrame
        ``split, column, n, n_all, note``: ``n`` of ``n_all`` compounds of the labelled wells do, and a sentence. No
        row where none does, and one without a split where no column names the compound nor holds it as the class.
    """
    rows: list[tuple[str, str, int, int, str]] = []
    if compound is None and label.lower() not in COMPOUND_NAMES:
        rows.append(("", "", 0, 0, UNKNOWN))
    if compound is not None:
        labelled = labelled_wells(wells).reset_index(drop=True)
        values, name = _values(labelled, compound), compound.removeprefix("Metadata_")
        whole = set().union(*values)
        for split, part in _splits(folds):
            found = sorted({value for one in _shared(labelled, part, values) for value, _, _ in one.found})
            if not found:
                continue
            named = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
            told = (
                f"Split {split.replace('_', ' ')}: {len(found)} of {len(whole)} values of {name} ({named}) stand on "
                "both sides of a fold: of these a score tells how new wells are called, not how new compounds are."
            )
            rows.append((split, compound, len(found), len(whole), told))
    return pd.DataFrame(rows, columns=["split", "column", "n", "n_all", "note"])


def _splits(folds: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for split, rows in folds[folds["fold"] != UNSCORED].groupby("split", sort=False):
        yield str(split), rows


def _values(labelled: pd.DataFrame, column: str) -> list[set[str]]:
    return [{str(text)} - {""} for text in labelled[column].fillna("")]


def _alone(labelled: pd.DataFrame, column: str) -> tuple[set[str], bool]:
    """Compounds that are all of their class, and of no other; whether some class has several."""
    named = labelled[labelled[column].fillna("") != ""]
    of_class = [set(values.astype(str)) for _, values in named.groupby("label", sort=True)[column]]
    in_classes = named.groupby(named[column].astype(str))["label"].nunique()
    alone = {next(iter(values)) for values in of_class if len(values) == 1}
    return {name for name in alone if in_classes[name] == 1}, any(len(values) > 1 for values in of_class)


def _shared(labelled: pd.DataFrame, rows: pd.DataFrame, values: Sequence[Collection[str]]) -> Iterator[Shared]:
    """Yield what each fold of a split has on both sides, in order."""
    index = pd.MultiIndex.from_frame(labelled[[PLATE, WELL]])
    for (_, fold), held in rows.groupby(["repeat", "fold"], sort=True):
        out = index.isin(pd.MultiIndex.from_frame(held[[PLATE, WELL]]))
        taught: dict[str, int] = {}
        for row in training_wells(labelled, held).nonzero()[0].tolist():
            taught.update(dict.fromkeys(values[row], row))
        both = [(value, row) for row in out.nonzero()[0].tolist() for value in sorted(values[row]) if value in taught]
        yield Shared(int(str(fold)), [(value, row, taught[value]) for value, row in both])


def _first_leak(
    labelled: pd.DataFrame,
    rows: pd.DataFrame,
    split: str,
    column: str,
    values: Sequence[Collection[str]],
    way: str,
) -> list[str]:
    """Tell the first leak of a split, in how many of its folds there is one, and what to do."""
    folds = list(_shared(labelled, rows, values))
    leaking = [fold for fold in folds if fold.found]
    if not leaking:
        return []
    value, *places = leaking[0].found[0]
    names = [" ".join(map(str, labelled.loc[row, [PLATE, WELL]])) for row in places]
    what = "the same picture" if column == IMAGE else f"{column} {value!r}"
    told = f"{what} is on both sides of fold {leaking[0].fold} (held out {names[0]}, trained on {names[1]})"
    return [f"split {split}: {told}; so it is in {len(leaking)} of {len(folds)} folds; {way}"]


def _columns(wells: pd.DataFrame) -> str:
    return ", ".join(str(c) for c in wells if str(c).startswith("Metadata_"))

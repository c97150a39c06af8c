"""Which wells are held out together: fold tables by well or by group of wells, never by cell.

A fold table has a row a well a repeat: ``Metadata_Plate, Metadata_Well, split, repeat, fold``, where ``fold`` is the
fold in which the well is held out. Wells with an empty label are new: they are predicted and stand in no fold.
With several classes a well (``multilabel``) the label is that of `cellpheno.classes`.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.compare.deals import classes_of, deal_groups, deal_sets
from cellpheno.errors import InputError
from cellpheno.names import OBJECT, PLATE, WELL, row_keys

LABEL = "label"
_WHOLE = "whole wells"
FOLD_COLUMNS = [PLATE, WELL, "split", "repeat", "fold"]


def assign_folds(
    wells: pd.DataFrame, splits: Mapping[str, Callable[..., pd.DataFrame]], seed: int, *, multilabel: bool = False
) -> pd.DataFrame:
    """Fold tables of several splits, one below the other.

    Parameters
    ----------
    wells : DataFrame, a row a well
        ``Metadata_Plate``, ``Metadata_Well``, ``label`` and the columns that the splits group or stratify by.
    splits : mapping of name to callable
        `by_well`, `by_group` or one of `cellpheno.compare.strict_splits` with their options filled in; the name goes to
        the column ``split``.
    seed : int
    multilabel : bool
        A well may have several classes.

    Raises
    ------
    InputError
        With every fault of every split.
    """
    tables: list[pd.DataFrame] = []
    faults: list[str] = []
    for name, make in splits.items():
        try:
            tables.append(make(wells, seed=seed, split=name, multilabel=multilabel))
        except InputError as error:
            faults.extend(fault for fault in error.faults if fault not in faults)
    if faults:
        raise InputError(*faults)
    folds = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=FOLD_COLUMNS)
    return folds.fillna(dict.fromkeys({"apart", "note"} & set(folds), ""))


def by_well(
    wells: pd.DataFrame,
    *,
    n_folds: int = 4,
    n_repeats: int = 1,
    stratify: Sequence[str] = (),
    seed: int,
    split: str = "by_well",
    multilabel: bool = False,
) -> pd.DataFrame:
    """Deal the wells of each class evenly to folds.

    Parameters
    ----------
    wells : DataFrame, a row a well
    n_folds : int
    n_repeats : int
        Independent dealings.
    stratify : sequence of str
        Columns whose values are dealt evenly within each class, such as the drug.
    seed : int
    split : str
        Goes to the column of that name.
    multilabel : bool
        A well may have several classes: the wells of each class, rarest first, then those of each set of classes are
        dealt as evenly as they can be (Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10).

    Raises
    ------
    InputError
        With all faults: a missing column, a well listed twice, one class only, a class with one well, more folds
        than a class has wells.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "A02", "A03", "A04"],
    ...                       "label": ["a", "a", "b", "b"]})
    >>> by_well(wells, n_folds=2, seed=0).groupby("fold").size().tolist()
    [2, 2]
    """
    faults = table_faults(wells, stratify, multilabel) + _number_faults(n_folds, n_repeats)
    if OBJECT in wells:  # cells: their whole wells are dealt
        if stratify:
            faults.append(
                f"split {split}: stratify={list(stratify)}: cells of a well have several classes; leave it out"
            )
        if not faults:
            whole = wells.assign(**{_WHOLE: wells[PLATE] + " " + wells[WELL]})
            return by_group(
                whole, group=_WHOLE, n_folds=n_folds, n_repeats=n_repeats, seed=seed, split=split, multilabel=multilabel
            )
    elif LABEL in wells:
        counts = classes_of(labelled_wells(wells)[LABEL], multilabel).sum()
        faults += [
            f"split {split}: n_folds={n_folds}, but class {name!r} has {n} wells; use n_folds={n} or fewer"
            for name, n in counts.items()
            if 1 < n < n_folds
        ]
    if faults:
        raise InputError(*faults)
    labelled = labelled_wells(wells)
    tables = []
    for repeat in range(n_repeats):
        rng = np.random.default_rng([seed, repeat])
        strata = [labelled[column].fillna("").astype(str).to_numpy() for column in (*tuple(stratify)[::-1], LABEL)]
        if multilabel:
            fold = deal_sets(classes_of(labelled[LABEL], multilabel), list(zip(*strata, strict=True)), n_folds, rng)
            tables.append(fold_table(labelled, fold, split, repeat))
            continue
        dealt = np.lexsort([rng.permutation(len(labelled)), *strata])  # class by class, stratum by stratum, shuffled
        # One deal that runs on over all strata: counts differ by one at most in a fold, a class and a stratum.
        fold = np.empty(len(dealt), dtype=np.intp)
        fold[dealt] = rng.permutation(n_folds)[np.arange(len(dealt)) % n_folds]
        tables.append(fold_table(labelled, fold, split, repeat))
    return pd.concat(tables, ignore_index=True)


def by_group(
    wells: pd.DataFrame,
    *,
    group: str,
    n_folds: int | None = None,
    n_repeats: int = 1,
    seed: int,
    split: str = "by_group",
    multilabel: bool = False,
) -> pd.DataFrame:
    """Hold out whole groups of wells: plates, treatments, drugs, batches.

    Parameters
    ----------
    wells : DataFrame, a row a well
    group : str
        Column whose values are never on both sides.
    n_folds : int, optional
        None leaves one group out at a time, in sorted order. Otherwise whole groups are dealt to folds, largest
        first, each to the fold that holds least of its classes.
    n_repeats : int
        Independent dealings; needs ``n_folds``.
    seed : int
    split : str
    multilabel : bool
        A well may have several classes.

    Raises
    ------
    InputError
        With all faults, among them a group column that is missing or has empty rows, and every fold whose training
        part would lack a class.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": ["P1", "P1", "P2", "P2"], "Metadata_Well": ["A01", "A02"] * 2,
    ...                       "label": ["a", "b"] * 2})
    >>> by_group(wells, group="Metadata_Plate", seed=0)["fold"].tolist()
    [0, 0, 1, 1]
    """
    faults = table_faults(wells, [group], multilabel) + _number_faults(n_folds, n_repeats)
    if n_folds is None and n_repeats > 1:
        faults.append(f"split {split}: n_repeats={n_repeats} needs n_folds; leaving one group out has one order only")
    if group in wells and LABEL in wells:
        faults += _group_faults(labelled_wells(wells), group, n_folds, split)
    if faults:
        raise InputError(*faults)
    labelled = labelled_wells(wells)
    held = classes_of(labelled[LABEL], multilabel)
    tables = []
    for repeat in range(n_repeats):
        if n_folds is None:
            fold = np.unique(labelled[group].astype(str), return_inverse=True)[1]
        else:
            fold = deal_groups(labelled[group], held, n_folds, np.random.default_rng([seed, repeat]))
        tables.append(fold_table(labelled, fold, split, repeat))
        faults += _lacking(labelled[group], held, fold, split, repeat)
    if faults:
        raise InputError(*faults)
    return pd.concat(tables, ignore_index=True)


def inner_split(
    wells: pd.DataFrame, fraction: float, seed: int, group: str | None = None, multilabel: bool = False
) -> pd.DataFrame:
    """Choose the training wells that are set aside to stop the training in time.

    Without ``group`` each class gives its fraction, one well at least and never all of them (a class with one well
    gives none). With ``group`` whole groups are set aside, and with several classes a well a fold as `by_well` deals
    it, so that no class is lost from the rest.

    Parameters
    ----------
    wells : DataFrame, a row a well
        Labelled wells of a fold's training part.
    fraction : float
        Of the wells, above 0 and at most 0.5.
    seed : int
    group : str, optional
    multilabel : bool
        A well may have several classes.

    Returns
    -------
    DataFrame
        The rows of ``wells`` that validate, in their order.

    Raises
    ------
    InputError
        If the fraction is out of range, a column is missing, or nothing can be spared.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": [f"A{i:02d}" for i in range(1, 9)],
    ...                       "label": ["a"] * 4 + ["b"] * 4})
    >>> inner_split(wells, 0.25, seed=0)["label"].tolist()
    ['a', 'b']
    """
    faults = table_faults(wells, [] if group is None else [group], multilabel)
    if not 0 < fraction <= 0.5:
        faults.append(f"validation fraction {fraction}: wanted above 0 and at most 0.5")
    if faults := [fault for fault in faults if " has one well" not in fault]:
        raise InputError(*faults)
    labelled, rng = (
        labelled_wells(wells.reset_index(drop=True)),
        np.random.default_rng(seed),
    )  # the index is the position
    if group is None and not multilabel:
        chosen: list[int] = []
        for _, rows in labelled.groupby(LABEL, sort=True):
            n = min(max(1, round(fraction * len(rows))), len(rows) - 1)
            chosen.extend(rows.index[rng.permutation(len(rows))[:n]])
        return wells.iloc[sorted(chosen)]
    held, n_folds = classes_of(labelled[LABEL], multilabel), max(2, round(1 / fraction))
    if group is None:
        fold = deal_sets(held, labelled[LABEL].tolist(), n_folds, rng)
    else:
        n_folds = min(n_folds, labelled[group].nunique())
        fold = deal_groups(labelled[group], held, n_folds, rng)
    spare = [f for f in range(n_folds) if held[fold != f].any().all() and (fold == f).any()]
    if n_folds < 2 or not spare:
        what, way = ("well", "validation=0") if group is None else ("group", "split by well")
        raise InputError(f"validation by {group or 'well'}: no {what} can be set aside without losing a class; {way}")
    best = max(spare, key=lambda f: (held[fold == f].any().sum(), -f))
    return wells.iloc[sorted(labelled.index[fold == best])]


def labelled_wells(wells: pd.DataFrame) -> pd.DataFrame:
    """Labelled wells in one order, whatever the order they came in."""
    rows = wells[wells[LABEL].notna() & (wells[LABEL] != "")]
    keys = row_keys(rows.columns)
    return rows.sort_values(by=keys, kind="stable") if PLATE in keys and WELL in keys else rows


def fold_table(labelled: pd.DataFrame, fold: NDArray[np.intp], split: str, repeat: int) -> pd.DataFrame:
    """Rows of the fold table for the labelled wells and their folds (n,)."""
    return labelled[row_keys(labelled.columns)].assign(split=split, repeat=repeat, fold=fold).reset_index(drop=True)


def table_faults(wells: pd.DataFrame, columns: Iterable[str], multilabel: bool) -> list[str]:
    """Faults of the table of wells, whatever the split."""
    faults = []
    for column in (PLATE, WELL, LABEL, *columns):
        if column not in wells:
            near = difflib.get_close_matches(column, [str(name) for name in wells.columns], n=3, cutoff=0.4)
            faults.append(f"wells: no column {column!r}; nearest: {', '.join(near) or 'none'}")
    if PLATE in wells and WELL in wells:
        double = wells[wells.duplicated(row_keys(wells.columns))]
        faults += [
            f"wells: {' '.join(map(str, key))} is listed twice" for key in double[row_keys(wells.columns)].to_numpy()
        ]
    if LABEL in wells:
        rows = labelled_wells(wells)
        held = classes_of(rows[LABEL], multilabel)
        counts = held.sum()
        if len(counts) < 2:
            found = ", ".join(f"{name!r} ({n} wells)" for name, n in counts.items()) or "no labelled well"
            faults.append(f"wells: two classes or more are wanted, found {found}; label wells of another class")
        for name in counts.index[counts == 1]:
            where = " ".join(str(rows.loc[held[name], key].iloc[0]) for key in (PLATE, WELL) if key in rows)
            faults.append(f"class {name!r} has one well ({where}): no split can hold it out; add wells or unlabel it")
        if multilabel:
            faults += [
                f"class {name!r} is in all {len(rows)} labelled wells: there is none without it to tell it from"
                for name in counts.index[(counts == len(rows)) & (counts > 1)]
            ]
    return faults


def _number_faults(n_folds: int | None, n_repeats: int) -> list[str]:
    faults = [] if n_folds is None or n_folds >= 2 else [f"n_folds={n_folds}: wanted 2 or more"]
    return faults + ([] if n_repeats >= 1 else [f"n_repeats={n_repeats}: wanted 1 or more"])


def _group_faults(labelled: pd.DataFrame, group: str, n_folds: int | None, split: str) -> list[str]:
    empty = labelled[labelled[group].isna() | (labelled[group].astype(str) == "")]
    if len(empty):
        names = [f"{p} {w}" for p, w in empty.reindex(columns=[PLATE, WELL]).to_numpy()]
        return [f"split {split}: labelled wells without {group}: {', '.join(names[:8])} ({len(names)} in all)"]
    n_groups = labelled[group].nunique()
    if n_groups < max(2, n_folds or 0):
        return [f"split {split}: {n_groups} groups in {group}, wanted {max(2, n_folds or 0)} or more"]
    return []


def _lacking(
    groups: "pd.Series[str]", held: pd.DataFrame, fold: NDArray[np.intp], split: str, repeat: int
) -> list[str]:
    """Folds whose training part lacks a class."""
    faults = []
    for f in np.unique(fold):
        trained = held[fold != f].any()
        out = ", ".join(sorted(set(groups[fold == f].astype(str))))
        faults += [
            f"split {split}, repeat {repeat}, fold {f} (holds out {out}): no training well of class {name!r} is left"
            for name in held.columns[~trained]
        ]
    return faults

"""Splits that keep more than the held-out wells from training, splits given by hand, and the one that is not honest.

Fold tables as in `cellpheno.compare.splits`, with up to two more columns. ``apart`` names the columns of which a
training well may share no value with a held-out well; ``note`` says why a well is in fold -1, where no model gives a
verdict on it and no score counts it, though it may teach.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.compare.deals import classes_of
from cellpheno.compare.splits import LABEL, fold_table, labelled_wells, table_faults
from cellpheno.errors import InputError
from cellpheno.names import OBJECT, PLATE, WELL, row_keys

LEAKY = "leaky_"
LEAKY_NOTE = "cells of one well on both sides: no evidence for new wells"
UNSCORED = -1


def by_combination(
    wells: pd.DataFrame,
    *,
    groups: Sequence[str],
    seed: int,
    split: str = "by_combination",
    multilabel: bool = False,
) -> pd.DataFrame:
    """Hold out each combination of groups, and train on wells that share none of its groups.

    Held out are the wells of one compound in one week; the wells of that compound in other weeks, and those of that
    week with other compounds, teach nothing in this fold either. A well of whose class no training well is left cannot
    be scored: its fold is -1, with a note.

    Parameters
    ----------
    wells : DataFrame, a row a well
    groups : sequence of str
        Two columns or more, such as ``Metadata_compound, Metadata_week``.
    seed : int
        Not used: there is one such split.
    split : str
    multilabel : bool
        A well may have several classes; it can be scored if one of them is left in the training wells.

    Raises
    ------
    InputError
        With all faults: columns that are missing or have empty rows, and a split that scores fewer than two classes.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "A02", "A03", "A04", "A05"],
    ...                       "label": ["a", "a", "b", "b", "b"], "Metadata_drug": ["p", "q", "r", "s", "s"],
    ...                       "Metadata_week": ["1", "2", "1", "2", "3"]})
    >>> by_combination(wells, groups=["Metadata_drug", "Metadata_week"], seed=0)["fold"].tolist()
    [0, 1, 2, 3, 4]
    """
    del seed
    faults = table_faults(wells, groups, multilabel)
    faults = [fault for fault in faults if " has one well" not in fault]  # such a well teaches, and is not scored
    if len(set(groups)) < 2:
        faults.append(f"split {split}: groups={list(groups)}: two columns or more; for one use split=by_group")
    if OBJECT in wells:
        faults.append(f"split {split} is of wells, not of cells; for cells give split=by_group and apart=COLUMN")
    faults += [fault for column in groups if column in wells for fault in _empty(wells, column, split)]
    if faults:
        raise InputError(*faults)
    labelled = labelled_wells(wells)
    held, texts = classes_of(labelled[LABEL], multilabel), labelled[list(groups)].astype(str)
    fold = np.asarray(texts.groupby(list(groups), sort=True).ngroup(), dtype=np.intp)
    scored = np.zeros(len(labelled), dtype=bool)
    for f in np.unique(fold):
        own = fold == f
        taught = held[~_sharing(texts, texts[own])].any()
        scored[own] = held[own].to_numpy()[:, taught.to_numpy()].any(axis=1) & (taught.sum() > 1)
    if (n := int(held[scored].any().sum())) < 2:
        lost = ", ".join(held.columns[~held[scored].any()])
        raise InputError(
            f"split {split}: {n} of {held.shape[1]} classes can be scored: no training well of {lost} is left once "
            f"the wells that share {' or '.join(groups)} with the held-out ones are gone; hold out one group alone"
        )
    why = f"no training well of their class shares neither {' nor '.join(groups)}"
    rows = fold_table(labelled, _numbered(fold, scored), split, 0)
    return rows.assign(apart=json.dumps(list(groups)), note=np.where(scored, "", why))


def by_column(
    wells: pd.DataFrame,
    *,
    column: str,
    training: Sequence[str] = ("train",),
    seed: int,
    split: str = "by_column",
    multilabel: bool = False,
) -> pd.DataFrame:
    """Take the split from a column of the plate map: each of its values is held out in turn.

    Parameters
    ----------
    wells : DataFrame, a row a well
    column : str
        Such as ``Metadata_split``; its values name the folds.
    training : sequence of str
        Values whose wells are trained on in every fold and never held out.
    seed : int
        Not used.
    split : str
    multilabel : bool

    Raises
    ------
    InputError
        With all faults: a column that is missing or has empty rows, no value to hold out, and every fold whose
        training part lacks a class.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "A02", "A03", "A04"],
    ...                       "label": ["a", "b", "a", "b"], "Metadata_split": ["train", "train", "test", "test"]})
    >>> by_column(wells, column="Metadata_split", seed=0)["fold"].tolist()
    [-1, -1, 0, 0]
    """
    del seed
    faults = table_faults(wells, [column], multilabel)
    faults += _empty(wells, column, split) if column in wells else []
    if faults:
        raise InputError(*faults)
    labelled = labelled_wells(wells)
    values, held = labelled[column].astype(str), classes_of(labelled[LABEL], multilabel)
    names = sorted(set(values) - set(training))
    lacking = [(name, c) for name in names for c in held.columns[~held[(values != name).to_numpy()].any()]]
    faults = [
        f"split {split}: no training well of class {c!r} is left when {column}={name} is held out"
        for name, c in lacking
    ]
    if not names:
        faults.append(f"split {split}: every well has {column} in {list(training)}, so that none is held out")
    if faults:
        raise InputError(*faults)
    places = {name: i for i, name in enumerate(names)}
    fold = np.array([places.get(value, UNSCORED) for value in values], dtype=np.intp)
    note = np.where(fold == UNSCORED, f"{column} keeps them for training", "")
    return fold_table(labelled, fold, split, 0).assign(note=note)


def random_cells(
    wells: pd.DataFrame,
    *,
    n_folds: int = 4,
    n_repeats: int = 1,
    seed: int,
    split: str = "random_cells",
    multilabel: bool = False,
) -> pd.DataFrame:
    """Deal single cells to folds whatever their well: dishonest, to show how much that flatters.

    Cells of one well are alike beyond their class, so that a model knows them from their neighbours in training. The
    split's name gets ``leaky_`` before it and its scores a note, and both stand in every table and report.

    Parameters
    ----------
    wells : DataFrame, a row a cell
    n_folds, n_repeats, seed, split, multilabel
        As in `cellpheno.compare.splits.by_well`; the cells of each class are dealt evenly.

    Raises
    ------
    InputError
        If the table is one of wells, or as `by_well`.
    """
    faults = table_faults(wells, [], multilabel)
    if OBJECT not in wells:
        faults.append(f"split {split}: this split is of single cells; wells are held out as a whole with split=by_well")
    if n_folds < 2 or n_repeats < 1:
        faults.append(f"split {split}: n_folds={n_folds}, n_repeats={n_repeats}: wanted 2 or more, and 1 or more")
    if faults:
        raise InputError(*faults)
    rows = labelled_wells(wells)
    tables = []
    for repeat in range(n_repeats):
        rng = np.random.default_rng([seed, repeat])
        dealt = np.lexsort([rng.permutation(len(rows)), rows["label"].astype(str).to_numpy()])
        fold = np.empty(len(rows), dtype=np.intp)
        fold[dealt] = np.arange(len(rows)) % n_folds
        tables.append(fold_table(rows, fold, split if split.startswith(LEAKY) else LEAKY + split, repeat))
    return pd.concat(tables, ignore_index=True)


class Place(NamedTuple):
    """Which fold."""

    split: str
    repeat: int
    fold: int


def each_fold(folds: pd.DataFrame) -> Iterator[tuple[Place, pd.DataFrame]]:
    """Yield ((split, repeat, fold), rows that it holds out) in order; what a split cannot score is no fold.

    Examples
    --------
    >>> folds = pd.DataFrame({"split": "s", "repeat": 0, "fold": [1, 0, UNSCORED], "Metadata_Well": ["A1", "A2", "A3"]})
    >>> [(place.fold, held["Metadata_Well"].tolist()) for place, held in each_fold(folds)]
    [(0, ['A2']), (1, ['A1'])]
    """
    places: Any
    for places, held in folds[folds["fold"] != UNSCORED].groupby(["split", "repeat", "fold"], sort=True):
        split, repeat, fold = places
        yield Place(str(split), int(repeat), int(fold)), held


def fold_name(split: str, repeat: int, fold: int) -> str:
    """Name of a fold, and of its model's folder.

    Examples
    --------
    >>> fold_name("by_well", 0, 2)
    'by_well/repeat0_fold2'
    """
    return f"{split}/repeat{repeat}_fold{fold}"


def training_wells(wells: pd.DataFrame, held: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each well may teach in a fold: it is not held out, and shares nothing that is to be kept apart.

    Parameters
    ----------
    wells : DataFrame, a row a well
    held : DataFrame
        Rows of one fold of a fold table.

    Returns
    -------
    array of shape (n,), bool

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "A02", "A03"],
    ...                       "Metadata_drug": ["x", "x", "y"], "Metadata_week": ["1", "2", "2"]})
    >>> training_wells(wells, wells.iloc[:1].assign(apart='["Metadata_drug", "Metadata_week"]')).tolist()
    [False, False, True]
    """
    keys = row_keys(wells.columns)
    out = pd.MultiIndex.from_frame(wells[keys]).isin(pd.MultiIndex.from_frame(held[keys]))
    columns = json.loads(held["apart"].iloc[0] or "[]") if "apart" in held and len(held) else []
    if not columns:
        return ~out
    texts = wells[columns].astype(str)
    return ~out & ~_sharing(texts, texts[out])


def unscored(folds: pd.DataFrame, wells: pd.DataFrame) -> pd.DataFrame:
    """Labelled wells that a split cannot score, with the reason.

    Parameters
    ----------
    folds : DataFrame
        As from `cellpheno.compare.splits.assign_folds`.
    wells : DataFrame, a row a well
        With ``label``.

    Returns
    -------
    DataFrame
        ``split, Metadata_Plate, Metadata_Well, label, note``.
    """
    columns = ["split", PLATE, WELL, "label", "note"]
    if "note" not in folds:
        return pd.DataFrame(columns=columns)
    rows = folds[folds["fold"].astype(int) == UNSCORED].drop_duplicates(["split", PLATE, WELL])
    return rows.merge(wells[[PLATE, WELL, "label"]], on=[PLATE, WELL])[columns]


def _sharing(texts: pd.DataFrame, held: pd.DataFrame) -> NDArray[np.bool_]:
    """Whether each row shares a value of some column with the held-out rows."""
    shared: NDArray[np.bool_] = np.any([texts[column].isin(set(held[column])) for column in texts], axis=0)
    return shared


def _numbered(fold: NDArray[np.intp], scored: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Folds counted from 0 without gaps, -1 where a well is not scored."""
    numbered = np.full(len(fold), UNSCORED, dtype=np.intp)
    numbered[scored] = np.unique(fold[scored], return_inverse=True)[1]
    return numbered


def _empty(wells: pd.DataFrame, column: str, split: str) -> list[str]:
    rows = labelled_wells(wells) if "label" in wells else wells
    empty = rows[rows[column].isna() | (rows[column].astype(str) == "")]
    if empty.empty:
        return []
    names = [f"{p} {w}" for p, w in empty.reindex(columns=[PLATE, WELL]).to_numpy()]
    return [f"split {split}: labelled wells without {column}: {', '.join(names[:8])} ({len(names)} in all)"]

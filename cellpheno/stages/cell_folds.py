"""Folds of single cells: their repeats, what `predict` needs to know of them, and cells set aside within a fold."""

from pathlib import Path

import pandas as pd

from cellpheno.compare.splits import inner_split
from cellpheno.names import PLATE, WELL
from cellpheno.stages.run_folder import write_csv


def repeated(folds: pd.DataFrame, members: int) -> pd.DataFrame:
    """Fold table in which each repeat stands once a member of the ensemble."""
    tables = [folds.assign(repeat=folds["repeat"] * members + member) for member in range(members)]
    return pd.concat(tables, ignore_index=True)


def write_cell_plan(cells: pd.DataFrame, folds: pd.DataFrame, output: Path) -> None:
    """Write the folds of cells, and those of wells for `predict`.

    A well whose cells stand in several folds has fold -1: no model may give a verdict on it.
    """
    write_csv(folds, output / "folds-cells.csv")
    by_well = folds.groupby([PLATE, WELL, "split", "repeat"], sort=True)["fold"].agg(["min", "max"]).reset_index()
    fold = by_well["min"].where(by_well["min"] == by_well["max"], -1)
    write_csv(by_well.drop(columns=["min", "max"]).assign(fold=fold), output / "folds.csv")
    write_csv(cells[[PLATE, WELL]].drop_duplicates(), output / "wells.csv")


def set_aside(training: pd.DataFrame, fraction: float, seed: int, apart: str | None) -> pd.DataFrame:
    """Training cells that choose the best epoch: whole values of ``apart``, else whole wells, of one well its cells."""
    if apart is not None:
        return inner_split(training, fraction, seed, group=apart)
    wells = training[PLATE] + " " + training[WELL]
    if wells.nunique() == 1:
        return inner_split(training, fraction, seed)
    return inner_split(training.assign(_well=wells), fraction, seed, group="_well").drop(columns="_well")

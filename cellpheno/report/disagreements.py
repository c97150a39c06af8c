"""Held-out wells on which the leading contestant and the reference disagree, with the cells that weighed most."""

from typing import Any

import numpy as np
import pandas as pd

from cellpheno.classes import label_parts, membership
from cellpheno.names import PLATE, WELL, well_order
from cellpheno.report.cells import Opened, bar_caption, cell_tiles, draw_cells, held_out
from cellpheno.report.class_maps import are_positions
from cellpheno.report.gallery import choose_cells
from cellpheno.report.mistakes import unit_column
from cellpheno.report.run import Run
from cellpheno.report.verdict import lead_of, reference_of
from cellpheno.report.words import contestant_label, number, split_label

WELLS_SHOWN, CELLS_SHOWN = 12, 4


def disagreements(run: Run, opened: Opened) -> list[dict[str, Any]]:
    """List, a split, the wells that exactly one of the two gets right, in the first repeat, with cells of each."""
    if run.differences is None:
        return []
    held, sections = run.predictions[run.predictions["role"] == "out_of_fold"], []
    column = unit_column(run)
    if column in (PLATE, WELL):  # stand there anyhow
        column = None
    for split, part in run.differences.groupby("split", sort=False):
        reference = reference_of(part)
        lead = lead_of(run, str(split), part.loc[part["reference"] == reference, "contestant"])
        table = one_right(held[held["split"] == split], run, lead, reference)
        shown = most_telling(table, WELLS_SHOWN)
        cells, faults = _cells_of(run, shown, str(split), lead, opened)
        units = {} if column is None else run.wells.set_index([PLATE, WELL])[column].to_dict()
        rows = [
            {**row, "unit": units.get(key, ""), "cells": cells.get(key, [])}
            for row in map(_row, shown.to_dict("records"))
            for key in [(row["plate"], row["well"])]
        ]
        sections.append(
            {
                "split": split_label(str(split)),
                "unit": "" if column is None else column.removeprefix("Metadata_"),
                "names": (contestant_label(lead), contestant_label(reference)),
                "rows": rows,
                "n": len(table),
                "n_lead": int(table["lead_right"].sum()),
                "n_scored": int(table.attrs["n_scored"]),
                "faults": faults,
                "caption": bar_caption([tile for tiles in cells.values() for tile in tiles])
                if any(cells.values())
                else "",
            }
        )
    return sections


def one_right(rows: pd.DataFrame, run: Run, lead: str, reference: str) -> pd.DataFrame:
    """Wells that exactly one of two contestants gets right.

    Wells of junk are left out; where there is junk, what is said of the other classes counts as if these were all, as
    in the scores.

    Parameters
    ----------
    rows : DataFrame
        Out-of-fold predictions of one split; the first repeat counts.
    run : Run
    lead, reference : str

    Returns
    -------
    DataFrame, a row a well
        Keys of the well, ``true``, of both ``pred`` (called), ``said`` (its probabilities) and ``chance`` (given to
        what is true), with the suffixes ``_lead`` and ``_reference``, and ``lead_right``; in ``attrs`` ``n_scored``,
        the number of wells that were compared.
    """
    rows = rows[(rows["repeat"] == rows["repeat"].min()) & rows["true"].ne("")] if "repeat" in rows else rows
    rows = rows[~rows["true"].isin(set(run.classes) - set(run.answers))]
    keys = [PLATE, WELL, "true"]
    sides = [_calls(rows[rows["contestant"] == name], run).set_index(keys) for name in (lead, reference)]
    both = sides[0].add_suffix("_lead").join(sides[1].add_suffix("_reference"), how="inner").reset_index()
    right = [both[f"pred_{side}"] == both["true"] for side in ("lead", "reference")]
    found = both.assign(lead_right=right[0])[right[0] != right[1]].reset_index(drop=True)
    found.attrs["n_scored"] = len(both)
    return found


def _calls(rows: pd.DataFrame, run: Run) -> pd.DataFrame:
    """What one contestant calls each well, with the probabilities of that and of the truth."""
    answers = run.answers
    chances = rows[[f"prob_{name}" for name in answers]].to_numpy(np.float64)  # (n, K)
    truth = membership(rows["true"], answers, run.multilabel)
    if run.multilabel:
        called = rows["pred"].tolist()
        of_truth = np.where(truth, chances, 1 - chances).mean(axis=1)
    else:
        chances = chances / chances.sum(axis=1, keepdims=True)  # without junk
        called = [answers[k] for k in chances.argmax(axis=1)]
        of_truth = (chances * truth).sum(axis=1)
    of_class = [dict(zip(answers, row, strict=True)) for row in chances]
    said = [
        " ".join(number(own[part], 2) for part in label_parts(name, run.multilabel))
        for name, own in zip(called, of_class, strict=True)
    ]
    return rows[[PLATE, WELL, "true"]].assign(pred=called, said=said, chance=of_truth)


def most_telling(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """Choose wells from both sides in turn: of each those where the one that is wrong gave the truth the least."""
    wrong = table["chance_lead"].where(~table["lead_right"], table["chance_reference"])
    ordered = table.assign(wrong=wrong).sort_values(
        ["wrong", PLATE, WELL], key=lambda column: column.map(well_order) if column.name == WELL else column
    )
    turn = ordered.groupby("lead_right", sort=False).cumcount()
    chosen = ordered.assign(turn=turn).sort_values(["turn", "lead_right"], ascending=[True, False], kind="stable")
    return chosen.head(n).sort_values("lead_right", ascending=False, kind="stable")


def _row(well: dict[Any, Any]) -> dict[str, Any]:
    calls = [(well[f"pred_{side}"], well[f"said_{side}"]) for side in ("lead", "reference")]
    names = {"plate": well[PLATE], "well": well[WELL], "true": well["true"]}
    return {**names, "calls": calls, "right": 0 if well["lead_right"] else 1}


def _cells_of(
    run: Run, wells: pd.DataFrame, split: str, contestant: str, opened: Opened
) -> tuple[dict[tuple[str, str], list[dict[str, str]]], list[str]]:
    """Cells of highest weight in each well, as tiles; none where the instances are no cells or have no weights."""
    if run.instances is None or are_positions(run.instances) or wells.empty:
        return {}, []
    parts = [part for key, part in held_out(run, run.instances) if key == (split, contestant)]
    asked = wells.set_index([PLATE, WELL]).index
    inside = [part[pd.MultiIndex.from_frame(part[[PLATE, WELL]]).isin(asked)] for part in parts]
    if not inside or inside[0]["weight"].isna().all():
        return {}, []
    named = inside[0].assign(label=[f"{plate}\0{well}" for plate, well in inside[0][[PLATE, WELL]].to_numpy()])
    chosen = choose_cells(named, list(dict.fromkeys(named["label"])), CELLS_SHOWN)
    chosen = chosen[chosen["end"] == "highest"]
    drawn, faults = draw_cells(chosen, opened)
    tiles = {
        (str(plate), str(well)): cell_tiles(part, drawn, opened, place=False)
        for (plate, well), part in chosen.groupby([PLATE, WELL])
    }
    return tiles, [*opened.faults, *faults]

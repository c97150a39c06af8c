"""Scores of single cells: rows are cells, what is resampled are tracks or whole wells."""

import numpy as np
import pandas as pd
import pytest

from cellpheno.compare.predictions import mean_over_repeats, prediction_rows
from cellpheno.compare.statistics import scores

CELL = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_ObjectNumber"]


def predictions(n_wells=12, cells=30, alike=True, seed=0):
    """Cells of two classes; with ``alike`` all cells of a well are right or wrong together."""
    rng = np.random.default_rng(seed)
    tables = []
    for w in range(n_wells):
        wells = pd.DataFrame({CELL[0]: "P1", CELL[1]: f"A{w + 1:02d}", CELL[2]: 1, CELL[3]: np.arange(1, cells + 1)})
        wells["label"] = np.where(np.arange(cells) % 2, "a", "b")
        right = np.full(cells, rng.random() < 0.7) if alike else rng.random(cells) < 0.7
        is_a = (wells["label"] == "a") == right
        logits = np.stack([np.where(is_a, 1.0, -1.0), np.where(is_a, -1.0, 1.0)], axis=1)
        rows = prediction_rows(wells, logits, ["a", "b"], contestant="cells", split="s", fold=w)
        tables.append(rows.assign(Metadata_track=[f"{w}-{i // 2}" for i in range(cells)]))
    return pd.concat(tables, ignore_index=True)


def width(table, unit):
    row = scores(table, ["a", "b"], unit=unit, n_bootstrap=300, seed=0).set_index("metric").loc["balanced_accuracy"]
    return row["high"] - row["low"], row["n"], row["n_unit"]


def test_cells_of_a_well_are_drawn_together():
    together, n, n_unit = width(predictions(alike=True), "well")
    apart, _, _ = width(predictions(alike=False), "well")
    assert (n, n_unit) == (360, 12)
    assert together > 1.3 * apart  # 12 answers, not 360; and never less doubt than of one cell a well
    by_track, _, n_tracks = width(predictions(alike=False), "Metadata_track")
    assert n_tracks == 180
    assert by_track < together


def test_few_wells_give_no_interval():
    table = scores(predictions(n_wells=3), ["a", "b"], n_bootstrap=50, seed=0)
    assert table["low"].isna().all()
    assert table["note"].str.startswith("no interval: 3 wells, 5 or more are wanted").all()


def test_repeats_of_a_cell_become_its_mean_logit():
    once = predictions(n_wells=2)
    other = once.assign(repeat=1, logit_a=once["logit_a"] + 3.0)
    mean = mean_over_repeats(pd.concat([once.assign(repeat=0), other]), ["a", "b"])
    assert len(mean) == len(once)
    joined = mean.merge(once, on=CELL, suffixes=("_mean", ""))
    assert (joined["logit_a_mean"] - joined["logit_a"]).to_numpy() == pytest.approx(1.5)

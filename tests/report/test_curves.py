"""Where curves cross, which wells are called wrong, what was tried: in words, from the tables."""

import numpy as np
import pandas as pd
import pytest

from cellpheno.report.contestants import choice_rows
from cellpheno.report.curves import _crossing, crossings
from cellpheno.report.mistakes import mistakes, unit_column
from cellpheno.report.run import read_run
from cellpheno.report.verdict import leading, standing


@pytest.fixture(scope="module")
def run(run_folder):
    return read_run(run_folder)


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([0.1, 0.1, 0.1], "is above it with 1 to 4 training wells a class"),
        ([-0.1, 0.0, 0.2], "is below it with 1 to 2 training wells a class and above with 4"),
        ([0.0, 0.1, -0.1], "is above it with 1 to 2 training wells a class and below with 4"),
        ([0.1, -0.1, 0.1], "is above it with 1 training wells a class and below with 2 and above with 4"),
        ([0.0, 0.0, 1e-12], "equals it at every number"),
    ],
)
def test_where_a_curve_crosses_another_is_told_by_its_points(points, told):
    assert _crossing(pd.Series(points, [1, 2, 4]), "it") == told


def test_crossings_are_of_contestants_that_are_no_controls_and_losses_count_the_other_way(run):
    def curve(metric, mil):
        rows = [(name, n, v) for name, own in (("mil", mil), ("engineered", [0.5, 0.5]), ("position", [0.9, 0.9]))
                for n, v in zip((1, 4), own, strict=True)]  # fmt: skip
        table = pd.DataFrame(rows, columns=["contestant", "wells_per_class", "value"])
        return table.assign(metric=metric, split="by_well")

    rising = "MIL is below engineered with 1 training wells a class and above with 4."
    assert crossings(run, "by_well", curve("balanced_accuracy", [0.4, 0.6])) == [rising]
    assert crossings(run, "by_well", curve("log_loss", [0.6, 0.4])) == [rising]
    assert crossings(run, "elsewhere", curve("balanced_accuracy", [0.4, 0.6])) == []
    assert crossings(run._replace(differences=None), "by_well", curve("brier", [0.4, 0.6])) == []


def test_wells_called_wrong_are_counted_by_compound_as_by_a_loop(run):
    assert unit_column(run) == "Metadata_compound"
    part = next(own for own in mistakes(run) if own["split"] == "by well")
    assert [row[0] for row in part["rows"]] == ["MIL", "engineered"]
    compound = run.wells.set_index("Metadata_Well")["Metadata_compound"].to_dict()
    held = run.predictions.query("role == 'out_of_fold' and split == 'by_well' and contestant == 'engineered'")
    counts: dict[str, list[int]] = {}
    for row in held.to_dict("records"):
        own = counts.setdefault(compound[row["Metadata_Well"]], [0, 0])
        own[0] += row["pred"] != row["true"]
        own[1] += 1
    _, wrong, n, told = part["rows"][1]
    assert (wrong, n) == tuple(np.sum(list(counts.values()), axis=0))
    assert wrong > 0
    for name, (own, of) in counts.items():
        assert (f"{name} {own} of {of}" in told) == (own > 0)
    assert mistakes(run._replace(wells=run.wells.drop(columns="Metadata_compound"))) == []
    by_plate = mistakes(run._replace(scores=run.scores.assign(unit="plate")))[0]
    assert (by_plate["unit"], by_plate["rows"][1][3]) == ("Plate", f"P1 {wrong} of {n}")


def test_a_control_is_known_by_what_it_looks_at_and_not_by_its_name(run):
    def renamed(table):
        return table.assign(contestant=table["contestant"].replace({"position": "run_date", "mil": "cells"}))

    other = run._replace(
        predictions=renamed(run.predictions), scores=renamed(run.scores), instances=renamed(run.instances),
        looks_at={"cells": "network", "engineered": "features", "run_date": "place"},
    )  # fmt: skip
    assert (other.places, other.numbers, other.controls) == (["run_date"], [], ["run_date"])
    assert run.controls == ["position"]
    assert [name for name, _ in leading(other, "by_well")] == ["engineered", "cells", "run_date"]
    assert "best control run date" in standing(other)[0]
    assert leading(run, "no such split") == []


def test_a_configuration_that_no_fold_tried_is_not_listed():
    rows = pd.DataFrame({"contestant": "x", "configuration": [0, 1], "settings": ["a", "b"], "chosen": [True, False]})
    assert [row["settings"] for row in choice_rows(rows.assign(inner_score=np.nan, note=""))] == ["a"]
    assert [row["settings"] for row in choice_rows(rows.assign(inner_score=0.5, note=""))] == ["a", "b"]

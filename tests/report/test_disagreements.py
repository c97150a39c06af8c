"""Wells that one of two contestants gets right: a loop over the wells, the cells beside them, what is left out."""

import numpy as np
import pandas as pd
import pytest

from cellpheno.classes import JUNK
from cellpheno.report.cells import open_plates
from cellpheno.report.disagreements import CELLS_SHOWN, WELLS_SHOWN, disagreements, most_telling, one_right
from cellpheno.report.run import read_run
from cellpheno.report.words import number


@pytest.fixture
def run(run_folder):
    return read_run(run_folder)


@pytest.fixture
def opened(run_folder):
    return open_plates([run_folder.parents[1] / "P1.zarr"])


def held(run, contestant, split):
    table = run.predictions.query("role == 'out_of_fold' and contestant == @contestant and split == @split")
    return table.set_index("Metadata_Well")


def test_the_wells_are_those_of_a_loop_with_what_each_said(run, opened):
    sections = disagreements(run, opened)
    assert [section["split"] for section in sections] == ["by well", "by compound"]
    for section, split in zip(sections, ("by_well", "by_compound"), strict=True):
        mil, engineered = held(run, "mil", split), held(run, "engineered", split)
        wanted = {}
        for well in mil.index:
            said = [table.loc[well, "pred"] for table in (mil, engineered)]
            right = [call == mil.loc[well, "true"] for call in said]
            if sum(right) == 1:
                sure = [number(t.loc[well, f"prob_{c}"], 2) for t, c in zip((mil, engineered), said, strict=True)]
                wanted[well] = (list(zip(said, sure, strict=True)), right.index(True))
        assert {row["well"]: (row["calls"], row["right"]) for row in section["rows"]} == wanted
        assert 0 < section["n"] == len(wanted) < WELLS_SHOWN
        assert section["n_lead"] == sum(right == 0 for _, right in wanted.values())
        assert section["n_scored"] == len(mil)


def test_beside_each_well_stand_its_cells_of_highest_weight(run, opened):
    section = disagreements(run, opened)[0]
    assert "White bar: 5 µm" in section["caption"]
    for row in section["rows"]:
        own = run.instances.query("split == 'by_well' and Metadata_Well == @row['well']")
        best = own.sort_values("weight", ascending=False).head(CELLS_SHOWN)
        assert [tile["relative"] for tile in row["cells"]] == [number(w * len(own), 2) for w in best["weight"]]
        assert all(tile["uri"].startswith("data:image/png;base64,") for tile in row["cells"])


def test_only_a_table_where_there_are_no_cells_no_weights_or_no_plate(run, opened):
    plain = [section["rows"] for section in disagreements(run, opened)]
    places = run.instances.assign(Location_Center_Y=0.0, Location_Center_X=0.0)
    for other in (None, run.instances.assign(weight=np.nan), places):
        sections = disagreements(run._replace(instances=other), opened)
        assert [[{**row, "cells": 0} for row in section["rows"]] for section in sections] == [
            [{**row, "cells": 0} for row in rows] for rows in plain
        ]
        assert all(section["caption"] == "" and section["faults"] == [] for section in sections)
    (fault,) = disagreements(run, open_plates([]))[0]["faults"]
    assert "plate P1 was not given" in fault
    assert disagreements(run._replace(differences=None), opened) == []


def calls(rows):
    columns = ["contestant", "repeat", "Metadata_Well", "true", "pred", "prob_a", "prob_b", "prob_dead"]
    return pd.DataFrame(rows, columns=columns).assign(Metadata_Plate="P1")


def test_junk_is_left_out_as_in_the_scores_and_only_the_first_repeat_counts(run):
    bare = run._replace(predictions=calls([]).drop(columns="prob_dead").assign(prob_dead=0.0), kinds={"dead": JUNK})
    table = calls(
        [
            ("mil", 0, "A01", "a", "dead", 0.3, 0.1, 0.6),  # among the answers it says a
            ("mil", 0, "A02", "dead", "a", 0.9, 0.1, 0.0),
            ("mil", 1, "A01", "a", "b", 0.1, 0.9, 0.0),
            ("engineered", 0, "A01", "a", "b", 0.2, 0.8, 0.0),
            ("engineered", 0, "A02", "dead", "dead", 0.0, 0.1, 0.9),
        ]
    )
    found = one_right(table, bare, "mil", "engineered")
    assert found[
        ["Metadata_Well", "pred_lead", "said_lead", "pred_reference", "said_reference"]
    ].to_numpy().tolist() == [["A01", "a", "0.75", "b", "0.80"]]
    assert found.attrs["n_scored"] == 1


def test_sets_of_classes_are_right_as_a_whole(run):
    bare = run._replace(predictions=calls([]).drop(columns="prob_dead"), kinds={"a": "several a well"})
    rows = [("mil", 0, "A01", "a|b", "a|b", 0.9, 0.8, 0), ("engineered", 0, "A01", "a|b", "a", 0.9, 0.4, 0)]
    (row,) = one_right(calls(rows), bare, "mil", "engineered").to_dict("records")
    assert (row["said_lead"], row["said_reference"], row["lead_right"]) == ("0.90 0.80", "0.90", True)
    assert row["chance_lead"] == pytest.approx(0.85)


def test_both_sides_are_shown_in_turn_the_most_mistaken_first():
    table = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": [f"A{i:02d}" for i in range(1, 8)]})
    table["lead_right"] = [True] * 5 + [False] * 2
    table["chance_reference"] = [0.4, 0.1, 0.3, 0.2, 0.0, 1.0, 1.0]
    table["chance_lead"] = [1.0] * 5 + [0.2, 0.1]
    assert most_telling(table, 5)["Metadata_Well"].tolist() == ["A05", "A02", "A04", "A07", "A06"]

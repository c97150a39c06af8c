"""The same compound on both sides of a fold: refused unless asked, told in the report where it is allowed."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellpheno.compare.leaks import UNKNOWN, both_sides, compound_column, leaks
from cellpheno.compare.splits import by_group, by_well
from cellpheno.errors import InputError
from tests.compare.test_strict_splits import COMPOUND, KEYS, screen

ASKED = ["image", "compound"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), min_size=8, max_size=20), st.integers(0, 99))
def test_a_compound_on_both_sides_is_found_as_by_a_loop_over_pairs(drawn, seed):
    wells = screen([(f"c{k}", f"d{j}" if j else "", "1") for k, j in drawn])
    if wells["label"].value_counts().min() < 2 or wells["label"].nunique() < 2:
        return
    folds = by_well(wells, n_folds=2, seed=seed)
    rows = wells.merge(folds, on=KEYS).to_dict("records")
    pairs = {
        own[COMPOUND] for own in rows for o in rows if own["fold"] != o["fold"] and own[COMPOUND] == o[COMPOUND] != ""
    }
    table = both_sides(wells, folds, COMPOUND)
    assert table["n"].tolist() == ([len(pairs)] if pairs else [])
    of_class = {k: {w[COMPOUND] for w in rows if w["label"] == k} - {""} for k in ("c0", "c1")}
    several = any(len(own) > 1 for own in of_class.values())
    alone = {
        next(iter(own))
        for k, own in of_class.items()
        if len(own) == 1 and not own & of_class["c1" if k == "c0" else "c0"]
    }
    assert bool(leaks(wells, folds, ASKED, {}, COMPOUND)) == bool(pairs - (alone if several else set()))


def test_replicate_wells_are_refused_by_well_and_the_message_names_the_ways_out():
    wells = screen([(k, f"{k}{j}", "1") for k in "ab" for j in (1, 2) for _ in range(2)])
    honest = by_group(wells, group=COMPOUND, n_folds=2, seed=0, split="by_compound")
    folds = pd.concat([wells[KEYS].assign(split="by_well", repeat=0, fold=[0, 1] * 4), honest])
    (fault,) = leaks(wells, folds, ASKED, {}, COMPOUND)
    assert fault.startswith("split by_well: Metadata_compound 'a")
    assert "split=[by_treatment] split.by_treatment.group=Metadata_compound" in fault
    assert fault.endswith("or allow it: no_leak=[image]")
    assert leaks(wells, folds, ["image"], {}, COMPOUND) == []
    assert leaks(wells, folds, ASKED, {}, None) == []  # nothing is known of compounds
    (row,) = both_sides(wells, folds, COMPOUND).to_dict("records")
    assert (row["split"], row["n"], row["n_all"]) == ("by_well", 4, 4)
    assert "4 of 4 values of compound (a1, a2, b1, b2) stand on both sides" in row["note"]


def test_a_control_is_spared_while_other_classes_can_be_held_out():
    rows = [("active", f"drug{j}", "1") for j in (1, 2, 3, 4)] + [("control", "DMSO", "1")] * 4
    wells = screen(rows).assign(Metadata_group=["1", "2", "3", "4"] * 2)  # each control well is a group of its own
    folds = by_group(wells, group="Metadata_group", n_folds=2, seed=0)
    assert leaks(wells, folds, ASKED, {}, COMPOUND) == []
    assert "1 of 5 values of compound (DMSO)" in both_sides(wells, folds, COMPOUND)["note"][0]
    split = wells[KEYS].assign(split="by_well", repeat=0, fold=[0, 0, 1, 1] * 2)
    twice = wells.replace({"drug3": "drug1"})
    assert "wells of DMSO need groups of their own" in leaks(twice, split, ASKED, {}, COMPOUND)[0]
    assert "'DMSO'" in leaks(wells, folds, [COMPOUND], {})[0]  # a column that was typed spares nothing


def test_classes_of_one_compound_each_are_refused_with_why():
    wells = screen([("negative", "DMSO", "1"), ("positive", "taxol", "1")] * 3)
    (fault,) = leaks(wells, by_well(wells, n_folds=3, seed=0), ASKED, {}, COMPOUND)
    assert "each class is one compound, so none can be held out; allow it: no_leak=[image]" in fault
    mixed = screen([("negative", "x", "1"), ("positive", "x", "1"), ("positive", "y", "1")] * 3)
    (fault,) = leaks(mixed, by_well(mixed, n_folds=3, seed=0), ASKED, {}, COMPOUND)
    assert "'x'" in fault  # in two classes: no control


def test_the_column_of_the_compound_is_found_by_its_name_or_given():
    wells = pd.DataFrame(columns=["Metadata_Treatment", "Metadata_Compound", "Metadata_drug", "label"])
    assert compound_column(wells, None, "moa") == "Metadata_Compound"
    assert compound_column(wells.drop(columns="Metadata_Compound"), None, "moa") == "Metadata_Treatment"
    assert compound_column(wells[["Metadata_drug"]], None, "moa") == "Metadata_drug"
    assert compound_column(wells[["label"]], None, "moa") is None
    assert compound_column(wells, None, "Compound") is None  # the question is which compound it is
    assert compound_column(wells, "Compound", "Compound") == "Metadata_Compound"
    assert compound_column(wells, "drug", "moa") == "Metadata_drug"
    with pytest.raises(InputError, match="compound=gene: the plate map has no such column"):
        compound_column(wells, "gene", "moa")


def test_where_no_column_names_the_compound_that_is_said_unless_the_class_is_the_compound():
    wells = screen([(f"c{k % 2}", f"d{k % 3}", "1") for k in range(8)]).drop(columns=COMPOUND)
    folds = by_well(wells, n_folds=2, seed=0)
    assert both_sides(wells, folds, None, "moa")["note"].tolist() == [UNKNOWN]
    assert both_sides(wells, folds, None, "Drug").empty

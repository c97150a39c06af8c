from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellpheno.compare.splits import FOLD_COLUMNS, assign_folds, by_group, by_well, inner_split
from cellpheno.errors import InputError

KEYS = ["Metadata_Plate", "Metadata_Well"]


def well_table(counts, n_drugs=1, new=0):
    """Wells of each class, the drugs in turn, then unlabelled wells."""
    labels = [name for name, n in counts.items() for _ in range(n)] + [""] * new
    n = len(labels)
    return pd.DataFrame(
        {
            "Metadata_Plate": [f"P{i // 96 + 1}" for i in range(n)],
            "Metadata_Well": [f"{'ABCDEFGH'[i % 96 // 12]}{i % 12 + 1:02d}" for i in range(n)],
            "label": labels,
            "Metadata_Drug": [f"drug{i % n_drugs}" for i in range(n)],
        }
    )


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(4, 13), min_size=2, max_size=4),
    st.integers(1, 3),
    st.integers(2, 4),
    st.integers(0, 10**6),
)
def test_wells_are_dealt_evenly_in_total_in_each_class_and_stratum(sizes, n_drugs, n_folds, seed):
    wells = well_table({f"c{k}": n for k, n in enumerate(sizes)}, n_drugs, new=3)
    folds = by_well(wells, n_folds=n_folds, n_repeats=2, stratify=["Metadata_Drug"], seed=seed)
    assert list(folds) == FOLD_COLUMNS
    for _, repeat in folds.groupby("repeat"):
        joined = repeat.merge(wells, on=KEYS, validate="one_to_one")
        assert len(joined) == sum(sizes)
        for keys in ([], ["label"], ["label", "Metadata_Drug"]):
            table = joined.groupby([*keys, "fold"]).size() if keys else joined.groupby("fold").size()
            table = table.unstack(fill_value=0) if keys else table.to_frame().T
            assert (table.max(axis=1) - table.min(axis=1)).max() <= 1
    shuffled = wells.sample(frac=1, random_state=seed % 1000)
    again = by_well(shuffled, n_folds=n_folds, n_repeats=2, stratify=["Metadata_Drug"], seed=seed)
    pd.testing.assert_frame_equal(folds, again)


def test_repeats_and_seeds_differ_and_the_first_repeat_stays():
    wells = well_table({"a": 12, "b": 12})
    two = by_well(wells, n_repeats=2, seed=5)
    first, second = (two[two["repeat"] == r]["fold"].tolist() for r in (0, 1))
    assert first != second
    assert by_well(wells, seed=5)["fold"].tolist() == first
    assert by_well(wells, seed=6)["fold"].tolist() != first


def test_leave_one_group_out_holds_out_each_group_alone():
    wells = well_table({"a": 8, "b": 8}, n_drugs=3)
    joined = by_group(wells, group="Metadata_Drug", seed=0).merge(wells, on=KEYS)
    assert (joined.groupby("Metadata_Drug")["fold"].nunique() == 1).all()
    assert joined.groupby("Metadata_Drug")["fold"].first().tolist() == [0, 1, 2]


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6))
def test_grouped_folds_never_split_a_group_and_keep_every_class_on_both_sides(n_folds, seed):
    rng = np.random.default_rng(seed)
    wells = well_table({f"c{k}": 12 for k in range(4)})
    wells["Metadata_Compound"] = [f"{label}_{rng.integers(5)}" for label in wells["label"]]
    wells.loc[wells.index % 12 < 5, "Metadata_Compound"] = [f"c{k}_{j}" for k in range(4) for j in range(5)]
    joined = by_group(wells, group="Metadata_Compound", n_folds=n_folds, seed=seed).merge(wells, on=KEYS)
    assert (joined.groupby("Metadata_Compound")["fold"].nunique() == 1).all()
    assert joined.groupby("label")["fold"].nunique().tolist() == [n_folds] * 4


def faults_of(call):
    with pytest.raises(InputError) as caught:
        call()
    return caught.value.faults


def test_all_faults_come_at_once():
    wells = pd.concat([well_table({"a": 5, "b": 3, "rare": 1})] * 1, ignore_index=True)
    wells = pd.concat([wells, wells.iloc[[0]]], ignore_index=True)
    faults = faults_of(lambda: by_well(wells, n_folds=4, stratify=["Metadata_Drog"], seed=0))
    assert len(faults) == 4
    assert "'Metadata_Drog'" in faults[0]
    assert "Metadata_Drug" in faults[0].split("nearest:")[1]
    assert faults[1] == "wells: P1 A01 is listed twice"
    assert "class 'rare' has one well (P1 A09)" in faults[2]
    assert "class 'b' has 3 wells; use n_folds=3" in faults[3]


@pytest.mark.parametrize("split", [by_well, partial(by_group, group="Metadata_Drug")])
@pytest.mark.parametrize(("counts", "found"), [({"a": 6}, "'a' (6 wells)"), ({}, "no labelled well")])
def test_one_class_only_is_refused(split, counts, found):
    assert any(found in fault for fault in faults_of(lambda: split(well_table(counts, 2, new=2), seed=0)))


def test_a_fold_that_leaves_no_well_of_a_class_is_named_with_the_class():
    wells = well_table({"a": 4, "b": 4})
    wells["Metadata_Drug"] = ["x", "y", "x", "y", "x", "x", "x", "x"]
    (fault,) = faults_of(lambda: by_group(wells, group="Metadata_Drug", seed=0))
    assert fault == "split by_group, repeat 0, fold 0 (holds out x): no training well of class 'b' is left"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"group": "Metadata_Drug", "n_folds": 3}, "2 groups in Metadata_Drug, wanted 3"),
        ({"group": "Metadata_Drug", "n_folds": 1}, "n_folds=1"),
        ({"group": "Metadata_Drug", "n_repeats": 2}, "needs n_folds"),
        ({"group": "Metadata_Drug", "n_folds": 2, "n_repeats": 0}, "n_repeats=0"),
        ({"group": "Metadata_Week"}, "no column 'Metadata_Week'"),
    ],
)
def test_group_options_that_cannot_work_are_refused(options, word):
    faults = faults_of(lambda: by_group(well_table({"a": 4, "b": 4}, 2), seed=0, **options))
    assert any(word in fault for fault in faults)


def test_wells_without_a_group_are_named():
    wells = well_table({"a": 4, "b": 4}, 2)
    wells.loc[2, "Metadata_Drug"] = ""
    assert "P1 A03" in faults_of(lambda: by_group(wells, group="Metadata_Drug", seed=0))[0]


def test_several_splits_stand_below_each_other_and_fail_together():
    wells = well_table({"a": 8, "b": 8}, 2)
    splits = {"by_well": by_well, "by_drug": partial(by_group, group="Metadata_Drug")}
    assert assign_folds(wells, splits, seed=1).groupby("split").size().to_dict() == {"by_drug": 16, "by_well": 16}
    wrong = {"x": partial(by_group, group="Metadata_X"), "y": partial(by_well, n_folds=9)}
    assert len(faults_of(lambda: assign_folds(wells, wrong, seed=1))) == 3  # column, and 9 folds of 8 wells twice


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.floats(0.05, 0.5), st.integers(0, 10**6))
def test_validation_wells_never_empty_a_class(sizes, fraction, seed):
    wells = well_table({f"c{k}": n for k, n in enumerate(sizes)})
    wells.index = [7] * len(wells)  # an index that repeats must not matter
    chosen = inner_split(wells, fraction, seed)
    taken = chosen["label"].value_counts()
    for k, n in enumerate(sizes):
        expected = 0 if n == 1 else min(max(1, round(fraction * n)), n - 1)
        assert taken.get(f"c{k}", 0) == expected
    assert chosen["Metadata_Well"].tolist() == [w for w in wells["Metadata_Well"] if w in set(chosen["Metadata_Well"])]


def test_grouped_validation_takes_whole_groups_or_refuses():
    wells = well_table({"a": 9, "b": 9}, n_drugs=3)
    chosen = inner_split(wells, 0.33, seed=0, group="Metadata_Drug")
    assert chosen["Metadata_Drug"].nunique() == 1
    assert len(chosen) == 6
    alone = wells.assign(Metadata_Drug=wells["label"])
    assert "without losing a class" in faults_of(lambda: inner_split(alone, 0.3, 0, group="Metadata_Drug"))[0]
    assert "0.7" in faults_of(lambda: inner_split(wells, 0.7, 0))[0]


def cell_table():
    """Twelve cells of two classes in four wells, in an order that is not theirs."""
    cells = pd.DataFrame(
        {
            "Metadata_Plate": "P1",
            "Metadata_Well": np.repeat(["A01", "A02", "A03", "A04"], 3),
            "Metadata_Site": 1,
            "Metadata_ObjectNumber": np.tile([1, 2, 3], 4),
            "label": np.tile(["a", "b"], 6),
            "Metadata_track": np.repeat(["s", "t", "u"], 4),
        }
    )
    return cells.sample(frac=1, random_state=0)


def test_cells_are_held_out_by_whole_wells_or_groups_never_one_by_one():
    folds = by_well(cell_table(), n_folds=2, seed=0)
    assert list(folds) == [*KEYS, "Metadata_Site", "Metadata_ObjectNumber", "split", "repeat", "fold"]
    assert len(folds) == 12
    assert (folds.groupby("Metadata_Well")["fold"].nunique() == 1).all()
    by_track = by_group(cell_table(), group="Metadata_track", seed=0).merge(cell_table())
    assert (by_track.groupby("Metadata_track")["fold"].nunique() == 1).all()
    assert by_track["fold"].nunique() == 3


def test_a_cell_that_is_listed_twice_is_named_and_strata_of_cells_are_refused():
    cells = pd.concat([cell_table(), cell_table().head(1)])
    with pytest.raises(InputError, match=r"P1 A0\d 1 \d is listed twice"):
        by_group(cells, group="Metadata_track", seed=0)
    with pytest.raises(InputError, match="leave it out"):
        by_well(cell_table(), n_folds=2, stratify=["Metadata_track"], seed=0)

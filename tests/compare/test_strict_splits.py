from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from cellpheno.compare.baselines import fit_predict_categories
from cellpheno.compare.contest import contest
from cellpheno.compare.leaks import leaks
from cellpheno.compare.splits import FOLD_COLUMNS, assign_folds, by_group, by_well
from cellpheno.compare.strict_splits import (
    UNSCORED,
    by_column,
    by_combination,
    random_cells,
    training_wells,
    unscored,
)
from cellpheno.errors import InputError

COMPOUND, WEEK = "Metadata_compound", "Metadata_week"
KEYS = ["Metadata_Plate", "Metadata_Well"]
by_both = partial(by_combination, groups=[COMPOUND, WEEK])


def screen(rows):
    """Wells of (label, compound, week)."""
    names = [f"{'ABCDEFGH'[i // 12]}{i % 12 + 1:02d}" for i in range(len(rows))]
    table = pd.DataFrame(rows, columns=["label", COMPOUND, WEEK])
    return table.assign(Metadata_Plate="P1", Metadata_Well=names, Metadata_Count_Cells=9)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)), min_size=12, max_size=30))
def test_compound_and_week_are_both_out_and_what_cannot_be_scored_is_named(drawn):
    """Against a loop over pairs of wells."""
    wells = screen([(f"c{k}", f"c{k}_{j}", f"w{w}") for k, j, w in drawn])
    if wells["label"].nunique() < 2:
        return
    try:
        folds = by_both(wells, seed=0)
    except InputError:  # too few can be scored: the next test
        return
    assert len(folds) == len(wells)
    rows = wells.merge(folds, on=KEYS).to_dict("records")
    lost = set(unscored(folds, wells)["Metadata_Well"])
    for own in rows:
        left = [o for o in rows if o[COMPOUND] != own[COMPOUND] and o[WEEK] != own[WEEK]]
        classes = {o["label"] for o in left}
        scored = own["label"] in classes and len(classes) > 1
        assert (own["fold"] >= 0) == scored == (own["Metadata_Well"] not in lost)
        if scored:
            mask = training_wells(wells, folds[folds["fold"] == own["fold"]])
            assert set(wells["Metadata_Well"][mask]) == {o["Metadata_Well"] for o in left}


def test_a_class_in_one_week_only_is_reported_with_its_wells_and_the_others_are_scored():
    wells = screen(
        [(k, f"{k}{j}", f"w{w}") for k in "ab" for j in (1, 2) for w in (1, 2)]
        + [("kinase", f"kinase{j}", "w1") for j in (1, 2)]
    )
    folds = assign_folds(wells, {"both": by_both, "by_well": partial(by_well, n_folds=2)}, seed=0)
    lost = unscored(folds, wells)
    assert lost["label"].tolist() == ["kinase", "kinase"]
    assert lost["split"].unique() == ["both"]
    assert set(lost["note"]) == {"no training well of their class shares neither Metadata_compound nor Metadata_week"}
    seen = []

    def spy(train, test, **options):
        seen.append(sorted(set(train["label"])))
        return fit_predict_categories(
            train, test, columns=["Metadata_Column"], classifier=LogisticRegression, **options
        )

    classes = ["a", "b", "kinase"]
    table = contest(wells, wells[[*KEYS, "Metadata_Count_Cells"]], folds, {"spy": spy}, classes, seed=0).predictions
    assert ["a", "b"] in seen  # week 1 out: no kinase well to learn from
    both = table[table["split"] == "both"]
    assert len(both) == 8
    first = both.merge(wells[[*KEYS, WEEK]], on=KEYS).query(f"{WEEK} == 'w1'")
    assert first["prob_kinase"].to_numpy() == pytest.approx(0.5 / 3.5)  # half a well beside the three that teach
    assert set(first["pred"]) <= {"a", "b"}
    assert np.isfinite(both[[f"logit_{name}" for name in classes]]).all(axis=None)
    np.testing.assert_allclose(both[[f"prob_{name}" for name in classes]].sum(axis=1), 1)


def test_combinations_that_leave_nothing_to_score_are_refused():
    alone = screen([(k, f"{k}{j}", f"w{k}") for k in "ab" for j in (1, 2)])
    with pytest.raises(InputError, match="0 of 2 classes can be scored: no training well of a, b"):
        by_both(alone, seed=0)
    with pytest.raises(InputError, match="two columns or more"):
        by_combination(alone, groups=[WEEK], seed=0)
    with pytest.raises(InputError, match="without Metadata_week: P1 A01"):
        by_both(alone.assign(**{WEEK: ""}), seed=0)
    with pytest.raises(InputError, match="not of cells"):
        by_both(alone.assign(Metadata_ObjectNumber=1), seed=0)


def test_a_column_of_the_plate_map_says_who_is_held_out():
    wells = screen([("a", "x", "1"), ("b", "x", "1")] * 4).assign(
        Metadata_split=["train"] * 4 + ["t2", "t2", "t1", "t1"]
    )
    folds = by_column(wells, column="Metadata_split", seed=0)
    assert list(folds) == [*FOLD_COLUMNS, "note"]
    assert folds["fold"].tolist() == [-1] * 4 + [1, 1, 0, 0]
    assert training_wells(wells, folds[folds["fold"] == 1]).sum() == 6  # t1 teaches when t2 is held out
    assert len(unscored(folds, wells)) == 4
    for wrong, word in (
        ({"Metadata_split": "train"}, "none is held out"),
        ({"Metadata_split": ["train", ""] * 4}, "without Metadata_split"),
        ({"Metadata_split": ["train", "test"] * 4}, "no training well of class 'b' is left when Metadata_split=test"),
    ):
        with pytest.raises(InputError, match=word):
            by_column(wells.assign(**wrong), column="Metadata_split", seed=0)


def test_random_cells_are_marked_and_of_cells_only():
    cells = screen([("a", "x", "1"), ("b", "x", "1")] * 2)
    cells = pd.concat([cells.assign(Metadata_Site=1, Metadata_ObjectNumber=i) for i in range(5)])
    folds = random_cells(cells, n_folds=2, seed=0)
    assert set(folds["split"]) == {"leaky_random_cells"}
    assert folds.groupby("Metadata_Well")["fold"].nunique().max() == 2
    sizes = folds.merge(cells, on=[*KEYS, "Metadata_Site", "Metadata_ObjectNumber"]).groupby(["label", "fold"]).size()
    assert sizes.tolist() == [5, 5, 5, 5]
    with pytest.raises(InputError, match="of single cells"):
        random_cells(screen([("a", "x", "1"), ("b", "x", "1")] * 2), seed=0)


def test_the_same_compound_or_picture_on_both_sides_is_named_once_a_split():
    wells = screen([(k, f"{k}{j}", "1") for k in "ab" for j in (1, 2) for _ in range(2)])
    honest = by_group(wells, group=COMPOUND, n_folds=2, seed=0, split="by_compound")
    folds = pd.concat([wells[KEYS].assign(split="by_well", repeat=0, fold=[0, 1] * 4), honest])
    (fault,) = leaks(wells, folds, [COMPOUND], {})
    assert fault.startswith("split by_well: Metadata_compound 'a")
    assert leaks(wells, honest, [COMPOUND], {}) == []
    assert leaks(wells.assign(**{COMPOUND: ""}), folds, [COMPOUND], {}) == []  # no compound is not the same compound
    fold = honest.set_index("Metadata_Well")["fold"]
    a, b = fold.index[fold == 0][0], fold.index[fold == 1][0]
    (fault,) = leaks(wells, honest, ["image"], {("P1", a): {"x", "y"}, ("P1", b): {"y"}})
    assert "by_compound: the same picture is on both sides of fold 0" in fault
    assert "2 of 2 folds" in fault
    assert f"P1 {a}" in fault
    assert f"P1 {b}" in fault
    assert leaks(wells, honest, ["image"], {("P1", a): {"x"}, ("P1", b): {"y"}}) == []
    assert "no such column" in leaks(wells, folds, ["Metadata_gene"], {})[0]


def test_columns_kept_apart_may_have_spaces_in_their_names():
    wells = screen([(k, d, str(w)) for w, pairs in enumerate(["ax by", "ax bz", "az by"]) for k, d in pairs.split()])
    spaced = wells.rename(columns={COMPOUND: "Metadata_compound name"})
    about = {"seed": 0, "split": "both"}
    plain, other = (
        by_combination(table, groups=[name, "Metadata_week"], **about)
        for table, name in ((wells, COMPOUND), (spaced, "Metadata_compound name"))
    )
    assert plain["fold"].tolist() == other["fold"].tolist()
    for fold in set(plain["fold"]) - {UNSCORED}:
        held, own = plain[plain["fold"] == fold], other[other["fold"] == fold]
        assert training_wells(wells, held).tolist() == training_wells(spaced, own).tolist()

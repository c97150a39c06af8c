"""Matching of a run's treatments: against a loop over pairs, what cannot be matched, what is refused."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cosine

from cellpheno.compare.baselines import fit_predict, fit_predict_categories
from cellpheno.compare.matching_contest import match_contestants, matching_question
from cellpheno.errors import InputError
from cellpheno.profiles.normalize import fit_robust_z
from cellpheno.profiles.select import select_features
from cellpheno.report.matching import matching
from cellpheno.report.run import read_table
from cellpheno.report.words import DASH

MATCH = {"treatment": ["compound", "dose"], "compound": "compound", "batch": "week", "without": ["dmso"]}
COMPOUND = "Metadata_compound"


def baseline(*columns, **options):
    made = {"classifier": None, "normalize": fit_robust_z, "select": select_features, "without": []}
    return partial(fit_predict, columns=list(columns), **{**made, **options})


BASELINES = {
    "engineered": baseline("Cells_*", clip=3.0),
    "cell_count": baseline("Metadata_Count_Cells"),
    "position": partial(fit_predict_categories, columns=["Metadata_Well"], classifier=None),
}


def screen(seed=0):
    """36 wells of 3 classes, 6 compounds and a control, 2 doses, 3 weeks; a copied and a constant feature."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "Metadata_Plate": f"P{week}",
            "Metadata_Well": f"{'ABCDEFG'[drug]}{dose:02d}",
            "label": "dmso" if drug == 6 else f"m{drug % 3}",
            COMPOUND: "DMSO" if drug == 6 else f"d{drug}",
            "Metadata_dose": str(dose),
            "Metadata_week": str(week + drug // 4),
        }
        for week in (1, 2)
        for drug in range(7)
        for dose in (1, 2)
    ]
    wells = pd.DataFrame(rows)
    values = rng.normal(size=(len(wells), 4)) + rng.normal(size=(7, 4))[wells[COMPOUND].factorize()[0]]
    features = pd.DataFrame(values, columns=[f"Cells_F{j}" for j in range(4)])
    features["Cells_F4"] = features["Cells_F0"] * 2  # a copy
    features["Cells_F5"] = 1.0
    features.loc[3, "Cells_F1"] = np.nan
    features["Metadata_Count_Cells"] = rng.integers(5, 50, size=len(wells))
    return wells, pd.concat([wells[["Metadata_Plate", "Metadata_Well"]], features], axis=1)


def by_hand(wells, features):
    """Profiles (treatment: vector), in plain loops."""
    table, columns = wells.join(features.drop(columns=["Metadata_Plate", "Metadata_Well"])), []
    for j in range(4):
        own = table[f"Cells_F{j}"].to_numpy()
        middle = np.nanmedian(own)
        scaled = (own - middle) / (1.4826 * np.nanmedian(abs(own - middle)))
        columns.append(np.nan_to_num(np.clip(scaled, -3, 3), nan=0.0))
    found = {}
    for i, row in table.iterrows():
        if row["label"] != "dmso":
            found.setdefault((row[COMPOUND], row["Metadata_dose"]), []).append(i)
    return {key: [np.median(values[own]) for values in columns] for key, own in found.items()}


def test_matches_equal_a_loop_over_treatments():
    wells, features = screen()
    features.loc[0, "Cells_F1"] = np.nan
    question = matching_question(MATCH, wells, ["m0", "m1", "m2", "dmso"], False)
    found = match_contestants(wells, features.assign(Cells_F1=features["Cells_F1"].fillna(0.1)), BASELINES, question)
    profiles = by_hand(wells, features.assign(Cells_F1=features["Cells_F1"].fillna(0.1)))
    weeks = wells.groupby([COMPOUND, "Metadata_dose"])["Metadata_week"].agg(set)
    moa = wells.groupby(COMPOUND)["label"].first()
    assert set(found.matches["contestant"]) == {"engineered"}
    for kind in ("NSC", "NSCB"):
        own = found.matches[found.matches["kind"] == kind].set_index("treatment")
        assert len(own) == len(profiles) == 12
        right = 0
        for key, vector in profiles.items():
            able = [
                (cosine(vector, other), " ".join(name), moa[name[0]])
                for name, other in profiles.items()
                if name[0] != key[0] and not (kind == "NSCB" and weeks[name] & weeks[key])
            ]
            row = own.loc[" ".join(key)]
            assert (row["note"] == "") == (moa[key[0]] in {label for _, _, label in able})
            if able:
                assert (row["distance"], row["neighbour"]) == (pytest.approx(min(able)[0], abs=1e-9), min(able)[1])
                right += min(able)[2] == moa[key[0]]
            else:
                assert row["neighbour"] == ""
        scores = found.scores[found.scores["contestant"] == "engineered"].set_index(["kind", "metric", "class"])
        assert scores.loc[(kind, "accuracy", ""), "value"] == pytest.approx(right / 12)
        assert scores.loc[(kind, "accuracy", ""), "n_all"] == 12


def test_the_scale_is_that_of_all_labelled_wells_and_looks_at_no_class():
    wells, features = screen()
    question = matching_question(MATCH, wells, ["m0", "m1", "m2", "dmso"], False)
    one = match_contestants(wells, features, BASELINES, question).matches
    other = wells.assign(label=wells["label"].replace({"m0": "m1", "m1": "m0"}))
    two = match_contestants(other, features, BASELINES, question).matches
    pd.testing.assert_series_equal(one["distance"], two["distance"])
    far = features.assign(Cells_F0=features["Cells_F0"].where(wells["label"] != "dmso", 40.0))
    three = match_contestants(wells, far, BASELINES, question).matches
    assert not np.allclose(one["distance"].astype(float), three["distance"].astype(float))  # controls count


def test_what_has_no_angle_or_no_measured_well_is_named():
    wells, features = screen()
    gone = (wells[COMPOUND] == "d1") & (wells["Metadata_dose"] == "2")
    features.loc[gone.to_numpy(), "Metadata_Count_Cells"] = 0
    features.loc[gone.to_numpy(), [column for column in features if column.startswith("Cells_")]] = np.nan
    question = matching_question({**MATCH, "batch": None}, wells, ["m0", "m1", "m2", "dmso"], False)
    found = match_contestants(wells, features, BASELINES, question, junk=["m2"])
    whole = found.scores[found.scores["metric"] == "accuracy"].set_index("contestant")
    assert whole.loc["cell_count", ["n", "n_all"]].tolist() == [0, 8]
    assert "no angle" in whole.loc["cell_count", "note"]
    assert whole.loc["engineered", "n_all"] == 7
    assert whole.loc["engineered", "note"] == "not measured, in no score: d1 2"
    own = found.matches.set_index("treatment")
    assert own.loc["d1 2", "note"] == "no well of it was measured"
    assert not {"d2 1", "DMSO 1"} & set(own.index)  # junk, and left out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"batches": "week"}, "match.batches: no such key"),
        ({"compound": None}, "match.compound is missing"),
        ({"batch": "weeks"}, "match.batch=weeks: the plate map has no such column.*did you mean week"),
        ({"without": ["DMSO"]}, "match.without: 'DMSO' is no class"),
        ({"treatment": "dose"}, "the treatment '1' has several classes, m0, m1, m2"),
        ({"without": []}, "labelled wells without Metadata_compound: P1 G01"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(change, told):
    wells = screen()[0]
    wells[COMPOUND] = wells[COMPOUND].replace("DMSO", "")
    with pytest.raises(InputError, match=told):
        matching_question({**MATCH, **change}, wells, ["m0", "m1", "m2", "dmso"], False)
    with pytest.raises(InputError, match="one class"):
        matching_question(MATCH, wells, ["m0", "m1", "m2", "dmso"], True)


def test_the_report_shows_a_row_a_contestant_and_kind(tmp_path):
    assert matching(SimpleNamespace(matching=None)) == []
    wells, features = screen()
    question = matching_question(MATCH, wells, ["m0", "m1", "m2", "dmso"], False)
    scores = match_contestants(wells, features, BASELINES, question).scores
    scores.to_csv(tmp_path / "matching_scores.csv", index=False)
    rows = matching(SimpleNamespace(matching=read_table(tmp_path / "matching_scores.csv")))
    assert [(row["contestant"], row["kind"]) for row in rows] == [
        ("engineered", "NSC"),
        ("engineered", "NSCB"),
        ("cell_count", "NSC"),
        ("cell_count", "NSCB"),
    ]
    own = scores.query("contestant == 'engineered' and kind == 'NSC' and metric == 'accuracy'").iloc[0]
    assert rows[0]["of_all"]["value"] == f"{own['value']:.3f}"
    assert rows[0]["of_all"]["interval"] == f"[{own['low']:.3f}, {own['high']:.3f}]"
    assert (rows[0]["n_all"], rows[2]["of_all"]["value"], rows[2]["of_scorable"]) == ("12", DASH, None)

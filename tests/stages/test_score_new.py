"""New wells whose labels are known: scored, beside what the cross-validation promised."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from cellpheno.errors import InputError
from cellpheno.stages.score_new import _check_complete, _new, _promises
from tests.conftest import Screen

KEYS = ["Metadata_Plate", "Metadata_Well"]
RUN = ("contestants=[max]", "baselines=[engineered,position]", "trainer.max_epochs=1", "n_bootstrap=100")
LATER = ("steps=[predict,predict_baselines,score_new]", "models=runs/small", "output=runs/later")


@pytest.fixture(scope="module")
def later(cropped_screen, tmp_path_factory):
    """A run that knew the labels of four wells in eight; then those of the others became known."""
    screen = Screen(tmp_path_factory.mktemp("later") / "screen")
    shutil.copytree(cropped_screen.folder, screen.folder)
    path = screen.folder / "SIM1/platemap.csv"
    known = path.read_bytes()
    mapped = pd.read_csv(path, dtype=str, keep_default_na=False)
    new = mapped.groupby("Metadata_label").head(2)["Metadata_Well"]
    mapped.loc[mapped["Metadata_Well"].isin(new), "Metadata_label"] = ""
    mapped.to_csv(path, index=False)
    assert screen.run("steps=[train,predict,compare]", *RUN) == 0
    path.write_bytes(known)
    assert screen.run(*LATER, *RUN) == 0
    return screen


def test_new_wells_are_scored_by_all_contestants_beside_what_was_promised(later):
    folder = later.folder / "runs/later"
    predictions = pd.read_csv(folder / "predictions-new.csv")
    assert (predictions["true"] == predictions["Metadata_label"]).all()
    assert set(predictions["role"]) == {"new"}
    table = pd.read_csv(folder / "scores-new.csv")
    table = table[(table["metric"] == "balanced_accuracy") & table["class"].isna()].set_index("contestant")
    assert set(table.index) == {"mil", "max", "engineered", "position"}
    for name, rows in predictions.groupby("contestant"):
        assert len(rows) == 4
        assert table.loc[name, "value"] == balanced_accuracy_score(rows["true"], rows["pred"])
    promised = pd.read_csv(later.folder / "runs/small/scores.csv")
    promised = promised[(promised["metric"] == "balanced_accuracy") & promised["class"].isna()].set_index("contestant")
    for new, old in (("promised", "value"), ("promised_low", "low"), ("promised_high", "high")):
        np.testing.assert_array_equal(table[new], promised.loc[table.index, old])
    gaps = pd.read_csv(folder / "differences-new.csv")
    assert set(gaps["contestant"]) == {"mil", "max", "position"}


def test_classes_that_the_models_do_not_know_are_refused_naming_both(later, capsys):
    assert later.run("steps=[score_new]", *LATER[1:], *RUN, "classes=[control,mitotic]") == 2
    told = capsys.readouterr().err
    assert "trained with ['control', 'nuclear'], asked for are ['mitotic'] too" in told


def test_a_second_time_nothing_is_done_and_the_scores_are_told(later, caplog):
    with caplog.at_level("INFO", "cellpheno"):
        assert later.run(*LATER, *RUN) == 0
    assert "score_new: done already" in caplog.text
    assert "engineered, by_well: balanced accuracy" in caplog.text
    assert "over 4 new wells; the cross-validation said" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["output=runs/empty"], "holds no predictions of mil, max, baselines; run: cellpheno run output=runs/empty"),
        (["contestants=[max,mean]"], "output=runs/later holds no predictions of mean; run"),
        (["unit=Metadata_week"], "unit 'Metadata_week': wanted 'well' or a column of the predictions"),
        (["reference=nobody"], "reference=nobody: wanted one of engineered, max, mil, position"),
        (["label_separator='|'"], "tells one class a well: label_separator=null"),
        (["classes={control: x, nuclear: y}"], "no usable well of these plates has a class of the run"),
        (["label=compound"], "no usable well of these plates has a class of the run"),
    ],
)
def test_what_cannot_be_scored_is_refused(later, capsys, overrides, message):
    asked = [*LATER[1:], *RUN, *overrides]
    assert later.run("steps=[score_new]", *asked) == 2
    assert message in capsys.readouterr().err


def test_wells_of_the_run_are_not_new_and_known_compounds_are_told():
    wells = pd.DataFrame(
        {KEYS[0]: "P1", KEYS[1]: ["B02", "B03", "B04"], "label": "a", "Metadata_compound": list("xyz")}
    )
    trained = wells.iloc[:2].assign(label=["a", ""], Metadata_compound=["z", "y"])
    new, told = _new(wells, trained, "Metadata_compound")
    assert new[KEYS[1]].tolist() == ["B03", "B04"]
    assert told == ["1 of 2 wells have a compound that taught the models: of new compounds they say nothing"]
    assert _new(wells, trained, None)[1] == []
    with pytest.raises(InputError, match="none is new"):
        _new(wells.iloc[:1], trained, None)


def test_wells_of_the_run_under_other_names_are_refused_or_told(later, capsys, caplog):
    path = later.folder / "runs/small/pictures.csv"
    kept = path.read_bytes()
    known = pd.read_csv(path, dtype=str)
    trained = pd.read_csv(later.folder / "runs/small/wells.csv", dtype=str, keep_default_na=False)
    new, taught = (trained.loc[chosen, KEYS[1]].iloc[0] for chosen in (trained["label"] == "", trained["label"] != ""))
    same = known.loc[known[KEYS[1]] == new, "sha256"].iloc[0]
    known.loc[known.index[known[KEYS[1]] == taught][0], "sha256"] = same  # as if that well had been given another name
    known.to_csv(path, index=False)
    asked = ("steps=[score_new]", *LATER[1:], *RUN)
    try:
        assert later.run(*asked) == 2
        told = f"1 wells hold pictures that taught the models (SIM1 {new} those of SIM1 {taught}, ...)"
        assert f"{told}: they are not new" in capsys.readouterr().err
        assert later.run(*asked, "no_leak=[compound]") == 0
        assert told in caplog.text
        path.unlink()
        assert later.run(*asked) == 2
        assert "holds no pictures.csv; write it: cellpheno compare output=runs/small" in capsys.readouterr().err
    finally:
        path.write_bytes(kept)


def test_a_contestant_that_lacks_wells_is_refused():
    wells = pd.DataFrame({KEYS[0]: "P1", KEYS[1]: ["B02", "B03"]})
    said = pd.concat([wells.assign(contestant="a"), wells.iloc[:1].assign(contestant="b")]).assign(split="by_well")
    with pytest.raises(InputError, match=r"b \(split by_well\) has predicted 1 of 2 labelled new wells"):
        _check_complete(said, wells, "a")


def test_a_promise_is_over_the_classes_of_the_new_wells(later):
    about = {"unit": "Metadata_compound", "n_bootstrap": 40, "seed": 0, "multilabel": False, "junk": []}
    found = _promises(later.folder / "runs/small", {"nuclear"}, ["control", "nuclear"], about)
    accuracy = found[(found["metric"] == "balanced_accuracy")].set_index("contestant")["promised"]
    table = pd.read_csv(later.folder / "runs/small/scores.csv").query("metric == 'recall' and `class` == 'nuclear'")
    assert accuracy.to_dict() == table.set_index("contestant")["value"].to_dict()
    assert _promises(later.folder, {"nuclear"}, ["control", "nuclear"], about).empty


def test_classes_without_a_new_well_are_told(later, caplog):
    some = ("steps=[score_new]", *LATER[1:], "classes={nuclear: nuclear}")
    with caplog.at_level("INFO", "cellpheno"):
        assert later.run(*some, *RUN) == 0
    assert "no new well is control: both scores are over the other classes" in caplog.text
    assert later.run("steps=[score_new]", *LATER[1:], *RUN) == 0

"""Wells in several classes, from the plate map to the report; and what is refused on the way."""

import shutil

import numpy as np
import pandas as pd
import pytest

from cellpheno.classes import membership
from cellpheno.errors import InputError
from cellpheno.stages.wells import class_names, well_table

SETS = {"control": ["(none)", "b"], "nuclear": ["a", "b;a"]}  # a is there to be seen, b is not
LAST = "steps=[train,predict,compare,report]"
CLASSES = ["a", "b"]


def relabel(screen, sets):
    """Give the wells of each class new labels in turn."""
    path = screen.folder / "SIM1/platemap.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for old, new in sets.items():
        here = table["Metadata_label"] == old
        table.loc[here, "Metadata_label"] = [new[i % len(new)] for i in range(here.sum())]
    table.to_csv(path, index=False)


@pytest.fixture(scope="module")
def several_screen(cropped_screen, tmp_path_factory):
    screen = type(cropped_screen)(tmp_path_factory.mktemp("several") / "screen")
    shutil.copytree(cropped_screen.folder, screen.folder)
    relabel(screen, SETS)
    assert screen.run(LAST, "label_separator=;", "validation=0") == 0
    return screen


def test_every_contestant_answers_each_class_by_itself(several_screen):
    table = pd.read_parquet(several_screen.folder / "runs/small/predictions.parquet")
    assert table.groupby("contestant").size().to_dict() == dict.fromkeys(
        ["mil", "engineered", "cell_count", "mean_intensity", "position"], 8
    )
    assert sorted(set(table["true"])) == ["(none)", "a", "a|b", "b"]
    called = (table[["prob_a", "prob_b"]] > 0.5).to_numpy()
    np.testing.assert_array_equal(membership(table["pred"], CLASSES, True), called)
    np.testing.assert_allclose(table["prob_a"], 1 / (1 + np.exp(-table["logit_a"])))


def test_scores_and_report_say_mean_average_precision(several_screen):
    folder = several_screen.folder / "runs/small"
    scores = pd.read_csv(folder / "scores.csv", keep_default_na=False)
    whole = scores[scores["class"] == ""]
    assert set(whole["metric"]) == {
        *("mean_average_precision", "macro_auroc", "macro_f1", "log_loss", "brier"),
        *("calibration_error", "calibration_limit"),
    }
    assert set(scores[scores["class"] == "a"]["metric"]) == {"auroc", "average_precision", "recall", "precision"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "mAP" in page
    assert "A well may have several classes here" in page
    assert "balanced accuracy" not in page.split('id="training"')[0]


def test_labels_are_read_in_the_order_of_the_classes(several_screen):
    wells = well_table([several_screen.folder / "SIM1.zarr"], "label", None, ";")
    assert wells["label"].value_counts().to_dict() == {"(none)": 2, "a": 2, "a|b": 2, "b": 2}
    assert class_names(wells, None, multilabel=True) == CLASSES
    named = well_table([several_screen.folder / "SIM1.zarr"], "label", {"Y": "b", "X": "a"}, ";")
    assert set(named["label"]) == {"(none)", "X", "Y|X", "Y"}


def test_predicting_with_the_other_kind_of_labels_is_refused(several_screen, capsys):
    assert several_screen.run("steps=[predict]") == 2
    assert "trained with several classes a well: give the label_separator" in capsys.readouterr().err


def test_labels_that_cannot_be_read_are_refused_with_their_well(cropped_screen, fresh_copy):
    screen = fresh_copy(cropped_screen)
    relabel(screen, {"control": ["(none)", "b", "a;a", "a; b"], "nuclear": ["a;", "a;x", "x", "a;b"]})
    plate = [screen.folder / "SIM1.zarr"]
    with pytest.raises(InputError) as caught:
        well_table(plate, "label", ["a", "b", "c"], ";")
    for fault in (
        "no well has the class c (label=c)",
        "label 'a;' has an empty part",
        "label 'a; b' has a part that begins or ends with a blank, ' b'",
        "label 'a;a' names 'a' twice",
        "label 'a;x' names 'x' beside a class; the classes are a, b, c",
    ):
        assert any(fault in line for line in caught.value.faults), fault
    assert len(caught.value.faults) == 5  # x alone is no class, and its well is new
    with pytest.raises(InputError, match=r"class 'p\|q': with several classes a well a name may not hold '\|'"):
        well_table(plate, "label", {"p|q": "b"}, ";")
    with pytest.raises(InputError, match="label_separator is empty"):
        well_table(plate, "label", None, "")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["data.balanced=true"], "data.balanced=true: where a well has several classes"),
        (["dose=concentration_um", "steps=[compare]"], "a dose-response is of two classes"),
    ],
)
def test_what_cannot_be_asked_is_refused(several_screen, fresh_copy, capsys, options, found):
    screen = fresh_copy(several_screen)
    assert screen.run(LAST, "label_separator=;", "validation=0", *options) == 2
    assert found in capsys.readouterr().err

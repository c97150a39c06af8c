"""What a reader is told before the verdict is quoted."""

import numpy as np
import pandas as pd
import pytest

from cellpheno.report.run import read_run
from cellpheno.report.summary import warnings_of


@pytest.fixture
def run(run_folder):
    return read_run(run_folder)


def test_wells_that_no_split_can_score_are_named_with_the_denominator(run):
    assert not any("stand in no score" in note for note in warnings_of(run))
    first = run.wells[run.wells["label"] == "nuclear"].head(2)
    folds = run.folds.assign(note="")
    lost = folds["Metadata_Well"].isin(first["Metadata_Well"]) & (folds["split"] == "by_compound")
    folds.loc[lost, ["fold", "note"]] = [-1, "no training well is left"]
    labelled = (run.wells["label"] != "").sum()
    (told,) = (note for note in warnings_of(run._replace(folds=folds)) if "stand in no score" in note)
    assert told == (
        f"Split by compound: 2 of {labelled} labelled wells stand in no score, since no training well is left."
    )
    kept = run.predictions[run.predictions["true"] != "nuclear"]
    (told,) = (n for n in warnings_of(run._replace(folds=folds, predictions=kept)) if "stand in no score" in n)
    assert told.endswith("; nothing is scored of nuclear.")


def test_a_layout_that_predicts_the_class_and_probabilities_that_boast_are_told(run):
    scores = run.scores.copy()
    own = (scores["contestant"] == "position") & (scores["metric"] == "balanced_accuracy") & (scores["class"] == "")
    scores.loc[own & (scores["split"] == "by_well"), ["value", "low", "high"]] = [0.9, 0.8, 0.95]
    scores.loc[own & (scores["split"] == "by_compound"), ["value", "low", "high"]] = [0.35, 0.2, 0.5]
    mil = (scores["contestant"] == "mil") & (scores["split"] == "by_well")
    scores.loc[mil & (scores["metric"] == "calibration_error"), "value"] = 0.31
    scores.loc[mil & (scores["metric"] == "calibration_limit"), "value"] = 0.12
    told = warnings_of(run._replace(scores=scores))
    assert any(note.startswith("Split by well: the position on the plate alone predicts the class") for note in told)
    assert any("split by well" in note and "MIL 0.31 (limit 0.12)" in note for note in told)
    plain = pd.DataFrame(run.scores[~run.scores["metric"].str.startswith("calibration")])
    assert not any("calibration" in note for note in warnings_of(run._replace(scores=plain)))
    assert np.isfinite(run.scores["value"]).all()


def test_scores_without_the_wells_that_have_no_cell_are_told_beside_their_names(run):
    assert any("Wells without a cell: 1 (" in note for note in warnings_of(run))
    assert not any("Without them" in note for note in warnings_of(run))
    (told,) = [
        note
        for note in warnings_of(run._replace(scores_with_cells=run.scores.query("split == 'by_well'")))
        if note.startswith("Without them, balanced accuracy of split by well is: ")
    ]
    row = run.scores.query("contestant == 'mil' and split == 'by_well' and metric == 'balanced_accuracy'").iloc[0]
    assert f"MIL {row['value']:.3f}" in told

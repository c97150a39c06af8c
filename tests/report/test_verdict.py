"""The sentence to quote, and who stands in it."""

import pandas as pd
import pytest

from cellpheno.report.run import read_run
from cellpheno.report.verdict import lead_of, verdicts


@pytest.fixture
def run(run_folder):
    return read_run(run_folder)


def changed(run, **values):
    rows = run.differences.query("contestant == 'mil' and metric == 'balanced_accuracy' and split == 'by_well'").index
    table = run.differences.copy()
    for name, value in values.items():
        table[name] = table[name].astype(object)
        table.loc[rows, name] = value
    return run._replace(differences=table)


def test_the_sentence_stands_alone_with_wells_units_split_and_corrected_p(run):
    ahead = changed(run, value=0.04, low=0.01, high=0.07, p=0.006, p_holm=0.012, n=110, n_unit=18, unit="compound")
    told = verdicts(changed(ahead, verdict="ahead"))[0]
    assert told == (
        "MIL is ahead of engineered features by 0.04 [0.01, 0.07] balanced accuracy over 110 wells, 18 compounds "
        "(split by well; p = 0.012, Holm-corrected)."
    )


def test_without_evidence_the_smallest_difference_that_could_have_been_shown_is_told(run):
    none = changed(run, value=0.01, low=-0.03, high=0.05, p=0.5, p_holm=0.6, n=40, detectable=0.08)
    told = verdicts(changed(none, verdict="no evidence of a difference"))[0]
    assert told == (
        "No evidence of a difference between MIL and engineered features: 0.01 [-0.03, 0.05] balanced accuracy over 40 "
        "wells (split by well; p = 0.600, Holm-corrected). A difference of 0.08 would have been shown 4 times in 5."
    )


def test_the_lead_is_mil_else_the_best_network_else_the_first(run, tmp_path):
    names = ["position", "mil", "noisy", "max"]
    scores = pd.DataFrame(
        {"contestant": names, "split": "s", "metric": "balanced_accuracy", "class": "", "value": [1.0, 0.2, 0.7, 0.9]}
    )
    predictions = pd.DataFrame({"contestant": names, "true": "", "split": "s"})
    for name in ("noisy", "max"):
        (tmp_path / "contestants" / name).mkdir(parents=True)
    bare = run._replace(folder=tmp_path, scores=scores, predictions=predictions, instances=None)
    assert bare.networks == ["mil", "noisy", "max"]
    assert lead_of(bare, "s", names) == "mil"
    assert lead_of(bare, "s", ["position", "noisy", "max"]) == "max"
    assert lead_of(bare, "s", ["position", "noisy"]) == "noisy"
    assert lead_of(bare._replace(folder=tmp_path / "other"), "s", ["position", "noisy"]) == "noisy"
    assert lead_of(bare._replace(scores=scores.assign(metric="log_loss")), "s", ["noisy", "max"]) == "noisy"

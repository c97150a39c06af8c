"""Junk classes: learned and predicted like others, and no part of the scores."""

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss

from cellpheno.compare.statistics import differences, scores

CLASSES = ["a", "b", "dead"]
SCORED = "steps=[compare,report]"


def predictions(seed=0, n=36):
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    about = {"split": "by_well", "repeat": 0, "fold": 0, "role": "out_of_fold", "Metadata_Plate": "P1"}
    tables = []
    for contestant in ("mil", "engineered"):
        logits = rng.normal(size=(n, 3)) + 1.5 * np.eye(3)[truth]
        table = pd.DataFrame({"contestant": contestant, **about, "Metadata_Well": [f"w{i:02d}" for i in range(n)]})
        table["true"] = np.array(CLASSES)[truth]
        tables.append(table.assign(**{f"logit_{name}": logits[:, k] for k, name in enumerate(CLASSES)}))
    return pd.concat(tables, ignore_index=True)


def test_wells_of_junk_are_left_out_and_the_rest_is_renormalised():
    table = predictions()
    found = scores(table, CLASSES, n_bootstrap=50, seed=0, junk=["dead"])
    assert set(found["class"]) == {"", "a", "b"}
    assert set(found["n"]) == {24}
    assert set(found["n_junk"]) == {12}
    own = table[(table["contestant"] == "mil") & (table["true"] != "dead")]
    p = np.exp(own[[f"logit_{name}" for name in CLASSES]].to_numpy())
    p = p / p.sum(axis=1, keepdims=True)
    left = p[:, :2] / (1 - p[:, 2:])  # what is said of a and b, as if these were all
    mil = found[(found["contestant"] == "mil") & (found["class"] == "")].set_index("metric")["value"]
    assert mil["log_loss"] == pytest.approx(log_loss(own["true"], left))
    called = np.array(CLASSES)[left.argmax(axis=1)]
    assert mil["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(own["true"], called))


def test_junk_scores_as_if_it_had_never_been_there():
    table = predictions(1)
    without = table[table["true"] != "dead"].drop(columns="logit_dead")
    for function, about in ((scores, {}), (differences, {"reference": "engineered"})):
        one = function(table, CLASSES, n_bootstrap=50, seed=0, junk=["dead"], **about)
        two = function(without, CLASSES[:2], n_bootstrap=50, seed=0, **about)
        pd.testing.assert_frame_equal(
            one.drop(columns="n_junk", errors="ignore"), two.drop(columns="n_junk", errors="ignore")
        )


@pytest.fixture(scope="module")
def junk_screen(cropped_screen, tmp_path_factory):
    screen = type(cropped_screen)(tmp_path_factory.mktemp("junk") / "screen")
    shutil.copytree(cropped_screen.folder, screen.folder)
    path = screen.folder / "SIM1/platemap.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    here = table["Metadata_label"] == "control"
    table.loc[here, "Metadata_label"] = ["control", "dead"] * 2
    table.to_csv(path, index=False)
    assert screen.run(SCORED, "junk=[dead]") == 0
    return screen


def test_junk_is_predicted_and_counted_but_not_scored(junk_screen):
    folder = junk_screen.folder / "runs/small"
    kinds = pd.read_csv(folder / "classes.csv").set_index("class")["kind"].to_dict()
    assert kinds == {"control": "one a well", "dead": "junk", "nuclear": "one a well"}
    table = pd.read_parquet(folder / "predictions.parquet")
    assert (table["true"] == "dead").sum() == 2 * table["contestant"].nunique()
    np.testing.assert_allclose(table[["prob_control", "prob_dead", "prob_nuclear"]].sum(axis=1), 1)
    found = pd.read_csv(folder / "scores.csv", keep_default_na=False)
    assert "dead" not in set(found["class"])
    assert (set(found["n"]), set(found["n_junk"])) == ({6}, {2})
    page = (folder / "report.html").read_text(encoding="utf-8")
    others = table[(table["contestant"] == "engineered") & (table["true"] != "dead")]
    called = int((others["pred"] == "dead").sum())
    assert "Wells of dead are junk and stand in no score: 2." in page
    assert f"engineered calls {called} of 6 other wells junk" in page


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["junk=[daed]"], "junk 'daed' is no class; the classes are control, dead, nuclear"),
        (["junk=[dead,control]"], "leaves fewer than two of the classes"),
        (["junk=[dead]", "label_separator=|"], "a well of several classes is not junk as a whole"),
    ],
)
def test_junk_that_makes_no_sense_is_refused(junk_screen, capsys, options, found):
    assert junk_screen.run(SCORED, *options) == 2
    assert found in capsys.readouterr().err

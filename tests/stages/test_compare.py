"""The contest by the command line: grey levels of whole fields, features made elsewhere, tuning, what is refused."""

import json
import logging
import shutil

import numpy as np
import pandas as pd
import pytest

from cellpheno.batch.ledger import read_record
from cellpheno.images.grey_levels import field_statistics
from cellpheno.plates.plate import open_plate
from cellpheno.profiles.aggregate import aggregate
from cellpheno.stages.well_features import well_features
from tests.conftest import SMALL

MATCH = "match={treatment: [compound, concentration_um], compound: compound}"
SAME = [text for text in SMALL if text.startswith(("plate=", "split.", "n_bootstrap", "no_leak"))]
ELSEWHERE = "baselines.elsewhere.profiles"
RUN = [*SAME, MATCH, "output=runs/contest"]


@pytest.fixture(scope="module")
def contest(cropped_screen, tmp_path_factory):
    """A contest of grey levels, profiles that lack one well, and the place alone, on the cropped screen."""
    screen = type(cropped_screen)(tmp_path_factory.mktemp("contest") / "screen")
    shutil.copytree(cropped_screen.folder, screen.folder)
    assert screen("image_statistics", "plate=SIM1.zarr", "workers=1") == 0
    cells = pd.concat(pd.read_parquet(p) for p in sorted((screen.folder / "SIM1/cells").glob("*.parquet")))
    lost = sorted(set(cells["Metadata_Well"]))[0]
    aggregate(cells[cells["Metadata_Well"] != lost]).to_csv(screen.folder / "profiles.csv.gz", index=False)
    chosen = "baselines=[engineered,elsewhere,image_statistics,plate]"
    assert screen("compare", *RUN, chosen, "baselines.elsewhere.profiles.path=profiles.csv.gz") == 0
    return screen, lost


def test_grey_levels_are_the_mean_over_the_fields_of_a_well(contest):
    screen, _ = contest
    plate = open_plate(screen.folder / "SIM1.zarr")
    wells = pd.DataFrame({"Metadata_Plate": "SIM1", "Metadata_Well": [w.name for w in plate.wells]})
    table = well_features(wells.assign(folder=str(plate.folder)), ["mean", "mad"]).set_index("Metadata_Well")
    for well in plate.wells[:2]:
        each = [field_statistics(field.read(), plate.channels) for field in well.fields]
        assert len(each) == 2
        for name in each[0]:
            assert table.loc[well.name, name] == pytest.approx(np.mean([own[name] for own in each]))
    assert {"Cells_AreaShape_Area_mean", "Cells_AreaShape_Area_mad"} <= set(table)
    assert "Cells_AreaShape_Area" not in table


def test_features_made_elsewhere_predict_as_our_own_and_the_lost_well_is_named_and_gets_the_prior(contest):
    screen, lost = contest
    table = pd.read_parquet(screen.folder / "runs/contest/predictions.parquet").set_index("Metadata_Well")
    own, other = (table[table["contestant"] == name] for name in ("engineered", "elsewhere"))
    in_fold = own["fold"] == own.loc[lost, "fold"]  # their models never saw the lost well
    keys = ["logit_control", "logit_nuclear"]
    np.testing.assert_allclose(own.loc[in_fold, keys].drop(lost), other.loc[in_fold, keys].drop(lost), rtol=1e-6)
    np.testing.assert_allclose(other.loc[lost, "prob_control"], 0.5)
    record = read_record(screen.folder / "runs/contest", "compare")["compare"]
    assert record["status"] == "warned"
    assert record["messages"] == [f"elsewhere: profiles.csv.gz lacks 1 wells, predicted by the prior: SIM1 {lost}"]


def test_treatments_are_matched_by_every_contestant_on_features_and_the_report_shows_it(contest):
    screen, lost = contest
    folder = screen.folder / "runs/contest"
    scores = pd.read_csv(folder / "matching_scores.csv", keep_default_na=False)
    whole = scores[scores["class"] == ""].set_index(["contestant", "metric"])
    assert list(whole.loc["engineered"].index) == ["accuracy", "accuracy_of_scorable"]
    assert set(scores["contestant"]) == {"engineered", "elsewhere", "image_statistics"}
    assert (whole["n_all"] == 3).all()  # the control and two compounds, one dose
    assert whole.loc[("engineered", "accuracy"), "note"] == "cannot be scored: control (1 of 3 treatments)"
    matches = pd.read_csv(folder / "matching.csv", keep_default_na=False)
    assert matches.groupby(["contestant", "kind"]).size().tolist() == [3, 3, 3]
    assert (matches["compound"] != matches["neighbour"].str.split().str[0]).all()
    own, other = (matches[matches["contestant"] == name] for name in ("engineered", "elsewhere"))
    held = pd.read_csv(folder / "wells.csv").set_index("Metadata_Well").loc[lost, "Metadata_compound"]
    assert own["treatment"].tolist() == other["treatment"].tolist()
    assert held in set(own["compound"])  # its other well is there
    assert screen("report", "plate=SIM1.zarr", "output=runs/contest") == 0
    assert "Matching of treatments" in (folder / "report.html").read_text("utf-8")


def test_the_choice_of_each_fold_is_written_down(contest):
    screen, _ = contest
    table = pd.read_csv(screen.folder / "runs/contest/tuning.csv")
    assert table.groupby(["contestant", "split", "repeat", "fold"]).size().tolist() == [4] * 8
    assert table["chosen"].sum() == 8
    own = table[table["contestant"] == "engineered"]
    assert (own["n_inner"] == 2).all()
    assert own["inner_score"].between(0, 1).all()


def test_features_messages_and_costs_stand_in_tables_and_reach_the_report_and_the_record(contest, capsys, caplog):
    screen, lost = contest
    folder = screen.folder / "runs/contest"
    message = f"elsewhere: profiles.csv.gz lacks 1 wells, predicted by the prior: SIM1 {lost}"
    assert pd.read_csv(folder / "messages.csv")["message"].tolist() == [message]
    features = pd.read_csv(folder / "features.csv")
    assert set(features["contestant"]) == {"engineered", "elsewhere", "image_statistics"}  # a place has no features
    assert features["n_folds"].between(1, 2).all()
    costs = json.loads((folder / "timing.json").read_text())
    assert set(costs["baselines"]) == {"engineered", "elsewhere", "image_statistics", "plate"}
    assert sum(own["seconds"] for own in costs["baselines"].values()) <= costs["compare"]["compare"]["seconds"]
    ask = ["plate=SIM1.zarr", "output=runs/contest", "show_cost=true"]
    with caplog.at_level(logging.INFO, "cellpheno"):
        assert screen("report", *ask) == 0
        assert "report: done already" not in caplog.text
        assert screen("report", *ask) == 0  # its own cost does not make it another page
        assert "report: done already" in caplog.text
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert message in page
    assert 'id="cost"' in page
    capsys.readouterr()
    assert screen("record", "output=runs/contest", "results=some/RESULTS.md", "date=2026-11-26") == 0
    assert capsys.readouterr().out.splitlines() == ["some/RESULTS.md"]
    text = (screen.folder / "some/RESULTS.md").read_text(encoding="utf-8")
    assert "## contest (contest)" in text
    assert "Recorded on 2026-11-26" in text
    matched = pd.read_csv(folder / "matching_scores.csv").query("contestant == 'engineered' and metric == 'accuracy'")
    assert f"| engineered | NSC | {matched['value'].iloc[0]:.3f}" in text
    looks = pd.read_csv(folder / "contestants.csv").set_index("contestant")["kind"].to_dict()
    assert looks == dict.fromkeys(("engineered", "elsewhere", "image_statistics"), "features") | {"plate": "place"}
    apart = pd.read_csv(folder / "class_differences.csv")
    assert set(apart["class"]) == {"control", "nuclear"}
    assert "Differences of each class" in page


def test_a_second_run_does_nothing_until_the_file_changes(contest, caplog):
    screen, _ = contest
    chosen = [
        "baselines=[engineered,elsewhere,image_statistics,plate]",
        "baselines.elsewhere.profiles.path=profiles.csv.gz",
    ]
    with caplog.at_level(logging.INFO, "cellpheno"):
        assert screen("compare", *RUN, *chosen) == 0
        assert "compare: done already" in caplog.text
    pd.read_csv(screen.folder / "profiles.csv.gz").iloc[1:].to_csv(screen.folder / "profiles.csv.gz", index=False)
    assert screen("compare", *RUN, *chosen) == 0
    assert "lacks 2 wells" in read_record(screen.folder / "runs/contest", "compare")["compare"]["messages"][0]


def test_baselines_fitted_anew_predict_new_wells_as_the_run_did(cropped_screen, fresh_copy, capsys):
    """Two wells lose their labels, so the run itself predicts them as new: the fit anew must say the same."""
    screen = fresh_copy(cropped_screen)
    path = screen.folder / "SIM1/platemap.csv"
    mapped = pd.read_csv(path, dtype=str, keep_default_na=False)
    new = mapped.groupby("Metadata_label")["Metadata_Well"].first().tolist()
    mapped.loc[mapped["Metadata_Well"].isin(new), "Metadata_label"] = ""
    mapped.to_csv(path, index=False)
    chosen = ["baselines=[engineered,position]", "aggregation=[median,mad]", "engine.workers=1"]
    assert screen("compare", *RUN, *chosen) == 0
    ask = ["plates=[SIM1.zarr]", "models=runs/contest", "output=runs/later"]
    assert screen("predict_baselines", *ask) == 0
    found = pd.read_parquet(screen.folder / "runs/later/predictions-baselines.parquet")
    run = pd.read_parquet(screen.folder / "runs/contest/predictions.parquet").query("role == 'new'")
    assert sorted(found["Metadata_Well"]) == sorted(2 * new)
    pd.testing.assert_frame_equal(found, run.reset_index(drop=True))

    kept = pd.read_parquet(screen.folder / "runs/contest/contest.parquet")
    column = next(c for c in kept if c.startswith("Cells_AreaShape_Area"))
    kept.assign(**{column: kept[column].to_numpy()[::-1]}).to_parquet(screen.folder / "runs/contest/contest.parquet")
    assert screen("predict_baselines", *ask) == 2
    assert "do not give the predictions of runs/contest" in capsys.readouterr().err
    (screen.folder / "runs/contest/contest.json").unlink()
    assert screen("predict_baselines", *ask) == 2
    assert "has no contest.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["baselines=[image_statistics]", "reference=image_statistics"], "cellpheno image_statistics makes them"),
        (["baselines.engineered.grid=[{}]"], "engineered 1, cell_count 4"),
        (["aggregation=[mode]"], "wanted one or more of median"),
        (["tuning=0.9"], "wanted 0 to 0.5"),
        (["no_leak=[image,compound]"], "wells of DMSO need groups of their own there"),
        (["compound=drug"], "compound=drug: the plate map has no such column"),
        (["match={treatment: compund, compound: compound}"], "did you mean compound"),
        (["baselines=[elsewhere]", f"{ELSEWHERE}.path=no.csv", "reference=elsewhere"], "no.csv is not there"),
        (["reference=engineerd"], "reference=engineerd: wanted one of engineered, cell_count"),
        (["baselines=[week_position]", "reference=week_position"], "Metadata_week"),
        (["classes={a: control, b: control, c: nuclear}"], "label=control is given to several classes"),
        (["unit=Metadata_drug"], "unit=Metadata_drug: wanted well or a column of the wells: Metadata_Plate"),
        (["dose=potency"], "dose=potency: the wells have no column Metadata_potency"),
        (["dose=concentration_um", "dose_by=drug"], "dose_by=drug: the wells have no column Metadata_drug"),
        (["dose=compound"], "Metadata_compound 'DMSO' is no dose"),
    ],
)
def test_refusals_end_with_2_and_say_what_to_do(cropped_screen, overrides, message, capsys, tmp_path):
    assert cropped_screen("compare", *RUN[:-1], f"output={tmp_path}/out", *overrides) == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.csv"))  # of a finished run, what stands there would stay


def test_a_well_without_cells_is_counted_and_the_scores_without_it_are_given_too(cropped_screen, fresh_copy):
    """No cell is a count that speaks, and so does the well's place; of features of cells there are none."""
    screen = fresh_copy(cropped_screen)
    path = sorted((screen.folder / "SIM1/cells").glob("*.parquet"))[0]
    pd.read_parquet(path).iloc[:0].to_parquet(path)
    assert screen("compare", *RUN, "baselines=[engineered,cell_count,position]", "engine.workers=1") == 0
    predictions = pd.read_csv(screen.folder / "runs/contest/predictions.csv")
    own = predictions[predictions["Metadata_Well"] == path.stem].set_index("contestant").filter(like="logit_")
    assert own.loc["engineered"].nunique() == 1  # the prior: as many training wells of each class
    assert own.loc["cell_count"].nunique() == own.loc["position"].nunique() == own.shape[1] > 1
    n = pd.read_csv(screen.folder / "runs/contest/scores.csv")["n"].unique()
    without = pd.read_csv(screen.folder / "runs/contest/scores_with_cells.csv")
    assert without["n"].unique().tolist() == (n - 1).tolist()


def test_wells_that_were_measured_in_another_way_are_named_before_the_contest(cropped_screen, fresh_copy, capsys):
    screen = fresh_copy(cropped_screen)
    second = sorted((screen.folder / "SIM1/cells").glob("*.parquet"))[1]
    table = pd.read_parquet(second)
    feature = next(c for c in table if c.startswith("Cells_AreaShape_"))
    table.drop(columns=feature).to_parquet(second)
    assert screen("compare", *RUN) == 2
    told = capsys.readouterr().err
    assert "were measured in different ways: 1 features" in told
    assert f"SIM1 {second.stem}" in told
    assert feature in told


def test_wells_that_were_not_measured_are_named_before_the_contest(cropped_screen, fresh_copy, capsys):
    screen = fresh_copy(cropped_screen)
    first = sorted((screen.folder / "SIM1/cells").glob("*.parquet"))[0]
    first.unlink()
    assert screen("compare", *RUN) == 2
    assert f"plate SIM1: 1 wells have no cell table, such as {first.stem}" in capsys.readouterr().err

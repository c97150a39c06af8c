"""The whole job on a small simulated plate: it ends in a report, repeats to the byte, and resumes."""

import json
import shutil

import numpy as np
import pandas as pd
import zarr

from cellpheno.batch.ledger import verify
from cellpheno.names import PLATE, WELL
from cellpheno.plates.plate import open_plate
from cellpheno.stages.same_images import list_pictures, shared_images
from tests.conftest import FIRST, WHOLE, Screen

CONTESTANTS = {"mil", "engineered", "cell_count", "mean_intensity", "position"}


def test_the_last_line_is_the_report_and_a_second_run_does_nothing(finished_screen, capsys, caplog):
    before = finished_screen.hashes()
    with caplog.at_level("INFO", "cellpheno"):
        assert finished_screen.run(WHOLE) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "runs/small/report.html"
    said = [record.message for record in caplog.records]
    steps = ["simulate", "import_plate", "segment", "measure", "crop", "train", "predict", "compare", "report"]
    assert [s for s in steps if any(line.startswith(f"{s}: done already") for line in said)] == steps
    assert finished_screen.hashes() == before


def test_every_contestant_predicts_every_well_once(finished_screen):
    predictions = pd.read_parquet(finished_screen.folder / "runs/small/predictions.parquet")
    assert set(predictions["contestant"]) == CONTESTANTS
    for _, rows in predictions.groupby("contestant"):
        assert sorted(rows["Metadata_Well"]) == sorted(set(predictions["Metadata_Well"]))
        assert len(rows) == 8
        np.testing.assert_allclose(rows.filter(like="prob_").sum(axis=1), 1, atol=1e-12)
    scores = pd.read_csv(finished_screen.folder / "runs/small/scores.csv")
    assert {"balanced_accuracy", "macro_auroc", "macro_f1", "log_loss"} <= set(scores["metric"])
    differences = pd.read_csv(finished_screen.folder / "runs/small/differences.csv")
    assert set(differences["verdict"]) <= {"ahead", "behind", "no evidence of a difference"}


def test_attention_sums_to_one_in_each_well_and_names_measured_cells(finished_screen):
    instances = pd.read_parquet(finished_screen.folder / "runs/small/instances.parquet")
    keys = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_ObjectNumber"]
    np.testing.assert_allclose(instances.groupby("Metadata_Well")["weight"].sum(), 1, atol=1e-5)
    cells = pd.concat(pd.read_parquet(p) for p in (finished_screen.folder / "SIM1/cells").glob("*.parquet"))
    assert len(instances.merge(cells[keys], on=keys)) == len(instances) == len(cells)


def test_no_model_saw_the_wells_that_it_predicts(finished_screen):
    folder = finished_screen.folder / "runs/small"
    folds = pd.read_csv(folder / "folds.csv", dtype=str)
    predictions = pd.read_parquet(folder / "predictions.parquet").astype({"fold": str})
    joined = predictions.merge(folds, on="Metadata_Well", suffixes=("", "_held"))
    assert (joined["fold"] == joined["fold_held"]).all()
    record = json.loads((folder / "ledger/train-by_well-repeat0_fold0.json").read_text())["train"]
    assert record["facts"]["n_wells"] == (folds["fold"] != "0").sum()


def test_every_file_is_in_the_ledger_with_its_hash(finished_screen):
    assert verify(finished_screen.folder / "SIM1", finished_screen.folder) == []
    assert verify(finished_screen.folder / "runs/small", finished_screen.folder / "runs/small") == []


def test_two_workers_give_the_same_bytes(cropped_screen, finished_screen, tmp_path):
    screen = Screen(tmp_path)
    assert screen.run(FIRST, "workers=2") == 0
    mine, theirs = screen.hashes(), cropped_screen.hashes()
    own = {name for name in mine if name.startswith("runs/") or "ledger/simulation" in name}
    assert {n: h for n, h in mine.items() if n not in own} == {n: h for n, h in theirs.items() if n not in own}


def test_a_run_that_was_cut_between_steps_ends_in_the_same_bytes(cropped_screen, finished_screen, fresh_copy):
    screen = fresh_copy(cropped_screen)
    shutil.rmtree(screen.folder / "SIM1/crops/A01.zarr", ignore_errors=True)
    victim = next((screen.folder / "SIM1/ledger").glob("*.json"))
    record = json.loads(victim.read_text())
    del record["crop"]  # killed before the well's commit
    victim.write_text(json.dumps(record))
    assert screen.run("steps=[import_plate,segment,measure,crop,train]") == 0
    shutil.rmtree(screen.folder / "runs/small/models/by_well/repeat0_fold1")  # a fold whose files were lost
    assert screen.run(WHOLE) == 0
    mine, theirs = screen.hashes(), finished_screen.hashes()
    assert {n: h for n, h in mine.items() if "config/" not in n} == {
        n: h for n, h in theirs.items() if "config/" not in n
    }


def test_an_edited_setting_redoes_what_depends_on_it_and_no_more(finished_screen, fresh_copy, caplog):
    screen = fresh_copy(finished_screen)
    with caplog.at_level("INFO", "cellpheno"):
        assert screen.run(WHOLE, "pooling=mean") == 0
    said = [record.message for record in caplog.records]
    assert "crop: done already, all 8 keys unchanged" in said
    assert "train: 2 to do" in said
    instances = pd.read_parquet(screen.folder / "runs/small/instances.parquet")
    np.testing.assert_allclose(instances.groupby("Metadata_Well")["weight"].sum(), 1, atol=1e-5)


def test_new_plates_are_predicted_by_all_models(finished_screen, fresh_copy):
    screen = fresh_copy(finished_screen)
    places = ["plate=SIM1.zarr", "models=runs/small", "output=runs/other"]
    assert screen("predict", *places, "label=null", "threads=1", "workers=1") == 0
    held = pd.read_csv(screen.folder / "runs/small/predictions-mil.csv")
    again = pd.read_csv(screen.folder / "runs/other/predictions-mil.csv")
    pd.testing.assert_series_equal(
        held["logit_nuclear"], again["logit_nuclear"]
    )  # still by the model that never saw it


def test_a_sweep_runs_every_combination(cropped_screen, fresh_copy):
    screen = fresh_copy(cropped_screen)
    settings = [
        "plate=SIM1.zarr",
        "encoder.width=8",
        "trainer.max_epochs=1",
        "split.by_well.n_folds=2",
        "threads=1",
        "workers=1",
        "no_leak=[image]",
    ]
    several = ["pooling=mean,noisy_and", "seed=1,2", "output=runs/${pooling._target_}-${seed}"]
    assert screen("train", "-m", *settings, *several) == 0
    assert len(list((screen.folder / "runs").glob("*/models/by_well/repeat0_fold0/card.json"))) == 4


def test_the_same_picture_on_both_sides_of_a_fold_is_refused_but_an_empty_one_is_no_picture(
    cropped_screen, fresh_copy, capsys
):
    screen = fresh_copy(cropped_screen)
    folder, plate = screen.folder / "SIM1", open_plate(screen.folder / "SIM1.zarr")
    wells = pd.DataFrame({PLATE: "SIM1", WELL: [well.name for well in plate.wells], "folder": str(folder)})
    assert shared_images(list_pictures(wells)) == {}
    paths = [folder / "ledger" / f"{name}.json" for name in wells[WELL]]
    pixels = [next(n for n in json.loads(p.read_text())["import_plate"]["files"] if "/0/0/c/" in n) for p in paths]
    one = json.loads(paths[0].read_text())["import_plate"]["files"][pixels[0]]
    for path, name in zip(paths[1:], pixels[1:], strict=True):  # as if one picture had been copied to every well
        record = json.loads(path.read_text())
        record["import_plate"]["files"][name] = one
        path.write_text(json.dumps(record))
    assert shared_images(list_pictures(wells)) == {("SIM1", name): {one["sha256"]} for name in wells[WELL]}
    assert screen.run("steps=[train]") == 2
    told = capsys.readouterr().err
    assert "the same picture is on both sides of fold 0" in told
    assert "or allow it: no_leak=[]" in told
    zarr.open_array(plate.wells[0].fields[0].path / "0", mode="r+")[:] = 7
    assert shared_images(list_pictures(wells)) == {}


def test_models_are_bound_to_the_folds_they_were_trained_on(finished_screen, fresh_copy, capsys):
    screen = fresh_copy(finished_screen)
    run = screen.folder / "runs/small"
    models, before = run / "models/by_well", (run / "predictions-mil.csv").read_bytes()
    shutil.copytree(models / "repeat0_fold0", models / "repeat0_fold7")  # as of a run with more folds
    assert screen.run("steps=[predict]") == 0
    assert (run / "predictions-mil.csv").read_bytes() == before
    assert screen.run("steps=[compare]", "split.by_well.n_folds=4") == 2
    assert "contestant mil was trained on other folds" in capsys.readouterr().err
    folds = pd.read_csv(run / "folds.csv")
    folds.assign(fold=(folds["fold"] + 1) % 2).to_csv(run / "folds.csv", index=False)
    assert screen.run("steps=[predict]") == 2
    told = capsys.readouterr().err
    assert "wells that folds.csv holds out, such as SIM1" in told
    assert "train again" in told

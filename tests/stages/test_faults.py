"""Bad input: a clear message, the right exit code, nothing lost."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from cellpheno.plates.plate import open_plate
from cellpheno.stages.predict import _check_classes
from tests.conftest import SMALL, WHOLE, Screen

WITHOUT_SIMULATION = "steps=[import_plate,segment,measure,crop,train,predict,compare,report]"


@pytest.fixture
def raw_copy(cropped_screen, fresh_copy):
    """Raw images and plate map alone."""
    screen = fresh_copy(cropped_screen)
    for path in sorted(screen.folder.rglob("*"), reverse=True):
        if "raw" not in path.relative_to(screen.folder).parts:
            path.rmdir() if path.is_dir() else path.unlink()
    return screen


def relabel(screen, change):
    path = screen.folder / "raw/platemap.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(table).to_csv(path, index=False)


def first_images(screen):
    path = sorted((screen.folder / "raw").glob("*_s1_w1_DNA.tif"))[0]
    return path, path.name.split("_")[1]


def test_a_plate_that_others_made_has_no_ledger_and_is_worked_on_more_than_once(cropped_screen, tmp_path):
    shutil.copytree(cropped_screen.folder / "SIM1.zarr", tmp_path / "SIM1.zarr")
    screen = Screen(tmp_path)
    ask = ("segment", "plate=SIM1.zarr", "segmentation.cells=CellMask", "workers=1")
    first, second, *_ = [well.name for well in open_plate(tmp_path / "SIM1.zarr").wells]
    assert screen(*ask, f"wells=[{first}]") == 0
    assert screen(*ask, f"wells=[{second}]") == 0  # as after a kill


def test_a_folder_without_images_is_refused(raw_copy, capsys):
    for path in (raw_copy.folder / "raw").glob("*.tif"):
        path.unlink()
    assert raw_copy.run(WITHOUT_SIMULATION) == 2
    assert "no image" in capsys.readouterr().err
    assert not (raw_copy.folder / "SIM1.zarr").exists()


def test_an_unreadable_image_costs_its_field_alone_and_is_named(raw_copy, capsys, caplog):
    path, well = first_images(raw_copy)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert raw_copy.run(WITHOUT_SIMULATION) == 3
    status = pd.read_csv(raw_copy.folder / "SIM1/status.csv").set_index("Metadata_Well")
    assert status["status"].value_counts().to_dict() == {"done": 7, "partial": 1}
    assert path.name in status.loc[well, "messages"]
    predictions = pd.read_parquet(raw_copy.folder / "runs/small/predictions.parquet")
    assert well in set(predictions["Metadata_Well"])  # predicted from what is left
    for record in (raw_copy.folder / "runs/small/ledger").glob("train-*.json"):
        assert json.loads(record.read_text())["train"]["facts"]["n_wells"] <= 4  # and not trained on
    assert path.name in caplog.text
    assert capsys.readouterr().out.strip().endswith("report.html")


def test_a_well_that_lost_all_its_fields_is_set_aside_and_comes_back_when_repaired(raw_copy, cropped_screen):
    _, well = first_images(raw_copy)
    sound = {path: path.read_bytes() for path in (raw_copy.folder / "raw").glob(f"*_{well}_*_w2_*.tif")}
    for path in sound:
        path.write_bytes(b"<html>502 Bad Gateway</html>")
    steps = "steps=[import_plate,segment,measure,crop]"
    assert raw_copy.run(steps) == 3
    status = pd.read_csv(raw_copy.folder / "SIM1/status.csv").set_index("Metadata_Well")
    assert status.loc[well, "status"] == "quarantined"
    assert not (raw_copy.folder / f"SIM1/cells/{well}.parquet").exists()
    for path, pixels in sound.items():
        path.write_bytes(pixels)
    assert raw_copy.run(steps) == 0
    theirs = cropped_screen.hashes()
    assert all(theirs[n] == h for n, h in raw_copy.hashes().items() if n.startswith("SIM1"))


def test_a_plate_map_without_the_label_column_is_refused_and_the_columns_are_named(raw_copy, capsys):
    relabel(raw_copy, lambda table: table.rename(columns={"label": "phenotyp"}))
    assert raw_copy.run("steps=[import_plate,segment,measure,crop,train]", "label=phenotype") == 2
    assert "did you mean label=phenotyp?" in capsys.readouterr().err


def test_one_class_only_is_refused(raw_copy, capsys):
    relabel(raw_copy, lambda table: table.assign(label="control"))
    assert raw_copy.run(WITHOUT_SIMULATION) == 2
    assert "class" in capsys.readouterr().err
    assert not (raw_copy.folder / "runs/small/models").exists()


def test_a_class_with_one_well_is_refused_by_name(raw_copy, capsys):
    def change(table):
        table.loc[table.index[0], "label"] = "rare"
        return table

    relabel(raw_copy, change)
    assert raw_copy.run(WITHOUT_SIMULATION) == 2
    assert "rare" in capsys.readouterr().err


def test_a_well_without_cells_is_kept_and_gets_the_prior(raw_copy):
    _, well = first_images(raw_copy)
    for path in (raw_copy.folder / "raw").glob(f"*_{well}_*.tif"):
        image = tifffile.imread(path)
        noise = np.random.default_rng(0).poisson(120, image.shape).astype(np.uint16)
        tifffile.imwrite(path, noise)
    assert raw_copy.run(WITHOUT_SIMULATION) == 0
    predictions = pd.read_parquet(raw_copy.folder / "runs/small/predictions.parquet")
    empty = predictions[predictions["Metadata_Well"] == well].set_index("contestant")
    assert (empty["n_cells"] == 0).all()
    assert set(empty.index) == {"mil", "engineered", "cell_count", "mean_intensity", "position"}
    assert empty.loc["mil", "prob_nuclear"] == pytest.approx(empty.loc["engineered", "prob_nuclear"])
    assert 0.3 < empty.loc["mil", "prob_nuclear"] < 0.7
    status = pd.read_csv(raw_copy.folder / "SIM1/status.csv").set_index("Metadata_Well")
    assert status.loc[well, "status"] == "warned"


def test_a_well_of_the_map_without_images_is_listed_as_missing(raw_copy):
    _, well = first_images(raw_copy)
    for path in (raw_copy.folder / "raw").glob(f"*_{well}_*.tif"):
        path.unlink()
    assert raw_copy.run("steps=[import_plate]") == 3
    status = pd.read_csv(raw_copy.folder / "SIM1/status.csv").set_index("Metadata_Well")
    assert status.loc[well, "status"] == "missing"
    assert len(status) == 8


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("trainer.max_epoch=3", "trainer.max_epochs"),
        ("pooling=noisyand", "noisy_and"),
        ("segmentation.smoothing=much", "wanted float"),
        ("seed=one", "wanted int"),
        ("nonsense", "not key=value"),
        ("+segmentation.extra=1", "segmentation.extra is unknown"),
    ],
)
def test_a_typo_is_refused_before_any_work_with_the_nearest_name(raw_copy, capsys, override, hint):
    before = raw_copy.hashes()
    assert raw_copy.run(WITHOUT_SIMULATION, override) == 2
    assert hint in capsys.readouterr().err
    assert raw_copy.hashes() == before


def test_a_model_is_refused_on_a_plate_with_other_channels(finished_screen, fresh_copy, capsys):
    screen = fresh_copy(finished_screen)
    settings = [s for s in SMALL if not s.startswith(("plate=", "output=", "segmentation.cells"))]
    other = "importer.channels={DNA: DNA, CellMask: CellMask, Protein: GFP}"
    steps = "steps=[import_plate,segment,measure,crop]"
    assert screen("run", *settings, steps, "plate=OTHER.zarr", "output=runs/o", other) == 0
    assert screen("predict", "plate=OTHER.zarr", "models=runs/small", "output=runs/other") == 2
    said = capsys.readouterr().err
    assert "['DNA', 'CellMask', 'Protein']" in said
    assert "['DNA', 'CellMask', 'GFP']" in said


@pytest.mark.parametrize(
    ("settings", "other"),
    [
        (["classes={control: control, nucleus: nuclear}"], "['control', 'nucleus']"),
        (["label=position"], "['c1', 'c2']"),
    ],
)
def test_other_classes_than_the_models_are_refused_naming_both(finished_screen, fresh_copy, capsys, settings, other):
    screen = fresh_copy(finished_screen)
    path = screen.folder / "SIM1/platemap.csv"
    mapped = pd.read_csv(path, dtype=str)
    mapped.assign(Metadata_position=[f"c{1 + i % 2}" for i in range(len(mapped))]).to_csv(path, index=False)
    ask = ["plate=SIM1.zarr", "models=runs/small", "output=runs/other", "threads=1", "workers=1"]
    assert screen("predict", *ask, *settings) == 2
    told = capsys.readouterr().err
    assert f"classes: the model was trained with ['control', 'nuclear'], the data have {other}" in told
    assert "set label and classes as in its training" in told


def test_new_wells_of_other_classes_are_predicted_and_told(caplog):
    wells = pd.DataFrame({"label": ["a", "b", "", "mitotic"], "role": ["out_of_fold", "new", "new", "new"]})
    with caplog.at_level("INFO", "cellpheno"):
        _check_classes({"classes": ["a", "b"]}, wells, None, None)
    assert caplog.messages == [
        "classes: the model was trained with ['a', 'b']; new wells of ['mitotic'] get one of them"
    ]


def test_models_of_several_trainings_are_refused(finished_screen, fresh_copy, capsys):
    screen = fresh_copy(finished_screen)
    path = screen.folder / "runs/small/models/by_well/repeat0_fold1/card.json"
    card = json.loads(path.read_text())
    normalization = {"_target_": "cellpheno.models.transforms.PerCrop", "_partial_": True}
    path.write_text(json.dumps({**card, "classes": card["classes"][::-1], "normalization": normalization}))
    assert screen("predict", "plate=SIM1.zarr", "models=runs/small", "output=runs/other") == 2
    told = capsys.readouterr().err
    assert (
        "repeat0_fold1: classes: this model was trained with ['nuclear', 'control'], the one in repeat0_fold0" in told
    )
    assert "repeat0_fold1: normalization: this model was trained with {'_target_': 'cellpheno.models.transforms" in told


def test_folds_of_cells_that_were_there_before_count_no_more(finished_screen, fresh_copy, capsys):
    screen = fresh_copy(finished_screen)
    run = screen.folder / "runs/small"
    folds, before = pd.read_csv(run / "folds.csv"), (run / "predictions-mil.csv").read_bytes()
    folds[folds["fold"] == 0].to_csv(run / "folds-cells.csv", index=False)
    assert screen.run("steps=[predict]") == 0
    assert (run / "predictions-mil.csv").read_bytes() == before
    ledger = screen.folder / "runs/cells/ledger"
    ledger.mkdir(parents=True)
    (ledger / "train_cells-by_well-repeat0_fold0.json").write_text("{}")
    assert screen.run("steps=[train]", "output=runs/cells") == 2
    assert "output=runs/cells holds models of cells" in capsys.readouterr().err


def test_a_damaged_model_is_refused_by_its_file(finished_screen, fresh_copy, capsys):
    screen = fresh_copy(finished_screen)
    path = screen.folder / "runs/small/models/by_well/repeat0_fold0/model.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert screen("predict", "plate=SIM1.zarr", "models=runs/small", "output=runs/other") == 2
    assert "model.safetensors" in capsys.readouterr().err


def test_the_truth_is_not_read_by_the_pipeline(finished_screen, fresh_copy):
    screen = fresh_copy(finished_screen)
    for path in (screen.folder / "truth").rglob("*.*"):
        path.unlink()
    assert screen.run(WHOLE.replace("simulate,", "")) == 0


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("model.frozen=[encoder.layers.3]", "no layer 'encoder.layers.3'"),
        ("start=runs/nothing", "runs/nothing"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_before_any_fold(cropped_screen, fresh_copy, capsys, override, hint):
    screen = fresh_copy(cropped_screen)
    assert screen("train", "plate=SIM1.zarr", "output=runs/none", "no_leak=[image]", override) == 2
    assert hint in capsys.readouterr().err
    assert not (screen.folder / "runs/none/models").exists()


def damage_crops(screen, number):
    """Empty a file of a well's crops; returns the well."""
    crops = sorted((screen.folder / "SIM1/crops").glob("*.zarr"))[number]
    next(path for path in (crops / "pixels/c").rglob("*") if path.is_file()).write_bytes(b"")
    return crops.stem


def left_out_and_named(screen, well, told):
    status = pd.read_csv(screen.folder / "SIM1/status.csv").set_index("Metadata_Well")
    assert status["status"].value_counts().to_dict() == {"done": 7, "quarantined": 1}
    assert status.loc[well, "status"] == "quarantined"
    assert f"{well}.zarr: pixels lacks" in status.loc[well, "messages"]
    assert f"left out SIM1 {well}: " in told
    assert "crop the well again" in told
    assert "a bug" not in told


@pytest.mark.parametrize("damaged", [0, -1])
def test_a_well_with_damaged_crops_is_left_out_by_name_and_comes_back(cropped_screen, fresh_copy, caplog, damaged):
    """The first well of a plate is read before any fold, another in the folds that learn from it."""
    screen = fresh_copy(cropped_screen)
    well = damage_crops(screen, damaged)
    assert screen.run("steps=[train,predict,compare]", "normalization=per_crop") == 3
    left_out_and_named(screen, well, caplog.text)
    run = screen.folder / "runs/small"
    taught = [set(pd.read_csv(path)["Metadata_Well"]) for path in run.rglob("trained_on.csv")]
    assert len(taught) == 2
    assert not any(well in wells for wells in taught)
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert (predictions.groupby("contestant")["Metadata_Well"].nunique() == 7).all()
    assert well not in set(predictions["Metadata_Well"])
    assert screen.run("steps=[crop,train]", "normalization=per_crop") == 0
    assert any(well in set(pd.read_csv(path)["Metadata_Well"]) for path in run.rglob("trained_on.csv"))


def test_damage_that_is_met_before_the_folds_of_several_networks_is_told_at_the_end(cropped_screen, fresh_copy, caplog):
    screen = fresh_copy(cropped_screen)
    well = damage_crops(screen, 0)
    assert screen.run("steps=[train]", "contestants=[max]", "trainer.max_epochs=1") == 3
    left_out_and_named(screen, well, caplog.text)
    taught = [set(pd.read_csv(path)["Metadata_Well"]) for path in screen.folder.glob("runs/small/**/trained_on.csv")]
    assert len(taught) == 4
    assert not any(well in wells for wells in taught)


def test_a_well_whose_crops_were_damaged_after_training_is_not_predicted(finished_screen, fresh_copy, caplog):
    screen = fresh_copy(finished_screen)
    well = damage_crops(screen, -1)
    steps = ("steps=[predict]", "output=runs/other", "models=runs/small")
    assert screen.run(*steps) == 3
    left_out_and_named(screen, well, caplog.text)
    predictions = pd.read_csv(screen.folder / "runs/other/predictions-mil.csv")
    assert len(predictions) == 7
    assert well not in set(predictions["Metadata_Well"])


def test_a_field_with_pixels_that_are_no_numbers_costs_its_well(cropped_screen, fresh_copy, caplog):
    screen = fresh_copy(cropped_screen)
    field = open_plate(screen.folder / "SIM1.zarr").wells[0].fields[0]
    pixels = field.read().astype(np.float32)
    pixels[0, 5, 5] = np.nan
    shutil.rmtree(field.path / "0")
    zarr.create_array(field.path / "0", data=pixels)
    assert screen.run("steps=[train]", "instances=fields", "normalization=per_crop") == 3
    assert f"left out SIM1 {field.well.name}: plate SIM1, well {field.well.name}, site {field.site}" in caplog.text
    assert "not finite" in caplog.text
    assert len(list((screen.folder / "runs/small/models").rglob("card.json"))) == 2

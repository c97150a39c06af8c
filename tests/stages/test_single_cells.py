"""Single-cell images and their table to crops, models of cells, out-of-fold predictions and scores."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, f1_score

from cellpheno.batch.ledger import verify
from cellpheno.images.crops import read_attributes, read_crops
from cellpheno.stages.labelled_cells import labelled_cells
from tests.conftest import Screen

DATA = Path(__file__).parents[3] / "shared/data/cellcognition_mitosis"
KEYS = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_ObjectNumber"]
CELLS = [
    *("run", "steps=[import_crops,train_cells]", "folder=raw", "plate=set", "output=runs/cells"),
    *("channels={spot: 0, body: 1}", "cell_images.well_by=place", "label=kind", "unit=Metadata_track", "workers=1"),
    *("data=single_cells", "pooling=mean_logit", "encoder.width=8", "encoder.depth=1", "data.cells_per_batch=16"),
    *("split=[leave_one_group_out]", "split.leave_one_group_out.group=Metadata_place", "apart=Metadata_track"),
    *("trainer.max_epochs=6", "optimizer.lr=0.01", "validation=0", "n_bootstrap=100", "threads=1"),
]


def draw(rng, kind, size=24):
    y, x = np.mgrid[:size, :size] - size / 2 + rng.uniform(-1, 1, (2, 1, 1))
    radius = np.hypot(y, x)
    spot = radius < 4 if kind == "disc" else (radius > 6) & (radius < 9)
    image = np.stack([150 * spot, 100 * (radius < 10), 0 * radius], -1) + rng.normal(20, 4, (size, size, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """72 colour images of two kinds from three places; each track has two cells, one track spans two places."""
    folder, rng = tmp_path_factory.mktemp("cells") / "raw", np.random.default_rng(0)
    folder.mkdir()
    rows = ["file,kind,place,track"]
    for i in range(72):
        place, kind = i // 24, ("disc", "ring")[i % 2]
        Image.fromarray(draw(rng, kind)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{kind},{place},{0 if i == 24 else i // 2:03d}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def screen(raw, tmp_path):
    shutil.copytree(raw, tmp_path / "raw")
    return Screen(tmp_path)


@pytest.fixture(scope="session")
def trained(raw, tmp_path_factory):
    """The whole job on these cells; not to be changed."""
    screen = Screen(tmp_path_factory.mktemp("trained"))
    shutil.copytree(raw, screen.folder / "raw")
    assert screen(*CELLS) == 0
    return screen


def test_crops_are_the_images_and_the_table_is_kept(trained):
    for well, first in (("A01", 0), ("A02", 24), ("A03", 48)):
        crops = read_crops(trained.folder / f"set/crops/{well}.zarr")
        assert read_attributes(trained.folder / f"set/crops/{well}.zarr")["channels"] == ["spot", "body"]
        assert crops.object_number.tolist() != sorted(crops.object_number)  # stored in random order
        for pixels, number in zip(crops.pixels, crops.object_number, strict=True):
            image = np.asarray(Image.open(trained.folder / f"raw/{first + number - 1}.png"))
            np.testing.assert_array_equal(pixels, image[..., :2].transpose(2, 0, 1))
        table = pd.read_parquet(trained.folder / f"set/cells/{well}.parquet")
        assert list(table) == [*KEYS, "Metadata_file", "Metadata_kind", "Metadata_place", "Metadata_track"]
        assert table["Metadata_track"].str.len().eq(3).all()  # text as typed
    assert verify(trained.folder / "set", trained.folder) == []
    status = pd.read_csv(trained.folder / "set/status.csv")
    assert status["n_cells"].tolist() == [24, 24, 24]


def test_each_cell_is_predicted_once_by_a_model_that_saw_neither_its_place_nor_its_track(trained):
    table = pd.read_parquet(trained.folder / "runs/cells/predictions-cells.parquet")
    assert len(table) == 72
    assert not table.duplicated(KEYS).any()
    assert (table["fold"].astype(str) == table["Metadata_place"]).all()
    for fold, dropped in ((0, 1), (1, 2), (2, 0)):  # track 000 has two cells in place 0 and one in place 1
        record = json.loads(
            (trained.folder / f"runs/cells/ledger/train_cells-leave_one_group_out-repeat0_fold{fold}.json").read_text()
        )["train_cells"]
        assert record["facts"] == {"n_cells": 48 - dropped, "n_held_out": 24, "n_dropped": dropped}


def test_scores_are_those_of_scikit_learn_and_tracks_are_resampled(trained):
    table = pd.read_parquet(trained.folder / "runs/cells/predictions-cells.parquet")
    scores = pd.read_csv(trained.folder / "runs/cells/scores-cells.csv").set_index("metric")
    expected = balanced_accuracy_score(table["true"], table["pred"])
    assert expected > 0.9  # a disc is no ring
    assert scores.loc["balanced_accuracy", "value"] == pytest.approx(expected)
    assert scores.loc["macro_f1", "value"] == pytest.approx(f1_score(table["true"], table["pred"], average="macro"))
    assert (
        "cells of disc predicted as disc"
        in (trained.folder / "runs/cells/confusion-leave_one_group_out.svg").read_text()
    )
    assert scores.loc["balanced_accuracy", ["n", "n_unit", "unit"]].tolist() == [72, 36, "track"]
    assert set(scores.loc["recall", "class"]) == {"disc", "ring"}
    np.testing.assert_allclose(table.filter(like="prob_").sum(axis=1), 1)


def test_wells_that_a_later_import_set_aside_give_no_cells(trained, tmp_path):
    folder = shutil.copytree(trained.folder / "set", tmp_path / "set")
    assert set(labelled_cells([folder], None, "kind", None).cells["Metadata_Well"]) == {"A01", "A02", "A03"}
    record = json.loads((folder / "ledger/A01.json").read_text())
    record["import_crops"]["status"] = "quarantined"
    (folder / "ledger/A01.json").write_text(json.dumps(record))
    assert set(labelled_cells([folder], None, "kind", None).cells["Metadata_Well"]) == {"A02", "A03"}


def test_a_second_run_does_nothing_and_a_lost_fold_comes_back_to_the_same_bytes(trained, tmp_path, caplog):
    screen = Screen(tmp_path / "copy")
    shutil.copytree(trained.folder, screen.folder)
    with caplog.at_level("INFO", "cellpheno"):
        assert screen(*CELLS) == 0
    assert "train_cells: done already, all 3 keys unchanged" in caplog.text
    shutil.rmtree(screen.folder / "runs/cells/models/leave_one_group_out/repeat0_fold1")
    (screen.folder / "set/ledger/A02.json").unlink()
    assert screen(*CELLS) == 0
    assert screen.hashes() == trained.hashes()


@pytest.mark.parametrize("normalization", ["per_crop", "plate_percentiles"])  # met by a fold, and before any
def test_damaged_crops_cost_their_well_and_no_fold(trained, tmp_path, caplog, normalization):
    screen = Screen(tmp_path / "copy")
    shutil.copytree(trained.folder, screen.folder)
    next(p for p in (screen.folder / "set/crops/A02.zarr/pixels/c").rglob("*") if p.is_file()).write_bytes(b"")
    steps = ("steps=[train_cells]", f"normalization={normalization}", "trainer.max_epochs=1")
    assert screen(*CELLS, *steps) == 3
    assert "left out set A02: " in caplog.text
    status = pd.read_csv(screen.folder / "set/status.csv").set_index("Metadata_Well")
    assert status["status"].to_dict() == {"A01": "done", "A02": "quarantined", "A03": "done"}
    table = pd.read_parquet(screen.folder / "runs/cells/predictions-cells.parquet")
    assert table["Metadata_Well"].value_counts().to_dict() == {"A01": 24, "A03": 24}
    assert screen(*CELLS, "trainer.max_epochs=1") == 0  # imported anew
    assert len(pd.read_parquet(screen.folder / "runs/cells/predictions-cells.parquet")) == 72


def test_members_are_predicted_by_their_mean_logit(trained, tmp_path):
    screen = Screen(tmp_path / "copy")
    shutil.copytree(trained.folder, screen.folder)
    assert screen(*CELLS, "members=2", "output=runs/two", "trainer.max_epochs=1") == 0
    table = pd.read_parquet(screen.folder / "runs/two/predictions-cells.parquet")
    assert sorted(table["repeat"].unique()) == [0, 1]
    logits = table.groupby([*KEYS, "true"], as_index=False)[["logit_disc", "logit_ring"]].mean()
    pred = np.where(logits["logit_disc"] > logits["logit_ring"], "disc", "ring")
    value = (
        pd.read_csv(screen.folder / "runs/two/scores-cells.csv").set_index("metric").loc["balanced_accuracy", "value"]
    )
    assert value == pytest.approx(balanced_accuracy_score(logits["true"], pred))


def test_damaged_and_missing_images_are_left_out_by_name(screen, capsys):
    (screen.folder / "raw/3.png").write_bytes(b"\x89PNG")
    (screen.folder / "raw/30.png").unlink()
    assert screen(*CELLS, "steps=[import_crops]") == 3
    status = pd.read_csv(screen.folder / "set/status.csv").set_index("Metadata_Well")
    assert status["status"].tolist() == ["partial", "partial", "done"]
    assert "cell 4 of site 1: 3.png: no readable PNG" in status.loc["A01", "messages"]
    assert "30.png: no such file" in status.loc["A02", "messages"]
    assert status["n_cells"].tolist() == [23, 23, 24]
    assert len(pd.read_parquet(screen.folder / "set/cells/A01.parquet")) == 23


def test_odd_sizes_are_refused_all_at_once_or_fitted(screen, capsys):
    for name, shape in (("5.png", (30, 24, 3)), ("40.png", (10, 10, 3))):
        Image.fromarray(np.full(shape, 9, np.uint8)).save(screen.folder / "raw" / name)
    assert screen(*CELLS, "steps=[import_crops]") == 2
    said = capsys.readouterr().err
    assert "5.png: 30 x 24 pixels, most images have 24 x 24; or give crop_px" in said
    assert "40.png: 10 x 10 pixels" in said
    assert screen(*CELLS, "steps=[import_crops]", "crop_px=16") == 0
    crops = read_crops(screen.folder / "set/crops/A02.zarr")
    assert crops.pixels.shape == (24, 2, 16, 16)
    assert crops.at_border.sum() == 1
    small = crops.pixels[crops.at_border][0]
    assert (small[:, 3:13, 3:13] == 9).all()
    assert small.sum() == 2 * 100 * 9


@pytest.mark.parametrize(
    ("step", "settings", "hint"),
    [
        ("import_crops", ["cell_images.file='x{file}'"], "none of 72 images can be read"),
        ("import_crops", ["plate=set.zarr"], "give a folder such as set"),
        ("import_crops", ["cell_images.well_by=plac"], "did you mean 'place'"),
        ("import_crops", ["cell_images.well_by=null"], "holds wells A02, A03 of another import"),
        ("train_cells", ["plate=nowhere"], "run: cellpheno import_crops plate=nowhere"),
        ("train_cells", ["label=kin"], "its columns: file, kind, place, track"),
        ("train_cells", ["classes=[disc, square]"], "no cell has the class square"),
        ("train_cells", ["apart=Metadata_trac"], "apart=Metadata_trac: the cells have no such column"),
        ("train_cells", ["pooling=gated_attention"], "set pooling=mean_logit, mean_probability or vote"),
        ("train_cells", ["data=cell_bags"], "set data=single_cells"),
        ("train_cells", ["split.leave_one_group_out.group=Metadata_kind"], "no training well of class"),
        ("train_cells", ["split=[by_well]", "split.by_well.n_folds=9"], "3 groups in"),
        ("train_cells", ["members=0"], "members=0: wanted 1 or more"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_do(trained, step, settings, hint, capsys):
    before = trained.hashes()
    cells = [s for s in CELLS if s != "steps=[import_crops,train_cells]"]
    if any(s.startswith("data=") for s in settings):
        cells = [s for s in cells if not s.startswith("data.")]
    if any(s.startswith("split=") for s in settings):
        cells = [s for s in cells if not s.startswith("split")]
    assert trained(*cells, f"steps=[{step}]", "output=runs/refused", *settings) == 2
    assert hint in capsys.readouterr().err
    shutil.rmtree(trained.folder / "runs/refused", ignore_errors=True)
    assert trained.hashes() == before


def test_annotated_cells_of_a_plate_train_and_whole_wells_are_predicted(cropped_screen, fresh_copy):
    screen = fresh_copy(cropped_screen)
    truth = pd.read_csv(screen.folder / "raw/platemap.csv").set_index("well")["label"]
    rows = []
    for path in sorted((screen.folder / "SIM1/cells").glob("*.parquet"))[:6]:
        cells = pd.read_parquet(path, columns=KEYS).head(8)
        rows.append(cells.assign(kind=truth[path.stem], expert="ab"[len(rows) % 2]))
    table = pd.concat(rows, ignore_index=True)
    ghost = table.tail(1).assign(Metadata_ObjectNumber=9999)
    pd.concat([table, ghost]).to_csv(screen.folder / "annotated.csv", index=False)
    settings = ["plate=SIM1.zarr", "output=runs/cells", "threads=1", "encoder.width=8", "encoder.depth=2"]
    few = ["trainer.max_epochs=1", "n_bootstrap=50", "split.by_well.n_folds=2", "annotations=annotated.csv"]
    assert screen("train_cells", *settings, *few, "label=kind", "pooling=mean_probability") == 3  # the ghost
    found = pd.read_parquet(screen.folder / "runs/cells/predictions-cells.parquet")
    assert len(found) == len(table) > 40
    assert set(found["Metadata_expert"]) == {"a", "b"}
    assert (found.groupby("Metadata_Well")["fold"].nunique() == 1).all()  # whole wells are held out
    assert screen("predict", *settings[:3], "models=runs/cells", "label=null") == 0
    wells = pd.read_csv(screen.folder / "runs/cells/predictions-mil.csv")
    assert len(wells) == 8
    assert set(wells.loc[wells["role"] == "out_of_fold", "Metadata_Well"]) == set(found["Metadata_Well"])
    instances = pd.read_parquet(screen.folder / "runs/cells/instances.parquet")
    own = instances[instances["Metadata_Well"] == wells["Metadata_Well"].iloc[0]]
    logits = own[["logit_control", "logit_nuclear"]].to_numpy()
    mean = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).mean(0)
    np.testing.assert_allclose(wells.iloc[0][["prob_control", "prob_nuclear"]].astype(float), mean, atol=1e-5)
    joined = found.merge(instances, on=KEYS, suffixes=("", "_well"))
    assert len(joined) == len(table)
    np.testing.assert_allclose(joined["logit_control"], joined["logit_control_well"], atol=1e-4)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the mitotic cells are not there (wanted in {DATA})")
def test_mitotic_phases_are_learned_in_a_minute(tmp_path):
    screen = Screen(tmp_path)
    quick = ["encoder=small_resnet", "encoder.width=8", "trainer.max_epochs=12", "optimizer.lr=0.004", "members=1"]
    rest = ["threads=1", "workers=1", "n_bootstrap=100", "model.orientations=false"]
    assert screen("run", "experiment=cellcognition", f"folder={DATA}", *quick, *rest) == 0
    scores = pd.read_csv(tmp_path / "cellcognition/runs/both/scores-cells.csv").set_index("metric")
    assert scores.loc["balanced_accuracy", "n"] == 649  # without apoptosis
    assert scores.loc["balanced_accuracy", "value"] > 0.6  # 1/7 by chance; the README has the full figures

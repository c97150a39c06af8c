"""From raw plate to verdict without segmentation: whole fields, their class maps, and tiles whose features are kept."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cellpheno.batch.ledger import verify
from tests.conftest import Screen

FIELDS = [
    *("preset=fields", "plate=SIM1.zarr", "folder=raw", "pixel_size_um=0.6", "output=runs/fields"),
    *("encoder.shrink=1", "data.patch_px=128", "trainer.max_epochs=1", "split.by_well.n_folds=2", "n_bootstrap=100"),
    *("no_leak=[image]", "threads=1", "workers=1"),
]


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    screen = Screen(tmp_path_factory.mktemp("fields"))
    assert screen.run("steps=[simulate]") == 0
    assert screen("run", *FIELDS) == 0
    return screen


def test_nothing_was_segmented_and_the_report_shows_where_classes_are_seen(fields):
    folder = fields.folder / "runs/fields"
    assert not (fields.folder / "SIM1/cells").exists()
    scores = pd.read_csv(folder / "scores.csv")
    assert set(scores["contestant"]) == {"mil", "image_statistics", "position"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Where each class is seen" in page
    assert "Cells of highest and lowest attention" not in page
    assert "cells a well" not in page  # none were counted
    pictures = sorted((folder / "class_maps/by_well").glob("*.png"))
    assert 2 <= len(pictures) <= 6
    assert np.asarray(Image.open(pictures[0])).shape == (200, 400, 3)  # a field of 200 pixels and its map
    assert verify(folder, folder) == []


def test_positions_are_rows_of_the_instances(fields):
    positions = pd.read_parquet(fields.folder / "runs/fields/instances.parquet")
    one = positions[(positions["Metadata_Well"] == positions["Metadata_Well"][0]) & (positions["Metadata_Site"] == 1)]
    assert len(one) == 13 * 13  # 200 pixels, a position every 16
    assert one["Location_Center_Y"].min() == 0  # every layer is padded alike on both sides
    assert one["Metadata_ObjectNumber"].tolist() == list(range(1, 170))


def test_a_second_run_does_nothing(fields, caplog):
    before = fields.hashes()
    with caplog.at_level("INFO", "cellpheno"):
        assert fields("run", *FIELDS) == 0
    assert "train: done already, all 2 keys unchanged" in [record.message for record in caplog.records]
    assert fields.hashes() == before


def test_a_field_of_another_pixel_size_is_refused(fields, capsys):
    again = ["plate=SIM1.zarr", "models=runs/fields", "output=runs/other", "label=null", "threads=1", "workers=1"]
    card = fields.folder / "runs/fields/models/by_well/repeat0_fold0/card.json"
    text = card.read_text()
    card.write_text(text.replace('"pixel_size_um": 0.6', '"pixel_size_um": 1.2'))
    try:
        assert fields("predict", *again) == 2
        assert "pixel_size_um: the model was trained with 1.2, the data have 0.6" in capsys.readouterr().err
    finally:
        card.write_text(text)

"""Values that no step can use: refused with exit code 2, the key and the value, before anything is done."""

import copy
import sqlite3

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from cellpheno.cli import main
from cellpheno.config import check, load_config
from cellpheno.errors import InputError
from cellpheno.profiles.elsewhere import check_profiles, read_profiles
from cellpheno.steps import bind

PROFILES = "baselines.elsewhere.profiles"


@pytest.fixture(scope="module")
def whole():
    """The configuration of a run with all its steps; composing takes a second, so it is done once."""
    return load_config("run", "plate=P1.zarr", "folder=raw", "contestants=[max]", "baselines=[engineered,position]")


@pytest.fixture
def refused(whole, tmp_path, monkeypatch):
    """Run with other values, in an empty folder: what the refusal says, nothing having been written."""

    def run(steps, **changes):
        monkeypatch.chdir(tmp_path)
        config = copy.deepcopy(whole)
        for key, value in {"steps": steps, **changes}.items():
            OmegaConf.update(config, key, value, merge=False, force_add=True)
        if faults := check("run", config):
            return "\n".join(faults)
        begin = bind("run", config)
        with pytest.raises(InputError) as caught:
            begin()
        assert not list(tmp_path.iterdir())
        return str(caught.value)

    return run


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("validation", 0.9, "validation=0.9: wanted 0 to 0.5"),
        ("threads", 0, "threads=0: wanted 1 or more"),
        ("seed", -1, "seed=-1: wanted 0 or more"),
        ("patience", 0, "patience=0: wanted 1 or more"),
        ("tuning", 0.7, "tuning=0.7: wanted 0 to 0.5"),
        ("wells_per_class", 0, "wells_per_class=0: wanted 1 or more"),
        ("plates", "P1.zarr", "plates='P1.zarr' is str: wanted a list of Path; write plates=[P1.zarr]"),
        ("plates", [], "plates=[]: wanted one or more"),
        ("split", {}, "split=[]: wanted one or more"),
        ("classes", ["a", "b", "a"], "classes=[a, b, a]: wanted each once, 'a' stands there 2 times"),
        ("engine.workers", -1, "engine.workers=-1: wanted 0 or more"),
        ("optimizer", None, "optimizer=null: wanted an option of its group"),
        ("data.bags_per_batch", 0, "data.bags_per_batch=0: wanted 1 or more"),
        ("data.cells_per_bag", 0, "data.cells_per_bag=0: wanted 1 or more"),
        ("model.label_smoothing", 2, "model.label_smoothing=2: wanted 0 to 1"),
        ("model.dropout", 1.5, "model.dropout=1.5: wanted 0 or more, below 1"),
        ("model.dropout", float("nan"), "model.dropout=nan: wanted 0 or more, below 1"),
        ("model.piece", 0, "model.piece=0: wanted 1 or more"),
        ("model.rates", {"encoder": -1}, "model.rates={'encoder': -1}: learning rates encoder: -1: wanted numbers"),
        ("model.frozen", ["middle"], "model.frozen=['middle']: no layer 'middle' in MILClassifier"),
        ("augmentation.shift_px", -1, "augmentation.shift_px=-1: wanted 0 or more"),
        ("augmentation.jitter", -0.1, "augmentation.jitter=-0.1: wanted 0 or more"),
        ("normalization.low", 100, "normalization.low=100: percentiles 100 and 99.9"),
        ("encoder.width", 12, "encoder.width=12: width 12: wanted a multiple of 8"),
        ("pooling.hidden", 0, "pooling.hidden=0: wanted 1 or more"),
        ("scheduler.warmup", 5, "scheduler.warmup=5: wanted 0 to 1"),
        ("optimizer.lr", -1, "optimizer.lr=-1: Invalid learning rate: -1"),
        ("trainer.max_epochs", 0, "trainer.max_epochs=0: wanted 1 or more"),
        ("trainer.max_epochs", -1, "trainer.max_epochs=-1: wanted 1 or more"),
        ("trainer.max_epochs", -5, "trainer.max_epochs=-5: `max_epochs` must be"),
        ("trainer.precision", "half", "trainer.precision='half': wanted 64 or 32 or 16"),
        ("configurations", [{}, {"optimizer.lr": -1}], "configurations: optimizer.lr=-1: Invalid learning rate"),
        ("configurations", [{}, {"model.dropout": 7}], "configurations: model.dropout=7: wanted 0 or more, below 1"),
        ("configurations", [{}, {"optimizer.rate": 1}], "optimizer.rate: optimizer takes"),
        ("configurations", [3], "configurations=[3] is list: wanted a list of a mapping"),
        ("start", "runs/no", "runs/no/card.json: no such file"),
    ],
)
def test_what_no_training_can_use_is_refused_at_the_start_of_a_run(refused, key, value, told):
    assert told in refused(["train"], **{key: value})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"n_bootstrap": 1}, "n_bootstrap=1: wanted 40 or more"),
        ({"n_bootstrap": -5}, "n_bootstrap=-5: wanted 40 or more"),
        ({"baselines.engineered.classifier.C": -1}, "classifier.C=-1: The 'C' parameter of LogisticRegression must"),
        ({"baselines.engineered.clip": 0}, "baselines.engineered.clip=0: wanted above 0"),
        (
            {f"baselines.{name}.grid": [{}, {"C": -1}] for name in ("engineered", "position")},
            "grid of engineered: {'C': -1}: classifier.C=-1",
        ),
        ({"baselines": {}}, "reference=engineered: wanted one of mil, max"),
        ({"reference": "typo"}, "reference=typo: wanted one of mil, max, engineered"),
        ({"contestant": "max"}, "contestant=max: a contestant of contestants has that name too"),
        ({"aggregation": []}, "aggregation=[]: wanted one or more"),
        ({"contestants.max.validation": 0.9}, "contestants.max.validation=0.9: wanted 0 to 0.5"),
        (
            {"contestants.max.configurations": [{}, {"optimizer.lr": -1}]},
            "contestants.max: configurations: optimizer.lr=-1",
        ),
        (
            {"contestants.max.configurations": [{}, {"model.dropout": 2}]},
            "contestants.max.configurations: model.dropout=2",
        ),
        ({"steps": ["learning_curve"], "curve": [4, 2]}, "curve=[4, 2]: wanted rising numbers"),
        ({"steps": ["learning_curve"], "curve": [0, 2]}, "curve=[0, 2]: wanted 1 or more"),
        ({"steps": ["crop"], "crop_um": -4}, "crop_um=-4: wanted above 0"),
        ({"steps": ["crop"], "cells_per_well": 0}, "cells_per_well=0: wanted 1 or more"),
        ({"steps": ["crop"], "wells": "B03"}, "wells='B03' is str: wanted a list of str"),
        ({"steps": ["measure"], "measurements": {}}, "measurements=[]: wanted one or more"),
        ({"steps": ["segment"], "segmentation.threshold": "otsa"}, "'otsa': wanted otsu or li or triangle"),
        ({"steps": ["segment"], "segmentation.drop_border": "all"}, "'all': wanted nuclei or cells or nothing (null)"),
        ({"steps": ["segment"], "segmentation.smoothing": -1}, "segmentation.smoothing=-1: wanted 0 or more"),
        ({"steps": ["segment"], "segmentation.max_diameter": 0}, "segmentation.max_diameter=0: wanted above 0"),
        ({"steps": ["measure"], "measurements.channel.texture.levels": 1}, "texture.levels=1: wanted 2 to 256"),
        ({"steps": ["measure"], "measurements.channel.texture.scales": [0]}, "texture.scales=[0]: wanted 1 or more"),
        ({"steps": ["measure"], "measurements.shape.zernike.degree": 21}, "zernike.degree=21: wanted 0 to 20"),
        (
            {"steps": ["measure"], "measurements.shape.neighbors.distance": "far"},
            "'far': wanted adjacent or expanded",
        ),
        ({"steps": ["measure"], "measurements.shape.neighbors.distance": 0}, "neighbors.distance=0: wanted 1 or more"),
        ({"steps": ["measure"], "measurements.channel.radial.bins": 0}, "radial.bins=0: wanted 1 to"),
        (
            {"steps": ["measure"], "measurements.pair.correlation.threshold": 100},
            "=100: wanted 0 or more, below",
        ),
        ({"steps": ["measure"], "measurements.channel.granularity.spectrum": 0}, "spectrum=0: wanted 1 to 255"),
        ({"steps": ["train_cells"], "members": 0}, "members=0: wanted 1 or more"),
        ({"steps": ["report"], "cells_per_class": -1}, "cells_per_class=-1: wanted 0 or more"),
    ],
)
def test_what_no_contest_can_use_is_refused_before_the_first_network_is_trained(refused, changes, told):
    assert told in refused(**{"steps": ["train", "predict", "compare"], **changes})


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["run", "steps=train"], "steps='train' is str: wanted a list of str; write steps=[train]"),
        (["run", "steps=[trian]"], "steps: no step 'trian' (nearest: train"),
        (["run", "steps=[train]", "data=single_cells"], "data=single_cells is of cells with labels of their own"),
        pytest.param(
            ["run", "steps=[train]", "trainer=gpu"],
            "trainer.accelerator=gpu: No supported gpu backend found!; give trainer=default",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (
            ["run", "steps=[compare]", "baselines=[engineered,elsewhere]", f"{PROFILES}.path=no.parquet"],
            "no.parquet is not there",
        ),
        (["train_cells", "data=single_cells", "pooling=vote", "optimizer.lr=-1"], "optimizer.lr=-1: Invalid"),
    ],
)
def test_the_command_line_refuses_with_2(tmp_path, monkeypatch, capsys, overrides, told):
    monkeypatch.chdir(tmp_path)
    assert main([*overrides, "plate=P1.zarr"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["parquet", "sqlite", "csv.gz"])
def test_a_file_that_lost_its_end_is_named(tmp_path, kind):
    table = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["A01", "A02"] * 500, "Cells_A": range(1000)})
    file = tmp_path / f"profiles.{kind}"
    if kind == "parquet":
        table.to_parquet(file)
    elif kind == "sqlite":
        with sqlite3.connect(file) as connection:
            table.assign(ImageNumber=range(1000)).to_sql("Image", connection)
            table.assign(ImageNumber=range(1000)).to_sql("Cells", connection)
        connection.close()
    else:
        table.to_csv(file, index=False)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"profiles.{kind}: no table that can be read .*whole"):
        read_profiles(str(file))
    if kind == "parquet":
        with pytest.raises(InputError, match="no table that can be read"):
            check_profiles(str(file))


def test_a_column_that_is_not_there_is_refused_by_report_and_before_training(finished_screen, fresh_copy, capsys):
    screen = fresh_copy(finished_screen)
    before = screen.hashes()
    ask = ["plate=SIM1.zarr", "output=runs/small"]
    assert screen("report", *ask, "dose=typo") == 2
    assert "dose=typo: the wells have no column Metadata_typo" in capsys.readouterr().err
    assert screen.run("steps=[train,predict,compare]", "output=runs/other", "dose_by=typo") == 2
    assert "dose_by=typo: the wells have no column Metadata_typo" in capsys.readouterr().err
    assert screen.hashes() == before  # nor does a refused command leave its configuration beside earlier results

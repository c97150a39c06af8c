"""`predict` and `embed` on another device than the CPU, by the command line; `tests.mirror_device` needs no GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from cellpheno.batch.ledger import read_record
from cellpheno.config import load_config
from cellpheno.stages.run_folder import PREDICTIONS

ROOT = Path(__file__).parents[2]
MODEL = "runs/small/models/by_well/repeat0_fold0"
PREDICT = ("plate=SIM1.zarr", "models=runs/small", "threads=1")
EMBED = ("plate=SIM1.zarr", f"start={MODEL}", "threads=1")


def on_mirror(screen, *arguments):
    call = [sys.executable, str(ROOT / "tests/mirror_device.py"), *arguments, "engine.workers=1"]
    done = subprocess.run(call, cwd=screen.folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_predictions_of_another_device_come_back_and_are_not_those_of_a_cpu(finished_screen, fresh_copy, caplog):
    screen = fresh_copy(finished_screen)
    assert screen("predict", *PREDICT, "output=runs/cpu") == 0
    on_mirror(screen, "predict", *PREDICT, "output=runs/mirror", "device=mirror")
    for name in ("predictions-mil.csv", "instances.parquet"):
        own, other = ((screen.folder / run / name).read_bytes() for run in ("runs/cpu", "runs/mirror"))
        assert own == other  # the CPU computed both
    with caplog.at_level("INFO", "cellpheno"):
        assert screen("predict", *PREDICT, "output=runs/mirror", "device=cpu") == 0
    assert "predict: 2 to do" in caplog.text
    assert OmegaConf.load(screen.folder / "runs/mirror/config/predict.yaml").device == "cpu"


def test_features_of_another_device_come_back(finished_screen, fresh_copy):
    screen = fresh_copy(finished_screen)
    assert screen("embed", *EMBED, "embedding=one") == 0
    on_mirror(screen, "embed", *EMBED, "embedding=two", "device=mirror")
    folder = screen.folder / "SIM1/features"
    chunks = [path for path in folder.glob("one/*.zarr/pixels/c/**/*") if path.is_file()]
    assert len(chunks) >= 8
    for path in chunks:
        assert path.read_bytes() == (folder / "two" / path.relative_to(folder / "one")).read_bytes()
    record = read_record(screen.folder / "SIM1", next(p.stem for p in (screen.folder / "SIM1/crops").glob("*.zarr")))
    assert record["embed_one"]["key"] != record["embed_two"]["key"]


def test_a_device_that_fails_is_told_once_and_leaves_no_prediction(finished_screen, fresh_copy, capsys, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("cellpheno.stages.predict.predict_wells", fail)
    screen = fresh_copy(finished_screen)
    assert screen("predict", *PREDICT, "output=runs/small", "device=cpu", "engine.workers=1", "contestant=x") == 1
    assert "Traceback" not in capsys.readouterr().err
    assert not (screen.folder / "runs/small" / PREDICTIONS).exists()


@pytest.mark.parametrize(
    ("overrides", "device"),
    [([], "cpu"), (["trainer=bf16"], "cpu"), (["trainer=gpu"], "gpu"), (["trainer.accelerator=mps"], "mps")],
)
def test_in_a_run_networks_predict_where_they_are_trained_unless_asked(overrides, device):
    config = load_config("run", "plate=P1.zarr", "folder=raw", *overrides)
    assert config.device == config.trainer.accelerator == device
    assert load_config("run", "plate=P1.zarr", "folder=raw", *overrides, "device=cuda:1").device == "cuda:1"


@pytest.mark.parametrize(
    ("step", "asked"),
    [
        ("predict", PREDICT),
        ("embed", EMBED),
        ("run", ("steps=[import_plate,predict]", "plate=SIM1.zarr", "folder=raw")),
        ("run", ("steps=[embed]", "plate=SIM1.zarr")),
    ],
)
def test_a_device_that_is_not_here_is_refused_before_work(finished_screen, capsys, step, asked):
    before = finished_screen.hashes()
    assert finished_screen(step, *asked, "device=gpux") == 2
    told = capsys.readouterr().err
    assert "device=gpux: torch" in told
    assert "but cpu" in told
    assert finished_screen.hashes() == before

import shutil
import signal
import subprocess
import sys
import time

import pytest

from cellpheno.cli import STEPS, main
from cellpheno.config import compose_step, load_config, sweep
from cellpheno.errors import ConfigError
from tests.conftest import Screen


def test_help_lists_every_step_with_a_line(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for step in (*STEPS, "init"):
        assert f"\n  {step}" in said


@pytest.mark.parametrize("step", STEPS)
def test_each_step_tells_its_keys_with_a_meaning(step, capsys):
    assert main([step, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    keys = [i for i, line in enumerate(lines) if line.startswith("  ") and "=" in line and not line.startswith("   ")]
    assert keys
    for i in keys:
        assert lines[i + 1].strip(), f"{step}: {lines[i].strip()} has no meaning"


def test_the_composed_configuration_is_printed(capsys):
    assert main(["segment", "plate=007", "--cfg", "job"]) == 0
    said = capsys.readouterr().out
    assert "plate: '007'" in said
    assert "threshold_propagation" in said


@pytest.mark.parametrize(
    "text", ["12E4", "007", "NO", "NA", "1e5", "my plate (1)", "a=b", "ü/é", "it's", "C:\\data\\P1"]
)
def test_text_stays_as_typed(text):
    assert load_config("segment", f"plate={text}").plate == text


def test_text_in_lists_stays_as_typed():
    assert list(load_config("segment", "plate=P1.zarr", "wells=[B03-D06, 007]").wells) == ["B03-D06", "007"]


def test_a_number_where_yaml_should_have_had_text_is_refused(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nplate: 12E4\n")
    with pytest.raises(ConfigError, match="put it in quotes"):
        load_config("segment", "experiment=mine", config_dir=tmp_path)


def test_a_foreign_target_is_refused_and_not_called(tmp_path):
    (tmp_path / "segmentation").mkdir()
    option = f"_target_: pathlib.Path.write_text\n_partial_: false\nself: {tmp_path}/made\ndata: x\n"
    (tmp_path / "segmentation" / "mine.yaml").write_text(option)
    with pytest.raises(ConfigError, match=r"pathlib\.Path\.write_text"):
        load_config("segment", "plate=P1.zarr", "segmentation=mine", config_dir=tmp_path)
    assert not (tmp_path / "made").exists()


def test_all_faults_are_told_at_once(capsys):
    assert main(["segment", "pooling=mean", "segmentation.smoothin=3", "plat=x", "segmentation=best"]) == 2
    said = capsys.readouterr().err
    for hint in ("pooling is no key of segment", "segmentation.smoothing", "nearest: plate", "no option best"):
        assert hint in said


def test_missing_values_are_named_by_the_key_to_set():
    with pytest.raises(ConfigError) as caught:
        load_config("train")
    assert caught.value.faults == ("plate is missing: set plate=VALUE (see cellpheno train --help)",)


def test_a_key_that_others_refer_to_may_be_set():
    assert list(compose_step("train", "plate=P1.zarr").plates) == ["P1.zarr"]


def test_sweeps_keep_text_and_quoted_commas():
    assert sweep(["plate=007,1e5", "title='a,b'"]) == [("plate=007", "title='a,b'"), ("plate=1e5", "title='a,b'")]


def test_init_writes_a_starter_that_composes(tmp_path, monkeypatch, capsys):
    (tmp_path / "My plate").mkdir()
    (tmp_path / "My plate" / "P1_B03_s1_w1_DNA.tif").write_bytes(b"II")
    monkeypatch.chdir(tmp_path)
    assert main(["init", "My plate"]) == 0
    assert "cellpheno run --config-dir conf experiment=my_plate" in capsys.readouterr().out
    config = load_config("run", "experiment=my_plate", config_dir=tmp_path / "conf")
    assert config.folder == "My plate"
    assert main(["init", "My plate"]) == 2  # nothing is overwritten


def test_init_of_a_folder_that_is_called_like_a_shipped_experiment_does_not_hide_behind_it(tmp_path, monkeypatch):
    (tmp_path / "BBBC021").mkdir()
    (tmp_path / "BBBC021" / "P1_B03_s1_w1_DNA.tif").write_bytes(b"II")
    monkeypatch.chdir(tmp_path)
    assert main(["init", "BBBC021"]) == 0
    assert load_config("run", "experiment=my_bbbc021", config_dir=tmp_path / "conf").plate == "my_bbbc021.zarr"


def test_init_of_an_empty_folder_is_refused(tmp_path, capsys):
    assert main(["init", str(tmp_path)]) == 2
    assert "no image" in capsys.readouterr().err


TRAINED = [
    *("steps=[train,predict]", "plate=SIM1.zarr", "output=runs/small", "split.by_well.n_folds=2", "no_leak=[image]"),
    *("trainer.max_epochs=6", "model.dropout=0.2", "encoder.width=8", "encoder.depth=2", "threads=1", "workers=1"),
]


@pytest.fixture(scope="module")
def uninterrupted(cropped_screen, tmp_path_factory):
    screen = Screen(tmp_path_factory.mktemp("whole") / "screen")
    shutil.copytree(cropped_screen.folder, screen.folder)
    assert screen("run", *TRAINED) == 0
    return screen


def of_the_run(screen):
    return {name: value for name, value in screen.hashes().items() if name.startswith("runs/small/")}


def next_state(run, process, seen=None):
    """Wait for the state after an epoch, another than the one seen, and say when it was there."""
    end = time.monotonic() + 120
    while not (found := {path.stat().st_mtime_ns for path in run.glob("resume/train-*.ckpt")} - {seen}):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)
    return found.pop(), time.monotonic()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 4), (signal.SIGKILL, -9)])
def test_a_training_stopped_amid_an_epoch_ends_in_the_same_bytes(
    cropped_screen, uninterrupted, fresh_copy, caplog, sent, code
):
    screen = fresh_copy(cropped_screen)
    run = screen.folder / "runs/small"
    process = subprocess.Popen(
        [sys.executable, "-m", "cellpheno.cli", "run", *TRAINED], cwd=screen.folder, stderr=subprocess.PIPE, text=True
    )
    first, then = next_state(run, process)
    _, now = next_state(run, process, first)
    time.sleep((now - then) / 2)  # half an epoch
    process.send_signal(sent)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code
    assert ("run the same command again to resume" in said) == (sent == signal.SIGTERM)
    assert not list(run.rglob("card.json"))
    with caplog.at_level("INFO", "cellpheno"):
        assert screen("run", *TRAINED) == 0
    assert "training goes on after epoch" in caplog.text
    assert not list(run.rglob("*.lock"))
    found, whole = of_the_run(screen), of_the_run(uninterrupted)
    assert found == whole
    assert any(name.endswith("fold1/model.safetensors") for name in whole)
    assert "runs/small/instances.parquet" in whole


def test_keys_of_other_steps_are_one_fault(capsys):
    assert main(["segment", "pooling=mean", "folder=RAW", "seed=3"]) == 2
    assert capsys.readouterr().err.count("which takes") == 1

import importlib.util
import sqlite3
import sys

import pytest
from omegaconf import OmegaConf

from cellpheno.cli import main
from cellpheno.components import build
from cellpheno.config import config_groups, load_config
from cellpheno.errors import ConfigError, InputError
from cellpheno.training.resume import ResumePoint

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
FILES = {"csv": "metrics.csv", "tensorboard": "events.*", "mlflow": "mlflow.db", "wandb": "wandb/offline-run-*"}


def test_every_logger_is_here():
    assert set(FILES) == set(config_groups()["logger"])


@pytest.mark.parametrize("option", FILES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within the packages
def test_a_logger_writes_into_the_folds_log_without_a_network(option, recipe, few, trainer_of, tmp_path, monkeypatch):
    package = PACKAGES.get(option)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; that it is refused is tested below")
    monkeypatch.chdir(tmp_path)  # what is written elsewhere is found here
    logger = build(OmegaConf.to_container(load_config("train", f"logger={option}", "plate=P1.zarr").logger))
    for fold in ("first", "second"):  # the second is not a part of the first
        recipe.fit(*few, tmp_path / fold, trainer=trainer_of(1), logger=logger)
        assert len(list((tmp_path / fold / "log").glob(FILES[option]))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    if option == "mlflow":
        with sqlite3.connect(tmp_path / "second/log/mlflow.db") as database:
            keys = {key for (key,) in database.execute("select key from metrics")}
        database.close()
        assert {"train_loss", "val_loss", "val_balanced_accuracy"} <= keys


@pytest.mark.parametrize("option", PACKAGES)
def test_an_absent_package_is_refused_before_any_work(option, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, PACKAGES[option], None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, f"cellpheno.training.{option}_logger", raising=False)
    hint = rf'pip install "cellpheno\[{option}\]"'
    with pytest.raises(ConfigError, match=rf"logger: logger={option} needs {option}.*{hint}"):
        load_config("train", f"logger={option}", "plate=P1.zarr")
    monkeypatch.chdir(tmp_path)
    assert main(["run", f"logger={option}", "plate=P1.zarr", "folder=raw"]) == 2
    assert f"needs {option}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("group", ["logger", "scheduler", "augmentation"])
def test_a_group_may_be_left_out(group, recipe, few, trainer_of, tmp_path):
    assert load_config("train", f"{group}=null", "plate=P1.zarr")[group] is None
    folder = recipe.fit(*few, tmp_path, trainer=trainer_of(1), **{group: None})
    assert not (folder / "log").exists()


def callbacks(*overrides):
    return build(OmegaConf.to_container(load_config("train", *overrides, "plate=P1.zarr").callbacks))


def test_callbacks_of_lightning_are_chosen_or_written_down(recipe, few, trainer_of, tmp_path):
    own = tmp_path / "own/callbacks"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(
        "mine: {_target_: pytorch_lightning.callbacks.Timer, _partial_: true, duration: '00:01:00:00'}\n"
    )
    config = load_config(
        "train", "callbacks=[learning_rate_monitor,mine]", "plate=P1.zarr", config_dir=tmp_path / "own"
    )
    chosen = build(OmegaConf.to_container(config.callbacks))
    assert list(chosen) == ["learning_rate_monitor", "mine"]
    logger = build(OmegaConf.to_container(config.logger))
    folder = recipe.fit(*few, tmp_path / "fold", trainer=trainer_of(1), callbacks=chosen, logger=logger)
    assert "lr-AdamW" in (folder / "log/metrics.csv").read_text().splitlines()[0]
    with pytest.raises(InputError, match=r"trainer refuses its settings: .*no logger"):
        recipe.fit(*few, tmp_path / "other", trainer=trainer_of(1), callbacks=chosen)


def test_a_training_that_a_callback_ended_is_not_taken_up_again(recipe, few, trainer_of, tmp_path):
    ends = callbacks(
        "callbacks=[early_stopping]", "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=9"
    )
    settings = {"trainer": trainer_of(9), "callbacks": ends, "resume": tmp_path / "point"}
    done = recipe.fit(*few, tmp_path / "done", **settings)
    assert len((done / "history.csv").read_text().splitlines()) == 3  # a head and two epochs of nine
    again = recipe.fit(*few, tmp_path / "again", **settings)
    for name in ("history.csv", "model.safetensors", "card.json"):
        assert (again / name).read_bytes() == (done / name).read_bytes()


def test_a_stopped_training_with_callbacks_ends_with_the_same_bytes(recipe, few, trainer_of, tmp_path, monkeypatch):
    monitor = callbacks("callbacks=[early_stopping]", "callbacks.early_stopping.patience=2")
    settings = {"callbacks": monitor, "resume": tmp_path / "point", "patience": None}
    whole = recipe.fit(*few, tmp_path / "whole", **settings | {"resume": None}, trainer=trainer_of(4))
    saved = ResumePoint.on_train_epoch_end

    def killed_after_the_second(self, trainer, module):
        saved(self, trainer, module)
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(ResumePoint, "on_train_epoch_end", killed_after_the_second)
    with pytest.raises(BaseException):  # noqa: B017, PT011 - the trainer's way to end is its own
        recipe.fit(*few, tmp_path / "killed", **settings, trainer=trainer_of(4))
    monkeypatch.setattr(ResumePoint, "on_train_epoch_end", saved)
    resumed = recipe.fit(*few, tmp_path / "resumed", **settings, trainer=trainer_of(4))
    for name in ("history.csv", "model.safetensors", "card.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()

from functools import partial

import pytest
import torch

from cellpheno.errors import Stopped
from cellpheno.models.mil import MILClassifier
from cellpheno.training.resume import resume_point

FILES = ("history.csv", "model.safetensors", "card.json")


left = [0]  # steps until a signal comes; 0: none comes


def flip_or_stop(crops, generator):
    left[0] -= 1
    if left[0] == 0:
        raise Stopped("signal SIGTERM")
    return torch.flip(crops, dims=[-1]) if torch.rand(1, generator=generator) < 0.5 else crops


@pytest.fixture
def fit(recipe, few, trainer_of):
    def run(folder, *, step=0, **changes):
        left[0] = step
        settings = {"trainer": trainer_of(4), "model": partial(MILClassifier, dropout=0.2), **changes}
        return recipe.fit(*few, folder, augmentation=flip_or_stop, **settings)

    return run


@pytest.mark.parametrize("step", [4, 5, 8])  # of 2 in each of 4 epochs: at the start of an epoch, amid one, at the end
def test_a_stopped_training_ends_with_the_same_bytes(fit, tmp_path, step):
    whole = fit(tmp_path / "whole")
    with pytest.raises(Stopped):
        fit(tmp_path / "stopped", step=step, resume=tmp_path / "point")
    assert (tmp_path / "point").is_file()
    resumed = fit(tmp_path / "resumed", resume=tmp_path / "point")
    for name in FILES:
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name


def test_reading_ahead_goes_on_at_the_right_epoch(fit, recipe, tmp_path):
    whole = fit(tmp_path / "whole")
    ahead = {"resume": tmp_path / "point", "data": partial(recipe.data, num_workers=1)}
    with pytest.raises(Stopped):
        fit(tmp_path / "stopped", step=5, **ahead)
    resumed = fit(tmp_path / "resumed", **ahead)
    assert (resumed / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()


def test_one_that_was_done_trains_no_further(fit, tmp_path):
    done = fit(tmp_path / "done", resume=tmp_path / "point")
    again = fit(tmp_path / "again", step=1, resume=tmp_path / "point")
    assert (again / FILES[0]).read_bytes() == (done / FILES[0]).read_bytes()


def test_lost_patience_is_remembered(fit, tmp_path):
    done = fit(tmp_path / "done", resume=tmp_path / "point", patience=0)
    n = len((done / "history.csv").read_text().splitlines()) - 1
    assert n < 4
    again = fit(tmp_path / "again", step=1, resume=tmp_path / "point", patience=0)
    assert (again / "history.csv").read_bytes() == (done / "history.csv").read_bytes()


def test_a_damaged_state_is_named_and_training_starts_anew(fit, tmp_path, caplog):
    assert resume_point(tmp_path / "absent") is None
    (tmp_path / "point").write_bytes(b"PK")
    with caplog.at_level("WARNING"):
        assert resume_point(tmp_path / "point") is None
    assert "cannot be read" in caplog.text
    assert not (tmp_path / "point").exists()

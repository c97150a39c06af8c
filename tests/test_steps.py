"""The configuration beside results: that which they were made with."""

import pytest
from omegaconf import OmegaConf

from cellpheno.batch.engine import Job, Result, run_jobs
from cellpheno.errors import InputError, Stopped
from cellpheno.steps import kept


def configuration(folder, seed):
    return OmegaConf.create({"output": str(folder), "seed": seed})


def do_one(folder):
    run_jobs("step", [Job("unit", "k", lambda: Result("done", []))], folder=folder, root=folder)


def seed_of(folder):
    return OmegaConf.load(folder / "config/train.yaml").seed


def test_a_step_that_is_refused_at_once_leaves_no_trace(tmp_path):
    with pytest.raises(InputError), kept("train", configuration(tmp_path / "run", 1)):
        raise InputError("no")
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError), kept("train", configuration(tmp_path / "mine", 1)):
        raise InputError("no")
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_a_step_that_is_refused_at_once_leaves_the_earlier_configuration(tmp_path):
    with kept("train", configuration(tmp_path, 1)):
        do_one(tmp_path)
    with pytest.raises(InputError), kept("train", configuration(tmp_path, 2)):
        raise InputError("no")
    assert seed_of(tmp_path) == 1


@pytest.mark.parametrize("error", [InputError, Stopped])
def test_a_step_that_has_done_something_leaves_its_own(tmp_path, error):
    def late():
        do_one(tmp_path)
        raise error("late")

    with pytest.raises(error), kept("train", configuration(tmp_path, 2)):
        late()
    assert seed_of(tmp_path) == 2

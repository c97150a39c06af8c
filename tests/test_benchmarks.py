"""The benchmarks start, and their smallest parts run: what they call may change under them."""

import importlib
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from cellpheno.training.bags import WellBags

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PEERS = {"torchmil", "centrosome"}  # installed for their benchmark alone


@pytest.fixture
def benchmark(monkeypatch):
    """Import a benchmark by its name; the number of threads that it sets stays in this test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    with mock.patch.dict(os.environ):
        yield importlib.import_module


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_a_benchmark_starts(benchmark, name):
    try:
        benchmark(name)
    except ModuleNotFoundError as lost:
        if lost.name not in PEERS:
            raise
        pytest.skip(f"{lost.name} is not installed")


def test_bags_are_read_on_both_sides(benchmark, tmp_path):
    bags, fields = benchmark("bags"), benchmark("fields")
    images, where = bags.make_well(tmp_path, [fields.synthetic_field(270, 81, len(bags.CHANNELS))])
    pairs = bags.sides(tmp_path, images, where)
    assert set(pairs) == {"pixels", "bags"}
    for ours, theirs in pairs.values():
        one, other = (np.shape(getattr(read(0), "instances", read(0))) for read in (ours, theirs))
        assert one == other == (bags.BAG, len(bags.CHANNELS), bags.SIDE, bags.SIDE)


def test_the_model_is_fed_from_disk(benchmark, tmp_path, monkeypatch):
    training, kept = benchmark("training"), []
    monkeypatch.setattr(WellBags, "forget", lambda bags: kept.append(bags.keeps))
    share, step = training.busy_share(tmp_path, training.TINY, n_wells=12, n_epochs=1)
    assert 0 < share <= 1
    assert step > 0
    assert kept == [False]


def test_a_plain_step_costs_what_ours_does_without_lightning(benchmark, monkeypatch):
    training = benchmark("training")
    model, batch = training.network(training.TINY, training.OURS), training.batch_of(training.TINY)
    monkeypatch.delattr(torch, "manual_seed")  # it notes a stack trace for each kind of device; our step does not
    assert len(list(training.plain_steps(model, batch, training.OURS, 2))) == 2
    monkeypatch.undo()
    assert training.by_lightning(training.TINY, training.OURS, 2).shape == (2,)

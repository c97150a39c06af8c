"""The benchmarks start, and their smallest parts run: what they call may change under them."""

import importlib
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from cellpheno.training.bags import Bag, WellBags

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


@pytest.mark.parametrize("kind", ["plain", "gated"])
def test_both_attention_poolings_are_one_function_of_ragged_bags(benchmark, kind):
    pytest.importorskip("torchmil")
    abmil = benchmark("abmil")
    torch.manual_seed(0)
    bags = [Bag(torch.randn(n, 8), n % 3, {}) for n in (3, 1, 5)]
    ours, theirs = (model(*model.batch(bags)) for model in abmil.pair(kind, 8, 3, seed=0).values())
    torch.testing.assert_close(ours, theirs)
    auroc, gap = abmil.aurocs(kind, [(bags, bags)] * 2, n_classes=3, epochs=2, seed=0)
    assert auroc["ours"] == auroc["torchmil"]
    assert gap < 1e-5

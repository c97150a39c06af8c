"""Networks compute on the device that was asked for; the one of these tests, `tests.mirror_device`, needs no GPU."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from cellpheno.errors import InputError
from cellpheno.stages import train_cells, train_fold
from cellpheno.studies import fields, transfer
from cellpheno.training.device import device_of, find_device, rounding
from tests.training.conftest import quiet_trainer

ROOT = Path(__file__).parents[2]
SCORED = r"""
import functools, torch
from tests.mirror_device import install
from cellpheno.components import build
from cellpheno.config import CONF
from cellpheno.models.mil import MILClassifier, build_classifier, flatten_positions
from omegaconf import OmegaConf

kept = install()

def option(group, name):
    return build({**OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml")), "_partial_": True})

small = functools.partial(option("encoder", "small_resnet"), width=8, depth=1)
encoders = {"features": option("encoder", "features"), "maps": functools.partial(small, pooled=False)}
pairs = [(small, option("pooling", path.stem), {}) for path in sorted((CONF / "pooling").glob("*.yaml"))]
pairs += [(small, option("pooling", "max"), {"orientations": True})]
pairs += [(encoders[name], option("pooling", "max"), {}) for name in encoders]
for encoder, pooling, knobs in pairs:
    torch.manual_seed(0)
    model = functools.partial(MILClassifier, **knobs)
    model = build_classifier(model, encoder, pooling, classes=["a", "b", "c"], n_channels=3).eval()
    side = 1 if encoder is encoders["features"] else 32
    cells, found = torch.rand(6, 3, side, side), []
    for device in ("cpu", "mirror"):
        model.to(device)
        with torch.inference_mode():
            maps = [model.embed(piece.to(model.device)) for piece in cells.split(4)]
            pieces = [flatten_positions(part, torch.zeros(len(part), dtype=torch.long))[0] for part in maps]
            out, weights = model.classify_pieces(pieces)
        assert out.logits.device.type == device
        found.append([value.cpu() for value in (out.logits, out.instance_logits, weights)])
    assert all(map(torch.equal, *found)), pooling
print(len(pairs))
"""


def test_whatever_pools_the_cells_works_on_a_device_with_tensors_of_its_own():
    done = subprocess.run([sys.executable, "-c", SCORED], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) >= 16


@pytest.mark.parametrize("name", ["gpux", "", "cuda:x", "meta", "cpu:1", "cuda:9", "gpu:0"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(name):
    with pytest.raises(InputError) as refused:
        find_device(name)
    (told,) = refused.value.faults
    assert told.startswith(f"device={name}: torch {torch.__version__} finds no such device here, but cpu")
    assert "give one of them" in told


def pretend(monkeypatch, kind, count):
    """Let torch say that there are so many devices of a kind."""
    found = torch.device(kind) if count else None
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: found)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    for name in ("cuda", "mps", "xpu"):
        monkeypatch.setattr(getattr(torch, name), "device_count", lambda n=count if name == kind else 0: n)


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("cuda", {"cpu": "cpu", "cuda": "cuda", "cuda:1": "cuda:1", "gpu": "cuda", "auto": "cuda"}),
        ("mps", {"mps": "mps", "gpu": "mps", "auto": "mps"}),
        ("xpu", {"xpu:1": "xpu:1", "gpu": "xpu"}),
    ],
)
def test_devices_have_the_names_of_torch_and_of_a_trainer(monkeypatch, kind, asked):
    pretend(monkeypatch, kind, 2)
    assert {name: str(find_device(name)) for name in asked} == asked
    with pytest.raises(InputError, match=f"device={kind}:2: .* here, but cpu, {kind}:0, {kind}:1; give"):
        find_device(f"{kind}:2")
    pretend(monkeypatch, kind, 0)
    assert str(find_device("auto")) == "cpu"
    for name in (kind, "gpu"):
        with pytest.raises(InputError, match=f"device={name}: .* here, but cpu; give"):
            find_device(name)


def test_the_key_of_a_result_has_the_threads_of_a_cpu_or_another_kind_of_device():
    assert [rounding(n, torch.device("cpu")) for n in (1, 2)] == [1, 2]  # as before there were others
    assert {rounding(n, torch.device(name)) for n in (1, 2) for name in ("cuda", "cuda:1")} == {"cuda"}


def test_the_device_of_a_trainer():
    assert device_of(quiet_trainer()) == torch.device("cpu")
    second = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda:1")))
    assert device_of(lambda **_: second) == torch.device("cuda:1")


class Loaded(Exception):
    """A model was loaded onto a device."""


def on_gpu(max_epochs=1):
    return "the trainer's"


CELLS = pd.DataFrame({"label": ["a", "b"] * 4, "Metadata_Well": [f"A{i:02d}" for i in range(8)]})
CELLS = CELLS.assign(Metadata_Plate="P1", place="nowhere")
ABOUT = {"classes": ["a", "b"], "seed": 0, "threads": 1}
PARTS = {"trainer": on_gpu, "data": lambda cells_per_batch=4: None, "model": dict}


@pytest.mark.parametrize(
    ("module", "score"),
    [
        (train_fold, lambda: train_fold._scored_by_network(
            CELLS, CELLS, classes=["a", "b"], multilabel=False, grid=[{}], components=PARTS,
            settings={"limits": {}, "threads": 1}
        )),
        (train_cells, lambda: train_cells.train_cell_fold(
            CELLS, CELLS, train_cells.Place("s", 0, 0), folder=Path("model"), resume=Path("resume"), table=Path("t"),
            channels=["x"], pixel_size_um=None, normalization=dict, limits={}, components=PARTS, before=None,
            apart=None, validation=0, **ABOUT
        )),
        (transfer, lambda: transfer.train_unit(
            CELLS, CELLS, unit=transfer.Unit(1, 0, "scratch"), settings={}, start=None, steps=1, folder=Path("model"),
            components=PARTS, limits={}, **ABOUT
        )),
        (fields, lambda: fields.field_unit(CELLS, instances=dict, normalization=dict, trainer=on_gpu, **ABOUT)),
    ],
)  # fmt: skip
def test_what_was_just_trained_predicts_where_it_was_trained(monkeypatch, tmp_path, module, score):
    def load_model(folder, device):
        raise Loaded(device)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "device_of", lambda trainer: trainer())
    monkeypatch.setattr(module, "load_model", load_model)
    monkeypatch.setattr(module, "_fit" if module is train_fold else "fit_fold", lambda *_, **__: None)
    if module is fields:
        monkeypatch.setattr(module, "plate_limits", lambda *_, **__: {})
    with pytest.raises(Loaded, match="the trainer's"):
        score()

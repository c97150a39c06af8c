"""Crops of a small plate on disk: in each treated well three cells of ten show its class's pattern."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from cellpheno.images.crops import Crops, write_crops
from cellpheno.models.attention import GatedAttention
from cellpheno.models.encoders import SmallResNet
from cellpheno.models.mil import MILClassifier
from cellpheno.models.transforms import PlatePercentiles, augment
from cellpheno.training.bags import plate_limits
from cellpheno.training.datamodule import PlateDataModule
from cellpheno.training.fit import fit_fold
from cellpheno.training.predict import predict_wells
from cellpheno.training.schedule import one_cycle

CLASSES = ("control", "ring", "spots")
SIZE = 32


def draw_cell(rng, pattern):
    """Draw a nucleus, a body and a protein whose sum is the same whatever its pattern: (3, SIZE, SIZE) uint16."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + rng.uniform(-2, 2, (2, 1, 1))
    radius = np.hypot(y, x) / rng.uniform(9, 12)
    body = np.clip(1 - radius**2, 0, None)
    if pattern == "ring":
        protein = np.exp(-(((radius - 0.8) / 0.12) ** 2))
    elif pattern == "spots":
        centres = rng.uniform(-6, 6, (6, 2))
        protein = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 2) for a, b in centres)
    else:
        protein = body
    protein = protein / protein.sum() * 50_000 * np.exp(rng.normal(0, 0.2))
    image = np.stack([300 * (radius < 0.4), 200 * body, protein]) + 100
    return np.clip(rng.poisson(image) + rng.normal(0, 5, image.shape), 0, 65535).astype(np.uint16)


def write_well(folder, name, pattern, n_cells, rng, share=0.3):
    """Write the crops of one well; returns its row, with the object numbers of the cells that respond.

    In a well of several patterns (``ring|spots``) the responding cells show them in turn.
    """
    shown = pattern.split("|")
    responds = rng.random(n_cells) < (0 if pattern == "control" else share)
    cells = [draw_cell(rng, shown[i % len(shown)] if r else "control") for i, r in enumerate(responds)]
    pixels = np.stack(cells) if cells else np.zeros((0, 3, SIZE, SIZE), np.uint16)
    number = np.arange(1, n_cells + 1, dtype=np.int32)
    crops = Crops(pixels, np.ones(n_cells, np.int32), number, np.zeros(n_cells, bool))
    path = folder / f"{name}.zarr"
    write_crops(path, crops, plate="P1", well=name)
    row = {"Metadata_Plate": "P1", "Metadata_Well": name, "place": str(path), "label": pattern}
    return {**row, "responders": frozenset(number[responds].tolist())}


def predict_all(*model, **settings):
    """Predictions of wells, and all their instances in one table, None where no well has any."""
    instances = []
    predictions = predict_wells(*model, keep=instances.append, **settings)
    return predictions, pd.concat(instances, ignore_index=True) if instances else None


@pytest.fixture(scope="session")
def plate(tmp_path_factory):
    """Nine wells a class, about 48 cells each, and one well without cells."""
    folder, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    rows = [
        write_well(folder, f"{'ABC'[k]}{i:02d}", pattern, int(rng.integers(36, 60)), rng)
        for k, pattern in enumerate(CLASSES)
        for i in range(1, 10)
    ]
    rows.append(write_well(folder, "D01", "ring", 0, rng))
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def sets_plate(tmp_path_factory):
    """Six wells of each set of two classes, 32 cells each, half of which respond."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(1)
    sets = ("(none)", "ring", "spots", "ring|spots")
    wells = [(f"{'ABCD'[k]}{i:02d}", name) for k, name in enumerate(sets) for i in range(1, 7)]
    return pd.DataFrame([write_well(folder, well, name, 32, rng, share=0.5) for well, name in wells])


@pytest.fixture(scope="session")
def recipe(plate):
    """What a config gives to `fit_fold`, for small crops; ``fit(train, validation, folder, **changes)`` runs it."""
    normalization = PlatePercentiles()
    parts = SimpleNamespace(
        classes=CLASSES,
        channels=("DNA", "Body", "Protein"),
        pixel_size_um=0.5,
        normalization=normalization,
        limits=plate_limits(plate, normalization, seed=0),
        model=MILClassifier,
        encoder=partial(SmallResNet, width=8, depth=2),
        pooling=GatedAttention,
        augmentation=augment,
        optimizer=partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.01),
        scheduler=one_cycle,
        data=partial(PlateDataModule, cells_per_bag=48),
        trainer=quiet_trainer(),
        seed=0,
    )
    parts.fit = lambda train, validation, folder, **changes: fit_fold(
        train, validation, folder=folder, **{k: v for k, v in vars(parts).items() if k != "fit"} | changes
    )
    return parts


def quiet_trainer(max_epochs=2, precision="32-true"):
    return partial(
        pl.Trainer,
        accelerator="cpu",
        devices=1,
        max_epochs=max_epochs,
        precision=precision,
        gradient_clip_val=1.0,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
    )


@pytest.fixture(scope="session")
def trainer_of():
    return quiet_trainer


@pytest.fixture(scope="session")
def few(plate):
    """Two training wells and one validation well a class."""
    number = plate["Metadata_Well"].str[1:]
    return plate[number.isin(["01", "02"])], plate[number == "03"]


@pytest.fixture(scope="session")
def trained(recipe, few, tmp_path_factory):
    """Folder of a model after two epochs on few wells."""
    return recipe.fit(*few, tmp_path_factory.mktemp("models") / "first")

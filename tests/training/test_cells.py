"""Single cells in memory: which cell is in which batch, and what a model says of it."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from cellpheno.errors import InputError
from cellpheno.images.crops import Crops, read_crops, write_crops
from cellpheno.models.cell_pooling import MeanLogit
from cellpheno.models.encoders import SmallResNet
from cellpheno.models.mil import MILClassifier
from cellpheno.models.transforms import PerCrop, PlatePercentiles
from cellpheno.training.cells import CellDataModule, list_cells, predict_cells, read_cells
from cellpheno.training.checkpoint import load_model
from cellpheno.training.fit import fit_fold
from tests.training.conftest import quiet_trainer

CLASSES = ("a", "b")


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Two wells of 20 and 13 cells, 16 pixels wide; cells of class b are brighter in the second channel."""
    folder, rng = tmp_path_factory.mktemp("crops"), np.random.default_rng(0)
    tables = []
    for well, n in (("A01", 20), ("A02", 13)):
        label = rng.integers(2, size=n)
        pixels = rng.integers(0, 50, (n, 2, 16, 16)).astype(np.uint16)
        pixels[:, 1] += (200 * label[:, None, None]).astype(np.uint16)
        number = rng.permutation(n).astype(np.int32) + 1
        crops = Crops(pixels, np.ones(n, np.int32), number, np.zeros(n, bool))
        path = str(folder / f"{well}.zarr")
        write_crops(path, crops, plate="P1", well=well, channels=["x", "y"])
        tables.append(list_cells("P1", well, path).assign(label=[CLASSES[k] for k in label]))
    return pd.concat(tables, ignore_index=True).sample(frac=1, random_state=1, ignore_index=True)


def module(cells, **knobs):
    limits = {"P1": np.array([[[0, 100], [0, 300]]], np.float32)}
    settings = {"classes": CLASSES, "normalization": PlatePercentiles(), "limits": limits, "seed": 0}
    return CellDataModule(cells, cells.iloc[:0], **{**settings, **knobs})


def test_pixels_are_those_of_the_named_cell(cells):
    pixels = read_cells(cells)
    for i in (0, 7, 32):
        stored = read_crops(cells["place"][i])
        own = stored.object_number == cells["Metadata_ObjectNumber"][i]
        np.testing.assert_array_equal(pixels[i], stored.pixels[own][0])


def test_every_cell_comes_once_an_epoch_in_another_order(cells):
    data = module(cells, cells_per_batch=10)
    expected = np.sort(read_cells(cells)[:, 0].sum((1, 2)) / 100.0)
    seen = []
    for epoch in range(2):
        data.order.set_epoch(epoch)
        batches = list(data.train_dataloader())
        assert [len(batch.labels) for batch in batches] == [10, 10, 10, 3]
        for batch in batches:
            assert batch.bag.tolist() == list(range(len(batch.labels)))
        seen.append(torch.cat([batch.instances[:, 0].sum((1, 2)) for batch in batches]).numpy())
        np.testing.assert_allclose(np.sort(seen[-1]), expected, rtol=1e-4)
    assert not np.allclose(seen[0], seen[1])


def test_one_cell_left_over_makes_no_batch(cells):
    assert [len(b.labels) for b in module(cells, cells_per_batch=16).train_dataloader()] == [16, 16]


def test_balanced_batches_show_classes_equally_often(cells):
    few = pd.concat([cells[cells["label"] == "a"].head(9), cells[cells["label"] == "b"].head(3)], ignore_index=True)
    labels = torch.cat([batch.labels for batch in module(few, balanced=True).train_dataloader()])
    assert torch.bincount(labels).tolist() == [9, 9]


def test_limits_of_each_crop_are_its_own(cells):
    batch = next(iter(module(cells, normalization=PerCrop(low=0, high=100)).train_dataloader()))
    assert batch.instances.amin((2, 3)).abs().max() == 0
    assert (batch.instances.amax((2, 3)) == 1).all()


def test_a_trained_model_says_of_a_cell_what_its_network_says(cells, tmp_path):
    limits = {"P1": np.array([[[0, 100], [0, 300]]], np.float32)}
    fit = partial(
        fit_fold, cells, cells.iloc[:0], classes=CLASSES, channels=("x", "y"), pixel_size_um=None, limits=limits,
        normalization=PlatePercentiles(), model=MILClassifier, encoder=partial(SmallResNet, width=8, depth=1),
        pooling=MeanLogit, augmentation=None, optimizer=partial(torch.optim.AdamW, lr=0.02), scheduler=None,
        data=partial(CellDataModule, cells_per_batch=8), trainer=quiet_trainer(4), seed=0,
    )  # fmt: skip
    model, card = load_model(fit(folder=tmp_path / "one"))
    logits = predict_cells(model, card, cells, limits=limits)
    assert (logits.argmax(1) == (cells["label"] == "b")).mean() > 0.9
    crops = PlatePercentiles()(read_cells(cells), limits["P1"])
    with torch.inference_mode():
        out = model(crops, torch.arange(len(cells)), len(cells))
    np.testing.assert_allclose(logits, out.logits.numpy(), atol=1e-5)
    assert (fit(folder=tmp_path / "two") / "model.safetensors").read_bytes() == (
        tmp_path / "one/model.safetensors"
    ).read_bytes()
    assert card["class_counts"] == cells["label"].value_counts().to_dict()
    assert card["training"]["n_wells"] == 2
    with pytest.raises(InputError, match="channels: the model was trained with"):
        predict_cells(model, {**card, "channels": ["y", "x"]}, cells, limits=limits)


def test_what_cannot_be_trained_on_is_refused(cells):
    with pytest.raises(InputError) as caught:
        module(cells.assign(label="c"), limits={})
    assert caught.value.faults == (
        "label 'c' is none of the classes ['a', 'b']",
        "plate 'P1' has no limits for its normalisation",
    )
    with pytest.raises(InputError, match="cells_per_batch=1"):
        module(cells, cells_per_batch=1)

import weakref

import numpy as np
import pandas as pd
import pytest
import torch

from cellpheno.errors import InputError
from cellpheno.images.crops import Crops, n_crops, read_crops, write_crops
from cellpheno.training.checkpoint import load_model
from cellpheno.training.predict import predict_wells
from tests.training.conftest import predict_all


@pytest.fixture
def model(trained):
    return load_model(trained)


def test_logits_equal_those_of_the_whole_well_at_once(model, plate, recipe):
    wells = plate.iloc[[0, 12]]
    predictions, instances = predict_all(*model, wells, limits=recipe.limits)
    for (_, row), (_, well) in zip(predictions.iterrows(), wells.iterrows(), strict=True):
        pixels = read_crops(well["place"]).pixels
        instances_in = recipe.normalization(pixels, recipe.limits["P1"])
        with torch.no_grad():
            out = model.model(instances_in, torch.zeros(len(pixels), dtype=torch.long), 1)
        assert row[[f"logit_{name}" for name in recipe.classes]].tolist() == pytest.approx(
            out.logits[0].tolist(), abs=1e-4
        )
        cells = instances[instances["Metadata_Well"] == well["Metadata_Well"]]
        with torch.no_grad():
            bag = torch.zeros(len(pixels), dtype=torch.long)
            weights = model.model.weights(model.model.embed(instances_in), out, bag)
        assert cells["weight"].to_numpy() == pytest.approx(weights.numpy(), abs=1e-5)


def test_a_well_larger_than_memory_is_predicted_in_pieces(model, plate, recipe, monkeypatch):
    wells, alive, most = plate.iloc[:2], [], []
    whole, cells = predict_all(*model, wells, limits=recipe.limits)
    embed = model.model.embed

    def counted(pixels):
        features = embed(pixels)
        alive.append(weakref.ref(features))
        most.append(sum(len(past()) for past in alive if past() is not None))
        return features

    monkeypatch.setattr(model.model, "piece", 5)
    monkeypatch.setattr(model.model, "embed", counted)
    pieces, parts = predict_all(*model, wells, limits=recipe.limits)
    assert len(most) == sum(-(-n_crops(path) // 5) for path in wells["place"])
    assert max(most) == 5  # features of one piece are in memory, never two
    for found, wanted in ((pieces, whole), (parts, cells)):
        pd.testing.assert_frame_equal(found, wanted, check_exact=False, atol=1e-4, rtol=1e-4)


def test_what_is_said_of_a_well_depends_on_no_other_well(model, plate, recipe):
    together, cells = predict_all(*model, plate.iloc[:3], limits=recipe.limits)
    alone, own = predict_all(*model, plate.iloc[[2]], limits=recipe.limits)
    pd.testing.assert_frame_equal(together.iloc[[2]].reset_index(drop=True), alone, check_exact=True)
    theirs = cells[cells["Metadata_Well"] == plate["Metadata_Well"][2]].reset_index(drop=True)
    pd.testing.assert_frame_equal(theirs, own, check_exact=True)


def test_columns_and_sums(model, plate, recipe):
    predictions, instances = predict_all(*model, plate.iloc[:4], limits=recipe.limits)
    kinds = [f"{kind}_{name}" for kind in ("prob", "logit") for name in recipe.classes]
    assert list(predictions) == ["Metadata_Plate", "Metadata_Well", "pred", *kinds]
    assert np.allclose(predictions[kinds[:3]].sum(axis=1), 1, atol=1e-12)
    best = predictions[kinds[:3]].idxmax(axis=1).str.removeprefix("prob_")
    assert (best == predictions["pred"]).all()
    keys = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_ObjectNumber"]
    assert list(instances) == [*keys, "weight", *kinds[3:]]
    assert np.allclose(instances.groupby("Metadata_Well")["weight"].sum(), 1, atol=1e-6)
    assert instances.groupby("Metadata_Well").size().tolist() == [n_crops(path) for path in plate["place"][:4]]
    assert not instances[keys].duplicated().any()


def test_wells_without_cells_get_no_row(model, plate, recipe):
    empty = plate[plate["Metadata_Well"] == "D01"]
    predictions, instances = predict_all(*model, empty, limits=recipe.limits)
    full = predict_wells(*model, plate.iloc[:1], limits=recipe.limits)
    assert (len(predictions), instances) == (0, None)
    assert list(predictions) == list(full)


def test_plate_without_limits_is_refused(model, plate):
    with pytest.raises(InputError, match="plate 'P1' has no limits"):
        predict_wells(*model, plate.iloc[:1], limits={})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pixels: pixels[:, :2], "2 channels; the model was trained with"),
        (lambda pixels: pixels[..., :16, :16], "crop_px: the model was trained with 32, the data have 16"),
        (lambda pixels: pixels.astype(np.uint8), "dtype: the model was trained with uint16, the data have uint8"),
    ],
)
def test_other_crops_are_refused_with_the_file(model, plate, recipe, tmp_path, change, message):
    crops = read_crops(plate["place"][0])
    write_crops(tmp_path / "A01.zarr", Crops(change(crops.pixels), *crops[1:]))
    with pytest.raises(InputError, match=rf"A01\.zarr: {message}"):
        predict_wells(*model, plate.iloc[:1].assign(place=str(tmp_path / "A01.zarr")), limits=recipe.limits)

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch

from cellpheno.components import describe
from cellpheno.errors import InputError
from cellpheno.models import efficientnet
from cellpheno.models.efficientnet import EfficientNetLite0
from cellpheno.models.encoders import SmallResNet
from cellpheno.models.mil import MILClassifier, build_classifier
from cellpheno.models.pooling import Mean
from cellpheno.training.checkpoint import build, check_card, load_model, save_model, with_defaults
from cellpheno.training.instances import Cells


@pytest.fixture
def copy(trained, tmp_path):
    """Copy of a model's folder that may be spoilt."""
    return shutil.copytree(trained, tmp_path / "model")


def change(folder, **values):
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **values}))


def test_the_card_says_what_the_model_is_for(trained, recipe):
    model, card = load_model(trained)
    assert not model.training
    assert (tuple(card["classes"]), tuple(card["channels"])) == (recipe.classes, recipe.channels)
    assert (card["pixel_size_um"], card["crop_px"], card["dtype"]) == (0.5, 32, "uint16")
    assert np.array_equal(card["limits"]["P1"], recipe.limits["P1"])
    assert build(card["normalization"])() == recipe.normalization
    assert card["encoder"] == {
        "_target_": "cellpheno.models.encoders.SmallResNet",
        "_partial_": True,
        "width": 8,
        "depth": 2,
        "pooled": True,
    }
    assert build(card["instances"])() == Cells()


def test_a_model_is_loaded_without_the_package_of_its_first_weights(trained, monkeypatch, tmp_path):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    encoder = partial(EfficientNetLite0, weights=None)
    model = build_classifier(MILClassifier, encoder, Mean, classes=["a", "b"], n_channels=3).eval()
    made = {"model": MILClassifier, "encoder": partial(encoder, weights="imagenet"), "pooling": Mean}
    card = json.loads((trained / "card.json").read_text()) | {"classes": ["a", "b"], "channels": ["x", "y", "z"]}
    save_model(tmp_path / "m", model, card | {name: describe(with_defaults(part)) for name, part in made.items()})
    loaded = load_model(tmp_path / "m").model
    crops, bag = torch.rand(3, 3, 32, 32), torch.zeros(3, dtype=torch.long)
    with torch.inference_mode():
        assert torch.equal(loaded(crops, bag, 1).logits, model(crops, bag, 1).logits)
    for own, first in zip(loaded.state_dict().values(), model.state_dict().values(), strict=True):
        assert (own.device, own.dtype, own.stride()) == (first.device, first.dtype, first.stride())


def test_every_flipped_byte_of_the_weights_is_found(copy):
    path = copy / "model.safetensors"
    weights = path.read_bytes()
    for position in np.random.default_rng(0).integers(len(weights), size=20):
        spoilt = bytearray(weights)
        spoilt[position] ^= 1
        path.write_bytes(spoilt)
        with pytest.raises(InputError, match="damaged or replaced"):
            load_model(copy)


def test_lost_files_are_named(copy, tmp_path):
    (copy / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        load_model(copy)
    with pytest.raises(InputError, match=r"card\.json: no such file; this is not the folder of a trained model"):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"classes": 1'])
def test_what_is_no_card_is_refused(copy, text):
    (copy / "card.json").write_text(text)
    with pytest.raises(InputError, match=r"card\.json"):
        load_model(copy)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.load",
        "torch.hub.load",
        "torch.nn.modules.module.torch.load",
        "torch.nn.functional.os.system",
        "torch.optim.AdamW",
        "cellpheno.training.checkpoint.json.loads",
        "cellpheno.models.mil.inspect.getsource",
        "cellpheno.plates.commit.commit_folder",
        "cellpheno.models.encoders.NoSuchThing",
        "cellphenomenal.models.Thing",
        "",
    ],
)
def test_a_card_cannot_name_what_is_not_admitted(copy, target):
    for spoilt in (
        {"_target_": target},
        {"_target_": "cellpheno.models.encoders.SmallResNet", "width": {"_target_": target}},
    ):
        change(copy, encoder=spoilt)
        with pytest.raises(InputError):
            load_model(copy)


def test_layers_of_torch_are_admitted():
    assert build({"_target_": "torch.nn.Linear", "out_features": 2})(in_features=3).out_features == 2


def test_unknown_knobs_are_refused(copy):
    change(copy, encoder={"_target_": "cellpheno.models.encoders.SmallResNet", "widht": 8})
    with pytest.raises(InputError, match="widht"):
        load_model(copy)


def test_weights_of_another_network_are_refused(copy):
    change(copy, encoder={"_target_": f"{SmallResNet.__module__}.SmallResNet", "width": 16, "depth": 2})
    with pytest.raises(InputError, match="the weights do not fit the card"):
        load_model(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("channels", ("Body", "DNA", "Protein")),
        ("classes", ["control", "ring"]),
        ("pixel_size_um", 0.65),
        ("crop_px", 48),
        ("dtype", "uint8"),
    ],
)
def test_other_data_are_refused_naming_both_sides(trained, key, value):
    card = load_model(trained).card
    trained_with = str(card[key]).replace("[", r"\[")
    with pytest.raises(InputError, match=f"{key}: the model was trained with {trained_with}.*, the data have"):
        check_card(card, **{key: value})


def test_all_differences_are_told_at_once_and_sizes_may_round(trained):
    card = load_model(trained).card
    check_card(card, channels=("DNA", "Body", "Protein"), pixel_size_um=0.503, dtype="uint16")
    with pytest.raises(InputError) as caught:
        check_card(card, channels=["DNA"], dtype="uint8", pixel_size_um=1.0)
    assert len(caught.value.faults) == 3

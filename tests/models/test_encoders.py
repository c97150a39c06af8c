import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from cellpheno.components import build
from cellpheno.config import config_groups, load_config
from cellpheno.models.encoders import DeepLoc, Features, KrausNet, SmallResNet


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_deeploc_has_the_published_number_of_parameters():
    network = nn.Sequential(DeepLoc(n_channels=2, size=60), nn.Linear(512, 19), nn.BatchNorm1d(19))
    assert n_parameters(network) == 10_991_417
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules()) == 11


def test_deeploc_has_the_published_weights_biases_and_normalisations():
    network = nn.Sequential(DeepLoc(n_channels=2, size=60), nn.Linear(512, 19), nn.BatchNorm1d(19))
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    normalisations = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert sum(layer.weight.numel() for layer in layers) == 10_984_064
    assert sum(layer.bias.numel() for layer in layers) == 2_451
    assert sum(map(n_parameters, normalisations)) == 4_902
    assert [tuple(layer.weight.shape) for layer in layers[8:]] == [(512, 16_384), (512, 512), (19, 512)]


def test_deeploc_looks_at_the_middle_of_a_crop():
    encoder = DeepLoc(n_channels=1, size=16).eval()
    crops = torch.rand(2, 1, 20, 20)
    other = crops.clone()
    other[:, :, :2], other[:, :, -2:], other[..., :2], other[..., -2:] = 9, 9, 9, 9
    assert torch.equal(encoder(crops), encoder(other))


def test_deeploc_refuses_crops_that_are_too_small():
    with pytest.raises(ValueError, match="crops of 20 x 14 pixels; this encoder wants 16 or more"):
        DeepLoc(n_channels=1, size=16)(torch.zeros(1, 1, 20, 14))


@pytest.mark.parametrize("n_channels", [1, 3, 5])
@pytest.mark.parametrize(("width", "depth"), [(8, 1), (16, 3)])
def test_small_resnet_takes_any_channels_and_sizes(n_channels, width, depth):
    encoder = SmallResNet(n_channels, width=width, depth=depth).eval()
    for size in (33, 48):
        assert encoder(torch.rand(2, n_channels, size, size)).shape == (2, encoder.n_features)
    assert encoder.n_features == 2 * width * 2**depth


def test_kraus_net_has_the_layers_that_it_tells():
    layers = [module for module in KrausNet(n_channels=3).modules() if isinstance(module, nn.Conv2d)]
    sizes = [(3, 3, 32), (3, 32, 32), (5, 32, 64), (3, 64, 128), (3, 128, 128), (1, 128, 1000)]
    assert [(layer.kernel_size[0], layer.in_channels, layer.out_channels) for layer in layers] == sizes


def test_small_resnet_keeps_its_map_and_learns_from_large_pictures():
    encoder = SmallResNet(n_channels=2, width=8, pooled=False).to(memory_format=torch.channels_last)
    images = torch.rand(2, 2, 256, 250).contiguous(memory_format=torch.channels_last)
    for _ in range(3):  # a fault of the convolutions showed from the second step on
        maps = encoder(images)
        maps.square().mean().backward()
    assert maps.shape == (2, encoder.n_features, 256 // encoder.stride, -(-250 // encoder.stride))
    shortcut = encoder.blocks[0].shortcut
    strided = torch.nn.functional.conv2d(images[:, :1].repeat(1, 8, 1, 1), shortcut.weight, stride=2)
    torch.testing.assert_close(shortcut(images[:, :1].repeat(1, 8, 1, 1)[:, :, ::2, ::2]), strided)


@pytest.mark.parametrize("shrink", [1, 2, 3])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (100, 33), (5, 1)])
def test_kraus_net_maps_a_field_of_any_size(shrink, height, width):
    encoder = KrausNet(n_channels=2, shrink=shrink, pooled=False).eval()
    images = torch.rand(2, 2, height, width)
    maps = encoder(images)
    assert maps.shape == (2, 1000, -(-height // (16 * shrink)), -(-width // (16 * shrink)))
    encoder.pooled = True
    torch.testing.assert_close(encoder(images), maps.flatten(2).mean(2))


def test_kraus_net_moves_its_map_with_the_field():
    encoder = KrausNet(n_channels=1, shrink=2, pooled=False).eval()
    field = torch.rand(1, 1, 448, 96)
    maps, moved = encoder(field), encoder(field.roll(64, 2))  # 64 pixels: two positions
    # a position sees 134 pixels: three positions from a border or from the seam it sees the shift alone
    torch.testing.assert_close(moved[:, :, 5:11], maps[:, :, 3:9], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("option", config_groups()["encoder"])
def test_every_option_encodes_a_batch(option):
    config = load_config("train", "plate=P1.zarr", f"encoder={option}").encoder
    encoder = build(OmegaConf.to_container(config))(n_channels=2)
    side = 1 if option == "features" else 64  # cached features are crops of one pixel
    features = encoder(torch.rand(2, 2, side, side, requires_grad=True))
    assert features.shape == (2, encoder.n_features)
    features.sum().backward()
    assert all(weight.grad is not None for weight in encoder.parameters())


@pytest.mark.parametrize(
    "encoder",
    [SmallResNet(2, width=8), DeepLoc(2, size=24), KrausNet(2, shrink=1)],
    ids=["small_resnet", "deeploc", "kraus_net"],
)
def test_in_evaluation_a_crop_is_encoded_alike_in_any_company(encoder):
    encoder.eval()
    crops = torch.rand(6, 2, 24, 24)
    torch.testing.assert_close(encoder(crops)[:1], encoder(crops[:1]), atol=1e-5, rtol=1e-4)


def test_small_resnet_is_light():
    encoder, counts = SmallResNet(n_channels=3), []
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, _, out: counts.append(m.weight.numel() * out.shape[2] * out.shape[3])
            )
    encoder(torch.zeros(2, 3, 64, 64))
    assert 2 * sum(counts) / 1e9 < 0.05  # GFLOP a crop


def test_memory_layout_and_bfloat16_change_little():
    encoder = SmallResNet(3).eval()
    crops = torch.rand(4, 3, 32, 32)
    plain = encoder(crops)
    last = encoder.to(memory_format=torch.channels_last)(crops.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder(crops)
    assert (half.float() - plain).norm() / plain.norm() < 0.05


def test_width_that_cannot_be_grouped_is_refused():
    with pytest.raises(ValueError, match="width 12: wanted a multiple of 8"):
        SmallResNet(3, width=12)


def test_undefined_features_count_as_their_mean():
    gaps = torch.tensor([[1.0, 2.0], [3.0, float("nan")], [float("inf"), 6.0]])
    encoder = Features(n_channels=2)
    scaled = encoder(gaps[:, :, None, None])
    filled = torch.tensor([[1.0, 2.0], [3.0, 4.0], [2.0, 6.0]])
    torch.testing.assert_close(scaled, torch.nn.functional.batch_norm(filled, None, None, training=True))
    encoder.eval()
    later = encoder(torch.full((1, 2, 1, 1), float("nan")))
    torch.testing.assert_close(later, torch.zeros(1, 2))


def test_features_of_any_scale_count_alike():
    """Variance 1 in training whatever the unit; what never varies stays 0, however large it is."""
    values = np.random.default_rng(0).normal(size=(256, 1))
    scales = np.array([1e-4, 1.0, 1e5, 0.0])
    features = torch.tensor(values * scales + [1e-3, 0.0, 1e5, 12345.678], dtype=torch.float32)
    encoder = Features(n_channels=4)
    scaled = encoder(features[:, :, None, None])
    expected = (values - values.mean()) / values.std()
    np.testing.assert_allclose(scaled[:, :3], np.repeat(expected, 3, axis=1), atol=2e-3)
    assert not scaled[:, 3].any()
    np.testing.assert_allclose(encoder.eval()(features[:, :, None, None])[:, :3].std(0), 1.0, atol=5e-3)

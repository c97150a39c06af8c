import pytest
import torch
from torch import nn

from cellpheno.models.encoders import DeepLoc, SmallResNet


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_deeploc_has_the_published_number_of_parameters():
    network = nn.Sequential(DeepLoc(n_channels=2, size=60), nn.Linear(512, 19), nn.BatchNorm1d(19))
    assert n_parameters(network) == 10_991_417
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules()) == 11


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


@pytest.mark.parametrize("encoder", [SmallResNet(2, width=8), DeepLoc(2, size=24)], ids=["small_resnet", "deeploc"])
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

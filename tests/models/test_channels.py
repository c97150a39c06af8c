from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from cellpheno.models.channels import PerChannel, adapt_channels, channel_mixing
from cellpheno.models.encoders import KrausNet, SmallResNet
from cellpheno.models.mil import MILClassifier
from cellpheno.models.pooling import Mean


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_the_same_number_of_channels_leaves_the_first_layer_as_it_is(n):
    weight = torch.randn(8, n, 3, 3)
    assert torch.equal(channel_mixing(n, n), torch.eye(n))
    assert torch.equal(adapt_channels(weight, n), weight)


def test_shares_worked_by_hand():
    expected = [[0.6, 0.4, 0, 0, 0], [0, 0.2, 0.6, 0.2, 0], [0, 0, 0, 0.4, 0.6]]
    torch.testing.assert_close(channel_mixing(3, 5), torch.tensor(expected))


@pytest.mark.parametrize("n_from", [1, 2, 3])
@pytest.mark.parametrize("n_to", range(1, 8))
def test_an_old_channel_is_a_mean_of_new_ones_and_all_new_ones_weigh_alike(n_from, n_to):
    mixing = channel_mixing(n_from, n_to)
    torch.testing.assert_close(mixing.sum(1), torch.ones(n_from))
    torch.testing.assert_close(mixing.sum(0), torch.full((n_to,), n_from / n_to))


@pytest.mark.parametrize("n_channels", [1, 2, 4, 5])
def test_the_adapted_layer_sees_the_mixed_channels(n_channels):
    weight, image = torch.randn(4, 3, 3, 3), torch.rand(2, n_channels, 6, 6)
    colours = torch.stack(
        [sum(share * image[:, k] for k, share in enumerate(row)) for row in channel_mixing(3, n_channels)], 1
    )
    torch.testing.assert_close(conv2d(image, adapt_channels(weight, n_channels)), conv2d(colours, weight))


def test_a_grey_picture_gives_the_same_whatever_the_number_of_its_channels():
    weight, grey = torch.randn(4, 3, 3, 3), torch.rand(1, 1, 6, 6)
    expected = conv2d(grey.expand(1, 3, 6, 6), weight)
    for n in (1, 2, 4, 5):
        torch.testing.assert_close(conv2d(grey.expand(1, n, 6, 6), adapt_channels(weight, n)), expected)


@pytest.mark.parametrize(
    "network", [partial(SmallResNet, width=8, depth=1), KrausNet], ids=["small_resnet", "kraus_net"]
)
def test_per_channel_equals_a_loop_over_the_channels(network):
    encoder = PerChannel(n_channels=3, encoder=network).eval()
    crops = torch.rand(2, 3, 32, 32)
    expected = torch.cat([encoder.encoder(crops[:, k : k + 1]) for k in range(3)], dim=1)
    torch.testing.assert_close(encoder(crops), expected)
    assert expected.shape == (2, encoder.n_features)
    last = crops.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(encoder(last), expected, atol=1e-5, rtol=1e-4)


def test_orientations_of_maps_are_refused_channel_by_channel_too():
    encoder = partial(PerChannel, encoder=partial(SmallResNet, width=8, depth=1, pooled=False))
    with pytest.raises(ValueError, match=r"give encoder\.pooled=true"):
        MILClassifier(encoder(n_channels=2), Mean(), ["a", "b"], orientations=True)


def test_per_channel_shares_its_weights():
    one, five = (PerChannel(n, partial(SmallResNet, width=8)) for n in (1, 5))
    assert len(list(one.parameters())) == len(list(five.parameters()))
    assert sum(isinstance(module, nn.Conv2d) for module in five.modules()) == 10

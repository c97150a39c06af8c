"""Where the positions of a map lie, against the gradient of each: what it sees, it sees around its centre."""

from functools import partial
from inspect import signature

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from cellpheno.components import resolve
from cellpheno.config import CONF
from cellpheno.models.channels import PerChannel
from cellpheno.models.efficientnet import EfficientNetLite0
from cellpheno.models.encoders import KrausNet, SmallResNet

ENCODERS = {
    "small_resnet": partial(SmallResNet, width=8, depth=2, pooled=False),
    "small_resnet_flat": partial(SmallResNet, width=8, depth=0, pooled=False),
    "kraus_net": partial(KrausNet, shrink=2, pooled=False),
    "kraus_net_3": partial(KrausNet, shrink=3, pooled=False),
    "efficientnet_lite0": partial(EfficientNetLite0, weights=None, pooled=False),
    "efficientnet_lite0_enlarged": partial(EfficientNetLite0, weights=None, enlarge=2, pooled=False),
    "per_channel": partial(PerChannel, encoder=partial(EfficientNetLite0, weights=None, pooled=False)),
}


def even(network):
    """The network with nothing but equal weights and sums: its gradient is what each position sees of the picture."""
    for name, layer in list(network.named_children()):
        if isinstance(layer, nn.MaxPool2d):
            setattr(network, name, nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding))
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm | nn.ReLU6):
            setattr(network, name, nn.Identity())
        even(layer)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    return network


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("n", [1280, 1277, 1270])
@pytest.mark.parametrize("name", ENCODERS)
def test_a_position_sees_what_lies_around_its_centre(name, n, axis):
    encoder = even(ENCODERS[name](n_channels=1)).double().eval()
    picture = torch.ones(1, 1, *((n, 1), (1, n))[axis], dtype=torch.double, requires_grad=True)
    maps = encoder(picture).flatten()[: -(-n // int(encoder.stride))]  # of the first feature
    at = len(maps) // 2  # far from the borders, where it sees less
    maps[at].backward()
    seen = picture.grad.numpy().ravel()
    assert seen[0] == seen[-1] == 0
    centre = np.average(np.arange(n), weights=seen)
    assert encoder.first_centre(n) + at * encoder.stride == pytest.approx(centre, abs=1e-6)


def test_every_option_with_a_map_is_measured():
    targets = {path.stem: resolve(OmegaConf.load(path)["_target_"]) for path in (CONF / "encoder").glob("*.yaml")}
    assert {option for option, target in targets.items() if hasattr(target, "first_centre")} == set(ENCODERS) & set(
        targets
    )
    assert {option for option, target in targets.items() if "pooled" in signature(target).parameters} <= set(ENCODERS)

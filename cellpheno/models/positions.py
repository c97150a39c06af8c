"""Where the positions of a map of features lie in the picture, from the layers that made the map."""

from typing import Any, cast

from torch import nn


def first_centre(network: nn.Module, n: int, enlarged: int = 1) -> float:
    """Centre of what the first position of a map sees, along one axis, in pixels; the first pixel's own centre is 0.

    Position ``i`` has its centre at ``first_centre + i * stride``. The first output of a layer sees ``side`` inputs,
    ``before`` of them padding: its centre lies ``(side - 1) / 2 - before`` inputs behind that of the first input.

    Parameters
    ----------
    network : nn.Module
        Its convolutions and pools stand in the order of the work and are padded, so that ``n`` inputs become
        ``ceil(n / stride)``; shortcuts are of one input. A layer whose padding depends on ``n`` has ``margins(n)``.
    n : int
        Pixels of the picture along this axis.
    enlarged : int
        How many times the picture is enlarged before the first layer.

    Examples
    --------
    >>> layers = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1))
    >>> first_centre(layers, 64)
    0.5
    """
    n, stride = n * enlarged, 1 / enlarged
    centre = (stride - 1) / 2
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            side, step, padding = (_one(getattr(layer, name)) for name in ("kernel_size", "stride", "padding"))
            before = cast(Any, layer).margins(n)[0] if hasattr(layer, "margins") else padding
            centre += ((side - 1) / 2 - before) * stride
            stride, n = stride * step, -(-n // step)
    return centre


def _one(size: Any) -> int:
    """One number of a layer's pair, or the number that stands for both."""
    return int(size[0] if isinstance(size, tuple) else size)

"""Encoders: crops (N, c, y, x) to features (N, d), d = ``n_features``.

With ``pooled=False`` some keep their map of features (N, d, y / stride, x / stride), of crops or of whole fields; they
have ``stride`` and ``first_centre(n)``, which say where its positions lie.

In evaluation a crop is encoded alike in any company. In training, features are scaled to the batch: what all cells have
in common drops out, so that the head and the attention see at once in what they differ.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

from cellpheno.bounds import Range
from cellpheno.models.positions import first_centre


class DeepLoc(nn.Module):
    """DeepLoc's eleven layers without the last: eight convolutions and two full layers of 512.

    Every layer is followed by batch normalisation and a ReLU. With DeepLoc's last layer (``Linear(512, 19)`` and batch
    normalisation) and two channels it has 10,991,417 parameters. Weights start as He et al. have them: batch
    normalisation takes out the scale of DeepLoc's own start.

    Parameters
    ----------
    n_channels : int
    size : int
        Side of the square, in pixels, that is cut from the middle of each crop (60 of 64 in DeepLoc).

    References
    ----------
    Kraus et al. 2017, Mol Syst Biol 13, 924, doi:10.15252/msb.20177551

    Examples
    --------
    >>> DeepLoc(n_channels=2).eval()(torch.zeros(1, 2, 64, 64)).shape
    torch.Size([1, 512])
    """

    n_features = 512

    def __init__(self, n_channels: int, size: Annotated[int, Range(1)] = 60) -> None:
        super().__init__()
        self.size = size
        widths = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0)  # 0: a pooling layer
        layers: list[nn.Module] = []
        for width in widths:
            if width:
                layers += [nn.Conv2d(n_channels, width, 3, padding=1), _batch_norm(nn.BatchNorm2d, width), nn.ReLU()]
                n_channels = width
            else:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))  # 60, 30, 15, 8
        self.convolutions = nn.Sequential(*layers)
        side = -(-size // 8)
        self.full = nn.Sequential(
            *(nn.Linear(256 * side * side, 512), _batch_norm(nn.BatchNorm1d, 512), nn.ReLU()),
            *(nn.Linear(512, 512), _batch_norm(nn.BatchNorm1d, 512), nn.ReLU()),
        )
        he_start(self.modules())

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (N, c, y, x) to features (N, 512)."""
        y, x = crops.shape[-2:]
        if min(y, x) < self.size:
            raise ValueError(f"crops of {y} x {x} pixels; this encoder wants {self.size} or more (encoder.size)")
        top, left = (y - self.size) // 2, (x - self.size) // 2
        middle = crops[:, :, top : top + self.size, left : left + self.size]
        out: Tensor = self.full(self.convolutions(middle).flatten(1))
        return out


class SmallResNet(nn.Module):
    """A small residual network for cell crops, quick enough for a CPU.

    A strided layer, then ``depth`` residual blocks that halve the image and double the width, normalised within each
    crop; then the mean and the maximum over positions side by side: the mean tells the texture of a cell, the maximum
    a single bright spot. Each feature is scaled to mean 0 and variance 1, by running averages in evaluation.

    Parameters
    ----------
    n_channels : int
    width : int
        Channels after the first layer, a multiple of 8.
    depth : int
        Residual blocks; there are ``2 * width * 2 ** depth`` features.
    pooled : bool
        Otherwise a map of half as many features, a position every ``2 ** (depth + 1)`` pixels.

    References
    ----------
    He et al. 2016, CVPR, doi:10.1109/CVPR.2016.90; Wu, He 2018, ECCV (group normalisation),
    doi:10.1007/978-3-030-01261-8_1

    Examples
    --------
    >>> encoder = SmallResNet(n_channels=3)
    >>> encoder(torch.zeros(2, 3, 64, 64)).shape, encoder.n_features
    (torch.Size([2, 256]), 256)
    """

    def __init__(
        self, n_channels: int, width: int = 16, depth: Annotated[int, Range(0)] = 3, pooled: bool = True
    ) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise ValueError(f"width {width}: wanted a multiple of 8 (channels are normalised in groups of 8)")
        widths = [width * 2**block for block in range(depth + 1)]
        self.stem = nn.Sequential(_convolution(n_channels, width, stride=2), _group_norm(width), nn.ReLU())
        self.blocks = nn.Sequential(*(ResidualBlock(i, o, stride=2) for i, o in pairwise(widths)))
        self.n_features = 2 * widths[-1] if pooled else widths[-1]
        self.stride, self.pooled = 2 ** (depth + 1), pooled
        self.scale = (nn.BatchNorm1d if pooled else nn.BatchNorm2d)(self.n_features, affine=False)
        he_start(self.modules())

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (N, c, y, x) to features (N, d), or to their map."""
        maps = self.blocks(self.stem(crops))  # (N, d / 2, y / stride, x / stride)
        joined = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1) if self.pooled else maps
        return cast(Tensor, self.scale(joined))

    def first_centre(self, n: int) -> float:
        """Centre of the first position along an axis of n pixels (`cellpheno.models.positions`)."""
        return first_centre(self, n)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; a stride halves the image."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_convolution(n_in, n_out, stride), _group_norm(n_out), nn.ReLU())
        self.second = nn.Sequential(_convolution(n_out, n_out), _group_norm(n_out))
        same = n_in == n_out and stride == 1
        self.stride = stride
        self.shortcut = nn.Identity() if same else nn.Conv2d(n_in, n_out, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (N, n_in, y, x) into maps (N, n_out, y / stride, x / stride)."""
        # thinned out before: on some CPUs the gradient of a 1 x 1 convolution with a stride writes outside its memory.
        # A pool of one pixel, whose gradient keeps the maps' layout; that of a slice does not, and its sum is slow
        thinned = avg_pool2d(maps, 1, self.stride)
        return relu(self.second(self.first(maps)) + self.shortcut(thinned))


class KrausNet(nn.Module):
    """A fully convolutional network after Kraus et al. 2016, for whole fields of any size and for crops.

    Convolutions 3 x 3 x 32, 3 x 3 x 32, pool, 5 x 5 x 64, pool, 3 x 3 x 128, pool, 3 x 3 x 128, pool, 1 x 1 x 1000;
    each pool takes the maximum of 3 x 3 positions and halves the map. A linear head on each position of the map is
    their last 1 x 1 convolution, whose class maps the poolings of `cellpheno.models.pooling` take together.

    Ours, and not theirs: batch normalisation after every convolution, padding everywhere (the map has
    ``ceil(n / (16 * shrink))`` positions), and binning without overlap before the first layer.

    Parameters
    ----------
    n_channels : int
    shrink : int
        Side, in pixels, of the squares that are averaged before the first layer; 1 for crops of single cells.
    pooled : bool
        Otherwise the map itself, a position every ``16 * shrink`` pixels.

    References
    ----------
    Kraus, Ba, Frey 2016, Bioinformatics 32(12), i52, doi:10.1093/bioinformatics/btw252

    Examples
    --------
    >>> field = torch.zeros(1, 3, 96, 70)
    >>> KrausNet(n_channels=3, pooled=False).eval()(field).shape, KrausNet(n_channels=3).eval()(field).shape
    (torch.Size([1, 1000, 3, 3]), torch.Size([1, 1000]))
    """

    n_features = 1000

    def __init__(self, n_channels: int, shrink: Annotated[int, Range(1)] = 2, pooled: bool = True) -> None:
        super().__init__()
        self.stride, self.pooled = 16 * shrink, pooled
        layers: list[nn.Module] = [nn.AvgPool2d(shrink, ceil_mode=True)]
        for width, side in ((32, 3), (32, 3), (0, 3), (64, 5), (0, 3), (128, 3), (0, 3), (128, 3), (0, 3), (1000, 1)):
            if width:
                convolution = nn.Conv2d(n_channels, width, side, padding=side // 2, bias=False)
                layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
                n_channels = width
            else:  # a pool
                layers.append(nn.MaxPool2d(side, stride=2, padding=1))
        self.layers = nn.Sequential(*layers)
        he_start(self.modules())

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, c, y, x) to features (N, d), the mean over positions, or to their map."""
        maps = cast(Tensor, self.layers(images))
        return maps.mean((2, 3)) if self.pooled else maps

    def first_centre(self, n: int) -> float:
        """Centre of the first position along an axis of n pixels (`cellpheno.models.positions`)."""
        return first_centre(self, n)


TINY = 1e-12  # added to the variance of a feature; one that varies less in training says nothing


class Features(nn.Module):
    """For features that another encoder made (`cellpheno.training.embed`): a feature is a channel of a one-pixel crop.

    Each feature is scaled to mean 0 and variance 1: by the batch in training, by the average over all training batches
    in evaluation. A value that is undefined (nan) or infinite counts as the feature's mean, and so does any value of a
    feature that did not vary in training: no weight learned from it. A hidden layer with a ReLU may follow.

    Parameters
    ----------
    n_channels : int
        Features that come in.
    hidden : int or None
        Units of the hidden layer; None: there is none, and the head and the pooling see the scaled features.

    Examples
    --------
    >>> encoder = Features(n_channels=1280, hidden=64)
    >>> encoder(torch.zeros(2, 1280, 1, 1)).shape, Features(n_channels=1280).n_features
    (torch.Size([2, 64]), 1280)
    """

    def __init__(self, n_channels: int, hidden: Annotated[int | None, Range(1)] = None) -> None:
        super().__init__()
        # Features do not move while they are trained on, so all batches weigh alike in the average (momentum=None).
        self.scale = nn.BatchNorm1d(n_channels, eps=TINY, affine=False, momentum=None)
        # The first values seen are subtracted: what never varies is 0 then, and not the rounding of its own mean.
        self.register_buffer("origin", torch.zeros(n_channels))
        self.layer = nn.Identity() if hidden is None else nn.Sequential(nn.Linear(n_channels, hidden), nn.ReLU())
        self.n_features = n_channels if hidden is None else hidden
        he_start(self.modules())

    def forward(self, crops: Tensor) -> Tensor:
        """One-pixel crops (N, c, 1, 1) to features (N, d)."""
        if crops.shape[2:] != (1, 1):
            y, x = crops.shape[2:]
            raise ValueError(f"crops of {y} x {x} pixels; this encoder wants cached features, crops of 1 x 1")
        values = self._filled(crops.flatten(1))
        if self.training and not cast(Tensor, self.scale.num_batches_tracked):
            cast(Tensor, self.origin).copy_(values[0])
        scaled = self.scale(values - cast(Tensor, self.origin))
        if not self.training:
            scaled = scaled.where(cast(Tensor, self.scale.running_var) > TINY, 0.0)
        return cast(Tensor, self.layer(scaled))

    def _filled(self, values: Tensor) -> Tensor:
        """Values (N, d) without gaps, which would spoil the mean of the whole batch."""
        if values.sum().isfinite():  # one pass; a sum of finite values that overflows costs the next lines' time only
            return values
        known = values.isfinite()
        there = values.where(known, 0.0)
        batch = there.sum(0) / known.sum(0).clamp(min=1)  # (d,)
        middle = batch if self.training else cast(Tensor, self.scale.running_mean) + cast(Tensor, self.origin)
        return torch.where(known, there, middle)


def _convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)


class _GroupNorm(nn.GroupNorm):
    """Normalise in float32 under autocast too, as CUDA does; torch's bfloat16 kernel on CPUs is slow, channels last."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, c, y, x), which keep their type."""
        if not torch.is_autocast_enabled(maps.device.type):
            return super().forward(maps)
        with torch.autocast(maps.device.type, enabled=False):
            return super().forward(maps.float()).to(maps.dtype)


def _group_norm(width: int) -> nn.GroupNorm:
    return _GroupNorm(width // 8, width)


def _batch_norm(kind: type[nn.BatchNorm1d] | type[nn.BatchNorm2d], width: int) -> nn.Module:
    return kind(width, eps=1e-3, momentum=0.5)  # DeepLoc's; its moving average decays by 0.5


def he_start(modules: Iterator[nn.Module]) -> None:
    """He's start for convolutions and full layers."""
    for module in modules:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

"""Networks for any number of channels: a first layer that is adapted, or one network for each channel alone."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn


def channel_mixing(n_from: int, n_to: int) -> Tensor:
    """Share of each new channel in what stands in for each old channel.

    Both sets of channels are spread evenly over one line; the share is the part of the old channel's span that the new
    channel covers. The shares of an old channel sum to one, all new channels weigh alike, equal numbers give the
    identity, and a single new channel stands in for all, as a grey picture does for red, green and blue.

    Parameters
    ----------
    n_from, n_to : int
        Channels that a network was trained with, and channels that it shall take.

    Returns
    -------
    Tensor of shape (n_from, n_to), float32

    Examples
    --------
    >>> channel_mixing(3, 2).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    # on a line of n_from * n_to units an old channel spans n_to units, a new one n_from
    old, new = torch.arange(n_from)[:, None] * n_to, torch.arange(n_to)[None, :] * n_from
    overlap = torch.minimum(old + n_to, new + n_from) - torch.maximum(old, new)
    return overlap.clamp(min=0) / n_to


def adapt_channels(weight: Tensor, n_channels: int) -> Tensor:
    """Turn the weights of a network's first layer into weights for another number of channels.

    A picture whose channels are all alike gives what it gave before; equal numbers leave the weights untouched.

    Parameters
    ----------
    weight : Tensor of shape (d, c, y, x)
    n_channels : int

    Returns
    -------
    Tensor of shape (d, n_channels, y, x)

    Examples
    --------
    >>> adapt_channels(torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1), 1).item()
    7.0
    """
    mixing = channel_mixing(weight.shape[1], n_channels).to(weight)
    return torch.einsum("dcyx,ck->dkyx", weight, mixing)


class PerChannel(nn.Module):
    """One network that sees each channel alone; the features of all channels stand side by side.

    Whatever the channels are called and however many there are, none is mixed with another before the head. The work
    grows with the number of channels.

    Parameters
    ----------
    n_channels : int
    encoder : callable
        Makes the network, given ``n_channels=1``; its weights are shared by all channels.

    Examples
    --------
    >>> from cellpheno.models.encoders import SmallResNet
    >>> encoder = PerChannel(n_channels=5, encoder=SmallResNet)
    >>> encoder(torch.zeros(2, 5, 32, 32)).shape, encoder.n_features
    (torch.Size([2, 1280]), 1280)
    """

    def __init__(self, n_channels: int, encoder: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder(n_channels=1)
        self.n_features = n_channels * cast(int, self.encoder.n_features)
        self.pooled: bool = getattr(self.encoder, "pooled", True)
        self.stride = getattr(self.encoder, "stride", None)

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (N, c, y, x) to features (N, d) or their map, those of the first channel first."""
        alone = crops.flatten(0, 1)[:, None]  # (N * c, 1, y, x)
        features = cast(Tensor, self.encoder(alone))  # (N * c, d / c) or (N * c, d / c, y', x')
        return features.reshape(len(crops), self.n_features, *features.shape[2:])

    def first_centre(self, n: int) -> float:
        """Centre of the first position of the network's map along an axis of n pixels."""
        return cast(float, cast(Any, self.encoder).first_centre(n))

"""Crops or tiles to features by an encoder that no longer learns: once for all trainings that only need those."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as dump_tensors
from torch import nn

from cellpheno.errors import InputError
from cellpheno.images.crops import Crops
from cellpheno.training.bags import Limits, Normalization, normalize
from cellpheno.training.fit import reproducible
from cellpheno.training.instances import Instances

PIECE = 256  # cells that are encoded at once, so that memory does not grow with the well


def embed_well(
    encoder: nn.Module,
    instances: Instances,
    place: Path | str,
    plate: str,
    normalization: Normalization,
    limits: Limits,
    *,
    piece: int = PIECE,
    threads: int = 1,
    device: torch.device | str = "cpu",
) -> Crops:
    """Encode the cells or tiles of one well, alone and in pieces of one size.

    Parameters
    ----------
    encoder : nn.Module
        Crops (n, c, y, x) to features (n, d); it is put into evaluation mode and onto the device.
    instances : Instances
        What is encoded.
    place : path
        Where the well's instances stand.
    plate : str
    normalization : Normalization
    limits : mapping of str to ndarray of shape (1, c, 2)
        Of each plate (`cellpheno.training.bags.plate_limits`).
    piece : int
        Instances at once.
    threads : int
        CPU threads; part of the result, since sums round differently.
    device : torch.device or str
        Where the encoder works; part of the result, as threads are.

    Returns
    -------
    Crops
        ``pixels`` (n, d, 1, 1), float32: a feature is a channel of a picture of one pixel. Instances in their order.

    Raises
    ------
    DamagedInput
        If the crops are lost or damaged.
    """
    encoder.to(device).eval()
    n = instances.count(place)
    parts = []
    with reproducible(0, threads), torch.inference_mode():
        for start in range(0, max(n, 1), piece):  # a well without cells: one empty piece, which has d too
            crops = instances.read(place, slice(start, min(start + piece, n)))
            pixels = crops.pixels if n else np.zeros((1, *crops.pixels.shape[1:]), crops.pixels.dtype)
            ready = normalize(pixels, plate, normalization, limits).to(device)
            features = encoder(ready.contiguous(memory_format=torch.channels_last))[: len(crops.pixels)]
            parts.append(crops._replace(pixels=features[:, :, None, None].float().cpu().numpy()))
    return Crops(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def fixed_encoder(encoder: Callable[..., nn.Module], n_channels: int) -> nn.Module:
    """Build an encoder that comes with weights of its own.

    Raises
    ------
    InputError
        If its weights are drawn at random: it is built twice, and two seeds must give the same weights.

    Examples
    --------
    >>> from cellpheno.models.encoders import SmallResNet
    >>> fixed_encoder(SmallResNet, n_channels=3)
    Traceback (most recent call last):
    cellpheno.errors.InputError: the weights of this encoder are random, and features of random weights mean little: ...
    """
    built = []
    for seed in (0, 1):
        with reproducible(seed, torch.get_num_threads()):
            built.append(encoder(n_channels=n_channels).to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    network: nn.Module = built[0]
    if weights_hash(network) != weights_hash(built[1]):
        raise InputError(
            "the weights of this encoder are random, and features of random weights mean little: give "
            "encoder@embed_encoder=efficientnet_lite0 or per_channel (ImageNet's weights), or start=FOLDER of a model"
        )
    return network


def weights_hash(network: nn.Module) -> str:
    """SHA-256 of a network's weights and running averages: 64 hexadecimal digits.

    Examples
    --------
    >>> weights_hash(nn.Identity())[:8]
    '9bbcbf73'
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    return hashlib.sha256(dump_tensors(weights)).hexdigest()

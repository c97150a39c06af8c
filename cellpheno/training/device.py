"""Where networks compute: on the CPU, on a GPU, or on another device that torch has."""

from collections.abc import Callable

import pytorch_lightning as pl
import torch

from cellpheno.errors import InputError
from cellpheno.training.fit import quiet


def find_device(device: str) -> torch.device:
    """Find a device by its name.

    Parameters
    ----------
    device : str
        A name of torch's, such as ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; or as a trainer calls them ``gpu``, the one
        that is here, and ``auto``, that one or else the CPU.

    Raises
    ------
    InputError
        If it is not here; what is here stands beside it.

    Examples
    --------
    >>> find_device("cpu")
    device(type='cpu')
    """
    gpu = torch.accelerator.current_accelerator(check_available=True)
    here = ["cpu", *(f"{gpu.type}:{i}" for i in range(torch.accelerator.device_count()) if gpu is not None)]
    name = here[-1].partition(":")[0] if device == "auto" or (device == "gpu" and gpu is not None) else device
    try:
        found = torch.device(name)
        known = (found.index or 0) < torch.get_device_module(found).device_count()
    except (RuntimeError, AttributeError):  # a name of no device, or of one on which nothing can be computed
        known = False
    if not known:
        raise InputError(
            f"device={device}: torch {torch.__version__} finds no such device here, but {', '.join(here)}; give one of "
            "them, or install a torch that has it"
        )
    return found


def device_of(trainer: Callable[..., pl.Trainer]) -> torch.device:
    """Device on which a trainer trains, where its networks then predict too.

    Examples
    --------
    >>> from functools import partial
    >>> device_of(partial(pl.Trainer, accelerator="cpu"))
    device(type='cpu')
    """
    with quiet():
        return trainer(logger=False, enable_progress_bar=False).strategy.root_device


def rounding(threads: int, device: torch.device) -> int | str:
    """What the last digits of a result depend on, for keys: the threads of a CPU, or another kind of device.

    Examples
    --------
    >>> rounding(2, torch.device("cpu")), rounding(2, torch.device("cuda:1"))
    (2, 'cuda')
    """
    return threads if device.type == "cpu" else device.type

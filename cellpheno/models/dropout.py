"""Random numbers of a training step that cost little beside it."""

import torch
from torch import Tensor, nn


def seed_device(device: torch.device, seed: int) -> None:
    """Seed the numbers that a device draws, as `torch.manual_seed` does, and those of the CPU.

    That one also notes a stack trace for each kind of device that is not there, a tenth of a small network's step.

    Examples
    --------
    >>> seed_device(torch.device("cpu"), 3)
    >>> torch.rand(1).item() == torch.rand(1, generator=torch.Generator().manual_seed(3)).item()
    True
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


class Dropout(nn.Module):
    """Set features to zero at random in training and scale the others up, as torch's own does, an eighth of the draws.

    A byte decides for a feature, eight bytes come from one draw, so ``p`` is rounded to a multiple of 1/256. On CPUs
    torch draws a number a feature, which took half of a training step on 3,840 features.

    Parameters
    ----------
    p : float
        Fraction of the features that are dropped, 0 to 1 - 1/512.

    References
    ----------
    Srivastava et al. 2014, J Mach Learn Res 15, 1929

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> dropped = Dropout(0.25)(torch.ones(1000, 100))
    >>> dropped.unique().tolist(), round(float((dropped == 0).float().mean()), 2)
    ([0.0, 1.3333333730697632], 0.25)
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.dropped = round(256 * p)  # of 256
        if not 0 <= self.dropped < 256:
            raise ValueError(f"dropout={p}: wanted 0 or more and less than 1")

    def forward(self, features: Tensor) -> Tensor:
        """Features of any shape, the same shape again."""
        if not self.training or not self.dropped:
            return features
        draws = torch.empty(-(-features.numel() // 8), dtype=torch.int64, device=features.device)
        draws.random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: features.numel()].view(features.shape) >= self.dropped
        return features * kept * (256 / (256 - self.dropped))

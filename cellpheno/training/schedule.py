"""Learning-rate schedules: ``schedule(optimizer, n_steps)``, stepped after every batch."""

import math
from typing import Annotated

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from cellpheno.bounds import Range


def one_cycle(
    optimizer: Optimizer,
    n_steps: int,
    warmup: Annotated[float, Range(0, 1)] = 0.1,
    final: Annotated[float, Range(0, 1)] = 0.01,
) -> LambdaLR:
    """Rise in a line to the optimizer's own rate, then fall along half a cosine.

    Parameters
    ----------
    optimizer : Optimizer
    n_steps : int
        Steps of the whole run.
    warmup : float
        Share of the steps in which the rate rises.
    final : float
        Last rate, as a share of the optimizer's own.

    References
    ----------
    Smith, Topin 2019, Proc SPIE 11006, doi:10.1117/12.2520589; Loshchilov, Hutter 2017, ICLR (cosine),
    doi:10.48550/arXiv.1608.03983

    Examples
    --------
    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> rate = one_cycle(optimizer, n_steps=100).lr_lambdas[0]
    >>> [round(rate(step), 3) for step in (0, 9, 10, 55, 100)]
    [0.1, 1.0, 1.0, 0.505, 0.01]
    """
    rising = max(1, round(warmup * n_steps))

    def rate(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, n_steps - rising))
        return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, rate)

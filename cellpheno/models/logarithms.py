"""Logarithms of small differences, exact where the number itself would round to 0 or to 1.

Arguments come as logarithms too. Where ``f(x)`` starts as ``x``, ``log f(x)`` is ``log x`` below ``exp(-40)``, to the
last digit of float64; the clamp keeps the gradient of the branch that is not taken finite.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_TINY = -40.0


def log_1_minus_exp(log_x: Tensor) -> Tensor:
    """``log(1 - exp(-x))`` from ``log x``.

    Examples
    --------
    >>> log_1_minus_exp(torch.tensor([-500.0, 0.0])).tolist()
    [-500.0, -0.4586751461029053]
    """
    x = log_x.clamp_min(_TINY).exp()
    return torch.where(log_x < _TINY, log_x, (-torch.expm1(-x)).log())


def log_softplus(x: Tensor) -> Tensor:
    """``log(log(1 + exp(x)))``.

    Examples
    --------
    >>> log_softplus(torch.tensor([-500.0, 0.0])).tolist()
    [-500.0, -0.3665129244327545]
    """
    return torch.where(x < _TINY, x, (-logsigmoid(-x.clamp_min(_TINY))).log())


def log_minus_log(log_x: Tensor, log_rest: Tensor) -> Tensor:
    """``log(-log x)`` from ``log x`` and ``log(1 - x)``; the latter serves where x is near 1.

    Examples
    --------
    >>> log_minus_log(torch.tensor([0.0, -2.0]), torch.tensor([-500.0, -0.1454])).tolist()
    [-500.0, 0.6931471824645996]
    """
    rest = log_rest.clamp(_TINY, -0.5).exp()  # below 1, so that no logarithm of 0 has a gradient
    near_1 = torch.where(log_rest < _TINY, log_rest, (-torch.log1p(-rest)).log())
    return torch.where(log_rest < math.log(0.5), near_1, (-log_x.clamp_max(-0.5)).log())

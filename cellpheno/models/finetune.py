"""Fine-tuning: start from trained weights, keep some layers as they are, let others learn slowly.

Layers are named as in ``module.named_modules()``, such as ``encoder.blocks.3``; a name stands for all that is inside,
and a part of it may be a range: ``encoder.blocks.0-4``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from cellpheno.models.channels import adapt_channels


def start_from(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give a network the weights of a trained one that differs in its number of channels at most.

    Parameters
    ----------
    module : nn.Module
        Its first convolution is the one that sees the channels.
    weights : mapping of str to Tensor
        The ``state_dict`` of the trained network.

    Raises
    ------
    RuntimeError
        If the weights belong to another network; names the layers.

    References
    ----------
    Kraus et al. 2017 (transfer to other screens), doi:10.15252/msb.20177551

    Examples
    --------
    >>> two, three = nn.Conv2d(2, 4, 3), nn.Conv2d(3, 4, 3)
    >>> start_from(three, two.state_dict())
    >>> bool((three.weight.sum(1) - two.weight.sum(1)).abs().max() < 1e-6)
    True
    """
    first = [(name, weight) for name, weight in module.named_parameters() if weight.ndim == 4][:1]
    adapted = {name: adapt_channels(weights[name], own.shape[1]) for name, own in first if name in weights}
    module.load_state_dict({**weights, **adapted})


def freeze(module: nn.Module, layers: int | str | Sequence[str]) -> None:
    """Keep layers as they are: their weights are not trained, their normalisation stays in evaluation.

    Lightning lets each layer keep its mode. Elsewhere call this again after ``module.train()``, which wakes all.

    Parameters
    ----------
    module : nn.Module
    layers : int, str or sequence of str
        Names, or a depth: so many layers with weights, counted from the input, and the normalisation behind each.

    Raises
    ------
    ValueError
        If a name fits no layer, or there are fewer layers.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    >>> freeze(net, 1)
    >>> [name for name, weight in net.named_parameters() if weight.requires_grad], net[1].training
    (['3.weight', '3.bias'], False)
    """
    names = first_layers(module, layers) if isinstance(layers, int) else [layers] if isinstance(layers, str) else layers
    for name in names:
        for layer in _named(module, name):
            layer.requires_grad_(False).eval()


def first_layers(module: nn.Module, n: int) -> list[str]:
    """Names of a network's first ``n`` layers with weights and of what follows each, up to the next.

    Examples
    --------
    >>> first_layers(nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)), 1)
    ['0', '1']
    """
    names, seen = [], 0
    for name, part in module.named_modules():
        if next(part.children(), None) is None:
            seen += any(weight.ndim > 1 for weight in part.parameters())
            if 0 < seen <= n:
                names.append(name)
    if not 0 <= n <= seen:
        raise ValueError(f"{n} layers; {type(module).__name__} has {seen} layers with weights")
    return names


def parameter_groups(module: nn.Module, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Weights for an optimizer, some with learning rates of their own; frozen weights are left out.

    Parameters
    ----------
    module : nn.Module
    rates : mapping of str to float
        Learning rate of each named layer; where several names fit a weight, the one with most parts counts. Other
        weights have the optimizer's rate.

    Returns
    -------
    list of dict
        Parameter groups of torch; the one with the optimizer's rate comes first.

    Raises
    ------
    ValueError
        If a name fits no layer.

    References
    ----------
    Howard, Ruder 2018 (discriminative fine-tuning), doi:10.18653/v1/P18-1031

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> optimizer = torch.optim.SGD(parameter_groups(net, {"0": 0.001}), lr=0.1)
    >>> [(group["lr"], len(group["params"])) for group in optimizer.param_groups]
    [(0.1, 2), (0.001, 2)]
    """
    rate_of: dict[nn.Parameter, str] = {}
    for name in sorted(rates, key=lambda name: name.count(".")):
        for layer in _named(module, name):
            rate_of |= dict.fromkeys(layer.parameters(), name)
    trained = [weight for weight in module.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [{"params": [weight for weight in trained if weight not in rate_of]}]
    groups += [{"params": [w for w in trained if rate_of.get(w) == name], "lr": rate} for name, rate in rates.items()]
    return [group for group in groups if group["params"]]


def _named(module: nn.Module, pattern: str) -> list[nn.Module]:
    """The layers that a name stands for."""
    wanted = [_numbers(part) for part in pattern.split(".")]
    found = [
        layer
        for name, layer in module.named_modules()
        if len(parts := name.split(".")) == len(wanted)
        and all(part in allowed for part, allowed in zip(parts, wanted, strict=True))
    ]
    if not found:
        known = [name for name, _ in module.named_children()]
        raise ValueError(f"no layer {pattern!r} in {type(module).__name__}, which has {', '.join(known)}")
    return found


def _numbers(part: str) -> Sequence[str]:
    """``"0-4"`` to ``"0"`` ... ``"4"``; any other part of a name is itself."""
    low, dash, high = part.partition("-")
    return [str(i) for i in range(int(low), int(high) + 1)] if dash and (low + high).isdigit() else [part]

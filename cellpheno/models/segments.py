"""Sums over the bags of a ragged batch: ``bag[i]`` is the bag of instance ``i``; nothing is padded, no mask exists.

Axes: N instances in the batch, B bags, K columns, d features. All is computed in float32 at least, whatever the
autocast: sums over 10^5 instances drift in half precision.

`BagSums` are running sums. They are kept as logarithms, so that no power overflows, and two of them merge into one: a
bag that does not fit into memory is added piece by piece.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


class BagSums(NamedTuple):
    """What is known of each bag after some of its instances, by `bag_sums`."""

    size: Tensor  # (B,) instances so far
    top: Tensor  # (B, K) largest term so far, the lowest finite number before the first
    total: Tensor  # (B, K) sum of exp(term - top)
    values: Tensor | None  # (B, d) sum of exp(term - top) * value, with K = 1; None where nothing is weighted


def bag_sums(terms: Tensor, bag: Tensor, n_bags: int, values: Tensor | None = None) -> BagSums:
    """Sum the exponentials of the terms of each bag, and the values that they weigh.

    Bags without an instance are allowed: their instances may come in another piece.

    Parameters
    ----------
    terms : Tensor of shape (N, K), float
        Logarithms of what is summed.
    bag : Tensor of shape (N,), int64, in 0..n_bags-1, in any order
    n_bags : int
    values : Tensor of shape (N, d), float, optional
        Weighed by the exponential of the only column of terms.

    Returns
    -------
    BagSums
        In the widest dtype of terms, values and float32.

    Raises
    ------
    ValueError
        If a bag index is too high.

    Examples
    --------
    >>> sums = bag_sums(torch.tensor([[0.0], [0.0], [7.0]]), torch.tensor([0, 0, 1]), 2)
    >>> sums.size.tolist(), sums.top.tolist(), sums.total.tolist()
    ([2, 1], [[0.0], [7.0]], [[2.0], [1.0]])
    """
    size = _count(bag, n_bags)
    terms = at_least_float32(terms)
    if values is not None:
        terms = terms.to(torch.promote_types(terms.dtype, values.dtype))
        values = values.to(terms.dtype)
    top = _finite_top(terms, bag, n_bags)
    powers = (terms - top[bag]).exp()  # (N, K)
    weighed = None if values is None else _weighed_sum(powers[:, 0], values, bag, size)  # (B, d)
    return BagSums(size, top, bag_sum(powers, bag, n_bags), weighed)


def _weighed_sum(weights: Tensor, values: Tensor, bag: Tensor, size: Tensor) -> Tensor:
    """Sum (B, d) of weights (N,) times values (N, d) in one pass: neither the products nor their gradients are kept."""
    order = bag.argsort(stable=True)  # bag after bag
    first = size.cumsum(0) - size
    return embedding_bag(order, values, first, mode="sum", per_sample_weights=weights[order])


def merge(first: BagSums, second: BagSums) -> BagSums:
    """Join what is known of the same bags from two pieces.

    Examples
    --------
    >>> bag = torch.zeros(2, dtype=torch.long)
    >>> pieces = [bag_sums(torch.tensor([[1.0], [2.0]]), bag, 1), bag_sums(torch.tensor([[3.0], [4.0]]), bag, 1)]
    >>> round(log_total(merge(*pieces)).item(), 4), round(torch.logsumexp(torch.arange(1.0, 5), 0).item(), 4)
    (4.4402, 4.4402)
    """
    top = torch.maximum(first.top, second.top)
    one, two = (first.top - top).exp(), (second.top - top).exp()  # (B, K)
    values = None
    if first.values is not None and second.values is not None:
        values = first.values * one + second.values * two
    return BagSums(first.size + second.size, top, first.total * one + second.total * two, values)


def share(part: BagSums, whole: BagSums) -> Tensor:
    """Share (B, K) of a piece in the sums of its bags: times this, a weight within the piece is one within the bag.

    Examples
    --------
    >>> bag = torch.zeros(1, dtype=torch.long)
    >>> few, many = bag_sums(torch.tensor([[0.0]]), bag, 1), bag_sums(torch.tensor([[3.0]]).log(), bag, 1)
    >>> round(share(many, merge(few, many)).item(), 4)
    0.75
    """
    return (part.top - whole.top).exp() * part.total / whole.total


def log_total(sums: BagSums) -> Tensor:
    """Logarithm (B, K) of the sum of exp(term); ValueError if a bag is empty.

    Examples
    --------
    >>> log_total(bag_sums(torch.tensor([[900.0], [900.0]]), torch.tensor([0, 1]), 2)).tolist()
    [[900.0], [900.0]]
    """
    refuse_empty(sums.size)
    return sums.top + sums.total.log()


def log_mean(sums: BagSums) -> Tensor:
    """Logarithm (B, K) of the mean of exp(term); ValueError if a bag is empty.

    Examples
    --------
    >>> log_mean(bag_sums(torch.tensor([[900.0], [900.0]]), torch.tensor([0, 0]), 1)).tolist()
    [[900.0]]
    """
    return log_total(sums) - sums.size[:, None].to(sums.top.dtype).log()


def bag_sizes(bag: Tensor, n_bags: int) -> Tensor:
    """Count the instances of each bag (B,) and refuse empty ones.

    Raises
    ------
    ValueError
        If a bag is empty (a pooled value of nothing is not a number that anyone should see), or an index is too high.

    Examples
    --------
    >>> bag_sizes(torch.tensor([0, 1, 0]), 2).tolist()
    [2, 1]
    """
    size = _count(bag, n_bags)
    refuse_empty(size)
    return size


def refuse_empty(size: Tensor) -> None:
    """Raise ValueError if one of the bags with ``size`` (B,) instances is empty.

    Examples
    --------
    >>> refuse_empty(torch.tensor([4, 0]))
    Traceback (most recent call last):
        ...
    ValueError: bags [1] of 2 hold no instance; leave them out of the batch
    """
    if empty := (size == 0).nonzero().flatten().tolist():
        raise ValueError(f"bags {empty} of {len(size)} hold no instance; leave them out of the batch")


def bag_sum(values: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Sum (B, K) of the values (N, K) of each bag; the sum of nothing is 0.

    Examples
    --------
    >>> bag_sum(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2).tolist()
    [[4.0], [5.0]]
    """
    values = at_least_float32(values)
    return values.new_zeros(n_bags, values.shape[1]).index_add(0, bag, values)


def bag_max(values: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Maximum (B, K) of the values (N, K) of each bag; the maximum of nothing is the lowest finite number.

    Examples
    --------
    >>> bag_max(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2).tolist()
    [[3.0], [5.0]]
    """
    values = at_least_float32(values)
    start = values.new_full((n_bags, values.shape[1]), torch.finfo(values.dtype).min)
    return start.scatter_reduce(0, bag[:, None].expand_as(values), values, "amax")


def bag_softmax(values: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Softmax (N, K) of the values (N, K) over the instances of each bag; ValueError if a bag is empty.

    Examples
    --------
    >>> bag_softmax(torch.tensor([[0.0], [0.0], [5.0]]), torch.tensor([0, 0, 1]), 2).flatten().tolist()
    [0.5, 0.5, 1.0]
    """
    bag_sizes(bag, n_bags)
    values = at_least_float32(values)
    values = values.clamp_max(torch.finfo(values.dtype).max)  # infinite ones share the bag
    top = _finite_top(values, bag, n_bags)
    powers = (values - top[bag]).exp()  # (N, K)
    return powers / bag_sum(powers, bag, n_bags)[bag]


def _finite_top(terms: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """What is subtracted in each bag (B, K), only to keep exp in range; finite, for inf - inf is no number."""
    return bag_max(terms.detach(), bag, n_bags).clamp_max(torch.finfo(terms.dtype).max)


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32, or in float64 if they came so.

    Examples
    --------
    >>> at_least_float32(torch.ones(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _count(bag: Tensor, n_bags: int) -> Tensor:
    size = torch.bincount(bag, minlength=n_bags)
    if len(size) > n_bags:
        raise ValueError(f"bag index {len(size) - 1} in a batch of {n_bags} bags; wanted 0 to {n_bags - 1}")
    return size

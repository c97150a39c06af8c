"""Ranks of grey levels, within groups of pixels."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.kernel import kernel


def dense_ranks(pointer: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.int32]:
    """Rank the pixels of each group by value: equal values share a rank, ranks have no gaps.

    Parameters
    ----------
    pointer : ndarray of shape (n + 1,), int64
        The pixels of group ``i`` are ``pointer[i]:pointer[i + 1]``.
    values : ndarray of shape (P,), uint8, uint16 or float
        Free of nan.

    Returns
    -------
    ndarray of shape (P,), int32
        0 for the lowest value of a group, 1 for the next.

    Examples
    --------
    >>> dense_ranks(np.array([0, 4, 6]), np.array([7, 3, 7, 9, 5, 4], np.uint8)).tolist()
    [1, 0, 1, 2, 1, 0]
    """
    if values.dtype.kind == "u":
        return _rank_by_table(pointer, values.astype(np.uint16, copy=False))
    ordered = values.copy()
    for start, stop in pairwise(pointer):
        ordered[start:stop].sort()
    first = np.empty(2 * np.diff(pointer).max(initial=0) + 1, np.int32)
    return _rank_by_search(pointer, values.astype(np.float64), ordered.astype(np.float64, copy=False), first)


@kernel
def _rank_by_table(pointer: NDArray[np.int64], values: NDArray[np.uint16]) -> NDArray[np.int32]:
    ranks = np.empty(values.size, np.int32)
    table = np.zeros(2**16, np.int32)  # 1 where a level occurs, then its rank
    for group in range(pointer.size - 1):
        start, stop = pointer[group], pointer[group + 1]
        low, high = 2**16, -1
        for i in range(start, stop):
            level = int(values[i])
            table[level] = 1
            low, high = min(low, level), max(high, level)
        rank = 0
        for level in range(low, high + 1):
            occurs = table[level]
            table[level] = rank
            rank += occurs
        for i in range(start, stop):
            ranks[i] = table[values[i]]
        for level in range(low, high + 1):
            table[level] = 0
    return ranks


@kernel
def _rank_by_search(
    pointer: NDArray[np.int64], values: NDArray[np.float64], ordered: NDArray[np.float64], first: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Find each value among the sorted ones of its group; ``ordered`` is overwritten.

    Two equal bins a distinct value tell where to look, so that a search meets few of them: ``first`` receives
    the rank of the first distinct value in each bin or after it.
    """
    ranks = np.empty(values.size, np.int32)
    for group in range(pointer.size - 1):
        start, stop = pointer[group], pointer[group + 1]
        distinct = ordered[start:stop]
        n = 0
        for i in range(distinct.size):
            if n == 0 or distinct[i] != distinct[n - 1]:
                distinct[n] = distinct[i]
                n += 1
        bins_per_level = (2 * n - 1) / (distinct[n - 1] - distinct[0])
        if not np.isfinite(bins_per_level):
            bins_per_level = 0.0  # one value
        filled = 0
        for rank in range(n):
            own = np.int64((distinct[rank] - distinct[0]) * bins_per_level)
            while filled <= own:
                first[filled] = rank
                filled += 1
        for i in range(filled, 2 * n + 1):
            first[i] = n
        for i in range(start, stop):
            own = np.int64((values[i] - distinct[0]) * bins_per_level)
            low, high = first[own], first[own + 1]
            while high - low > 1:
                middle = (low + high) // 2
                if distinct[middle] <= values[i]:
                    low = middle
                else:
                    high = middle
            ranks[i] = low
    return ranks

"""Openings by reconstruction of every size at once, from one tree of the image."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.kernel import kernel


class OpeningTree(NamedTuple):
    """What each size of opening leaves of each pixel; P pixels, ranked from dark to bright.

    Attributes
    ----------
    rank : ndarray of shape (y, x), int32
        Rank of each pixel, 0..P-1; equal pixels in any order.
    level : ndarray of shape (P,), float64
        Grey level of each rank, ascending.
    size : ndarray of shape (P,), uint8
        Largest opening that leaves the pixel of this rank as it is.
    lower : ndarray of shape (P,), int32
        Rank to which the next larger opening lowers it; rank 0 is never lowered.
    """

    rank: NDArray[np.int32]
    level: NDArray[np.float64]
    size: NDArray[np.uint8]
    lower: NDArray[np.int32]


def opening_tree(image: NDArray[np.float64], sizes: int) -> OpeningTree:
    """Prepare the openings by reconstruction of an image with 1..sizes erosions by a cross.

    Opening k erodes the image k times and reconstructs the result under the image. It lowers a pixel to the brightest
    level at which the connected region of pixels of that level or more, around the pixel, outlives k erosions. These
    regions form a tree (the max-tree): one pass over the sorted pixels builds it, and k erosions of the ranks tell
    which regions outlive them, so that nothing is reconstructed image by image.

    Parameters
    ----------
    image : ndarray of shape (y, x), float64
        Finite.
    sizes : int
        1 to 255.

    References
    ----------
    Salembier et al. 1998, IEEE Transactions on Image Processing 7, 555-570, doi:10.1109/83.663500; Carlinet and Geraud
    2014, IEEE Transactions on Image Processing 23, 3885-3895, doi:10.1109/TIP.2014.2336551

    Examples
    --------
    >>> tree = opening_tree(np.array([[0.0, 1, 9, 1, 0]]), 2)  # one row: a cross does not fit into one pixel
    >>> tree.level[tree.lower[tree.rank[0, 2]]], tree.size[tree.rank[0, 2]]
    (np.float64(1.0), np.uint8(0))
    """
    height, width = image.shape
    order = np.argsort(image, axis=None)  # equal levels may come in any order: the result is the same
    rank = np.empty((height, width), np.int32)
    rank.ravel()[order] = np.arange(image.size, dtype=np.int32)
    parent = _parents(np.pad(rank, 1, constant_values=-1), order)
    size = _outlived(np.pad(rank, 1, constant_values=image.size), sizes)
    lower = _lower(parent, size)
    return OpeningTree(rank, np.take(image, order), size, lower)


@kernel
def _parents(rank: NDArray[np.int32], order: NDArray[np.int64]) -> NDArray[np.int32]:
    """Link each rank to the next darker one whose region holds its region; ``rank`` has a border of -1.

    From bright to dark, each pixel joins the regions beside it; ``root`` leads to the darkest pixel of a region.
    """
    stride = rank.shape[1]
    flat = rank.ravel()
    parent = np.arange(order.size).astype(np.int32)
    root = parent.copy()
    steps = (-stride, -1, 1, stride)
    for r in range(order.size - 1, -1, -1):
        y, x = divmod(order[r], stride - 2)
        place = (y + 1) * stride + x + 1
        for step in steps:
            other = flat[place + step]
            if other > r:
                while root[other] != other:
                    root[other] = root[root[other]]
                    other = root[other]
                if other != r:
                    parent[other] = root[other] = r
    return parent


@kernel
def _outlived(rank: NDArray[np.int32], sizes: int) -> NDArray[np.uint8]:
    """Give the number of erosions that each rank survives somewhere; ``rank`` has a border above all ranks."""
    height, width = rank.shape
    size = np.zeros((height - 2) * (width - 2), np.uint8)
    before, after = rank.copy(), rank.copy()
    for k in range(1, sizes + 1):
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                aside = min(before[y, x - 1], before[y, x + 1])
                after[y, x] = min(min(before[y, x], aside), min(before[y - 1, x], before[y + 1, x]))
        for y in range(1, height - 1):
            for x in range(1, width - 1):
                size[after[y, x]] = k
        before, after = after, before
    return size


@kernel
def _lower(parent: NDArray[np.int32], size: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Hand the sizes down to the regions that hold a region, then link each rank to the next that outlives it."""
    for r in range(parent.size - 1, 0, -1):
        size[parent[r]] = max(size[parent[r]], size[r])
    lower = np.zeros(parent.size, np.int32)
    for r in range(1, parent.size):
        below = parent[r]
        lower[r] = below if size[below] > size[r] else lower[below]
    return lower

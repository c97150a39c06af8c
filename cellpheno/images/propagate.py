"""Growing labels from seeds through an image: the "Propagation" by which CellProfiler finds cells round nuclei.

Pixels are nodes of a graph with eight neighbours each. The arrays are held flat with a rim of closed pixels, so that
neighbours and their surroundings are found by adding to an index, with no test of the borders.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.kernel import kernel

RIM = 2  # a neighbour, and the 3 x 3 pixels round it
MAX_BUCKETS = 4096  # each is looked at on every round, filled or not
NONE, APART = -1, -2  # no pixel before or after in the chain; in no chain


def propagate(
    image: NDArray[Any], seeds: NDArray[Any], mask: NDArray[Any], regularization: float = 0.05
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Give each pixel of a mask the label of the seed that is nearest along the image's surface.

    A step from pixel ``p`` to ``q`` costs ``sqrt(D^2 + s r^2)``: ``D`` is the sum of absolute differences of the 3 x 3
    pixels round ``p`` and round ``q``, ``s`` is 1 (side by side) or 2 (diagonal) and ``r`` the regularization. Borders
    between cells so come to lie on ridges and valleys of the image, or midway where it is flat.

    Parameters
    ----------
    image : ndarray of shape (y, x)
    seeds : ndarray of shape (y, x), int
        Label of each seed, 0 elsewhere. Seeds keep their pixels; those outside the mask do not grow.
    mask : ndarray of shape (y, x), bool
        Where labels may grow.
    regularization : float, grey levels
        Price of distance: large values ignore the image. 0.05 is CellProfiler's default for images of range 0 to 1.

    Returns
    -------
    labels : ndarray of shape (y, x), int32
        0 where no seed arrives.
    distances : ndarray of shape (y, x), float32
        Cost of the way to the seed; inf where no seed arrives.

    Raises
    ------
    ValueError
        If the shapes differ, the image is not finite inside the mask, or the regularization is not positive.

    References
    ----------
    Jones, Carpenter, Golland 2005, Voronoi-based segmentation of cells on image manifolds,
    doi:10.1007/11569541_54

    Examples
    --------
    >>> image = np.array([[0, 0, 0, 9, 9]])  # the step between grey levels is where the two labels meet
    >>> labels, distances = propagate(image, np.array([[1, 0, 0, 0, 2]]), np.ones((1, 5)))
    >>> labels.tolist(), round(float(distances[0, 1]), 2)
    ([[1, 1, 1, 2, 2]], 0.05)
    """
    if not image.shape == seeds.shape == mask.shape or image.ndim != 2:
        raise ValueError(f"image {image.shape}, seeds {seeds.shape}, mask {mask.shape}: wanted one shape (y, x)")
    if not regularization > 0:
        raise ValueError(f"regularization={regularization}: wanted more than 0, or flat regions belong to no one")
    inside = mask.astype(bool, order="C")  # flat views below need row after row
    if not np.isfinite(image[inside]).all():
        raise ValueError("the image has nan or inf inside the mask")
    surface = np.pad(np.where(np.isfinite(image), image, 0).astype(np.float64, order="C"), RIM, mode="edge")
    labels = np.pad(seeds.astype(np.int32, order="C"), RIM)
    distances = np.where(labels > 0, 0, np.inf)
    opened = np.pad(inside, RIM)
    costliest = math.hypot(9 * np.ptp(surface), 2 * regularization)
    step = max(regularization, costliest / MAX_BUCKETS)
    heads = np.full(int(costliest / step) + 3, NONE, np.int32)
    _grow(
        surface.ravel(), opened.ravel(), labels.ravel(), distances.ravel(), labels.shape[1], regularization, heads, step
    )
    core = np.s_[RIM:-RIM, RIM:-RIM]
    return labels[core].copy(), distances[core].astype(np.float32)


@kernel
def _grow(
    surface: NDArray[np.float64],
    opened: NDArray[np.bool_],
    labels: NDArray[np.int32],
    distances: NDArray[np.float64],
    width: int,
    regularization: float,
    heads: NDArray[np.int32],
    step: float,
) -> None:
    """Shortest paths from all seeds at once, in place on flat arrays; at a tie the lower label wins.

    Pixels wait in buckets of one ``step`` of distance each, used in a ring. Where no edge is shorter than a step, a
    bucket in turn holds final distances only; where one is, its pixels are put back and offered again.
    """
    neighbours = np.array([1, -1, width, -width, width + 1, -width - 1, width - 1, 1 - width])  # sides, then diagonals
    after, before = np.empty(labels.size, np.int32), np.full(labels.size, APART, np.int32)
    waiting, turn = 0, 0
    for p in range(labels.size):
        if labels[p] > 0 and opened[p]:
            _link(heads, after, before, 0, p)
            waiting += 1
    while waiting > 0:
        bucket = turn % heads.size
        while heads[bucket] != NONE:
            p = heads[bucket]
            _unlink(heads, after, before, bucket, p)
            waiting -= 1
            for k in range(8):
                q = p + neighbours[k]
                if not opened[q] or distances[q] <= distances[p]:
                    continue
                way = distances[p] + _cost(surface, p, q, width, regularization, 1 if k < 4 else 2)
                if way < distances[q] or (way == distances[q] and labels[p] < labels[q]):
                    if before[q] != APART:
                        _unlink(heads, after, before, int(distances[q] / step) % heads.size, q)
                        waiting -= 1
                    distances[q], labels[q] = way, labels[p]
                    _link(heads, after, before, int(way / step) % heads.size, q)
                    waiting += 1
        turn += 1


@kernel
def _cost(surface: NDArray[np.float64], p: int, q: int, width: int, regularization: float, sides: int) -> float:
    """Cost of the step between two neighbours."""
    total = 0.0
    for i in (-width, 0, width):
        for j in (-1, 0, 1):
            total += abs(surface[p + i + j] - surface[q + i + j])
    return math.sqrt(total * total + sides * regularization * regularization)


@kernel
def _link(
    heads: NDArray[np.int32], after: NDArray[np.int32], before: NDArray[np.int32], bucket: int, pixel: int
) -> None:
    """Put a pixel first in the chain of a bucket."""
    if heads[bucket] != NONE:
        before[heads[bucket]] = pixel
    after[pixel], before[pixel] = heads[bucket], NONE
    heads[bucket] = pixel


@kernel
def _unlink(
    heads: NDArray[np.int32], after: NDArray[np.int32], before: NDArray[np.int32], bucket: int, pixel: int
) -> None:
    """Take a pixel out of the chain of its bucket."""
    if before[pixel] == NONE:
        heads[bucket] = after[pixel]
    else:
        after[before[pixel]] = after[pixel]
    if after[pixel] != NONE:
        before[after[pixel]] = before[pixel]
    before[pixel] = APART

"""Convex hulls of objects, in whole numbers: area and Feret diameters."""

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects

_EMPTY = 2**40  # a row of the box without a pixel of the object


def convex_features(objects: Objects) -> NDArray[np.float64]:
    """Convex area, smallest and largest Feret diameter.

    The convex area counts the pixels whose centre lies in or on the hull of all pixel-edge midpoints (scikit-image's
    `convex_hull_image`); the diameters are those of the hull of the pixel centres (CellProfiler's), so that one pixel
    has 0.

    Returns
    -------
    ndarray of shape (n, 3), float64
        In pixels.

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> convex_features(index_objects(np.ones((4, 5), int))).tolist()
    [[20.0, 3.0, 5.0]]
    """
    return _convex_features(objects.pointer, objects.rows, objects.cols, objects.boxes)


@kernel
def _lower_hull(at: NDArray[np.int64], value: NDArray[np.int64], chain: NDArray[np.int64]) -> int:
    """Write the indices of the lower convex hull of points sorted by ``at`` into ``chain``; return how many."""
    size = 0
    for i in range(at.size):
        while size >= 2:
            a, b = chain[size - 2], chain[size - 1]
            if (at[b] - at[a]) * (value[i] - value[a]) > (value[b] - value[a]) * (at[i] - at[a]):
                break
            size -= 1
        chain[size] = i
        size += 1
    return size


@kernel
def _hull_start(first: NDArray[np.int64]) -> NDArray[np.int64]:
    """First pixel in the hull, a row; ``first`` is the first pixel of the object, a row (`_EMPTY`: none)."""
    height = first.size
    at, value = np.empty(2 * height + 1, np.int64), np.empty(2 * height + 1, np.int64)  # in half pixels
    n = 0
    for k in range(2 * height + 1):  # midpoints of pixel edges stand on rows (odd k) and between them (even k)
        above, below = first[max((k - 1) // 2, 0)], first[min(k // 2, height - 1)]
        x = 2 * above - 1 if k % 2 else 2 * min(above, below)
        if x < _EMPTY:
            at[n], value[n] = k, x
            n += 1
    chain = np.empty(n, np.int64)
    _lower_hull(at[:n], value[:n], chain)
    start = np.empty(height, np.int64)
    j = 0
    for row in range(height):
        k = 2 * row + 1
        while at[chain[j + 1]] < k:
            j += 1
        a, b = chain[j], chain[j + 1]
        run = at[b] - at[a]
        start[row] = -((-(value[a] * run + (value[b] - value[a]) * (k - at[a]))) // (2 * run))  # rounded up
    return start


@kernel
def _hull_vertices(first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """Vertices (row, column) of the hull of the pixel centres, in order round it."""
    height = first.size
    rows = np.empty(height, np.int64)
    left, right = np.empty(height, np.int64), np.empty(height, np.int64)
    n = 0
    for row in range(height):
        if first[row] < _EMPTY:
            rows[n], left[n], right[n] = row, first[row], -last[row]
            n += 1
    chain = np.empty(n, np.int64)
    vertices = np.empty((2 * n, 2), np.int64)
    size = _lower_hull(rows[:n], left[:n], chain)
    for j in range(size):
        vertices[j, 0], vertices[j, 1] = rows[chain[j]], left[chain[j]]
    back = _lower_hull(rows[:n], right[:n], chain)
    for j in range(back):
        i = chain[back - 1 - j]
        vertices[size + j, 0], vertices[size + j, 1] = rows[i], -right[i]
    return vertices[: size + back]


@kernel
def _feret(vertices: NDArray[np.int64]) -> tuple[float, float]:
    """Smallest width over the edges of a convex polygon and largest distance of its vertices."""
    n = vertices.shape[0]
    smallest, largest = np.inf, 0.0
    for i in range(n):
        y, x = vertices[i, 0], vertices[i, 1]
        dy, dx = vertices[(i + 1) % n, 0] - y, vertices[(i + 1) % n, 1] - x
        width = 0
        for j in range(n):
            v, u = vertices[j, 0] - y, vertices[j, 1] - x
            width = max(width, abs(dx * v - dy * u))
            largest = max(largest, float(u * u + v * v))
        if dx or dy:  # both chains may meet in one pixel
            smallest = min(smallest, width / np.sqrt(float(dx * dx + dy * dy)))
    return (smallest if largest else 0.0), np.sqrt(largest)


@kernel
def _convex_features(
    pointer: NDArray[np.int64], rows: NDArray[np.int32], cols: NDArray[np.int32], boxes: NDArray[np.int32]
) -> NDArray[np.float64]:
    out = np.empty((pointer.size - 1, 3))
    for o in range(pointer.size - 1):
        height = boxes[o, 2] - boxes[o, 0]
        first, last = np.full(height, _EMPTY, np.int64), np.full(height, -_EMPTY, np.int64)
        for i in range(pointer[o], pointer[o + 1]):
            row, x = rows[i] - boxes[o, 0], np.int64(cols[i])
            first[row], last[row] = min(first[row], x), max(last[row], x)
        start, end = _hull_start(first), _hull_start(-last)  # the right side is the left side of the mirror image
        area = 0
        for row in range(height):
            area += 1 - end[row] - start[row]
        out[o, 0] = area
        out[o, 1], out[o, 2] = _feret(_hull_vertices(first, last))
    return out

"""Convex hulls of objects, in whole numbers: area, Feret diameters and enclosing circle."""

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


def enclosing_circles(objects: Objects) -> NDArray[np.float64]:
    """Smallest circle round the pixel centres.

    Chrystal's search: start with a side of the hull and the vertex that sees it under the smallest angle; either the
    side is a diameter, or the three make an acute triangle, or a vertex at an obtuse angle gives way to the third.
    Angles are compared in whole numbers, so that the centre is the correctly rounded one. Of vertices at equal angles
    the first counts; CellProfiler leaves that to round-off, and its radius may then differ in the last digit.

    Returns
    -------
    ndarray of shape (n, 3), float64
        Row and column of the centre, radius; in pixels. The radius of one pixel is 0.

    References
    ----------
    Chrystal 1885, Proceedings of the Edinburgh Mathematical Society 3, 30;
    Elzinga, Hearn 1972, Transportation Science 6(4), 379, doi:10.1287/trsc.6.4.379

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> enclosing_circles(index_objects(np.ones((7, 9), int))).tolist()
    [[3.0, 4.0, 5.0]]
    """
    return _enclosing_circles(objects.pointer, objects.rows, objects.cols, objects.boxes)


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
def _distinct(vertices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Vertices once each, from the topmost of the leftmost ones over the top to the right.

    CellProfiler's order: the search for the enclosing circle ends in the same three points, and its radius in the same
    last digit, only from the same start.
    """
    n = vertices.shape[0]
    leftmost = 0
    for i in range(n):
        if (vertices[i, 1], vertices[i, 0]) < (vertices[leftmost, 1], vertices[leftmost, 0]):
            leftmost = i
    out = np.empty((n, 2), np.int64)
    size = 0
    for i in range(n):
        y, x = vertices[(leftmost - i) % n]
        if not size or ((y, x) != (out[size - 1, 0], out[size - 1, 1]) and (y, x) != (out[0, 0], out[0, 1])):
            out[size, 0], out[size, 1] = y, x
            size += 1
    return out[:size]


@kernel
def _smallest_angle(points: NDArray[np.int64], a: int, b: int) -> int:
    """Vertex that sees the side from ``a`` to ``b`` under the smallest angle; -1 if there is no other vertex."""
    best = -1
    best_dot, best_cross = np.int64(0), np.int64(0)
    for v in range(points.shape[0]):
        if v in (a, b):
            continue
        ay, ax = points[a, 0] - points[v, 0], points[a, 1] - points[v, 1]
        by, bx = points[b, 0] - points[v, 0], points[b, 1] - points[v, 1]
        dot, cross = ay * by + ax * bx, abs(ay * bx - ax * by)
        if best < 0 or dot * best_cross > best_dot * cross:  # the cotangent is dot / cross
            best, best_dot, best_cross = v, dot, cross
    return best


@kernel
def _enclosing_circle(points: NDArray[np.int64]) -> tuple[float, float, float]:
    """Row, column and radius of the smallest circle round the vertices of a convex polygon."""
    a, b = int(np.int64(0)), min(1, points.shape[0] - 1)  # a literal 0 would be a type of its own to numba
    while True:
        v = _smallest_angle(points, a, b)
        ay, ax, by, bx = points[a, 0], points[a, 1], points[b, 0], points[b, 1]
        vy, vx = points[v, 0], points[v, 1]
        if v < 0 or (ay - vy) * (by - vy) + (ax - vx) * (bx - vx) <= 0:
            y, x = (ay + by) / 2, (ax + bx) / 2
            break
        if (by - ay) * (vy - ay) + (bx - ax) * (vx - ax) < 0:
            a = v
        elif (ay - by) * (vy - by) + (ax - bx) * (vx - bx) < 0:
            b = v
        else:
            aa, bb, vv = ay * ay + ax * ax, by * by + bx * bx, vy * vy + vx * vx
            double = 2 * (ax * (by - vy) + bx * (vy - ay) + vx * (ay - by))
            x = (aa * (by - vy) + bb * (vy - ay) + vv * (ay - by)) / double
            y = (aa * (vx - bx) + bb * (ax - vx) + vv * (bx - ax)) / double
            break
    return y, x, np.sqrt((ay - y) ** 2 + (ax - x) ** 2)


@kernel
def _extents(
    rows: NDArray[np.int32], cols: NDArray[np.int32], box: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last column of an object in each row of its box."""
    height = box[2] - box[0]
    first, last = np.full(height, _EMPTY, np.int64), np.full(height, -_EMPTY, np.int64)
    for i in range(rows.size):
        row, x = rows[i] - box[0], np.int64(cols[i])
        first[row], last[row] = min(first[row], x), max(last[row], x)
    return first, last


@kernel
def _convex_features(
    pointer: NDArray[np.int64], rows: NDArray[np.int32], cols: NDArray[np.int32], boxes: NDArray[np.int32]
) -> NDArray[np.float64]:
    out = np.empty((pointer.size - 1, 3))
    for o in range(pointer.size - 1):
        start, stop = pointer[o], pointer[o + 1]
        first, last = _extents(rows[start:stop], cols[start:stop], boxes[o])
        left, right = _hull_start(first), _hull_start(-last)  # the right side is the left side of the mirror image
        area = 0
        for row in range(left.size):
            area += 1 - right[row] - left[row]
        out[o, 0] = area
        out[o, 1], out[o, 2] = _feret(_hull_vertices(first, last))
    return out


@kernel
def _enclosing_circles(
    pointer: NDArray[np.int64], rows: NDArray[np.int32], cols: NDArray[np.int32], boxes: NDArray[np.int32]
) -> NDArray[np.float64]:
    out = np.empty((pointer.size - 1, 3))
    for o in range(pointer.size - 1):
        start, stop = pointer[o], pointer[o + 1]
        first, last = _extents(rows[start:stop], cols[start:stop], boxes[o])
        points = _distinct(_hull_vertices(first, last))
        points[:, 0] += boxes[o, 0]
        out[o, 0], out[o, 1], out[o, 2] = _enclosing_circle(points)
    return out

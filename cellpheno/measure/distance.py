"""Distances inside objects."""

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects

_FAR = 2**20  # pixels: further than any image is wide


def edge_distance(objects: Objects, border_is_edge: bool = True) -> NDArray[np.float64]:
    """Distance of each pixel to the nearest pixel that is not of its object.

    Two passes over the box of each object: along the columns to the nearest outside pixel, then along the rows with
    the lower envelope of the parabolas that the columns leave. The time is linear in the area of the boxes.

    Parameters
    ----------
    objects : Objects
    border_is_edge : bool, default True
        Whether what lies beyond the image counts as outside: True for CellProfiler's radii, False for its radial
        distribution.

    Returns
    -------
    ndarray of shape (P,), float64
        In pixels, exact; inf for an object that fills the image where the border is no edge.

    References
    ----------
    Meijster et al. 2000, Mathematical Morphology and its Applications to Image and Signal Processing, 331-340,
    doi:10.1007/0-306-47025-X_36

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> objects = index_objects(np.array([[1, 1, 1, 0]]))
    >>> edge_distance(objects).tolist(), edge_distance(objects, border_is_edge=False).tolist()
    ([1.0, 1.0, 1.0], [3.0, 2.0, 1.0])
    """
    height, width = objects.labels.shape
    return _edge_distance(objects.pointer, objects.rows, objects.cols, objects.boxes, height, width, border_is_edge)


@kernel
def _along_columns(steps: NDArray[np.int32]) -> None:
    """Replace `_FAR` by the distance to the nearest 0 above or below, where there is one."""
    height, width = steps.shape
    for y in range(1, height):
        for x in range(width):
            steps[y, x] = min(steps[y, x], steps[y - 1, x] + 1)
    for y in range(height - 2, -1, -1):
        for x in range(width):
            steps[y, x] = min(steps[y, x], steps[y + 1, x] + 1)


@kernel
def _along_row(height: NDArray[np.int32], peak: NDArray[np.int64], start: NDArray[np.int64]) -> int:
    """Find the lower envelope of the parabolas (x - p)^2 + height[p]^2; return how many are part of it.

    Parabola ``peak[k]`` is the lowest from column ``start[k]`` on.
    """
    last = 0
    peak[0] = start[0] = 0
    for p in range(1, height.size):
        square = np.int64(height[p]) ** 2
        while last >= 0:
            top, x = peak[last], start[last]
            if (x - top) ** 2 + np.int64(height[top]) ** 2 <= (x - p) ** 2 + square:
                break
            last -= 1
        begin = np.int64(0)
        if last >= 0:
            top = peak[last]
            begin = (p * p - top * top + square - np.int64(height[top]) ** 2) // (2 * (p - top)) + 1
        if begin < height.size:
            last += 1
            peak[last], start[last] = p, begin
    return last + 1


@kernel
def _edge_distance(
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    boxes: NDArray[np.int32],
    image_height: int,
    image_width: int,
    border_is_edge: bool,
) -> NDArray[np.float64]:
    out = np.empty(rows.size)
    for o in range(pointer.size - 1):
        top, left = boxes[o, 0] - 1, boxes[o, 1] - 1  # one pixel of outside all round
        steps = np.zeros((boxes[o, 2] - top + 1, boxes[o, 3] - left + 1), np.int32)
        for i in range(pointer[o], pointer[o + 1]):
            steps[rows[i] - top, cols[i] - left] = _FAR
        if not border_is_edge:
            if top < 0:
                steps[0] = _FAR
            if left < 0:
                steps[:, 0] = _FAR
            if boxes[o, 2] == image_height:
                steps[-1] = _FAR
            if boxes[o, 3] == image_width:
                steps[:, -1] = _FAR
        _along_columns(steps)
        peak, start = np.empty(steps.shape[1], np.int64), np.empty(steps.shape[1], np.int64)
        i = pointer[o]
        for y in range(1, steps.shape[0] - 1):
            k = 0
            parts = _along_row(steps[y], peak, start)
            while i < pointer[o + 1] and rows[i] - top == y:
                x = cols[i] - left
                while k + 1 < parts and start[k + 1] <= x:
                    k += 1
                square = (x - peak[k]) ** 2 + np.int64(steps[y, peak[k]]) ** 2
                out[i] = np.sqrt(float(square)) if square < _FAR * _FAR else np.inf
                i += 1
    return out

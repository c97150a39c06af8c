"""Distances inside objects."""

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects


def edge_distance(objects: Objects) -> NDArray[np.float64]:
    """Distance of each pixel to the nearest pixel that is not of its object; outside the image is not of it.

    Returns
    -------
    ndarray of shape (P,), float64
        In pixels, exact.

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> edge_distance(index_objects(np.ones((3, 3), int))).max()
    np.float64(2.0)
    """
    return _edge_distance(objects.pointer, objects.rows, objects.cols, objects.boxes)


@kernel
def _edge_distance(
    pointer: NDArray[np.int64], rows: NDArray[np.int32], cols: NDArray[np.int32], boxes: NDArray[np.int32]
) -> NDArray[np.float64]:
    out = np.empty(rows.size)
    for o in range(pointer.size - 1):
        top, left = boxes[o, 0] - 1, boxes[o, 1] - 1  # one pixel of background all round
        height, width = boxes[o, 2] - top + 1, boxes[o, 3] - left + 1
        steps = np.zeros((height, width), np.int64)  # to the background, up or down
        for i in range(pointer[o], pointer[o + 1]):
            steps[rows[i] - top, cols[i] - left] = 1
        for y in range(1, height):
            for x in range(width):
                if steps[y, x]:
                    steps[y, x] = steps[y - 1, x] + 1
        for y in range(height - 2, 0, -1):
            for x in range(width):
                steps[y, x] = min(steps[y, x], steps[y + 1, x] + 1)
        for i in range(pointer[o], pointer[o + 1]):
            y, x = rows[i] - top, cols[i] - left
            best = steps[y, x] ** 2
            aside = 1
            while aside * aside < best:  # ends at the background columns at the latest
                best = min(best, aside * aside + min(steps[y, x - aside], steps[y, x + aside]) ** 2)
                aside += 1
            out[i] = np.sqrt(best)
    return out

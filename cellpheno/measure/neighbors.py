"""Neighbours of objects: CellProfiler's MeasureObjectNeighbors."""

from math import isqrt
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from cellpheno.bounds import Range
from cellpheno.measure.area_shape import center
from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects, index_objects

_NAMES = {"adjacent": "Adjacent", "expanded": "Expanded"}  # distance: as it stands in the column names


def neighbors(
    objects: Objects, distance: Annotated[Literal["adjacent", "expanded"] | int, Range(1)] = "adjacent"
) -> dict[str, NDArray[np.float64]]:
    """Neighbours of each object among the objects of its own kind, as CellProfiler 4.2 finds them.

    Another object is a neighbour if one of its pixels lies within the distance of one of the object's pixels. The
    closest objects, their distances and their angle go by the centres and are the same whatever the distance; of
    objects equally far the one with the smaller label counts first. Without a closest or second closest object they
    are nan (CellProfiler: 0). The angle of centres in one line is 0 or 180 (CellProfiler: sometimes nan, by rounding).

    Parameters
    ----------
    objects : Objects
    distance : {"adjacent", "expanded"} or int
        ``adjacent``: pixels that share a side. ``expanded``: the same, once each object has grown over the background
        that is nearest to it. A number: so many pixels.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64

    Raises
    ------
    ValueError
        If the distance is none of these.

    Features
    --------
    Neighbors_NumberOfNeighbors_<distance> : count
        Other objects within the distance; ``<distance>`` is ``Adjacent``, ``Expanded`` or a number of pixels.
    Neighbors_PercentTouching_<distance> : percent
        Share of the object's outline with another object within the distance and half a pixel. The outline is of pixels
        that have another label among their eight neighbours or lie at the border of the image.
    Neighbors_FirstClosestObjectNumber_<distance> : label
        Object with the closest centre.
    Neighbors_FirstClosestDistance_<distance> : pixel
        Distance to the closest centre.
    Neighbors_SecondClosestObjectNumber_<distance> : label
        Object with the second closest centre.
    Neighbors_SecondClosestDistance_<distance> : pixel
        Distance to the second closest centre.
    Neighbors_AngleBetweenNeighbors_<distance> : degree
        Angle at the object's centre between the two closest centres, 0 to 180.

    References
    ----------
    Stirling et al. 2021, BMC Bioinformatics 22, 433, doi:10.1186/s12859-021-04344-9 (CellProfiler 4)

    Examples
    --------
    >>> objects = index_objects(np.array([[1, 2, 0, 5]]))
    >>> neighbors(objects)["Neighbors_NumberOfNeighbors_Adjacent"].tolist()
    [1.0, 1.0, 0.0]
    >>> neighbors(objects, distance=2)["Neighbors_NumberOfNeighbors_2"].tolist()
    [1.0, 2.0, 1.0]
    """
    if distance not in _NAMES and (not isinstance(distance, int) or distance < 1):
        raise ValueError(f"neighbour distance {distance!r}: wanted adjacent, expanded or a number of pixels from 1")
    grown = objects.once(_expanded) if distance == "expanded" else objects
    reach = 1 if isinstance(distance, str) else distance
    rows = np.arange(-reach, reach + 1)
    near = np.array([isqrt(reach**2 - y**2) for y in rows.tolist()])  # half widths of the disk, row by row
    touch = np.array([isqrt(reach**2 + reach - y**2) for y in rows.tolist()])  # (reach + 1/2)^2, less a quarter
    count, touching, outline = _contacts(grown.labels, grown.pointer, grown.rows, grown.cols, near, touch)
    found = {"NumberOfNeighbors": count, "PercentTouching": 100 * touching / outline} | objects.once(_closest)
    return {f"Neighbors_{name}_{_NAMES.get(str(distance), distance)}": values for name, values in found.items()}


def expand_labels(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give each background pixel the label of the nearest object.

    Of object pixels equally far the leftmost wins, of these the topmost: as in SciPy's distance transform.

    Parameters
    ----------
    labels : ndarray of shape (y, x), int32

    Returns
    -------
    ndarray of shape (y, x), int32

    References
    ----------
    Meijster, Roerdink, Hesselink 2000, A general algorithm for computing distance transforms in linear time,
    doi:10.1007/0-306-47025-X_36

    Examples
    --------
    >>> expand_labels(np.array([[3, 0, 0, 0, 7]], np.int32)).tolist()
    [[3, 3, 3, 7, 7]]
    """
    return _nearest_label(labels, _nearest_row(labels))


def _expanded(objects: Objects) -> Objects:
    return index_objects(expand_labels(objects.labels))


def _closest(objects: Objects) -> dict[str, NDArray[np.float64]]:
    """Both closest objects by their centres; nan where there is none."""
    centers = center(objects)
    y, x = (np.ascontiguousarray(centers[f"AreaShape_Center_{axis}"]) for axis in "YX")
    order = np.argsort(y, kind="stable")
    found = _two_closest(y, x, order)  # (n, 2)
    known = found >= 0
    dy = np.where(known, y[found] - y[:, None], np.nan)
    dx = np.where(known, x[found] - x[:, None], np.nan)
    square = dx**2 + dy**2
    with np.errstate(invalid="ignore"):  # 0 / 0: a centre on the object's own
        cosine = (dx[:, 0] * dx[:, 1] + dy[:, 0] * dy[:, 1]) / np.sqrt(square[:, 0] * square[:, 1])
    distance = np.sqrt(square)
    number = np.where(known, objects.ids[found], np.nan)
    return {
        "FirstClosestObjectNumber": number[:, 0],
        "FirstClosestDistance": distance[:, 0],
        "SecondClosestObjectNumber": number[:, 1],
        "SecondClosestDistance": distance[:, 1],
        "AngleBetweenNeighbors": np.degrees(np.arccos(np.clip(cosine, -1, 1))),
    }


@kernel
def _is_within(labels: NDArray[np.int32], y: int, x: int) -> bool:
    """Whether the eight neighbours are in the image and have the pixel's label."""
    if y == 0 or x == 0 or y == labels.shape[0] - 1 or x == labels.shape[1] - 1:
        return False
    for v in range(y - 1, y + 2):
        for u in range(x - 1, x + 2):
            if labels[v, u] != labels[y, x]:
                return False
    return True


@kernel
def _contacts(
    labels: NDArray[np.int32],
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    near: NDArray[np.int64],
    touch: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Count the neighbours, the outline pixels that touch one, and the outline pixels of each object."""
    height, width = labels.shape
    n, reach = pointer.size - 1, near.size // 2
    count, touching, outline = np.zeros(n), np.zeros(n), np.zeros(n)
    met_by = np.full(n + 1, -1)  # the last object that met each label
    for o in range(n):
        for i in range(pointer[o], pointer[o + 1]):
            y, x = rows[i], cols[i]
            if _is_within(labels, y, x):
                continue  # whatever is near to it is nearer to the outline
            outline[o] += 1
            touches = False
            for k in range(max(0, reach - y), min(2 * reach + 1, reach - y + height)):
                for u in range(max(0, x - touch[k]), min(width, x + touch[k] + 1)):
                    other = labels[y + k - reach, u]
                    if other and other != o + 1:
                        touches = True
                        if met_by[other] != o and abs(u - x) <= near[k]:
                            met_by[other] = o
                            count[o] += 1
            touching[o] += touches
    return count, touching, outline


@kernel
def _two_closest(y: NDArray[np.float64], x: NDArray[np.float64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The two closest others of each point, the first of equals; -1 for none. Walks up and down from each row."""
    found = np.full((y.size, 2), -1)
    for at in range(y.size):
        i = order[at]
        first, second = np.inf, np.inf
        for step in (-1, 1):
            to = at + step
            while 0 <= to < y.size and abs(y[order[to]] - y[i]) <= second:
                j = order[to]
                d = np.sqrt((y[i] - y[j]) * (y[i] - y[j]) + (x[i] - x[j]) * (x[i] - x[j]))
                if d < first or (d == first and j < found[i, 0]):
                    found[i, 1], second = found[i, 0], first
                    found[i, 0], first = j, d
                elif d < second or (d == second and j < found[i, 1]):
                    found[i, 1], second = j, d
                to += step
    return found


@kernel
def _nearest_row(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Row of the nearest object pixel in the same column, the upper of equals; -1 where the column has none."""
    height, width = labels.shape
    nearest = np.empty(labels.shape, np.int32)
    for y in range(height):
        for x in range(width):
            nearest[y, x] = y if labels[y, x] else nearest[y - 1, x] if y else -1
    for y in range(height - 2, -1, -1):
        for x in range(width):
            above, below = nearest[y, x], nearest[y + 1, x]
            if below > y and (above < 0 or below - y < y - above):
                nearest[y, x] = below
    return nearest


@kernel
def _nearest_label(labels: NDArray[np.int32], nearest: NDArray[np.int32]) -> NDArray[np.int32]:
    """Along each row, the column whose nearest object pixel is the nearest of all: lower envelope of parabolas."""
    height, width = labels.shape
    out = np.zeros(labels.shape, np.int32)
    column, start = np.empty(width, np.int64), np.empty(width, np.int64)  # of each piece of the envelope
    square = np.empty(width, np.int64)  # of the distance within the column
    for y in range(height):
        last = -1
        for u in range(width):
            if nearest[y, u] < 0:
                continue
            square[u] = (np.int64(nearest[y, u]) - y) ** 2
            while last >= 0:
                c, x = column[last], start[last]
                if (x - c) ** 2 + square[c] <= (x - u) ** 2 + square[u]:
                    break
                last -= 1
            if last < 0:
                last = 0
                column[0], start[0] = u, 0
            else:
                c = column[last]
                x = (u * u - c * c + square[u] - square[c]) // (2 * (u - c)) + 1  # the first that is nearer to u
                if x < width:
                    last += 1
                    column[last], start[last] = u, x
        if last < 0:
            continue
        for x in range(width - 1, -1, -1):
            out[y, x] = labels[nearest[y, column[last]], column[last]]
            if x == start[last]:
                last -= 1
    return out

"""Radial distribution of intensity in objects: CellProfiler's MeasureObjectIntensityDistribution."""

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellpheno.bounds import Range, bounded
from cellpheno.measure.distance import edge_distance
from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects, all_finite, full_scale, pixel_values

_FEATURES = ("FracAtD", "MeanFrac", "RadialCV")
_WEDGES = 8
_NOWHERE = 2**16 - 1  # the wedge of a pixel that no path inside the object joins to the centre


@bounded
def radial_distribution(
    objects: Objects,
    image: NDArray[Any],
    channel: str,
    bins: Annotated[int, Range(1, _NOWHERE // _WEDGES - 1)] = 4,
    scaled: bool = True,
    maximum_radius: Annotated[float, Range(0, open_low=True)] = 100,
    reference: Literal["cellprofiler", "cp_measure"] = "cellprofiler",
) -> dict[str, NDArray[np.float64]]:
    """Share and evenness of the intensity in rings round the centre of each object, as in CellProfiler 4.2.

    The centre is the pixel that is furthest from the edge of the object (the border of the image is no edge). The
    distance of a pixel to it is the length of the shortest path inside the object, with steps to the 8 neighbours.
    Scaled rings are equal parts of the way from the centre to the edge: of d / (d + e + 0.001) with e the distance to
    the edge. Unscaled rings are equal parts of ``maximum_radius``; what lies beyond is the overflow.

    Of several furthest pixels, ``reference="cp_measure"`` takes the first in raster order. CellProfiler sorts the
    pixels by depth and takes the last of its object; how equal depths are sorted depends there on the whole image and
    the processor, and ``"cellprofiler"`` sorts them in raster order, so that it takes the last.

    Pixels that no path joins to the centre (the other parts of an object in several parts) count nowhere, not in the
    object's sum either. As in CellProfiler, all three features of a ring without pixels are 0, and so is the
    `RadialCV` of a black ring. The shares of a black object are nan. All features are nan where the object holds nan
    or inf, or fills the image and has no edge.

    Parameters
    ----------
    objects : Objects
    image : ndarray of shape (y, x), uint8, uint16 or float
    channel : str
        As it stands in the column names.
    bins : int, default 4
        Number of rings, 1 to 8190.
    scaled : bool, default True
    maximum_radius : float, default 100
        Outer radius of the unscaled rings, in pixels.
    reference : {"cellprofiler", "cp_measure"}, default "cellprofiler"

    Returns
    -------
    dict of str to ndarray of shape (n,), float64

    Raises
    ------
    ValueError
        If image and labels differ in shape or a number is out of its range.
    TypeError
        If the image is neither uint8, uint16 nor float.

    Features
    --------
    RadialDistribution_FracAtD_<channel>_<ring>of<rings> : fraction
        Share of the object's intensity that lies in the ring.
    RadialDistribution_MeanFrac_<channel>_<ring>of<rings> : 1
        Share of the intensity in the ring over the share of the pixels in it.
    RadialDistribution_RadialCV_<channel>_<ring>of<rings> : 1
        Standard deviation over mean of the mean intensities of the ring's 8 wedges, those without pixels left out.
    RadialDistribution_FracAtD_<channel>_Overflow : fraction
        Share of the object's intensity beyond the maximum radius.
    RadialDistribution_MeanFrac_<channel>_Overflow : 1
        Share of the intensity beyond the maximum radius over the share of the pixels there.
    RadialDistribution_RadialCV_<channel>_Overflow : 1
        Standard deviation over mean of the mean intensities of the 8 wedges beyond the maximum radius.

    References
    ----------
    Stirling et al. 2021, BMC Bioinformatics 22, 433, doi:10.1186/s12859-021-04344-9

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> labels = np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]])
    >>> image = np.where(np.eye(5), 2.0, 1.0)  # ring 1 has 5 of 9 pixels, 6 of 12 in intensity
    >>> features = radial_distribution(index_objects(labels), image, "DNA", bins=2)
    >>> {name: round(float(values[0]), 3) for name, values in features.items() if "1of2" in name and "CV" not in name}
    {'RadialDistribution_FracAtD_DNA_1of2': 0.5, 'RadialDistribution_MeanFrac_DNA_1of2': 0.9}
    """
    full_scale(image)  # refuses other types; the scale itself cancels
    values = objects.once(pixel_values, image)
    rings = objects.once(_rings, bins, float(maximum_radius) if not scaled else None, reference)
    n_rings = bins if scaled else bins + 1
    table = _radial(
        objects.pointer, rings.wedge, rings.counts, values.astype(np.float64, copy=False), n_rings
    )  # (n, 3, ring)
    table[~all_finite(objects, values) | ~rings.defined] = np.nan
    features: dict[str, NDArray[np.float64]] = {}
    for ring, columns in enumerate(np.ascontiguousarray(table.transpose(2, 1, 0))):
        name = "Overflow" if ring == bins else f"{ring + 1}of{bins}"
        features |= {f"RadialDistribution_{f}_{channel}_{name}": c for f, c in zip(_FEATURES, columns, strict=True)}
    return features


class _Rings(NamedTuple):
    """Where each pixel counts: 8 wedges of ring 0, 8 of ring 1, ..., and last those of the overflow."""

    wedge: NDArray[np.uint16]  # (P,)
    counts: NDArray[np.int64]  # (n, (bins + 1) 8), pixels of each wedge
    defined: NDArray[np.bool_]  # (n,), whether the object has an edge and so a centre


def _rings(objects: Objects, bins: int, maximum_radius: float | None, reference: str) -> _Rings:
    """Assign pixels to rings and wedges; scaled rings if ``maximum_radius`` is None."""
    depth = objects.once(edge_distance, False)
    centres = objects.once(_centres, reference)
    path = objects.once(_path_length, reference)
    radius = np.nan if maximum_radius is None else maximum_radius
    wedge, counts = _wedges(objects.pointer, objects.rows, objects.cols, depth, centres, path, bins, radius)
    return _Rings(wedge, counts, np.isfinite(depth[centres]))


def _centres(objects: Objects, reference: str) -> NDArray[np.int64]:
    """Give the index of the deepest pixel of each object, (n,): the first or, for CellProfiler, the last of equals."""
    depth = objects.once(edge_distance, False)
    return _deepest(objects.pointer, depth, reference == "cellprofiler")


def _path_length(objects: Objects, reference: str) -> NDArray[np.float64]:
    """Length of the shortest path inside the object from each pixel to the centre, (P,); inf if there is none."""
    centres = objects.once(_centres, reference)
    return _shortest(objects.pointer, objects.rows, objects.cols, objects.boxes, centres)


@kernel
def _deepest(pointer: NDArray[np.int64], depth: NDArray[np.float64], last: bool) -> NDArray[np.int64]:
    out = pointer[:-1].copy()
    for o in range(out.size):
        for i in range(pointer[o], pointer[o + 1]):
            if depth[i] > depth[out[o]] or (last and depth[i] == depth[out[o]]):
                out[o] = i
    return out


@kernel
def _shortest(
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    boxes: NDArray[np.int32],
    centres: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Sweep each object forth and back, taking the best of the neighbours seen before, until nothing changes."""
    diagonal = np.sqrt(2.0)
    out = np.empty(rows.size)
    for o in range(pointer.size - 1):
        start, stop = pointer[o], pointer[o + 1]
        top, left = boxes[o, 0] - 1, boxes[o, 1] - 1  # one pixel of outside all round stays at inf
        stride = np.int64(boxes[o, 3] - left + 1)
        length = np.full((boxes[o, 2] - top + 1) * stride, np.inf)
        place = np.empty(stop - start, np.int64)
        for i in range(start, stop):
            place[i - start] = (rows[i] - top) * stride + cols[i] - left
        length[place[centres[o] - start]] = 0.0
        changed = True
        while changed:
            changed = False
            for sign in (-1, 1):  # forth: neighbours before it in raster order; back: those after it
                for j in range(place.size):
                    p = place[j] if sign < 0 else place[place.size - 1 - j]
                    straight = min(length[p + sign], length[p + sign * stride]) + 1
                    aslant = min(length[p + sign * (stride - 1)], length[p + sign * (stride + 1)]) + diagonal
                    best = min(straight, aslant)
                    if best < length[p]:
                        length[p] = best
                        changed = True
        for i in range(start, stop):
            out[i] = length[place[i - start]]
    return out


@kernel
def _wedges(
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    depth: NDArray[np.float64],
    centres: NDArray[np.int64],
    path: NDArray[np.float64],
    bins: int,
    radius: float,
) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    """Find the wedge of each pixel and count the pixels of each; scaled rings if ``radius`` is nan."""
    wedge = np.full(rows.size, _NOWHERE, np.uint16)
    counts = np.zeros((centres.size, (bins + 1) * _WEDGES), np.int64)
    for o in range(centres.size):
        for i in range(pointer[o], pointer[o + 1]):
            if path[i] < np.inf:
                share = path[i] / (path[i] + depth[i] + 0.001 if np.isnan(radius) else radius)
                ring = int(min(share * bins, float(bins)))
                down, right = rows[i] - rows[centres[o]], cols[i] - cols[centres[o]]
                k = _WEDGES * ring + (down > 0) + 2 * (right > 0) + 4 * (abs(down) > abs(right))
                wedge[i] = k
                counts[o, k] += 1
    return wedge, counts


@kernel
def _variation(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Coefficient of variation of the mean intensities of the wedges that have pixels; 0 if there are none."""
    n, total, squares = 0, 0.0, 0.0
    for k in range(sums.size):
        if counts[k]:
            n += 1
            total += sums[k] / counts[k]
    if n == 0:
        return 0.0
    mean = total / n
    for k in range(sums.size):
        if counts[k]:
            squares += (sums[k] / counts[k] - mean) ** 2
    if squares == 0:
        return 0.0
    return float(np.sqrt(squares / n) / mean) if mean else np.nan


@kernel
def _radial(
    pointer: NDArray[np.int64],
    wedge: NDArray[np.uint16],
    counts: NDArray[np.int64],
    values: NDArray[np.float64],
    n_rings: int,
) -> NDArray[np.float64]:
    """Features (object, feature, ring)."""
    n, size = counts.shape
    out = np.empty((n, 3, n_rings))
    sums = np.empty(size)
    epsilon = 2.0**-52
    for o in range(n):
        sums[:] = 0
        for i in range(pointer[o], pointer[o + 1]):
            if wedge[i] != _NOWHERE:
                sums[wedge[i]] += values[i]
        total, pixels = sums.sum(), counts[o].sum()
        for ring in range(n_rings):
            own = slice(ring * _WEDGES, (ring + 1) * _WEDGES)
            share = sums[own].sum() / total
            out[o, 0, ring] = share
            out[o, 1, ring] = share / (counts[o, own].sum() / pixels + epsilon)
            out[o, 2, ring] = _variation(sums[own], counts[o, own])
    return out

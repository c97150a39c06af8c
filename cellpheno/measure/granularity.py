"""Granularity of objects in one channel: CellProfiler's MeasureGranularity."""

import weakref
from math import ceil, isqrt
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellpheno.bounds import Range, bounded
from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects, all_finite, full_scale, pixel_values
from cellpheno.measure.opening_tree import OpeningTree, opening_tree

_trees: dict[tuple[Any, ...], OpeningTree] = {}  # of read-only images, for as long as the image lives


@bounded
def granularity(
    objects: Objects,
    image: NDArray[Any],
    channel: str,
    subsample: Annotated[float, Range(0, 1, open_low=True)] = 0.25,
    background_subsample: Annotated[float, Range(0, 1, open_low=True)] = 0.25,
    background_radius: Annotated[int, Range(0)] = 10,
    spectrum: Annotated[int, Range(1, 255)] = 16,
    reference: Literal["cellprofiler", "cp_measure"] = "cellprofiler",
) -> dict[str, NDArray[np.float64]]:
    """Size spectrum of the bright grains of each object, as CellProfiler 4.2 measures it.

    The image is reduced by ``subsample``. Its background, an opening by a disk of the image reduced once more by
    ``background_subsample``, is taken away and what is then negative becomes 0. Step k erodes the result k times by a
    cross and reconstructs it under the result: grains that k erosions remove are gone. Each step is brought back to
    the size of the image by bilinear interpolation and averaged over the object.

    Steps 2 and later are what one more erosion removes; step 1 is the difference to the mean of the image as it
    came, so that it holds the background too. All are in percent of that mean, or of 2.2e-16 where the object is
    black, as in CellProfiler. An object that holds nan or inf is nan; elsewhere such pixels count as 0. All are nan
    where the reduced image is less than 2 pixels high or wide.

    CellProfiler's reduced image covers a fraction of a pixel where the size of the image times ``subsample`` is not
    whole; cp_measure's is cut to whole pixels. ``reference`` chooses; other images give the same.

    Parameters
    ----------
    objects : Objects
    image : ndarray of shape (y, x), uint8, uint16 or float
    channel : str
        As it stands in the column names.
    subsample, background_subsample : float, default 0.25
        Above 0, at most 1.
    background_radius : int, default 10
        Of the disk, in pixels of the image that was reduced twice.
    spectrum : int, default 16
        Number of steps, 1 to 255.
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
    Granularity_<k>_<channel> : percent
        Share of the object's mean intensity that the k-th step of the spectrum removes.

    References
    ----------
    Stirling et al. 2021, BMC Bioinformatics 22, 433, doi:10.1186/s12859-021-04344-9; Maragos 1989, IEEE Transactions
    on Pattern Analysis and Machine Intelligence 11, 701-716, doi:10.1109/34.192465

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> image = np.full((9, 9), 50, np.uint8)
    >>> image[4, 4] = 131  # one bright pixel: 81 of 4131, and a background of 50
    >>> objects = index_objects(np.ones((9, 9), int))
    >>> features = granularity(objects, image, "DNA", subsample=1, background_subsample=1, background_radius=2)
    >>> features["Granularity_1_DNA"].tolist(), features["Granularity_2_DNA"].tolist()
    ([100.0], [0.0])
    """
    values, scale = objects.once(pixel_values, image), full_scale(image)
    size = tuple(_reduced(length, subsample, reference) for length in image.shape)
    if min(size) < 2:
        table = np.full((len(objects), spectrum), np.nan)
    else:
        tree = _tree_of(image, size, subsample, background_subsample, background_radius, spectrum)
        operator = objects.once(_mean_operator, size)
        table = _removed(operator.start, operator.place, operator.weight, *tree, spectrum)  # (n, spectrum)
        table /= objects.areas[:, np.newaxis]
        with np.errstate(invalid="ignore"):  # inf, whose objects become nan
            mean = np.add.reduceat(values, objects.pointer[:-1], dtype=np.float64) / scale / objects.areas
            table[:, 0] = mean - table[:, 0]
            table *= 100 / np.maximum(mean, np.finfo(float).eps)[:, np.newaxis]
        table[~all_finite(objects, values)] = np.nan
    columns = np.ascontiguousarray(table.T)
    return {f"Granularity_{k}_{channel}": column for k, column in enumerate(columns, start=1)}


def _reduced(length: int, subsample: float, reference: str) -> float:
    """Size of the reduced image along one axis, in pixels; CellProfiler keeps the fraction."""
    size = length * subsample
    return size if reference == "cellprofiler" else float(int(size))


def _tree_of(image: NDArray[Any], *knobs: Any) -> OpeningTree:
    """Openings of an image, which do not depend on the objects: computed once for all compartments if read-only."""
    if image.flags.writeable:
        return _image_tree(image, *knobs)
    key = (id(image), *knobs)
    if key not in _trees:
        _trees[key] = _image_tree(image, *knobs)
        weakref.finalize(image, _trees.pop, key, None)
    return _trees[key]


def _image_tree(
    image: NDArray[Any],
    size: tuple[float, float],
    subsample: float,
    background_subsample: float,
    background_radius: int,
    spectrum: int,
) -> OpeningTree:
    """Reduce the image, take its background away and prepare the openings."""
    grey = _sample(image, *(np.arange(ceil(length)) / subsample for length in size)) / full_scale(image)
    coarse = tuple(length * background_subsample if background_subsample < 1 else length for length in size)
    small = grey
    if background_subsample < 1:
        small = _sample(grey, *(np.arange(ceil(length)) / background_subsample for length in coarse))
    background = _open_by_disk(small, background_radius)
    if background_subsample < 1:
        background = _sample(background, *(_restore(c, f, ceil(f)) for c, f in zip(coarse, size, strict=True)))
    return opening_tree(np.maximum(grey - background, 0), spectrum)


def _restore(small: float, large: float, n: int) -> NDArray[np.float64]:
    """Positions of n pixels of an axis in a smaller image of the same scene: first on first, last on last pixel."""
    return np.arange(n, dtype=np.float64) * ((small - 1) / (large - 1))


class _Axis(NamedTuple):
    """Linear interpolation along one axis: the two pixels beside each position and their weights, 0 outside."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight_low: NDArray[np.float64]
    weight_high: NDArray[np.float64]


def _axis(position: NDArray[np.float64], n: int) -> _Axis:
    inside = (position >= 0) & (position <= n - 1)
    low = np.clip(position, 0, n - 1).astype(np.int64)
    fraction = position - low
    return _Axis(low, np.minimum(low + 1, n - 1), np.where(inside, 1 - fraction, 0), np.where(inside, fraction, 0))


def _sample(image: NDArray[Any], rows: NDArray[np.float64], cols: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear interpolation where rows and columns cross; 0 outside; nan and inf count as 0."""
    y, x = _axis(rows, image.shape[0]), _axis(cols, image.shape[1])
    out = np.zeros((rows.size, cols.size))
    for i, row_weight in ((y.low, y.weight_low), (y.high, y.weight_high)):
        for j, col_weight in ((x.low, x.weight_low), (x.high, x.weight_high)):
            if row_weight.any() and col_weight.any():
                corner = image[np.ix_(i, j)]
                if corner.dtype.kind == "f":
                    corner[~np.isfinite(corner)] = 0
                out += corner * row_weight[:, np.newaxis] * col_weight
    return out


def _open_by_disk(image: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Darkest, then brightest pixel of the disk round each pixel; outside the image there are no pixels."""
    for choose, outside in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        padded = np.pad(image, radius, constant_values=outside)  # (y + 2 r, x + 2 r)
        height, width = image.shape
        across = padded[:, radius : radius + width].copy()  # of the pixels up to `half` to the left and right
        image = np.full(image.shape, outside)
        halves = [isqrt(radius**2 - dy**2) for dy in range(-radius, radius + 1)]
        for half in range(radius + 1):
            if half:
                choose(across, padded[:, radius - half : radius - half + width], out=across)
                choose(across, padded[:, radius + half : radius + half + width], out=across)
            for top in (top for top, wide in enumerate(halves) if wide == half):
                choose(image, across[top : top + height], out=image)
    return image


class _Operator(NamedTuple):
    """Sparse matrix (n, pixels of the reduced image): the sum over an object of the image that is brought back."""

    start: NDArray[np.int64]  # (n + 1,)
    place: NDArray[np.int32]
    weight: NDArray[np.float64]


def _mean_operator(objects: Objects, size: tuple[float, float]) -> _Operator:
    shape = [ceil(length) for length in size]
    axes = [
        _axis(_restore(small, large, large), n)
        for small, large, n in zip(size, objects.labels.shape, shape, strict=True)
    ]
    return _Operator(
        *_weights(objects.pointer, objects.rows, objects.cols, objects.boxes, *axes[0], *axes[1], shape[1])
    )


@kernel
def _weights(
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    boxes: NDArray[np.int32],
    y_low: NDArray[np.int64],
    y_high: NDArray[np.int64],
    y_weight_low: NDArray[np.float64],
    y_weight_high: NDArray[np.float64],
    x_low: NDArray[np.int64],
    x_high: NDArray[np.int64],
    x_weight_low: NDArray[np.float64],
    x_weight_high: NDArray[np.float64],
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Sum the weights of the reduced pixels object by object in its box, and keep those that are not 0."""
    n = pointer.size - 1
    start = np.zeros(n + 1, np.int64)
    for o in range(n):
        height = y_high[boxes[o, 2] - 1] - y_low[boxes[o, 0]] + 1
        start[o + 1] = start[o] + height * (x_high[boxes[o, 3] - 1] - x_low[boxes[o, 1]] + 1)
    place, weight = np.empty(start[n], np.int32), np.empty(start[n])  # as if all were kept
    kept = 0
    for o in range(n):
        top, left = y_low[boxes[o, 0]], x_low[boxes[o, 1]]
        sums = np.zeros((y_high[boxes[o, 2] - 1] - top + 1, x_high[boxes[o, 3] - 1] - left + 1))
        for i in range(pointer[o], pointer[o + 1]):
            y, x = rows[i], cols[i]
            above, below = sums[y_low[y] - top], sums[y_high[y] - top]
            above[x_low[x] - left] += y_weight_low[y] * x_weight_low[x]
            above[x_high[x] - left] += y_weight_low[y] * x_weight_high[x]
            below[x_low[x] - left] += y_weight_high[y] * x_weight_low[x]
            below[x_high[x] - left] += y_weight_high[y] * x_weight_high[x]
        start[o] = kept
        for y in range(sums.shape[0]):
            for x in range(sums.shape[1]):
                if sums[y, x] > 0:
                    place[kept], weight[kept] = (y + top) * width + x + left, sums[y, x]
                    kept += 1
    start[n] = kept
    return start, place[:kept].copy(), weight[:kept].copy()


@kernel
def _removed(
    start: NDArray[np.int64],
    place: NDArray[np.int32],
    weight: NDArray[np.float64],
    rank: NDArray[np.int32],
    level: NDArray[np.float64],
    size: NDArray[np.uint8],
    lower: NDArray[np.int32],
    spectrum: int,
) -> NDArray[np.float64]:
    """Sum over each object: first what opening 1 leaves, then what each larger opening removes."""
    flat = rank.ravel()
    out = np.zeros((start.size - 1, spectrum))
    for o in range(start.size - 1):
        for i in range(start[o], start[o + 1]):
            r = flat[place[i]]
            if size[r] == 0:
                r = lower[r]
            out[o, 0] += weight[i] * level[r]
            while size[r] < spectrum:
                below = lower[r]
                out[o, size[r]] += weight[i] * (level[r] - level[below])
                r = below
    return out

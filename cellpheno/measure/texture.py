"""Texture of objects in one channel: Haralick's features, CellProfiler's MeasureTexture."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from cellpheno.bounds import Range, bounded
from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects, all_finite, full_scale, pixel_values

HARALICK = (
    "AngularSecondMoment",
    "Contrast",
    "Correlation",
    "Variance",
    "InverseDifferenceMoment",
    "SumAverage",
    "SumVariance",
    "SumEntropy",
    "Entropy",
    "DifferenceVariance",
    "DifferenceEntropy",
    "InfoMeas1",
    "InfoMeas2",
)
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))  # (y, x) of the neighbour, named 00, 01, 02, 03


@bounded
def texture(
    objects: Objects,
    image: NDArray[Any],
    channel: str,
    scales: Annotated[Sequence[int], Range(1)] = (3,),
    levels: Annotated[int, Range(2, 256)] = 256,
) -> dict[str, NDArray[np.float64]]:
    """Haralick's 13 features in 4 directions, as CellProfiler 4.2 computes them.

    The matrix counts how often two grey levels stand at a distance (``<scale>``, in pixels) in a direction. The
    ``<direction>`` is ``00``: to the right, ``01``: down and right, ``02``: down, ``03``: down and left; each pair
    counts both ways. The ``<levels>`` are those of the full range of the camera, never stretched to the image or the
    object. Pairs of pixels that lie in the same object are counted, except those with grey level 0. If a direction has
    no such pair, all features of the object at that scale are nan, and so they are if the object holds nan or inf.

    Parameters
    ----------
    objects : Objects
    image : ndarray of shape (y, x), uint8, uint16 or float
        Float images must lie in 0..1 within the objects.
    channel : str
        As it stands in the column names.
    scales : sequence of int
        Distances of the two pixels of a pair, in pixels.
    levels : int
        Grey levels, 2 to 256.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64
        ``Texture_<feature>_<channel>_<scale>_<direction>_<levels>``; entropies in bits.

    Raises
    ------
    ValueError
        If image and labels differ in shape, or a float image, a scale or the levels are out of range.

    Features
    --------
    Texture_AngularSecondMoment_<channel>_<scale>_<direction>_<levels> : 1
        Sum of the squared shares of the pairs of levels (at ``<scale>`` pixels; ``<direction>`` 00 right, 01 down and
        right, 02 down, 03 down and left): 1 for a uniform object, small for a varied one.
    Texture_Contrast_<channel>_<scale>_<direction>_<levels> : 1
        Mean squared difference of the two levels of a pair.
    Texture_Correlation_<channel>_<scale>_<direction>_<levels> : 1
        Correlation of the two levels of a pair; 1 where all are equal.
    Texture_Variance_<channel>_<scale>_<direction>_<levels> : 1
        Variance of the level over all pairs.
    Texture_InverseDifferenceMoment_<channel>_<scale>_<direction>_<levels> : 1
        Mean of 1 / (1 + squared difference): 1 for a uniform object.
    Texture_SumAverage_<channel>_<scale>_<direction>_<levels> : 1
        Mean of the sum of the two levels.
    Texture_SumVariance_<channel>_<scale>_<direction>_<levels> : 1
        Variance of the sum of the two levels.
    Texture_SumEntropy_<channel>_<scale>_<direction>_<levels> : bit
        Entropy of the sum of the two levels.
    Texture_Entropy_<channel>_<scale>_<direction>_<levels> : bit
        Entropy of the pair of levels.
    Texture_DifferenceVariance_<channel>_<scale>_<direction>_<levels> : 1
        Variance of the probabilities of the absolute differences (not of the differences), as in CellProfiler.
    Texture_DifferenceEntropy_<channel>_<scale>_<direction>_<levels> : bit
        Entropy of the absolute difference of the two levels.
    Texture_InfoMeas1_<channel>_<scale>_<direction>_<levels> : 1
        Minus the information that one level of a pair gives on the other, as a share of a level's entropy.
    Texture_InfoMeas2_<channel>_<scale>_<direction>_<levels> : 1
        How much the levels of a pair tell of each other: 0 if independent, towards 1 if each fixes the other.

    References
    ----------
    Haralick, Shanmugam, Dinstein 1973, IEEE Trans. SMC 3(6), 610, doi:10.1109/TSMC.1973.4309314

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> image = np.array([[1, 2, 1], [2, 1, 2], [1, 2, 1]], np.uint8)
    >>> features = texture(index_objects(np.ones((3, 3), int)), image, "DNA", scales=[1])
    >>> [features[f"Texture_Contrast_DNA_1_0{k}_256"].item() for k in range(4)]
    [1.0, 0.0, 1.0, 0.0]
    """
    values = objects.once(pixel_values, image)
    finite = all_finite(objects, values)
    grey = _quantize(values, levels, channel)  # (P,)
    count = np.arange(2 * objects.areas.max(initial=0) + 1, dtype=np.float64)
    count_log = count * np.log2(np.maximum(count, 1))  # c log2 c of every number of pairs that can occur
    features = {}
    for scale in scales:
        table = _texture(objects.pointer, objects.rows, objects.cols, objects.boxes, grey, scale, count_log)
        table[:, :, ~finite] = np.nan
        for k in range(len(DIRECTIONS)):
            for name, column in zip(HARALICK, table[k], strict=True):
                features[f"Texture_{name}_{channel}_{scale}_{k:02d}_{levels}"] = column
    return features


def _quantize(values: NDArray[Any], levels: int, channel: str) -> NDArray[np.uint8]:
    """Grey levels 0..levels-1, by way of 0..255 as CellProfiler does; nan and inf become 0."""
    scale = full_scale(values)
    if values.dtype.kind == "u":
        return np.take(_levels(np.arange(scale + 1) / scale, levels), values)
    unit = np.where(np.isfinite(values), values, 0)
    if unit.size and not 0 <= unit.min() <= unit.max() <= 1:
        raise ValueError(
            f"channel {channel}: float pixels from {unit.min():.4g} to {unit.max():.4g}; texture needs 0 to 1. "
            "Divide by the camera's full scale and clip."
        )
    return _levels(unit, levels)


def _levels(unit: NDArray[Any], levels: int) -> NDArray[np.uint8]:
    byte = np.rint(unit * 255).astype(np.uint8)
    grey: NDArray[np.uint8] = np.take((np.arange(256) / 255 * (levels - 1)).astype(np.uint8), byte)
    return grey


@kernel
def _count_pairs(
    grey: NDArray[np.uint8],
    places: NDArray[np.int64],
    box: NDArray[np.uint8],
    step: int,
    pairs: NDArray[np.int32],
    met: NDArray[np.int32],
) -> int:
    """Count each pair (smaller level, larger level) of one object; list the cells of ``pairs`` that were met."""
    n_met = 0
    for i in range(grey.size):
        a, b = np.int32(grey[i]), np.int32(box[places[i] + step])
        cell = 256 * min(a, b) + max(a, b)
        met[n_met] = cell  # stays if the cell is new: a branch would be guessed wrong too often
        n_met += pairs[cell] == 0
        pairs[cell] += 1
    return n_met


@kernel
def _marginals(
    pairs: NDArray[np.int32],
    met: NDArray[np.int32],
    level: NDArray[np.int64],
    total: NDArray[np.int64],
    gap: NDArray[np.int64],
    count_log: NDArray[np.float64],
) -> tuple[int, float, float]:
    """Histograms of the level, the sum and the difference over the symmetric matrix without level 0; empties ``pairs``.

    Returns the number of pairs both ways, the sum of squares and the sum of c log2 c.
    """
    n, squares, logs = 0, 0.0, 0.0
    for cell in met:
        i, j, c = cell >> 8, cell & 255, int(pairs[cell])
        pairs[cell] = 0
        if i == 0:
            continue
        n += 2 * c
        level[i] += c
        level[j] += c
        total[i + j] += 2 * c
        gap[j - i] += 2 * c
        if i == j:
            squares += float(2 * c) ** 2
            logs += count_log[2 * c]
        else:
            squares += 2 * float(c) ** 2
            logs += 2 * count_log[c]
    return n, squares, logs


@kernel
def _mean_variance_entropy(
    histogram: NDArray[np.int64], n: int, count_log: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Mean, variance and entropy (bits) of the index; sums about a level near the mean, so that constants give 0."""
    total, spread = 0, 0.0
    for i in range(histogram.size):
        total += i * histogram[i]
    near = total // n
    first, second = 0, 0
    for i in range(histogram.size):
        c = histogram[i]
        first += c * (i - near)
        second += c * (i - near) ** 2
        spread += count_log[c]
    variance = (second - float(first) * first / n) / n
    return total / n, variance, (np.log2(n) - spread / n if variance else 0.0)


@kernel
def _haralick(
    pairs: NDArray[np.int32],
    met: NDArray[np.int32],
    n_levels: int,
    count_log: NDArray[np.float64],
    out: NDArray[np.float64],
) -> bool:
    """Write the 13 features of one matrix, if any pair is in it.

    `DifferenceVariance` is that of the probabilities, as in CellProfiler.
    """
    level, total, gap = np.zeros(n_levels, np.int64), np.zeros(2 * n_levels, np.int64), np.zeros(n_levels, np.int64)
    n, squares, logs = _marginals(pairs, met, level, total, gap, count_log)
    if n == 0:
        return False
    _, variance, level_entropy = _mean_variance_entropy(level, n, count_log)
    sum_average, sum_variance, sum_entropy = _mean_variance_entropy(total, n, count_log)
    gap_average, gap_variance, gap_entropy = _mean_variance_entropy(gap, n, count_log)
    entropy = np.log2(n) - logs / n if variance else 0.0
    shared = entropy - 2 * level_entropy
    inverse, gap_squares = 0.0, 0.0
    for k in range(n_levels):
        inverse += gap[k] / (1.0 + k * k)
        gap_squares += (gap[k] / n - 1 / n_levels) ** 2
    out[0] = squares / (float(n) * n)
    out[1] = gap_variance + gap_average**2
    out[2] = (sum_variance / 2 - variance) / variance if variance else 1.0  # var(i + j) = 2 var(i) + 2 cov(i, j)
    out[3] = variance
    out[4] = inverse / n
    out[5] = sum_average
    out[6] = sum_variance
    out[7] = sum_entropy
    out[8] = entropy
    out[9] = gap_squares / n_levels
    out[10] = gap_entropy
    out[11] = shared / level_entropy if level_entropy else shared
    out[12] = np.sqrt(max(0.0, 1 - np.exp(2 * shared)))
    return True


@kernel
def _texture(
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    boxes: NDArray[np.int32],
    grey: NDArray[np.uint8],
    scale: int,
    count_log: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Features (direction, feature, object)."""
    n = pointer.size - 1
    out = np.full((4, 13, n), np.nan)
    pairs = np.zeros(256 * 256, np.int32)
    met, places = np.empty(count_log.size, np.int32), np.empty(count_log.size, np.int64)
    sizes = [(np.int64(h) + scale) * (np.int64(w) + scale) for h, w in boxes[:, 2:] - boxes[:, :2]]
    box = np.zeros(max(sizes) if n else 0, np.uint8)  # grey levels of one object, 0 around it
    features = np.empty((4, 13))
    for o in range(n):
        start, stop = pointer[o], pointer[o + 1]
        own, at = grey[start:stop], places[: stop - start]
        width = boxes[o, 3] - boxes[o, 1] + scale  # pairs to the left end in the margin of the row above
        for i in range(own.size):
            at[i] = (rows[start + i] - boxes[o, 0]) * width + cols[start + i] - boxes[o, 1]
            box[at[i]] = own[i]
        complete = True
        for k, step in enumerate((scale, scale * width + scale, scale * width, scale * width - scale)):
            n_met = _count_pairs(own, at, box, step, pairs, met)
            complete &= _haralick(pairs, met[:n_met], int(own.max()) + 1, count_log, features[k])
        if complete:
            out[:, :, o] = features
        box[at] = 0
    return out

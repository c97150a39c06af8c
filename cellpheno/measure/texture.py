"""Texture of objects in one channel: Haralick's features, CellProfiler's MeasureTexture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def texture(
    objects: Objects, image: NDArray[Any], channel: str, scales: Sequence[int] = (3,), levels: int = 256
) -> dict[str, NDArray[np.float64]]:
    """Haralick's 13 features in 4 directions, as CellProfiler 4.2 computes them.

    Grey levels are those of the full range of the camera, never stretched to the image or the object. Pairs of pixels
    that lie in the same object are counted, except those with grey level 0. If a direction has no such pair, all
    features of the object at that scale are nan, and so they are if the object holds nan or inf.

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
    if not 2 <= levels <= 256:
        raise ValueError(f"texture levels {levels}: wanted 2 to 256")
    if bad := [scale for scale in scales if scale < 1]:
        raise ValueError(f"texture scales {bad}: wanted 1 pixel or more")
    values = objects.once(pixel_values, image)
    finite = all_finite(objects, values)
    grey = np.zeros(image.size, np.uint8)
    grey[objects.places] = _quantize(values, levels, channel)
    count = np.arange(2 * objects.areas.max(initial=0) + 1, dtype=np.float64)
    count_log = count * np.log2(np.maximum(count, 1))  # c log2 c of every number of pairs that can occur
    features = {}
    for scale in scales:
        table = _texture(
            objects.labels, grey.reshape(image.shape), objects.pointer, objects.rows, objects.cols, scale, count_log
        )
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
    labels: NDArray[np.int32],
    grey: NDArray[np.uint8],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    dy: int,
    dx: int,
    pairs: NDArray[np.int32],
    met: NDArray[np.int32],
) -> int:
    """Count each pair (smaller level, larger level) of one object; list the cells of ``pairs`` that were met."""
    height, width = labels.shape
    n_met = 0
    own = labels[rows[0], cols[0]]
    for i in range(rows.size):
        y, x = rows[i] + dy, cols[i] + dx
        if y < height and 0 <= x < width and labels[y, x] == own:
            a, b = np.int32(grey[rows[i], cols[i]]), np.int32(grey[y, x])
            if a and b:
                cell = 256 * min(a, b) + max(a, b)
                if pairs[cell] == 0:
                    met[n_met] = cell
                    n_met += 1
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
) -> tuple[int, float, float, float]:
    """Histograms of the level, the sum and the difference over the symmetric matrix; empties ``pairs``.

    Returns the number of pairs both ways, the sum of squares, the sum of c log2 c and the inverse difference sum.
    """
    n, squares, entropy, inverse = 0, 0.0, 0.0, 0.0
    for cell in met:
        i, j, c = cell // 256, cell % 256, int(pairs[cell])
        pairs[cell] = 0
        n += 2 * c
        level[i] += c
        level[j] += c
        total[i + j] += 2 * c
        gap[j - i] += 2 * c
        inverse += 2 * c / (1 + (j - i) ** 2)
        if i == j:
            squares += float(2 * c) ** 2
            entropy += count_log[2 * c]
        else:
            squares += 2 * float(c) ** 2
            entropy += 2 * count_log[c]
    return n, squares, entropy, inverse


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
) -> None:
    """Write the 13 features of one matrix; `DifferenceVariance` is that of the probabilities, as in CellProfiler."""
    level, total, gap = np.zeros(n_levels, np.int64), np.zeros(2 * n_levels, np.int64), np.zeros(n_levels, np.int64)
    n, squares, logs, inverse = _marginals(pairs, met, level, total, gap, count_log)
    _, variance, level_entropy = _mean_variance_entropy(level, n, count_log)
    sum_average, sum_variance, sum_entropy = _mean_variance_entropy(total, n, count_log)
    gap_average, gap_variance, gap_entropy = _mean_variance_entropy(gap, n, count_log)
    contrast = gap_variance + gap_average**2
    entropy = np.log2(n) - logs / n if met.size > 1 or variance else 0.0
    shared = entropy - 2 * level_entropy
    gap_squares = 0.0
    for c in gap:
        gap_squares += (c / n - 1 / n_levels) ** 2
    out[0] = squares / (float(n) * n)
    out[1] = contrast
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


@kernel
def _texture(
    labels: NDArray[np.int32],
    grey: NDArray[np.uint8],
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    scale: int,
    count_log: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Features (direction, feature, object)."""
    n = pointer.size - 1
    out = np.full((4, 13, n), np.nan)
    pairs = np.zeros(256 * 256, np.int32)
    met = np.empty(count_log.size, np.int32)
    features = np.empty((4, 13))
    for o in range(n):
        y, x = rows[pointer[o] : pointer[o + 1]], cols[pointer[o] : pointer[o + 1]]
        brightest = 0
        for i in range(y.size):
            brightest = max(brightest, grey[y[i], x[i]])
        complete = True
        for k in range(4):
            dy, dx = (0 if k == 0 else scale), (0 if k == 2 else -scale if k == 3 else scale)
            n_met = _count_pairs(labels, grey, y, x, dy, dx, pairs, met)
            if n_met == 0:
                complete = False
            else:
                _haralick(pairs, met[:n_met], brightest + 1, count_log, features[k])
        if complete:
            for k in range(4):
                for j in range(13):
                    out[k, j, o] = features[k, j]
    return out

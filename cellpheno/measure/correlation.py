"""How alike two channels are within each object: CellProfiler's MeasureColocalization without Costes."""

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellpheno.bounds import Range, bounded
from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects, all_finite, full_scale, pixel_values
from cellpheno.measure.ranks import dense_ranks

_NAMES = (
    "Correlation_Correlation_{0}_{1}",
    "Correlation_Slope_{0}_{1}",
    "Correlation_Overlap_{0}_{1}",
    "Correlation_K_{0}_{1}",
    "Correlation_K_{1}_{0}",
    "Correlation_Manders_{0}_{1}",
    "Correlation_Manders_{1}_{0}",
    "Correlation_RWC_{0}_{1}",
    "Correlation_RWC_{1}_{0}",
)


class _Channel(NamedTuple):
    """What one channel contributes to every pair that it is in."""

    levels: NDArray[np.float64]  # (P,)
    ranks: NDArray[np.int32]  # (P,)
    highest_rank: NDArray[np.int64]  # (n,)
    mean: NDArray[np.float64]  # (n,)
    squares: NDArray[np.float64]  # (n,) of the distances to the mean; nan if constant
    cut: NDArray[np.float64]  # (n,) lowest level that passes the threshold
    passing: NDArray[np.float64]  # (n,) sum of the levels from the cut on


@bounded
def correlation(
    objects: Objects,
    image1: NDArray[Any],
    image2: NDArray[Any],
    channel1: str,
    channel2: str,
    threshold: Annotated[float, Range(0, 100, open_high=True)] = 15.0,
    reference: Literal["cellprofiler", "cp_measure"] = "cellprofiler",
) -> dict[str, NDArray[np.float64]]:
    """Correlation, overlap, Manders' and rank-weighted coefficients of two channels, as CellProfiler 4.2 has them.

    x and y are the grey levels of one pixel in the first and the second channel. A pixel is bright in a channel if it
    reaches ``threshold`` percent of the object's maximum there, and common if it is bright in both. A channel that is
    constant within the object has no correlation, one without a bright pixel no coefficient: nan. An object that holds
    nan or inf in one of the channels has nan throughout.

    Parameters
    ----------
    objects : Objects
    image1, image2 : ndarray of shape (y, x), uint8, uint16 or float
    channel1, channel2 : str
        As they stand in the column names.
    threshold : float
        Percent of the object's maximum.
    reference : {"cellprofiler", "cp_measure"}
        Whose definition where they differ. CellProfiler ranks over the pixels of all objects of the image, and an
        object without a common pixel has an overlap and K of nan; but if no object has one, all have 0. cp_measure
        ranks within each object, and an object without a common pixel has 0 throughout.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64

    Features
    --------
    Correlation_Correlation_<channel1>_<channel2> : 1
        Pearson's correlation of x and y over the object's pixels.
    Correlation_Slope_<channel1>_<channel2> : 1
        Slope of the least-squares line y = slope x + offset. CellProfiler has it for whole images only.
    Correlation_Overlap_<channel1>_<channel2> : fraction
        sum(x y) / sqrt(sum(x x) sum(y y)) over the common pixels.
    Correlation_K_<channel>_<other> : 1
        Of the common pixels, sum(x y) / sum(x x) where x is the channel named first.
    Correlation_Manders_<channel>_<other> : fraction
        Share of the intensity of the channel's bright pixels that lies in common pixels.
    Correlation_RWC_<channel>_<other> : fraction
        As Manders, each common pixel weighted by 1 - d / r: d is the difference of its ranks in the two channels, r
        the number of ranks. Equal levels share a rank.

    Raises
    ------
    ValueError
        If images and labels differ in shape, or the threshold or the reference is out of range.
    TypeError
        If an image has another type.

    References
    ----------
    Manders, Verbeek, Aten 1993, J. Microsc. 169(3), 375, doi:10.1111/j.1365-2818.1993.tb03313.x
    Singan et al. 2011, BMC Bioinformatics 12, 407, doi:10.1186/1471-2105-12-407

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> x, y = np.array([[10, 20, 0]], np.uint8), np.array([[30, 50, 10]], np.uint8)
    >>> features = correlation(index_objects(np.ones((1, 3), int)), x, y, "DNA", "ER")
    >>> features["Correlation_Correlation_DNA_ER"].item(), features["Correlation_Manders_ER_DNA"].item()
    (1.0, 0.8888888888888888)
    """
    x = objects.once(_channel, image1, threshold, reference)
    y = objects.once(_channel, image2, threshold, reference)
    scale = full_scale(image1) / full_scale(image2)  # of y / x
    n_ranks = np.maximum(x.highest_rank, y.highest_rank) + 1.0
    product, common, xx, yy, xy, x_sum, y_sum, x_weighted, y_weighted = _pair(
        objects.pointer, x.levels, y.levels, x.ranks, y.ranks, x.mean, y.mean, x.cut, y.cut, n_ranks
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        table = np.stack([
            product / np.sqrt(x.squares * y.squares),
            product / x.squares * scale,
            xy / np.sqrt(xx * yy),
            xy / xx * scale,
            xy / yy / scale,
            x_sum / x.passing,
            y_sum / y.passing,
            x_weighted / x.passing,
            y_weighted / y.passing,
        ])  # fmt: skip
    if reference == "cp_measure":
        table[2:, common == 0] = 0
    elif not common.any():
        table[2:] = 0
    for image in (image1, image2):
        table[:, ~all_finite(objects, objects.once(pixel_values, image))] = np.nan
    return {name.format(channel1, channel2): column for name, column in zip(_NAMES, table, strict=True)}


def grey_levels(objects: Objects, image: NDArray[Any]) -> NDArray[np.float64]:
    """Grey levels of all pixels of the objects as float64, not scaled: sums of integers stay exact.

    Nan and inf become the lowest level, so that the other objects are measured as if they were not there.

    Parameters
    ----------
    objects : Objects
    image : ndarray of shape (y, x), uint8, uint16 or float

    Returns
    -------
    ndarray of shape (P,), float64

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> grey_levels(index_objects(np.array([[2, 1, 1]])), np.array([[5, np.nan, 6]])).tolist()
    [5.0, 6.0, 5.0]
    """
    levels: NDArray[np.float64] = objects.once(pixel_values, image).astype(np.float64)
    if levels.size and not np.isfinite(levels.sum()):
        finite = np.isfinite(levels)
        levels[~finite] = levels[finite].min(initial=np.inf) if finite.any() else 0
    return levels


def lowest_level(wanted: NDArray[np.float64], image: NDArray[Any]) -> NDArray[np.float64]:
    """Lowest grey level of the image's type that is not below ``wanted`` on CellProfiler's scale.

    CellProfiler compares ``level / 65535 >= wanted``; with this the integers themselves can be compared, and ties go
    the same way.

    Examples
    --------
    >>> lowest_level(np.array([0.15 * 20 / 255]), np.zeros((1, 1), np.uint8)).tolist()
    [3.0]
    """
    if image.dtype.kind == "f":
        return wanted
    scale = full_scale(image)
    level = np.rint(wanted * scale)
    level = np.where(level / scale < wanted, level + 1, level)
    return np.where((level - 1) / scale >= wanted, level - 1, level)


def _channel(objects: Objects, image: NDArray[Any], threshold: float, reference: str) -> _Channel:
    scale = full_scale(image)
    levels = objects.once(grey_levels, image)
    everywhere = np.array([0, levels.size])  # CellProfiler ranks all objects' pixels at once
    pointer = objects.pointer if reference == "cp_measure" else everywhere
    whole = image.dtype.kind == "u"
    ranks = dense_ranks(pointer, objects.once(pixel_values, image) if whole else levels)
    mean, squares, brightest, highest_rank = _moments(objects.pointer, levels, ranks)
    if reference == "cellprofiler":
        highest_rank[:] = highest_rank.max(initial=0)
    cut = lowest_level(threshold / 100 * (brightest / scale), image)
    return _Channel(levels, ranks, highest_rank, mean, squares, cut, _sum_from(objects.pointer, levels, cut))


@kernel
def _moments(
    pointer: NDArray[np.int64], levels: NDArray[np.float64], ranks: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean, squared distances to it (nan if constant), maximum and highest rank of each object."""
    n = pointer.size - 1
    mean, squares, brightest, highest = np.empty(n), np.full(n, np.nan), np.empty(n), np.zeros(n, np.int64)
    for o in range(n):
        own, total, low, high = levels[pointer[o] : pointer[o + 1]], 0.0, np.inf, -np.inf
        for level in own:
            total += level
            low, high = min(low, level), max(high, level)
        mean[o], brightest[o] = total / own.size, high
        if low < high:
            squares[o] = 0
            for level in own:
                squares[o] += (level - mean[o]) ** 2
        for i in range(pointer[o], pointer[o + 1]):
            highest[o] = max(highest[o], ranks[i])
    return mean, squares, brightest, highest


@kernel
def _sum_from(pointer: NDArray[np.int64], levels: NDArray[np.float64], cut: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of each object's levels that reach its cut."""
    sums = np.zeros(cut.size)
    for o in range(cut.size):
        for level in levels[pointer[o] : pointer[o + 1]]:
            if level >= cut[o]:
                sums[o] += level
    return sums


@kernel
def _pair(
    pointer: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_ranks: NDArray[np.int32],
    y_ranks: NDArray[np.int32],
    x_mean: NDArray[np.float64],
    y_mean: NDArray[np.float64],
    x_cut: NDArray[np.float64],
    y_cut: NDArray[np.float64],
    n_ranks: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sum over each object: of the products of distances to the means; then over common pixels, of nine things."""
    out = np.empty((9, x_mean.size))
    for o in range(x_mean.size):
        product, common, xx, yy, xy, x_sum, y_sum, x_far, y_far = 0.0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(pointer[o], pointer[o + 1]):
            a, b = x[i], y[i]
            product += (a - x_mean[o]) * (b - y_mean[o])
            if a >= x_cut[o] and b >= y_cut[o]:
                far = abs(x_ranks[i] - y_ranks[i])
                common += 1
                xx += a * a
                yy += b * b
                xy += a * b
                x_sum += a
                y_sum += b
                x_far += a * far
                y_far += b * far
        out[0, o], out[1, o], out[2, o], out[3, o], out[4, o] = product, common, xx, yy, xy
        out[5, o], out[6, o] = x_sum, y_sum
        out[7, o], out[8, o] = x_sum - x_far / n_ranks[o], y_sum - y_far / n_ranks[o]
    return out

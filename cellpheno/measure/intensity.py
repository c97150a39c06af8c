"""Intensity of objects in one channel: CellProfiler's MeasureObjectIntensity."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellpheno.bounds import bounded
from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects, all_finite, full_scale, pixel_values, sort_within

_GREY = (  # in order of the kernel's columns; these scale with the image
    "Intensity_IntegratedIntensity_{}",
    "Intensity_MeanIntensity_{}",
    "Intensity_StdIntensity_{}",
    "Intensity_MinIntensity_{}",
    "Intensity_MaxIntensity_{}",
    "Intensity_IntegratedIntensityEdge_{}",
    "Intensity_MeanIntensityEdge_{}",
    "Intensity_StdIntensityEdge_{}",
    "Intensity_MinIntensityEdge_{}",
    "Intensity_MaxIntensityEdge_{}",
    "Intensity_LowerQuartileIntensity_{}",
    "Intensity_MedianIntensity_{}",
    "Intensity_MADIntensity_{}",
    "Intensity_UpperQuartileIntensity_{}",
)
_PLACES = (  # these are in pixels
    "Intensity_MassDisplacement_{}",
    "Location_CenterMassIntensity_X_{}",
    "Location_CenterMassIntensity_Y_{}",
    "Location_MaxIntensity_X_{}",
    "Location_MaxIntensity_Y_{}",
)


@bounded
def intensity(
    objects: Objects,
    image: NDArray[Any],
    channel: str,
    reference: Literal["cellprofiler", "cp_measure"] = "cellprofiler",
) -> dict[str, NDArray[np.float64]]:
    """Intensity of each object in one channel, as CellProfiler 4.2 defines it.

    Grey levels are on CellProfiler's scale: uint8 / 255, uint16 / 65535, float as it is. Standard deviations divide by
    the number of pixels. Edge pixels have another label above, below, left or right; an object without any has nan
    there (CellProfiler: 0), and nan is the place of the mass of a black object. Of equal maxima the first in raster
    order is the place (CellProfiler's choice among them changes with the version of its sort). An object that holds
    nan or inf has nan throughout. The image is plane: CellProfiler's places along Z, always 0 there, are left out.

    Parameters
    ----------
    objects : Objects
    image : ndarray of shape (y, x), uint8, uint16 or float
    channel : str
        As it stands in the column names.
    reference : {"cellprofiler", "cp_measure"}
        Where the quantile q of m sorted values stands, counted from 0: at q m in CellProfiler 4.2, at q (m - 1) in
        cp_measure 0.3. Quartiles, median and median absolute deviation depend on it.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64
        Places and displacements in pixels.

    Raises
    ------
    ValueError
        If image and labels differ in shape, or the reference is neither of the two.
    TypeError
        If the image has another type.

    Features
    --------
    Intensity_IntegratedIntensity_<channel> : grey level
        Sum of the pixels.
    Intensity_MeanIntensity_<channel> : grey level
        Mean of the pixels.
    Intensity_StdIntensity_<channel> : grey level
        Standard deviation of the pixels.
    Intensity_MinIntensity_<channel> : grey level
        Darkest pixel.
    Intensity_MaxIntensity_<channel> : grey level
        Brightest pixel.
    Intensity_IntegratedIntensityEdge_<channel> : grey level
        Sum of the edge pixels.
    Intensity_MeanIntensityEdge_<channel> : grey level
        Mean of the edge pixels.
    Intensity_StdIntensityEdge_<channel> : grey level
        Standard deviation of the edge pixels.
    Intensity_MinIntensityEdge_<channel> : grey level
        Darkest edge pixel.
    Intensity_MaxIntensityEdge_<channel> : grey level
        Brightest edge pixel.
    Intensity_LowerQuartileIntensity_<channel> : grey level
        Level below which a quarter of the pixels lie.
    Intensity_MedianIntensity_<channel> : grey level
        Median of the pixels.
    Intensity_MADIntensity_<channel> : grey level
        Median absolute deviation from the median.
    Intensity_UpperQuartileIntensity_<channel> : grey level
        Level below which three quarters of the pixels lie.
    Intensity_MassDisplacement_<channel> : pixel
        Distance from the centre of the object's area to the centre of its intensity.
    Location_CenterMassIntensity_<axis>_<channel> : pixel
        Mean column (``X``) or row (``Y``) of the pixels, weighted by their grey levels.
    Location_MaxIntensity_<axis>_<channel> : pixel
        Column (``X``) or row (``Y``) of the brightest pixel.

    References
    ----------
    Stirling et al. 2021, BMC Bioinformatics 22, 433, doi:10.1186/s12859-021-04344-9 (CellProfiler 4)

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> features = intensity(index_objects(np.array([[1, 1, 2]])), np.array([[0, 255, 51]], np.uint8), "DNA")
    >>> features["Intensity_MeanIntensity_DNA"].tolist()
    [0.5, 0.2]
    """
    scale = full_scale(image)
    values = objects.once(pixel_values, image)  # (P,)
    table = _intensity(
        objects.pointer,
        objects.rows,
        objects.cols,
        objects.inner_edge,
        values.astype(np.float64, copy=False),
        sort_within(objects, values).astype(np.float64, copy=False),
        0 if reference == "cellprofiler" else 1,
    )  # (n, features)
    table[~all_finite(objects, values)] = np.nan
    table[:, : len(_GREY)] /= scale
    columns = np.ascontiguousarray(table.T)
    return {name.format(channel): column for name, column in zip(_GREY + _PLACES, columns, strict=True)}


@kernel
def _value_at(ordered: NDArray[np.float64], position: float) -> float:
    """Value at a place between two neighbours, by their distances to it."""
    low = min(int(position), ordered.size - 1)
    high = min(low + 1, ordered.size - 1)
    weight = position - low
    return float(ordered[low] * (1 - weight) + ordered[high] * weight)


@kernel
def _median_deviation(ordered: NDArray[np.float64], centre: float, less: int) -> float:
    """Median distance to ``centre``: the distances come in ascending order when walking from the centre outwards."""
    high = 0
    while high < ordered.size and ordered[high] < centre:
        high += 1
    low = high - 1
    nearest = np.empty(min(ordered.size // 2 + 2, ordered.size))  # as far as the median
    for i in range(nearest.size):
        if high == ordered.size or (low >= 0 and centre - ordered[low] <= ordered[high] - centre):
            nearest[i] = centre - ordered[low]
            low -= 1
        else:
            nearest[i] = ordered[high] - centre
            high += 1
    return _value_at(nearest, 0.5 * (ordered.size - less))


@kernel
def _spread(values: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Sum, mean, standard deviation, minimum and maximum; nan of nothing."""
    total, low, high = 0.0, np.inf, -np.inf
    for value in values:
        total += value
        low, high = min(low, value), max(high, value)
    mean = total / values.size
    squares = 0.0
    for value in values:
        squares += (value - mean) ** 2
    if values.size:
        out[0], out[1], out[2], out[3], out[4] = total, mean, np.sqrt(squares / values.size), low, high
    else:
        out[:] = np.nan


@kernel
def _intensity(
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    edge: NDArray[np.bool_],
    values: NDArray[np.float64],
    ordered: NDArray[np.float64],
    less: int,
) -> NDArray[np.float64]:
    """Features (object, feature); the quantile q stands at q times the number of pixels less ``less``."""
    out = np.empty((pointer.size - 1, 19))
    for o in range(pointer.size - 1):
        start, stop = pointer[o], pointer[o + 1]
        own, ranked, row = values[start:stop], ordered[start:stop], out[o]
        _spread(own, row[:5])
        _spread(own[edge[start:stop]], row[5:10])
        m = own.size - less
        row[10], row[11], row[13] = _value_at(ranked, 0.25 * m), _value_at(ranked, 0.5 * m), _value_at(ranked, 0.75 * m)
        row[12] = _median_deviation(ranked, row[11], less)
        y, x, mass_y, mass_x = 0.0, 0.0, 0.0, 0.0
        brightest = start
        for i in range(start, stop):
            y += rows[i]
            x += cols[i]
            mass_y += values[i] * rows[i]
            mass_x += values[i] * cols[i]
            if values[i] > values[brightest]:
                brightest = i
        mass_y, mass_x = mass_y / row[0], mass_x / row[0]
        row[14] = np.sqrt((mass_y - y / own.size) ** 2 + (mass_x - x / own.size) ** 2)
        row[15], row[16], row[17], row[18] = mass_x, mass_y, cols[brightest], rows[brightest]
    return out

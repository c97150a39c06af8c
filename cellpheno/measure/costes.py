"""Costes' coefficients: Manders' above a threshold that the two channels set each other."""

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellpheno.bounds import Range, bounded
from cellpheno.measure.correlation import grey_levels, lowest_level
from cellpheno.measure.costes_threshold import image_threshold, object_thresholds
from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects, all_finite, full_scale, pixel_values


@bounded
def costes(
    objects: Objects,
    image1: NDArray[Any],
    image2: NDArray[Any],
    channel1: str,
    channel2: str,
    steps: Annotated[int, Range(2, 2**24)] = 65535,
    reference: Literal["cellprofiler", "cp_measure"] = "cellprofiler",
) -> dict[str, NDArray[np.float64]]:
    """Manders' coefficients above Costes' automatic threshold, found by CellProfiler 4.2's "Faster" bisection.

    The line is the orthogonal regression of the pixels that are not 0 in both channels. An object that holds nan or
    inf in one of the channels has nan.

    Parameters
    ----------
    objects : Objects
    image1, image2 : ndarray of shape (y, x), uint8, uint16 or float
    channel1, channel2 : str
        As they stand in the column names.
    steps : int
        Steps from 0 to 1 in which the threshold of float images moves; that of integers moves by one grey level, of
        the finer image if their types differ.
    reference : {"cellprofiler", "cp_measure"}
        Whose definition where they differ. CellProfiler finds one threshold for all pixels of the image, background
        included; if no pixel of any object lies above it in both channels, all objects have 0. Where the line is not
        defined (a constant channel, no covariance) CellProfiler's values are noise, and nan here. cp_measure finds a
        threshold for each object, and nan where no step of the search has a correlation of 0 or more, or the line or
        the last background is not defined, or one of the channels has no intensity from its threshold on.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64

    Features
    --------
    Correlation_Costes_<channel>_<other> : fraction
        Share of the intensity of the channel's pixels from Costes' threshold on that lies in pixels above the
        threshold in both channels.

    Raises
    ------
    ValueError
        If images and labels differ in shape, or the steps or the reference are out of range.
    TypeError
        If an image has another type.

    References
    ----------
    Costes et al. 2004, Biophys. J. 86(6), 3993, doi:10.1529/biophysj.103.038422

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> x = np.array([[1, 2, 1, 2, 60, 90]], np.uint8)
    >>> y = np.array([[2, 1, 1, 2, 50, 80]], np.uint8)
    >>> features = costes(index_objects(np.array([[1, 1, 1, 1, 1, 1]])), x, y, "DNA", "ER")
    >>> round(features["Correlation_Costes_DNA_ER"].item(), 4)
    0.974
    """
    x, y = objects.once(grey_levels, image1), objects.once(grey_levels, image2)
    n_steps = max(int(full_scale(image)) if image.dtype.kind == "u" else steps for image in (image1, image2))
    scales = full_scale(image1), full_scale(image2)
    if reference == "cp_measure":
        thresholds = object_thresholds(objects.pointer, x, y, *scales, n_steps)
    else:
        thresholds = np.repeat(image_threshold(image1, image2, n_steps)[:, np.newaxis], len(objects), axis=1)
    from1, from2 = (lowest_level(t, image) for t, image in zip(thresholds, (image1, image2), strict=True))
    above1, above2 = (
        lowest_level(np.nextafter(t, np.inf), image) for t, image in zip(thresholds, (image1, image2), strict=True)
    )
    x_both, y_both, x_sum, y_sum = _sums_above(objects.pointer, x, y, from1, from2, above1, above2)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.stack([x_both / x_sum, y_both / y_sum])  # (2, n)
    if reference == "cp_measure":
        shares[:, (x_sum <= 0) | (y_sum <= 0)] = np.nan
    elif not (x_both.any() or y_both.any()):
        shares[:] = 0
    shares[:, np.isnan(thresholds).any(axis=0)] = np.nan
    for image in (image1, image2):
        shares[:, ~all_finite(objects, objects.once(pixel_values, image))] = np.nan
    names = f"Correlation_Costes_{channel1}_{channel2}", f"Correlation_Costes_{channel2}_{channel1}"
    return dict(zip(names, shares, strict=True))


@kernel
def _sums_above(
    pointer: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    from1: NDArray[np.float64],
    from2: NDArray[np.float64],
    above1: NDArray[np.float64],
    above2: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sum x and y of each object, where both are above; then x where it is from its threshold on, and y likewise."""
    sums = np.zeros((4, from1.size))
    for o in range(from1.size):
        x_both, y_both, x_own, y_own = 0.0, 0.0, 0.0, 0.0
        for i in range(pointer[o], pointer[o + 1]):
            a, b = x[i], y[i]
            if a >= above1[o] and b >= above2[o]:
                x_both += a
                y_both += b
            if a >= from1[o]:
                x_own += a
            if b >= from2[o]:
                y_own += b
        sums[0, o], sums[1, o], sums[2, o], sums[3, o] = x_both, y_both, x_own, y_own
    return sums

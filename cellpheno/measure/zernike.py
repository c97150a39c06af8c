"""Zernike moments of objects: of the shape and of the intensity in one channel."""

from functools import lru_cache
from math import comb, factorial
from typing import Annotated, Any

import numpy as np
from numpy.polynomial.chebyshev import poly2cheb
from numpy.typing import NDArray

from cellpheno.bounds import Range, bounded
from cellpheno.measure.hull import enclosing_circles
from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects, all_finite, full_scale, pixel_values

_LANES = 4  # numbers that the processor adds at once


@bounded
def zernike(objects: Objects, degree: Annotated[int, Range(0, 20)] = 9) -> dict[str, NDArray[np.float64]]:
    """Zernike moments of each object's shape, as CellProfiler 4.2 defines them.

    The unit disk is the smallest circle round the pixel centres, and only pixels in it count: of those that lie on the
    circle round-off drops some, the same ones as in CellProfiler. One pixel has a circle of radius 0 and nan.

    Parameters
    ----------
    objects : Objects
    degree : int, default 9
        Highest n, from 0 on.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64

    Raises
    ------
    ValueError
        If the degree is negative or above 20, where CellProfiler's limit is.

    Features
    --------
    AreaShape_Zernike_<n>_<m> : 1
        Magnitude of the sum of the Zernike polynomial of degree n and angular frequency m over the object's pixels,
        divided by the area of the smallest enclosing circle.

    References
    ----------
    Boland, Markey, Murphy 1998, Cytometry 33(3), 366,
    doi:10.1002/(SICI)1097-0320(19981101)33:3<366::AID-CYTO12>3.0.CO;2-R

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> features = zernike(index_objects(np.ones((1, 3), int)))  # 3 pixels in a circle of radius 1
    >>> round(features["AreaShape_Zernike_0_0"].item() * np.pi, 12)
    3.0
    """
    real, imaginary = _moments(objects, np.ones(len(objects.rows)), degree)
    radii = objects.once(enclosing_circles)[:, 2]
    magnitude = np.hypot(real, imaginary) / (np.pi * radii**2)
    return {f"AreaShape_Zernike_{n}_{m}": row for (n, m), row in zip(_orders(degree), magnitude, strict=True)}


@bounded
def intensity_zernike(
    objects: Objects, image: NDArray[Any], channel: str, degree: Annotated[int, Range(0, 20)] = 9
) -> dict[str, NDArray[np.float64]]:
    """Zernike moments of each object's intensity in one channel, as CellProfiler 4.2 defines them.

    The unit disk is that of `zernike`. Grey levels are on CellProfiler's scale: uint8 / 255, uint16 / 65535, float as
    it is. The phase is arctan2(real, imaginary), CellProfiler's choice: pi/2 less the usual one. An object that holds
    nan or inf, or is one pixel, has nan throughout.

    Parameters
    ----------
    objects : Objects
    image : ndarray of shape (y, x), uint8, uint16 or float
    channel : str
        As it stands in the column names.
    degree : int, default 9
        Highest n, from 0 on.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64

    Raises
    ------
    ValueError
        If image and labels differ in shape, or the degree is negative or above 20, where CellProfiler's limit is.
    TypeError
        If the image has another type.

    Features
    --------
    RadialDistribution_ZernikeMagnitude_<channel>_<n>_<m> : grey level
        Magnitude of the sum of intensity times the Zernike polynomial of degree n and angular frequency m over the
        object's pixels, divided by their number.
    RadialDistribution_ZernikePhase_<channel>_<n>_<m> : radian
        Direction of the same sum, -pi to pi; it turns with the object, and means nothing where the magnitude is 0.

    References
    ----------
    Khotanzad, Hong 1990, IEEE Trans. PAMI 12(5), 489, doi:10.1109/34.55109

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> image = np.array([[51, 0, 51]], np.uint8)
    >>> features = intensity_zernike(index_objects(np.ones((1, 3), int)), image, "DNA")
    >>> round(features["RadialDistribution_ZernikeMagnitude_DNA_2_2"].item(), 12)
    0.133333333333
    """
    scale = full_scale(image)
    values = objects.once(pixel_values, image)
    real, imaginary = _moments(objects, values.astype(np.float64), degree)
    magnitude = np.hypot(real, imaginary) / (scale * objects.areas)
    phase = np.arctan2(real, imaginary)
    bad = ~all_finite(objects, values)
    magnitude[:, bad] = phase[:, bad] = np.nan
    features = {}
    for k, (n, m) in enumerate(_orders(degree)):
        features[f"RadialDistribution_ZernikeMagnitude_{channel}_{n}_{m}"] = magnitude[k]
        features[f"RadialDistribution_ZernikePhase_{channel}_{n}_{m}"] = phase[k]
    return features


def _orders(degree: int) -> list[tuple[int, int]]:
    """Give (n, m) in order of the columns."""
    return [(n, m) for n in range(degree + 1) for m in range(n % 2, n + 1, 2)]


def _moments(
    objects: Objects, values: NDArray[np.float64], degree: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Real and imaginary sum of value times polynomial, two arrays (orders, n).

    The Chebyshev products T_p(y) T_q(x), p + q <= degree, span the same space, and a row of pixels needs only the
    T_q(x), which depend on the column alone: a pixel costs degree + 1 multiplications, whatever the orders.
    """
    circles = objects.once(enclosing_circles)
    width = -(-(degree + 1) // _LANES) * _LANES
    sums = _chebyshev_sums(objects.pointer, objects.rows, objects.cols, objects.boxes, circles, values, width)
    real, imaginary = _combined(_polynomials(degree), sums)
    return real, imaginary


@lru_cache
def _polynomials(degree: int) -> NDArray[np.float64]:
    """Coefficients of the Zernike polynomials in T_p(y) T_q(x), (2, orders, degree + 1, degree + 1), real first.

    The angle is measured from the y axis: exp(i m phi) = (y + i x)^m / r^m.
    """
    powers = np.zeros((2, len(_orders(degree)), degree + 1, degree + 1))  # of y and x
    for k, (n, m) in enumerate(_orders(degree)):
        for s in range((n - m) // 2 + 1):
            radial = (-1) ** s * factorial(n - s)
            radial //= factorial(s) * factorial((n + m) // 2 - s) * factorial((n - m) // 2 - s)
            half = (n - m) // 2 - s  # the term is radial * (y^2 + x^2)^half * (y + i x)^m
            for a in range(half + 1):
                for b in range(m + 1):
                    sign = -1 if b % 4 > 1 else 1  # of i^b
                    powers[b % 2, k, n - 2 * s - 2 * a - b, 2 * a + b] += sign * radial * comb(half, a) * comb(m, b)
    to_chebyshev = np.zeros((degree + 1, degree + 1))
    for p in range(degree + 1):
        to_chebyshev[: p + 1, p] = poly2cheb(np.eye(p + 1)[p])
    polynomials: NDArray[np.float64] = np.einsum("pa,qb,ikab->ikpq", to_chebyshev, to_chebyshev, powers)
    return polynomials


@kernel
def _chebyshev_table(places: NDArray[np.float64], table: NDArray[np.float64]) -> None:
    """Write T_0 ... of each place into the rows of ``table``."""
    for i in range(places.size):
        table[i, 0], table[i, 1] = 1.0, places[i]
        for k in range(2, table.shape[1]):
            table[i, k] = 2 * places[i] * table[i, k - 1] - table[i, k - 2]


@kernel
def _chebyshev_sums(
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    boxes: NDArray[np.int32],
    circles: NDArray[np.float64],
    values: NDArray[np.float64],
    width: int,
) -> NDArray[np.float64]:
    """Sums of value * T_p(y) * T_q(x) over each object's pixels in the unit disk, (n, width, width)."""
    out = np.zeros((pointer.size - 1, width, width))
    in_row = np.empty(width)
    for o in range(pointer.size - 1):
        top, left, radius = boxes[o, 0], boxes[o, 1], circles[o, 2]
        y = (np.arange(top, boxes[o, 2]) - circles[o, 0]) / radius
        x = (np.arange(left, boxes[o, 3]) - circles[o, 1]) / radius
        of_y, of_x = np.empty((y.size, width)), np.empty((x.size, width))
        _chebyshev_table(y, of_y)
        _chebyshev_table(x, of_x)
        yy, xx = y * y, x * x  # in this order of operations, which decides what is on the circle
        i = pointer[o]
        while i < pointer[o + 1]:
            row = rows[i]
            in_row[:] = 0
            while i < pointer[o + 1] and rows[i] == row:
                column = cols[i] - left
                if not xx[column] + yy[row - top] > 1:
                    for q in range(0, width, _LANES):
                        for lane in range(_LANES):
                            in_row[q + lane] += values[i] * of_x[column, q + lane]
                i += 1
            for p in range(width):
                for q in range(width - p):
                    out[o, p, q] += of_y[row - top, p] * in_row[q]
    return out


@kernel
def _combined(polynomials: NDArray[np.float64], sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the Zernike polynomials from those of the Chebyshev products, (2, orders, n)."""
    parts, orders, terms, _ = polynomials.shape
    out = np.zeros((parts, orders, sums.shape[0]))
    for part in range(parts):
        for k in range(orders):
            for o in range(sums.shape[0]):
                for p in range(terms):
                    for q in range(terms - p):
                        out[part, k, o] += polynomials[part, k, p, q] * sums[o, p, q]
    return out

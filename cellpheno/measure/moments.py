"""Moments of the shape of objects: the advanced features of CellProfiler's MeasureObjectSizeShape."""

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects


def moments(objects: Objects) -> dict[str, NDArray[np.float64]]:
    """Moments of each object's shape up to the third order in y and in x, as CellProfiler 4.2 defines them.

    Objects are flat: there are no moments in z. The first index is the power of y, the second that of x. Sums are those
    of whole numbers about a pixel near the centre, exact up to 2^53, so that the moments do not depend on where in the
    image the object lies. The first central moments are 0, where CellProfiler has the error of its rounding.

    Parameters
    ----------
    objects : Objects

    Returns
    -------
    dict of str to ndarray of shape (n,), float64

    Features
    --------
    AreaShape_SpatialMoment_<p>_<q> : pixel^(p+q+2)
        Sum of y^p x^q over the pixels, from the first row and column of the bounding box.
    AreaShape_CentralMoment_<p>_<q> : pixel^(p+q+2)
        Sum of y^p x^q over the pixels, from the centre.
    AreaShape_NormalizedMoment_<p>_<q> : 1
        Central moment / area^((p + q) / 2 + 1); undefined (nan) for p + q < 2.
    AreaShape_HuMoment_<k> : 1
        Hu's polynomials of the normalized moments, which do not change when the object is turned; the last one changes
        its sign in the mirror.
    AreaShape_InertiaTensor_<i>_<j> : pixel^2
        Variance of x (0_0), of y (1_1) and their negative covariance (0_1, 1_0).
    AreaShape_InertiaTensorEigenvalues_<k> : pixel^2
        Variance along the major (0) and the minor (1) axis.

    References
    ----------
    Hu 1962, IRE Transactions on Information Theory 8(2), 179, doi:10.1109/TIT.1962.1057692

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> features = moments(index_objects(np.array([[0, 1, 1, 1]])))
    >>> [features[f"AreaShape_{name}Moment_0_2"].item() for name in ("Spatial", "Central")]
    [5.0, 2.0]
    """
    central = objects.once(central_moments)
    normalized = _normalized(central)
    yy, xx, xy = variances(objects)
    largest, smallest = principal_variances(yy, xx, xy)
    tables = {"Spatial": _spatial_moments(objects)[:, :3], "Central": central[:, :3], "Normalized": normalized}
    features = {
        f"{name}Moment_{p}_{q}": np.ascontiguousarray(table[:, p, q])
        for name, table in tables.items()
        for p in range(table.shape[1])
        for q in range(4)
    }
    features |= {f"HuMoment_{k}": invariant for k, invariant in enumerate(_hu(normalized))}
    features |= {"InertiaTensor_0_0": xx, "InertiaTensor_0_1": -xy, "InertiaTensor_1_0": -xy, "InertiaTensor_1_1": yy}
    features |= {"InertiaTensorEigenvalues_0": largest, "InertiaTensorEigenvalues_1": smallest}
    return {f"AreaShape_{name}": values for name, values in features.items()}


def central_moments(objects: Objects) -> NDArray[np.float64]:
    """Sums of y^p x^q over each object's pixels, from its centre.

    Returns
    -------
    ndarray of shape (n, 4, 4), float64
        Entry (p, q).

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> central_moments(index_objects(np.array([[1, 1], [1, 1]])))[0, 2, 2].item()
    0.25
    """
    sums = objects.once(_near_moments)[1]
    central = _shifted(sums, -sums[:, 1, 0] / sums[:, 0, 0], -sums[:, 0, 1] / sums[:, 0, 0])
    central[:, 1, 0] = central[:, 0, 1] = 0
    return central


def variances(objects: Objects) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Variance of y, variance of x and covariance over each object's pixels, three arrays (n,).

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> [values.item() for values in variances(index_objects(np.array([[1, 1, 1, 1]])))]
    [0.0, 1.25, 0.0]
    """
    central = objects.once(central_moments)
    yy, xx, xy = (central[:, p, q] / central[:, 0, 0] for p, q in ((2, 0), (0, 2), (1, 1)))
    return yy, xx, xy


def principal_variances(
    yy: NDArray[np.float64], xx: NDArray[np.float64], xy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest and smallest variance along any line, of the variances of y and x and their covariance.

    Examples
    --------
    >>> [values.item() for values in principal_variances(np.array([2.0]), np.array([2.0]), np.array([1.0]))]
    [3.0, 1.0]
    """
    middle, half = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    return middle + half, np.maximum(middle - half, 0)


def _spatial_moments(objects: Objects) -> NDArray[np.float64]:
    """Sums of y^p x^q from the first row and column of the box, (n, 4, 4)."""
    origins, sums = objects.once(_near_moments)
    shift = (origins - objects.boxes[:, :2]).astype(np.float64)
    return _shifted(sums, np.ascontiguousarray(shift[:, 0]), np.ascontiguousarray(shift[:, 1]))


def _near_moments(objects: Objects) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixel near the centre (n, 2), and the sums of y^p x^q from there (n, 4, 4)."""
    return _sums(objects.pointer, objects.rows, objects.cols)


def _normalized(central: NDArray[np.float64]) -> NDArray[np.float64]:
    orders = np.add.outer(np.arange(4), np.arange(4))
    scaled = central / central[:, :1, :1] ** (orders / 2 + 1)
    return np.where(orders < 2, np.nan, scaled)


def _hu(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hu's seven invariants of normalized moments (n, 4, 4), (7, n)."""
    yy, xx, xy = moments[:, 2, 0], moments[:, 0, 2], moments[:, 1, 1]
    yyy, xxx, yyx, yxx = moments[:, 3, 0], moments[:, 0, 3], moments[:, 2, 1], moments[:, 1, 2]
    second = yy - xx + 2j * xy  # turning the object by t multiplies it by exp(2it), the others by exp(it) and exp(3it)
    first, third = yyy + yxx + 1j * (yyx + xxx), yyy - 3 * yxx + 1j * (3 * yyx - xxx)
    skew = third * np.conj(first) ** 3
    invariants = (yy + xx, abs(second) ** 2, abs(third) ** 2, abs(first) ** 2, skew.real)
    return np.stack([*invariants, (second * np.conj(first) ** 2).real, skew.imag])


@kernel
def _sums(
    pointer: NDArray[np.int64], rows: NDArray[np.int32], cols: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    origins, out = np.empty((pointer.size - 1, 2), np.int64), np.zeros((pointer.size - 1, 4, 4))
    for o in range(pointer.size - 1):
        start, stop = pointer[o], pointer[o + 1]
        y0, x0 = np.int64(0), np.int64(0)
        for i in range(start, stop):
            y0 += rows[i]
            x0 += cols[i]
        y0, x0 = y0 // (stop - start), x0 // (stop - start)
        origins[o, 0], origins[o, 1] = y0, x0
        i = start
        while i < stop:
            row = rows[i]
            one, u1, u2, u3 = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
            while i < stop and rows[i] == row:
                u = cols[i] - x0
                one += 1
                u1 += u
                u2 += u * u
                u3 += u * u * u
                i += 1
            weight = 1.0
            for p in range(4):
                out[o, p, 0] += weight * one
                out[o, p, 1] += weight * u1
                out[o, p, 2] += weight * u2
                out[o, p, 3] += weight * u3
                weight *= row - y0
    return origins, out


@kernel
def _shifted(sums: NDArray[np.float64], by_y: NDArray[np.float64], by_x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of (y + by_y)^p (x + by_x)^q from those of y^p x^q."""
    choose = ((1, 0, 0, 0), (1, 1, 0, 0), (1, 2, 1, 0), (1, 3, 3, 1))
    out = np.zeros(sums.shape)
    for o in range(sums.shape[0]):
        for p in range(4):
            for q in range(4):
                for a in range(p + 1):
                    for b in range(q + 1):
                        weight = choose[p][a] * by_y[o] ** (p - a) * choose[q][b] * by_x[o] ** (q - b)
                        out[o, p, q] += weight * sums[o, a, b]
    return out

"""Whiten features, so that many correlated ones do not outvote few: fitted on training wells, applied to any wells."""

from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cellpheno.bounds import Range
from cellpheno.errors import InputError


class Sphering(NamedTuple):
    """What a whitening learned: the middle, r principal axes, and the factor along each and across all of them."""

    center: NDArray[np.float64]  # (d,)
    axes: NDArray[np.float64]  # (d, r), orthonormal columns, longest first
    along: NDArray[np.float64]  # (r,)
    across: float
    rotate_back: bool


def fit_sphering(
    values: NDArray[np.float64], *, regularization: Annotated[float, Range(0, 1)] = 0.1, rotate_back: bool = True
) -> Sphering:
    """Fit a whitening: afterwards the training wells are uncorrelated and each direction varies alike.

    The eigenvalues l of the covariance are first drawn to their mean m: ``(1 - regularization) l + regularization m``.
    With fewer wells than features most are 0, and dividing by them would blow up what the training wells never showed.

    Parameters
    ----------
    values : array of shape (n, d), float
        Scaled features of training wells, without nan.
    regularization : float
        Above 0 to 1; 1 leaves the directions as they are. 0 only with more wells than features.
    rotate_back : bool
        ZCA: the result stays as close to the features as it can be. Otherwise PCA: principal components, of which
        those that do not vary are left out.

    Raises
    ------
    InputError
        If the regularization is out of range, or 0 though some direction does not vary.

    References
    ----------
    Kessy, Lewin, Strimmer 2018, The American Statistician 72, 309, doi:10.1080/00031305.2016.1277159

    Examples
    --------
    >>> values = np.array([[1.0, 0.9], [-1.0, -0.9], [0.5, -0.5], [-0.5, 0.5]])
    >>> white = apply_sphering(values, fit_sphering(values, regularization=0))
    >>> np.abs(np.cov(white.T)).round(6).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not 0 <= regularization <= 1:
        raise InputError(f"regularization {regularization}: wanted 0 to 1")
    n, d = values.shape
    center = values.mean(axis=0)
    _, singular, axes = np.linalg.svd(values - center, full_matrices=False)  # axes (min(n, d), d)
    varies = singular > 1e-9 * max(1.0, float(singular.max(initial=0)))
    eigenvalues = singular[varies] ** 2 / max(n - 1, 1)
    mean = float(eigenvalues.sum()) / d
    if regularization == 0 and varies.sum() < d:
        raise InputError(f"regularization 0: {n} wells vary in {varies.sum()} of {d} directions; wanted above 0")
    along = 1 / np.sqrt((1 - regularization) * eigenvalues + regularization * mean)
    across = 1 / np.sqrt(regularization * mean) if regularization * mean > 0 else 0.0
    return Sphering(center, axes[varies].T, along, float(across), rotate_back)


def apply_sphering(values: NDArray[np.float64], sphering: Sphering) -> NDArray[np.float64]:
    """Whiten wells (n, d): to (n, d) features, or (n, r) principal components.

    Examples
    --------
    >>> values = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> sphering = fit_sphering(values, regularization=0)
    >>> apply_sphering(np.array([[2.0, 1.0]]), sphering).round(4).tolist()
    [[1.2247, 1.2247]]
    """
    centred = values - sphering.center
    scores = centred @ sphering.axes  # (n, r)
    if not sphering.rotate_back:
        return np.asarray(scores * sphering.along, dtype=np.float64)
    inside = (scores * sphering.along) @ sphering.axes.T
    white: NDArray[np.float64] = inside + (centred - scores @ sphering.axes.T) * sphering.across
    return white

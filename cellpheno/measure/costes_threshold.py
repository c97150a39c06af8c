"""Costes' thresholds of two channels, of a whole image or of each object.

The threshold moves down the line of regression, in steps of one grey level, until the pixels below it (the background)
no longer correlate. A pixel joins the background at one step, so one pass that sums the pixels by that step gives the
correlation of the background at every step.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import full_scale

_BLOCK = 2**15  # pixels of an image that are converted at a time
_NEXT = 1 + 1e-6  # to the next step, also where round-off has put a level a little below its own
_NO_RANGE = np.array([np.inf, -np.inf, np.inf, -np.inf])  # lowest and highest of no pixel, in both channels


def image_threshold(image1: NDArray[Any], image2: NDArray[Any], n_steps: int) -> NDArray[np.float64]:
    """Costes' thresholds of two whole images, found by CellProfiler's bisection.

    Parameters
    ----------
    image1, image2 : ndarray of shape (y, x), uint8, uint16 or float
        Pixels that are nan or inf in one of them are left out.
    n_steps : int
        Steps of the search from 0 to 1.

    Returns
    -------
    ndarray of shape (2,), float64
        On CellProfiler's scale of 0 to 1; nan where the line of regression is not defined.

    Examples
    --------
    >>> x, y = np.array([[1, 2, 1, 2, 60, 90]], np.uint8), np.array([[2, 1, 1, 2, 50, 80]], np.uint8)
    >>> (image_threshold(x, y, 255)[0] * 255).item()
    2.0
    """
    scale1, scale2 = full_scale(image1), full_scale(image2)
    lowest = np.array([_lowest(image1), _lowest(image2)])
    moments = np.append(np.zeros(6), _NO_RANGE)
    for x, y in _blocks(image1, image2):
        _add_moments(x, y, lowest, moments)
    slope, offset = _line(moments, lowest, scale1, scale2)
    if np.isnan(slope):
        return np.full(2, np.nan)
    steps = np.arange(n_steps + 2) / n_steps
    table = np.zeros((n_steps + 3, 6))
    for x, y in _blocks(image1, image2):
        _add_pixels(x, y, scale1, scale2, lowest, slope, offset, steps, table)
    _accumulate(table)
    step = _bisect(table, 0, n_steps, False) - 1
    return np.array([step / n_steps, slope * (step / n_steps) + offset])


def _blocks(image1: NDArray[Any], image2: NDArray[Any]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Pixels of both images as float64, some at a time."""
    flat1, flat2 = image1.reshape(-1), image2.reshape(-1)
    for start in range(0, flat1.size, _BLOCK):
        x, y = (flat[start : start + _BLOCK].astype(np.float64) for flat in (flat1, flat2))
        if np.isfinite(x.sum() + y.sum()):
            yield x, y
        else:
            finite = np.isfinite(x) & np.isfinite(y)
            yield x[finite], y[finite]


def _lowest(image: NDArray[Any]) -> float:
    if image.dtype.kind == "u":
        return float(image.min()) if image.size else 0.0
    return float(np.min(image, where=np.isfinite(image), initial=np.inf))


@kernel
def _add_moments(
    x: NDArray[np.float64], y: NDArray[np.float64], lowest: NDArray[np.float64], moments: NDArray[np.float64]
) -> None:
    """Add the pixels that are not 0 in both channels: number, sums, of squares, of products; lower and raise ranges.

    Sums are of distances to the lowest level, which keeps them small.
    """
    n, sx, sy, sxx, syy, sxy = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    x_low, x_high, y_low, y_high = moments[6], moments[7], moments[8], moments[9]
    for i in range(x.size):
        if x[i] > 0 or y[i] > 0:
            a, b = x[i] - lowest[0], y[i] - lowest[1]
            n += 1
            sx += a
            sy += b
            sxx += a * a
            syy += b * b
            sxy += a * b
            x_low, x_high = min(x_low, a), max(x_high, a)
            y_low, y_high = min(y_low, b), max(y_high, b)
    moments[0] += n
    moments[1] += sx
    moments[2] += sy
    moments[3] += sxx
    moments[4] += syy
    moments[5] += sxy
    moments[6], moments[7], moments[8], moments[9] = x_low, x_high, y_low, y_high


@kernel
def _line(
    moments: NDArray[np.float64], lowest: NDArray[np.float64], scale1: float, scale2: float
) -> tuple[float, float]:
    """Slope and offset of the orthogonal regression; nan if a channel is constant or the two do not covary."""
    n, sx, sy, sxx, syy, sxy, x_low, x_high, y_low, y_high = moments
    if n < 3 or x_low == x_high or y_low == y_high:
        return np.nan, np.nan
    x_var = (sxx - sx / n * sx) / (n - 1) / scale1**2
    y_var = (syy - sy / n * sy) / (n - 1) / scale2**2
    covariance = (sxy - sx / n * sy) / (n - 1) / (scale1 * scale2)
    if abs(covariance) <= 8 * 2.0**-52 * max(x_var, y_var):
        return np.nan, np.nan
    wider = y_var - x_var
    slope = (wider + np.sqrt(wider * wider + 4 * covariance * covariance)) / (2 * covariance)
    return slope, (lowest[1] + sy / n) / scale2 - slope * ((lowest[0] + sx / n) / scale1)


@kernel
def _first_above(level: float, guess: float, slope: float, offset: float, steps: NDArray[np.float64]) -> int:
    """First step at which ``slope * step + offset`` is above the level; ``steps.size`` if none is. Slope > 0."""
    step = int(min(max(guess, 0.0), steps.size - 1.0))
    while step > 0 and level < slope * steps[step - 1] + offset:
        step -= 1
    while step < steps.size and not level < slope * steps[step] + offset:
        step += 1
    return step


@kernel
def _first_down_to(level: float, guess: float, slope: float, offset: float, steps: NDArray[np.float64]) -> int:
    """First step at which ``slope * step + offset`` is not above the level; ``steps.size`` if none is. Slope < 0."""
    step = int(min(max(guess, 0.0), steps.size - 1.0))
    while step > 0 and not level < slope * steps[step - 1] + offset:
        step -= 1
    while step < steps.size and level < slope * steps[step] + offset:
        step += 1
    return step


@kernel
def _add_pixels(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    scale1: float,
    scale2: float,
    lowest: NDArray[np.float64],
    slope: float,
    offset: float,
    steps: NDArray[np.float64],
    table: NDArray[np.float64],
) -> tuple[int, int]:
    """Enter each pixel in the table at the steps at which it joins or leaves the background.

    It is background where ``x < step`` or ``y < slope * step + offset``. Levels are entered as distances to the lowest
    one: what is constant then sums to exactly 0. Returns the last step before the first entry, and that of the last.
    """
    n_steps = steps.size - 2
    steps_per_level = n_steps / slope
    x_low, y_low = lowest[0], lowest[1]
    joins = np.empty(x.size, np.int64)
    for i in range(x.size):
        a, b = x[i] / scale1, y[i] / scale2
        joins[i] = _first_above(a, a * n_steps + _NEXT, 1.0, 0.0, steps)
        if slope > 0:
            joins[i] = min(joins[i], _first_above(b, (b - offset) * steps_per_level + _NEXT, slope, offset, steps))
    low, high = steps.size, 0
    if slope > 0:
        for i in range(x.size):
            _enter(table, joins[i], x[i] - x_low, y[i] - y_low, 1.0)
            low, high = min(low, joins[i]), max(high, joins[i])
        return max(low - 1, 0), high
    n, sx, sy, sxx, syy, sxy = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(x.size):  # y puts it there from step 0 on, until the line has come down to y
        level = y[i] / scale2
        guess = (level - offset) * steps_per_level + _NEXT
        leave = _first_down_to(level, guess, slope, offset, steps)
        a, b = x[i] - x_low, y[i] - y_low
        n += 1
        sx += a
        sy += b
        sxx += a * a
        syy += b * b
        sxy += a * b
        if leave < joins[i]:
            _enter(table, leave, a, b, -1.0)
            _enter(table, joins[i], a, b, 1.0)
            high = max(high, joins[i])
    table[0, 0] += n
    table[0, 1] += sx
    table[0, 2] += sy
    table[0, 3] += sxx
    table[0, 4] += syy
    table[0, 5] += sxy
    return 0, high


@kernel
def _enter(table: NDArray[np.float64], step: int, a: float, b: float, sign: float) -> None:
    table[step, 0] += sign
    table[step, 1] += sign * a
    table[step, 2] += sign * b
    table[step, 3] += sign * a * a
    table[step, 4] += sign * b * b
    table[step, 5] += sign * a * b


@kernel
def _accumulate(table: NDArray[np.float64]) -> None:
    """Turn what each step adds into the sums up to that step."""
    n, sx, sy, sxx, syy, sxy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for step in range(table.shape[0]):
        n += table[step, 0]
        sx += table[step, 1]
        sy += table[step, 2]
        sxx += table[step, 3]
        syy += table[step, 4]
        sxy += table[step, 5]
        table[step, 0], table[step, 1], table[step, 2] = n, sx, sy
        table[step, 3], table[step, 4], table[step, 5] = sxx, syy, sxy


@kernel
def _correlation(sums: NDArray[np.float64]) -> float:
    """Correlation of the pixels whose sums these are; 2 if they are too few, nan if a channel is constant."""
    n, sx, sy, sxx, syy, sxy = sums
    if n <= 2:
        return 2.0
    x_mean, y_mean = sx / n, sy / n  # sums of equal integers are exact, so their variance is exactly 0
    x_var, y_var = sxx - x_mean * sx, syy - y_mean * sy
    if x_var <= 0 or y_var <= 0:
        return np.nan
    return float((sxy - x_mean * sy) / np.sqrt(x_var * y_var))


@kernel
def _bisect(table: NDArray[np.float64], low: int, n_steps: int, guarded: bool) -> int:
    """The last step at which the background was seen to correlate; 1, or 0 if guarded, where none was.

    ``table`` holds the sums of the background by step, from step ``low`` on: steps beyond its end are as the last one.
    The step tried is at 5/6 of the window. A constant background ends the search, guarded it counts as too small a
    step.
    """
    left, right = 1, n_steps
    step, last, valid = int((right - left) // (6 / 5)) + left, 0, 0 if guarded else 1
    while step != last:
        r = _correlation(table[min(max(step - low, 0), table.shape[0] - 1)])
        if r < 0 or r == 2 or (guarded and np.isnan(r)):
            left = step - 1
        elif r >= 0:
            right, valid = step + 1, step
        last = step
        step = int((right - left) // (6 / 5 if right - left > 6 else 2)) + left
    return valid


@kernel
def object_thresholds(
    pointer: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    scale1: float,
    scale2: float,
    n_steps: int,
) -> NDArray[np.float64]:
    """Costes' thresholds of two channels within each object, found as cp_measure does.

    Parameters
    ----------
    pointer : ndarray of shape (n + 1,), int64
        The pixels of object ``i`` are ``pointer[i]:pointer[i + 1]``.
    x, y : ndarray of shape (P,), float64
        Grey levels, finite.
    scale1, scale2 : float
        Grey level of x and of y that is 1 on CellProfiler's scale.
    n_steps : int
        Steps of the search from 0 to 1.

    Returns
    -------
    ndarray of shape (2, n), float64
        On CellProfiler's scale of 0 to 1; nan where undefined.

    Examples
    --------
    >>> x, y = np.array([1.0, 2, 1, 2, 60, 90]), np.array([2.0, 1, 1, 2, 50, 80])
    >>> (object_thresholds(np.array([0, 6]), x, y, 255.0, 255.0, 255)[0] * 255).tolist()
    [2.0]
    """
    n = pointer.size - 1
    out = np.full((2, n), np.nan)
    steps = np.arange(n_steps + 2) / n_steps
    table, lowest, moments = np.zeros((n_steps + 3, 6)), np.empty(2), np.empty(10)
    for o in range(n):
        own_x, own_y = x[pointer[o] : pointer[o + 1]], y[pointer[o] : pointer[o + 1]]
        lowest[0], lowest[1] = own_x.min(), own_y.min()
        moments[:6], moments[6:] = 0, _NO_RANGE
        _add_moments(own_x, own_y, lowest, moments)
        slope, offset = _line(moments, lowest, scale1, scale2)
        if np.isnan(slope):
            continue
        low, high = _add_pixels(own_x, own_y, scale1, scale2, lowest, slope, offset, steps, table)
        met = table[low : high + 1]
        _accumulate(met)
        step = _bisect(met, low, n_steps, True) - 1
        if step >= 0 and abs(_correlation(met[min(max(step - low, 0), met.shape[0] - 1)])) <= 1.5:
            out[0, o], out[1, o] = step / n_steps, slope * (step / n_steps) + offset
        met[:] = 0
    return out

"""Cells on a dish: their shapes, where they lie and how far they grow.

All lengths are in um. A cell is a star-shaped outline round one or several nuclei; where two cells would overlap, the
border runs about where both nuclei are equally far, so that confluent neighbours meet along a smooth line.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
_ANGLES = 256  # samples of an outline's radius round the circle


class Culture(NamedTuple):
    """How the cells of a well grow.

    Parameters
    ----------
    density_per_mm2 : float
        Cells plated a mm2; cells for which no room is found are left out.
    clustering : float
        Fraction of cells (0 to 1) that lie beside an earlier cell instead of anywhere.
    touching : float
        Fraction of cells whose nucleus touches the nucleus of a neighbour.
    nucleus_area_um2 : float
        Median area of a nucleus before DNA synthesis.
    cell_area_um2 : float
        Median area of a cell that has room; in a crowd it is less.
    size_cv : float
        Spread of both areas (standard deviation of the logarithm).
    irregularity : float
        Relative depth of the bumps of a cell's outline; 0 gives ellipses.
    nucleus_gap_um : float
        Least distance of nuclei that do not touch.
    dim : float
        Fraction of nuclei stained at about a third of the usual brightness.
    out_of_focus : float
        Fraction of cells that lie above or below the focal plane.

    Examples
    --------
    >>> Culture(density_per_mm2=900.0).clustering
    0.3
    """

    density_per_mm2: float = 430.0
    clustering: float = 0.3
    touching: float = 0.08
    nucleus_area_um2: float = 150.0
    cell_area_um2: float = 1250.0
    size_cv: float = 0.25
    irregularity: float = 0.2
    nucleus_gap_um: float = 2.0
    dim: float = 0.05
    out_of_focus: float = 0.06


class Outline(NamedTuple):
    """A closed curve round a centre: ``radius_um[i]`` at the angle ``2 pi i / len(radius_um)`` from the x axis."""

    radius_um: NDArray[np.float64]
    offset_um: tuple[float, float] = (0.0, 0.0)  # centre of the curve seen from the cell's centre: y, x


class CellShape(NamedTuple):
    """What a cell would look like alone: drawn before it has a place."""

    nuclei: tuple[Outline, ...]
    body: Outline
    height: float  # thickness relative to an ordinary cell
    dna_content: float  # 1 before, 2 after DNA synthesis
    dna_brightness: float
    in_focus: bool


def outline(area_um2: float, aspect: float, bumps: float, direction: float, rng: Generator) -> Outline:
    """Draw a wobbly ellipse.

    Parameters
    ----------
    area_um2 : float
    aspect : float
        Long axis over short axis, at least 1.
    bumps : float
        Relative depth of the bumps (standard deviation of the radius over its mean).
    direction : float
        Angle of the long axis from the x axis, radians.
    rng : Generator

    Examples
    --------
    >>> radius = outline(100.0, 1.0, 0.0, 0.0, np.random.default_rng(0)).radius_um
    >>> round(float(radius.mean()) ** 2 * np.pi, 1)
    100.0
    """
    theta = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    long, short = np.sqrt(area_um2 / np.pi * aspect), np.sqrt(area_um2 / np.pi / aspect)
    turned = theta - direction
    radius = long * short / np.hypot(short * np.cos(turned), long * np.sin(turned))
    order = np.arange(2, 7)
    weight = rng.normal(size=order.size) / order**1.2
    wobble = weight @ np.cos(np.outer(order, theta) + rng.uniform(0, 2 * np.pi, (order.size, 1)))
    radius = radius * np.exp(bumps * wobble)
    return Outline(radius * np.sqrt(area_um2 / (np.pi * np.mean(radius**2))))


def draw_shape(culture: Culture, rng: Generator) -> CellShape:
    """Draw the shape of one cell of a culture.

    Examples
    --------
    >>> shape = draw_shape(Culture(), np.random.default_rng(1))
    >>> len(shape.nuclei), 1 <= shape.dna_content <= 2
    (1, True)
    """
    phase = rng.random()
    content = 1.0 if phase < 0.6 else 2.0 if phase > 0.8 else float(rng.uniform(1, 2))
    nucleus_um2 = culture.nucleus_area_um2 * content**0.6 * np.exp(rng.normal(0, 0.6 * culture.size_cv))
    nucleus = outline(nucleus_um2, rng.uniform(1.05, 1.6), 0.05, rng.uniform(0, np.pi), rng)
    cell_um2 = culture.cell_area_um2 * content**0.4 * np.exp(rng.normal(0, culture.size_cv))
    aspect, direction = 1.1 + rng.gamma(2.0, 0.35), rng.uniform(0, np.pi)
    body = outline(max(cell_um2, 2.2 * nucleus_um2), aspect, culture.irregularity, direction, rng)
    brightness = np.exp(rng.normal(0, 0.2)) * content**0.4 * (0.33 if rng.random() < culture.dim else 1.0)
    return CellShape((nucleus,), body, 1.0, content, float(brightness), bool(rng.random() >= culture.out_of_focus))


def _window(centre: NDArray[np.float64], reach: float, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Pixels within ``reach`` of a centre (y, x), cut at the border of the image."""
    low = np.clip(np.floor(centre - reach).astype(int), 0, shape)
    high = np.clip(np.ceil(centre + reach).astype(int) + 1, low, shape)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def _polar(
    centre: NDArray[np.float64],
    grid: Sequence[Image],
    pixel_size_um: float,
    offset_um: tuple[float, float] = (0.0, 0.0),
) -> tuple[Image, NDArray[np.int32]]:
    """Distance in um of each pixel from a curve's centre, and the sample of the curve in its direction."""
    y = ((grid[0] - centre[0]) * pixel_size_um - offset_um[0]).astype(np.float32)
    x = ((grid[1] - centre[1]) * pixel_size_um - offset_um[1]).astype(np.float32)
    sector = (np.arctan2(y, x) * np.float32(_ANGLES / (2 * np.pi))).astype(np.int32) % _ANGLES
    distance: Image = np.sqrt(y * y + x * x)
    return distance, sector


def _nucleus(
    shape: CellShape, centre: NDArray[np.float64], size: tuple[int, int], pixel_size_um: float, gap_um: float = 0.0
) -> tuple[tuple[slice, slice], Mask]:
    """Window and mask of the nuclei of a cell, widened by ``gap_um``."""
    reach = max(float(n.radius_um.max() + np.hypot(*n.offset_um)) for n in shape.nuclei) + gap_um
    window = _window(centre, reach / pixel_size_um, size)
    mask = np.zeros([s.stop - s.start for s in window], bool)
    for nucleus in shape.nuclei:
        distance, sector = _polar(centre, np.ogrid[window], pixel_size_um, nucleus.offset_um)
        mask |= distance < nucleus.radius_um[sector] + gap_um
    return window, mask


def place(
    shapes: Sequence[CellShape], size: tuple[int, int], pixel_size_um: float, culture: Culture, rng: Generator
) -> tuple[list[int], NDArray[np.float64], Labels]:
    """Find a place for each cell, so that no two nuclei overlap.

    Parameters
    ----------
    shapes : sequence of CellShape
    size : (int, int)
        Height and width of the image in pixels.
    pixel_size_um : float
    culture : Culture
    rng : Generator

    Returns
    -------
    placed : list of int
        Indices of the shapes that found room within 60 attempts.
    centres : ndarray of shape (n, 2)
        y, x in pixels.
    nuclei : ndarray of shape (y, x), int32
        ``i + 1`` where the nucleus of ``placed[i]`` lies.
    """
    nuclei: Labels = np.zeros(size, np.int32)
    placed: list[int] = []
    centres: list[NDArray[np.float64]] = []
    for index, shape in enumerate(shapes):
        draw = rng.random()
        touch = draw < culture.touching and bool(placed)
        beside = draw < culture.touching + culture.clustering and bool(placed)
        gap = 0.0 if touch else culture.nucleus_gap_um
        for _ in range(60):
            centre = rng.uniform(0, size)
            if beside:
                other = int(rng.integers(len(placed)))
                angle = rng.uniform(0, 2 * np.pi)
                near = shape.nuclei[0].radius_um.mean() + shapes[placed[other]].nuclei[0].radius_um.mean()
                far = near * 0.85 if touch else near * rng.uniform(1.2, 2.4)
                step = np.array([np.sin(angle), np.cos(angle)])
                centre = centres[other] + step * far / pixel_size_um
            window, mask = _nucleus(shape, centre, size, pixel_size_um, gap)
            for _ in range(16 if touch else 0):  # slide away until the two nuclei just touch
                if not nuclei[window][mask].any():
                    break
                centre = centre + step
                window, mask = _nucleus(shape, centre, size, pixel_size_um)
            if nuclei[window][mask].any() or np.any(centre < 0) or np.any(centre >= size):
                continue
            window, mask = _nucleus(shape, centre, size, pixel_size_um)
            if mask.any():
                nuclei[window][mask] = len(placed) + 1
                placed.append(index)
                centres.append(centre)
                break
    return placed, np.array(centres).reshape(-1, 2), nuclei


def grow(
    shapes: Sequence[CellShape], centres: NDArray[np.float64], nuclei: Labels, pixel_size_um: float, rng: Generator
) -> Labels:
    """Grow each cell round its nucleus until its outline or its neighbour.

    Parameters
    ----------
    shapes : sequence of n CellShape
    centres : ndarray of shape (n, 2)
        y, x in pixels.
    nuclei : ndarray of shape (y, x), int32, 0..n
    pixel_size_um : float
    rng : Generator

    Returns
    -------
    ndarray of shape (y, x), int32, 0..n
        Each cell is one piece (one piece a nucleus at most) and holds its nucleus.
    """
    nearest = np.full(nuclei.shape, np.inf, np.float32)
    cells: Labels = np.zeros_like(nuclei)
    ripple = [smooth_noise(nuclei.shape, 2.0 / pixel_size_um, rng) * (0.6 / pixel_size_um) for _ in "yx"]
    for label, (shape, centre) in enumerate(zip(shapes, centres, strict=True), 1):
        window = _window(centre, (shape.body.radius_um.max() + 3.0) / pixel_size_um, nuclei.shape)
        y, x = np.ogrid[window]
        distance, sector = _polar(centre, (y + ripple[0][window], x + ripple[1][window]), pixel_size_um)
        core = shape.nuclei[0].radius_um[sector] + np.hypot(*shape.nuclei[0].offset_um)
        push = (distance - core) / np.sqrt(shape.body.radius_um.mean())  # the larger of two neighbours gains ground
        closer = (distance < shape.body.radius_um[sector]) & (push < nearest[window])
        nearest[window][closer] = push[closer]
        cells[window][closer] = label
    cells[nuclei > 0] = nuclei[nuclei > 0]
    for label, found in enumerate(ndimage.find_objects(cells, max_label=len(shapes)), 1):
        if found is None:
            continue
        pieces, n_pieces = ndimage.label(cells[found] == label)
        own = np.unique(pieces[nuclei[found] == label])
        if n_pieces > own.size:
            cells[found][(pieces > 0) & ~np.isin(pieces, own)] = 0
    return cells


def smooth_noise(size: tuple[int, ...], sigma: float, rng: Generator) -> Image:
    """Gaussian noise smoothed over ``sigma`` pixels, with mean 0 and standard deviation 1 on average.

    Examples
    --------
    >>> noise = smooth_noise((200, 200), 2.0, np.random.default_rng(0))
    >>> bool(abs(noise.std() - 1) < 0.1)
    True
    """
    noise: Image = ndimage.gaussian_filter(rng.standard_normal(size, np.float32), sigma, mode="wrap", truncate=3.0)
    return noise * np.float32(max(1.0, 2 * np.sqrt(np.pi) * sigma))

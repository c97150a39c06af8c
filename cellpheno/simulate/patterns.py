"""Where a protein is inside a cell: one function a localization pattern.

Each takes the geometry of a cell and a generator and returns the density of the protein in the cell's window,
``(y, x)`` with sum 1: the total is the same whatever the pattern, so mean intensity alone cannot tell two apart.
A protein may be in several compartments: then its density is the weighted mean of their patterns.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from cellpheno.simulate.cells import Image, smooth_noise
from cellpheno.simulate.geometry import CellGeometry

Pattern = Callable[[CellGeometry, Generator], Image]
Localization = str | Sequence[str] | Mapping[str, float]


def _unit(density: NDArray[Any]) -> Image:
    """Scale to sum 1; a compartment of no pixel has no density anywhere."""
    total = float(density.sum())
    return (density / total if total > 0 else density).astype(np.float32)


def _mix(cell: CellGeometry, rng: Generator, density: NDArray[Any], diffuse: float) -> Image:
    """Density in a compartment plus a fraction that is spread through the cytosol (all of it if there is no room)."""
    if density.sum() <= 0:
        return cytosolic(cell, rng)
    return _unit(density) * np.float32(1 - diffuse) + cytosolic(cell, rng) * np.float32(diffuse)


def _spots(cell: CellGeometry, at: NDArray[np.float64], weight: NDArray[np.float64], sigma_um: float) -> Image:
    """Gaussian spots of volume ``weight`` (n,) at positions (n, 2), y and x in pixels of the window."""
    low = np.floor(at).astype(int)
    part = at - low
    flat = np.zeros(cell.cell.size)
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):  # each spot is shared by its four nearest pixels
        y, x = (low + np.array([dy, dx])).T
        share = weight * np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
        inside = (y >= 0) & (x >= 0) & (y < cell.cell.shape[0]) & (x < cell.cell.shape[1])
        flat += np.bincount(y[inside] * cell.cell.shape[1] + x[inside], share[inside], flat.size)
    canvas = flat.reshape(cell.cell.shape).astype(np.float32)
    spots: Image = ndimage.gaussian_filter(canvas, sigma_um / cell.pixel_size_um, mode="constant")
    return spots


def _around(cell: CellGeometry, n: int, reach_um: float, rng: Generator) -> NDArray[np.float64]:
    """Draw up to ``n`` pixels (n, 2) of the cytoplasm, denser near the nucleus (falling by e within ``reach_um``)."""
    at = np.argwhere(cell.cell & ~cell.nucleus & (cell.edge_distance_um > 1.0))
    if len(at) == 0:
        return at.astype(float)
    chance = np.exp(-cell.nucleus_distance_um[at[:, 0], at[:, 1]].astype(float) / reach_um)
    return at[rng.choice(len(at), min(n, len(at)), replace=False, p=chance / chance.sum())].astype(float)


def _outside(cell: CellGeometry) -> Image:
    """1 in the cytoplasm, falling smoothly to 0 inside the nucleus."""
    faded: Image = cell.cell * np.exp(-cell.nucleus_depth_um / 0.5)
    return faded


def cytosolic(cell: CellGeometry, rng: Generator, nuclear_share: float = 0.4) -> Image:
    """Spread through the cytoplasm after its thickness; over the nucleus at ``nuclear_share`` of that brightness."""
    texture = 1 + 0.13 * smooth_noise(cell.cell.shape, 1.2 / cell.pixel_size_um, rng)
    shade = nuclear_share + (1 - nuclear_share) * np.exp(-cell.nucleus_depth_um / 0.6)
    return _unit(cell.thickness * np.clip(texture, 0.3, None) * shade)


def nuclear(cell: CellGeometry, rng: Generator, diffuse: float = 0.12) -> Image:
    """In the nucleoplasm, less in the nucleoli; the fraction ``diffuse`` of it in the cytosol."""
    texture = 1 + 0.15 * smooth_noise(cell.cell.shape, 0.9 / cell.pixel_size_um, rng)
    dome = 1 - np.exp(-cell.nucleus_depth_um / 1.2)
    return _mix(cell, rng, dome * np.clip(texture, 0.3, None) * (1 - 0.6 * cell.nucleoli), diffuse)


def nucleolar(cell: CellGeometry, rng: Generator, enrichment: float = 8.0, diffuse: float = 0.12) -> Image:
    """In the nucleoli, ``enrichment`` times as dense as in the nucleoplasm round them."""
    dome = 1 - np.exp(-cell.nucleus_depth_um / 1.2)
    return _mix(cell, rng, dome * (1 + (enrichment - 1) * cell.nucleoli), diffuse)


def membrane(cell: CellGeometry, rng: Generator, diffuse: float = 0.3) -> Image:
    """Make a rim along the plasma membrane with ruffles; the fraction ``diffuse`` over the whole cell."""
    ruffles = np.exp(0.45 * smooth_noise(cell.cell.shape, 2.0 / cell.pixel_size_um, rng))
    rim = cell.cell * np.exp(-(((cell.edge_distance_um - 0.5) / 0.9) ** 2))
    return _mix(cell, rng, rim * ruffles, diffuse)


def er(cell: CellGeometry, rng: Generator, diffuse: float = 0.15) -> Image:
    """Endoplasmic reticulum: a fine mesh that is densest round the nucleus, and the nuclear envelope."""
    size, um = cell.cell.shape, cell.pixel_size_um
    mesh = np.exp(-((smooth_noise(size, 0.9 / um, rng) / 0.45) ** 2)) + 0.35
    near = np.exp(-cell.nucleus_distance_um / 5.0) * (1 - np.exp(-cell.edge_distance_um / 1.5))
    envelope = np.exp(-((np.where(cell.nucleus, cell.nucleus_depth_um, cell.nucleus_distance_um) / 0.7) ** 2))
    return _mix(cell, rng, cell.cell * _outside(cell) * mesh * near + 0.7 * cell.cell * envelope, diffuse)


def mitochondria(cell: CellGeometry, rng: Generator, diffuse: float = 0.12) -> Image:
    """Draw a network of threads: persistent random walks that start near the nucleus and keep to the cytoplasm."""
    um = cell.pixel_size_um
    n = int(np.clip(cell.cell.sum() * um**2 / 14, 20, 220))
    at = _around(cell, n, 5.0, rng)
    n = len(at)
    if n == 0:
        return cytosolic(cell, rng)
    heading, bright = rng.uniform(0, 2 * np.pi, n), rng.lognormal(0, 0.4, n)
    length = rng.integers(4, 22, n)
    free = cell.cell & ~cell.nucleus
    track, weight = [], []
    for step in range(int(length.max())):
        y, x = np.clip(np.rint(at).astype(int), 0, np.array(free.shape) - 1).T
        weight.append(bright * (step < length) * free[y, x])
        track.append(at)
        heading = heading + rng.normal(0, 0.35, n)
        at = at + 0.4 / um * np.stack([np.sin(heading), np.cos(heading)], 1)
    threads = _spots(cell, np.concatenate(track), np.concatenate(weight), 0.25) * cell.cell * _outside(cell)
    return _mix(cell, rng, threads, diffuse)


def puncta(cell: CellGeometry, rng: Generator, diffuse: float = 0.3) -> Image:
    """Vesicles of 0.4 to 0.65 um (Gaussian sigma), one a 25 um2 of cell, denser near the nucleus."""
    at = _around(cell, int(rng.poisson(cell.cell.sum() * cell.pixel_size_um**2 / 25) + 8), 9.0, rng)
    if len(at) == 0:
        return cytosolic(cell, rng)
    bright = rng.lognormal(0, 0.4, len(at))
    half = len(at) // 2
    small = _spots(cell, at[:half], bright[:half], 0.4)
    large = _spots(cell, at[half:], 1.6 * bright[half:], 0.65)
    return _mix(cell, rng, (small + large) * cell.cell * _outside(cell), diffuse)


PATTERNS: dict[str, Pattern] = {
    f.__name__: f for f in (cytosolic, nuclear, nucleolar, membrane, er, mitochondria, puncta)
}


def pattern_shares(pattern: Localization) -> dict[str, float]:
    """Share of the protein that follows each pattern: one, several in equal parts, or several with their shares.

    Examples
    --------
    >>> pattern_shares("nuclear"), pattern_shares(["nuclear", "er"]), pattern_shares({"nuclear": 3, "er": 1})
    ({'nuclear': 1.0}, {'nuclear': 0.5, 'er': 0.5}, {'nuclear': 0.75, 'er': 0.25})
    """
    if isinstance(pattern, str):
        return {pattern: 1.0}
    if not isinstance(pattern, Mapping):
        return {name: 1 / len(pattern) for name in pattern}
    return {name: share / sum(pattern.values()) for name, share in pattern.items()}


def localize(pattern: Localization, cell: CellGeometry, rng: Generator) -> Image:
    """Density of a protein that is in one compartment or in several, with sum 1."""
    first, *others = pattern_shares(pattern).items()
    density = PATTERNS[first[0]](cell, rng) * np.float32(first[1])
    for name, share in others:
        density += PATTERNS[name](cell, rng) * np.float32(share)
    return density

"""The three stains of a field: DNA, cell mask and protein, as light that leaves the cells."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from cellpheno.simulate.cells import CellShape, Image, smooth_noise
from cellpheno.simulate.geometry import CellGeometry
from cellpheno.simulate.patterns import Localization, localize


def chromatin(cell: CellGeometry, brightness: float, rng: Generator) -> Image:
    """DNA stain of one cell, near ``brightness`` in the middle of its nucleus.

    Parameters
    ----------
    cell : CellGeometry
    brightness : float
    rng : Generator

    Returns
    -------
    ndarray of shape (y, x), float32
        0 outside the nucleus.
    """
    light: Image = np.zeros(cell.cell.shape, np.float32)
    core = ndimage.find_objects(cell.nucleus.astype(np.int8))[0]
    size, um = light[core].shape, cell.pixel_size_um
    texture = 0.13 * smooth_noise(size, 0.7 / um, rng) + 0.08 * smooth_noise(size, 2.0 / um, rng)
    height = 0.35 + 0.65 * (1 - np.exp(-cell.nucleus_depth_um[core] / 1.8))
    light[core] = brightness * cell.nucleus[core] * height * np.clip(1 + texture, 0.2, None)
    light[core] *= 1 - 0.35 * cell.nucleoli[core]
    return light


def cell_mask(cell: CellGeometry, brightness: float, grain: Image) -> Image:
    """Whole-cell stain of one cell: grainy in the cytoplasm, stronger where the cell is thick and in the nucleus.

    Parameters
    ----------
    cell : CellGeometry
    brightness : float
        Near the mean over an ordinary cell.
    grain : ndarray of shape (y, x), float32
        Relative unevenness of the cytoplasm in the cell's window.

    Returns
    -------
    ndarray of shape (y, x), float32
        0 outside the cell.
    """
    texture = np.where(cell.nucleus, 0.25 + 0.3 * grain + 0.3 * cell.nucleoli, grain)
    light: Image = (brightness * 1.45 * cell.thickness**0.6 * np.clip(1 + texture, 0.2, None)).astype(np.float32)
    return light


def stain(
    cells: Sequence[CellGeometry],
    shapes: Sequence[CellShape],
    patterns: Sequence[Localization],
    expression: NDArray[np.float64],
    size: tuple[int, int],
    pixel_size_um: float,
    texture_rng: Generator,
    protein_rng: Generator,
) -> NDArray[np.float32]:
    """Add up the light of all cells of a field.

    Parameters
    ----------
    cells : sequence of n CellGeometry
    shapes : sequence of n CellShape
    patterns : sequence of n str, sequence of str or mapping of str to float
        Each cell's localization pattern, or several (see `cellpheno.simulate.patterns.pattern_shares`).
    expression : ndarray of shape (n,)
        Protein a cell area: a cell's total is ``expression`` times its pixels, whatever the pattern.
    size : (int, int)
        Height and width of the field in pixels.
    pixel_size_um : float
    texture_rng, protein_rng : Generator
        Apart, so that the protein's pattern leaves the other stains as they are.

    Returns
    -------
    ndarray of shape (3, 2, y, x), float32
        DNA, cell mask, protein; in focus, out of focus. 1 is the typical brightness of the stain.
    """
    light = np.zeros((3, 2, *size), np.float32)
    fine, coarse = (smooth_noise(size, sigma_um / pixel_size_um, texture_rng) for sigma_um in (0.8, 3.0))
    grain = 0.12 * (fine + coarse)
    textures, proteins = texture_rng.spawn(len(cells)), protein_rng.spawn(len(cells))
    for i, (cell, shape) in enumerate(zip(cells, shapes, strict=True)):
        layer = light[:, int(not shape.in_focus)]
        layer[0][cell.window] += chromatin(cell, shape.dna_brightness, textures[i])
        layer[1][cell.window] += cell_mask(cell, float(textures[i].lognormal(0, 0.15)), grain[cell.window])
        total = expression[i] * np.count_nonzero(cell.cell)
        layer[2][cell.window] += localize(patterns[i], cell, proteins[i]) * np.float32(total)
    return light

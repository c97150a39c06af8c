"""The geometry of one placed cell, from which every stain and every localization pattern is drawn."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from cellpheno.simulate.cells import CellShape, Image, Mask


class CellGeometry(NamedTuple):
    """A placed cell in its window of the field; all images have the window's shape (y, x)."""

    window: tuple[slice, slice]
    nucleus: Mask
    cell: Mask
    nucleus_depth_um: Image  # inside a nucleus, distance to its border; 0 elsewhere
    nucleus_distance_um: Image  # outside, distance to the nearest nucleus of this cell; 0 inside
    edge_distance_um: Image  # inside the cell, distance to its border
    thickness: Image  # relative height of the cell, 0 outside
    nucleoli: Image  # 0 to 1
    pixel_size_um: float


def geometry(
    shape: CellShape,
    window: tuple[slice, slice],
    nucleus: Mask,
    cell: Mask,
    free_distance_um: Image,
    pixel_size_um: float,
    rng: Generator,
) -> CellGeometry:
    """Distances, thickness and nucleoli of one placed cell.

    Parameters
    ----------
    shape : CellShape
    window : (slice, slice)
        Where the images lie in the field.
    nucleus, cell : ndarray of shape (y, x), bool
    free_distance_um : ndarray of shape (y, x), float32
        Distance to the nearest spot without any cell: the rim is thin there, but not where neighbours meet.
    pixel_size_um : float
    rng : Generator
    """
    core = ndimage.find_objects(nucleus.astype(np.int8))[0]  # the nucleus's box: most of the window has none of it
    depth, nucleoli = np.zeros((2, *cell.shape), np.float32)
    depth[core] = ndimage.distance_transform_edt(np.pad(nucleus[core], 1))[1:-1, 1:-1] * pixel_size_um
    nucleoli[core] = _nucleoli(nucleus[core], depth[core], pixel_size_um, rng)
    away = (ndimage.distance_transform_edt(~nucleus) * pixel_size_um).astype(np.float32)
    edge = (ndimage.distance_transform_edt(np.pad(cell, 1))[1:-1, 1:-1] * pixel_size_um).astype(np.float32)
    fall_um = 0.45 * float(np.sqrt(np.mean(shape.body.radius_um**2)))
    dome = 0.38 + 0.62 * np.exp(-((away / np.float32(fall_um)) ** 2))
    rim = (1 - np.exp(-free_distance_um / np.float32(1.0))) * (1 - np.float32(0.65) * np.exp(-edge / np.float32(1.2)))
    thickness = np.float32(shape.height) * rim * dome * cell
    return CellGeometry(window, nucleus, cell, depth, away, edge, thickness, nucleoli, pixel_size_um)


def _nucleoli(nucleus: Mask, depth_um: Image, pixel_size_um: float, rng: Generator) -> NDArray[np.float64]:
    """Two to five soft discs inside the nucleus, 0 to 1."""
    nucleoli = np.zeros(nucleus.shape)
    inside = np.argwhere(depth_um > 1.6)
    if len(inside) == 0:
        return nucleoli
    y, x = np.ogrid[: nucleus.shape[0], : nucleus.shape[1]]
    for cy, cx in inside[rng.integers(len(inside), size=rng.integers(2, 6))]:
        radius = rng.uniform(0.8, 1.9) / pixel_size_um
        nucleoli = np.maximum(nucleoli, np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / radius**2) ** 2)))
    return nucleoli * nucleus

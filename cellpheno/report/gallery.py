"""The cells that a model attends to most and least, as small colour pictures."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from cellpheno.images.crops import n_crops, read_crops
from cellpheno.names import CELL_KEYS, OBJECT, PLATE, SITE, WELL

CELLS_A_READ = 1024  # bounds the memory of a well with very many cells


def choose_cells(instances: pd.DataFrame, classes: Sequence[str], n: int) -> pd.DataFrame:
    """Choose the cells with the highest and the lowest attention in the wells of each class.

    Attention is compared between wells as a multiple of its mean in the well (weight times the number of cells): a
    cell of 2.0 counts twice as much as the average cell of its well. No well gives more than its share, rounded up, and
    at least two.

    Parameters
    ----------
    instances : DataFrame
        Columns Metadata_Plate, Metadata_Well, Metadata_Site, Metadata_ObjectNumber, weight and label, one row a cell.
    classes : sequence of str
    n : int
        Cells at each end of each class.

    Returns
    -------
    DataFrame
        The cell keys, label, ``end`` ("highest" or "lowest") and ``relative`` (attention, 1 = the well's mean).
    """
    instances = instances.dropna(subset="weight")
    size = instances.groupby([PLATE, WELL], sort=False)["weight"].transform("size")
    instances = instances.assign(relative=instances["weight"] * size)
    chosen = []
    for name in classes:
        cells = instances[instances["label"] == name]
        share = max(2, math.ceil(n / max(cells.groupby([PLATE, WELL]).ngroups, 1)))
        for end, ascending in (("highest", False), ("lowest", True)):
            order = cells.sort_values(["relative", *CELL_KEYS], ascending=[ascending, True, True, True, True])
            chosen.append(order.groupby([PLATE, WELL], sort=False).head(share).head(n).assign(end=end))
    return pd.concat(chosen) if chosen else instances.assign(end="")


def read_cells(crops: Path, cells: pd.DataFrame) -> dict[tuple[int, int], NDArray[np.generic]]:
    """Read the crops of some cells of one well, a piece of the well at a time.

    Parameters
    ----------
    crops : path
        ``crops/B03.zarr``
    cells : DataFrame
        Columns Metadata_Site, Metadata_ObjectNumber.

    Returns
    -------
    dict of (site, object number) to ndarray of shape (c, y, x); cells that were not cropped are not in it
    """
    wanted = set(zip(cells[SITE].astype(int), cells[OBJECT].astype(int), strict=True))
    found: dict[tuple[int, int], NDArray[np.generic]] = {}
    for start in range(0, n_crops(crops), CELLS_A_READ):
        part = read_crops(crops, slice(start, start + CELLS_A_READ))
        for i, key in enumerate(zip(part.site.tolist(), part.object_number.tolist(), strict=True)):
            if key in wanted:
                found[key] = part.pixels[i].copy()
    return found


def display_limits(pixels: Sequence[NDArray[np.generic]], low: float = 1.0, high: float = 99.8) -> NDArray[np.float64]:
    """Black and white of each channel: percentiles over all crops, so that brightness can be compared between them.

    Parameters
    ----------
    pixels : sequence of ndarray of shape (c, y, x)
    low, high : float
        Percentiles; pixels of value zero, which pad crops at a field's border, do not count.

    Returns
    -------
    ndarray of shape (c, 2)

    Examples
    --------
    >>> display_limits([np.array([[[0, 10, 20]]])], low=0, high=100).tolist()
    [[10.0, 20.0]]
    """
    limits = []
    for channel in range(len(pixels[0])):
        values = np.concatenate([np.asarray(crop[channel], dtype=np.float64).ravel() for crop in pixels])
        values = values[values > 0] if (values > 0).any() else values
        limits.append(np.percentile(values, [low, high]))
    return np.array(limits)


def composite(
    pixels: NDArray[np.generic], limits: NDArray[np.float64], colours: Sequence[str], gamma: float = 0.8
) -> NDArray[np.uint8]:
    """Mix the channels of one crop as coloured light.

    Parameters
    ----------
    pixels : ndarray of shape (c, y, x)
    limits : ndarray of shape (c, 2)
        Values shown as black and as full colour.
    colours : sequence of c str
    gamma : float
        Below 1 dim structures are lifted.

    Returns
    -------
    ndarray of shape (y, x, 3), uint8

    Examples
    --------
    >>> composite(np.array([[[0, 5, 10]]]), np.array([[0.0, 10.0]]), ["#FF0000"], gamma=1).tolist()
    [[[0, 0, 0], [128, 0, 0], [255, 0, 0]]]
    """
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    light = np.clip((np.asarray(pixels, dtype=np.float64) - low) / np.maximum(high - low, 1e-9), 0, 1) ** gamma  # c y x
    mixed = np.einsum("cyx,cr->yxr", light, np.array([to_rgb(colour) for colour in colours]))
    picture: NDArray[np.uint8] = np.round(255 * np.clip(mixed, 0, 1)).astype(np.uint8)
    return picture


def png_uri(picture: NDArray[np.uint8]) -> str:
    """Write a picture (y, x, 3) as a PNG inside a data URI: the same bytes for the same pixels."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def scale_bar_um(width_um: float) -> float:
    """Choose a round length (1, 2, 5, 10, ...) near a third of a picture's width.

    Examples
    --------
    >>> scale_bar_um(38.4), scale_bar_um(16.0)
    (10.0, 5.0)
    """
    target = width_um / 3
    decade = 10.0 ** math.floor(math.log10(target))
    return max(step * decade for step in (1, 2, 5) if step * decade <= target)


def pictures(
    cells: pd.DataFrame, crops_folders: Mapping[str, Path], colours: Mapping[str, Sequence[str]]
) -> tuple[dict[tuple[str, str, int, int], tuple[str, int]], list[str]]:
    """Draw chosen cells; brightness is set a plate and channel, over all cells drawn of the plate.

    Parameters
    ----------
    cells : DataFrame
        The cell keys.
    crops_folders : mapping of plate name to the folder of its crops
    colours : mapping of plate name to a colour a channel

    Returns
    -------
    pictures : dict of (plate, well, site, object number) to (data URI, width in pixels)
    faults : list of str
        What could not be read, in words.
    """
    drawn: dict[tuple[str, str, int, int], tuple[str, int]] = {}
    faults: list[str] = []
    for plate, part in cells.groupby(PLATE):
        if str(plate) not in crops_folders:
            faults.append(f"plate {plate} was not given to the report, so its cells are not shown")
            continue
        read: dict[tuple[str, str, int, int], NDArray[np.generic]] = {}
        for well, wanted in part.groupby(WELL):
            try:
                found = read_cells(crops_folders[str(plate)] / f"{well}.zarr", wanted)
            except (OSError, ValueError, KeyError) as fault:  # lost or damaged crops cost the picture, not the report
                faults.append(f"plate {plate}, well {well}: its crops cannot be read ({type(fault).__name__})")
                continue
            read |= {(str(plate), str(well), *key): pixels for key, pixels in found.items()}
        if read:
            limits = display_limits(list(read.values()))
            for key, pixels in read.items():
                drawn[key] = png_uri(composite(pixels, limits, colours[str(plate)])), pixels.shape[-1]
    return drawn, faults

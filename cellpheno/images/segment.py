"""Label images of a field: nuclei by threshold, cells grown from them, cytoplasm between.

A segmentation is called as ``f(image, channels, metadata)`` and returns ``{name: (y, x) int32}``. Lengths are pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import filters, segmentation

from cellpheno.bounds import Range
from cellpheno.images.propagate import propagate

Threshold = Literal["otsu", "li", "triangle"]
THRESHOLDS: dict[str, Callable[..., Any]] = {
    "otsu": filters.threshold_otsu,
    "li": filters.threshold_li,
    "triangle": filters.threshold_triangle,
}
TOUCHING = np.ones((3, 3), bool)  # pixels that touch at a corner are of one object


def threshold_propagation(
    image: NDArray[Any],
    channels: Sequence[str],
    metadata: Mapping[str, Any] | None = None,
    *,
    nuclei: str = "DNA",
    cells: str | None = None,
    smoothing: Annotated[float, Range(0)] = 1.5,
    threshold: Threshold = "otsu",
    threshold_factor: Annotated[float, Range(0, open_low=True)] = 1.0,
    threshold_window: Annotated[int | None, Range(1)] = None,
    min_threshold: Annotated[float, Range(0)] = 0.0,
    min_contrast: Annotated[float, Range(0)] = 4.5,
    split: Literal["distance", "intensity"] | None = "distance",
    split_distance: Annotated[float, Range(0)] = 10.0,
    min_diameter: Annotated[float, Range(0, open_low=True)] = 12.0,
    max_diameter: Annotated[float, Range(0, open_low=True)] = 100.0,
    drop_border: Literal["nuclei", "cells"] | None = "nuclei",
    cell_smoothing: Annotated[float, Range(0)] = 1.5,
    cell_threshold: Threshold = "li",
    cell_threshold_factor: Annotated[float, Range(0, open_low=True)] = 1.0,
    regularization: Annotated[float, Range(0)] = 0.05,
    cell_distance: Annotated[float, Range(0)] = 15.0,
) -> dict[str, NDArray[np.int32]]:
    """Find nuclei in one channel and grow a cell from each, in another channel or by a fixed distance.

    Parameters
    ----------
    image : ndarray of shape (c, y, x)
    channels : sequence of str
        Name of each channel.
    metadata : mapping, optional
        Plate, well and site, for messages.
    nuclei : str
        Channel of the nuclei.
    cells : str, optional
        Channel that shows whole cells. Without one, cells are the pixels within ``cell_distance`` of a nucleus.
    smoothing, threshold, threshold_factor, threshold_window, min_threshold, min_contrast
        Foreground of the nuclei, see `foreground`.
    split, split_distance, min_diameter, max_diameter
        Objects in the foreground, see `find_nuclei`.
    drop_border : {"nuclei", "cells"}, optional
        Leave out cells whose nucleus touches the border (the rest of such a cell may touch it), all cells that touch
        it, or none.
    cell_smoothing, cell_threshold, cell_threshold_factor
        Foreground of the cells.
    regularization : float
        Price of distance against intensity, see `propagate`; the cell channel is scaled to 0 to 1 before.
    cell_distance : float
        Reach of a cell from its nucleus where there is no cell channel.

    Returns
    -------
    dict of ndarray of shape (y, x), int32
        ``nuclei``, ``cells`` and ``cytoplasm``: each cell holds its nucleus, and all three share labels 1..n. All are
        zero where nothing is found.

    Raises
    ------
    ValueError
        If a channel is not there or has nan or inf, or a choice is none of those named.

    References
    ----------
    Carpenter et al. 2006, CellProfiler, doi:10.1186/gb-2006-7-10-r100

    Examples
    --------
    >>> image = np.zeros((1, 64, 64))
    >>> image[0, 20:40, 20:40] = 100
    >>> labels = threshold_propagation(image, ["DNA"], cell_distance=5)
    >>> [int((labels[name] > 0).sum()) for name in ("nuclei", "cells")]
    [400, 860]
    """
    _check_choice("drop_border", drop_border, ("nuclei", "cells", None))
    dna = _channel(image, channels, nuclei, metadata)
    mask = foreground(
        dna, smoothing, threshold, threshold_factor, threshold_window, min_threshold, min_contrast=min_contrast
    )
    seeds = find_nuclei(dna, mask, smoothing, split, split_distance, min_diameter, max_diameter)
    if cells is None:
        grown = segmentation.expand_labels(seeds, cell_distance)
    else:
        body = _channel(image, channels, cells, metadata)
        grown = grow_cells(
            body, seeds, foreground(body, cell_smoothing, cell_threshold, cell_threshold_factor), regularization
        )
    keep = np.ones(int(seeds.max()) + 1, bool)
    if drop_border is not None:  # only now: until here a nucleus at the border keeps others out of its cell
        edges = seeds if drop_border == "nuclei" else grown
        keep[np.concatenate([edges[0], edges[-1], edges[:, 0], edges[:, -1]])] = False
    seeds, grown = _renumber(keep)[seeds], _renumber(keep)[grown]
    return {"nuclei": seeds, "cells": grown, "cytoplasm": np.where(seeds > 0, 0, grown)}


def foreground(
    image: NDArray[Any],
    smoothing: float,
    threshold: Threshold = "otsu",
    threshold_factor: float = 1.0,
    threshold_window: int | None = None,
    min_threshold: float = 0.0,
    *,
    min_contrast: float = 0.0,
) -> NDArray[np.bool_]:
    """Separate what is bright from the background.

    Parameters
    ----------
    image : ndarray of shape (y, x)
    smoothing : float
        Standard deviation of a Gaussian filter before all else.
    threshold : {"otsu", "li", "triangle"}
        Method; ``li`` is minimum cross entropy.
    threshold_factor : float
        The threshold is multiplied by it.
    threshold_window : int, optional
        Side of the tiles in which thresholds are found, interpolated between their centres and held within 0.7 to 1.5
        times that of the whole image. By default there is one threshold.
    min_threshold : float, grey levels
    min_contrast : float
        Least distance of the medians of foreground and background, in (one-sided, robust) standard deviations of the
        background. Below it nothing is foreground: camera noise alone has about 2, with vignetting up to 3.5.

    Returns
    -------
    ndarray of shape (y, x), bool

    Examples
    --------
    >>> foreground(np.array([[0, 1, 0, 9, 9]]), 0).tolist()
    [[False, False, False, True, True]]
    """
    _check_choice("threshold", threshold, tuple(THRESHOLDS))
    smooth = ndimage.gaussian_filter(image.astype(np.float64), smoothing, mode="nearest")
    level: Any = THRESHOLDS[threshold](smooth)
    if threshold_window is not None:
        level = np.clip(_local_threshold(smooth, threshold, threshold_window), 0.7 * level, 1.5 * level)
    mask: NDArray[np.bool_] = smooth > np.maximum(level * threshold_factor, min_threshold)
    if mask.all() or not mask.any():
        return mask
    low, background = np.percentile(smooth[~mask], (15.87, 50))  # the upper side is widened by blur
    spread = background - low
    clear = np.median(smooth[mask]) - background > min_contrast * spread
    return mask if clear else np.zeros_like(mask)


def _local_threshold(smooth: NDArray[np.float64], threshold: Threshold, window: int) -> NDArray[np.float64]:
    """Threshold at each pixel, interpolated between tiles; a tile without contrast takes its own grey level."""
    rows, columns = (max(1, round(side / window)) for side in smooth.shape)
    tiles = [np.array_split(band, columns, axis=1) for band in np.array_split(smooth, rows, axis=0)]
    levels = np.array([[THRESHOLDS[threshold](tile) for tile in band] for band in tiles])
    y = (np.arange(smooth.shape[0]) + 0.5) * rows / smooth.shape[0] - 0.5
    x = (np.arange(smooth.shape[1]) + 0.5) * columns / smooth.shape[1] - 0.5
    grid = np.meshgrid(y, x, indexing="ij")
    return np.asarray(ndimage.map_coordinates(levels, grid, order=1, mode="nearest"))


def find_nuclei(
    image: NDArray[Any],
    mask: NDArray[np.bool_],
    smoothing: float,
    split: Literal["distance", "intensity"] | None = "distance",
    split_distance: float = 10.0,
    min_diameter: float = 12.0,
    max_diameter: float = 100.0,
) -> NDArray[np.int32]:
    """Label the objects of a foreground, one a nucleus.

    Parameters
    ----------
    image : ndarray of shape (y, x)
    mask : ndarray of shape (y, x), bool
        Foreground; holes smaller than the smallest nucleus are filled.
    smoothing : float
        Standard deviation of a Gaussian filter for ``split="intensity"``.
    split : {"distance", "intensity"}, optional
        Where touching nuclei are parted by a watershed: at necks of the outline, or at dark lines. None keeps them.
    split_distance : float
        Least distance of the centres of two nuclei.
    min_diameter, max_diameter : float
        Of the disc with the area of the nucleus; others are left out.

    Returns
    -------
    ndarray of shape (y, x), int32
        Labels 1..n.
    """
    _check_choice("split", split, ("distance", "intensity", None))
    if not 0 < min_diameter <= max_diameter:
        raise ValueError(f"min_diameter={min_diameter}, max_diameter={max_diameter}: wanted 0 < min <= max")
    min_area, max_area = np.pi / 4 * min_diameter**2, np.pi / 4 * max_diameter**2
    filled = _fill_holes(mask, min_area)
    labels: NDArray[np.int32] = ndimage.label(filled, TOUCHING)[0]
    if split is not None:
        if split == "distance":
            height = ndimage.gaussian_filter(ndimage.distance_transform_edt(filled), split_distance / 4)
        else:
            height = ndimage.gaussian_filter(image.astype(np.float64), smoothing)
        peaks = filled & (height == ndimage.maximum_filter(height, size=2 * round(split_distance / 2) + 1))
        peaks |= filled & ~np.isin(labels, labels[peaks])  # an object in the shade of a higher one is kept whole
        labels = segmentation.watershed(-height, ndimage.label(peaks, TOUCHING)[0], mask=filled)
    areas = np.bincount(labels.ravel())
    return _renumber((areas >= min_area) & (areas <= max_area))[labels]


def _renumber(keep: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Old label to new: 1..n for those that stay, 0 for the others and for the background."""
    keep = keep & (np.arange(len(keep)) > 0)
    return (np.cumsum(keep) * keep).astype(np.int32)


def _fill_holes(mask: NDArray[np.bool_], min_area: float) -> NDArray[np.bool_]:
    holes, _ = ndimage.label(~mask)
    areas = np.bincount(holes.ravel())
    areas[0] = 0  # what is no hole
    filled: NDArray[np.bool_] = (areas < min_area)[holes]
    return filled


def grow_cells(
    image: NDArray[Any], nuclei: NDArray[np.int32], mask: NDArray[np.bool_], regularization: float = 0.05
) -> NDArray[np.int32]:
    """Grow each nucleus through a foreground to a cell of the same label.

    Parameters
    ----------
    image : ndarray of shape (y, x)
        Channel that shows cells; scaled here so that its 1st and 99.9th percentile are 0 and 1.
    nuclei : ndarray of shape (y, x), int
    mask : ndarray of shape (y, x), bool
        Where cells may be; nuclei stay in their cells whether inside it or not.
    regularization : float
        See `propagate`.

    Returns
    -------
    ndarray of shape (y, x), int32
    """
    low, high = np.percentile(image, (1, 99.9))
    scaled = np.clip((image.astype(np.float64) - low) / max(high - low, np.finfo(np.float64).tiny), 0, 1)
    return propagate(scaled, nuclei, mask | (nuclei > 0), regularization)[0]


def _check_choice(name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r}: wanted one of {', '.join(map(str, choices))}")


def _channel(
    image: NDArray[Any], channels: Sequence[str], name: str, metadata: Mapping[str, Any] | None
) -> NDArray[Any]:
    where = " ".join(str(value) for value in (metadata or {}).values()) or "image"
    if name not in channels:
        raise ValueError(f"{where}: no channel {name!r} to segment; there are {', '.join(channels)}")
    plane: NDArray[Any] = image[list(channels).index(name)]
    if bad := int(np.count_nonzero(~np.isfinite(plane))):
        raise ValueError(f"{where}: {bad} of {plane.size} pixels of channel {name!r} are nan or inf")
    return plane

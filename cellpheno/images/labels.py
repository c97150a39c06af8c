"""Label images made elsewhere: reading them as a segmentation, and comparing two of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage, optimize


class Matches(NamedTuple):
    """How well predicted objects are those of the truth; nan where there is nothing to divide by."""

    precision: float
    recall: float
    f1: float


def own_labels(
    image: NDArray[Any],
    channels: Sequence[str],
    metadata: Mapping[str, Any],
    *,
    nuclei: str | None = None,
    cells: str | None = None,
) -> dict[str, NDArray[np.int32]]:
    """Take a field's label images from TIFF files instead of segmenting it.

    Parameters
    ----------
    image : ndarray of shape (c, y, x)
        The field, whose size the label images must have.
    channels : sequence of str
        Not used: a segmentation is called with it.
    metadata : mapping
        ``Metadata_Plate``, ``Metadata_Well`` and ``Metadata_Site`` of the field.
    nuclei, cells : str, optional
        Path of the label image, with the places ``{plate}``, ``{well}`` and ``{site}``; ``{site:02d}`` writes 7 as 07.
        At least one is needed.

    Returns
    -------
    dict of ndarray of shape (y, x), int32
        As `combine_labels`.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If neither path is given, a path names another place, or a file is no label image of this field.
    """
    if nuclei is None and cells is None:
        raise ValueError("own labels: give the path of the nuclei, of the cells or of both")
    shape = image.shape[-2:]
    return combine_labels(
        None if nuclei is None else read_labels(_fill(nuclei, metadata), shape),
        None if cells is None else read_labels(_fill(cells, metadata), shape),
    )


def read_labels(path: Path | str, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Read a label image: 0 is background, each object has a number of its own, gaps are allowed.

    Raises
    ------
    ValueError
        If the size is not ``shape``, a value is no whole number from 0 to 2^31 - 1, or it is a binary mask: one value
        for several separate objects.
    """
    values = np.squeeze(tifffile.imread(path))
    if values.shape != shape:
        raise ValueError(f"{path}: label image of {values.shape} pixels; the field has {shape}")
    labels = values.astype(np.int32)
    if not (np.array_equal(labels, values) and labels.min() >= 0):
        raise ValueError(f"{path}: {values.dtype} from {values.min()} to {values.max()}; wanted whole numbers from 0")
    if len(np.unique(labels)) == 2 and ndimage.label(labels > 0, np.ones((3, 3)))[1] > 1:
        raise ValueError(f"{path}: one value for several objects is a mask; wanted a number for each object")
    return labels


def combine_labels(nuclei: NDArray[np.int32] | None, cells: NDArray[np.int32] | None) -> dict[str, NDArray[np.int32]]:
    """Put nuclei and cells together; where both are given, cytoplasm is each cell without its own nuclei.

    Parameters
    ----------
    nuclei, cells : ndarray of shape (y, x), int32, optional
        Labels are kept as they are, and need not agree: a nucleus belongs to the cell with which it shares most pixels.

    Returns
    -------
    dict of ndarray of shape (y, x), int32
        ``nuclei`` and ``cells`` as given, and ``cytoplasm`` with the labels of the cells.

    Examples
    --------
    >>> labels = combine_labels(np.array([[0, 7, 7, 7]]), np.array([[1, 1, 1, 2]]))
    >>> labels["cytoplasm"].tolist()  # nucleus 7 is that of cell 1; its pixel in cell 2 stays cytoplasm of 2
    [[1, 0, 0, 2]]
    """
    given = {name: labels for name, labels in (("nuclei", nuclei), ("cells", cells)) if labels is not None}
    if nuclei is None or cells is None:
        return given
    nucleus, cell, pixels = _overlaps(nuclei, cells)
    order = np.lexsort((-cell, pixels))  # the last entry of a nucleus is its parent: most pixels, then lowest label
    parent = dict(zip(nucleus[order].tolist(), cell[order].tolist(), strict=True))
    ids, position = np.unique(nuclei, return_inverse=True)
    parents = np.array([parent.get(i, 0) for i in ids.tolist()])[position].reshape(nuclei.shape)
    return {**given, "cytoplasm": np.where((nuclei > 0) & (parents == cells), 0, cells)}


def match_objects(predicted: NDArray[Any], truth: NDArray[Any], iou: float = 0.5) -> Matches:
    """Precision, recall and F1 of objects, matched one to one where they overlap enough.

    Parameters
    ----------
    predicted, truth : ndarray of shape (y, x), int
        Label images.
    iou : float
        Least intersection over union of a match. The matching with most matches is taken.

    Returns
    -------
    Matches

    References
    ----------
    Caicedo et al. 2019, Nucleus segmentation across imaging experiments, doi:10.1038/s41592-019-0612-7

    Examples
    --------
    >>> match_objects(np.array([[1, 1, 0, 2]]), np.array([[5, 5, 5, 0]]))  # 5 is found by 1: IoU 2 / 3
    Matches(precision=0.5, recall=1.0, f1=0.6666666666666666)
    """
    (rows, predicted_area), (columns, true_area) = _areas(predicted), _areas(truth)
    ious = np.zeros((len(rows), len(columns)))
    first, second, pixels = _overlaps(predicted, truth)
    i, j = np.searchsorted(rows, first), np.searchsorted(columns, second)
    ious[i, j] = pixels / (predicted_area[i] + true_area[j] - pixels)
    enough = (ious >= iou) & (ious > 0)
    found = int(enough[optimize.linear_sum_assignment(enough, maximize=True)].sum())
    return Matches(_ratio(found, len(rows)), _ratio(found, len(columns)), _ratio(2 * found, len(rows) + len(columns)))


def _fill(pattern: str, metadata: Mapping[str, Any]) -> str:
    places = {key.removeprefix("Metadata_").lower(): value for key, value in metadata.items()}
    try:
        return pattern.format_map(places)
    except (KeyError, ValueError) as fault:
        raise ValueError(f"path {pattern!r}: {fault} cannot be filled in; there are {places}") from fault


def _areas(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Labels in order, without the background, and the pixels of each."""
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    return ids, areas


def _overlaps(first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Pairs of labels that share pixels, and how many."""
    both = (first > 0) & (second > 0)
    base = int(second.max(initial=0)) + 1
    pairs, pixels = np.unique(first[both].astype(np.int64) * base + second[both], return_counts=True)
    return pairs // base, pairs % base, pixels


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")

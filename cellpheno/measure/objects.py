"""The index of a label image, built once and shared by all measurements.

Axes: n objects, P pixels that belong to an object, y and x of the image.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.kernel import kernel

T = TypeVar("T")

_TABLE_LIMIT = 2**24  # labels above it are ranked by sorting instead of by a table


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of a label image and where their pixels are.

    Attributes
    ----------
    labels : ndarray of shape (y, x), int32
        The image with its labels replaced by 1..n in the same order; 0 is background.
    ids : ndarray of shape (n,), int64
        The labels as they came, ascending.
    pointer : ndarray of shape (n + 1,), int64
        The pixels of object ``i`` are ``pointer[i]:pointer[i + 1]`` in `rows` and `cols`.
    rows, cols : ndarray of shape (P,), int32
        Pixels object by object, each in raster order.
    boxes : ndarray of shape (n, 4), int32
        First row, first column, last row + 1, last column + 1.
    """

    labels: NDArray[np.int32]
    ids: NDArray[np.int64]
    pointer: NDArray[np.int64]
    rows: NDArray[np.int32]
    cols: NDArray[np.int32]
    boxes: NDArray[np.int32]
    _known: dict[Any, tuple[Any, tuple[Any, ...]]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each object, (n,)."""
        return np.diff(self.pointer)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Position of each pixel in the flattened image, (P,)."""
        places: NDArray[np.int64] = self.rows.astype(np.int64) * self.labels.shape[1] + self.cols
        return places

    @cached_property
    def inner_edge(self) -> NDArray[np.bool_]:
        """Pixels with another label above, below, left or right, (P,); the border of the image is no edge."""
        return _inner_edge(self.labels, self.rows, self.cols)

    def once(self, build: Callable[..., T], *arguments: Any) -> T:
        """Give ``build(self, *arguments)``, computed once: what several measurements or channels share.

        An array among the arguments must be read-only to be remembered; with one that can change, ``build`` runs each
        time.

        Examples
        --------
        >>> objects = index_objects(np.array([[7, 7, 0]]))
        >>> objects.once(Objects.__len__), objects.once(Objects.__len__)
        (1, 1)
        """
        if any(isinstance(argument, np.ndarray) and argument.flags.writeable for argument in arguments):
            return build(self, *arguments)
        key = (build, *(id(a) if isinstance(a, np.ndarray) else a for a in arguments))
        if key not in self._known:
            self._known[key] = build(self, *arguments), arguments  # an argument that is held keeps its id to itself
        found: T = self._known[key][0]
        return found

    def forget(self) -> None:
        """Free what `once` remembers, and what is worked out again when asked for."""
        self._known.clear()
        for name in ("places", "inner_edge"):
            self.__dict__.pop(name, None)


def index_objects(labels: NDArray[Any]) -> Objects:
    """Index a label image: one list of pixels an object.

    Parameters
    ----------
    labels : ndarray of shape (y, x), integer
        0 is background. Labels may have gaps; the parts of an object need not touch.

    Raises
    ------
    ValueError
        If the image is not 2-D or holds a negative label.
    TypeError
        If the image does not hold integers.

    Examples
    --------
    >>> objects = index_objects(np.array([[7, 7, 0], [0, 0, 3]]))
    >>> objects.ids.tolist(), objects.areas.tolist()
    ([3, 7], [1, 2])
    """
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"label image of shape {labels.shape}: wanted (y, x); measure a volume plane by plane")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"label image of {labels.dtype}: wanted integers; number a mask with skimage.measure.label")
    if labels.min(initial=0) < 0:
        raise ValueError(f"label image holds the negative label {labels.min()}: wanted 0 for background and labels > 0")
    if labels.max(initial=0) < _TABLE_LIMIT:
        names = np.arange(int(labels.max(initial=0)) + 1)
        ranks = labels.astype(np.int64, copy=False)
    else:
        names, ranks = np.unique(labels, return_inverse=True)
    present = (np.bincount(ranks.ravel(), minlength=len(names)) > 0) & (names > 0)
    table = np.where(present, np.cumsum(present), 0).astype(np.int32)
    numbered = np.take(table, ranks)  # (y, x)
    return Objects(numbered, names[present].astype(np.int64), *_sort_pixels(numbered, int(present.sum())))


def pixel_values(objects: Objects, image: NDArray[Any]) -> NDArray[Any]:
    """Grey levels of all pixels of the objects, in the image's own type.

    Parameters
    ----------
    objects : Objects
    image : ndarray of shape (y, x), uint8, uint16 or float

    Returns
    -------
    ndarray of shape (P,)

    Raises
    ------
    ValueError
        If image and labels differ in shape.

    Examples
    --------
    >>> pixel_values(index_objects(np.array([[2, 1]])), np.array([[5, 6]], np.uint8)).tolist()
    [6, 5]
    """
    if image.shape != objects.labels.shape:
        raise ValueError(f"image of shape {image.shape} and labels of shape {objects.labels.shape}: wanted the same")
    return np.take(image, objects.places)


def full_scale(image: NDArray[Any]) -> float:
    """Grey level that CellProfiler calls 1: 255, 65535, or 1 for float images.

    Raises
    ------
    TypeError
        If the image is neither uint8, uint16 nor float.

    Examples
    --------
    >>> full_scale(np.zeros((2, 2), np.uint16))
    65535.0
    """
    if image.dtype.kind == "f":
        return 1.0
    if image.dtype.kind == "u" and image.dtype.itemsize <= 2:
        return float(np.iinfo(image.dtype).max)
    raise TypeError(f"image of {image.dtype}: wanted uint8, uint16 or float")


def all_finite(objects: Objects, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each object is free of nan and inf.

    Parameters
    ----------
    objects : Objects
    values : ndarray of shape (P,)

    Returns
    -------
    ndarray of shape (n,), bool

    Examples
    --------
    >>> all_finite(index_objects(np.array([[1, 2]])), np.array([0.5, np.nan])).tolist()
    [True, False]
    """
    if values.dtype.kind != "f" or not len(objects):
        return np.ones(len(objects), bool)
    return np.logical_and.reduceat(np.isfinite(values), objects.pointer[:-1])


def sort_within(objects: Objects, values: NDArray[Any]) -> NDArray[Any]:
    """Values of each object in ascending order, nan last; objects stay where they are.

    Parameters
    ----------
    objects : Objects
    values : ndarray of shape (P,)

    Returns
    -------
    ndarray of shape (P,)

    Examples
    --------
    >>> sort_within(index_objects(np.array([[2, 1, 1]])), np.array([9, 8, 7])).tolist()
    [8, 9, 7]
    """
    ordered = values.copy()
    kind: Literal["stable", "quicksort"] = "stable" if values.dtype.itemsize <= 2 else "quicksort"  # stable: radix
    for start, stop in zip(objects.pointer[:-1], objects.pointer[1:], strict=True):
        ordered[start:stop].sort(kind=kind)
    return ordered


@kernel
def _sort_pixels(
    labels: NDArray[np.int32], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Sort the pixels by label, by counting."""
    height, width = labels.shape
    pointer = np.zeros(n + 1, np.int64)
    boxes = np.empty((n, 4), np.int32)
    boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3] = height, width, 0, 0
    for y in range(height):
        for x in range(width):
            o = labels[y, x] - 1
            if o >= 0:
                pointer[o + 1] += 1
                boxes[o, 0], boxes[o, 2] = min(boxes[o, 0], y), max(boxes[o, 2], y + 1)
                boxes[o, 1], boxes[o, 3] = min(boxes[o, 1], x), max(boxes[o, 3], x + 1)
    for o in range(n):
        pointer[o + 1] += pointer[o]
    free = pointer.copy()  # next place in the list of each object
    rows, cols = np.empty(pointer[n], np.int32), np.empty(pointer[n], np.int32)
    for y in range(height):
        for x in range(width):
            o = labels[y, x] - 1
            if o >= 0:
                rows[free[o]], cols[free[o]] = y, x
                free[o] += 1
    return pointer, rows, cols, boxes


@kernel
def _inner_edge(labels: NDArray[np.int32], rows: NDArray[np.int32], cols: NDArray[np.int32]) -> NDArray[np.bool_]:
    height, width = labels.shape
    edge = np.empty(rows.size, np.bool_)
    for i in range(rows.size):
        y, x = rows[i], cols[i]
        own = labels[y, x]
        edge[i] = (
            (y > 0 and labels[y - 1, x] != own)
            or (y + 1 < height and labels[y + 1, x] != own)
            or (x > 0 and labels[y, x - 1] != own)
            or (x + 1 < width and labels[y, x + 1] != own)
        )
    return edge

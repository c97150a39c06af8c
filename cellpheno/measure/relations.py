"""Which cell a nucleus or a cytoplasm belongs to: CellProfiler's RelateObjects."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cellpheno.measure.area_shape import center
from cellpheno.measure.kernel import kernel
from cellpheno.measure.objects import Objects


def relations(
    objects: Objects, others: Mapping[str, Objects], parent: str = "Cells", distances: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Own number, and the number of the parent or of the children.

    Parameters
    ----------
    objects : Objects
    others : mapping of str to Objects
        The other compartments of the field. Where `parent` is among them, ``Parent_<parent>`` is the label of the
        parent that covers most of the object (nan: none; CellProfiler writes 0). Where it is not, the objects are the
        parents: ``Children_<other>_Count`` for each other.
    parent : str
        The compartment that holds the others.
    distances : bool
        Also how far each object lies from its parent's centre and edge; nan without a parent.

    Returns
    -------
    dict of str to ndarray of shape (n,), float64

    Features
    --------
    Number_Object_Number : label
        Label of the object.
    Parent_<parent> : label
        Label of the parent that covers most of the object, the smallest of equals; nan without any.
    Children_<other>_Count : count
        Objects of another compartment that this one covers more of than its likes.
    Distance_Centroid_<parent> : pixel
        Distance of the object's centre to the parent's; only with `distances`.
    Distance_Minimum_<parent> : pixel
        Distance of the object's centre to the nearest pixel of the parent with another label above, below, left or
        right; only with `distances`.

    References
    ----------
    Stirling et al. 2021, BMC Bioinformatics 22, 433, doi:10.1186/s12859-021-04344-9 (CellProfiler 4)

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> cells, nuclei = index_objects(np.array([[4, 4, 4, 9]])), index_objects(np.array([[1, 0, 2, 0]]))
    >>> relations(cells, {"Nuclei": nuclei})["Children_Nuclei_Count"].tolist()
    [2.0, 0.0]
    >>> relations(nuclei, {"Cells": cells})["Parent_Cells"].tolist()
    [4.0, 4.0]
    """
    features = {"Number_Object_Number": objects.ids.astype(np.float64)}
    if parent in others:
        found = parent_index(objects, others[parent])
        named = np.append(others[parent].ids, 0)[found]
        features[f"Parent_{parent}"] = np.where(found < 0, np.nan, named)
        if distances:
            centroid, minimum = _distances(objects, others[parent], found)
            features |= {f"Distance_Centroid_{parent}": centroid, f"Distance_Minimum_{parent}": minimum}
    else:
        features |= {f"Children_{name}_Count": children_count(objects, other) for name, other in others.items()}
    return features


def parent_index(children: Objects, parents: Objects) -> NDArray[np.int64]:
    """Position in ``parents`` of the one that covers most of each child; the first of equals, -1 for none.

    Returns
    -------
    ndarray of shape (n,), int64

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> parent_index(index_objects(np.array([[1, 1, 1, 2]])), index_objects(np.array([[3, 5, 5, 0]]))).tolist()
    [1, -1]
    """
    below = np.take(parents.labels, children.places)  # (P,)
    return _most_frequent(children.pointer, below, len(parents)) - 1


def children_count(parents: Objects, children: Objects) -> NDArray[np.float64]:
    """Count the children of each parent.

    Returns
    -------
    ndarray of shape (n,), float64

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> children_count(index_objects(np.array([[3, 3, 3]])), index_objects(np.array([[1, 0, 2]]))).tolist()
    [2.0]
    """
    found = parent_index(children, parents)
    return np.bincount(found[found >= 0], minlength=len(parents)).astype(np.float64)


def largest_child(parents: Objects, children: Objects) -> NDArray[np.int64]:
    """Position in ``children`` of the largest child of each parent; the first of equals, -1 for none.

    Returns
    -------
    ndarray of shape (n,), int64

    Examples
    --------
    >>> from cellpheno.measure.objects import index_objects
    >>> largest_child(index_objects(np.array([[3, 3, 3, 4]])), index_objects(np.array([[1, 2, 2, 0]]))).tolist()
    [1, -1]
    """
    found = parent_index(children, parents)
    largest = np.full(len(parents), -1)
    by_area = np.lexsort((-np.arange(len(children)), children.areas))  # the last written is the largest
    by_area = by_area[found[by_area] >= 0]
    largest[found[by_area]] = by_area
    return largest


def _distances(
    children: Objects, parents: Objects, found: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance of each child's centre to the centre and to the nearest edge pixel of its parent."""
    y, x, parent_y, parent_x = (
        np.ascontiguousarray(center(objects)[f"AreaShape_Center_{axis}"])
        for objects in (children, parents)
        for axis in "YX"
    )
    has = found >= 0
    centroid = np.full(len(children), np.nan)
    centroid[has] = np.hypot(y[has] - parent_y[found[has]], x[has] - parent_x[found[has]])
    return centroid, _nearest_edge(found, y, x, parents.pointer, parents.rows, parents.cols, parents.inner_edge)


@kernel
def _nearest_edge(
    found: NDArray[np.int64],
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    pointer: NDArray[np.int64],
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    edge: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Distance of each point to the nearest edge pixel of the object ``found``; nan without object or edge."""
    out = np.full(found.size, np.nan)
    for child in range(found.size):
        if found[child] < 0:
            continue
        nearest = np.inf
        for i in range(pointer[found[child]], pointer[found[child] + 1]):
            if edge[i]:
                nearest = min(nearest, (rows[i] - y[child]) ** 2 + (cols[i] - x[child]) ** 2)
        if nearest < np.inf:
            out[child] = np.sqrt(nearest)
    return out


@kernel
def _most_frequent(pointer: NDArray[np.int64], labels: NDArray[np.int32], n_labels: int) -> NDArray[np.int64]:
    """Most frequent label above 0 of each object, the smallest of equals; 0 for none."""
    out = np.zeros(pointer.size - 1, np.int64)
    counts = np.zeros(n_labels + 1, np.int64)
    for o in range(pointer.size - 1):
        own = labels[pointer[o] : pointer[o + 1]]
        for label in own:
            if label:
                counts[label] += 1
        best = 0
        for label in own:
            if counts[label] > counts[best] or (counts[label] == counts[best] and 0 < label < best):
                best = label
        out[o] = best
        for label in own:
            counts[label] = 0
    return out

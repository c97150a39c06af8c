"""All measurements of one field of view, a row a cell."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.measure.area_shape import center
from cellpheno.measure.objects import Objects, index_objects
from cellpheno.measure.relations import children_count, largest_child
from cellpheno.names import OBJECT, channel_tokens

SECTIONS = ("shape", "channel", "pair", "relation")
_COMPARTMENTS = {"cells": "Cells", "nuclei": "Nuclei", "cytoplasm": "Cytoplasm"}  # label image: column prefix

Features = Mapping[str, NDArray[np.float64]]
Measurements = Mapping[str, Mapping[str, Callable[..., Features]]]


def measure_field(
    labels: Mapping[str, NDArray[Any]], image: NDArray[Any], channels: Sequence[str], measurements: Measurements
) -> pd.DataFrame:
    """Measure the cells of one field.

    A row is a cell, in ascending order of its label. Its ``Nuclei_*`` and ``Cytoplasm_*`` are those of its own nucleus
    and cytoplasm: the ones that it covers most of, the largest if there are several, nan if there is none. A nucleus
    outside all cells has no row. Where only nuclei are given, a row is a nucleus and all columns are ``Nuclei_*``.

    Parameters
    ----------
    labels : mapping of str to ndarray of shape (y, x), integer
        Label images ``cells``, ``nuclei``, ``cytoplasm``: cells with any of the others, or nuclei alone.
    image : ndarray of shape (c, y, x), uint8, uint16 or float
    channels : sequence of str
        Names of the channels; letters and digits of them stand in the column names.
    measurements : mapping of str to mapping of str to callable
        The functions to run by section: ``shape``: f(objects), ``channel``: f(objects, image, channel), ``pair``:
        f(objects, image1, image2, channel1, channel2), ``relation``: f(objects, others).

    Returns
    -------
    DataFrame
        ``Metadata_ObjectNumber`` (int64), then features (float64). The columns depend on the arguments, never on the
        pixels. Centres and the number of nuclei a cell are there whatever is measured.

    Raises
    ------
    ValueError
        If label images, channels or measurements do not fit together.

    Examples
    --------
    >>> from cellpheno.measure.intensity import intensity
    >>> nuclei, image = np.array([[5, 0, 2]]), np.array([[[51, 0, 255]]], np.uint8)
    >>> table = measure_field({"nuclei": nuclei}, image, ["DNA"], {"channel": {"intensity": intensity}})
    >>> table[["Metadata_ObjectNumber", "Nuclei_Intensity_MeanIntensity_DNA"]].to_numpy().tolist()
    [[2.0, 1.0], [5.0, 0.2]]
    """
    _check(labels, image, channels, measurements)
    tokens = channel_tokens(channels)
    planes = [*image]
    for plane in planes:
        plane.setflags(write=False)  # what is computed from it is shared by all measurements: `Objects.once`
    compartments = {name: index_objects(labels[key]) for key, name in _COMPARTMENTS.items() if key in labels}
    rows, cells = next(iter(compartments.items()))
    parts = []
    for name, objects in compartments.items():
        others = {other: found for other, found in compartments.items() if other != name}
        own = np.arange(len(cells)) if name == rows else largest_child(cells, objects)
        features = _always(name, objects, others) | _features(objects, others, planes, tokens, measurements)
        objects.forget()
        parts.append(_table(name, features, own))
    table = pd.concat(parts, axis=1)
    table.insert(0, OBJECT, cells.ids)
    return table


def warm_up(channels: Sequence[str], measurements: Measurements) -> None:
    """Measure a field of four small cells, which leaves the measurements' kernels compiled in numba's cache.

    Processes that start afterwards load them. Where the cache cannot be written, they compile anew.
    """
    image = np.random.default_rng(0).integers(0, 2**16, (len(channels), 64, 64), np.uint16)
    cells = np.kron([[1, 2], [3, 4]], np.ones((32, 32), int))
    nuclei = np.where(np.kron(np.ones((2, 2), int), np.pad(np.ones((10, 10), int), 11)) > 0, cells, 0)
    labels = {"cells": cells, "nuclei": nuclei, "cytoplasm": np.where(nuclei > 0, 0, cells)}
    measure_field(labels, image, channels, measurements)


def _always(name: str, objects: Objects, others: Mapping[str, Objects]) -> dict[str, NDArray[np.float64]]:
    """Give centres and counts, which crops and baselines need whatever is measured."""
    if name == "Cells" and "Nuclei" in others:
        return {"Children_Nuclei_Count": children_count(objects, others["Nuclei"])} | center(objects)
    return center(objects)


def _table(compartment: str, features: Features, own: NDArray[np.int64]) -> pd.DataFrame:
    """Features of the objects ``own``, a row each; -1 is none."""
    values = np.stack([*features.values()], axis=1)  # (n, features)
    values = np.concatenate([values, np.full((1, len(features)), np.nan)])
    return pd.DataFrame(values[own], columns=[f"{compartment}_{feature}" for feature in features])


def _check(
    labels: Mapping[str, NDArray[Any]], image: NDArray[Any], channels: Sequence[str], measurements: Measurements
) -> None:
    if not set(labels) <= set(_COMPARTMENTS) or ("cells" not in labels and set(labels) != {"nuclei"}):
        raise ValueError(
            f"label images {sorted(labels)}: wanted cells, with nuclei or cytoplasm or both, or nuclei alone"
        )
    if image.ndim != 3 or len(image) != len(channels):
        raise ValueError(
            f"image of shape {image.shape} with channels {list(channels)}: wanted (c, y, x), a name a channel"
        )
    for name, labelled in labels.items():
        if np.shape(labelled) != image.shape[1:]:
            raise ValueError(f"label image {name} of shape {np.shape(labelled)}: wanted the image's {image.shape[1:]}")
    if unknown := sorted(set(measurements) - set(SECTIONS)):
        raise ValueError(f"measurement sections {unknown}: wanted some of {list(SECTIONS)}")


def _features(
    objects: Objects,
    others: Mapping[str, Objects],
    planes: Sequence[NDArray[Any]],
    tokens: Sequence[str],
    measurements: Measurements,
) -> dict[str, NDArray[np.float64]]:
    """All features of one compartment; two measurements that give the same name are refused."""
    features: dict[str, NDArray[np.float64]] = {}
    for name, part in _results(objects, others, planes, tokens, measurements):
        if clash := sorted(features.keys() & part.keys()):
            raise ValueError(f"measurement {name} repeats {clash[0]} of another measurement; leave one of them out")
        if wrong := [feature for feature, values in part.items() if np.shape(values) != (len(objects),)]:
            raise ValueError(
                f"measurement {name} gave {wrong[0]} a shape other than ({len(objects)},), a value an object"
            )
        features |= part
    return features


def _results(
    objects: Objects,
    others: Mapping[str, Objects],
    planes: Sequence[NDArray[Any]],
    tokens: Sequence[str],
    measurements: Measurements,
) -> Iterator[tuple[str, Features]]:
    for name, measure in measurements.get("shape", {}).items():
        yield name, measure(objects)
    for name, measure in measurements.get("channel", {}).items():
        for pixels, token in zip(planes, tokens, strict=True):
            yield name, measure(objects, pixels, token)
    for name, measure in measurements.get("pair", {}).items():
        for i, j in combinations(range(len(tokens)), 2):
            yield name, measure(objects, planes[i], planes[j], tokens[i], tokens[j])
    for name, measure in measurements.get("relation", {}).items():
        yield name, measure(objects, others)

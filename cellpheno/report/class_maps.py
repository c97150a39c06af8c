"""Class maps of a field-level model: which parts of a field speak for a class, at the field's own resolution."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.special import expit, softmax

from cellpheno.errors import InputError
from cellpheno.names import OBJECT, PLATE, SITE, WELL
from cellpheno.plates.commit import commit_file
from cellpheno.plates.plate import Plate
from cellpheno.report.gallery import composite, display_limits, png_uri
from cellpheno.report.palette import channel_colours

MIDDLE = ["Location_Center_Y", "Location_Center_X"]
SHOWN_PX = 420  # width of a picture in the page; the files beside it are as large as the field
HEAT = np.array([1.0, 0.55, 0.0])  # orange light


class FieldMap(NamedTuple):
    """One field of a held-out well, and what its positions say of the well's class."""

    plate: str
    well: str
    site: int
    label: str
    picture: NDArray[np.uint8]  # (y, x, 3) channels as coloured light
    overlay: NDArray[np.uint8]  # (y, x, 3) grey, and orange where the class is seen


def class_map(positions: pd.DataFrame, classes: Sequence[str], shape: tuple[int, int], link: str) -> NDArray[Any]:
    """Probability of each class at each pixel of a field, by bilinear interpolation between the model's positions.

    Parameters
    ----------
    positions : DataFrame
        The rows of one field of ``instances.parquet``: Location_Center_Y, Location_Center_X, logit_<class>.
    classes : sequence of str
    shape : (y, x)
        Of the field at the level that the model reads.
    link : str
        ``"sigmoid"`` where each class is a question of its own (poolings of scores), ``"softmax"`` where classes
        exclude each other (poolings of features); the models' cards say it.

    Returns
    -------
    ndarray of shape (K, y, x), float64

    Examples
    --------
    >>> rows = pd.DataFrame({"Location_Center_Y": [0.5, 0.5], "Location_Center_X": [0.5, 2.5], "logit_a": [0.0, 9.0],
    ...                      "logit_b": [0.0, -9.0]})
    >>> class_map(rows, ["a", "b"], (2, 4), "softmax")[0, 0].round(2).tolist()
    [0.5, 0.62, 0.87, 1.0]
    """
    table = positions.sort_values(MIDDLE)
    y, x = (np.unique(table[axis]) for axis in MIDDLE)
    logits = table[[f"logit_{name}" for name in classes]].to_numpy(np.float64)  # (positions, K)
    chances = softmax(logits, axis=1) if link == "softmax" else expit(logits)
    grid = chances.reshape(len(y), len(x), -1)
    at = np.meshgrid(*(_index(axis, n) for axis, n in zip((y, x), shape, strict=True)), indexing="ij")
    return np.stack([map_coordinates(grid[..., k], at, order=1, mode="nearest") for k in range(len(classes))])


def _index(middles: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Where each of ``n`` pixels lies between the middles of positions, in positions."""
    step = middles[1] - middles[0] if len(middles) > 1 else 1.0
    index: NDArray[np.float64] = (np.arange(n) - middles[0]) / step
    return index


def choose_fields(positions: pd.DataFrame, classes: Sequence[str], n: int) -> pd.DataFrame:
    """Choose, for each class, the fields of held-out wells in which it is seen most, one a well.

    Parameters
    ----------
    positions : DataFrame
        Metadata_*, logit_<class> and label (the well's true class), a row a position.
    classes : sequence of str
    n : int
        Fields a class.

    Returns
    -------
    DataFrame
        Metadata_Plate, Metadata_Well, Metadata_Site, label.
    """
    chosen = []
    for name in classes:
        own = positions[positions["label"] == name]
        fields = own.groupby([PLATE, WELL, SITE], sort=True)[f"logit_{name}"].mean().reset_index()
        best = fields.sort_values([f"logit_{name}", PLATE, WELL, SITE], ascending=[False, True, True, True])
        chosen.append(best.drop_duplicates([PLATE, WELL]).head(n).assign(label=name))
    return pd.concat(chosen)[[PLATE, WELL, SITE, "label"]]


def draw_fields(
    positions: pd.DataFrame, classes: Sequence[str], plates: Mapping[str, Plate], *, level: int, link: str, n: int
) -> tuple[list[FieldMap], list[str]]:
    """Draw the class maps of chosen fields.

    Returns
    -------
    maps : list of FieldMap
    faults : list of str
        What could not be read, in words.
    """
    maps: list[FieldMap] = []
    faults: list[str] = []
    for row in choose_fields(positions, classes, n).to_dict("records"):
        plate, well, site = str(row[PLATE]), str(row[WELL]), int(row[SITE])
        if plate not in plates:
            faults.append(f"plate {plate} was not given to the report, so its fields are not shown")
            continue
        try:
            field = next(field for field in plates[plate].well(well).fields if field.site == site)
            image = field.read(level=level)
        except (InputError, OSError, StopIteration) as fault:  # a lost field costs its picture, not the report
            faults.append(f"plate {plate}, well {well}, site {site} cannot be read ({type(fault).__name__})")
            continue
        here = positions[(positions[PLATE] == plate) & (positions[WELL] == well) & (positions[SITE] == site)]
        seen = class_map(here, classes, image.shape[1:], link)[list(classes).index(str(row["label"]))]
        picture = composite(image, display_limits([image]), channel_colours(plates[plate].channels))
        maps.append(FieldMap(plate, well, site, str(row["label"]), picture, _overlay(picture, seen)))
    return maps, list(dict.fromkeys(faults))


def _overlay(picture: NDArray[np.uint8], seen: NDArray[Any]) -> NDArray[np.uint8]:
    """The picture in grey, tinted where the class is seen."""
    grey = picture.max(axis=2, keepdims=True) / 255  # (y, x, 1)
    share = seen[..., None]
    mixed = grey * (1 - 0.6 * share) + 0.6 * share * HEAT * (0.35 + 0.65 * grey)
    tinted: NDArray[np.uint8] = np.round(255 * mixed.clip(0, 1)).astype(np.uint8)
    return tinted


def save_maps(maps: Sequence[FieldMap], folder: Path) -> list[Path]:
    """Write each field and its class map side by side, at the field's resolution."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in maps:
        path = folder / f"{one.plate}_{one.well}_s{one.site}.png"
        with commit_file(path) as temporary:
            Image.fromarray(np.hstack([one.picture, one.overlay])).save(temporary, format="PNG", optimize=True)
        paths.append(path)
    return paths


def tiles(maps: Sequence[FieldMap], label: str) -> list[dict[str, Any]]:
    """Pictures of one class for the page: the field, then its map."""
    return [
        {
            "uri": png_uri(_shrunk(picture)),
            "title": f"plate {one.plate}, well {one.well}, site {one.site}: {what}",
            "place": f"{one.well}, site {one.site}",
            "what": what,
        }
        for one in maps
        if one.label == label
        for what, picture in (("field", one.picture), (f"where {label} is seen", one.overlay))
    ]


def _shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if width <= SHOWN_PX:
        return picture
    return np.asarray(
        Image.fromarray(picture).resize((SHOWN_PX, round(height * SHOWN_PX / width)), Image.Resampling.BOX)
    )


def are_positions(instances: pd.DataFrame) -> bool:
    """Whether a table of instances is of the positions of fields, not of cells."""
    return set(MIDDLE) <= set(instances) and OBJECT in instances

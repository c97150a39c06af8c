"""OME-NGFF metadata of high-content screening plates as plain dictionaries: built as 0.5, read as 0.4, 0.5 and 0.6.

What the standard has no place for stands beside it under the key ``cellpheno``: the vendor's numbers of the fields
(``sites`` of a plate, ``site`` of a field), and the channels of a plate whose first field is not written yet.

References
----------
https://ngff.openmicroscopy.org/0.5/
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cellpheno.errors import DamagedInput, InputError
from cellpheno.names import PLATE_FORMATS, row_index, row_name, split_well

VERSION = "0.5"
_READ = re.compile(r"0\.[456](\.\d+)?([-.].*)?")
_UM = {"angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}
_PALETTE = ("00FF00", "FF0000", "FFFF00", "FF00FF", "00FFFF", "FFFFFF")
_BLUE = ("dna", "dapi", "hoechst", "nucle", "draq")

Attributes = dict[str, Any]


class Metadata(NamedTuple):
    """A group's metadata in one form whatever the version: the standard's part and ours (empty on others' plates)."""

    ome: Attributes
    cellpheno: Attributes


def axes(names: str, unit: str | None) -> list[Attributes]:
    """Axes of an image, one letter each.

    Examples
    --------
    >>> axes("cy", "micrometer")
    [{'name': 'c', 'type': 'channel'}, {'name': 'y', 'type': 'space', 'unit': 'micrometer'}]
    """
    space = {"type": "space"} | ({"unit": unit} if unit else {})
    return [{"name": name} | ({"type": "channel"} if name == "c" else space) for name in names]


def colours(channels: Sequence[str]) -> tuple[str, ...]:
    """Display colours (RRGGBB): blue for a DNA stain, then green, red, yellow, magenta, cyan, white in turn.

    Examples
    --------
    >>> colours(["FKHR-GFP", "DNA"])
    ('00FF00', '0000FF')
    """
    blue = [any(word in channel.lower() for word in _BLUE) for channel in channels]
    turn = [sum(not b for b in blue[:i]) % len(_PALETTE) for i in range(len(channels))]
    return tuple("0000FF" if b else _PALETTE[t] for b, t in zip(blue, turn, strict=True))


def _multiscale(name: str, letters: str, n_levels: int, pixel_size_um: float | None, kind: str) -> Attributes:
    def scale(level: int) -> list[float]:
        return [1.0 if letter == "c" else (pixel_size_um or 1.0) * 2**level for letter in letters]

    return {
        "name": name,
        "type": kind,
        "axes": axes(letters, "micrometer" if pixel_size_um else None),
        "datasets": [
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale(level)}]}
            for level in range(n_levels)
        ],
    }


def image_attributes(
    name: str,
    channels: Sequence[str],
    n_levels: int,
    pixel_size_um: float | None,
    windows: Sequence[Mapping[str, float]],
    site: int,
) -> Attributes:
    """Attributes of a field's group.

    Parameters
    ----------
    name : str
    channels : sequence of str
    n_levels : int
        Levels "0", "1", ..., each half the size of the one before.
    pixel_size_um : float or None
        Of level 0; None where it is unknown (the axes then carry no unit).
    windows : sequence of {min, max, start, end}, one a channel
        The range of the data type and the range shown by viewers.
    site : int
        The vendor's number of the field.

    Examples
    --------
    >>> window = {"min": 0, "max": 255, "start": 3, "end": 90}
    >>> found = image_attributes("B03 site 1", ["DNA"], 2, 0.5, [window], 1)
    >>> found["ome"]["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"]
    [1.0, 1.0, 1.0]
    """
    shown = [
        {"label": channel, "color": colour, "active": True, "window": dict(window)}
        for channel, colour, window in zip(channels, colours(channels), windows, strict=True)
    ]
    multiscale = _multiscale(name, "cyx", n_levels, pixel_size_um, "mean")
    omero = {"channels": shown, "rdefs": {"model": "color"}}
    return {"ome": {"version": VERSION, "multiscales": [multiscale], "omero": omero}, "cellpheno": {"site": site}}


def label_attributes(name: str, n_levels: int, pixel_size_um: float | None, site: int) -> Attributes:
    """Attributes of one label image's group.

    Examples
    --------
    >>> label_attributes("nuclei", 1, None, 2)["ome"]["image-label"]
    {'source': {'image': '../../'}}
    """
    multiscale = _multiscale(name, "yx", n_levels, pixel_size_um, "nearest")
    label = {"source": {"image": "../../"}}
    return {"ome": {"version": VERSION, "multiscales": [multiscale], "image-label": label}, "cellpheno": {"site": site}}


def labels_attributes(names: Sequence[str]) -> Attributes:
    """Attributes of the group that lists a field's label images.

    Examples
    --------
    >>> labels_attributes(["nuclei"])
    {'ome': {'version': '0.5', 'labels': ['nuclei']}}
    """
    return {"ome": {"version": VERSION, "labels": list(names)}}


def well_attributes(fields: Sequence[int]) -> Attributes:
    """Attributes of a well's group, which lists its fields by their index.

    Examples
    --------
    >>> well_attributes([0, 2])["ome"]["well"]["images"]
    [{'path': '0'}, {'path': '2'}]
    """
    return {"ome": {"version": VERSION, "well": {"version": VERSION, "images": [{"path": str(i)} for i in fields]}}}


def plate_attributes(
    name: str,
    wells: Sequence[str],
    sites: Sequence[int],
    channels: Sequence[str],
    pixel_size_um: float | None,
    plate_format: int | None = None,
) -> Attributes:
    """Attributes of a plate's group, which lists all rows and columns of the plate and the wells with images.

    Parameters
    ----------
    name : str
    wells : sequence of str
    sites : sequence of int
        The vendor's numbers of the fields, sorted: field "0" of a well is the first of them.
    channels : sequence of str
    pixel_size_um : float or None
    plate_format : {6, 24, 48, 96, 384, 1536} or None
        None takes the smallest that holds all wells.

    Raises
    ------
    InputError
        If a well stands outside the plate.

    Examples
    --------
    >>> found = plate_attributes("P1", ["B04"], [1, 4], ["DNA"], 0.5)["ome"]["plate"]
    >>> found["wells"], len(found["rows"]), len(found["columns"])
    ([{'path': 'B/04', 'rowIndex': 1, 'columnIndex': 3}], 4, 6)
    """
    if plate_format is not None and plate_format not in PLATE_FORMATS:
        raise InputError(f"plate_format={plate_format}: wanted one of {sorted(PLATE_FORMATS)}")
    at = {well: (row_index(split_well(well)[0]), int(split_well(well)[1]) - 1) for well in wells}
    formats = [PLATE_FORMATS[plate_format]] if plate_format else [PLATE_FORMATS[n] for n in sorted(PLATE_FORMATS)]
    fitting = [(r, c) for r, c in formats if all(row < r and column < c for row, column in at.values())]
    if not fitting:
        outside = [well for well, (row, column) in at.items() if row >= formats[-1][0] or column >= formats[-1][1]]
        raise InputError(f"plate {name}: wells {outside} stand outside a plate of {formats[-1][0]} x {formats[-1][1]}")
    n_rows, n_columns = fitting[0]
    plate = {
        "version": VERSION,
        "name": name,
        "field_count": max(len(sites), 1),
        "rows": [{"name": row_name(i)} for i in range(n_rows)],
        "columns": [{"name": f"{i + 1:02d}"} for i in range(n_columns)],
        "wells": [{"path": "/".join(split_well(w)), "rowIndex": r, "columnIndex": c} for w, (r, c) in at.items()],
    }
    ours = {"sites": list(sites), "channels": list(channels), "pixel_size_um": pixel_size_um}
    return {"ome": {"version": VERSION, "plate": plate}, "cellpheno": ours}


def read_metadata(group: Path) -> Metadata:
    """Read the metadata of a group: ``zarr.json`` (0.5, 0.6) or ``.zattrs`` (0.4).

    Raises
    ------
    DamagedInput
        If there is neither, or it is no JSON, or of a version that is not read; the file is named.
    """
    new, old = group / "zarr.json", group / ".zattrs"
    path = new if new.exists() else old
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DamagedInput(f"{group}: neither zarr.json nor .zattrs is there, so it is no OME-Zarr group") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DamagedInput(f"{path}: no readable JSON ({error}); copy or import it again") from error
    attributes = document.get("attributes", {}) if path == new and isinstance(document, dict) else document
    if not isinstance(attributes, dict):
        raise DamagedInput(f"{path}: the attributes are a {type(attributes).__name__}, wanted an object")
    ours = attributes.get("cellpheno")
    ome = attributes.get("ome", {}) if path == new else _as_new(attributes)
    if not isinstance(ome, dict):
        raise DamagedInput(f"{path}: 'ome' is a {type(ome).__name__}, wanted an object")
    version = ome.get("version")
    if ome and not (isinstance(version, str) and _READ.fullmatch(version)):
        raise DamagedInput(f"{path}: OME-NGFF version {version!r}; 0.4, 0.5 and 0.6 are read")
    return Metadata(ome, ours if isinstance(ours, dict) else {})


def _as_new(attributes: Attributes) -> Attributes:
    """Metadata of version 0.4, whose version stands in each part, in the form of 0.5."""
    parts = [attributes.get("plate"), attributes.get("well"), *(attributes.get("multiscales") or [])]
    found = [part["version"] for part in parts if isinstance(part, dict) and "version" in part]
    known = any(key in attributes for key in ("plate", "well", "multiscales", "labels"))
    return {**attributes, "version": found[0] if found else "0.4"} if known else {}


def axis_letters(multiscale: Attributes) -> str:
    """Names of an image's axes in one string; 0.6 lists them in its first coordinate system.

    Examples
    --------
    >>> axis_letters({"axes": [{"name": "c"}, {"name": "y"}, {"name": "x"}]})
    'cyx'
    """
    return "".join(str(axis.get("name", "?")) if isinstance(axis, dict) else "?" for axis in _axes(multiscale))


def _axes(multiscale: Attributes) -> list[Any]:
    found = multiscale.get("axes")
    for system in multiscale.get("coordinateSystems") or []:
        found = found or (system.get("axes") if isinstance(system, dict) else None)
    return found if isinstance(found, list) else []


def channel_names(ome: Attributes) -> tuple[str, ...] | None:
    """Channel names of an image as ``omero`` has them; None where it has none.

    Examples
    --------
    >>> channel_names({"omero": {"channels": [{"label": "DNA"}, {"color": "FF0000"}]}})
    ('DNA', '1')
    """
    omero = ome.get("omero")
    shown = omero.get("channels") if isinstance(omero, dict) else None
    if not isinstance(shown, list) or not shown:
        return None
    return tuple(str(c.get("label", i)) if isinstance(c, dict) else str(i) for i, c in enumerate(shown))


def pixel_size_um(ome: Attributes) -> float | None:
    """Pixel size along x of an image's largest level; None where no unit of length is given.

    Examples
    --------
    >>> window = {"min": 0, "max": 255, "start": 3, "end": 90}
    >>> pixel_size_um(image_attributes("B03", ["DNA"], 2, 0.65, [window], 1)["ome"])
    0.65
    """
    multiscale = ome["multiscales"][0]
    last = _axes(multiscale)[-1]
    for transform in multiscale["datasets"][0].get("coordinateTransformations", []):
        if transform.get("type") == "scale" and last.get("unit") in _UM:
            return float(transform["scale"][-1]) * _UM[last["unit"]]
    return None

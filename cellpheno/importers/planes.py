"""The plane table: one row a raw two-dimensional image, whichever microscope wrote it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.errors import InputError
from cellpheno.names import parse_well, well_order

PLANE_COLUMNS = (
    "path",
    "page",
    "plate",
    "row",
    "column",
    "field",
    "acquisition",
    "channel",
    "z",
    "t",
    "pixel_size_um",
    "stage_x_um",
    "stage_y_um",
)
IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".bmp")
_DEFAULTS = {"page": -1, "acquisition": 0, "z": 0, "t": 0} | dict.fromkeys(PLANE_COLUMNS[-3:], float("nan"))


def plane_table(rows: Sequence[Mapping[str, Any]], channels: Sequence[str]) -> pd.DataFrame:
    """Table of planes in reading order: well by well, field by field, channel by channel.

    Parameters
    ----------
    rows : sequence of mappings with path, plate, row, column, field and channel at least
        ``page`` -1 (where left out) is the only page of a file; a pixel size or stage position not given is nan.
    channels : sequence of str
        All channels in the order of the plate.

    Returns
    -------
    DataFrame with `PLANE_COLUMNS`; ``channel`` is an ordered categorical

    Examples
    --------
    >>> row = {"path": "a.tif", "plate": "P1", "row": "B", "field": 1}
    >>> rows = [{**row, "column": column, "channel": channel} for column in ("10", "2") for channel in ("GFP", "DNA")]
    >>> table = plane_table(rows, ["DNA", "GFP"])
    >>> (table["column"] + table["channel"].astype(str)).tolist()
    ['2DNA', '2GFP', '10DNA', '10GFP']
    """
    order = {channel: position for position, channel in enumerate(channels)}

    def reading(row: Mapping[str, Any]) -> tuple[Any, ...]:
        well = plane_well(row["row"], row["column"])
        place = (0, *well_order(well)) if well else (1, 0, 0)
        return (row["plate"], *place, row["row"], row["column"], row["field"], order[row["channel"]], row["path"])

    filled = [_DEFAULTS | dict(row) for row in sorted(rows, key=reading)]
    table = pd.DataFrame(filled, columns=list(PLANE_COLUMNS))
    table["channel"] = pd.Categorical(table["channel"], categories=list(channels), ordered=True)
    return table


def plane_well(row: str, column: str) -> str | None:
    """Well of a plane, or None where no plate has such a well.

    Examples
    --------
    >>> plane_well("b", "3"), plane_well("Z", "99")
    ('B03', None)
    """
    try:
        return parse_well(f"{row}{column}")
    except ValueError:
        return None


def split_wells(planes: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], dict[str, list[str]]]:
    """Planes of each well, and the planes' wells that no plate has, with their files.

    Examples
    --------
    >>> row = {"path": "a.tif", "plate": "P1", "field": 1, "channel": "DNA"}
    >>> table = plane_table([{**row, "row": "B", "column": "3"}, {**row, "row": "Z", "column": "99"}], ["DNA"])
    >>> wells, unknown = split_wells(table)
    >>> list(wells), unknown
    (['B03'], {'Z99': ['a.tif']})
    """
    places = list(zip(planes["row"], planes["column"], strict=True))
    names = pd.Series([plane_well(*place) or "" for place in places], index=planes.index, dtype="object")
    wells = {str(name): planes[names == name] for name in sorted({*names} - {""}, key=well_order)}
    unknown: dict[str, list[str]] = {}
    for (row, column), name, path in zip(places, names, planes["path"], strict=True):
        if not name:
            unknown.setdefault(f"{row}{column}", []).append(Path(path).name)
    return wells, unknown


def plane_faults(planes: pd.DataFrame) -> tuple[str, ...]:
    """All faults of the whole request: no plane, several plates, two files for one plane.

    Examples
    --------
    >>> row = {"plate": "P1", "row": "B", "column": "3", "field": 1, "channel": "DNA"}
    >>> plane_faults(plane_table([{**row, "path": "a.tif"}, {**row, "path": "copy of a.tif"}], ["DNA"]))
    ("plate P1, well B03, field 1, channel DNA: two files claim it, 'a.tif' and 'copy of a.tif'",)
    """
    if planes.empty:
        return ("no image: the table of planes is empty",)
    faults = []
    plates = sorted(set(planes["plate"]))
    if len(plates) > 1:
        faults.append(f"images of {len(plates)} plates {plates[:5]} in one folder; choose one with plate=")
    seen: dict[tuple[str, ...], str] = {}
    columns = ("plate", "row", "column", "field", "channel", "path", "page")
    for plate, row, column, field, channel, path, page in zip(*(planes[name] for name in columns), strict=True):
        well = plane_well(row, column) or f"{row}{column}"
        key = (plate, well, str(field), str(channel))
        name = path + (f" page {page}" if page >= 0 else "")
        if key in seen:
            where = f"plate {plate}, well {well}, field {field}, channel {channel}"
            faults.append(f"{where}: two files claim it, {seen[key]!r} and {name!r}")
        seen.setdefault(key, name)
    return tuple(faults)


def missing_channels(planes: pd.DataFrame) -> dict[int, tuple[str, ...]]:
    """Channels that a field of a well lacks, by field.

    Parameters
    ----------
    planes : DataFrame
        Planes of one well; its channel column knows the channels of the plate.

    Examples
    --------
    >>> row = {"path": "a.tif", "plate": "P1", "row": "B", "column": "3"}
    >>> table = plane_table([{**row, "field": 4, "channel": "DNA"}], ["DNA", "GFP"])
    >>> missing_channels(table)
    {4: ('GFP',)}
    """
    channels = list(planes["channel"].cat.categories)
    there: dict[int, set[str]] = {}
    for field, channel in zip(planes["field"], planes["channel"], strict=True):
        there.setdefault(int(field), set()).add(channel)
    lacking = {field: tuple(c for c in channels if c not in there[field]) for field in sorted(there)}
    return {field: absent for field, absent in lacking.items() if absent}


def is_litter(path: Path) -> bool:
    """Whether an operating system or an editor left a file: ``.DS_Store``, ``._a.tif``, ``Thumbs.db``, ``a.tif~``.

    Examples
    --------
    >>> [is_litter(Path(name)) for name in ("._a.tif", "a.tif~", "Thumbs.db", "a.tif")]
    [True, True, True, False]
    """
    return path.name.startswith(".") or path.name.endswith("~") or path.name.lower() in ("thumbs.db", "desktop.ini")


def image_files(folder: str | Path) -> list[Path]:
    """Image files below a folder in natural order (s2 before s10), litter left out.

    Raises
    ------
    InputError
        If the folder is not there.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("s10.tif", "s2.tif", "._s2.tif", "note.txt"):
    ...     (folder / name).touch()
    >>> [path.name for path in image_files(folder)]
    ['s2.tif', 's10.tif']
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no image folder {folder}: {'it is a file' if folder.exists() else 'nothing is there'}")
    found = [p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and not is_litter(p) and not p.is_dir()]
    return sorted(found, key=lambda path: natural_order(path.relative_to(folder).as_posix()))


def natural_order(text: str) -> list[tuple[int, int | str]]:
    """Sort key that reads digits as numbers.

    Examples
    --------
    >>> sorted(["w10", "w9", "wa"], key=natural_order)
    ['w9', 'w10', 'wa']
    """
    parts = re.split(r"(\d+)", text)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]

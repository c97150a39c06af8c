"""Importer for folders whose file names tell all: plate, well, field and channel."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.errors import ConfigError, InputError
from cellpheno.importers.planes import image_files, natural_order, plane_table

PATTERN = (
    r"(?P<plate>.+)_(?P<well>[A-Za-z]{1,2}\d{1,2})_s(?P<field>\d+)_w(?P<channel_number>\d+)_(?P<channel>.+)"
    r"\.(?i:tiff?|png|bmp)"
)
_GROUPS = {"plate", "well", "row", "column", "field", "channel", "channel_number"}
_log = logging.getLogger(__name__)


def scan(
    folder: str | Path,
    *,
    plate: str | None = None,
    pattern: str = PATTERN,
    channels: Mapping[str, str] | None = None,
    pixel_size_um: float | None = None,
) -> pd.DataFrame:
    r"""List the planes of a folder, one plane a file, from the files' names.

    Parameters
    ----------
    folder : path
        Searched with all its subfolders.
    plate : str, optional
        Barcode. Files of other plates are left out; it names the plate where the pattern has no group for it.
    pattern : str
        Regular expression that the whole file name fits, or the whole path below the folder where it holds a ``/``.
        Named groups: ``well`` (or ``row`` and ``column``) and ``channel``; ``plate``, ``field`` (1 where left out) and
        ``channel_number`` (which orders the channels) if they are there.
    channels : mapping of the name found in files to the channel's name, optional
        In the order of the plate; planes of other channels are left out. All channels as they are found where left out.
    pixel_size_um : float, optional
        Where the microscope's setting is known; the files are not asked.

    Returns
    -------
    DataFrame
        The plane table. Images that do not fit the pattern are logged.

    Raises
    ------
    ConfigError
        If the pattern is no regular expression or lacks a group.
    InputError
        If no image fits.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("P1_B03_s1_w2_GFP.tif", "P1_B03_s1_w1_DNA.tif"):
    ...     (folder / name).touch()
    >>> scan(folder)["channel"].tolist()
    ['DNA', 'GFP']
    """
    folder = Path(folder)
    fits = _compiled(pattern)
    if plate is None and "plate" not in fits.groupindex:
        raise ConfigError("importer.pattern has no group 'plate': give plate= (the barcode)")
    files = image_files(folder)
    matches = [(path, fits.fullmatch(_name(path, folder, pattern))) for path in files]
    rows: list[dict[str, Any]] = []
    order: dict[str, tuple[Any, ...]] = {}
    other_channels: set[str] = set()
    for path, match in matches:
        if match is None:
            continue
        found = match.groupdict()
        token = found["channel"]
        name = token if channels is None else channels.get(token)
        if plate is not None and found.get("plate", plate) != plate:
            continue
        if name is None:
            other_channels.add(token)
            continue
        order.setdefault(name, (int(found.get("channel_number") or 0), natural_order(token)))
        rows.append(_row(path, found, name, plate, pixel_size_um))
    if not rows:
        raise InputError(*_nothing(folder, files, matches, pattern, plate, other_channels))
    unfit = [path.name for path, match in matches if match is None]
    if unfit:
        _log.warning(
            "%d images of %d do not fit the pattern and are left out, such as %s", len(unfit), len(files), unfit[0]
        )
    names = list(channels.values()) if channels is not None else sorted(order, key=lambda name: order[name])
    return plane_table(rows, names)


def matches(folder: str | Path) -> str | None:
    """Why this importer fits a folder with its default pattern, or None.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "P1_B03_s1_w1_DNA.tif").touch()
    >>> matches(folder)
    '1 of 1 images are named like P1_B03_s1_w1_DNA.tif'
    """
    files = image_files(folder)
    fitting = [path.name for path in files if re.fullmatch(PATTERN, path.name)]
    return f"{len(fitting)} of {len(files)} images are named like {fitting[0]}" if fitting else None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        fits = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"importer.pattern {pattern!r} is no regular expression: {error}") from error
    groups = set(fits.groupindex)
    faults = [
        f"importer.pattern: unknown group {name!r}; known are {sorted(_GROUPS)}" for name in sorted(groups - _GROUPS)
    ]
    if not ("well" in groups or {"row", "column"} <= groups):
        faults.append("importer.pattern: wanted a group (?P<well>...), or (?P<row>...) and (?P<column>...)")
    if "channel" not in groups:
        faults.append("importer.pattern: wanted a group (?P<channel>...)")
    if faults:
        raise ConfigError(*faults)
    return fits


def _name(path: Path, folder: Path, pattern: str) -> str:
    return path.relative_to(folder).as_posix() if "/" in pattern else path.name


def _row(
    path: Path, found: Mapping[str, str], channel: str, plate: str | None, size_um: float | None
) -> dict[str, Any]:
    well = found.get("well") or found["row"] + found["column"]
    letters = re.match(r"[^\W\d]*", well)
    row = letters[0] if letters else ""
    try:
        field = int(found.get("field") or 1)
    except ValueError as error:
        raise ConfigError(
            f"importer.pattern: group 'field' holds {found['field']!r} in {path.name}; wanted digits"
        ) from error
    return {
        "path": str(path),
        "plate": found.get("plate", plate),
        "row": row.upper(),
        "column": well[len(row) :].lstrip("-_/ "),
        "field": field,
        "channel": channel,
        "pixel_size_um": float("nan") if size_um is None else size_um,
    }


def _nothing(
    folder: Path,
    files: list[Path],
    matches: list[tuple[Path, re.Match[str] | None]],
    pattern: str,
    plate: str | None,
    other_channels: set[str],
) -> list[str]:
    """Say why a folder has no plane to import."""
    if not files:
        return [f"no image in {folder}: looked for .tif, .tiff, .png and .bmp there and below"]
    plates = sorted({str(match.groupdict().get("plate", plate)) for _, match in matches if match})
    if not plates:
        return [
            f"no image in {folder} fits importer.pattern {pattern!r}; there are {len(files)}, such as {files[0].name}"
        ]
    if other_channels:
        return [f"no image in {folder} of the channels in importer.channels; found are {sorted(other_channels)}"]
    return [f"no image of plate {plate!r} in {folder}; found are plates {plates[:5]}"]

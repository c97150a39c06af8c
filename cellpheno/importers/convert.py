"""Raw planes into a plate: a plan for the whole folder from headers alone, then one well at a time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cellpheno.errors import DamagedInput, InputError
from cellpheno.importers.planes import missing_channels, plane_faults, split_wells
from cellpheno.importers.read import Array, Header, check_header, plane_header, plane_warnings, read_plane
from cellpheno.names import channel_tokens
from cellpheno.plates.plate import Plate, open_plate
from cellpheno.plates.write import DTYPES, create_plate, drop_field, field_of, list_fields, write_image


class PlatePlan(NamedTuple):
    """What will be imported, known before a pixel is decoded; plain data that a worker process can be given.

    Attributes
    ----------
    name : str
        The barcode.
    channels : tuple of str
    pixel_size_um : float or None
    header : Header
        Common shape and data type: those of most files.
    wells : dict of well to its planes (DataFrame)
    fields : dict of well to the numbers of its fields
    faults : dict of well to messages
        What is known by now to be wrong, each naming its file; wells that no plate has are here and not in ``wells``.
    n_bytes : int
        Size of all pixels of full size, uncompressed.
    """

    name: str
    channels: tuple[str, ...]
    pixel_size_um: float | None
    header: Header
    wells: dict[str, pd.DataFrame]
    fields: dict[str, tuple[int, ...]]
    faults: dict[str, tuple[str, ...]]
    n_bytes: int


class WellImport(NamedTuple):
    """What became of a well: done, warned, partial, quarantined or missing; the messages name the files."""

    well: str
    status: str
    n_fields: int
    messages: tuple[str, ...]


def plan_plate(planes: pd.DataFrame, *, pixel_size_um: float | None = None) -> PlatePlan:
    """Decide what a plate will hold: every file's header is read, no pixel is.

    Parameters
    ----------
    planes : DataFrame
        The plane table that an importer's ``scan`` made.
    pixel_size_um : float, optional
        Goes before what the table tells.

    Raises
    ------
    InputError
        With all faults of the whole request at once: no image that can be read, several plates, two files for one
        plane, a channel without any file, channels that would share a column name, a data type that is not written.

    Notes
    -----
    A file that is missing, damaged or of another shape or type than most is a fault of its well alone.
    """
    faults = list(plane_faults(planes))
    if planes.empty:
        raise InputError(*faults)
    channels = tuple(str(channel) for channel in planes["channel"].cat.categories)
    faults += [f"channel {c!r}: no file of it anywhere" for c in channels if not (planes["channel"] == c).any()]
    try:
        channel_tokens(channels)
    except ValueError as error:
        faults.append(str(error))
    wells, unknown = split_wells(planes)
    headers, damaged = _headers(planes)
    common = Counter(headers.values()).most_common(1)
    if not common:
        faults.append(f"no image can be read; the first of {len(planes)}: {next(iter(damaged.values()))}")
    elif common[0][0].dtype not in DTYPES:
        faults.append(f"most images are {common[0][0].dtype}; {', '.join(DTYPES)} are written")
    if not wells:
        faults.append(f"no image of a well that a plate has; found are wells {sorted(unknown)[:5]}")
    size = _pixel_size(planes, pixel_size_um, faults)
    if faults:
        raise InputError(*faults)
    header = common[0][0]
    known = {name: _well_faults(well, headers, damaged, header) for name, well in wells.items()}
    known |= {
        name: (f"{files[0]}: no plate has a well {name} ({len(files)} files)",) for name, files in unknown.items()
    }
    fields = {name: tuple(sorted({int(field) for field in well["field"]})) for name, well in wells.items()}
    n_bytes = (
        sum(map(len, fields.values())) * len(channels) * int(np.prod(header.shape)) * np.dtype(header.dtype).itemsize
    )
    told = {name: messages for name, messages in known.items() if messages}
    return PlatePlan(str(planes["plate"].iloc[0]), channels, size, header, wells, fields, told, n_bytes)


def _headers(planes: pd.DataFrame) -> tuple[dict[int, Header], dict[int, str]]:
    """Header of each plane that has one, and the fault of each that has not, by the table's index."""
    headers: dict[int, Header] = {}
    damaged: dict[int, str] = {}
    for index, path, page in zip(planes.index, planes["path"], planes["page"], strict=True):
        try:
            headers[index] = plane_header(path, _page(page))
        except DamagedInput as error:
            damaged[index] = str(error)
    return headers, damaged


def _page(page: int) -> int | None:
    return int(page) if page >= 0 else None


def _pixel_size(planes: pd.DataFrame, given: float | None, faults: list[str]) -> float | None:
    sizes = sorted(set(planes["pixel_size_um"].dropna())) if given is None else [given]
    if len(sizes) > 1:
        faults.append(f"pixel sizes {sizes[:5]} um in one folder; give pixel_size_um=")
    if any(not 0 < size < np.inf for size in sizes):
        faults.append(f"pixel_size_um {sizes[0]}; wanted a number > 0")
    return float(sizes[0]) if sizes else None


def _well_faults(
    planes: pd.DataFrame, headers: Mapping[int, Header], damaged: Mapping[int, str], common: Header
) -> tuple[str, ...]:
    found = [_missing(field, channels) for field, channels in missing_channels(planes).items()]
    for index, path in zip(planes.index, planes["path"], strict=True):
        if index in damaged:
            found.append(damaged[index])
        elif headers[index] != common:
            try:
                check_header(Path(path), headers[index], common)
            except DamagedInput as error:
                found += error.faults
    return tuple(found)


def _missing(field: int, channels: Sequence[str]) -> str:
    return f"field {field}: no file of channel {', '.join(channels)}"


def create_planned_plate(path: str | Path, plan: PlatePlan) -> Plate:
    """Write the metadata of a planned plate; again for the same plan it changes nothing."""
    return create_plate(path, plan.name, plan.fields, plan.channels, plan.pixel_size_um)


def import_well(
    plate_path: str | Path,
    well: str,
    planes: pd.DataFrame,
    header: Header,
    *,
    constant: float = 0.999,
    saturated: float = 0.05,
    dark_rows: float = 0.25,
) -> WellImport:
    """Read all planes of a well and write its fields; a damaged field is left out and told, the others are written.

    Parameters
    ----------
    plate_path : path
        Plate of `create_planned_plate`.
    well : str
    planes : DataFrame
        Planes of this well, ``plan.wells[well]``; it may be empty.
    header : Header
        Common shape and data type, ``plan.header``.
    constant, saturated, dark_rows : float
        Limits of `cellpheno.importers.read.plane_warnings`.

    Returns
    -------
    WellImport
        ``done``; ``warned``: suspicious planes, or fewer fields than the plate has; ``partial``: a field lost;
        ``quarantined``: all fields lost; ``missing``: no plane at all.

    Raises
    ------
    OSError
        If the disk is full or lost: no fault of the well.
    """
    target = open_plate(plate_path).well(well)
    written: list[int] = []
    lost: list[str] = []
    warned: list[str] = []
    for site in target.plate.sites or ():
        field, rows = field_of(target, site), planes[planes["field"] == site]
        if rows.empty:
            drop_field(field)
            warned.append(f"field {site}: no file, other wells have it")
            continue
        try:
            pixels, suspicious = _read_field(rows, header, constant, saturated, dark_rows)
        except DamagedInput as error:
            drop_field(field)
            lost += error.faults
            continue
        write_image(field, pixels)
        written.append(site)
        warned += suspicious
    list_fields(target, written)
    if not written:
        status = "quarantined" if lost else "missing"
    else:
        status = "partial" if lost else "warned" if warned else "done"
    return WellImport(target.name, status, len(written), tuple(lost + warned))


def _read_field(rows: pd.DataFrame, header: Header, *limits: float) -> tuple[Array, list[str]]:
    """Pixels (c, y, x) of a field and what is suspicious in them; all damaged planes are told at once."""
    faults = [_missing(field, channels) for field, channels in missing_channels(rows).items()]
    planes: list[Array] = []
    suspicious: list[str] = []
    for path, page in zip(rows["path"], rows["page"], strict=True):
        try:
            planes.append(read_plane(path, _page(page), expected=header))
        except DamagedInput as error:
            faults += error.faults
            continue
        suspicious += [f"{Path(path).name}: {message}" for message in plane_warnings(planes[-1], *limits)]
    if faults:
        raise DamagedInput(*faults)
    return np.stack(planes), suspicious

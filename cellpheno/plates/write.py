"""Write plates as OME-NGFF 0.5 (Zarr v3): one process owns a field, each image appears whole or not at all."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellpheno.errors import DamagedInput, InputError, PlateError
from cellpheno.names import channel_tokens, parse_well, split_well, well_order
from cellpheno.plates import ngff
from cellpheno.plates.commit import commit_file, commit_folder
from cellpheno.plates.levels import Array, image_metadata, open_level, pyramid, write_levels
from cellpheno.plates.plate import Field, Plate, Well, open_plate

DTYPES = ("uint8", "uint16", "float32")


def create_plate(
    path: str | Path,
    name: str,
    fields: Mapping[str, Sequence[int]],
    channels: Sequence[str],
    pixel_size_um: float | None = None,
    plate_format: int | None = None,
) -> Plate:
    """Write the metadata of a plate, its rows and its wells; images come later, in any order, from any process.

    Called again for the same plate it changes nothing, so that an interrupted import can go on.

    Parameters
    ----------
    path : path of the new plate, such as ``P1.zarr``
    name : str
        The barcode.
    fields : mapping of well to the vendor's numbers of its fields
        Any spelling of wells; wells may be left out and fields missing.
    channels : sequence of str
    pixel_size_um : float, optional
    plate_format : {6, 24, 48, 96, 384, 1536}, optional
        The smallest that holds all wells where left out.

    Raises
    ------
    PlateError
        If another plate, or this one with other channels or sites, stands there already.
    InputError
        If there is no well, or two channels would share a column name.

    Examples
    --------
    >>> import tempfile
    >>> plate = create_plate(Path(tempfile.mkdtemp()) / "P1.zarr", "P1", {"a1": [2], "B03": [1, 2]}, ["DNA"])
    >>> [well.name for well in plate.wells], plate.sites, [field.index for field in plate.well("A01").fields]
    (['A01', 'B03'], (1, 2), [1])
    """
    path, named = Path(path), {parse_well(well): sorted(set(sites)) for well, sites in fields.items()}
    channel_tokens(channels)
    if not named or not any(named.values()) or not channels:
        raise InputError(f"plate {name}: {len(named)} wells and {len(channels)} channels; wanted one of each at least")
    if pixel_size_um is not None and not 0 < pixel_size_um < np.inf:
        raise InputError(f"plate {name}: pixel_size_um={pixel_size_um}; wanted a number > 0, or None where unknown")
    wells = sorted((well for well in named if named[well]), key=well_order)
    sites = sorted({site for well in wells for site in named[well]})
    attributes = ngff.plate_attributes(name, wells, sites, channels, pixel_size_um, plate_format)
    if path.exists() and any(path.iterdir()):
        _check_same(path, attributes)
    _write_group(path, attributes, shared=True)
    for row in sorted({split_well(well)[0] for well in wells}):
        _write_group(path / row, {}, shared=True)
    plate = open_plate(path)
    for well in plate.wells:
        if not (well.path / "zarr.json").exists():
            list_fields(well, named[well.name])
    return plate


def _check_same(path: Path, attributes: Mapping[str, Any]) -> None:
    """Refuse to write over another plate, or over this one if its fields would change their names."""
    old, new = open_plate(path), attributes["cellpheno"]
    known = old.sites or ()
    faults = [
        f"{path} {what} {is_there!r}, the new plate {wanted!r}"
        for what, is_there, wanted in (
            ("is named", old.name, attributes["ome"]["plate"]["name"]),
            ("has channels", list(old.channels), new["channels"]),
            ("has pixel_size_um", old.pixel_size_um, new["pixel_size_um"]),
            ("starts with sites", list(known), new["sites"][: len(known)]),
        )
        if is_there != wanted
    ]
    if faults:
        raise PlateError(*faults, f"delete {path} or choose another path")


def _write_group(path: Path, attributes: Mapping[str, Any], *, shared: bool = False) -> None:
    """Write a group's ``zarr.json``, unless it stands there already byte for byte."""
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    content = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    target = path / "zarr.json"
    if target.exists() and target.read_bytes() == content:
        return
    with commit_file(target, shared=shared) as temporary:
        temporary.write_bytes(content)


def field_of(well: Well, site: int) -> Field:
    """Field of a well by the vendor's number, whether it is written yet or not.

    Raises
    ------
    InputError
        If the plate has no such site.
    """
    sites = well.plate.sites
    if sites is None or site not in sites:
        raise InputError(f"plate {well.plate.name} has sites {sites}, not {site}")
    index = sites.index(site)
    return Field(well, index, site, well.path / str(index))


def list_fields(well: Well, sites: Sequence[int]) -> None:
    """Write the well's list of fields; call it when the fields of a well are written and some were lost."""
    _write_group(well.path, ngff.well_attributes([field_of(well, site).index for site in sorted(sites)]))


def drop_field(field: Field) -> None:
    """Remove a field's image, labels included, so that no stale one is left of a field that is damaged now."""
    for name in (field.path.name, field.path.name + ".partial", field.path.name + ".old"):
        shutil.rmtree(field.path.with_name(name), ignore_errors=True)


def drop_empty_wells(path: str | Path) -> tuple[str, ...]:
    """Take wells that list no field off the plate's list, which other readers refuse; return their names.

    `create_plate` puts them back, so a repaired well can be imported again.
    """
    plate = open_plate(path)
    metadata = ngff.read_metadata(plate.path)
    empty = []
    for well in plate.wells:
        try:
            if not well.fields:
                empty.append(well)
        except DamagedInput:
            continue  # a well with damaged metadata stays listed, or nobody would miss it
    if empty:
        gone = {well.path.relative_to(plate.path).as_posix() for well in empty}
        listed = metadata.ome["plate"]
        listed["wells"] = [well for well in listed["wells"] if well["path"] not in gone]
        _write_group(plate.path, {"ome": metadata.ome, "cellpheno": metadata.cellpheno}, shared=True)
    return tuple(well.name for well in empty)


def write_image(field: Field, pixels: Array) -> None:
    """Write the image of a field with its pyramid; an image that is there, and its labels, are replaced.

    Parameters
    ----------
    field : Field
        Of `field_of`, or of a plate that `create_plate` made.
    pixels : ndarray of shape (c, y, x), uint8, uint16 or float32
        Channels in the order of the plate.

    Raises
    ------
    ValueError
        If shape or data type do not fit, or a number is not finite.
    """
    plate = field.well.plate
    if pixels.ndim != 3 or len(pixels) != len(plate.channels) or 0 in pixels.shape:
        raise ValueError(
            f"{field.path}: shape {pixels.shape}, wanted ({len(plate.channels)}, y, x) for {plate.channels}"
        )
    if pixels.dtype.name not in DTYPES:
        raise ValueError(f"{field.path}: data type {pixels.dtype}, wanted one of {DTYPES}")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ValueError(f"{field.path}: pixels that are not finite (nan or infinite)")
    levels = pyramid(pixels, "mean")
    windows = [_window(plane) for plane in pixels]
    name = f"{field.well.name} site {field.site}"
    with commit_folder(field.path) as partial:
        write_levels(partial, levels, "cyx")
        attributes = ngff.image_attributes(name, plate.channels, len(levels), plate.pixel_size_um, windows, field.site)
        _write_group(partial, attributes)


def _window(plane: Array) -> dict[str, float]:
    """Range of the data type, and the percentiles 0.1 and 99.9 for display."""
    integer = plane.dtype.kind in "iu"
    low, high = (0, np.iinfo(plane.dtype).max) if integer else (float(plane.min()), float(plane.max()))
    start, end = (float(value) for value in np.percentile(plane, [0.1, 99.9]))
    return {"min": low, "max": high, "start": start, "end": end if end > start else start + 1}


def write_labels(field: Field, labels: Mapping[str, Array]) -> None:
    """Write label images of a field with their pyramids; others that are there stay.

    Parameters
    ----------
    field : Field
        Its image must be written.
    labels : mapping of name to ndarray of shape (y, x), int32
        0 is background.

    Raises
    ------
    DamagedInput
        If the field has no image.
    ValueError
        If a label image has another shape than the image, another data type or a negative value.
    """
    image = image_metadata(field.path)
    n_levels = len(image.ome["multiscales"][0]["datasets"])
    shape = open_level(field.path, image, 0).shape[-2:]
    for name, plane in labels.items():
        if plane.shape != shape or plane.dtype != np.int32 or plane.min(initial=0) < 0 or not name.isalnum():
            raise ValueError(
                f"{field.path}: labels {name!r}: shape {plane.shape}, {plane.dtype}, smallest {plane.min(initial=0)}; "
                f"wanted a name of letters and digits, shape {shape}, int32, 0 and above"
            )
    group = field.path / "labels"
    for name, plane in labels.items():
        levels = [plane[:: 2**level, :: 2**level] for level in range(n_levels)]
        with commit_folder(group / name) as partial:
            write_levels(partial, levels, "yx")
            pixel_size_um = field.well.plate.pixel_size_um
            _write_group(partial, ngff.label_attributes(name, n_levels, pixel_size_um, field.site))
    _write_group(group, ngff.labels_attributes(sorted({*field.label_names, *labels})))

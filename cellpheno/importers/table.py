"""Importer for folders with a table: a row an image set, and a template that makes each channel's file name of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from cellpheno.errors import ConfigError, InputError
from cellpheno.importers.planes import image_files, plane_table
from cellpheno.names import split_well
from cellpheno.plates.platemap import column_faults, read_text_table, row_wells


def scan(
    folder: str | Path,
    *,
    table: str,
    planes: Mapping[str, str],
    plate: str | None = None,
    well: str | Sequence[str] = "well",
    site: str | None = None,
    number_sites: bool = False,
    plate_column: str | None = None,
    pages: Mapping[str, int] | None = None,
    pixel_size_um: float | None = None,
    encoding: str = "utf-8",
) -> pd.DataFrame:
    r"""List the planes that a table tells of.

    Parameters
    ----------
    folder : path
    table : str
        CSV or TSV in the folder; all its cells are text.
    planes : mapping of channel to file template
        In the order of the plate. A template is filled with the columns of a row, such as
        ``"images/Channel1-{ImageNumber:0>2}-{Row}-{Column}.tif"``.
    plate : str, optional
        Barcode. Rows of other plates are left out; it names the plate where the table has no column for it, and
        the folder's name does where both are left out.
    well : str or [row, column]
        Column of the well in any spelling, or the two columns that make it up.
    site : str, optional
        Column of the field's number; one field a well, number 1, where left out.
    number_sites : bool
        Where no column tells the field: number the rows of a well 1, 2, ... as they stand in the table.
    plate_column : str, optional
        Column of the barcode.
    pages : mapping of channel to page, optional
        Page of a file with several (0 is the first); of a colour PNG or BMP: 0 red, 1 green, 2 blue.
    pixel_size_um : float, optional
    encoding : str

    Returns
    -------
    DataFrame
        The plane table. A file that is not there keeps its row: it is a fault of its well.

    Raises
    ------
    InputError
        With all faults at once: columns that are not there, wells that cannot be read, files outside the folder,
        no image.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "wells.csv").write_text("number,well\n1,b3\n")
    >>> (folder / "GFP-01.tif").touch()
    >>> planes = scan(folder, table="wells.csv", planes={"GFP": "GFP-{number:0>2}.tif"}, plate="P1")
    >>> planes.loc[0, ["row", "column", "channel"]].tolist()
    ['B', '03', 'GFP']
    """
    folder = Path(folder)
    path = folder / table
    headings, rows = read_text_table(path, encoding)
    own = [well] if isinstance(well, str) else list(well)
    needed = {"well": own[0]} if len(own) == 1 else {"well's row": own[0], "well's column": own[1]}
    needed |= ({"site": site} if site else {}) | ({"plate": plate_column} if plate_column else {})
    faults = column_faults(path, headings, needed) + _config_faults(planes, pages or {}, headings)
    if faults:
        raise ConfigError(*faults)
    if plate_column and plate is not None:
        rows = [(number, cells) for number, cells in rows if cells[plate_column] == plate]
    wells, faults = row_wells(path, rows, own)
    found: list[dict[str, Any]] = []
    seen: Counter[tuple[str | None, str]] = Counter()
    for (number, cells), name in zip(rows, wells, strict=True):
        seen[cells[plate_column] if plate_column else None, name] += 1
        running = seen[cells[plate_column] if plate_column else None, name] if number_sites else 1
        field = cells[site] if site else str(running)
        if not (field.isascii() and field.isdecimal()):
            faults.append(f"{path}, line {number}: site {field!r}; wanted a whole number")
        files = {channel: template.format(**cells) for channel, template in planes.items()}
        outside = [f for f in files.values() if PurePosixPath(f).is_absolute() or ".." in PurePosixPath(f).parts]
        faults += [f"{path}, line {number}: file {file!r} stands outside {folder}" for file in outside]
        if faults or not name:
            continue
        row, column = split_well(name)
        barcode = cells[plate_column] if plate_column else plate or folder.resolve().name
        size = float("nan") if pixel_size_um is None else pixel_size_um
        place = {"plate": barcode, "row": row, "column": column, "field": int(field), "pixel_size_um": size}
        found += [
            {**place, "path": str(folder / file), "channel": channel, "page": (pages or {}).get(channel, -1)}
            for channel, file in files.items()
        ]
    if not faults and not any(Path(plane["path"]).exists() for plane in found):
        sought = (
            f"looked for {found[0]['path']} and {len(found) - 1} more"
            if found
            else f"{path} has no row of plate {plate!r}"
        )
        faults.append(f"no image: {sought}")
    if faults:
        raise InputError(*faults)
    return plane_table(found, list(planes))


def matches(folder: str | Path) -> str | None:
    """Why this importer may fit a folder (a table with a column for wells beside images), or None.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "a.tif").touch()
    >>> _ = (folder / "wells.csv").write_text("Row,Column")
    >>> matches(folder)
    'wells.csv has Row, Column; give planes= (a file template a channel)'
    """
    folder = Path(folder)
    if not image_files(folder):
        return None
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".csv", ".tsv")):
        try:
            headings, _ = read_text_table(path)
        except InputError:
            continue  # no table that could list wells
        lower = {heading.lower(): heading for heading in headings}
        for wanted in (("well",), ("metadata_well",), ("row", "column")):
            if all(name in lower for name in wanted):
                there = ", ".join(lower[name] for name in wanted)
                return f"{path.name} has {there}; give planes= (a file template a channel)"
    return None


def _config_faults(planes: Mapping[str, str], pages: Mapping[str, int], headings: Sequence[str]) -> list[str]:
    """Templates that the table's columns cannot fill, and pages of channels that are not there."""
    faults = [] if planes else ["importer.planes is empty: wanted {channel: file template}"]
    faults += [f"importer.pages: no channel {name!r} in importer.planes" for name in pages if name not in planes]
    for channel, template in planes.items():
        try:
            template.format(**dict.fromkeys(headings, "1"))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            faults.append(f"importer.planes.{channel}: {template!r} cannot be filled ({error}) from {list(headings)}")
    return faults

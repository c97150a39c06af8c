"""Single-cell images told by a table: one file a cell, a row of the table a cell.

`scan_cells` turns table and folder into a cell table with ``path``; `read_cell` reads one cell's channels.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from cellpheno.errors import ConfigError, DamagedInput
from cellpheno.importers.read import Header, plane_header, read_plane
from cellpheno.names import CELL_KEYS, OBJECT, SITE, WELL, row_name, well_name
from cellpheno.plates.platemap import Rows, column_faults, read_text_table, row_wells

WELLS = 32 * 48  # of the largest plate


def scan_cells(
    folder: str | Path,
    *,
    table: str,
    file: str = "{file}",
    well: str | None = None,
    well_by: str | None = None,
    site: str | None = None,
    number: str | None = None,
    columns: Sequence[str] | None = None,
    encoding: str = "utf-8",
) -> pd.DataFrame:
    r"""List the cells that a table tells of.

    A well is what is worked on and resampled as one. Where the table names none, ``well_by`` is a column whose values
    stand for wells: sorted, they are called A01, A02, ... With neither, all cells stand in one well, A01.

    Parameters
    ----------
    folder : path
    table : str
        CSV or TSV in the folder; all its cells are text.
    file : str
        Template of the image's path in the folder, filled with the columns of a row, such as ``{phase}/{id}.png``.
    well : str, optional
        Column of the well, in any spelling of B03.
    well_by : str, optional
        Column whose values stand for wells, such as the position or the quadrant.
    site : str, optional
        Column of the field's number; 1 where left out.
    number : str, optional
        Column of the cell's number in its field; counted from 1 in the order of the table where left out.
    columns : sequence of str, optional
        Columns to keep, as ``Metadata_<column>``; all where left out.
    encoding : str

    Returns
    -------
    DataFrame
        ``Metadata_Well, Metadata_Site, Metadata_ObjectNumber``, the kept columns as text, ``path`` and ``line`` (of the
        table). A file that is not there keeps its row.

    Raises
    ------
    ConfigError
        With all faults at once: columns that are not there, wells and numbers that cannot be read, two cells of one
        number, files outside the folder or listed twice.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "labels.csv").write_text("file,phase,track\na.png,meta,007\nb.png,ana,NA\n")
    >>> cells = scan_cells(folder, table="labels.csv")
    >>> cells[["Metadata_Well", "Metadata_ObjectNumber", "Metadata_track"]].to_numpy().tolist()
    [['A01', 1, '007'], ['A01', 2, 'NA']]
    """
    folder = Path(folder)
    path = folder / table
    headings, rows = read_text_table(path, encoding)
    own = {"well": well, "well (well_by)": well_by, "site": site, "cell's number": number}
    needed = {purpose: column for purpose, column in own.items() if column is not None}
    kept = [name for name in headings if name not in (well, site, number)] if columns is None else list(columns)
    faults = column_faults(path, headings, needed | {f"column {name!r}": name for name in kept})
    faults += _config_faults(file, headings, well, well_by, kept)
    if faults or not rows:
        raise ConfigError(*faults or [f"{path}: no row below the heading"])
    wells, faults = _wells(path, rows, well, well_by)
    cells = pd.DataFrame({WELL: wells})
    cells[SITE], site_faults = _numbers(path, rows, site)
    cells[OBJECT], number_faults = _numbers(path, rows, number)
    if number is None:
        cells[OBJECT] = cells.groupby([WELL, SITE], sort=False).cumcount() + 1
    for name in kept:
        cells[_metadata(name)] = [row[name] for _, row in rows]
    files = [file.format(**row) for _, row in rows]
    cells["path"], cells["line"] = [str(folder / name) for name in files], [line for line, _ in rows]
    faults += [*site_faults, *number_faults, *_file_faults(path, folder, files, cells)]
    if faults:
        raise ConfigError(*faults)
    return cells


def cell_header(path: str | Path, channels: Mapping[str, int | None]) -> Header:
    """Read the common header of a cell's channels, without decoding a pixel.

    Parameters
    ----------
    path : path
    channels : mapping of channel to page
        In the order of the crops: the page of a TIFF with several, of a colour PNG or BMP 0 red, 1 green, 2 blue; None
        for the only plane of a file.

    Raises
    ------
    DamagedInput
        As `plane_header`, and if the channels differ in shape or data type.
    """
    headers = {name: plane_header(path, page) for name, page in channels.items()}
    first = next(iter(headers.values()))
    if differ := {name: header for name, header in headers.items() if header != first}:
        raise DamagedInput(f"{Path(path).name}: channels that differ from the first ({first}): {differ}")
    return first


def read_cell(path: str | Path, channels: Mapping[str, int | None], expected: Header) -> np.ndarray[Any, Any]:
    """Read the channels of one cell: (c, y, x).

    Raises
    ------
    DamagedInput
        As `read_plane`.
    """
    return np.stack([read_plane(path, page, expected=expected) for page in channels.values()])


def fit_size(pixels: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """Cut the middle square of ``size`` pixels out of a cell's image (c, y, x), zero where it does not reach.

    Examples
    --------
    >>> fit_size(np.arange(1, 7).reshape(1, 2, 3), 2).tolist(), fit_size(np.ones((1, 1, 2)), 2).tolist()
    ([[[1, 2], [4, 5]]], [[[0.0, 0.0], [1.0, 1.0]]])
    """
    out = np.zeros((len(pixels), size, size), pixels.dtype)
    inside, outside = [], []
    for n in pixels.shape[1:]:
        start = (n - size) // 2 if n >= size else -((size - n + 1) // 2)
        inside.append(slice(max(start, 0), min(start + size, n)))
        outside.append(slice(max(-start, 0), max(-start, 0) + min(n, size)))
    out[:, *outside] = pixels[:, *inside]
    return out


def _wells(path: Path, rows: Rows, well: str | None, well_by: str | None) -> tuple[list[str], list[str]]:
    if well is not None:
        return row_wells(path, rows, well)
    if well_by is None:
        return ["A01"] * len(rows), []
    values = sorted({row[well_by] for _, row in rows})
    if len(values) > WELLS:
        return [""] * len(rows), [f"{path}: {len(values)} values in {well_by!r}, a plate has {WELLS} wells at most"]
    width = 24 if len(values) <= 16 * 24 else 48
    names = {value: well_name(row_name(i // width), i % width + 1) for i, value in enumerate(values)}
    return [names[row[well_by]] for _, row in rows], []


def _numbers(path: Path, rows: Rows, column: str | None) -> tuple[list[int], list[str]]:
    """Whole numbers of a column, 1 where there is none."""
    if column is None:
        return [1] * len(rows), []
    faults = [
        f"{path}, line {line}: {column} {row[column]!r}; wanted a whole number"
        for line, row in rows
        if not (row[column].isascii() and row[column].isdecimal() and int(row[column]) < 2**31)
    ]
    return [1] * len(rows) if faults else [int(row[column]) for _, row in rows], faults


def _metadata(name: str) -> str:
    return name if name.startswith("Metadata_") else f"Metadata_{name}"


def _config_faults(
    file: str,
    headings: Sequence[str],
    well: str | None,
    well_by: str | None,
    kept: Sequence[str],
) -> list[str]:
    faults = []
    if well is not None and well_by is not None:
        faults.append(f"well={well} and well_by={well_by}: give the one or the other")
    full = [_metadata(name) for name in kept]
    faults += [f"column {name!r} has a name that is taken" for name in sorted(set(full) & set(CELL_KEYS))]
    faults += [f"two columns would be called {name!r}" for name in sorted({n for n in full if full.count(n) > 1})]
    try:
        file.format(**dict.fromkeys(headings, "1"))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        near = difflib.get_close_matches(str(error).strip("'"), headings, n=1)
        hint = f"; did you mean {{{near[0]}}}?" if near else ""
        faults.append(f"file={file!r} cannot be filled ({error}) from {list(headings)}{hint}")
    return faults


def _file_faults(path: Path, folder: Path, files: Sequence[str], cells: pd.DataFrame) -> list[str]:
    """Files outside of the folder, and cells that are listed twice."""
    lines = cells["line"].tolist()
    faults = [
        f"{path}, line {line}: file {name!r} stands outside {folder}"
        for line, name in zip(lines, files, strict=True)
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
    ]
    for columns, what in ((["path"], "file"), ([WELL, SITE, OBJECT], "cell")):
        first = cells.groupby(columns, sort=False)["line"].transform("min")
        for row, before in zip(cells.to_dict("records"), first, strict=True):
            if row["line"] != before and row[WELL]:
                named = Path(row["path"]).name if what == "file" else f"{row[WELL]} {row[SITE]} {row[OBJECT]}"
                faults.append(f"{path}, line {row['line']}: {what} {named} stands in line {before} already")
    return faults

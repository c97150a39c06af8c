"""Plate maps: what is in which well, read from CSV or TSV as the text that was typed."""

import csv
import difflib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cellpheno.errors import PlateError
from cellpheno.names import PLATE, WELL, parse_well, row_index, row_name, split_well, well_order

Rows = list[tuple[int, dict[str, str]]]


def read_text_table(path: str | Path, encoding: str = "utf-8") -> tuple[list[str], Rows]:
    r"""Read a CSV or TSV table; every cell stays the text it is, without the blanks round it.

    Parameters
    ----------
    path : path
        ``.tsv``, ``.tab`` and ``.txt`` are tab-separated; else the heading tells: comma, semicolon or tab.
    encoding : str
        A byte order mark goes before it.

    Returns
    -------
    headings : list of str
    rows : list of (line number in the file, {heading: cell})
        Rows without any text are left out.

    Raises
    ------
    PlateError
        If the file is missing, empty, in another encoding, or a line has more cells than the heading; all at once.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "map.csv"
    >>> _ = path.write_text("well, compound\nB03,NA\n")
    >>> read_text_table(path)
    (['well', 'compound'], [(2, {'well': 'B03', 'compound': 'NA'})])
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        beside = sorted(p.name for p in path.parent.glob("*.[ct]s*v")) if path.parent.is_dir() else []
        raise PlateError(f"{path}: no such table; tables beside it: {beside or 'none'}") from None
    mark = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb": "utf-8-sig"}.get(content[:2])
    try:
        text = content.decode(mark or encoding)
    except UnicodeDecodeError as error:
        raise PlateError(
            f"{path}: byte {error.start} is not {encoding}; save as UTF-8 or set encoding=cp1252"
        ) from error
    heading = text.partition("\n")[0]
    tabbed = path.suffix.lower() in (".tsv", ".tab", ".txt")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabbed else max(",;\t", key=heading.count))
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]  # no-break spaces too
    except csv.Error as error:
        raise PlateError(f"{path}, line {reader.line_num}: no readable table ({error})") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise PlateError(f"{path}: the table is empty")
    while lines[0][1] and not lines[0][1][-1]:
        lines[0][1].pop()  # spreadsheets export empty last columns
    names = lines[0][1]
    faults = [f"{path}: the heading has an empty column name"] if "" in names else []
    faults += [
        f"{path}: column {name!r} stands there twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    for number, cells in lines[1:]:
        if any(cells[len(names) :]):
            faults.append(f"{path}, line {number}: {len(cells)} cells, the heading has {len(names)}")
    if faults:
        raise PlateError(*faults)
    return names, [(n, dict(zip(names, cells + [""] * len(names), strict=False))) for n, cells in lines[1:]]


def column_faults(path: Path, headings: Sequence[str], wanted: Mapping[str, str]) -> list[str]:
    """One line for each wanted column (by what it is for) that a table has not, with the nearest names.

    Examples
    --------
    >>> column_faults(Path("map.csv"), ["Well", "drug"], {"well": "well"})
    ["map.csv: no column 'well' for the well; did you mean 'Well'? It has 'Well', 'drug'"]
    """
    faults = []
    for purpose, column in wanted.items():
        if column in headings:
            continue
        lower = {heading.lower(): heading for heading in headings}
        near = [lower[name] for name in difflib.get_close_matches(column.lower(), list(lower), n=2)]
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        faults.append(f"{path}: no column {column!r} for the {purpose}; {hint}It has {', '.join(map(repr, headings))}")
    return faults


def row_wells(path: Path, rows: Rows, well: str | Sequence[str]) -> tuple[list[str], list[str]]:
    """Well of each row of a table (empty where unreadable), and a fault for each that cannot be read.

    Examples
    --------
    >>> row_wells(Path("map.csv"), [(2, {"well": "b3"}), (3, {"well": "Z99"})], "well")[1]
    ["map.csv, line 3: well 'Z99': wanted a row A to AF and a column 1 to 48, such as B03"]
    """
    columns = [well] if isinstance(well, str) else list(well)
    wells, faults = [], []
    for number, cells in rows:
        try:
            wells.append(parse_well("".join(cells[column] for column in columns)))
        except ValueError as error:
            wells.append("")
            faults.append(f"{path}, line {number}: {error}")
    return wells, faults


def read_platemap(
    path: str | Path,
    *,
    plate: str | None = None,
    well: str | Sequence[str] = "well",
    plate_column: str | None = None,
    columns: Mapping[str, str] | None = None,
    by_row: Mapping[str, Mapping[str, str]] | None = None,
    by_pattern: Mapping[str, Mapping[str, str]] | None = None,
    encoding: str = "utf-8",
) -> pd.DataFrame:
    r"""Read a plate map.

    Parameters
    ----------
    path : path of a CSV or TSV table, one row a well
    plate : str, optional
        Barcode. Rows of other plates are left out; it names the plate where the map has no column for it.
    well : str or [row, column]
        Column of the well in any spelling, or the two columns that make it up.
    plate_column : str, optional
        Column of the barcode.
    columns : mapping of new name to the map's column, optional
        What to keep; all columns under their own names where left out.
    by_row : mapping of new name to {rows: value}, optional
        Columns that follow from the plate's rows, such as ``{"drug": {"A-D": "Wortmannin", "E-H": "LY294002"}}``.
    by_pattern : mapping of new name to {column: regular expression}, optional
        Columns that are a part of another one, the expression's first group, such as
        ``{"week": {"plate": "(Week[0-9]+)_"}}``; every row must match.
    encoding : str

    Returns
    -------
    DataFrame of str: Metadata_Plate, Metadata_Well, Metadata_<name>, ...
        One row a well, row by row of the plate. No text is taken for a number or a missing value.

    Raises
    ------
    PlateError
        With all faults at once: columns that are not there (and the nearest names), wells that cannot be read, wells
        with two different rows, no row of the plate.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "map.csv"
    >>> _ = path.write_text("well,compound\nb3,1e5\nA01,NA\n")
    >>> read_platemap(path, plate="P1")["Metadata_compound"].tolist()
    ['NA', '1e5']
    """
    path = Path(path)
    if plate is None and plate_column is None:
        raise PlateError(f"{path}: give plate= (the barcode) or plate_column= (the column that holds it)")
    headings, rows = read_text_table(path, encoding)
    own = [well] if isinstance(well, str) else list(well)
    rest = [name for name in headings if name not in (*own, plate_column)]
    kept = {name: name for name in rest} if columns is None else dict(columns)
    needed = {"well": own[0]} if len(own) == 1 else {"well's row": own[0], "well's column": own[1]}
    needed |= {"plate": plate_column} if plate_column else {}
    faults = column_faults(path, headings, needed | {f"column {new!r}": old for new, old in kept.items()})
    ranges, range_faults = _row_values(path, by_row or {})
    patterns = {new: next(iter(rule.items())) for new, rule in (by_pattern or {}).items()}
    faults += column_faults(path, headings, {f"column {new!r}": column for new, (column, _) in patterns.items()})
    faults += [*range_faults, *_name_faults(path, [*kept, *ranges, *patterns])]
    if any(column not in headings for column in needed.values()):
        raise PlateError(*faults)
    if plate_column and plate is not None:
        found = sorted({cells[plate_column] for _, cells in rows})
        rows = [(number, cells) for number, cells in rows if cells[plate_column] == plate]
        if not rows:
            faults.append(f"{path}: no row of plate {plate!r}; column {plate_column!r} has {found[:5]}")
    elif not rows:
        faults.append(f"{path}: no row below the heading")
    wells, well_faults = row_wells(path, rows, own)
    faults += well_faults
    if any(old not in headings for old in [*kept.values(), *(column for column, _ in patterns.values())]):
        raise PlateError(*faults)
    read: dict[tuple[str, str], tuple[int, list[str]]] = {}
    for (number, cells), name in zip(rows, wells, strict=True):
        if not name:
            continue
        key = (cells[plate_column] if plate_column else str(plate), name)
        extra = [values.get(split_well(name)[0], "") for values in ranges.values()]
        parts = [re.match(pattern, cells[column]) for column, pattern in patterns.values()]
        faults += [
            f"{path}, line {number}: {cells[column]!r} does not match {pattern!r}, which makes {new!r}"
            for part, (new, (column, pattern)) in zip(parts, patterns.items(), strict=True)
            if part is None
        ]
        values = [cells[old] for old in kept.values()] + extra + [part[1] if part else "" for part in parts]
        before, same = read.setdefault(key, (number, values))
        if same != values:
            faults.append(f"{path}: well {name} has two rows that differ, lines {before} and {number}")
    if faults:
        raise PlateError(*faults)
    order = sorted(read, key=lambda key: (key[0], well_order(key[1])))
    names = [PLATE, WELL, *(_metadata_name(name) for name in (*kept, *ranges, *patterns))]
    return pd.DataFrame([[*key, *read[key][1]] for key in order], columns=names, dtype="object").astype(str)


def _metadata_name(name: str) -> str:
    return name if name.startswith("Metadata_") else f"Metadata_{name}"


def _name_faults(path: Path, names: Sequence[str]) -> list[str]:
    full = [PLATE, WELL, *map(_metadata_name, names)]
    return [f"{path}: two columns would be called {name!r}" for name in sorted({n for n in full if full.count(n) > 1})]


def _row_values(path: Path, by_row: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Spread the ranges of rows: {"drug": {"A-B": "x"}} to {"drug": {"A": "x", "B": "x"}}."""
    found: dict[str, dict[str, str]] = {}
    faults = []
    for name, ranges in by_row.items():
        found[name] = {}
        for rows, value in ranges.items():
            first, _, last = str(rows).replace(" ", "").upper().partition("-")
            try:
                low, high = row_index(first), row_index(last or first)
            except ValueError as error:
                faults.append(f"{path}: by_row {name!r}, rows {rows!r}: {error}")
                continue
            inside = [row_name(i) for i in range(low, high + 1)]
            if not inside or found[name].keys() & set(inside):
                faults.append(f"{path}: by_row {name!r}, rows {rows!r}: empty, or another range has one of them")
            found[name] |= dict.fromkeys(inside, str(value))
    return found, faults

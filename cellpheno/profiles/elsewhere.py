"""Features made by other programs, to one row a well: CellProfiler, CytoTable, pycytominer, or any table with wells.

Names of plates and wells are text as typed: ``007`` and ``NA`` stay what they are.
"""

import csv
import functools
import gzip
import logging
import re
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from pyarrow.lib import ArrowException
from pyarrow.parquet import read_schema

from cellpheno.errors import InputError
from cellpheno.names import COMPARTMENTS, PLATE, WELL, parse_well

IMAGE = "ImageNumber"
KEYS = ("TableNumber", IMAGE)  # by which CellProfiler ties objects to images; the first only in some databases
UNDEFINED = ["", "nan", "NaN", "-nan", "NA", "N/A", "null", "NULL", "None"]  # of numbers; a plate may be called NA
ROW_NUMBER = re.compile(r"Unnamed: \d+|__index_level_\d+__|index|level_\d+")  # what pandas calls a table's index
PACKED = (gzip.BadGzipFile, zlib.error, EOFError)  # of a file that was packed and is damaged
log = logging.getLogger("cellpheno")


def read_profiles(
    path: str, plate: str = "Metadata_Plate", well: str = "Metadata_Well", one_plate: str | None = None
) -> pd.DataFrame:
    r"""Read features made elsewhere, a row a well.

    Where a well has several rows, as of cells or of fields, each feature is their median, undefined values left out.
    Infinite values count as undefined. Columns of text, and the number of a row that pandas writes without a heading,
    are left out, and a log line names them.

    Parameters
    ----------
    path : str
        One of: a folder with CellProfiler's ``Image.csv`` and ``Cells.csv, Nuclei.csv, Cytoplasm.csv`` (any of these,
        with or without a prefix such as ``MyExpt_``); a folder of Parquet files; CellProfiler's SQLite database; a
        Parquet, CSV, TSV or ``csv.gz`` table of cells or wells, as of CytoTable and pycytominer.
    plate, well : str
        Columns that name plate and well, with or without ``Image_`` before them.
    one_plate : str, optional
        Name of the plate, where all wells are of one and the files do not name it.

    Returns
    -------
    DataFrame
        ``Metadata_Plate``, ``Metadata_Well`` (as ``B03``), then the features, float64; sorted by well.

    Raises
    ------
    InputError
        With all faults: nothing readable at the path, a missing column, rows without plate or well, names that are no
        well, objects of unknown images.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "cells.csv"
    >>> _ = file.write_text("Metadata_Plate,Metadata_Well,Cells_AreaShape_Area\n007,b3,1\n007,B03,4\n")
    >>> read_profiles(str(file)).to_dict("list")
    {'Metadata_Plate': ['007'], 'Metadata_Well': ['B03'], 'Cells_AreaShape_Area': [2.5]}
    """
    stamps = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in profile_files(path))
    return _profiles(path, stamps, plate, well, one_plate).copy()


def profile_files(path: str) -> list[Path]:
    """Files that `read_profiles` reads at a path.

    Raises
    ------
    InputError
        If there are none.
    """
    place = Path(path)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError(f"{place} is not there; give path=FILE or a folder of features made elsewhere")
    if files := sorted(place.glob("*.parquet")):
        return files
    images = sorted(place.glob("*Image.csv"))
    objects = [file for name in COMPARTMENTS for file in sorted(place.glob(f"*{name}.csv"))]
    if len(images) != 1 or not objects:
        found = f"{len(images)} files *Image.csv and {len(objects)} of *Cells.csv, *Nuclei.csv, *Cytoplasm.csv"
        raise InputError(f"{place} has {found}; wanted one and one or more of CellProfiler's, or Parquet files")
    return [*images, *objects]


def check_profiles(path: str) -> None:
    """Refuse files of features that are not there, or that lost their end.

    Raises
    ------
    InputError
        As `profile_files`, or if a Parquet file has no footer, a database no tables, or a packed file is damaged.
    """
    for file in profile_files(path):
        try:
            if _is_sqlite(file):
                with closing(sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)) as connection:
                    connection.execute("SELECT name FROM sqlite_master").fetchall()
            elif _is_parquet(file):
                read_schema(file)
            elif file.suffix == ".gz":
                with gzip.open(file) as opened:
                    while opened.read(1 << 20):
                        pass
        except (ArrowException, OSError, sqlite3.DatabaseError, *PACKED) as error:
            raise InputError(_unreadable(file, error)) from error


@functools.lru_cache(maxsize=2)  # every fold asks for the same table
def _profiles(
    path: str, stamps: tuple[tuple[str, int, int], ...], plate: str, well: str, one_plate: str | None
) -> pd.DataFrame:
    files = [Path(name) for name, _, _ in stamps]
    naming = (plate, well, one_plate)
    if _is_sqlite(files[0]):
        tables = _from_sqlite(files[0], naming)
    elif len(files) > 1 and files[0].suffix == ".csv":
        images = _named(_read_csv(files[0], naming), naming, files[0])
        tables = (_with_images(_read_csv(file, naming), images, _compartment(file.stem), file) for file in files[1:])
    elif len(files) > 1:
        tables = iter([_one_table([_named(_read_table(file, naming), naming, file) for file in files], files)])
    else:
        tables = iter([_named(_read_table(files[0], naming), naming, files[0])])
    try:
        parts = [_one_row_a_well(table, path) for table in tables]
    except (sqlite3.DatabaseError, pd.errors.DatabaseError) as error:
        raise InputError(_unreadable(files[0], error)) from error
    whole = pd.concat(parts, axis=1)
    if not whole.columns.is_unique:
        twice = str(whole.columns[whole.columns.duplicated()][0])
        read = ", ".join(file.name for file in files)
        raise InputError(f"{path} gives {twice} twice, of two tables of one compartment ({read}); leave one of them")
    return whole.sort_index().reset_index()


def _read_table(file: Path, naming: tuple[str, str, str | None]) -> pd.DataFrame:
    if not _is_parquet(file):
        return _read_csv(file, naming)
    try:
        return pd.read_parquet(file)
    except (ArrowException, OSError) as error:
        raise InputError(_unreadable(file, error)) from error


def _read_csv(file: Path, naming: tuple[str, str, str | None]) -> pd.DataFrame:
    """Read a CSV or TSV; columns of names as text, others with nan where empty or undefined."""
    packed = file.suffix == ".gz"
    separator = "\t" if ".tsv" in file.suffixes else ","
    try:
        with gzip.open(file, "rt", encoding="utf-8-sig") if packed else open(file, encoding="utf-8-sig") as opened:
            header = next(csv.reader(opened, delimiter=separator), [])
        names = {column: str for column in header if column.removeprefix("Image_") in naming[:2]}
        undefined = {column: UNDEFINED for column in header if column not in names}
        how: dict[str, Any] = {"dtype": names, "keep_default_na": False, "na_values": undefined, "low_memory": False}
        table: pd.DataFrame = pd.read_csv(file, sep=separator, encoding="utf-8-sig", **how)
        return table
    except (UnicodeDecodeError, csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError, *PACKED) as error:
        raise InputError(_unreadable(file, error)) from error


def _one_table(tables: Sequence[pd.DataFrame], files: Sequence[Path]) -> pd.DataFrame:
    """Rows of several files, which must have the same features."""
    for table, file in zip(tables[1:], files[1:], strict=True):
        for lacking, there, other in ((table, tables[0], files[0]), (tables[0], table, file)):
            if names := [str(c) for c in there if c not in lacking and not _is_metadata(c)]:
                holder = file if lacking is table else files[0]
                raise InputError(
                    f"{holder} lacks {len(names)} columns of {other.name}, such as {names[0]}; make them alike"
                )
    return pd.concat(tables)


def _unreadable(file: Path, error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"{file}: no table that can be read ({said}); wanted CSV, TSV, Parquet or SQLite, whole"


def _named(table: pd.DataFrame, naming: tuple[str, str, str | None], file: Path) -> pd.DataFrame:
    """Add ``Metadata_Plate`` and ``Metadata_Well`` as they are written here."""
    plate, well, one_plate = naming
    found = {}
    for key, column in ((PLATE, plate), (WELL, well)):
        own = next((name for name in (column, f"Image_{column}") if name in table), None)
        if own is not None:
            found[key] = table[own].astype(object)
        elif key == PLATE and one_plate is not None:
            found[key] = pd.Series(one_plate, index=table.index, dtype=object)
    if missing := [column for key, column in ((PLATE, plate), (WELL, well)) if key not in found]:
        near = ", ".join([str(c) for c in table if "Metadata_" in str(c)][:8]) or "none"
        raise InputError(f"{file} has no column {' and '.join(missing)}; its Metadata columns: {near}")
    empty = np.any([(values.isna() | (values == "")).to_numpy() for values in found.values()], axis=0).sum()
    if empty:
        raise InputError(f"{file}: {empty} of {len(table)} rows have no plate or no well; correct or remove them")
    wells: dict[object, str] = {}
    faults = []
    for value in found[WELL].unique():
        try:
            wells[value] = parse_well(str(value))
        except ValueError as error:
            faults.append(f"{file}: {error}")
    if faults:
        raise InputError(*faults[:5])
    keys = pd.DataFrame({PLATE: found[PLATE].map(str), WELL: found[WELL].map(wells)})
    return pd.concat([keys, table.drop(columns=[PLATE, WELL], errors="ignore")], axis=1)


def _with_images(objects: pd.DataFrame, images: pd.DataFrame, compartment: str, file: Path) -> pd.DataFrame:
    """Objects of CellProfiler with plate and well of their image, and their compartment in each feature's name."""
    keys = [key for key in KEYS if key in objects and key in images]
    if IMAGE not in keys or images.duplicated(keys).any():
        raise InputError(f"{file}: {IMAGE} must stand in it and once a row in the table of images")
    prefixed = [c for c in objects if c not in (*KEYS, PLATE, WELL) and not str(c).startswith(COMPARTMENTS)]
    own = objects.rename(columns={c: f"{compartment}_{c}" for c in prefixed} if compartment else {})
    joined = own.drop(columns=[PLATE, WELL], errors="ignore").merge(images[[*keys, PLATE, WELL]], on=keys, how="left")
    if stray := int(joined[WELL].isna().sum()):
        raise InputError(f"{file}: {stray} of {len(own)} objects are of images that the table of images lacks")
    return joined.drop(columns=[*keys, "ObjectNumber", f"{compartment}_ObjectNumber"], errors="ignore")


def _compartment(name: str) -> str:
    """Compartment that a file or table is of; empty where its columns name theirs.

    Examples
    --------
    >>> _compartment("MyExpt_Nuclei"), _compartment("Per_Object")
    ('Nuclei', '')
    """
    return next((own for own in COMPARTMENTS if name.endswith(own)), "")


def _is_parquet(file: Path) -> bool:
    with open(file, "rb") as opened:
        return opened.read(4) == b"PAR1"


def _is_sqlite(file: Path) -> bool:
    with open(file, "rb") as opened:
        return opened.read(16) == b"SQLite format 3\x00"


def _from_sqlite(file: Path, naming: tuple[str, str, str | None]) -> Iterator[pd.DataFrame]:
    """Tables of objects of a database that CellProfiler or cytominer-database wrote."""
    with closing(sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)) as connection:

        def read(name: str) -> pd.DataFrame:
            table = pd.read_sql_query(f'SELECT * FROM "{name}"', connection)
            short = {f"{kind}_{key}": key for kind in ("Image", *COMPARTMENTS) for key in (*KEYS, "ObjectNumber")}
            return table.rename(columns={c: short[c] for c in table if c in short and short[c] not in table})

        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        images = [name for name in names if name.endswith("Image")]
        objects = [name for name in sorted(names) if name.endswith((*COMPARTMENTS, "Object"))]
        if len(images) != 1 or not objects:
            raise InputError(
                f"{file} has the tables {', '.join(names)}; wanted one whose name ends in Image and some that end in "
                "Cells, Nuclei, Cytoplasm or Object"
            )
        own = _named(read(images[0]), naming, file)
        for name in objects:
            yield _with_images(read(name), own, _compartment(name), file)


def _one_row_a_well(table: pd.DataFrame, path: str) -> pd.DataFrame:
    """Median of each number over the rows of a well."""
    rest = [c for c in table if not _is_metadata(c)]
    if counted := [str(c) for c in rest if ROW_NUMBER.fullmatch(str(c))]:
        log.warning("%s: numbers of rows are left out: %s", path, ", ".join(counted))
    rest = [c for c in rest if str(c) not in counted]
    texts = [str(c) for c in rest if not pd.api.types.is_numeric_dtype(table[c])]
    if faults := [told for c in texts if (told := _stray_text(table[c]))]:
        raise InputError(*(f"{path}: {told}" for told in faults[:5]))
    if texts:
        more = f" and {len(texts) - 5} more" if len(texts) > 5 else ""
        log.warning("%s: columns without numbers are left out: %s%s", path, ", ".join(texts[:5]), more)
    features = [c for c in rest if str(c) not in texts]
    if not features:
        raise InputError(f"{path} has no column of numbers beside plate and well")
    if odd := [str(c) for c in features if not str(c).startswith((*COMPARTMENTS, "Image_"))]:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        log.info("%s: taken as features, though of no compartment: %s%s", path, ", ".join(odd[:5]), more)
    numbers = table[features].astype(np.float64).replace([np.inf, -np.inf], np.nan)
    return numbers.groupby([table[PLATE], table[WELL]], sort=True).median()


def _is_metadata(column: object) -> bool:
    return str(column).removeprefix("Image_").startswith("Metadata_")


def _stray_text(values: "pd.Series[Any]") -> str:
    """Say so where most values of a column are numbers and some are not, as in a damaged file."""
    texts = values.dropna().astype(str)
    strange = texts[pd.to_numeric(texts, errors="coerce").isna()]
    if not 0 < len(strange) < len(texts) / 2:
        return ""
    told = f"{len(strange)} of {len(texts)} values of {values.name} are no numbers, such as {strange.iloc[0]!r}"
    return f"{told}; correct them or leave the column out"

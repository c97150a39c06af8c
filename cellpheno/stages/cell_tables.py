"""The cell tables of a plate: a Parquet file a well, written as its fields are measured, opened as one lazy table."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from cellpheno.batch.ledger import USABLE, read_record, well_status
from cellpheno.errors import InputError
from cellpheno.names import ACQUISITION, OBJECT, PLATE, SITE, WELL, fits
from cellpheno.plates.commit import commit_file
from cellpheno.plates.plate import Plate
from cellpheno.stages.well_steps import chosen_wells

ROWS = 2000  # of a row group, 60 MB of 3,500 features: a well or more; readers pay for every group of every column
_KINDS = {PLATE: pa.string(), WELL: pa.string(), SITE: pa.int64(), ACQUISITION: pa.int64(), OBJECT: pa.int64()}


def cells_path(folder: Path, well: str) -> Path:
    """Where a well's cell table stands in the folder of its plate."""
    return folder / "cells" / f"{well}.parquet"


def open_cells(plate: Plate, wells: Sequence[str] | None = None) -> pyarrow.dataset.Dataset:
    """Open the cell tables of a plate as one table, without reading a row.

    `read_cells` reads columns of it. For a table larger than memory take this one: batches come one at a time, and
    DuckDB and polars scan it.

    Parameters
    ----------
    plate : Plate
    wells : sequence of str, optional
        ``B03`` or ``B03-D06``; every measured well by default.

    Returns
    -------
    pyarrow.dataset.Dataset
        Wells row by row, in each its fields, in each its cells. Wells that are set aside are left out.

    Raises
    ------
    InputError
        If a chosen well has no cell table, none has, or the wells differ in their columns.

    Examples
    --------
    >>> import tempfile
    >>> from cellpheno.batch.ledger import commit_step
    >>> from cellpheno.plates.write import create_plate
    >>> plate = create_plate(Path(tempfile.mkdtemp()) / "P1.zarr", "P1", {"B03": [1]}, ["DNA"], pixel_size_um=0.65)
    >>> cells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": "B03", "Cells_AreaShape_Area": [3.0, 4.0]})
    >>> facts = write_cells(cells_path(plate.folder, "B03"), [cells])
    >>> commit_step(plate.folder, "B03", "measure", {"status": "done", "messages": [], "files": {}, "facts": facts})
    >>> open_cells(plate).count_rows()
    2
    >>> read_cells(plate, ["Cells_AreaShape_*"])["Cells_AreaShape_Area"].sum()
    np.float64(7.0)
    """
    return pyarrow.dataset.dataset([str(path) for path in _paths(plate, wells)], format="parquet")


def read_cells(plate: Plate, columns: Sequence[str] | None = None, wells: Sequence[str] | None = None) -> pd.DataFrame:
    """Read some columns of some wells of a plate's cell table; nothing else comes into memory.

    Parameters
    ----------
    plate : Plate
    columns : sequence of str, optional
        Names or patterns such as ``Nuclei_Intensity_*_DNA``; all columns by default. ``Metadata_*`` always come along.
    wells : sequence of str, optional
        ``B03`` or ``B03-D06``; every measured well by default.

    Returns
    -------
    DataFrame
        A row a cell, in the order of `open_cells`.

    Raises
    ------
    InputError
        If a column or pattern matches nothing, and as `open_cells`.
    """
    paths = _paths(plate, wells)
    known = pyarrow.parquet.read_schema(paths[0]).names
    wanted = ["Metadata_*", *(["*"] if columns is None else columns)]
    if unknown := [pattern for pattern in wanted if not any(fits(name, [pattern]) for name in known)]:
        raise InputError(f"columns {unknown} match none of the {len(known)} columns of {paths[0]}")
    chosen = [name for name in known if fits(name, wanted)]
    parts = [pyarrow.parquet.read_table(path, columns=chosen) for path in paths]  # a data set would keep every footer
    table: pd.DataFrame = pa.concat_tables(parts).to_pandas()
    return table


def _paths(plate: Plate, wells: Sequence[str] | None) -> list[Path]:
    """Cell tables of the wells that have one, all with the same columns."""
    records = {well.name: read_record(plate.folder, well.name) for well in plate.wells}
    measured = {w: r["measure"] for w, r in records.items() if "measure" in r and well_status(r)[0] in USABLE}
    chosen = list(measured) if wells is None else list(chosen_wells(wells))
    if absent := [well for well in chosen if well not in measured]:
        raise InputError(f"{plate.path}: no cell table of {', '.join(absent)}; {plate.folder}/status.csv tells why")
    if not chosen:
        raise InputError(f"{plate.path}: no well is measured yet; run: cellpheno measure plate={plate.path}")
    alike = defaultdict(list)
    for well in chosen:
        alike[measured[well]["facts"].get("columns")].append(well)
    if len(alike) > 1:
        told = " | ".join(", ".join(group[:5]) + (", ..." if len(group) > 5 else "") for group in alike.values())
        raise InputError(f"{plate.path}: wells were measured differently ({told}); measure them alike or choose wells=")
    return [cells_path(plate.folder, well) for well in chosen]


def write_cells(path: Path, tables: Iterable[pd.DataFrame]) -> dict[str, int | str]:
    """Write the cell table of a well as its fields come, at most `ROWS` and a field of them in memory.

    Parameters
    ----------
    path : Path
    tables : iterable of DataFrame
        A table a field, with the same columns; at least one.

    Returns
    -------
    dict
        What the ledger keeps: ``n_cells``, and ``columns``, a hash of their names.

    Raises
    ------
    ValueError
        If two fields differ in their columns.
    """
    tables = iter(tables)
    waiting = [next(tables)]
    n_cells = 0
    names = [str(name) for name in waiting[0].columns]
    schema = pa.schema([(name, _KINDS.get(name, pa.float64())) for name in names])
    texts = [name for name in names if schema.field(name).type == pa.string()]
    with (
        commit_file(path) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema, use_dictionary=texts, store_schema=False) as writer,
    ):
        for table in tables:
            if list(table.columns) != names:
                differing = sorted(set(table.columns) ^ set(names))
                raise ValueError(
                    f"{path}: fields of a well differ in {len(differing)} columns, such as {differing[:3]}"
                )
            if sum(map(len, waiting)) >= ROWS:
                n_cells += _write(writer, schema, waiting)
            waiting.append(table)
        n_cells += _write(writer, schema, waiting)
    return {"n_cells": n_cells, "columns": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]}


def _write(writer: pyarrow.parquet.ParquetWriter, schema: pa.Schema, waiting: list[pd.DataFrame]) -> int:
    """Write what waits as one row group and forget it."""
    rows = pd.concat(waiting, ignore_index=True)
    waiting.clear()
    table = pa.Table.from_pandas(rows, schema=schema, preserve_index=False)
    writer.write_table(table.replace_schema_metadata(), row_group_size=max(len(rows), 1))
    return len(rows)

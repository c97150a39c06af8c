"""What is said of the cells or positions of wells: Parquet that is written and merged a well at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cellpheno.compare.predictions import NEW, OUT_OF_FOLD
from cellpheno.names import CELL_KEYS, PLATE, WELL
from cellpheno.plates.commit import commit_file

PLACE = ["contestant", "split", "repeat", "fold", "role"]
Rows = Callable[[pd.DataFrame], None]


@contextmanager
def commit_rows(path: Path, empty: pd.DataFrame) -> Iterator[Rows]:
    """Write a table a well at a time, each as a row group of its own; the file is whole under its name or absent.

    Parameters
    ----------
    path : Path
    empty : DataFrame
        What the file holds if no well is written: the columns, no rows.

    Yields
    ------
    callable
        Takes the rows of one well; all wells have the columns and dtypes of the first.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "rows.parquet"
    >>> with commit_rows(path, pd.DataFrame(columns=["weight"])) as write:
    ...     write(pd.DataFrame({"weight": [0.25, 0.75]}))
    ...     write(pd.DataFrame({"weight": [1.0]}))
    >>> pq.ParquetFile(path).num_row_groups, pd.read_parquet(path)["weight"].tolist()
    (2, [0.25, 0.75, 1.0])
    """
    with commit_file(path) as temporary, ExitStack() as opened:
        writer: pq.ParquetWriter | None = None

        def write(rows: pd.DataFrame) -> None:
            nonlocal writer
            table = pa.Table.from_pandas(rows, schema=writer and writer.schema, preserve_index=False)
            writer = writer or opened.enter_context(pq.ParquetWriter(temporary, table.schema))
            writer.write_table(table, row_group_size=max(len(rows), 1))

        yield write
        if writer is None:
            empty.to_parquet(temporary, index=False)


def merge_rows(parts: Sequence[Path], path: Path) -> Path:
    """Put what all models say into one table: of held-out wells as it is, of new wells the mean over a split's models.

    Held-out wells come first, in the order of the parts; then new ones, by split, plate and well. One well of each
    model is in memory.

    Parameters
    ----------
    parts : sequence of Path
        A table a model, as `commit_rows` writes it: `PLACE`, `CELL_KEYS`, weight, logit_<class>; Location_* of
        positions.
    path : Path

    Returns
    -------
    Path
        ``path``.
    """
    with ExitStack() as opened:
        files = [opened.enter_context(pq.ParquetFile(part)) for part in parts]
        filled = [file for file in files if file.metadata.num_rows]  # the others know no Location_*
        first = [*PLACE, *CELL_KEYS]
        columns = [*first, *(name for name in (filled or files)[0].schema_arrow.names if name not in first)]
        new: dict[tuple[str, ...], list[tuple[pq.ParquetFile, int]]] = {}  # where the rows of a new well are
        with commit_rows(path, pd.DataFrame(columns=columns)) as write:
            for file in filled:
                for group in range(file.num_row_groups):
                    rows = file.read_row_group(group).to_pandas()
                    if len(held := rows.loc[rows["role"] == OUT_OF_FOLD, columns]):
                        write(held)
                    keys = rows.loc[rows["role"] == NEW, ["split", PLATE, WELL]].drop_duplicates()
                    for key in keys.itertuples(index=False, name=None):
                        new.setdefault(key, []).append((file, group))
            for key in sorted(new):
                write(_mean([file.read_row_group(group).to_pandas() for file, group in new[key]], key)[columns])
    return path


def _mean(tables: Sequence[pd.DataFrame], key: tuple[str, ...]) -> pd.DataFrame:
    """Mean over models of what they say of the instances of one new well."""
    rows = pd.concat(tables, ignore_index=True)
    rows = rows[(rows[["split", PLATE, WELL]] == list(key)).all(axis=1) & (rows["role"] == NEW)]
    keys = ["contestant", "split", "role", *CELL_KEYS]
    mean = rows.drop(columns=["repeat", "fold"]).groupby(keys, sort=True).mean()
    return mean.reset_index().assign(repeat=-1, fold=-1)

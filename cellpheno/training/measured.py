"""Cells as what was measured of them: engineered features, cell by cell, as instances like their pictures."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cellpheno.errors import InputError
from cellpheno.images.crops import Crops
from cellpheno.names import OBJECT, SITE, fits, is_feature
from cellpheno.plates.plate import Plate
from cellpheno.seeds import derived_seed
from cellpheno.training.instances import Cells, Optics, Place

NO_PHENOTYPE = ("*_Location_*", "*_AreaShape_Center_*", "*_AreaShape_BoundingBoxM*", "*_Parent_*", "*Object*Number*")


class _Table(NamedTuple):
    values: NDArray[np.float32]  # (n, d), cells in random order
    site: NDArray[np.int32]
    number: NDArray[np.int32]


@dataclass(frozen=True)
class Measured(Cells):
    """Features of the cells of a well, measured by ``cellpheno measure``: a feature is a channel of one pixel.

    Parameters
    ----------
    columns : sequence of str
        Patterns of the features' names.
    without : sequence of str
        Patterns of those left out again: what says where in the field a cell lies is no phenotype.

    Examples
    --------
    >>> Measured(columns=["Nuclei_AreaShape_*"]).step
    'measure'
    """

    columns: Sequence[str] = ("Cells_*", "Nuclei_*", "Cytoplasm_*")
    without: Sequence[str] = NO_PHENOTYPE
    step: ClassVar[str] = "measure"
    pictures: ClassVar[bool] = False

    def place(self, plate: Plate, well: str) -> Path:
        """Cell table of a well."""
        return plate.folder / "cells" / f"{well}.parquet"

    def optics(self, plate: Plate) -> Optics:
        """Names of the features; they have no pixel size.

        Raises
        ------
        InputError
            If the plate was not measured, no feature fits the patterns, or wells were measured in different ways.
        """
        paths = sorted((plate.folder / "cells").glob("*.parquet"))
        if not paths:
            raise InputError(f"{plate.folder}/cells holds no features; run: cellpheno measure plate={plate.path}")
        first, *others = paths
        names = _features(pq.read_schema(first).names, self.columns, self.without)
        if not names:
            raise InputError(f"{first}: no feature fits instances.columns={list(self.columns)}")
        if differ := [p for p in others if _features(pq.read_schema(p).names, self.columns, self.without) != names]:
            told = f"{first} and {differ[0]} hold other features ({len(differ)} of {len(paths)} wells differ)"
            raise InputError(f"{told}; measure the plate anew: cellpheno measure plate={plate.path}")
        return tuple(names), None

    def _table(self, place: Place) -> _Table:
        path = Path(place)
        return _read(path, path.stat().st_mtime_ns, tuple(self.columns), tuple(self.without))

    def count(self, place: Place) -> int:
        """Count the cells."""
        return int(pq.read_metadata(place).num_rows)

    def pixels(self, place: Place, part: slice) -> NDArray[Any]:
        """Features (n, d, 1, 1) of some cells."""
        return self._table(place).values[part, :, None, None]

    def read(self, place: Place, part: slice) -> Crops:
        """Some cells with their keys."""
        table = self._table(place)
        n = len(table.site[part])
        return Crops(self.pixels(place, part), table.site[part], table.number[part], np.zeros(n, bool))

    def sample(self, place: Place) -> NDArray[Any]:
        """Features of the first 64 cells, which stand in random order."""
        return self.pixels(place, slice(0, 64))


def _features(columns: Sequence[str], wanted: Sequence[str], without: Sequence[str]) -> list[str]:
    return [name for name in columns if is_feature(name) and fits(name, wanted) and not fits(name, without)]


@functools.lru_cache(maxsize=512)  # wells; a bag an epoch comes from each
def _read(path: Path, changed: int, columns: tuple[str, ...], without: tuple[str, ...]) -> _Table:
    names = _features(pq.read_schema(path).names, columns, without)
    table = pd.read_parquet(path, columns=[SITE, OBJECT, *names])
    order = np.random.default_rng(derived_seed(0, path.stem)).permutation(len(table))  # a bag is a part of a well
    keys = (table[key].to_numpy(np.int32)[order] for key in (SITE, OBJECT))
    return _Table(table[names].to_numpy(np.float32)[order], *keys)

"""Features of a run's wells: of their cells, of their whole fields, and which of them each baseline looks at."""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL, fits
from cellpheno.plates.commit import hash_file
from cellpheno.profiles.aggregate import COUNT, aggregate
from cellpheno.profiles.elsewhere import profile_files
from cellpheno.profiles.matched import listed, unmatched
from cellpheno.stages.cell_tables import cells_path
from cellpheno.stages.image_statistics import statistics_path

Baselines = Mapping[str, Callable[..., Any]]
log = logging.getLogger("cellpheno")


def elsewhere(baselines: Baselines) -> dict[str, tuple[str, Callable[[], pd.DataFrame]]]:
    """Path and reader of each baseline whose features were made elsewhere."""
    given = {name: inspect.signature(baseline).parameters.get("profiles") for name, baseline in baselines.items()}
    readers = {name: parameter.default for name, parameter in given.items() if parameter and parameter.default}
    return {name: (str(inspect.signature(read).parameters["path"].default), read) for name, read in readers.items()}


def elsewhere_hashes(baselines: Baselines) -> dict[str, list[str]]:
    """Hashes of the files of each baseline whose features were made elsewhere."""
    return {name: [hash_file(file) for file in profile_files(path)] for name, (path, _) in elsewhere(baselines).items()}


def needed_columns(baselines: Baselines, columns: Sequence[str]) -> list[str]:
    """Columns of the well table that some baseline looks at.

    Examples
    --------
    >>> needed_columns({"a": lambda train, test, columns=("Image_*",): None}, ["Image_A", "Cells_B"])
    ['Image_A']
    """
    patterns: list[str] = []
    for name, baseline in baselines.items():
        parameter = inspect.signature(baseline).parameters.get("columns")
        if parameter is not None and name not in elsewhere(baselines):
            patterns += parameter.default
    return [c for c in columns if c not in (PLATE, WELL) and fits(c, patterns)]


def lacking_messages(wells: pd.DataFrame, features: pd.DataFrame, baselines: Baselines) -> list[str]:
    """Say which wells a baseline lacks, so that it predicts the training fold's prior, and which it alone has."""
    messages = []
    for name, (path, read) in elsewhere(baselines).items():
        lacking, strange = unmatched(wells, read(), path)
        if lacking:
            n = sum(map(len, lacking.values()))
            messages.append(f"{name}: {path} lacks {n} wells, predicted by the prior: {listed(lacking)}")
        if strange:
            n = sum(map(len, strange.values()))
            messages.append(f"{name}: {n} wells of {path} take no part in the run: {listed(strange)}")
    images = [c for c in needed_columns(baselines, [str(c) for c in features]) if c.startswith("Image_")]
    if images and (dark := features[images].isna().all(axis=1)).any():
        names = ", ".join(f"{p} {w}" for p, w in features.loc[dark, [PLATE, WELL]].to_numpy())
        messages.append(f"no image statistics of {names}: predicted by the prior; run: cellpheno image_statistics")
    for message in messages:
        log.warning("%s", message)
    return messages


def well_features(wells: pd.DataFrame, statistics: Sequence[str] = ("median",)) -> pd.DataFrame:
    """Features of every well: of its cells, aggregated, and of its whole fields, whichever were measured.

    One cell table is in memory at a time. A well without cells has nan; where no cell was measured, as on the path of
    whole fields, the wells' numbers of cells are unknown.

    Raises
    ------
    InputError
        If the cells of some wells were measured and those of others were not, or in another way, naming them.
    """
    table = _cell_features(wells, statistics)
    images = _image_features(wells)
    return table if images is None else table.merge(images, on=[PLATE, WELL], how="left", validate="one_to_one")


def _cell_features(wells: pd.DataFrame, statistics: Sequence[str]) -> pd.DataFrame:
    there = np.array(
        [cells_path(Path(well["folder"]), well[WELL]).is_file() for _, well in wells.iterrows()], dtype=bool
    )
    if not there.any():
        return wells[[PLATE, WELL]].assign(**{COUNT: np.nan})
    if not there.all():
        raise InputError(
            *(
                f"plate {plate}: {len(own)} wells have no cell table, such as {own[WELL].iloc[0]}; run: "
                f"cellpheno measure plate=..."
                for plate, own in wells[~there].groupby(PLATE, sort=True)
            )
        )
    rows: list[pd.DataFrame] = []
    for _, well in wells.iterrows():
        cells = pd.read_parquet(cells_path(Path(well["folder"]), well[WELL]))
        rows.append(aggregate(cells, statistics=statistics, wells=pd.DataFrame([well[[PLATE, WELL]]])))
        if differ := sorted(set(map(str, rows[0])) ^ set(map(str, rows[-1]))):
            first, own = (" ".join(row[[PLATE, WELL]].iloc[0]) for row in (rows[0], rows[-1]))
            raise InputError(
                f"{first} and {own} were measured in different ways: {len(differ)} features, such as {differ[0]}, are "
                "of one alone; measure all plates alike: cellpheno measure plate=..."
            )
    return pd.concat(rows, ignore_index=True)


def _image_features(wells: pd.DataFrame) -> pd.DataFrame | None:
    """Mean over its fields of what each well's pictures measure; None where the step was not done for any well."""
    paths = [statistics_path(Path(well["folder"]), well[WELL]) for _, well in wells.iterrows()]
    tables = [pd.read_parquet(path) for path in paths if path.is_file()]
    if not tables:
        return None
    fields = pd.concat(tables, ignore_index=True)
    features = [column for column in fields if str(column).startswith("Image_")]
    return fields.groupby([PLATE, WELL], sort=True)[features].mean().reset_index()

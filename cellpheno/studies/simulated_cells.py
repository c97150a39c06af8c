"""Labelled single cells of a simulated plate: its truth says what each cell shows, so no step needs to find it."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from cellpheno.images.crops import Crops, cut_crops, sample_cells, write_crops
from cellpheno.names import CELL_KEYS, OBJECT, SITE, WELL
from cellpheno.plates.commit import commit_file, commit_folder
from cellpheno.seeds import derived_seed


def simulate_cells(
    simulation: Callable[..., pd.DataFrame], folder: Path, *, crop_px: int, seed: int, workers: int = 0
) -> list[Path]:
    """Simulate a plate and keep the crops of its cells, as `cellpheno import_crops` would write them.

    Parameters
    ----------
    simulation : callable
        `cellpheno.simulate.plate.simulate_plate` with its settings.
    folder : Path
        Gets crops/ and cells/, a well each; ``Metadata_label`` is the morphology of a cell, else its pattern. Nuclei
        that the field's border cuts are left out.
    crop_px : int
        Side of a crop.
    seed, workers : int

    Returns
    -------
    list of Path
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".raw") as scratch:
        raw = Path(scratch) / "raw"
        truth = simulation(raw, Path(scratch) / "truth", plate=folder.name, seed=seed, workers=workers)
        truth = truth[~truth["nucleus_at_border"]]
        files = []
        for well, cells in truth.groupby(WELL, sort=True):
            files += _write_well(folder, str(well), cells.reset_index(drop=True), raw, crop_px, seed)
    return files


def _write_well(folder: Path, well: str, cells: pd.DataFrame, raw: Path, crop_px: int, seed: int) -> list[Path]:
    pixels, rows, edges = [], [], []
    channels: list[str] = []
    for site, own in cells.groupby(SITE, sort=True):
        planes = sorted(raw.glob(f"{folder.name}_{well}_s{site}_w*.tif"))
        channels = [path.stem.split("_", 4)[-1] for path in planes]
        image = np.stack([tifffile.imread(path) for path in planes])
        cut, at_border = cut_crops(image, own[["centre_y_px", "centre_x_px"]].to_numpy(float), crop_px)
        pixels.append(cut)
        edges.append(at_border)
        rows.append(own)
    table = pd.concat(rows, ignore_index=True)
    label = table["morphology"].where(table["morphology"] != "", table["pattern"])
    order = sample_cells(len(table), None, np.random.default_rng(derived_seed(seed, folder.name, well, "crops")))
    site_of, number = (table[name].to_numpy(np.int32)[order] for name in (SITE, OBJECT))
    crops = Crops(np.concatenate(pixels)[order], site_of, number, np.concatenate(edges)[order])
    path, table_path = folder / "crops" / f"{well}.zarr", folder / "cells" / f"{well}.parquet"
    with commit_folder(path) as temporary:
        write_crops(temporary, crops, plate=folder.name, well=well, channels=channels, seed=seed)
    kept = table[[*CELL_KEYS]].assign(Metadata_label=label)
    with commit_file(table_path) as temporary:
        kept.to_parquet(temporary, index=False)
    return [*(p for p in path.rglob("*") if p.is_file()), table_path]

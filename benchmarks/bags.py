"""Bags of 64 cells read from crops, side by side with zarr-python cutting the same cells out of the plate's fields.

`python benchmarks/bags.py [--quick]` prints a line a part, then one line of JSON. Both sides read the same cells from
a warm page cache, with one thread that decodes; pixels are compared before anything is timed. Rounds alternate between
the two. ``pixels`` are raw crops, ``bags`` are what a network gets: float32, stretched.
"""

import argparse
import importlib.metadata
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import numpy as np
import pandas as pd
import scipy.ndimage as ndi
import torch
import zarr
from fields import BenchField, synthetic_field

from cellpheno.images.crops import Crops, cut_crops, read_pixels, sample_cells, write_crops
from cellpheno.models.transforms import PlatePercentiles
from cellpheno.names import PLATE, WELL
from cellpheno.plates.write import create_plate, write_image
from cellpheno.training.bags import WellBags

BAG, SIDE, CHANNELS = 64, 64, ["DNA", "ER", "RNA", "AGP", "Mito"]
Read = Callable[[int], object]


def make_well(folder: Path, fields: list[BenchField]) -> tuple[list[zarr.Array], np.ndarray]:
    """A well as a plate's images and as crops; its image arrays, and (field, row, column) of each stored cell."""
    sites = list(range(1, len(fields) + 1))
    plate = create_plate(folder / "P1.zarr", "P1", {"B02": sites}, CHANNELS, pixel_size_um=0.6)
    pixels, at_border, places = [], [], []
    for i, (place, field) in enumerate(zip(plate.wells[0].fields, fields, strict=True)):
        write_image(place, field.image)
        nuclei = field.labels["nuclei"]
        centres = np.array(ndi.center_of_mass(nuclei > 0, nuclei, range(1, field.n + 1)))
        cut, border = cut_crops(field.image, centres, SIDE)
        pixels.append(cut)
        at_border.append(border)
        places.append(np.column_stack([np.full(field.n, i), np.floor(centres + 0.5).astype(int)]))
    order = sample_cells(sum(map(len, pixels)), None, np.random.default_rng(0))
    where = np.concatenate(places)[order]
    number = np.arange(len(order), dtype=np.int32)
    stored = Crops(
        np.concatenate(pixels)[order], where[:, 0].astype(np.int32), number, np.concatenate(at_border)[order]
    )
    write_crops(folder / "B02.zarr", stored)
    return [zarr.open_array(place.path / "0", mode="r") for place in plate.wells[0].fields], where


def cut_on_the_fly(images: list[zarr.Array], where: np.ndarray) -> np.ndarray:
    """Crops (n, c, y, x), each read for itself from the image that holds it."""
    crops = np.zeros((len(where), len(CHANNELS), SIDE, SIDE), images[0].dtype)
    for crop, (field, row, column) in zip(crops, where.tolist(), strict=True):
        top, left = row - SIDE // 2, column - SIDE // 2
        height, width = images[field].shape[1:]
        rows, columns = (max(top, 0), min(top + SIDE, height)), (max(left, 0), min(left + SIDE, width))
        part = images[field][:, slice(*rows), slice(*columns)]
        crop[:, rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left] = part
    return crops


def sides(folder: Path, images: list[zarr.Array], where: np.ndarray) -> dict[str, tuple[Read, Read]]:
    """What is timed, ours and on the fly: each reads a bag from the number of its first cell on."""
    crops, stretch = folder / "B02.zarr", PlatePercentiles()
    limits = {"P1": stretch.limits(read_pixels(crops, slice(0, BAG)))}
    wells = pd.DataFrame({PLATE: ["P1"], WELL: ["B02"], "place": [str(crops)], "label": ["a"]})
    bags = WellBags(wells, ["a"], stretch, limits, cells_per_bag=BAG)
    first = slice(0, BAG)
    assert np.array_equal(read_pixels(crops, first), cut_on_the_fly(images, where[first]))
    return {
        "pixels": (
            lambda start: read_pixels(crops, slice(start, start + BAG)),
            lambda start: cut_on_the_fly(images, where[start : start + BAG]),
        ),
        "bags": (
            lambda start: bags[(start // BAG, 0)],
            lambda start: stretch(cut_on_the_fly(images, where[start : start + BAG]), limits["P1"]),
        ),
    }


def seconds(read: Read, first_cell: int) -> float:
    start = time.perf_counter()
    read(first_cell)
    return time.perf_counter() - start


def compare(ours: Read, theirs: Read, starts: range, rounds: int) -> tuple[float, float, float]:
    """Least seconds of ours and of theirs, and the median of ours; we are so quick that a round reads five bags."""
    us, them = [], []
    for turn in range(rounds):
        start = starts[turn % len(starts)]
        us += [seconds(ours, start) for _ in range(5)]
        them.append(seconds(theirs, start))
    return min(us), min(them), float(np.median(us))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one field of 1080 x 1080 instead of four of 2160 x 2160")
    quick = parser.parse_args().quick
    size, n_cells, n_fields, rounds = (1080, 180, 1, 3) if quick else (2160, 400, 4, 8)
    torch.set_num_threads(1)
    zarr.config.set({"threading.max_workers": 1})
    with tempfile.TemporaryDirectory() as name:
        fields = [synthetic_field(size, n_cells, len(CHANNELS), seed) for seed in range(n_fields)]
        images, where = make_well(Path(name), fields)
        starts = range(0, len(where) - BAG, BAG)  # whole chunks, as bags have them in all but a round's last epoch
        pairs = sides(Path(name), images, where)
        parts, rates = {}, {}
        for part, (ours, theirs) in pairs.items():
            us, them, median = compare(ours, theirs, starts, rounds)
            parts[part], rates[part] = round(them / us, 1), round(BAG / us)
            print(
                f"{part:6s} {1e3 * us:6.2f} ms a bag of {BAG} (median {1e3 * median:.2f}), {BAG / us:7.0f} crops/s   "
                f"on the fly {1e3 * them:7.1f} ms, {BAG / them:5.0f} crops/s   {them / us:5.1f} x",
                flush=True,
            )
    result = {
        "ratio": parts["pixels"],
        "parts": parts,
        "crops_per_s": rates,
        "peer": f"zarr {importlib.metadata.version('zarr')}, chunks {images[0].chunks}, shards {images[0].shards}",
        "n": len(where),
        "threads": 1,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

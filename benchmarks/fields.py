"""Fields to measure time on: synthetic ones of any size, and real Cell Painting where the data are there."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.ndimage as ndi
import tifffile
from skimage.segmentation import relabel_sequential

CELL_PAINTING = Path(__file__).parents[2] / "shared/data/cellpainting_two_wells/data_multiscene"


class BenchField(NamedTuple):
    """Label images 1..n without gaps, and an image (c, y, x) uint16."""

    name: str
    labels: dict[str, np.ndarray]
    image: np.ndarray

    @property
    def n(self) -> int:
        """Number of cells."""
        return int(self.labels["cells"].max())


def synthetic_field(size: int, n_cells: int, n_channels: int, seed: int = 0) -> BenchField:
    """Cells, nuclei and cytoplasm with the same labels, and a textured, noisy image."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_cells)))
    grid = (np.stack(np.divmod(np.arange(n_cells), side)).T + 0.5) * size / side
    centres = (grid + rng.normal(0, 0.1 * size / side, grid.shape)).clip(0, size - 1).astype(int)
    seeds = np.zeros((size, size), int)
    seeds[tuple(centres.T)] = np.arange(1, n_cells + 1)
    distance, (rows, cols) = ndi.distance_transform_edt(seeds == 0, return_indices=True)
    wobble = ndi.gaussian_filter(rng.normal(size=(size, size)), 4) * 30
    cells = np.where(distance + wobble < 0.5 * size / side, seeds[rows, cols], 0)
    nuclei = np.where(distance + wobble / 3 < 0.22 * size / side, cells, 0)
    texture_image = ndi.gaussian_filter(rng.random((n_channels, size, size)), (0, 2, 2))
    grey = 3000 + 20000 * texture_image * (cells > 0) + rng.normal(0, 300, (n_channels, size, size))
    kept = np.intersect1d(np.intersect1d(cells, nuclei), np.where(nuclei > 0, 0, cells))  # in all three compartments
    cells, nuclei = (np.searchsorted(kept, np.where(np.isin(part, kept), part, 0)) for part in (cells, nuclei))
    labels = {"cells": cells, "nuclei": nuclei, "cytoplasm": np.where(nuclei > 0, 0, cells)}
    return BenchField(f"{size}x{size}x{n_channels}", labels, grey.clip(0, 65535).astype(np.uint16))


def real_fields(n: int) -> list[BenchField]:
    """The first fields of a Cell Painting well with their published cell masks; none where the data are not there."""
    path = CELL_PAINTING / "cdp2bioactives_h15.ome.tif"
    if not path.is_file():
        return []
    fields = []
    with tifffile.TiffFile(path) as file:
        for i, series in enumerate(file.series[:n]):
            mask = tifffile.imread(CELL_PAINTING / f"data_out/cdp2bioactives_h15.ome_scene{i}_mask.tif")
            cells = relabel_sequential(mask.astype(int))[0]
            fields.append(BenchField(f"Cell Painting {i}", {"cells": cells}, series.asarray()))
    return fields

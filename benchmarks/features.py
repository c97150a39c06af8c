"""Engineered features side by side with cp_measure: same masks, same images, one process, one thread.

`python benchmarks/features.py [--quick]` prints a line a family, then one line of JSON. Rounds alternate between the
two and the fastest of each counts, so that a busy machine slows both.
"""

import argparse
import importlib.metadata
import json
import os
import time
from collections.abc import Callable

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import numpy as np
import scipy.ndimage as ndi
from cp_measure.core.measureobjectintensity import get_intensity
from cp_measure.core.measureobjectsizeshape import get_feret, get_sizeshape
from cp_measure.core.measuretexture import get_texture

from cellpheno.measure.area_shape import area_shape
from cellpheno.measure.field import measure_field
from cellpheno.measure.intensity import intensity
from cellpheno.measure.objects import index_objects
from cellpheno.measure.texture import texture


def synthetic_field(size: int, n_cells: int, n_channels: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Cells, nuclei and cytoplasm (y, x) with the same labels, and a textured, noisy image (c, y, x) uint16."""
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
    return [cells, nuclei, np.where(nuclei > 0, 0, cells)], grey.clip(0, 65535).astype(np.uint16)


def families(
    labels: list[np.ndarray], image: np.ndarray
) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Ours and cp_measure's call of each family; the shared index counts to our shape family."""
    unit = image / 65535.0
    objects = [index_objects(part) for part in labels]
    return {
        "shape": (
            lambda: [area_shape(index_objects(part)) for part in labels],
            lambda: [(get_sizeshape(part, None), get_feret(part, None)) for part in labels],
        ),
        "intensity": (
            lambda: [intensity(part, pixels, "C") for part in objects for pixels in image],
            lambda: [get_intensity(part, pixels) for part in labels for pixels in unit],
        ),
        "texture": (
            lambda: [texture(part, pixels, "C") for part in objects for pixels in image],
            lambda: [get_texture(part, pixels) for part in labels for pixels in unit],
        ),
    }


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small field")
    quick = parser.parse_args().quick
    size, n_cells, n_channels, rounds = (540, 45, 3, 5) if quick else (1080, 180, 5, 3)
    labels, image = synthetic_field(size, n_cells, n_channels)
    ours, theirs = {}, {}
    for name, (our_call, their_call) in families(labels, image).items():
        our_call()  # compiles
        times = [(seconds(our_call), seconds(their_call)) for _ in range(rounds)]
        ours[name], theirs[name] = np.min(times, axis=0).tolist()
        us, them = ours[name] * 1e3, theirs[name] * 1e3
        print(f"{name:10s} {us:9.1f} ms   cp_measure {them:9.1f} ms   {them / us:6.1f} x")
    named = dict(zip(("cells", "nuclei", "cytoplasm"), labels, strict=True))
    measurements = {"shape": {"s": area_shape}, "channel": {"i": intensity, "t": texture}}
    channels = [f"C{i}" for i in range(n_channels)]
    whole = min(seconds(lambda: measure_field(named, image, channels, measurements)) for _ in range(rounds))
    n = int(labels[0].max())
    print(f"measure_field, {size} x {size} x {n_channels}, {n} cells x 3 compartments: {whole * 1e3:.1f} ms")
    parts = {name: round(theirs[name] / ours[name], 2) for name in ours}
    peer = f"cp_measure {importlib.metadata.version('cp-measure')}"
    ratio = round(sum(theirs.values()) / sum(ours.values()), 2)
    print(json.dumps({"ratio": ratio, "parts": parts, "peer": peer, "n": n, "threads": 1}))


if __name__ == "__main__":
    main()

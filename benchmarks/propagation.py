"""Cells grown from nuclei side by side with centrosome, which CellProfiler calls: one process, one thread.

`python benchmarks/propagation.py [--quick]` prints a line, then one line of JSON. Rounds alternate between the two and
the fastest of each counts.
"""

import argparse
import importlib.metadata
import json
import os
import time

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import centrosome.propagate
import numpy as np
import scipy.ndimage as ndi
from fields import synthetic_field
from skimage.filters import threshold_triangle

from cellpheno.images.propagate import propagate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1080 x 1080 pixels instead of 2160 x 2160")
    size, n_cells = (1080, 180) if parser.parse_args().quick else (2160, 400)
    field = synthetic_field(size, n_cells, 1)
    image, seeds = field.image[0] / 65535.0, field.labels["nuclei"].astype(np.int32)
    mask = ndi.gaussian_filter(image, 1) > threshold_triangle(ndi.gaussian_filter(image, 2))
    propagate(image[:9, :9], seeds[:9, :9], mask[:9, :9])  # compiles
    times = []
    for _ in range(2):
        start = time.perf_counter()
        ours, _ = propagate(image, seeds, mask)
        middle = time.perf_counter()
        theirs, _ = centrosome.propagate.propagate(image, seeds, mask, 0.05)
        times.append((middle - start, time.perf_counter() - middle))
    us, them = np.min(times, axis=0).tolist()
    identical = float((ours == theirs)[mask].mean())
    print(f"{size} x {size}: {us:.2f} s   centrosome {them:.2f} s   {them / us:.1f} x, {identical:.4%} of labels equal")
    peer = f"centrosome {importlib.metadata.version('centrosome')}"
    result = {"ratio": round(them / us, 2), "identical": round(identical, 6), "peer": peer, "n": field.n, "threads": 1}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Peak memory of measuring a plate: one well of it against all wells, in fresh processes.

`python benchmarks/scale.py [--quick]` prints a line each, then one line of JSON: ``memory_ratio`` is 1 if memory does
not grow with the plate.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

from features import FAMILIES, measurements, own_peak_mb
from fields import synthetic_field

from cellpheno.batch.engine import run_jobs
from cellpheno.plates.write import create_plate, write_image
from cellpheno.stages.measure import measure
from cellpheno.stages.segment import segment

ENGINE = functools.partial(run_jobs, workers=1)
CHANNELS = ["DNA", "ER", "RNA"]
FIELD = synthetic_field(540, 45, len(CHANNELS))


def given_labels(image: object, channels: object, metadata: object) -> dict[str, object]:
    return {name: labels.astype("int32") for name, labels in FIELD.labels.items()}


def make_plate(path: Path, n_wells: int, n_fields: int) -> None:
    wells = {f"{row}{column:02d}": list(range(1, n_fields + 1)) for row in "BCDEFG" for column in range(2, 12)}
    chosen = dict(list(wells.items())[:n_wells])
    for well in create_plate(path, "P1", chosen, CHANNELS, pixel_size_um=0.6).wells:
        for field in well.fields:
            write_image(field, FIELD.image)
    segment(path, given_labels, ENGINE)


def peak_mb(path: Path, wells: str) -> float:
    command = [sys.executable, __file__, "--plate", str(path), "--wells", wells]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="8 wells instead of 60")
    parser.add_argument("--plate", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--wells", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plate:
        chosen = measurements(name for name in FAMILIES if name != "costes")
        measure(options.plate, chosen, ENGINE, wells=[options.wells])
        return print(own_peak_mb())
    n_wells, n_fields = (8, 2) if options.quick else (60, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "P1.zarr"
        make_plate(path, n_wells, n_fields)
        peak_mb(path, "B02")  # compiles
        (path.with_name("P1") / "cells" / "B02.parquet").unlink()
        one = peak_mb(path, "B02")
        print(f"1 well of {n_fields} fields: {one:.0f} MB")
        many = peak_mb(path, "B02-G11" if n_wells == 60 else "B02-B09")
        print(f"{n_wells} wells of {n_fields} fields: {many:.0f} MB")
    print(json.dumps({"memory_ratio": round(many / one, 3), "peak_mb": round(many, 1), "n": n_wells, "threads": 1}))


if __name__ == "__main__":
    main()

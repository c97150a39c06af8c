"""Engineered features side by side with cp_measure: same masks, images and pairs, one process, one thread.

`python benchmarks/features.py [--quick] [--families shape,texture]` prints a line a field and family, a line a field of
`measure_field` with everything, then one line of JSON. Rounds alternate between us, cp_measure and its numba backend,
and the fastest of each counts, so that a busy machine slows all. Our geometry is computed anew in each family, but the
index of the label image is not; the totals compare `measure_field`, which does all, with the sum of their families.
"""

import argparse
import importlib
import importlib.metadata
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import numpy as np
from cp_measure.core import measurecolocalization as colocalization
from cp_measure.core.measuregranularity import get_granularity
from cp_measure.core.measureobjectintensity import get_intensity
from cp_measure.core.measureobjectintensitydistribution import get_radial_distribution, get_radial_zernikes
from cp_measure.core.measureobjectsizeshape import get_feret, get_sizeshape, get_zernike
from cp_measure.core.measuretexture import get_texture
from cp_measure.core.numba._feret import get_feret as numba_feret
from cp_measure.core.numba.measureobjectintensity import get_intensity as numba_intensity
from cp_measure.core.numba.measuretexture import get_texture as numba_texture
from cp_measure.multimask.measureobjectneighbors import measureobjectneighbors
from fields import BenchField, real_fields, synthetic_field
from omegaconf import OmegaConf

from cellpheno.components import build
from cellpheno.measure.field import SECTIONS, measure_field, warm_up
from cellpheno.measure.objects import index_objects

CONF = Path(importlib.import_module("cellpheno.conf").__path__[0]) / "measurements"

Peers = dict[str, tuple[Callable[..., Any], ...]]


class Family(NamedTuple):
    """Our options and cp_measure's functions by what they take; ``numba``: those of its backend, where it has any."""

    options: tuple[str, ...]
    peers: Peers
    numba: Peers | None = None


def costes(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> object:
    return colocalization.get_correlation_costes(first, second, labels, scale_max=65535)


FAMILIES = {
    "shape": Family(
        ("shape",),
        {"shape": (lambda m: get_sizeshape(m, None), lambda m: get_feret(m, None))},
        {"shape": (lambda m: get_sizeshape(m, None), lambda m: numba_feret(m, None))},
    ),
    "zernike": Family(
        ("zernike", "intensity_zernike"),
        {"shape": (lambda m: get_zernike(m, None),), "channel": (get_radial_zernikes,)},
    ),
    "intensity": Family(("intensity",), {"channel": (get_intensity,)}, {"channel": (numba_intensity,)}),
    "texture": Family(("texture",), {"channel": (get_texture,)}, {"channel": (numba_texture,)}),
    "granularity": Family(("granularity",), {"channel": (get_granularity,)}),
    "radial": Family(("radial",), {"channel": (get_radial_distribution,)}),
    "correlation": Family(
        ("correlation",),
        {
            "pair": (
                colocalization.get_correlation_pearson,
                colocalization.get_correlation_manders_fold,
                colocalization.get_correlation_rwc,
                colocalization.get_correlation_overlap,
            )
        },
    ),
    "costes": Family(("costes",), {"pair": (costes,)}),
    "neighbors": Family(("neighbors",), {"shape": (lambda m: measureobjectneighbors(m, m, "Adjacent"),)}),
}


def measurements(families: Iterable[str]) -> dict[str, dict[str, Callable[..., Any]]]:
    """Our functions by section, with cp_measure's definitions where CellProfiler's differ."""
    parts = [OmegaConf.load(CONF / f"{option}.yaml") for name in families for option in FAMILIES[name].options]
    merged = OmegaConf.to_container(OmegaConf.merge({"feature_reference": "cp_measure"}, *parts), resolve=True)
    return {section: build(merged[section]) for section in SECTIONS if section in merged}


def calls(run: Peers, field: BenchField, planes: list[np.ndarray], masks: list[Any], ours: bool) -> Iterator[object]:
    """Results of functions over compartments, channels and pairs, ours with objects first and channel names."""
    names = [f"C{i}" for i in range(len(planes))]
    pairs = list(itertools.combinations(range(len(planes)), 2))
    for mask in masks:
        yield from (function(mask) for function in run.get("shape", ()))
        for function, i in itertools.product(run.get("channel", ()), range(len(planes))):
            yield function(mask, planes[i], names[i]) if ours else function(mask, planes[i])
        for function, (i, j) in itertools.product(run.get("pair", ()), pairs):
            a, b = planes[i], planes[j]
            yield function(mask, a, b, names[i], names[j]) if ours else function(a, b, mask)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_family(name: str, field: BenchField, rounds: int) -> np.ndarray:
    """Seconds of us, of cp_measure and of its numba backend: the least of the rounds, (3,)."""
    family = FAMILIES[name]
    own = {section: tuple(functions.values()) for section, functions in measurements([name]).items()}
    planes, unit = [*field.image], [*(field.image / 65535.0)]
    for plane in planes:
        plane.setflags(write=False)
    masks = [*field.labels.values()]
    objects = [index_objects(mask) for mask in masks]

    def us() -> None:
        for part in objects:
            part.forget()
        list(calls(own, field, planes, objects, ours=True))

    def them() -> None:
        list(calls(family.peers, field, unit, masks, ours=False))

    def numba() -> None:
        list(calls(family.numba or {}, field, unit, masks, ours=False))

    compared = [us, them, numba] if family.numba else [us, them]
    times = np.min([[seconds(call) for call in compared] for _ in range(rounds)], axis=0)
    return times if family.numba else np.append(times, times[1])  # its backend leaves this family as it is


def warm(families: list[str]) -> None:
    """Compile our kernels and theirs on a small field."""
    field = synthetic_field(64, 4, 2)
    warm_up(["A", "B"], measurements(families))
    for name in families:
        list(calls(FAMILIES[name].numba or {}, field, [*(field.image / 65535.0)], [*field.labels.values()], ours=False))


def whole(field: BenchField, families: list[str], rounds: int = 3) -> float:
    """Seconds of `measure_field`: the index, all families with their shared geometry, the table."""
    channels, chosen = [f"C{i}" for i in range(len(field.image))], measurements(families)
    return min(seconds(lambda: measure_field(field.labels, field.image, channels, chosen)) for _ in range(rounds))


def peak_mb(field: BenchField, families: list[str]) -> float:
    """Peak memory of a fresh process that measures a field, as a worker does."""
    with tempfile.TemporaryDirectory() as folder:
        labels = {name: part.astype(np.int32) for name, part in field.labels.items()}  # as `Field.labels` gives them
        np.savez(f"{folder}/field.npz", image=field.image, **labels)
        command = [sys.executable, __file__, "--families", ",".join(families), "--peak", f"{folder}/field.npz"]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def say_peak(path: str, families: list[str]) -> None:
    labels = dict(np.load(path))
    whole(BenchField("", labels, labels.pop("image")), families, rounds=1)
    print(own_peak_mb())


def own_peak_mb() -> float:
    """Peak memory of this process; `resource` would tell its parent's where that is larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small field")
    parser.add_argument("--families", default=",".join(FAMILIES), help="some of them, with commas")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    families = options.families.split(",")
    warnings.simplefilter("ignore")  # cp_measure's, of undefined values
    if options.peak:
        return say_peak(options.peak, families)
    warm(families)
    if options.quick:
        fields = [synthetic_field(540, 45, 3)]
    else:
        fields = [*real_fields(2), synthetic_field(1080, 180, 5), synthetic_field(2160, 400, 5)]
    spent: defaultdict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))
    ours = ours_without = 0.0
    for field in fields:
        of_field = {name: time_family(name, field, options.rounds) for name in families}
        for name, times in of_field.items():
            say(f"{field.name:16s} {name:12s}", field, times)
            spent[name] += times
        own, own_without = whole(field, families), whole(field, [name for name in families if name != "costes"])
        say(f"{field.name:16s} {'all':12s}", field, np.array([own, *sum(of_field.values())[1:]]))
        ours += own
        ours_without += own_without
    total = sum(spent.values())
    result = {
        "ratio": total[1] / ours,
        "ratio_numba": total[2] / ours,
        "ratio_without_costes": sum(times[1] for name, times in spent.items() if name != "costes") / ours_without,
        "parts": {name: round(times[1] / times[0], 2) for name, times in spent.items()},
        "parts_numba": {name: round(spent[name][2] / spent[name][0], 2) for name in families if FAMILIES[name].numba},
        "ms_a_cell": 1e3 * ours / sum(field.n for field in fields),
        "peer": f"cp_measure {importlib.metadata.version('cp-measure')}",
        "n": sum(field.n for field in fields),
        "threads": 1,
        "peak_mb": peak_mb(fields[-1], families),
    }
    print(json.dumps({key: round(value, 2) if isinstance(value, float) else value for key, value in result.items()}))


def say(what: str, field: BenchField, times: np.ndarray) -> None:
    us, them, numba = times * 1e3
    each = f"{us / field.n:8.3f} ms a cell"
    print(
        f"{what} {us:9.1f} ms {each}   cp_measure {them:9.1f} ms {them / us:7.1f} x   numba {numba / us:7.1f} x",
        flush=True,
    )


if __name__ == "__main__":
    main()

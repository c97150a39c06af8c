"""Training in bfloat16 with channels last, our setting on CPUs that have it, against Lightning's defaults.

`python benchmarks/training.py [--quick] [--threads 1]` prints lines, then one line of JSON. Both sides train the same
networks on the same batches by the Trainer that ``conf/`` describes; only precision and memory format differ, and the
latter alone on other CPUs, which compute bfloat16 many times more slowly. Rounds alternate, and the fastest step of
each counts. Printed too, from the same run: the share of the rate of a convolution of oneDNN in the same type and
layout; what Lightning's loop costs beside a plain loop of the same steps; and the share of the time in which the model
is busy while bags are read from disk in the same process. Seconds are those of the processor with one thread, so that
what else runs on the machine counts little, and those of the wall with more; the busy share is of the wall's.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from cellpheno.components import build
from cellpheno.config import load_config
from cellpheno.images.crops import Crops, read_pixels, write_crops
from cellpheno.models.dropout import seed_device
from cellpheno.models.encoders import DeepLoc, SmallResNet
from cellpheno.models.mil import MILClassifier, build_classifier
from cellpheno.names import PLATE, WELL
from cellpheno.training.bags import BagBatch
from cellpheno.training.fit import quiet, reproducible

CLASSES = ["a", "b", "c", "d", "e"]


class Part(NamedTuple):
    """A network and the shape of its batches."""

    encoder: Callable[..., Any]
    n_bags: int
    n_cells: int  # a bag
    n_channels: int
    side: int


PARTS = {
    "deeploc": Part(DeepLoc, n_bags=64, n_cells=1, n_channels=2, side=60),
    "mil": Part(SmallResNet, n_bags=4, n_cells=64, n_channels=5, side=64),
}
TINY = Part(functools.partial(SmallResNet, width=8, depth=1), n_bags=4, n_cells=2, n_channels=2, side=16)


class Setting(NamedTuple):
    """What differs between the two sides."""

    trainer: str  # option of conf/trainer
    channels_last: bool

    @property
    def autocast(self) -> Any:
        """As Lightning does it for this trainer's precision."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.trainer == "bf16")


BF16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
OURS, PLAIN = Setting("bf16" if BF16 else "default", channels_last=True), Setting("default", channels_last=False)


@functools.cache
def config(trainer: str) -> dict[str, Any]:
    composed = load_config("run", f"trainer={trainer}", "plate=P1.zarr", "folder=raw")
    return {str(key): build(OmegaConf.to_container(composed[key])) for key in composed if key in WANTED}


WANTED = {"trainer", "optimizer", "scheduler", "augmentation", "pooling", "normalization", "data"}


def network(part: Part, setting: Setting) -> MILClassifier:
    parts = config(setting.trainer)
    torch.manual_seed(0)
    return build_classifier(
        functools.partial(MILClassifier, channels_last=setting.channels_last),
        *(part.encoder, parts["pooling"]),
        classes=CLASSES,
        n_channels=part.n_channels,
        optimizer=parts["optimizer"],
        scheduler=parts["scheduler"],
        augment=parts["augmentation"],
    )


def batch_of(part: Part) -> BagBatch:
    n = part.n_bags * part.n_cells
    instances = torch.rand((n, part.n_channels, part.side, part.side), generator=torch.Generator().manual_seed(0))
    bag = torch.repeat_interleave(torch.arange(part.n_bags), part.n_cells)
    return BagBatch(instances, bag, torch.arange(part.n_bags) % len(CLASSES), [{}] * part.n_bags)


def now() -> float:
    """Seconds that count."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


class Clock(pl.Callback):
    """When each step began and ended."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.begun: list[float] = []
        self.ended: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:  # noqa: D102
        self.begun.append(self.now())

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: D102
        self.ended.append(self.now())

    def steps(self) -> np.ndarray:
        """Seconds from the end of a step to the end of the next, without the first, in which much is set up."""
        return np.diff(self.ended)

    def busy(self) -> float:
        """Share of the time between the first step and the last in which a step is done, and no data awaited."""
        return float(np.sum(np.subtract(self.ended, self.begun)[1:]) / (self.ended[-1] - self.ended[0]))


def fit(model: MILClassifier, data: Any, setting: Setting, now: Callable[[], float] = now, **limits: int) -> Clock:
    """Train by Lightning as `cellpheno.training.fit.fit_fold` does, without validation."""
    clock = Clock(now)
    with quiet(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.filterwarnings(
            "ignore",
            "(?s).*(number of training batches|validation_step|Total length|does not have many workers|prefetch).*",
        )
        trainer = config(setting.trainer)["trainer"](
            logger=pl.loggers.CSVLogger(folder, name="", version=""),
            callbacks=[clock],
            enable_progress_bar=False,
            limit_val_batches=0,
            **limits,
        )
        trainer.fit(model, data)
    return clock


def by_lightning(part: Part, setting: Setting, n: int) -> np.ndarray:
    """Seconds of each of n steps on a batch that lies in memory."""
    return fit(
        network(part, setting), DataLoader([batch_of(part)] * (n + 1), batch_size=None), setting, max_epochs=1
    ).steps()


def by_plain_loop(part: Part, setting: Setting, n: int) -> np.ndarray:
    """Seconds of each of n of the same steps, written down in torch alone."""
    times = [now()]
    for _ in plain_steps(network(part, setting), batch_of(part), setting, n + 1):
        times.append(now())
    return np.diff(times)[1:]


def plain_steps(model: MILClassifier, batch: BagBatch, setting: Setting, n: int) -> Iterator[Tensor]:
    parts = config(setting.trainer)
    optimizer = parts["optimizer"](model.parameters())
    schedule = parts["scheduler"](optimizer, n)
    clip = parts["trainer"].keywords["gradient_clip_val"]
    for step in range(n):
        seed_device(batch.instances.device, step)
        instances = model.augment(batch.instances, torch.Generator().manual_seed(step))
        with setting.autocast:
            loss = model.loss(model(instances, batch.bag, len(batch.labels)), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
        yield loss.detach()


def step_gflop(part: Part) -> float:
    """Multiplications and additions of a training step, forward and backward, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        list(plain_steps(network(part, PLAIN), batch_of(part), PLAIN, 1))
    return counter.get_total_flops() / 1e9


def convolution_gflops(setting: Setting, rounds: int) -> float:
    """Rate of a 3 x 3 convolution from 256 to 256 channels on 30 x 30 pixels, the best of some rounds."""
    dtype = torch.bfloat16 if setting.trainer == "bf16" else torch.float32
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    images = torch.rand(16, 256, 30, 30).to(dtype).contiguous(memory_format=layout)
    layer = torch.nn.Conv2d(256, 256, 3, padding=1).to(dtype=dtype, memory_format=layout)
    seconds = []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            start = now()
            layer(images)
            seconds.append(now() - start)
    return 2 * 256 * 256 * 9 * images.numel() / 256 / min(seconds[1:]) / 1e9


def well_table(folder: Path, part: Part, n_wells: int) -> pd.DataFrame:
    """Crops of some wells on disk, four bags a well."""
    rng, rows = np.random.default_rng(0), []
    for i in range(n_wells):
        pixels = rng.poisson(300, (4 * part.n_cells, part.n_channels, part.side, part.side)).astype(np.uint16)
        number = np.arange(len(pixels), dtype=np.int32)
        well = f"B{i + 2:02d}"
        write_crops(folder / f"{well}.zarr", Crops(pixels, number, number, number < 0))
        rows.append({PLATE: "P1", WELL: well, "place": str(folder / f"{well}.zarr"), "label": CLASSES[i % 5]})
    return pd.DataFrame(rows)


def busy_share(folder: Path, part: Part, n_wells: int, n_epochs: int) -> tuple[float, float]:
    """Share of the time in which the model works while bags come from disk, and seconds of such a step."""
    wells, parts = well_table(folder, part, n_wells), config(OURS.trainer)
    stretch = parts["normalization"]()
    limits = {"P1": stretch.limits(read_pixels(wells["place"][0], slice(0, 64)))}
    given = {"classes": CLASSES, "normalization": stretch, "limits": limits, "seed": 0}
    data = parts["data"](wells, wells.iloc[:0], **given, keep_mb=0)  # pixels that are kept come from no disk
    clock = fit(network(part, OURS), data, OURS, time.perf_counter, max_epochs=n_epochs)
    return clock.busy(), float(np.min(clock.steps()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds instead of five")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rounds, n = (2, 3) if options.quick else (5, 5)
    if not BF16:
        print(
            "this CPU has neither avx512_bf16 nor amx_bf16: both sides train in float32, and no goal is set", flush=True
        )
    with reproducible(0, options.threads):
        figures = {name: compare(name, part, rounds, n) for name, part in PARTS.items()}
        lightning, plain = (
            min(float(np.median(loop(TINY, OURS, 60))) for _ in range(rounds)) for loop in (by_lightning, by_plain_loop)
        )
        overhead_ms = 1e3 * (lightning - plain)
        shares = {name: round(overhead_ms / figure["step_ms"], 4) for name, figure in figures.items()}
        print(f"Lightning's loop: {overhead_ms:.2f} ms a step more than a plain loop: {shares} of a step")
        with tempfile.TemporaryDirectory() as folder:
            busy, step = busy_share(Path(folder), PARTS["mil"], 16, 2 if options.quick else 6)
    print(f"bags from disk, no workers: the model is busy {busy:.1%} of the time, {1e3 * step:.0f} ms a step")
    result = {
        "ratio": min(figure["ratio"] for figure in figures.values()),
        "parts": {name: figure["ratio"] for name, figure in figures.items()},
        "images_per_s": {name: figure["images_per_s"] for name, figure in figures.items()},
        "share_of_convolution": {name: figure["share"] for name, figure in figures.items()},
        "lightning_overhead": shares,
        "busy": round(busy, 4),
        "bf16_in_hardware": BF16,
        "peer": f"pytorch-lightning {pl.__version__}, torch {importlib.metadata.version('torch')}",
        "n": sum(part.n_bags * part.n_cells for part in PARTS.values()),
        "threads": options.threads,
    }
    print(json.dumps(result))


def compare(name: str, part: Part, rounds: int, n: int) -> dict[str, float]:
    """Ours and plain, side by side."""
    times, roofs = [], []
    for _ in range(rounds):
        roofs.append([convolution_gflops(setting, 10) for setting in (OURS, PLAIN)])
        times.append([by_lightning(part, setting, n).min() for setting in (OURS, PLAIN)])
    (us, them), (our_roof, their_roof) = np.min(times, axis=0), np.max(roofs, axis=0)
    images, gflop = part.n_bags * part.n_cells, step_gflop(part)
    share, their_share = gflop / us / our_roof, gflop / them / their_roof
    print(
        f"{name:8s} {1e3 * us:7.1f} ms a step, {images / us:6.0f} images/s, {gflop / us:5.0f} GFLOP/s, {share:.0%} of "
        f"a convolution's {our_roof:.0f}   plain {1e3 * them:7.1f} ms, {images / them:6.0f} images/s, "
        f"{their_share:.0%} of {their_roof:.0f}   {them / us:.2f} x",
        flush=True,
    )
    return {
        "ratio": round(float(them / us), 2),
        "images_per_s": round(float(images / us), 1),
        "share": round(float(share), 3),
        "step_ms": float(1e3 * us),
    }


if __name__ == "__main__":
    main()

"""Attention pooling side by side with torchmil's ABMIL: accuracy on the same bags and folds, and the time of a step.

`python benchmarks/abmil.py [--quick]` prints lines, then one line of JSON. A bag is a well of a simulated plate of five
classes: cached ImageNet features of all its cells, of which one in twenty responds where the well is treated. Each seed
deals the wells to folds anew; its AUROC is the macro AUROC of the held-out wells of all its folds together. Both sides
see the same bags in the same order, start from the same weights (torchmil has no bias before the softmax, where it
changes nothing) and take the same steps: one function, computed in two ways. torchmil's ABMIL tells two classes apart:
its last layer is replaced by one with an output for each class, all else is as it comes.

Wells differ in size: our pooling takes them behind one another, torchmil's padded by its own function, with a mask.
Steps are timed on bags of one size, where nothing is padded, which is kind to torchmil; making a batch is not timed.
Needs: pip install "cellpheno[benchmark,pretrained]"
"""

import argparse
import importlib.metadata
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmil.data.collate import pad_tensors
from torchmil.models import ABMIL

from cellpheno.compare.metrics import score
from cellpheno.compare.splits import by_well
from cellpheno.images.crops import write_crops
from cellpheno.models.attention import Attention, GatedAttention
from cellpheno.models.channels import PerChannel
from cellpheno.models.efficientnet import EfficientNetLite0
from cellpheno.models.transforms import PlatePercentiles
from cellpheno.names import PLATE, WELL
from cellpheno.simulate.plate import simulate_plate
from cellpheno.studies.pooling import Cells, project, read_cells
from cellpheno.studies.simulated_cells import simulate_cells
from cellpheno.training import instances
from cellpheno.training.bags import Bag, collate, plate_limits
from cellpheno.training.embed import embed_well, fixed_encoder
from cellpheno.training.fit import reproducible

RESPONDERS = 0.05  # of the cells of a treated well: with a tenth, nearly all wells are told apart
COMPONENTS, HIDDEN, BATCH = 64, 128, 10  # features that are learned from, width of the attention, bags of a step
FOLDS, SEEDS = 4, 5
TIMED = (64, 64, 256)  # bags, instances of each, features: of the steps that are timed
GOALS = {"loss_auroc": 0.02, "ratio": 1.05}  # at most
KINDS = {"plain": (Attention, False), "gated": (GatedAttention, True)}
Fold = tuple[list[Bag], list[Bag]]  # of training and held-out wells


class Size(NamedTuple):
    """How much is done."""

    wells_per_class: int
    epochs: int
    rounds: int  # of timed steps


class Ours(nn.Module):
    """Our pooling with a linear head, on bags behind one another."""

    def __init__(self, pooling: type[nn.Module], n_features: int, n_classes: int) -> None:
        super().__init__()
        self.pooling, self.head = pooling(n_features, HIDDEN), nn.Linear(n_features, n_classes)

    def forward(self, features: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Logits (B, K)."""
        return self.head(self.pooling(features, bag, n_bags))

    @staticmethod
    def batch(bags: Sequence[Bag]) -> tuple[Tensor, Tensor, int]:
        """Bags behind one another, the bag of each instance, and how many bags there are."""
        whole = collate(bags)
        return whole.instances, whole.bag, len(bags)


class Theirs(ABMIL):
    """torchmil's model with an output for each class, on padded bags with a mask."""

    def __init__(self, gated: bool, n_features: int, n_classes: int) -> None:
        super().__init__(in_shape=(n_features,), att_dim=HIDDEN, gated=gated)
        self.classifier = nn.Linear(n_features, n_classes)

    @staticmethod
    def batch(bags: Sequence[Bag]) -> tuple[Tensor, Tensor]:
        """Padded bags (B, n, d) and their mask (B, n)."""
        return pad_tensors([bag.instances for bag in bags])


def pair(kind: str, n_features: int, n_classes: int, seed: int) -> dict[str, nn.Module]:
    """Both models with the same weights."""
    torch.manual_seed(seed)
    pooling, gated = KINDS[kind]
    ours, theirs = Ours(pooling, n_features, n_classes), Theirs(gated, n_features, n_classes)
    same = [(ours.pooling.value, theirs.pool.fc1.module), (ours.pooling.score, theirs.pool.fc2)]
    same += [(ours.pooling.gate, theirs.pool.fc_gated.module)] if gated else []
    for mine, other in (*same, (ours.head, theirs.classifier)):
        other.weight.data.copy_(mine.weight.data)
        if other.bias is not None:
            other.bias.data.copy_(mine.bias.data)
    return {"ours": ours, "torchmil": theirs}


def simulated_wells(folder: Path, wells_per_class: int) -> pd.DataFrame:
    """A plate's wells with their labels and the places of their cells' features, as the pooling study has them."""
    labels: dict[str, str] = {}

    def simulation(*folders: Path, **settings: Any) -> pd.DataFrame:
        wanted = {"plate_format": 96, "wells_per_class": wells_per_class, "responders": RESPONDERS}
        truth = simulate_plate(*folders, **wanted, **settings)
        labels.update(truth.groupby(WELL)["label"].first())  # of wells; cells are written with labels of their own
        return truth

    simulate_cells(simulation, folder, crop_px=64, seed=1)
    table = [(folder.name, well, label, str(folder / "crops" / f"{well}.zarr")) for well, label in labels.items()]
    wells = pd.DataFrame(table, columns=[PLATE, WELL, "label", "place"])
    encoder = fixed_encoder(partial(PerChannel, encoder=EfficientNetLite0), n_channels=3)
    stretch = PlatePercentiles()
    limits = plate_limits(wells, stretch, seed=1)
    for well, crops in zip(wells[WELL], wells["place"], strict=True):
        features = embed_well(encoder, instances.Cells(), crops, folder.name, stretch, limits)
        write_crops(folder / f"{well}.zarr", features)
    return wells.assign(place=[str(folder / f"{well}.zarr") for well in wells[WELL]])


def make_folds(wells: pd.DataFrame, classes: Sequence[str], seed: int) -> list[Fold]:
    """Bags of the training and the held-out wells of each fold, in components that the training wells alone gave."""
    dealt = wells.merge(by_well(wells, n_folds=FOLDS, seed=seed))
    folds = []
    for fold in range(FOLDS):
        held = dealt["fold"] == fold
        training, test = project(
            *(read_cells(dealt[rows], classes) for rows in (~held, held)), components=COMPONENTS, seed=seed
        )
        spread = training.features.std(0)
        folds.append((well_bags(training, spread), well_bags(test, spread)))
    return folds


def well_bags(cells: Cells, spread: Tensor) -> list[Bag]:
    """A bag a well, its features (n, d) divided by their spread."""
    rows = [np.flatnonzero(cells.well == well) for well in pd.unique(cells.well)]
    return [Bag(cells.features[own] / spread, int(cells.label[own[0]]), {}) for own in rows]


def train(model: nn.Module, bags: Sequence[Bag], epochs: int, seed: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(bags), generator=generator).split(BATCH):
            chosen = [bags[row] for row in rows]
            step(model, optimizer, model.batch(chosen), labels_of(chosen))


def labels_of(bags: Sequence[Bag]) -> Tensor:
    return torch.tensor([bag.label for bag in bags])


def step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: tuple[Any, ...], labels: Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(model(*inputs), labels).backward()
    optimizer.step()


def aurocs(kind: str, folds: Sequence[Fold], n_classes: int, epochs: int, seed: int) -> tuple[dict[str, float], float]:
    """Macro AUROC of either side, and the largest difference of two probabilities that they give to a held-out well."""
    logits: dict[str, list[Tensor]] = {"ours": [], "torchmil": []}
    for number, (training, held) in enumerate(folds):
        start = FOLDS * seed + number
        for name, model in pair(kind, training[0].instances.shape[1], n_classes, start).items():
            train(model, training, epochs, start)
            with torch.inference_mode():
                logits[name].append(model(*model.batch(held)).double())
    truth = np.concatenate([labels_of(held).numpy() for _, held in folds])
    whole = {name: torch.cat(parts) for name, parts in logits.items()}
    gap = (whole["ours"].softmax(1) - whole["torchmil"].softmax(1)).abs().max()
    plain = np.ones((1, len(truth)))
    found = {name: score(part.numpy(), truth, plain).overall["macro_auroc"].item() for name, part in whole.items()}
    return found, float(gap)


def step_times(kind: str, rounds: int) -> pd.DataFrame:
    """Milliseconds of steps of either side, which take turns: a row a turn."""
    n_bags, size, n_features = TIMED
    models = pair(kind, n_features, 5, seed=0)
    optimizers = {name: torch.optim.AdamW(model.parameters()) for name, model in models.items()}
    bags = [Bag(features, i % 5, {}) for i, features in enumerate(torch.randn(n_bags, size, n_features))]
    labels, inputs = labels_of(bags), {name: model.batch(bags) for name, model in models.items()}
    turns = []
    for turn in range(-3, rounds):
        times = {}
        for name in list(models)[:: 1 if turn % 2 else -1]:
            times[name] = 1e3 * seconds(partial(step, models[name], optimizers[name], inputs[name], labels))
        turns += [times] if turn >= 0 else []  # much is set up in the first
    return pd.DataFrame(turns)


def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()  # one thread; what else runs on the machine counts little
    call()
    return time.process_time() - start


def compare(kind: str, deals: Sequence[Sequence[Fold]], n_classes: int, size: Size) -> dict[str, Any]:
    """Loss of ours with Student's 95 % interval over seeds, and the time of our step over torchmil's."""
    found = [aurocs(kind, folds, n_classes, size.epochs, seed) for seed, folds in enumerate(deals)]
    for seed, (auroc, gap) in enumerate(found):
        print(
            f"{kind} seed {seed}: AUROC {auroc['ours']:.4f}   torchmil {auroc['torchmil']:.4f}   "
            f"probabilities differ by {gap:.0e} at most"
        )
    loss = np.array([auroc["torchmil"] - auroc["ours"] for auroc, _ in found])
    half = stats.t.ppf(0.975, len(loss) - 1) * stats.sem(loss)
    bounds = {"low": loss.mean() - half, "mean": loss.mean(), "high": loss.mean() + half}
    times = step_times(kind, size.rounds)
    ratio, ms = (times["ours"] / times["torchmil"]).median(), times.median()
    print(
        f"{kind}: our loss {bounds['mean']:+.4f} AUROC, 95 % {bounds['low']:+.4f} to {bounds['high']:+.4f}, "
        f"{verdict(bounds['high'], 'loss_auroc')}; a step {ms['ours']:.2f} ms   torchmil {ms['torchmil']:.2f} ms   "
        f"{ratio:.2f} of its time, {verdict(ratio, 'ratio')}",
        flush=True,
    )
    return {
        "loss_auroc": {name: round(float(value), 6) for name, value in bounds.items()},
        "ratio": round(float(ratio), 3),
        "auroc": [[round(value, 4) for value in auroc.values()] for auroc, _ in found],
        "probability_gap": float(f"{max(gap for _, gap in found):.1e}"),
        "step_ms": ms.round(3).to_dict(),
    }


def verdict(value: float, goal: str) -> str:
    return f"goal {GOALS[goal]} {'met' if value <= GOALS[goal] else 'missed'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer wells, epochs and timed steps")
    size = Size(5, 15, 30) if parser.parse_args().quick else Size(12, 20, 100)
    with reproducible(0, threads=1), tempfile.TemporaryDirectory() as folder:
        wells = simulated_wells(Path(folder) / "SIM1", size.wells_per_class)
        classes = sorted(set(wells["label"]))
        deals = [make_folds(wells, classes, seed) for seed in range(SEEDS)]
        cells = [len(bag.instances) for fold in deals[0] for bag in fold[1]]
        print(f"{len(wells)} wells of {min(cells)} to {max(cells)} cells, {len(classes)} classes", flush=True)
        parts = {kind: compare(kind, deals, len(classes), size) for kind in KINDS}
    result = {
        "ratio": max(part["ratio"] for part in parts.values()),
        "loss_auroc": {kind: part.pop("loss_auroc") for kind, part in parts.items()},
        "parts": parts,
        "peer": f"torchmil {importlib.metadata.version('torchmil')}",
        "versions": {name: importlib.metadata.version(name) for name in ("cellpheno", "torch", "numpy")},
        "folds": FOLDS,
        "seeds": SEEDS,
        "n": len(wells),
        "threads": 1,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Attention pooling side by side with torchmil's ABMIL: accuracy on the same bags, and the time of a step.

`python benchmarks/abmil.py [--quick]` prints lines, then one line of JSON. A bag of feature vectors is positive if
some of its instances, the key instances, are shifted along one direction, unknown to both. Both sides see the same
training and test bags in the same order, start from the same weights (torchmil has no bias before the softmax, where it
changes nothing) and take the same steps. Needs: pip install "cellpheno[benchmark]"
"""

import argparse
import importlib.metadata
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchmil.models import ABMIL

from cellpheno.models.attention import Attention, GatedAttention

D, HIDDEN, SIZE, BATCH = 256, 128, 64, 16  # features, width of the attention, instances of a bag, bags of a step
Bags = tuple[Tensor, Tensor]  # (bags, SIZE, D), (bags,) 0 or 1


class Ours(nn.Module):
    """Our pooling with a linear head, on bags behind one another."""

    def __init__(self, pooling: type[nn.Module]) -> None:
        super().__init__()
        self.pooling, self.head = pooling(D, HIDDEN), nn.Linear(D, 1)

    def forward(self, bags: Tensor) -> Tensor:
        """Bags (B, n, d) to logits (B,)."""
        bag = torch.arange(len(bags)).repeat_interleave(bags.shape[1])
        return self.head(self.pooling(bags.flatten(0, 1), bag, len(bags)))[:, 0]


class Theirs(nn.Module):
    """torchmil's model, on padded bags with a mask, which here is full."""

    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.model = ABMIL(in_shape=(D,), att_dim=HIDDEN, gated=gated)

    def forward(self, bags: Tensor) -> Tensor:
        """Bags (B, n, d) to logits (B,)."""
        return self.model(bags, torch.ones(bags.shape[:2]))


def pair(gated: bool, seed: int) -> dict[str, nn.Module]:
    """Both models with the same weights."""
    torch.manual_seed(seed)
    ours, theirs = Ours(GatedAttention if gated else Attention), Theirs(gated)
    pool, peer = ours.pooling, theirs.model
    same = [(pool.value, peer.pool.fc1), (pool.score, peer.pool.fc2), (ours.head, peer.classifier)]
    same += [(pool.gate, peer.pool.fc_gated)] if gated else []
    for mine, other in same:
        layer = getattr(other, "module", other)
        layer.weight.data.copy_(mine.weight.data)
        if layer.bias is not None:
            layer.bias.data.copy_(mine.bias.data)
    return {"ours": ours, "torchmil": theirs}


def simulate(n_bags: int, seed: int) -> Bags:
    """Half of the bags positive, with a tenth of key instances, shifted by four standard deviations of the noise."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(0).normal(size=D)
    direction *= 4.0 / np.linalg.norm(direction)
    labels = np.arange(n_bags) % 2
    key = (rng.random((n_bags, SIZE)) < 0.1) & (labels[:, None] == 1)
    features = rng.normal(size=(n_bags, SIZE, D)) + key[..., None] * direction
    return torch.tensor(features, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)


def train(model: nn.Module, bags: Bags, epochs: int, seed: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(bags[1]), generator=generator).split(BATCH):
            step(model, optimizer, bags[0][rows], bags[1][rows])


def step(model: nn.Module, optimizer: torch.optim.Optimizer, features: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    binary_cross_entropy_with_logits(model(features), labels).backward()
    optimizer.step()


def auroc(gated: bool, seed: int, n_bags: int, epochs: int) -> list[float]:
    """Of ours and of torchmil's, on test bags that neither has seen."""
    training, test = simulate(n_bags, 2 * seed + 1), simulate(400, 2 * seed + 2)
    scores = []
    for model in pair(gated, seed).values():
        train(model, training, epochs, seed)
        with torch.inference_mode():
            scores.append(float(roc_auc_score(test[1], model(test[0]))))
    return scores


def step_ms(gated: bool, rounds: int) -> dict[str, float]:
    """The fastest of some steps of each, which take turns."""
    models = pair(gated, 0)
    optimizers = {name: torch.optim.AdamW(model.parameters()) for name, model in models.items()}
    bags = simulate(4 * BATCH, 0)
    fastest = dict.fromkeys(models, np.inf)
    for turn in range(rounds):
        for name, model in list(models.items())[:: 1 if turn % 2 else -1]:
            fastest[name] = min(fastest[name], seconds(lambda m=model, n=name: step(m, optimizers[n], *bags)))
    return {name: 1e3 * value for name, value in fastest.items()}


def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()  # one thread; what else runs on the machine counts little
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer bags, epochs and rounds")
    quick = parser.parse_args().quick
    n_bags, epochs, rounds, seeds = (160, 5, 30, 5) if quick else (320, 10, 80, 5)
    torch.set_num_threads(1)
    parts, losses, ratios = {}, {}, {}
    for name, gated in (("plain", False), ("gated", True)):
        scores = np.array([auroc(gated, seed, n_bags, epochs) for seed in range(seeds)])  # (seeds, 2)
        loss = scores[:, 1] - scores[:, 0]
        half = float(stats.t.ppf(0.975, seeds - 1) * stats.sem(loss))
        losses[name] = [round(float(loss.mean()) + sign * half, 4) for sign in (-1, 0, 1)]
        times = step_ms(gated, rounds)
        ratios[name] = times["ours"] / times["torchmil"]
        parts[name] = {"auroc": scores.round(4).tolist(), "step_ms": {key: round(t, 3) for key, t in times.items()}}
        for seed, (us, them) in enumerate(scores):
            print(f"{name} seed {seed}: AUROC {us:.4f}   torchmil {them:.4f}")
        print(
            f"{name}: our loss {losses[name][1]:+.4f} AUROC, 95 % {losses[name][0]:+.4f} to {losses[name][2]:+.4f}; a "
            f"step {times['ours']:.2f} ms   torchmil {times['torchmil']:.2f} ms   {ratios[name]:.2f} of its time",
            flush=True,
        )
    result = {
        "ratio": round(max(ratios.values()), 3),
        "loss_auroc": {
            name: dict(zip(("low", "mean", "high"), values, strict=True)) for name, values in losses.items()
        },
        "parts": parts,
        "peer": f"torchmil {importlib.metadata.version('torchmil')}",
        "n": n_bags,
        "threads": 1,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

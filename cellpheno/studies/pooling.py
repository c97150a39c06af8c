"""Which pooling finds a class that only a few cells of a bag show? Bags are composed of cached features, cell by cell.

All cells of a treated well respond, so a bag with any fraction of responders can be put together: some cells of
treated wells, the rest of control wells. Axes: n cells, B bags, K classes, d features.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from cellpheno.bounds import Range
from cellpheno.compare.metrics import score
from cellpheno.compare.splits import inner_split
from cellpheno.errors import InputError
from cellpheno.images.crops import read_pixels
from cellpheno.models.finetune import parameter_groups
from cellpheno.models.mil import MILClassifier, build_classifier
from cellpheno.names import PLATE, WELL
from cellpheno.seeds import derived_seed
from cellpheno.training.fit import reproducible

MEASURES = ("macro_auroc", "balanced_accuracy", "log_loss")
STILL = 0.05  # of the median spread: features that vary less say nothing


class Cells(NamedTuple):
    """Cells of some wells, one below the other."""

    features: Tensor  # (n, d), float32
    label: NDArray[np.intp]  # (n,) position of the well's class
    well: NDArray[np.str_]  # (n,)


class Bags(NamedTuple):
    """Bags of one size, as rows of `Cells`."""

    cells: NDArray[np.intp]  # (B, cells_per_bag)
    label: NDArray[np.intp]  # (B,)


def read_cells(wells: pd.DataFrame, classes: Sequence[str]) -> Cells:
    """Read the cached features of wells.

    Parameters
    ----------
    wells : DataFrame
        Metadata_Well, label, place (path of the well's features).
    classes : sequence of str
    """
    pixels = [read_pixels(path) for path in wells["place"]]  # (n, d, 1, 1) each
    sizes = [len(part) for part in pixels]
    positions = [list(classes).index(label) for label in wells["label"]]
    features = torch.from_numpy(np.concatenate(pixels).reshape(sum(sizes), -1).astype(np.float32))
    return Cells(features, np.repeat(positions, sizes), np.repeat(wells[WELL].to_numpy(str), sizes))


def compose_bags(
    cells: Cells, n_classes: int, control: int, *, fraction: float, cells_per_bag: int, bags_per_class: int, seed: int
) -> Bags:
    """Put bags together in which a known number of cells responds.

    A bag of class k holds ``round(fraction * cells_per_bag)`` cells of wells of class k and control cells for the rest;
    a bag of the control class holds control cells only. No cell is twice in a bag.

    Parameters
    ----------
    cells : Cells
    n_classes : int
    control : int
        Position of the control class.
    fraction : float
        0 to 1.
    cells_per_bag, bags_per_class : int
    seed : int

    Raises
    ------
    InputError
        If a class has fewer cells than a bag wants.

    Examples
    --------
    >>> cells = Cells(torch.zeros(8, 1), np.repeat([0, 1], 4), np.repeat(["A01", "A02"], 4))
    >>> bags = compose_bags(cells, 2, 0, fraction=0.25, cells_per_bag=4, bags_per_class=1, seed=0)
    >>> cells.label[bags.cells].sum(axis=1).tolist(), bags.label.tolist()
    ([0, 1], [0, 1])
    """
    generator = np.random.default_rng(seed)
    responders = max(1, round(fraction * cells_per_bag))
    wanted = {k: cells_per_bag if k == control else responders for k in range(n_classes)}
    pools = {k: np.flatnonzero(cells.label == k) for k in range(n_classes)}
    if short := [f"class {k}: {len(pools[k])} cells, a bag wants {n}" for k, n in wanted.items() if len(pools[k]) < n]:
        raise InputError(*short)
    bags = []
    for k in range(n_classes):
        for _ in range(bags_per_class):
            own = generator.choice(pools[k], wanted[k], replace=False)
            bags.append(np.append(own, generator.choice(pools[control], cells_per_bag - wanted[k], replace=False)))
    return Bags(np.stack(bags), np.repeat(np.arange(n_classes), bags_per_class))


def fit_bags(
    model: MILClassifier,
    cells: Cells,
    bags: Bags,
    *,
    epochs: int,
    bags_per_batch: int,
    seed: int,
    largest_step: float = 1.0,
) -> None:
    """Train a classifier on bags in memory: its own loss, optimizer and schedule, without a trainer's overhead.

    Parameters
    ----------
    model : MILClassifier
        With an optimizer.
    cells : Cells
    bags : Bags
    epochs, bags_per_batch : int
    seed : int
        Of the order of the bags and of dropout.
    largest_step : float
        Norm to which a step's gradient is cut.
    """
    if model.optimizer is None:
        raise ValueError("this classifier has no optimizer and cannot be trained; give optimizer=")
    generator = np.random.default_rng(seed)
    optimizer = model.optimizer(parameter_groups(model, model.rates))
    steps = epochs * -(-len(bags.label) // bags_per_batch)
    schedule = model.scheduler(optimizer, steps) if model.scheduler else None
    model.train()
    for _ in range(epochs):
        order = generator.permutation(len(bags.label))
        for start in range(0, len(order), bags_per_batch):
            chosen = order[start : start + bags_per_batch]
            optimizer.zero_grad()
            out = model(*_batch(cells, bags, chosen))
            model.loss(out, torch.from_numpy(bags.label[chosen])).backward()  # type: ignore[no-untyped-call]
            clip_grad_norm_(model.parameters(), largest_step)
            optimizer.step()
            if schedule:
                schedule.step()
    model.eval()


def bag_logits(model: MILClassifier, cells: Cells, bags: Bags, bags_per_batch: int = 20) -> NDArray[np.float64]:
    """Logits (B, K) of bags by a trained classifier."""
    everything = np.arange(len(bags.label))
    with torch.inference_mode():
        parts = [
            model(*_batch(cells, bags, everything[start : start + bags_per_batch])).logits
            for start in range(0, len(everything), bags_per_batch)
        ]
    return torch.cat(parts).double().numpy()


def _batch(cells: Cells, bags: Bags, chosen: NDArray[np.intp]) -> tuple[Tensor, Tensor, int]:
    """Instances (N, d, 1, 1) of some bags, the bag of each, and how many bags there are."""
    rows = torch.from_numpy(bags.cells[chosen].ravel())
    bag = torch.arange(len(chosen)).repeat_interleave(bags.cells.shape[1])
    return cells.features[rows][:, :, None, None], bag, len(chosen)


def project(cells: Cells, others: Cells, components: int | None, seed: int) -> tuple[Cells, Cells]:
    """Keep the principal components of scaled features, found in ``cells`` alone and without labels.

    Thousands of features of a few thousand cells are mostly directions in which no class differs; a model learns
    faster, and less by heart, from those in which cells differ most. Features that hardly vary are left out: scaled to
    variance 1, they would make outliers of a few cells.

    Parameters
    ----------
    cells, others : Cells
        Of training and of test wells.
    components : int or None
        None: all features as they are.
    seed : int
        Of the random projection behind the decomposition (Halko, Martinsson, Tropp 2011, doi:10.1137/090771806).
    """
    if components is None:
        return cells, others
    mean, spread = cells.features.mean(0), cells.features.std(0)
    varied = spread > STILL * spread.median()
    own, new = (((part.features - mean) / spread)[:, varied] for part in (cells, others))  # (n, d) each
    n = min(components, *own.shape)
    torch.manual_seed(seed)
    axes = torch.pca_lowrank(own, q=min(n + 10, *own.shape), niter=4)[2][:, :n]
    return cells._replace(features=own @ axes), others._replace(features=new @ axes)


def study_unit(
    wells: pd.DataFrame,
    *,
    classes: Sequence[str],
    control: str,
    fraction: float,
    seed: int,
    model: Callable[..., MILClassifier],
    encoder: Callable[..., nn.Module],
    pooling: Callable[..., nn.Module],
    optimizer: Callable[..., torch.optim.Optimizer],
    scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None,
    rates: Sequence[float] = (0.004, 0.016, 0.064),
    test: float = 0.375,
    components: int | None = 64,
    cells_per_bag: int = 100,
    larger_bags: int | None = 200,
    bags_per_class: int = 20,
    epochs: int = 20,
    bags_per_batch: int = 10,
    largest_step: Annotated[float, Range(0, open_low=True)] = 1.0,
    threads: int = 1,
) -> dict[str, Any]:
    """Train one pooling at one fraction of responders and score it on bags of wells that it never saw.

    The learning rate is chosen among ``rates`` within the training wells: models learn from bags of some of them and
    are compared on bags of the others, by macro AUROC, then by log loss. Bags and wells depend on the seed and the
    fraction alone, so all poolings meet the same ones.

    Parameters
    ----------
    wells : DataFrame
        Metadata_Plate, Metadata_Well, label, place (path of the well's features). All cells of treated wells respond.
    classes : sequence of str
    control : str
        The class whose cells fill the bags.
    fraction : float
        Of responding cells in a bag, 0 to 1.
    seed : int
    model, encoder, pooling, optimizer, scheduler : callable
        As a config gives them; the encoder takes cached features.
    rates : sequence of float
        Learning rates to choose from.
    test : float
        Fraction of the wells of each class that are held out, and of the rest to choose the rate.
    components : int or None
        Principal components of the features that are learned from.
    cells_per_bag : int
    larger_bags : int or None
        The same model is scored on bags of so many cells too, at the same fraction; None: it is not.
    bags_per_class, epochs, bags_per_batch : int
    largest_step : float
        Norm to which a step's gradient is cut.
    threads : int
        CPU threads; part of the result, since sums round differently.

    Returns
    -------
    dict
        macro_auroc, balanced_accuracy, log_loss, the same with ``_larger``, learning_rate, and inner_auroc_<rate> of
        each rate; nan where a training diverged, a rate that is never chosen before others.
    """
    position = list(classes).index(control)

    def composed(cells: Cells, name: str, size: int) -> Bags:
        return compose_bags(
            *(cells, len(classes), position),
            fraction=fraction,
            cells_per_bag=size,
            bags_per_class=bags_per_class,
            seed=derived_seed(seed, name, str(fraction)),
        )

    def scored(fit: Cells, on: Cells, stage: str, rate: float, sizes: Mapping[str, int]) -> dict[str, float]:
        torch.manual_seed(seed)
        network = build_classifier(
            *(model, encoder, pooling),
            classes=classes,
            n_channels=fit.features.shape[1],
            optimizer=partial(optimizer, lr=rate),
            scheduler=scheduler,
        )
        bags = composed(fit, f"{stage} train", cells_per_bag)
        steps: dict[str, Any] = {"epochs": epochs, "bags_per_batch": bags_per_batch, "largest_step": largest_step}
        fit_bags(network, fit, bags, seed=seed, **steps)
        found: dict[str, float] = {}
        for suffix, size in sizes.items():
            held = composed(on, f"{stage} test", size)
            logits = bag_logits(network, on, held)
            if not np.isfinite(logits).all():  # the training diverged: that is no score
                found |= {name + suffix: np.nan for name in MEASURES}
                continue
            overall = score(logits, held.label, np.ones((1, len(held.label)))).overall
            found |= {name + suffix: float(overall[name][0]) for name in MEASURES}
        return found

    own, both = {"": cells_per_bag}, {"": cells_per_bag, **({"_larger": larger_bags} if larger_bags else {})}
    with reproducible(seed, threads):
        rows = tuple(wells[[PLATE, WELL, "label", "place"]].itertuples(index=False, name=None))
        inner, outer = _dealt(rows, tuple(classes), test, components, seed)
        tried = {rate: scored(*inner, "inner", rate, own) for rate in rates} if len(rates) > 1 else {}
        best = max(tried, key=lambda rate: _goodness(tried[rate])) if tried else rates[0]
        result = scored(*outer, "outer", best, both)
    return {**result, "learning_rate": best, **{f"inner_auroc_{r:g}": s["macro_auroc"] for r, s in tried.items()}}


@lru_cache(maxsize=2)  # all poolings and fractions of a seed share its cells
def _dealt(
    rows: tuple[tuple[str, ...], ...], classes: tuple[str, ...], test: float, components: int | None, seed: int
) -> tuple[tuple[Cells, Cells], tuple[Cells, Cells]]:
    """Cells to choose the rate with (training, test), and cells to score with (training, test), of disjoint wells."""
    wells = pd.DataFrame(list(rows), columns=[PLATE, WELL, "label", "place"])
    held = inner_split(wells, test, derived_seed(seed, "test"))
    kept = wells.drop(index=held.index)
    inner_held = inner_split(kept, test, derived_seed(seed, "inner"))
    pairs = ((kept.drop(index=inner_held.index), inner_held), (kept, held))
    inner, outer = (project(read_cells(a, classes), read_cells(b, classes), components, seed) for a, b in pairs)
    return inner, outer


def _goodness(scores: Mapping[str, float]) -> tuple[float, float]:
    diverged = np.isnan(scores["macro_auroc"])
    return (-np.inf, -np.inf) if diverged else (scores["macro_auroc"], -scores["log_loss"])


def over_seeds(table: pd.DataFrame, metric: str, level: float = 0.95) -> pd.DataFrame:
    """Mean of each pooling at each fraction over seeds, with Student's interval of that mean.

    Seeds deal the same wells anew, so the interval tells of dealing, composition and start, not of other plates.

    Parameters
    ----------
    table : DataFrame
        Columns pooling, fraction, seed and the metric.
    metric : str
    level : float

    Returns
    -------
    DataFrame
        pooling, fraction, value, low, high, n; with one seed the interval is nan. Seeds without a value, whose training
        diverged, are not counted in n.

    Examples
    --------
    >>> table = pd.DataFrame({"pooling": "mean", "fraction": 0.5, "seed": [0, 1, 2], "auroc": [0.7, 0.8, 0.9]})
    >>> over_seeds(table, "auroc").round(3).values.tolist()  # 0.8 +- 4.303 * 0.1 / sqrt(3)
    [['mean', 0.5, 0.8, 0.552, 1.048, 3]]
    """
    groups = table.groupby(["pooling", "fraction"], sort=True)[metric]
    value, n = groups.mean(), groups.count()
    half = student.ppf((1 + level) / 2, n - 1) * groups.std() / np.sqrt(n)
    found = pd.DataFrame({"value": value, "low": value - half, "high": value + half, "n": n})
    return found.reset_index()

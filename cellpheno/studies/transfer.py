"""Transfer: how many labelled cells a class a new screen needs, with and without a network that was trained before.

For each number of examples and each resample the same cells are given to every arm of the study; all are scored on the
same held-out cells. After the protocol of DeepLoc (Kraus et al. 2017, doi:10.15252/msb.20177551): a new last layer, the
encoder's weights from another screen or random. Ours: so many steps whatever the number of examples.
"""

import functools
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

from cellpheno.compare.metrics import score
from cellpheno.errors import InputError
from cellpheno.names import CELL_KEYS
from cellpheno.seeds import derived_seed
from cellpheno.training.cells import predict_cells
from cellpheno.training.checkpoint import load_model
from cellpheno.training.device import device_of
from cellpheno.training.fit import fit_fold

METRICS = ("balanced_accuracy", "macro_f1", "macro_auroc")


class Unit(NamedTuple):
    """One training of the study."""

    n: int  # examples a class
    resample: int
    arm: str

    @property
    def name(self) -> str:
        """Name in the ledger, such as ``n005-resample0-scratch``."""
        return f"n{self.n:03d}-resample{self.resample}-{self.arm}"


def draw_examples(pool: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Draw ``n`` cells of each class, all where a class has fewer; a larger ``n`` holds the cells of a smaller one.

    Parameters
    ----------
    pool : DataFrame
        A cell table with labels.
    n : int
    seed : int
        Of the resample.

    Examples
    --------
    >>> pool = pd.DataFrame({"label": ["a", "b", "a", "b", "a"]})
    >>> few, more = (draw_examples(pool, n, seed=0).index for n in (1, 2))
    >>> len(few), len(more), few.isin(more).all().item()
    (2, 4, True)
    """
    ordered = pool.sort_values(by=[key for key in CELL_KEYS if key in pool], kind="stable") if len(pool) else pool
    chosen: list[Any] = []
    for name, rows in ordered.groupby("label", sort=True):
        order = np.random.default_rng(derived_seed(seed, str(name))).permutation(len(rows))[:n]
        chosen += list(rows.index[order])
    return pool.loc[sorted(chosen)]


def epochs_for(n_cells: int, cells_per_batch: int, steps: int) -> int:
    """Epochs after which about ``steps`` batches were seen, one at least.

    Examples
    --------
    >>> epochs_for(5, 64, 200), epochs_for(500, 64, 200)
    (200, 25)
    """
    return max(1, round(steps / -(-n_cells // cells_per_batch)))


def train_unit(
    training: pd.DataFrame,
    held: pd.DataFrame,
    *,
    unit: Unit,
    settings: Mapping[str, Any],
    start: Path | None,
    steps: int,
    folder: Path,
    classes: Sequence[str],
    components: Mapping[str, Any],
    seed: int,
    threads: int,
    **about: Any,
) -> dict[str, Any]:
    """Train one model of the study and score it on the held-out cells.

    Parameters
    ----------
    training, held : DataFrame
        Cell tables with labels.
    unit : Unit
    settings : mapping
        Of the classifier in this arm, such as ``{"frozen": "encoder"}``.
    start : Path or None
        Folder of the trained model from whose encoder this arm starts.
    steps : int
    folder : Path
        Of the model; it may be thrown away afterwards.
    classes : sequence of str
    components : mapping
        Parts of `fit_fold` as a config gives them: encoder, pooling, model, data, trainer, ...
    seed, threads : int
    **about
        What else `fit_fold` takes of the cells: channels, pixel_size_um, limits, normalization.

    Returns
    -------
    dict
        A row of the study's table.
    """
    parts = dict(components)
    parts["model"] = functools.partial(parts["model"], **settings)
    epochs = epochs_for(len(training), inspect.signature(parts["data"]).parameters["cells_per_batch"].default, steps)
    parts["trainer"] = functools.partial(parts["trainer"], max_epochs=epochs)
    fit_fold(
        training, training.iloc[:0], classes=classes, folder=folder, seed=seed, threads=threads, start=start,
        patience=None, **about, **parts,
    )  # fmt: skip
    trained, card = load_model(folder, device_of(parts["trainer"]))
    logits = predict_cells(trained, card, held, limits=about["limits"], threads=threads)
    truth = np.array([list(classes).index(label) for label in held["label"]], dtype=np.intp)
    told = score(logits, truth, np.ones((1, len(truth)))).overall
    row: dict[str, Any] = {**unit._asdict(), "n_cells": len(training), "n_epochs": epochs, "n_held_out": len(held)}
    return row | {metric: float(told[metric][0]) for metric in METRICS}


def summarize(table: pd.DataFrame, metric: str = "balanced_accuracy", confidence: float = 0.95) -> pd.DataFrame:
    """Mean of each arm at each number of examples, with Student's interval over the resamples.

    The interval tells how much the drawn examples matter; held-out cells are the same in all resamples.

    Examples
    --------
    >>> table = pd.DataFrame({"n": 1, "arm": "a", "resample": [0, 1, 2], "balanced_accuracy": [0.4, 0.5, 0.6]})
    >>> summarize(table).round(3).to_dict("records")
    [{'arm': 'a', 'n': 1, 'mean': 0.5, 'low': 0.252, 'high': 0.748, 'n_resamples': 3}]
    """
    rows = []
    for (arm, n), own in table.groupby(["arm", "n"], sort=True):
        values = own[metric].to_numpy(float)
        mean, k = values.mean(), len(values)
        half = float(student.ppf((1 + confidence) / 2, k - 1)) * values.std(ddof=1) / np.sqrt(k) if k > 1 else np.nan
        rows.append((arm, n, mean, *np.clip([mean - half, mean + half], 0, 1), k))
    return pd.DataFrame(rows, columns=["arm", "n", "mean", "low", "high", "n_resamples"])


def check_study(examples: Sequence[int], resamples: int, steps: int, arms: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse numbers and arms that make no study.

    Raises
    ------
    InputError
        With all faults at once.
    """
    faults = [f"examples={list(examples)}: wanted numbers of 1 or more, each once"] if not _are_counts(examples) else []
    faults += [f"resamples={resamples}: wanted 1 or more"] if resamples < 1 else []
    faults += [f"train_steps={steps}: wanted 1 or more"] if steps < 1 else []
    faults += ["arms is empty: wanted {name: {start: true or false, ...}}"] if not arms else []
    faults += [
        f"arms.{name}={dict(arm)}: wanted start: true (from the source's encoder) or start: false (from scratch)"
        for name, arm in arms.items()
        if not isinstance(arm.get("start"), bool)
    ]
    if faults:
        raise InputError(*faults)


def _are_counts(examples: Sequence[int]) -> bool:
    return bool(len(examples)) and min(examples) >= 1 and len(set(examples)) == len(examples)

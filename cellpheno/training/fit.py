"""Train one model on the wells of one fold, to the same bits every time."""

import logging
import math
import multiprocessing
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]
from torch import Tensor, nn

from cellpheno.classes import membership
from cellpheno.components import describe
from cellpheno.errors import InputError, Stopped
from cellpheno.models.finetune import start_from
from cellpheno.models.mil import MILClassifier, build_classifier
from cellpheno.names import PLATE, WELL
from cellpheno.plates.commit import commit_file
from cellpheno.training.allocator import keep_freed_memory
from cellpheno.training.bags import Limits, Normalization
from cellpheno.training.checkpoint import load_model, make_card, save_model
from cellpheno.training.datamodule import PlateDataModule
from cellpheno.training.instances import Cells, Instances
from cellpheno.training.resume import ResumePoint, resume_point

HISTORY = "history.csv"
_METRICS = ("train_loss", "val_loss", "val_balanced_accuracy")


class BestEpoch(pl.Callback):
    """Keep the weights of the epoch with the lowest validation loss, end when it no longer falls, note all epochs.

    Parameters
    ----------
    patience : int or None
        Epochs without a lower loss after which training ends.
    """

    def __init__(self, patience: int | None = None) -> None:
        self.patience = patience
        self.history: list[dict[str, float]] = []
        self.epoch, self.loss = -1, math.inf
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End at once where a resumed training had lost its patience already."""
        self._judge(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the epoch's figures; without validation wells the last epoch is the best."""
        metrics = {name: float(trainer.callback_metrics.get(name, math.nan)) for name in _METRICS}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.history.append({"epoch": trainer.current_epoch, **metrics, "learning_rate": rate})
        if metrics["val_loss"] < self.loss or "val_loss" not in trainer.callback_metrics:  # nan is never the best
            self.epoch, self.loss = trainer.current_epoch, metrics["val_loss"]
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        self._judge(trainer)

    def _judge(self, trainer: pl.Trainer) -> None:
        if self.history and self.patience is not None and len(self.history) - 1 - self.epoch >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"history": self.history, "epoch": self.epoch, "loss": self.loss, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the other one ended."""
        self.history, self.weights = state_dict["history"], state_dict["weights"]
        self.epoch, self.loss = state_dict["epoch"], state_dict["loss"]


def class_weights(
    labels: Sequence[str], classes: Sequence[str], multilabel: bool = False, untaught: Collection[str] = ()
) -> Tensor:
    """Weights of the loss by which all classes count alike, with several classes a well yes and no of each class.

    Classes that a split leaves no training well at all are ``untaught``: their weight meets no well.

    Returns
    -------
    Tensor of shape (K,), or (2, K) with several classes a well: of no and of yes

    Examples
    --------
    >>> class_weights(["a", "a", "a", "b"], ["a", "b"]).tolist()
    [0.6666666865348816, 2.0]
    >>> class_weights(["a", "a|b", "b", "b"], ["a", "b"], multilabel=True).tolist()
    [[1.0, 2.0], [1.0, 0.6666666865348816]]
    """
    counts = membership(labels, classes, multilabel).sum(axis=0)
    if not counts.all():
        lost = [name for name, count in zip(classes, counts, strict=True) if not count and name not in untaught]
        if lost:
            raise InputError(f"classes {lost} have no training well")
    if not multilabel:
        return torch.tensor(len(labels) / (len(classes) * np.maximum(counts, 1)), dtype=torch.float32)
    answers = np.stack([len(labels) - counts, counts])  # (2, K); a class that all wells have has no "no" to weigh
    return torch.tensor(len(labels) / (2 * np.maximum(answers, 1)), dtype=torch.float32)


def fit_fold(
    wells_train: pd.DataFrame,
    wells_validation: pd.DataFrame,
    *,
    classes: Sequence[str],
    channels: Sequence[str],
    pixel_size_um: float | None,
    limits: Limits,
    normalization: Normalization,
    model: Callable[..., MILClassifier],
    encoder: Callable[..., nn.Module],
    pooling: Callable[..., nn.Module],
    augmentation: Callable[[Tensor, torch.Generator], Tensor] | None,
    optimizer: Callable[..., torch.optim.Optimizer],
    scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler] | None,
    data: Callable[..., PlateDataModule],
    trainer: Callable[..., pl.Trainer],
    folder: Path,
    seed: int,
    instances: Instances = Cells(),  # noqa: B008  (it holds nothing)
    labels: Sequence[str] | None = None,
    resume: Path | None = None,
    start: Path | None = None,
    logger: Callable[..., Any] | None = None,
    callbacks: Mapping[str, Callable[..., pl.Callback]] | None = None,
    patience: int | None = 8,
    threads: int = 1,
    weighted: bool = True,
    multilabel: bool = False,
) -> Path:
    """Train a classifier and write ``model.safetensors``, ``card.json`` and ``history.csv``.

    One seed, one number of threads and one CPU give the same bytes again.

    Parameters
    ----------
    wells_train, wells_validation : DataFrame
        Well tables (`cellpheno.training.bags`). The epoch with the lowest validation loss is kept; with no validation
        well the last.
    classes, channels : sequence of str
        In the order of the logits, and of the crops' channels.
    pixel_size_um : float or None
    limits : mapping of str to ndarray of shape (1, c, 2)
        Of each plate (`plate_limits`).
    normalization : Normalization
    model, encoder, pooling, optimizer, scheduler, data, trainer, logger : callable
        As a config gives them: classes with their own knobs filled in. The logger gets ``save_dir``.
    augmentation : callable or None
    callbacks : mapping of str to callable, optional
        More of Lightning's callbacks. What one of them keeps in ``state_dict`` is there again when a training resumes;
        weights that one makes at the end, such as an average, are not kept: the best epoch's are.
    folder : Path
        Made where missing.
    seed : int
    instances : Instances
        Cells, fields, or features computed before.
    labels : sequence of str, optional
        Of all wells of the training fold, also those without cells, which are not among the tables: what a well
        without cells is predicted from. None takes those of the tables.
    resume : Path, optional
        File that holds the state after the last whole epoch. Where it is there already, training goes on from it and
        ends with the same bytes as one that was never stopped; it must come from the same wells and settings.
    start : Path, optional
        Folder of a trained model from whose encoder this one starts.
    patience : int, optional
        Epochs without a lower validation loss after which training ends; None: never.
    threads : int
        CPU threads; part of the result, since sums round differently.
    weighted : bool
        Weigh the loss so that all classes count alike.
    multilabel : bool
        A well may have several classes (see `cellpheno.classes`).

    Returns
    -------
    Path
        ``folder``.

    Raises
    ------
    InputError
        If wells, classes and limits do not fit together.
    """
    best, several, extra = BestEpoch(patience), {"multilabel": multilabel}, dict(callbacks or {})
    model, source = partial(model, **several), None if start is None else load_model(start)
    with reproducible(seed, threads), quiet():
        given = {"classes": classes, "normalization": normalization, "limits": limits, "instances": instances}
        bags = data(wells_train, wells_validation, **given, seed=seed, **several)
        given_labels = [*wells_train["label"], *wells_validation["label"]]
        counted = membership(given_labels, classes, multilabel).sum(axis=0).tolist()
        untaught = [name for name, n in zip(classes, counted, strict=True) if labels is not None and n == 0]
        taught = list(bags.train.wells["label"])
        network = build_classifier(
            *(model, encoder, pooling),
            classes=classes,
            n_channels=len(channels),
            optimizer=optimizer,
            scheduler=scheduler,
            augment=augmentation,
            class_weights=class_weights(taught, classes, multilabel, untaught) if weighted else None,
            seed=seed,
        )
        if source is not None:
            start_from(network.encoder, source.model.encoder.state_dict())
        run = trainer(
            logger=logger(save_dir=folder / "log") if logger else False,
            callbacks=[best, *(made() for made in extra.values())],
            default_root_dir=folder,
            enable_progress_bar=sys.stderr.isatty() and multiprocessing.parent_process() is None,
            **({} if bags.validation else {"limit_val_batches": 0}),
        )
        check_trainer(run)
        _train(run, network, bags, resume)
    if not best.weights or not all(value.isfinite().all() for value in best.weights.values()):
        raise InputError(f"the training diverged (seed {seed}): its loss or weights are not finite; lower optimizer.lr")
    if not any(math.isfinite(epoch["train_loss"]) for epoch in best.history):  # the trainer counts empty steps too
        raise InputError(
            "no step was trained: batches of a single cell are passed over; raise data.bags_per_batch, "
            "data.cells_per_bag or trainer.max_epochs"
        )
    network.load_state_dict(best.weights)
    card = make_card(
        {"encoder": encoder, "pooling": pooling, "model": partial(model, seed=seed)},
        normalization,
        classes=classes,
        labels=given_labels if labels is None else labels,
        multilabel=multilabel,
        channels=channels,
        instances=instances,
        first=instances.pixels(bags.train.wells["place"].iloc[0], slice(0, 1)),
        limits=limits,
    )
    training = {
        **{"optimizer": optimizer, "scheduler": scheduler, "augmentation": augmentation, "data": data},
        **{"trainer": trainer, "callbacks": extra, "weighted": weighted, "best_epoch": best.epoch},
        "n_wells": len(bags.train.wells[[PLATE, WELL]].drop_duplicates()),
        "start": source and source.card["weights_sha256"],
    }
    link = "softmax" if network.bag_head is None else "sigmoid"  # from logits of instances to probabilities
    about = {"pixel_size_um": pixel_size_um, "instance_link": link, "seed": seed, "threads": threads}
    save_model(folder, network, {**card, **about, "training": describe(training)})
    with commit_file(folder / HISTORY) as path:
        pd.DataFrame(best.history).to_csv(path, index=False)
    return folder


def check_trainer(run: pl.Trainer) -> None:
    """Refuse a trainer that would train nothing, without end, past the best epoch, or what the bags do not allow.

    Raises
    ------
    InputError
        With all faults.
    """
    faults = []
    if (every := run.check_val_every_n_epoch) != 1:
        faults.append(f"trainer.check_val_every_n_epoch={every}: wanted 1, the best epoch is chosen among all")
    if run.max_epochs is not None and run.max_epochs < 1 and (run.max_epochs == 0 or run.max_steps == -1):
        faults.append(f"trainer.max_epochs={run.max_epochs}: wanted 1 or more")
    if run.max_steps == 0:
        faults.append("trainer.max_steps=0: wanted 1 or more, or -1 for all steps of the epochs")
    if run.precision in ("bf16-true", "16-true"):
        faults.append(
            f"trainer.precision={run.precision}: wanted 32-true or bf16-mixed (trainer=bf16), which keep weights and "
            "sums in float32"
        )
    if overfit := vars(run)["overfit_batches"]:  # the trainer does not declare it
        faults.append(f"trainer.overfit_batches={overfit}: wanted 0, each epoch shuffles its bags anew")
    if run.limit_train_batches == 0:
        faults.append("trainer.limit_train_batches=0: wanted 1 or more, or 1.0 for all")
    if faults:
        raise InputError(*faults)


def _train(run: pl.Trainer, network: MILClassifier, bags: PlateDataModule, resume: Path | None) -> None:
    if resume is not None:
        run.callbacks.append(ResumePoint(resume))  # type: ignore[attr-defined]
    try:
        run.fit(network, bags, ckpt_path=resume_point(resume), weights_only=True)
    except SystemExit as error:  # how the trainer ends on a signal
        raise Stopped("training was interrupted; what was trained so far stays") from error
    except MisconfigurationException as error:
        raise InputError(f"the trainer refuses its settings: {error}") from error


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """Fix torch's random numbers and its CPU threads, and put both back as they were."""
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Let the trainer speak of what matters only: no greeting, no advice on workers of a small data set."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # frozen layers are
            warnings.filterwarnings("ignore", ".*`training_step` returned `None`.*")  # a batch of a single cell
            warnings.filterwarnings("ignore", ".*isinstance\\(treespec, LeafSpec\\).*")  # within the trainer itself
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)

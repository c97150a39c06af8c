"""A training that was stopped goes on from its last whole epoch, to the same bits."""

import logging
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from cellpheno.plates.commit import commit_file

log = logging.getLogger("cellpheno")


class ResumePoint(Checkpoint):
    """Save the whole state of training after each epoch: weights, optimizer, schedule, callbacks.

    What is drawn at random depends on the seed and the epoch or step alone (see `MILClassifier`), so a training that
    goes on from here ends with the weights of one that was never stopped, bit by bit, at the same number of CPU
    threads.

    It must be the last callback: the trainer calls those that end a training late, and a `Checkpoint` after them.

    Parameters
    ----------
    path : Path
        The file; replaced as a whole after each epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stopped = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End at once where a callback had ended the training already."""
        trainer.should_stop |= self.stopped

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the file."""
        self.stopped = trainer.should_stop
        with commit_file(self.path) as temporary:
            trainer.save_checkpoint(temporary)

    def state_dict(self) -> dict[str, bool]:
        """Whether this epoch was the last."""
        return {"stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, bool]) -> None:
        """Remember it."""
        self.stopped = state_dict["stopped"]


def resume_point(path: Path | None) -> Path | None:
    """Path of a saved state that can be gone on from, or None; one that cannot be read is removed, saying so."""
    if path is None or not path.is_file():
        return None
    try:
        epoch = torch.load(path, map_location="cpu", weights_only=True)["epoch"]
    except Exception as error:  # torch raises many types on damaged files
        log.warning("%s cannot be read (%s); this fold is trained from its start", path, type(error).__name__)
        path.unlink()
        return None
    log.info("training goes on after epoch %d, from %s", epoch, path)
    return path

"""A training that was stopped goes on from its last whole epoch, to the same bits."""

import logging
from pathlib import Path

import pytorch_lightning as pl
import torch

from cellpheno.plates.commit import commit_file

log = logging.getLogger("cellpheno")


class ResumePoint(pl.Callback):
    """Save the whole state of training after each epoch: weights, optimizer, schedule, the callbacks before this one.

    What is drawn at random depends on the seed and the epoch or step alone (see `MILClassifier`), so a training that
    goes on from here ends with the weights of one that was never stopped, bit by bit, at the same number of CPU
    threads.

    Parameters
    ----------
    path : Path
        The file; replaced as a whole after each epoch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the file."""
        with commit_file(self.path) as temporary:
            trainer.save_checkpoint(temporary)


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

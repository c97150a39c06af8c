"""Lightning's view of the bags: a training and a validation table of wells."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pandas as pd
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from cellpheno.bounds import Range
from cellpheno.errors import InputError
from cellpheno.training.bags import Bag, BagBatch, BagOrder, Limits, Normalization, WellBags, collate, collate_alone
from cellpheno.training.instances import Cells, Instances


class PlateDataModule(pl.LightningDataModule):
    """Bags of cells or of fields for training, whole wells for validation.

    Parameters
    ----------
    train, validation : DataFrame
        Well tables: Metadata_Plate, Metadata_Well, place, label. ``validation`` may be empty.
    classes : sequence of str
    normalization : Normalization
    limits : mapping of str to ndarray of shape (1, c, 2)
        Of each plate.
    seed : int
    instances : Instances
    bags_per_batch : int
        Wells in a training step.
    cells_per_bag : int
        Cells (or fields) of a well in a training step; all are seen over the epochs. A multiple of 64 cells reads
        whole chunks.
    patch_px : int, optional
        Side of the square that a training step sees of each field; None: whole pictures.
    balanced : bool
        Show all classes equally often in training.
    alone : bool
        In training every cell is a bag of its own, with the label of its well: for a classifier of single cells.
    keep_mb : float
        Pixels of the training wells stay in memory where all of them take no more than so many megabytes (and so of
        the validation wells); 0, or with ``num_workers``: they are read anew in each epoch.
    num_workers : int
        Processes that read ahead; 0 reads ahead in a thread and is quickest for crops on a local disk.
    start_method : str, optional
        How these processes start: ``spawn``, ``forkserver`` or ``fork``; None: as Python does by default. A forked
        process inherits locks that another thread may hold; one that is spawned takes seconds to start.
    multilabel : bool
        A well may have several classes.

    Raises
    ------
    InputError
        If a label is no class, a plate has no limits, no training well has cells, or a start method is unknown.
    """

    def __init__(
        self,
        train: pd.DataFrame,
        validation: pd.DataFrame,
        *,
        classes: Sequence[str],
        normalization: Normalization,
        limits: Limits,
        seed: int,
        instances: Instances = Cells(),  # noqa: B008  (it holds nothing)
        bags_per_batch: Annotated[int, Range(1)] = 4,
        cells_per_bag: Annotated[int, Range(1)] = 64,
        patch_px: Annotated[int | None, Range(1)] = None,
        balanced: bool = False,
        alone: bool = False,
        keep_mb: Annotated[float, Range(0)] = 1024.0,
        num_workers: Annotated[int, Range(0)] = 0,
        start_method: str | None = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        known = multiprocessing.get_all_start_methods()
        if start_method not in (None, *known):
            raise InputError(f"data.start_method={start_method}: wanted one of {', '.join(known)}, or null")
        bags = (classes, normalization, limits)
        kept = 0.0 if num_workers else keep_mb  # workers are new in each epoch and remember nothing
        kind: dict[str, Any] = {"seed": seed, "instances": instances, "multilabel": multilabel, "keep_mb": kept}
        self.train = WellBags(train, *bags, cells_per_bag=cells_per_bag, patch_px=patch_px, **kind)
        self.validation = WellBags(validation, *bags, **kind) if len(validation) else None
        self.order = BagOrder(self.train.labels, shuffle=True, balanced=balanced, seed=seed)
        self.together = collate_alone if alone else collate
        self.bags_per_batch, self.num_workers, self.start_method = bags_per_batch, num_workers, start_method

    def train_dataloader(self) -> DataLoader[Bag]:
        """Shuffled bags."""
        return self._loader(self.train, self.order, self.bags_per_batch, self.together)

    def val_dataloader(self) -> DataLoader[Bag]:
        """Whole wells, one at a time."""
        if self.validation is None:
            raise ValueError("there is no validation well; train with limit_val_batches=0")
        return self._loader(self.validation, BagOrder(self.validation.labels), 1, collate)

    def teardown(self, stage: str) -> None:
        """Give up the pixels that were kept in memory, when a training ends."""
        for bags in (self.train, self.validation):
            if bags is not None:
                bags.forget()

    def state_dict(self) -> dict[str, int]:
        """The epoch after this one: workers read ahead before the trainer tells them where a resumed run stands."""
        return {"epoch": self.order.epoch + 1}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on at the epoch after the saved one."""
        self.order.set_epoch(state_dict["epoch"])

    def _loader(
        self, bags: WellBags, order: BagOrder, bags_per_batch: int, together: Callable[[Sequence[Bag]], BagBatch]
    ) -> DataLoader[Bag]:
        settings: dict[str, Any] = {"batch_size": bags_per_batch, "sampler": order, "collate_fn": together}
        if self.num_workers:
            context = self.start_method
            return DataLoader(bags, **settings, num_workers=self.num_workers, multiprocessing_context=context)
        return ReadAhead(bags, **settings)


class ReadAhead(DataLoader[Bag]):
    """Read the next batch in a thread while the model works on this one: decoding leaves Python's lock to others."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Batches in order."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            batches = super().__iter__()
            following = pool.submit(next, batches, None)
            while (batch := following.result()) is not None:
                following = pool.submit(next, batches, None)
                yield batch

"""Lightning's view of the bags: a training and a validation table of wells."""

from collections.abc import Sequence

import pandas as pd
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from cellpheno.training.bags import Bag, BagOrder, Limits, Normalization, WellBags, collate
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
    num_workers : int
        Processes that read ahead; 0 reads in the training process and is quickest for crops on a local disk.

    Raises
    ------
    InputError
        If a label is no class, a plate has no limits, or no training well has cells.
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
        bags_per_batch: int = 4,
        cells_per_bag: int = 64,
        patch_px: int | None = None,
        balanced: bool = False,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        bags = (classes, normalization, limits)
        self.train = WellBags(
            train, *bags, cells_per_bag=cells_per_bag, patch_px=patch_px, seed=seed, instances=instances
        )
        self.validation = WellBags(validation, *bags, seed=seed, instances=instances) if len(validation) else None
        self.order = BagOrder(self.train.labels, shuffle=True, balanced=balanced, seed=seed)
        self.bags_per_batch, self.num_workers = bags_per_batch, num_workers

    def train_dataloader(self) -> DataLoader[Bag]:
        """Shuffled bags."""
        return self._loader(self.train, self.order, self.bags_per_batch)

    def val_dataloader(self) -> DataLoader[Bag]:
        """Whole wells, one at a time."""
        if self.validation is None:
            raise ValueError("there is no validation well; train with limit_val_batches=0")
        return self._loader(self.validation, BagOrder(self.validation.labels), 1)

    def state_dict(self) -> dict[str, int]:
        """The epoch after this one: workers read ahead before the trainer tells them where a resumed run stands."""
        return {"epoch": self.order.epoch + 1}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on at the epoch after the saved one."""
        self.order.set_epoch(state_dict["epoch"])

    def _loader(self, bags: WellBags, order: BagOrder, bags_per_batch: int) -> DataLoader[Bag]:
        return DataLoader(
            bags, batch_size=bags_per_batch, sampler=order, collate_fn=collate, num_workers=self.num_workers
        )

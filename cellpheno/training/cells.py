"""Single cells with labels of their own, for training cell by cell: each cell is a bag of one.

A cell table has a row a cell: ``Metadata_Plate, Metadata_Well, Metadata_Site, Metadata_ObjectNumber``, ``place`` (path
of its well's crops), ``row`` (its place among them) and ``label``. All crops of a table are held in memory, as they are
stored: n * c * y * x * (bytes a pixel), 160 MB for 20,000 cells of 64 x 64 pixels and one channel of 16 bits.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from cellpheno.bounds import Range
from cellpheno.errors import InputError
from cellpheno.images.crops import read_attributes, read_keys, read_pixels
from cellpheno.models.mil import MILClassifier
from cellpheno.names import OBJECT, PLATE, SITE, WELL
from cellpheno.training.bags import BagBatch, BagOrder, Limits, Normalization
from cellpheno.training.checkpoint import build, check_card
from cellpheno.training.fit import reproducible
from cellpheno.training.instances import Cells, Instances


def list_cells(plate: str, well: str, crops: str) -> pd.DataFrame:
    """Rows of a cell table, without labels, for all crops of a well.

    Parameters
    ----------
    plate, well : str
    crops : str
        Path of the well's crops.
    """
    site, number = read_keys(crops)
    table = pd.DataFrame({PLATE: plate, WELL: well, SITE: site, OBJECT: number})
    return table.assign(place=crops, row=np.arange(len(table)))


def read_cells(cells: pd.DataFrame) -> NDArray[Any]:
    """Pixels (n, c, y, x) of the cells of a table, in its order.

    Raises
    ------
    InputError
        If wells differ in the size, the channels or the dtype of their crops.
    """
    out: NDArray[Any] | None = None
    first = ""
    places = np.arange(len(cells))
    for path, here in pd.Series(places).groupby(cells["place"].to_numpy(), sort=True):
        pixels = read_pixels(str(path))[cells["row"].to_numpy()[here]]
        if out is None:
            out, first = np.empty((len(cells), *pixels.shape[1:]), pixels.dtype), str(path)
        if (pixels.shape[1:], pixels.dtype) != (out.shape[1:], out.dtype):
            told = f"{first} has crops {out.shape[1:]} {out.dtype}, {path} has {pixels.shape[1:]} {pixels.dtype}"
            raise InputError(f"crops that are trained on together must agree in channels, size and data type: {told}")
        out[here] = pixels
    if out is None:
        raise InputError("no cell: there is nothing to read")
    return out


class LabelledCells(Dataset[Any]):
    """Labelled cells in memory, given in batches.

    Parameters
    ----------
    cells : DataFrame
        A cell table with labels.
    classes : sequence of str
    normalization : Normalization
    limits : mapping of str to ndarray of shape (1, c, 2)
        Of each plate (`cellpheno.training.bags.plate_limits`).

    Raises
    ------
    InputError
        If there is no cell, a label is no class, or a plate has no limits.
    """

    def __init__(
        self, cells: pd.DataFrame, classes: Sequence[str], normalization: Normalization, limits: Limits
    ) -> None:
        plates = sorted(set(cells[PLATE]) - set(limits)) if normalization.scope == "plate" else []
        faults = [f"label {name!r} is none of the classes {list(classes)}" for name in set(cells["label"]) - {*classes}]
        faults += [f"plate {plate!r} has no limits for its normalisation" for plate in plates]
        if faults:
            raise InputError(*sorted(faults))
        self.wells = cells.reset_index(drop=True)  # the table, by the name that it has for bags of wells
        self.labels = np.array([list(classes).index(label) for label in cells["label"]])
        self.pixels = read_cells(cells)  # (n, c, y, x)
        self.normalization = normalization
        self.limits = cell_limits(self.pixels, cells[PLATE], normalization, limits)  # (n, c, 2)

    def __len__(self) -> int:
        return len(self.wells)

    def __getitem__(self, key: tuple[int, int]) -> BagBatch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> BagBatch:
        rows = [i for _, i in keys]  # the epoch does not matter: a cell is a cell
        instances = self.normalization(self.pixels[rows], self.limits[rows])
        metadata = [{PLATE: p, WELL: w} for p, w in self.wells[[PLATE, WELL]].iloc[rows].itertuples(index=False)]
        return BagBatch(instances, torch.arange(len(rows)), torch.from_numpy(self.labels[rows]), metadata)


def cell_limits(
    pixels: NDArray[Any], plates: "pd.Series[str]", normalization: Normalization, limits: Limits
) -> NDArray[np.float32]:
    """Limits (n, c, 2) of each cell: its plate's, or its own."""
    if normalization.scope != "plate":
        return np.concatenate([normalization.limits(part) for part in np.array_split(pixels, -(-len(pixels) // 1024))])
    return np.concatenate([limits[plate] for plate in plates])


class CellDataModule(pl.LightningDataModule):
    """Batches of single cells.

    Parameters
    ----------
    train, validation : DataFrame
        Cell tables with labels. ``validation`` may be empty.
    classes : sequence of str
    normalization : Normalization
    limits : mapping of str to ndarray of shape (1, c, 2)
        Of each plate.
    seed : int
    cells_per_batch : int
        Cells in a training step, shuffled over all wells.
    balanced : bool
        Show all classes equally often in training.
    instances, multilabel
        Crops, one class a cell; anything else is refused.

    Raises
    ------
    InputError
        As `LabelledCells`.
    """

    instances_have_labels = True  # what `train_cells` asks of its data

    def __init__(
        self,
        train: pd.DataFrame,
        validation: pd.DataFrame,
        *,
        classes: Sequence[str],
        normalization: Normalization,
        limits: Limits,
        seed: int,
        cells_per_batch: Annotated[int, Range(1)] = 64,
        balanced: bool = False,
        instances: Instances = Cells(),  # noqa: B008  (it holds nothing)
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        faults = [] if cells_per_batch >= 2 else [f"data.cells_per_batch={cells_per_batch}: wanted 2 or more"]
        if instances != Cells() or multilabel:
            faults.append("data=single_cells learns from crops, one class a cell: give instances=cells, one class each")
        if faults:
            raise InputError(*faults)
        about = (classes, normalization, limits)
        self.train = LabelledCells(train, *about)
        self.validation = LabelledCells(validation, *about) if len(validation) else None
        self.order = BagOrder(self.train.labels, shuffle=True, balanced=balanced, seed=seed)
        self.cells_per_batch = cells_per_batch

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled cells; a last batch of one cell is left out, for features are scaled to the batch."""
        alone = len(self.order) % self.cells_per_batch == 1 and len(self.order) > 1
        return self._loader(self.train, self.order, drop_last=alone)

    def val_dataloader(self) -> DataLoader[Any]:
        """Cells in the order of their table."""
        if self.validation is None:
            raise ValueError("there is no validation cell; train with limit_val_batches=0")
        return self._loader(self.validation, BagOrder(self.validation.labels), drop_last=False)

    def state_dict(self) -> dict[str, int]:
        """The epoch after this one."""
        return {"epoch": self.order.epoch + 1}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on at the epoch after the saved one."""
        self.order.set_epoch(state_dict["epoch"])

    def _loader(self, cells: LabelledCells, order: BagOrder, *, drop_last: bool) -> DataLoader[Any]:
        size = self.cells_per_batch
        return DataLoader(cells, batch_size=size, sampler=order, collate_fn=_as_it_is, drop_last=drop_last)


def _as_it_is(batch: Any) -> Any:
    return batch


def predict_cells(
    model: MILClassifier, card: Mapping[str, Any], cells: pd.DataFrame, *, limits: Limits, threads: int = 1
) -> NDArray[np.float64]:
    """Logits (n, K) of single cells, each alone.

    Parameters
    ----------
    model, card
        As `cellpheno.training.checkpoint.load_model` gives them; the model works on its own device.
    cells : DataFrame
        A cell table; labels are not looked at.
    limits : mapping of str to ndarray of shape (1, c, 2)
        Of each plate.
    threads : int
        CPU threads; part of the result, since sums round differently.

    Raises
    ------
    InputError
        If crops differ in size, channels or dtype from those of training.
    """
    normalization: Normalization = build(card["normalization"])()
    pixels = read_cells(cells)
    channels = read_attributes(str(cells["place"].iloc[0])).get("channels", card["channels"])
    check_card(card, crop_px=pixels.shape[-1], dtype=str(pixels.dtype), channels=list(channels))
    own = cell_limits(pixels, cells[PLATE], normalization, limits)
    logits = []
    model.eval()
    with reproducible(0, threads), torch.inference_mode():
        for start in range(0, len(pixels), model.piece):
            part = slice(start, start + model.piece)
            features = model.embed(normalization(pixels[part], own[part]).to(model.device))
            logits.append(model.head(features).cpu().double().numpy())
    return np.concatenate(logits)

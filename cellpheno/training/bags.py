"""Wells as bags of cells or of fields: from disk to ragged batches.

A well table has a row a well: ``Metadata_Plate``, ``Metadata_Well``, ``place`` (where its instances stand, see
`cellpheno.training.instances`) and ``label``. What a bag holds depends on the seed, the epoch, the plate and the well
alone: never on workers or on the order of reading.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from cellpheno.classes import membership, unknown_classes
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.seeds import derived_seed
from cellpheno.training.instances import Cells, Instances

ALIGN = 64  # bags begin at multiples of it: where a chunk of the crops begins


class Bag(NamedTuple):
    """The cells or fields of one well, or a part of them, ready for an encoder."""

    instances: Tensor  # (n, c, y, x), float32, normalised
    label: int | tuple[float, ...]  # position in the classes; with several classes a well 0 or 1 for each of K
    metadata: dict[str, str]  # Metadata_Plate, Metadata_Well


class BagBatch(NamedTuple):
    """Some bags behind one another; nothing is padded."""

    instances: Tensor  # (N, c, y, x)
    bag: Tensor  # (N,), int64: the bag of each instance
    labels: Tensor  # (B,), int64; with several classes a well (B, K), float32, 0 or 1
    metadata: list[dict[str, str]]  # B of them


class Normalization(Protocol):
    """What `cellpheno.models.transforms` offers: limits of crops, and crops stretched between limits."""

    scope: str  # "plate" or "crop": what the limits belong to

    def limits(self, crops: NDArray[Any], /) -> NDArray[np.float32]: ...  # noqa: D102
    def __call__(self, crops: NDArray[Any], limits: NDArray[np.float32], /) -> Tensor: ...  # noqa: D102


Limits = Mapping[str, NDArray[np.float32]]  # plate -> (1, c, 2)


def collate(bags: Sequence[Bag]) -> BagBatch:
    """Put bags behind one another.

    Examples
    --------
    >>> batch = collate([Bag(torch.zeros(2, 1, 4, 4), 0, {}), Bag(torch.zeros(1, 1, 4, 4), 1, {})])
    >>> batch.bag.tolist(), batch.labels.tolist()
    ([0, 0, 1], [0, 1])
    """
    sizes = torch.tensor([len(bag.instances) for bag in bags])
    return BagBatch(
        torch.cat([bag.instances for bag in bags]),
        torch.repeat_interleave(torch.arange(len(bags)), sizes),
        torch.tensor([bag.label for bag in bags]),
        [bag.metadata for bag in bags],
    )


def collate_alone(bags: Sequence[Bag]) -> BagBatch:
    """Make every instance a bag of its own, with the label of the bag that it comes from.

    Examples
    --------
    >>> batch = collate_alone([Bag(torch.zeros(2, 1, 4, 4), 0, {}), Bag(torch.zeros(1, 1, 4, 4), 1, {})])
    >>> batch.bag.tolist(), batch.labels.tolist()
    ([0, 1, 2], [0, 0, 1])
    """
    whole = collate(bags)
    metadata = [whole.metadata[i] for i in whole.bag.tolist()]
    return BagBatch(whole.instances, torch.arange(len(whole.bag)), whole.labels[whole.bag], metadata)


def square(images: NDArray[Any], side: int, seed: int, epoch: int) -> NDArray[Any]:
    """Cut a square out of the fields (n, c, y, x) of a bag, elsewhere in each epoch; small fields give what they have.

    Examples
    --------
    >>> square(np.zeros((2, 3, 100, 80)), 64, seed=0, epoch=0).shape
    (2, 3, 64, 64)
    """
    height, width = images.shape[-2:]
    side = min(side, height, width)
    generator = np.random.default_rng([seed, epoch, side])
    top, left = (int(generator.integers(0, whole - side + 1)) for whole in (height, width))
    return images[..., top : top + side, left : left + side]


def window(n_cells: int, cells_per_bag: int, seed: int, epoch: int) -> list[slice]:
    """Slices of a well's stored cells that are its bag in one epoch.

    Windows go round the well, so that all cells are seen before one is seen again; each round begins elsewhere, at the
    start of a chunk. A well with fewer cells gives them all.

    Parameters
    ----------
    n_cells : int
        Cells of the well, stored in random order.
    cells_per_bag : int
    seed : int
        Of the well.
    epoch : int

    Returns
    -------
    list of slice, one or (where the window goes over the end) two

    Examples
    --------
    >>> [window(100, 64, 0, epoch) for epoch in (0, 1)]
    [[slice(64, 100, None), slice(0, 28, None)], [slice(28, 92, None)]]
    """
    if n_cells <= cells_per_bag:
        return [slice(0, n_cells)]
    epochs_per_round = -(-n_cells // cells_per_bag)
    round_, turn = divmod(epoch, epochs_per_round)
    first = ALIGN * int(np.random.default_rng([seed, round_]).integers(-(-n_cells // ALIGN)))
    start = (first + turn * cells_per_bag) % n_cells
    over = start + cells_per_bag - n_cells
    return [slice(start, start + cells_per_bag)] if over <= 0 else [slice(start, n_cells), slice(0, over)]


class WellBags(Dataset[Bag]):
    """Bags of a well table, addressed by (epoch, position of the well).

    Parameters
    ----------
    wells : DataFrame
        A well table; wells without cells are left out (``wells`` holds the rest).
    classes : sequence of str
    normalization : Normalization
    limits : mapping of str to ndarray of shape (1, c, 2)
        Of each plate (`plate_limits`).
    cells_per_bag : int or None
        None: all cells of the well.
    patch_px : int or None
        Side of the square that is cut out of each field, elsewhere in each epoch; None: whole pictures.
    seed : int
    instances : Instances
        Cells, fields, or features computed before.
    multilabel : bool
        A well may have several classes (see `cellpheno.classes`).
    keep_mb : float
        Pixels of one size are read once and kept where those of all wells take no more than so many megabytes.

    Raises
    ------
    InputError
        If a label is no class, a plate has no limits, or no well has cells.
    """

    def __init__(
        self,
        wells: pd.DataFrame,
        classes: Sequence[str],
        normalization: Normalization,
        limits: Limits,
        *,
        cells_per_bag: int | None = None,
        patch_px: int | None = None,
        seed: int = 0,
        instances: Instances = Cells(),  # noqa: B008  (it holds nothing)
        multilabel: bool = False,
        keep_mb: float = 0.0,
    ) -> None:
        unknown = unknown_classes(wells["label"], classes, multilabel)
        plates = sorted(set(wells[PLATE]) - set(limits)) if normalization.scope == "plate" else []
        faults = [f"label {label!r} is none of the classes {list(classes)}" for label in unknown]
        faults += [f"plate {plate!r} has no limits for its normalisation" for plate in plates]
        sizes = np.array([instances.count(place) for place in wells["place"]], dtype=int)
        if not sizes.any():
            faults.append(f"no cell or field in any of {len(wells)} wells: there is nothing to learn from")
        if faults:
            raise InputError(*faults)
        self.wells = wells[sizes > 0].reset_index(drop=True)
        self.sizes = sizes[sizes > 0]
        truth = membership(self.wells["label"], classes, multilabel)  # (n, K)
        self.labels = truth.astype(np.float32) if multilabel else truth.argmax(axis=1)
        self.normalization, self.limits = normalization, limits
        self.cells_per_bag, self.patch_px, self.seed, self.instances = cells_per_bag, patch_px, seed, instances
        one = instances.pixels(self.wells["place"].iloc[0], slice(0, 1)) if keep_mb else np.empty(0)
        self.keeps = instances.same_size and 0 < one.nbytes * int(self.sizes.sum()) <= keep_mb * 2**20
        self._kept: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.wells)

    def __getitem__(self, key: tuple[int, int]) -> Bag:
        epoch, i = key
        row = self.wells.iloc[i]
        n_cells = int(self.sizes[i])
        seed = derived_seed(self.seed, row[PLATE], row[WELL])
        parts = window(n_cells, self.cells_per_bag or n_cells, seed, epoch)
        pixels = [self._pixels(row["place"], part) for part in parts]
        whole = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)  # (n, c, y, x)
        if self.patch_px is not None:
            whole = square(whole, self.patch_px, seed, epoch)
        instances = normalize(whole, row[PLATE], self.normalization, self.limits)
        return Bag(instances, self._label(i), {PLATE: row[PLATE], WELL: row[WELL]})

    def forget(self) -> None:
        """Give up the pixels that were kept: a trainer and its data refer to each other and may live on for long."""
        self._kept.clear()

    def _pixels(self, place: str, part: slice) -> NDArray[Any]:
        if not self.keeps:
            return self.instances.pixels(place, part)
        if place not in self._kept:
            self._kept[place] = self.instances.pixels(place, slice(None))
        return self._kept[place][part]

    def _label(self, i: int) -> int | tuple[float, ...]:
        own = self.labels[i]
        return tuple(own.tolist()) if own.ndim else int(own)


class BagOrder(Sampler[tuple[int, int]]):
    """Order of the bags of an epoch, as keys of `WellBags`.

    Parameters
    ----------
    labels : ndarray of shape (n,), int
        Class of each well; (n, K) with several classes a well.
    shuffle : bool
        Otherwise the wells come as they stand.
    balanced : bool
        Draw as many wells of each class as the largest class has; small classes come several times.
    seed : int

    Raises
    ------
    InputError
        If classes are to be balanced that stand together in wells: no order shows all of them equally often.
    """

    def __init__(self, labels: NDArray[Any], *, shuffle: bool = False, balanced: bool = False, seed: int = 0) -> None:
        if labels.ndim == 1:
            self.groups = [np.flatnonzero(labels == k) for k in np.unique(labels)]
        elif balanced:
            raise InputError(
                "data.balanced=true: where a well has several classes, no choice of wells shows all of them equally "
                "often; leave it false and weigh the loss instead (weighted=true)"
            )
        else:
            self.groups = [np.arange(len(labels))]
        self.shuffle, self.balanced, self.seed, self.epoch = shuffle, balanced, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that comes next; the trainer calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        sizes = [len(group) for group in self.groups]
        return max(sizes) * len(sizes) if self.balanced else sum(sizes)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        groups = self.groups
        if self.balanced:  # whole rounds through each class, the last one cut
            most = max(map(len, groups))
            groups = [
                np.concatenate([generator.permutation(group) for _ in range(-(-most // len(group)))])[:most]
                for group in groups
            ]
        order = np.concatenate(groups)
        order = generator.permutation(order) if self.shuffle else np.sort(order)
        return iter((self.epoch, int(i)) for i in order)


def normalize(pixels: NDArray[Any], plate: str, normalization: Normalization, limits: Limits) -> Tensor:
    """Crops (n, c, y, x) of one plate as an encoder wants them."""
    return normalization(pixels, limits[plate] if normalization.scope == "plate" else normalization.limits(pixels))


def plate_limits(
    wells: pd.DataFrame,
    normalization: Normalization,
    *,
    seed: int,
    wells_per_plate: int = 16,
    instances: Instances = Cells(),  # noqa: B008  (it holds nothing)
) -> dict[str, NDArray[np.float32]]:
    """Estimate the limits of each plate from a seeded sample of its pixels; labels are not looked at.

    Parameters
    ----------
    wells : DataFrame
        A well table with all wells of the plates, labelled or not.
    normalization : Normalization
    seed : int
    wells_per_plate : int
        Wells whose samples are taken together.
    instances : Instances

    Returns
    -------
    dict of plate to ndarray of shape (1, c, 2); empty where the limits belong to the crops

    Raises
    ------
    InputError
        If a plate has no instance in any well.
    """
    if normalization.scope != "plate":
        return {}
    limits, faults = {}, []
    for plate, rows in wells.sort_values([PLATE, WELL]).groupby(PLATE, sort=True):
        filled = [place for place in rows["place"] if instances.count(place)]
        if not filled:
            faults.append(f"plate {plate!r}: no cell in any of {len(rows)} wells, so its grey levels are not known")
            continue
        order = np.random.default_rng(derived_seed(seed, str(plate))).permutation(len(filled))[:wells_per_plate]
        sample = [instances.sample(filled[i]) for i in sorted(order)]
        limits[str(plate)] = normalization.limits(_side_by_side(sample))
    if faults:
        raise InputError(*faults)
    return limits


def _side_by_side(samples: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Samples (n, c, y, x) of one plate as one array; fields may differ in size, then only the pixels count."""
    if len({sample.shape[2:] for sample in samples}) == 1:
        return np.concatenate(samples)
    flat = [sample.swapaxes(0, 1).reshape(sample.shape[1], -1) for sample in samples]  # (c, pixels)
    return np.concatenate(flat, axis=1)[None, :, None]

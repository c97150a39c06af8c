"""What happens to crops before an encoder sees them: normalisation, and augmentation in training.

A normalisation says by ``scope`` what its limits belong to: ``"plate"`` (estimated once a plate from a sample of its
crops, never from labels) or ``"crop"``. Raw grey levels go in, float32 near 0..1 comes out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellpheno.bounds import Range


@dataclass(frozen=True)
class PlatePercentiles:
    """Stretch each channel between two percentiles of its plate.

    A plate that was imaged brighter is brought to the scale of the others; a well or a cell that is brighter than its
    plate stays so.

    Parameters
    ----------
    low, high : float
        Percentiles (0..100) that become 0 and 1.
    ceiling : float
        Values are cut here, in units of the range between the percentiles: rare bright spots keep their height,
        hot pixels do not.

    Examples
    --------
    >>> crops = np.arange(101, dtype=np.uint16).reshape(1, 1, 1, 101)
    >>> stretch = PlatePercentiles(low=0, high=50, ceiling=1.5)
    >>> limits = stretch.limits(crops)
    >>> limits.tolist()
    [[[0.0, 50.0]]]
    >>> stretch(crops, limits).flatten()[[0, 50, 100]].tolist()
    [0.0, 1.0, 1.5]
    """

    low: float = 0.1
    high: float = 99.9
    ceiling: Annotated[float, Range(0, open_low=True)] = 3.0
    scope: ClassVar[str] = "plate"

    def __post_init__(self) -> None:
        _check_percentiles(self.low, self.high)

    def limits(self, crops: NDArray[np.generic]) -> NDArray[np.float32]:
        """Limits (1, c, 2) of all crops (n, c, y, x) together."""
        return _percentiles(crops.swapaxes(0, 1)[None], self.low, self.high)

    def __call__(self, crops: NDArray[np.generic], limits: NDArray[np.float32]) -> Tensor:
        """Raw crops (n, c, y, x) and limits (1 or n, c, 2) to a float32 tensor of the same shape."""
        return _stretch(crops, limits, self.ceiling)


@dataclass(frozen=True)
class PerCrop:
    """Stretch each channel of each crop between two of its own percentiles, as DeepLoc does.

    A bright and a dim cell become alike; so does an empty channel, whose noise fills the range.

    Parameters
    ----------
    low, high : float
        Percentiles (0..100) that become 0 and 1; above ``high`` values are cut, below ``low`` they stay negative.

    References
    ----------
    Kraus et al. 2017, Mol Syst Biol 13, 924, doi:10.15252/msb.20177551

    Examples
    --------
    >>> crops = np.arange(101, dtype=np.uint16).reshape(1, 1, 1, 101)
    >>> stretch = PerCrop(low=10, high=90)
    >>> stretch(crops, stretch.limits(crops)).flatten()[[0, 10, 100]].tolist()
    [-0.125, 0.0, 1.0]
    """

    low: float = 0.1
    high: float = 99.9
    scope: ClassVar[str] = "crop"

    def __post_init__(self) -> None:
        _check_percentiles(self.low, self.high)

    def limits(self, crops: NDArray[np.generic]) -> NDArray[np.float32]:
        """Limits (n, c, 2) of each crop of (n, c, y, x)."""
        return _percentiles(crops, self.low, self.high)

    def __call__(self, crops: NDArray[np.generic], limits: NDArray[np.float32]) -> Tensor:
        """Raw crops (n, c, y, x) and limits (n, c, 2) to a float32 tensor of the same shape."""
        return _stretch(crops, limits, ceiling=1.0)


@dataclass(frozen=True)
class Unchanged:
    """Leave numbers as they are, for features that are cached.

    Raises
    ------
    ValueError
        For whole numbers: pictures, whose grey levels no network takes as they are.

    Examples
    --------
    >>> features = np.array([[-2.0, 7.0]], np.float32).reshape(1, 2, 1, 1)
    >>> Unchanged()(features, Unchanged().limits(features)).flatten().tolist()
    [-2.0, 7.0]
    """

    scope: ClassVar[str] = "crop"

    def limits(self, crops: NDArray[np.generic]) -> NDArray[np.float32]:
        """Limits (n, c, 2) of 0 and 1, between which nothing changes."""
        if crops.dtype.kind in "ui":
            raise ValueError(
                f"normalization=none is for features, here are pictures of {crops.dtype}; give "
                "normalization=plate_percentiles, fixed_range or per_crop"
            )
        return np.broadcast_to(np.array([0.0, 1.0], np.float32), (*crops.shape[:2], 2))

    def __call__(self, crops: NDArray[np.generic], limits: NDArray[np.float32]) -> Tensor:
        """Crops (n, c, y, x) to a float32 tensor of the same numbers."""
        return torch.from_numpy(np.ascontiguousarray(crops, np.float32))


@dataclass(frozen=True)
class FixedRange:
    """Stretch every channel of every plate between the same two grey levels.

    Nothing is estimated, so a plate of few or of strong treatments is not brought to the scale of the others; right
    where brightness means the same on all plates.

    Parameters
    ----------
    low, high : float
        Grey levels that become 0 and 1; nothing is cut. ``high`` None: the highest value of the data type.

    Examples
    --------
    >>> stretch, crops = FixedRange(), np.array([[[[0, 51, 255]]]], np.uint8)
    >>> stretch(crops, stretch.limits(crops)).flatten().tolist()
    [0.0, 0.20000000298023224, 1.0]
    """

    low: float = 0.0
    high: float | None = None
    scope: ClassVar[str] = "crop"

    def limits(self, crops: NDArray[np.generic]) -> NDArray[np.float32]:
        """Limits (n, c, 2), the same for each crop of (n, c, y, x).

        Raises
        ------
        ValueError
            If ``high`` is not above ``low``, or not given for pixels that are no integers.
        """
        if self.high is None and crops.dtype.kind not in "iu":
            raise ValueError(f"pixels of type {crops.dtype} have no highest value; give high")
        high = float(np.iinfo(crops.dtype).max) if self.high is None else self.high  # type: ignore[type-var]
        if not self.low < high:
            raise ValueError(f"grey levels {self.low} and {high}: wanted low < high")
        return np.broadcast_to(np.array([self.low, high], np.float32), (*crops.shape[:2], 2))

    def __call__(self, crops: NDArray[np.generic], limits: NDArray[np.float32]) -> Tensor:
        """Raw crops (n, c, y, x) and limits (n, c, 2) to a float32 tensor of the same shape."""
        return _stretch(crops, limits, ceiling=np.inf)


def augment(
    crops: Tensor,
    generator: torch.Generator,
    *,
    flips: bool = True,
    rotations: bool = True,
    shift_px: Annotated[int, Range(0)] = 3,
    jitter: Annotated[float, Range(0)] = 0.1,
) -> Tensor:
    """Turn, mirror, shift and re-scale each crop on its own; a cell has no up, and a lamp no fixed power.

    Parameters
    ----------
    crops : Tensor of shape (N, c, y, x), y = x where ``rotations`` is set
    generator : torch.Generator
    flips : bool
        Mirror in y and in x, each with probability 1/2.
    rotations : bool
        0, 90, 180 or 270 degrees, each with probability 1/4.
    shift_px : int
        Largest shift in y and in x; the border is repeated.
    jitter : float
        Standard deviation of the log of a gain, one a channel a crop; 0.1 is about 10 %.

    Returns
    -------
    Tensor of shape (N, c, y, x)

    Raises
    ------
    ValueError
        If crops that are not square shall be rotated.

    Examples
    --------
    >>> crops = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> out = augment(crops, torch.Generator().manual_seed(0), shift_px=0, jitter=0)
    >>> sorted(out.flatten().tolist()) == crops.flatten().tolist()
    True
    """
    n, c, height, width = crops.shape
    if rotations and height != width:
        raise ValueError(f"crops of {height} x {width} pixels cannot be rotated by 90 degrees; set rotations=false")

    def draw(high: int) -> Tensor:  # (N, 1, 1)
        return torch.randint(high, (n, 1, 1), generator=generator, device=crops.device)

    # Twice the distance from the middle of where a pixel comes from. A quarter turn swaps the axes, so that each of the
    # two depends on one axis of the result alone and is a line of numbers, not an image.
    by_row = 2 * torch.arange(height, device=crops.device)[None, :, None] - (height - 1)  # (1, y, 1)
    by_column = 2 * torch.arange(width, device=crops.device)[None, None, :] - (width - 1)  # (1, 1, x)
    turned = torch.zeros((n, 1, 1), dtype=torch.bool, device=crops.device)
    if flips:
        by_row, by_column = by_row * (1 - 2 * draw(2)), by_column * (1 - 2 * draw(2))
    if rotations:
        quarter = draw(4)
        turned = quarter % 2 == 1
        cosine, sine = 1 - quarter, 2 - quarter
        by_row, by_column = torch.where(turned, sine, cosine) * by_row, torch.where(turned, -sine, cosine) * by_column
    if shift_px:
        down, right = (2 * (draw(2 * shift_px + 1) - shift_px) for _ in "yx")
        by_row, by_column = by_row + torch.where(turned, right, down), by_column + torch.where(turned, down, right)
    by_row = ((by_row + height - 1) // 2).clamp(0, height - 1) * torch.where(turned, 1, width)
    by_column = ((by_column + width - 1) // 2).clamp(0, width - 1) * torch.where(turned, width, 1)
    source = (by_row + by_column).expand(n, height, width).reshape(n, 1, -1).expand(n, c, -1)  # (N, c, y * x)
    out = crops.reshape(n, c, -1).gather(2, source).reshape(crops.shape)
    if jitter:
        gain = torch.randn((n, c, 1, 1), generator=generator, device=crops.device, dtype=torch.float32)
        out *= (jitter * gain).exp().to(out.dtype)
    return out


def eight_orientations(crops: Tensor) -> Iterator[Tensor]:
    """Crops (N, c, y, x) turned by 0, 90, 180 and 270 degrees, then the same in the mirror.

    Examples
    --------
    >>> len({tuple(view.flatten().tolist()) for view in eight_orientations(torch.arange(4.0).reshape(1, 1, 2, 2))})
    8
    """
    for mirrored in (crops, crops.flip(-1)):
        for quarter in range(4):
            yield mirrored.rot90(quarter, (2, 3))


def _check_percentiles(low: float, high: float) -> None:
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentiles {low} and {high}: wanted 0 <= low < high <= 100")


def _percentiles(crops: NDArray[np.generic], low: float, high: float) -> NDArray[np.float32]:
    if not crops.size:
        raise ValueError(f"crops of shape {crops.shape}: percentiles of no pixel are not defined")
    flat = crops.reshape(*crops.shape[:2], -1).astype(np.float32)  # (n, c, pixels)
    return np.percentile(flat, [low, high], axis=-1).transpose(1, 2, 0).astype(np.float32)  # (n, c, 2)


def _stretch(crops: NDArray[np.generic], limits: NDArray[np.float32], ceiling: float) -> Tensor:
    bottom = limits[..., 0, None, None]  # (1 or n, c, 1, 1)
    span = limits[..., 1, None, None] - bottom
    # DeepLoc's rule for grey levels, a constant channel stays at 0; real numbers have no least step.
    span = np.maximum(span, 1.0) if crops.dtype.kind in "iu" else np.where(span > 0, span, 1.0).astype(np.float32)
    values = crops.astype(np.float32)  # a copy: what follows happens in place
    values -= bottom
    values /= span
    return torch.from_numpy(np.minimum(values, np.float32(ceiling), out=values))

"""What the instances of a well are and where they stand: its cells, its whole fields, or features computed before.

Each kind offers the same, so that bags, training and prediction need not know which one it is:

- ``step``: the step of the ledger that wrote what is read.
- ``same_size``: whether all pictures must be as large as those of training.
- ``pictures``: whether they are pictures, which augmentation may turn and brighten; features are not.
- ``place(plate, well)``: where the instances of a well stand; what all the following take.
- ``optics(plate)``: names of the channels, and the size of a pixel in micrometres (None: unknown).
- ``count(place)``, ``pixels(place, part)``, ``read(place, part)``: number of instances, a slice of their pixels
  (n, c, y, x), the same with site, object number and border flag.
- ``sample(place)``: some pixels (n, c, y, x) from which grey levels are estimated.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from cellpheno.bounds import Range
from cellpheno.components import describe
from cellpheno.errors import InputError
from cellpheno.images.crops import Crops, n_crops, read_attributes, read_crops, read_pixels
from cellpheno.plates.plate import Field, Plate, open_plate

Optics = tuple[tuple[str, ...], float | None]
Place = str | Path


class Instances(Protocol):
    """What the head of this file tells."""

    @property
    def step(self) -> str: ...  # noqa: D102
    @property
    def same_size(self) -> bool: ...  # noqa: D102
    @property
    def pictures(self) -> bool: ...  # noqa: D102
    def place(self, plate: Plate, well: str) -> Path: ...  # noqa: D102
    def optics(self, plate: Plate) -> Optics: ...  # noqa: D102
    def count(self, place: Place) -> int: ...  # noqa: D102
    def pixels(self, place: Place, part: slice) -> NDArray[Any]: ...  # noqa: D102
    def read(self, place: Place, part: slice) -> Crops: ...  # noqa: D102
    def sample(self, place: Place) -> NDArray[Any]: ...  # noqa: D102


@dataclass(frozen=True)
class Cells:
    """The cells of a well, cut out by ``cellpheno crop``.

    Examples
    --------
    >>> Cells().step
    'crop'
    """

    step: ClassVar[str] = "crop"
    same_size: ClassVar[bool] = True
    pictures: ClassVar[bool] = True

    def place(self, plate: Plate, well: str) -> Path:
        """Crops of a well."""
        return plate.folder / "crops" / f"{well}.zarr"

    def optics(self, plate: Plate) -> Optics:
        """Channels and pixel size of the plate."""
        return plate.channels, plate.pixel_size_um

    def count(self, place: Place) -> int:
        """Count the cells."""
        return n_crops(place)

    def pixels(self, place: Place, part: slice) -> NDArray[Any]:
        """Pixels (n, c, y, x) of some cells."""
        return read_pixels(place, part)

    def read(self, place: Place, part: slice) -> Crops:
        """Some cells with their keys."""
        return read_crops(place, part)

    def sample(self, place: Place) -> NDArray[Any]:
        """Pixels of the first 64 cells, which stand in random order."""
        return read_pixels(place, slice(0, 64))


@dataclass(frozen=True)
class Embedded(Cells):
    """Features of the cells of a well, computed once by ``cellpheno embed``: a feature is a channel of one pixel.

    Parameters
    ----------
    name : str
        Of the embedding.

    Examples
    --------
    >>> Embedded("imagenet").step
    'embed_imagenet'
    """

    name: str = "default"
    pictures: ClassVar[bool] = False

    @property
    def step(self) -> str:  # type: ignore[override]
        """Step of the ledger."""
        return f"embed_{self.name}"

    def place(self, plate: Plate, well: str) -> Path:
        """Features of a well."""
        return plate.folder / "features" / self.name / f"{well}.zarr"

    def starts(self, plate: Plate) -> list[str]:
        """Hashes of the models that made them; none where an encoder did that came with its weights."""
        features = sorted((plate.folder / "features" / self.name).glob("*.zarr"))
        return sorted({start for path in features if (start := read_attributes(path).get("start")) is not None})

    def optics(self, plate: Plate) -> Optics:
        """Names of the features; they have no pixel size.

        Raises
        ------
        InputError
            If the plate has no such features, or those of its wells were made in different ways.
        """
        folder = plate.folder / "features" / self.name
        again = f"cellpheno embed plate={plate.path} embedding={self.name}"
        names = {path.stem: tuple(read_attributes(path)["features"]) for path in sorted(folder.glob("*.zarr"))}
        if not names:
            raise InputError(f"{folder} holds no features; run: {again}")
        first, *others = names
        if odd := [well for well in others if names[well] != names[first]]:
            raise InputError(
                f"{folder}: features of {', '.join(odd[:5])} were made otherwise than {first}; run: {again}"
            )
        return names[first], None


@dataclass(frozen=True)
class Fields:
    """Whole fields, read from the plate itself: nothing is segmented, nothing is cut out.

    Parameters
    ----------
    level : int
        Level of the image pyramid: 0 is full size, each next one half of it.

    Examples
    --------
    >>> Fields(level=1).step
    'import_plate'
    """

    level: Annotated[int, Range(0)] = 0
    step: ClassVar[str] = "import_plate"
    same_size: ClassVar[bool] = False
    pictures: ClassVar[bool] = True

    def place(self, plate: Plate, well: str) -> Path:
        """Where the well is: the plate's folder, then the well's name."""
        return plate.path / well

    def optics(self, plate: Plate) -> Optics:
        """Channels, and the pixel size at this level."""
        size = plate.pixel_size_um
        return plate.channels, None if size is None else size * 2**self.level

    def count(self, place: Place) -> int:
        """Count the fields."""
        return len(_fields(place))

    def pixels(self, place: Place, part: slice) -> NDArray[Any]:
        """Pixels (n, c, y, x) of some fields of the well.

        Raises
        ------
        InputError
            If the level is not there, or the fields differ in size.
        """
        return self._stack(place, _fields(place)[part])

    def _stack(self, place: Place, fields: Sequence[Field]) -> NDArray[Any]:
        images = [field.read(level=self.level) for field in fields]
        if len({image.shape for image in images}) > 1:
            told = [f"site {f.site}: {i.shape[1]} x {i.shape[2]}" for f, i in zip(fields, images, strict=True)]
            raise InputError(f"{place}: the fields of a well must be of one size, here {', '.join(told)}")
        return np.stack(images)

    def read(self, place: Place, part: slice) -> Crops:
        """Some fields with their sites; a field's object number is 0."""
        fields = _fields(place)[part]
        pixels = self._stack(place, fields)
        site = np.array([field.site for field in fields], np.int32)
        return Crops(pixels, site, np.zeros_like(site), np.zeros(len(site), bool))

    def sample(self, place: Place) -> NDArray[Any]:
        """Every fourth pixel in y and in x of the first four fields, whole ones where the instances are tiles."""
        return self._stack(place, _fields(place)[:4])[..., ::4, ::4]


@dataclass(frozen=True)
class Tiles(Fields):
    """Squares that tile the fields of a well, as instances like cells: nothing is segmented.

    The squares stand in the middle of the field; what is left over at its borders is not seen. Object numbers count
    the tiles of a field row by row, from 1.

    Parameters
    ----------
    level : int
        Level of the image pyramid.
    tile_px : int
        Side of a tile, in pixels of that level.

    Examples
    --------
    >>> Tiles(tile_px=64).step
    'import_plate'
    """

    tile_px: Annotated[int, Range(1)] = 128

    def count(self, place: Place) -> int:
        """Count the tiles of all fields."""
        fields = _fields(place)
        return len(fields) * len(self._corners(fields[0])) if fields else 0

    def pixels(self, place: Place, part: slice) -> NDArray[Any]:
        """Pixels (n, c, tile_px, tile_px) of some tiles, field by field."""
        return self.read(place, part).pixels

    def read(self, place: Place, part: slice) -> Crops:
        """Some tiles with their keys.

        Raises
        ------
        InputError
            If the fields differ in size, or are smaller than a tile.
        """
        fields = _fields(place)
        corners = self._corners(fields[0])
        per_field = len(corners)
        first, last, _ = part.indices(len(fields) * per_field)
        reached = slice(first // per_field, -(-last // per_field))
        images = self._stack(place, fields[reached])
        cut = [image[:, y : y + self.tile_px, x : x + self.tile_px] for image in images for y, x in corners]
        here = slice(first - reached.start * per_field, last - reached.start * per_field)
        site = np.repeat(np.array([f.site for f in fields[reached]], np.int32), per_field)[here]
        number = np.tile(np.arange(1, per_field + 1, dtype=np.int32), len(images))[here]
        return Crops(np.stack(cut[here]), site, number, np.zeros(len(site), bool))

    def _corners(self, field: Field) -> list[tuple[int, int]]:
        height, width = field.shape(self.level)
        if min(height, width) < self.tile_px:
            raise InputError(f"{field.path}: {height} x {width} pixels at level {self.level}, tile_px={self.tile_px}")
        y, x = ((n % self.tile_px // 2, n // self.tile_px) for n in (height, width))
        return [(y[0] + i * self.tile_px, x[0] + j * self.tile_px) for i in range(y[1]) for j in range(x[1])]


def describe_instances(instances: Instances) -> dict[str, Any]:
    """The kind and its knobs as plain data, as on a card.

    Examples
    --------
    >>> describe_instances(Fields(level=1))
    {'_target_': 'cellpheno.training.instances.Fields', '_partial_': True, 'level': 1}
    """
    made: dict[str, Any] = describe(functools.partial(type(instances), **vars(instances)))
    return made


def _fields(place: Place) -> tuple[Field, ...]:
    path = Path(place)
    return open_plate(path.parent).well(path.name).fields

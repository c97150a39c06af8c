"""Plates, wells and fields: small objects that know where things are on disk and read them with care."""

import difflib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellpheno.errors import DamagedInput, InputError, PlateError
from cellpheno.names import PLATE, SITE, WELL, parse_well, split_well, well_order
from cellpheno.plates import ngff
from cellpheno.plates.faults import plate_faults, well_faults
from cellpheno.plates.levels import Array, image_metadata, open_level, read_planes


@dataclass(frozen=True)
class Plate:
    """A plate on disk; `open_plate` makes it.

    Attributes
    ----------
    path : Path
        The OME-Zarr folder, such as ``P1.zarr``.
    name : str
        The barcode.
    channels : tuple of str
    pixel_size_um : float or None
        None where the plate does not tell it.
    sites : tuple of int or None
        The vendor's numbers of the fields, sorted; None on plates of others, which do not tell them.
    well_paths : tuple of str
        Paths of the wells that the plate lists, as they are spelled there.
    """

    path: Path
    name: str
    channels: tuple[str, ...]
    pixel_size_um: float | None
    sites: tuple[int, ...] | None
    well_paths: tuple[str, ...]

    @property
    def wells(self) -> tuple["Well", ...]:
        """Wells row by row."""
        named = {parse_well(path.replace("/", "")): path for path in self.well_paths}
        return tuple(Well(self, name, self.path / named[name]) for name in sorted(named, key=well_order))

    def well(self, name: str) -> "Well":
        """Well of a name in any spelling.

        Raises
        ------
        InputError
            If the plate lists no such well.
        """
        wells = {well.name: well for well in self.wells}
        wanted = parse_well(name)
        if wanted not in wells:
            raise InputError(f"well {wanted} is not on plate {self.name}, which has {_some(list(wells))}")
        return wells[wanted]

    @property
    def folder(self) -> Path:
        """Folder beside the plate that holds what is computed from it: ``P1`` beside ``P1.zarr``."""
        stem = self.path.name.removesuffix(".zarr").removesuffix(".ome")
        return self.path.with_name(stem if stem != self.path.name else f"{stem}.cellpheno")


@dataclass(frozen=True)
class Well:
    """A well of a plate; its metadata are read when they are asked for, so a damaged well does not stop its plate."""

    plate: Plate
    name: str
    path: Path

    @property
    def row(self) -> str:
        """Letters of the row."""
        return split_well(self.name)[0]

    @property
    def column(self) -> str:
        """Number of the column in two digits."""
        return split_well(self.name)[1]

    @property
    def fields(self) -> tuple["Field", ...]:
        """Fields that the well lists, in that order.

        Raises
        ------
        DamagedInput
            If the well's metadata are missing or faulty.
        """
        with _blaming(self):
            well = ngff.read_metadata(self.path).ome.get("well")
            if not isinstance(well, dict):
                raise DamagedInput(f"{self.path}: no 'well' in its metadata")
            if faults := well_faults(well):
                raise DamagedInput(*(f"{self.path}: {fault}" for fault in faults))
        paths = [str(image["path"]) for image in well["images"]]
        return tuple(self._field(path, position) for position, path in enumerate(paths))

    def _field(self, path: str, position: int) -> "Field":
        index = int(path) if path.isascii() and path.isdigit() else position
        sites = self.plate.sites
        return Field(self, index, sites[index] if sites and index < len(sites) else index, self.path / path)


@dataclass(frozen=True)
class Field:
    """A field of view of a well.

    Attributes
    ----------
    well : Well
    index : int
        Its name in the plate's layout.
    site : int
        The vendor's number, which tables call ``Metadata_Site``; the index where the plate does not tell it.
    path : Path
    """

    well: Well
    index: int
    site: int
    path: Path

    @property
    def metadata(self) -> dict[str, str | int]:
        """What every row of a table about this field carries."""
        return {PLATE: self.well.plate.name, WELL: self.well.name, SITE: self.site}

    def read(self, channels: Sequence[str] | None = None, level: int = 0) -> Array:
        """Read pixels.

        Parameters
        ----------
        channels : sequence of str, optional
            All channels of the plate where left out.
        level : int
            0 is full size, each next level half of it.

        Returns
        -------
        ndarray of shape (c, y, x), in the stored data type

        Raises
        ------
        InputError
            If a channel or level is unknown.
        DamagedInput
            If a file is missing, empty or fails its checksum, or a pixel is nan or infinite: the file and the well are
            named.
        """
        known = self.well.plate.channels
        wanted = known if channels is None else (channels,) if isinstance(channels, str) else tuple(channels)
        if unknown := [name for name in wanted if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(
                f"channels {unknown} are not on plate {self.well.plate.name}, which has {list(known)}{hint}"
            )
        with _blaming(self.well, self.site):
            metadata = image_metadata(self.path)
            here = ngff.channel_names(metadata.ome)
            if here is not None and here != known:
                raise DamagedInput(f"{self.path} has channels {list(here)}, its plate {list(known)}")
            pixels = read_planes(self.path, metadata, level, [known.index(name) for name in wanted], len(known))
            if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():  # our importer refuses them, others do not
                raise DamagedInput(f"{self.path}: pixels that are not finite (nan or infinite)")
            return pixels

    def shape(self, level: int = 0) -> tuple[int, int]:
        """Height and width in pixels at a level, without reading one.

        Raises
        ------
        InputError
            If the level is unknown.
        DamagedInput
            If the metadata or files of the level are missing or damaged.
        """
        with _blaming(self.well, self.site):
            height, width = open_level(self.path, image_metadata(self.path), level).shape[-2:]
        return int(height), int(width)

    def labels(self, name: str) -> np.ndarray[tuple[int, int], np.dtype[np.int32]]:
        """Read a label image at full size.

        Returns
        -------
        ndarray of shape (y, x), int32; 0 is background

        Raises
        ------
        InputError
            If the field has no such labels.
        DamagedInput
            If a file is missing, empty or fails its checksum.
        """
        if name not in self.label_names:
            where = f"plate {self.well.plate.name}, well {self.well.name}, site {self.site}"
            raise InputError(f"{where}: no labels {name!r}, only {list(self.label_names)}; segment the plate first")
        path = self.path / "labels" / name
        with _blaming(self.well, self.site):
            plane = read_planes(path, image_metadata(path), 0, [0], 1)[0]
            low, high = int(plane.min(initial=0)), int(plane.max(initial=0))
            if plane.dtype.kind not in "iu" or low < 0 or high > np.iinfo(np.int32).max:
                raise DamagedInput(f"{path}: {plane.dtype} from {low} to {high}; labels are 0 to 2^31-1")
        labels: np.ndarray[tuple[int, int], np.dtype[np.int32]] = plane.astype(np.int32)
        return labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the field's label images; none while the first ones are being written."""
        group = self.path / "labels"
        if not (group / "zarr.json").exists() and not (group / ".zattrs").exists():
            return ()
        with _blaming(self.well, self.site):
            return tuple(str(name) for name in ngff.read_metadata(group).ome.get("labels", []))


@contextmanager
def _blaming(well: Well, site: int | None = None) -> Iterator[None]:
    """Put the plate, well and site before each fault of a damaged file, whose path then starts at the plate."""
    where = f"plate {well.plate.name}, well {well.name}" + (f", site {site}" if site is not None else "")
    path = well.plate.path
    try:
        yield
    except DamagedInput as error:
        faults = (fault.replace(f"{path}/", f"{path.name}/") for fault in error.faults)
        raise DamagedInput(*(f"{where}: {fault}" for fault in faults)) from error


def open_plate(path: str | Path) -> Plate:
    """Open an OME-NGFF plate, of version 0.4, 0.5 or 0.6, without reading a pixel.

    Parameters
    ----------
    path : path of the plate's folder, such as ``P1.zarr``

    Raises
    ------
    PlateError
        If it is no plate, with what was found instead, or with all faults of its metadata.

    Examples
    --------
    >>> import tempfile
    >>> from cellpheno.plates.write import create_plate
    >>> folder = Path(tempfile.mkdtemp())
    >>> plate = create_plate(folder / "P1.zarr", "P1", {"B03": [1, 2]}, ["DNA"], pixel_size_um=0.65)
    >>> open_plate(folder / "P1.zarr").well("b3").fields[1].metadata
    {'Metadata_Plate': 'P1', 'Metadata_Well': 'B03', 'Metadata_Site': 2}
    """
    path = Path(path)
    if not (path / "zarr.json").exists() and not (path / ".zattrs").exists():
        raise PlateError(f"{path} is no OME-Zarr plate: {_found(path)}")
    try:
        metadata = ngff.read_metadata(path)
    except DamagedInput as error:
        raise PlateError(*error.faults) from error
    listed = metadata.ome.get("plate")
    if not isinstance(listed, dict):
        kind = next((key for key in ("well", "multiscales", "labels") if key in metadata.ome), None)
        hint = f"it holds {kind!r} metadata: give the plate's folder above it" if kind else "it has no plate metadata"
        raise PlateError(f"{path} is no OME-Zarr plate: {hint}")
    if faults := plate_faults(listed):
        raise PlateError(*(f"{path}: {fault}" for fault in faults))
    name = str(listed.get("name") or path.name.removesuffix(".zarr").removesuffix(".ome"))
    paths = tuple(str(well["path"]) for well in listed["wells"])
    ours = metadata.cellpheno
    if {"sites", "channels", "pixel_size_um"} <= ours.keys():
        return Plate(path, name, tuple(ours["channels"]), ours["pixel_size_um"], tuple(ours["sites"]), paths)
    return _foreign_plate(Plate(path, name, (), None, None, paths))


def _foreign_plate(plate: Plate) -> Plate:
    """Plate of another program: channels and pixel size are those of its first field that can be read."""
    faults: list[str] = []
    for well in plate.wells:
        try:
            for field in well.fields:
                metadata = image_metadata(field.path)
                ome = metadata.ome
                channels = ngff.channel_names(ome)
                if channels is None:
                    array = open_level(field.path, metadata, 0)
                    at = ngff.axis_letters(ome["multiscales"][0]).find("c")
                    channels = tuple(str(i) for i in range(array.shape[at] if at >= 0 else 1))
                if len(set(channels)) < len(channels):
                    raise DamagedInput(f"{field.path}: two channels share a name in {list(channels)}")
                return Plate(plate.path, plate.name, channels, ngff.pixel_size_um(ome), None, plate.well_paths)
        except DamagedInput as error:
            faults += error.faults
    raise PlateError(*faults or [f"{plate.path}: the plate lists no well with a field"])


def _found(path: Path) -> str:
    """Say what stands at a path that is no OME-Zarr group, and what to do."""
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob("*.zarr")) if path.parent.is_dir() else []
        return f"nothing is there; beside it are {_some(near)}" if near else "nothing is there"
    if not path.is_dir():
        return "it is a file; give the plate's folder, or import the folder of images first"
    inside = sorted(p.name for p in itertools.islice(path.iterdir(), 1000))
    plates = [name for name in inside if name.endswith(".zarr")]
    if plates:
        return f"it is a folder with the plates {_some(plates)}; give one of them"
    return (
        f"it is a folder with {_some(inside)}; import images into a plate first" if inside else "it is an empty folder"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "") if names else "none"

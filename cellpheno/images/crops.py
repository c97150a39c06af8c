"""Single-cell crops: cut once, then one Zarr group a well, whose cells stand in random order.

``crops/B03.zarr`` holds the arrays ``pixels (n, c, y, x)``, ``site``, ``object_number`` and ``at_border``. A chunk
has whole cells; since cells are stored shuffled, any chunk is a random sample of its well, and a bag is one slice.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from cellpheno.errors import DamagedInput

SHARD_BYTES = 256 * 2**20  # of uncompressed pixels; larger wells are split over several files


class Crops(NamedTuple):
    """Crops of some cells of one well, and where each cell is found again."""

    pixels: NDArray[Any]  # (n, c, y, x), raw dtype
    site: NDArray[np.int32]  # (n,) Metadata_Site
    object_number: NDArray[np.int32]  # (n,) Metadata_ObjectNumber: the label of the cell in its field
    at_border: NDArray[np.bool_]  # (n,) the crop reaches over the field's border and is zero there


def crop_size(cell_areas: NDArray[Any], factor: float = 1.5, multiple: int = 8) -> int:
    """Side of a square crop that shows a typical cell and a rim of its neighbours.

    Parameters
    ----------
    cell_areas : ndarray of shape (n,), pixels; nan is left out
    factor : float
        Side over the diameter of the disc with the median area.
    multiple : int
        The side is rounded up to a multiple of it, as networks that halve the image like.

    Raises
    ------
    ValueError
        If no area is known.

    Examples
    --------
    >>> crop_size(np.array([1200.0, 1300.0, 1400.0]))  # a disc of 1300 pixels is 40.7 wide
    64
    """
    known = cell_areas[np.isfinite(cell_areas)]
    if not len(known):
        raise ValueError("no cell with a known area: give the size of the crops")
    diameter = 2 * math.sqrt(float(np.median(known)) / math.pi)
    return multiple * math.ceil(factor * diameter / multiple)


def sample_cells(n: int, cells_per_well: int | None, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw at most ``cells_per_well`` of ``n`` cells (all where it is None), in random order.

    Examples
    --------
    >>> sorted(sample_cells(3, None, np.random.default_rng(0)).tolist())
    [0, 1, 2]
    """
    if cells_per_well is not None and cells_per_well < 1:
        raise ValueError(f"cells_per_well={cells_per_well}: wanted 1 or more, or None for all cells")
    return generator.permutation(n)[:cells_per_well]


def cut_crops(
    image: NDArray[Any],
    centres: NDArray[Any],
    size: int,
    *,
    cells: NDArray[Any] | None = None,
    object_number: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Cut square crops out of one field, zero outside of it.

    Parameters
    ----------
    image : ndarray of shape (c, y, x)
    centres : ndarray of shape (n, 2), pixels
        Row and column of each centre; the nearest pixel becomes pixel ``size // 2`` of the crop.
    size : int
        Side of a crop, pixels.
    cells : ndarray of shape (y, x), int, optional
        Label image: pixels outside the crop's own cell become zero. By default neighbours are kept.
    object_number : ndarray of shape (n,), int, optional
        Label of each cell in ``cells``.

    Returns
    -------
    pixels : ndarray of shape (n, c, size, size), the image's dtype
    at_border : ndarray of shape (n,), bool
        The crop reaches over the border.

    Raises
    ------
    ValueError
        If a centre is nan or outside the image, or only one of ``cells`` and ``object_number`` is given.

    Examples
    --------
    >>> pixels, at_border = cut_crops(np.arange(12).reshape(1, 3, 4), np.array([[1, 1], [0, 0]]), 2)
    >>> pixels[:, 0].tolist(), at_border.tolist()
    ([[[0, 1], [4, 5]], [[0, 0], [0, 0]]], [False, True])
    """
    if (cells is None) != (object_number is None):
        raise ValueError("crops without neighbours need both the cells' label image and their object numbers")
    n_channels, height, width = image.shape
    inside = (centres > -0.5).all(axis=1) & (centres < (height - 0.5, width - 0.5)).all(axis=1)  # nan is not inside
    if not inside.all():
        rows = np.flatnonzero(~inside).tolist()
        raise ValueError(f"centres of cells {rows[:5]} ({len(rows)} in all) are outside the {height} x {width} image")
    corners = np.floor(centres + 0.5).astype(np.int64) - size // 2  # (n, 2)
    at_border: NDArray[np.bool_] = np.any((corners < 0) | (corners + size > (height, width)), axis=1)
    pixels = np.zeros((len(centres), n_channels, size, size), image.dtype)
    for i, (top, left) in enumerate(corners.tolist()):
        field = np.s_[max(top, 0) : min(top + size, height), max(left, 0) : min(left + size, width)]
        crop = np.s_[field[0].start - top : field[0].stop - top, field[1].start - left : field[1].stop - left]
        pixels[i][:, *crop] = image[:, *field]
        if cells is not None and object_number is not None:
            pixels[i][:, *crop][:, cells[field] != object_number[i]] = 0
    return pixels, at_border


def write_crops(
    path: Path | str, crops: Crops, *, cells_per_chunk: int = 64, shard_bytes: int = SHARD_BYTES, **attributes: Any
) -> None:
    """Write the crops of one well as a new Zarr group.

    The folder grows file by file: write it inside `cellpheno.plates.commit.commit_folder`.

    Parameters
    ----------
    path : path
        Folder to fill, new or empty, such as ``crops/B03.zarr``.
    crops : Crops
        In random order (`sample_cells`). A well without cells is valid.
    cells_per_chunk : int
    shard_bytes : int
        Size of the uncompressed pixels in one file.
    **attributes
        What a reader needs to know: plate, well, channels, pixel_size_um, crop_um, seed.

    Raises
    ------
    ValueError
        If the parts of the crops differ in length.
    FileExistsError
        If there is something in ``path``.
    """
    n = len(crops.pixels)
    if lengths := {name: len(part) for name, part in crops._asdict().items() if len(part) != n}:
        raise ValueError(f"{n} crops, but {lengths}: one value a crop is wanted")
    if Path(path).exists() and any(Path(path).iterdir()):
        raise FileExistsError(f"{path} is not empty; crops are written into a new folder")
    group = zarr.create_group(store=path, zarr_format=3, attributes=attributes)
    chunk = max(1, min(n, cells_per_chunk))
    for name, values in crops._asdict().items():
        chunk_bytes = chunk * values.itemsize * math.prod(values.shape[1:])
        chunks_per_shard = max(1, min(math.ceil(n / chunk), shard_bytes // chunk_bytes))
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(chunk, *values.shape[1:]),
            shards=(chunk * chunks_per_shard, *values.shape[1:]),
            # Noise leaves little to gain: this reads quicker than zstd at no more bytes. Without the checksum a flipped
            # byte reads as pixels.
            compressors=(BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"), Crc32cCodec()),
            dimension_names=("cell", "c", "y", "x")[: values.ndim],
            config={"write_empty_chunks": True},  # a file that is absent is a fault, never zeros
        )
        array[...] = values


def n_crops(path: Path | str) -> int:
    """Count the crops of a well without reading pixels."""
    return _array(path, "pixels").shape[0]


def read_attributes(path: Path | str) -> dict[str, Any]:
    """Read what `write_crops` was told of the well: plate, well, channels, pixel_size_um, crop_um, seed."""
    return dict(zarr.open_group(path, mode="r").attrs)


def read_crops(path: Path | str, cells: slice | None = None) -> Crops:
    """Read the crops of a well, or a slice of them (whole chunks are fastest).

    Parameters
    ----------
    path : path
        What `write_crops` wrote.
    cells : slice, optional
        Of cells in stored order, which is random.

    Returns
    -------
    Crops

    Raises
    ------
    DamagedInput
        If there are no crops at ``path``, or a part of an array is lost or damaged, naming it.
    """
    return Crops(*(_read(path, name, cells or slice(None)) for name in Crops._fields))


def read_pixels(path: Path | str, cells: slice | None = None) -> NDArray[Any]:
    """Read pixels (n, c, y, x) alone, in half the time of `read_crops`, which it is otherwise like."""
    pixels: NDArray[Any] = _read(path, "pixels", cells or slice(None))
    return pixels


def read_keys(path: Path | str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Read site and object number (n,) of a well's cells in stored order, without their pixels."""
    return _read(path, "site", slice(None)), _read(path, "object_number", slice(None))


def _array(path: Path | str, name: str) -> zarr.Array[Any]:
    return zarr.open_array(Path(path) / name, mode="r")


def _read(path: Path | str, name: str, cells: slice) -> Any:
    try:
        array = _array(path, name)
    except FileNotFoundError as error:
        raise DamagedInput(f"{path}: {name} is missing; crop the well again") from error
    if lost := _lost_parts(Path(path) / name, array.shape, array.shards or array.chunks):
        raise DamagedInput(f"{path}: {name} lacks {lost}, lost or of 0 bytes; crop the well again")
    try:
        return array[cells]
    except (ValueError, RuntimeError) as fault:  # a checksum, or a frame that does not unpack
        raise DamagedInput(f"{path}: {name} is damaged ({fault}); delete it and crop the well again") from fault


def _lost_parts(folder: Path, shape: Sequence[int], shard: Sequence[int]) -> list[str]:
    """Files that should be there: Zarr would read zeros in their place."""
    keys = ["/".join(["c", str(i), *["0"] * (len(shape) - 1)]) for i in range(math.ceil(shape[0] / shard[0]))]
    return [key for key in keys if not (folder / key).is_file() or not (folder / key).stat().st_size]

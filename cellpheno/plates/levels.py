"""The pixel arrays of an image: levels, chunks and shards; written whole, read with all their files checked."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from warnings import warn

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from cellpheno.errors import DamagedInput, InputError
from cellpheno.plates.commit import storage_is_lost
from cellpheno.plates.faults import image_faults
from cellpheno.plates.ngff import Metadata, axis_letters, read_metadata

Array = np.ndarray[Any, np.dtype[Any]]
SHARD_BYTES = 256 * 2**20
_ZSTD_LEVEL = 3


def pyramid(image: Array, how: Literal["mean", "nearest"], smallest: int = 256) -> list[Array]:
    """Levels of an image, each half the size of the one before, until the short side is below ``smallest``.

    Parameters
    ----------
    image : ndarray of shape (..., y, x)
    how : {"mean", "nearest"}
        Mean of 2 x 2 pixels (rounded for integers; an odd edge is repeated), or the top left one of them.
    smallest : int, pixels

    Examples
    --------
    >>> [level.shape for level in pyramid(np.zeros((3, 1080, 1081), np.uint16), "mean")]
    [(3, 1080, 1081), (3, 540, 541), (3, 270, 271), (3, 135, 136)]
    """
    levels = [image]
    while min(levels[-1].shape[-2:]) >= smallest:
        last = levels[-1]
        if how == "nearest":
            levels.append(last[..., ::2, ::2])
            continue
        odd = [(0, 0)] * (last.ndim - 2) + [(0, n % 2) for n in last.shape[-2:]]
        even = np.pad(last, odd, mode="edge") if any(n % 2 for n in last.shape[-2:]) else last
        sums = sum(even[..., i::2, j::2].astype(np.float64) for i in (0, 1) for j in (0, 1))
        mean = np.asarray(sums) / 4
        levels.append((np.floor(mean + 0.5) if last.dtype.kind in "iu" else mean).astype(last.dtype))
    return levels


def chunk_length(n: int, wanted: int = 256) -> int:
    """Length of a chunk along an axis of ``n`` pixels: a divisor of ``n`` near ``wanted`` where there is one.

    Examples
    --------
    >>> [chunk_length(n) for n in (1080, 540, 640, 300, 1021, 100)]
    [270, 270, 320, 300, 256, 100]
    """
    near = [d for d in range(wanted // 2, wanted * 3 // 2 + 1) if n % d == 0]
    return min(near, key=lambda d: abs(d - wanted)) if near else min(n, wanted)


def shard_shape(
    shape: Sequence[int], chunks: Sequence[int], itemsize: int, limit: int = SHARD_BYTES
) -> tuple[int, ...]:
    """Shape of a shard: the whole array rounded up to whole chunks, or less where that would exceed ``limit`` bytes.

    Examples
    --------
    >>> shard_shape((5, 1080, 1080), (1, 270, 270), 2)
    (5, 1080, 1080)
    >>> shard_shape((3, 16384, 16384), (1, 256, 256), 2)
    (1, 8192, 16384)
    """
    shard = [-(-n // chunk) * chunk for n, chunk in zip(shape, chunks, strict=True)]
    for axis, chunk in enumerate(chunks):
        one = itemsize * int(np.prod(shard)) // shard[axis]
        if one * shard[axis] > limit:
            shard[axis] = max(limit // (one * chunk), 1) * chunk
    return tuple(shard)


def write_levels(group: Path, levels: Sequence[Array], axes: str) -> None:
    """Write the levels of an image as sharded Zarr v3 arrays "0", "1", ... of a group."""
    for number, level in enumerate(levels):
        chunks = (1,) * (level.ndim - 2) + tuple(chunk_length(n) for n in level.shape[-2:])
        array = zarr.create_array(
            group / str(number),
            shape=level.shape,
            dtype=level.dtype,
            chunks=chunks,
            shards=shard_shape(level.shape, chunks, level.dtype.itemsize),
            compressors=ZstdCodec(level=_ZSTD_LEVEL, checksum=True),  # a flipped bit raises
            fill_value=0,
            dimension_names=list(axes),
            config={"write_empty_chunks": True},  # a missing chunk is then always damage
        )
        array[...] = level


def image_metadata(group: Path) -> Metadata:
    """Read and check the metadata of an image or a label image.

    Raises
    ------
    DamagedInput
        With all faults.
    """
    metadata = read_metadata(group)
    if faults := image_faults(metadata.ome):
        raise DamagedInput(*(f"{group}: {fault}" for fault in faults))
    return metadata


def open_level(group: Path, metadata: Metadata, level: int) -> "zarr.Array[Any]":
    """Open a level and check that all its files are there, since Zarr reads a missing or empty one as zeros.

    Raises
    ------
    InputError
        If there is no such level.
    DamagedInput
        If the array cannot be opened, a file is empty, or one is missing that we wrote. Other programs leave out chunks
        of zeros, so on their plates a missing file is a warning.
    """
    paths = [str(dataset["path"]) for dataset in metadata.ome["multiscales"][0]["datasets"]]
    if not 0 <= level < len(paths):
        raise InputError(f"{group}: level {level}; levels 0 to {len(paths) - 1} are there")
    path = group / paths[level]
    try:
        array = zarr.open_array(path, mode="r")
    except Exception as error:  # Zarr raises many types on damaged metadata
        if storage_is_lost(error):
            raise
        raise DamagedInput(f"{path} cannot be opened ({type(error).__name__}: {error})") from error
    axes = axis_letters(metadata.ome["multiscales"][0])
    if array.ndim != len(axes):
        raise DamagedInput(f"{path} has shape {array.shape}, its metadata tell of axes {axes!r}")
    files = [path / key for _, key in _stored(array)]
    sizes = [file.stat().st_size if file.exists() else None for file in files]
    if 0 in sizes:
        raise DamagedInput(f"{files[sizes.index(0)]} is empty (0 bytes); import or compute the well again")
    if None in sizes and "site" in metadata.cellpheno:  # we write every chunk
        raise DamagedInput(f"{files[sizes.index(None)]} is missing; import or compute the well again")
    if None in sizes:
        warn(f"{sizes.count(None)} of {len(files)} chunks of {path} are absent and read as zeros", stacklevel=3)
    return array


def read_planes(group: Path, metadata: Metadata, level: int, channels: Sequence[int], n_channels: int) -> Array:
    """Read channels of a level whatever axes are stored.

    Returns
    -------
    ndarray of shape (c, y, x), in the stored data type

    Raises
    ------
    DamagedInput
        If there are several time points, z planes or another number of channels, or a file fails its checksum.
    """
    array = open_level(group, metadata, level)
    letters = axis_letters(metadata.ome["multiscales"][0])
    size = dict(zip(letters, array.shape, strict=True))
    if size.get("t", 1) > 1 or size.get("z", 1) > 1:
        raise DamagedInput(f"{group}: {array.shape} along {letters!r}; one time point and one z plane are wanted")
    if size.get("c", 1) != n_channels:
        raise DamagedInput(f"{group}: {size.get('c', 1)} channels are stored, {n_channels} are listed")
    whole = list(channels) == list(range(n_channels))
    planes = []
    try:
        for channel in [slice(None)] if whole else channels:
            at = {"c": channel, "t": 0, "z": 0}
            planes.append(np.asarray(array[tuple(at.get(letter, slice(None)) for letter in letters)]))
    except Exception as error:  # each codec has its own error for damaged bytes
        if isinstance(error, MemoryError) or storage_is_lost(error):
            raise
        file = group / str(metadata.ome["multiscales"][0]["datasets"][level]["path"]) / _damaged_key(array)
        raise DamagedInput(
            f"{file} is damaged ({type(error).__name__}: {error}); import or compute the well again"
        ) from error
    return planes[0].reshape(n_channels, size["y"], size["x"]) if whole else np.stack(planes)


def _stored(array: "zarr.Array[Any]") -> list[tuple[tuple[slice, ...], str]]:
    """Region and path (relative to the array) of each file that holds a chunk or shard."""
    steps = array.shards or array.chunks
    grid = itertools.product(*(range(-(-n // step)) for n, step in zip(array.shape, steps, strict=True)))
    return [
        (
            tuple(slice(i * step, (i + 1) * step) for i, step in zip(at, steps, strict=True)),
            array.metadata.encode_chunk_key(at),
        )
        for at in grid
    ]


def _damaged_key(array: "zarr.Array[Any]") -> str:
    """First file of an array that cannot be decoded alone."""
    for region, key in _stored(array):
        try:
            array[region]
        except Exception:  # whatever the codec raises, this is the file
            return key
    return ""

"""Read one raw plane, TIFF, PNG or BMP, and refuse whatever a reader would pass off as pixels."""

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from cellpheno.errors import DamagedInput
from cellpheno.plates.commit import storage_is_lost

Array = np.ndarray[Any, np.dtype[Any]]
_PNG_MODES = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I": "int32", "F": "float32"}
_COLOURS = ("RGB", "RGBA")


class Header(NamedTuple):
    """Shape (y, x) and data type of a plane, as its file's header tells them."""

    shape: tuple[int, int]
    dtype: str


def plane_header(path: str | Path, page: int | None = None) -> Header:
    """Read a plane's header and check the file's structure, without decoding a pixel.

    Parameters
    ----------
    path : path of a TIFF, PNG or BMP
    page : int, optional
        Page of a TIFF with several; 0 red, 1 green, 2 blue of a colour PNG or BMP. The only page where left out.

    Raises
    ------
    DamagedInput
        If the file is missing, empty, no image or cut short, if strips are absent, or if it holds colours or several
        pages where one plane is wanted. The file is named.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.png"
    >>> Image.fromarray(np.zeros((3, 5), np.uint8)).save(path)
    >>> plane_header(path)
    Header(shape=(3, 5), dtype='uint8')
    """
    return _read(Path(path), page, None, decode=False)[0]


def read_plane(path: str | Path, page: int | None = None, *, expected: Header | None = None) -> Array:
    """Read a plane.

    Parameters
    ----------
    path, page
        As `plane_header`.
    expected : Header, optional
        Common shape and data type of the plate; checked before a pixel is decoded.

    Returns
    -------
    ndarray of shape (y, x)

    Raises
    ------
    DamagedInput
        As `plane_header`, and if shape or data type are not the expected ones, the pixels cannot be decoded, or a
        number is not finite.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.bmp"
    >>> Image.fromarray(np.full((2, 2), 7, np.uint8)).save(path)
    >>> int(read_plane(path).sum())
    28
    """
    header, pixels = _read(Path(path), page, expected, decode=True)
    if pixels is None or pixels.shape != header.shape:
        raise DamagedInput(
            f"{Path(path).name}: decoded to {None if pixels is None else pixels.shape}, its header tells {header}"
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DamagedInput(f"{Path(path).name}: pixels that are not finite (nan or infinite)")
    return pixels


def _read(path: Path, page: int | None, expected: Header | None, *, decode: bool) -> tuple[Header, Array | None]:
    """Open a file, check its header, decode it if asked; every decoder's own errors become one that names the file."""
    try:
        if path.stat().st_size == 0:
            raise DamagedInput(f"{path.name}: empty file (0 bytes); copy it again")
        if path.suffix.lower() in (".tif", ".tiff"):
            with TiffFile(path) as tiff:
                tiff_page = _one_page(path, tiff, page)
                header = check_header(path, _tiff_header(path, tiff_page, path.stat().st_size), expected)
                return header, tiff_page.asarray().astype(header.dtype, copy=False) if decode else None
        with Image.open(path) as image:
            header = check_header(path, _image_header(path, image, page), expected)
            return header, _image_pixels(image, page, header.dtype) if decode else None
    except (DamagedInput, MemoryError):
        raise
    except FileNotFoundError as error:
        raise DamagedInput(f"{path.name}: no such file{' (a link to nowhere)' if path.is_symlink() else ''}") from error
    except Exception as error:  # tifffile, imagecodecs and Pillow raise a dozen types on damaged bytes
        if storage_is_lost(error):
            raise
        kind = path.suffix.lstrip(".").upper()
        reason = f"{type(error).__name__}: {error}".replace(str(path), path.name)  # messages hold no absolute path
        raise DamagedInput(f"{path.name}: no readable {kind} ({reason}); copy it again") from error


def check_header(path: Path, header: Header, expected: Header | None) -> Header:
    """Return a header that fits the plate's.

    Raises
    ------
    DamagedInput
        If shape or data type are others.
    """
    if 0 in header.shape or len(header.shape) != 2:
        raise DamagedInput(f"{path.name}: shape {header.shape}; wanted one plane (y, x) with pixels; copy it again")
    if expected is not None and header.shape != expected.shape:
        raise DamagedInput(
            f"{path.name}: {header.shape[0]} x {header.shape[1]} pixels (y, x), the plate has {expected.shape}"
        )
    if expected is not None and header.dtype != expected.dtype:
        raise DamagedInput(
            f"{path.name}: {header.dtype}, the plate has {expected.dtype}: intensities are not comparable"
        )
    return header


def _one_page(path: Path, tiff: TiffFile, page: int | None) -> TiffPage:
    n = len(tiff.pages)
    if page is None and n > 1:
        raise DamagedInput(f"{path.name}: {n} pages where one plane is wanted; give page= (0 to {n - 1})")
    if n == 0 or not 0 <= (page or 0) < n:
        raise DamagedInput(f"{path.name}: {n} pages, wanted page {page or 0}; copy it again")
    found = cast(TiffPage, tiff.pages[page or 0])  # frames, the other kind, must be asked for
    if n == 1 and (tiff.is_imagej or tiff.is_shaped) and tiff.series[0].size != found.size:
        raise DamagedInput(f"{path.name}: holds {tiff.series[0].shape} in one page where one plane (y, x) is wanted")
    return found


def _tiff_header(path: Path, page: TiffPage, n_bytes: int) -> Header:
    photometric = PHOTOMETRIC(page.photometric)
    if page.samplesperpixel != 1 or photometric == PHOTOMETRIC.RGB:
        raise DamagedInput(f"{path.name}: {page.samplesperpixel} colours a pixel (RGB) where one plane is wanted")
    if photometric == PHOTOMETRIC.PALETTE and not _grey(page.colormap):
        raise DamagedInput(f"{path.name}: colours from a palette, so its numbers are no intensities")
    if photometric == PHOTOMETRIC.MINISWHITE:
        raise DamagedInput(f"{path.name}: stored inverted (0 is white), so its numbers are no intensities")
    if page.dtype is None or len(page.shape) != 2 or 0 in page.shape:
        raise DamagedInput(
            f"{path.name}: shape {page.shape}, data type {page.dtype}; wanted one plane (y, x) with pixels"
        )
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not strips or len(page.dataoffsets) != len(page.databytecounts):
        raise DamagedInput(
            f"{path.name}: {len(page.dataoffsets)} strips with {len(page.databytecounts)} sizes; copy it again"
        )
    if absent := [i for i, (offset, count) in enumerate(strips) if offset == 0 or count == 0]:
        raise DamagedInput(
            f"{path.name}: strip {absent[0]} of {len(strips)} is absent, readers return zeros; copy it again"
        )
    if (last := max(offset + count for offset, count in strips)) > n_bytes:
        raise DamagedInput(f"{path.name}: cut short, {n_bytes} bytes of {last} at least; copy it again")
    return Header((int(page.shape[0]), int(page.shape[1])), np.dtype(page.dtype).name)


def _grey(colormap: Array | None) -> bool:
    """Whether a palette shows number i as grey level i, as some microscopes write grey images."""
    if colormap is None:
        return False
    ramp = np.arange(colormap.shape[1])
    scale = 65535 / (len(ramp) - 1)
    return bool((np.abs(colormap - ramp * scale) <= scale).all())


def _image_header(path: Path, image: Image.Image, page: int | None) -> Header:
    y, x = image.height, image.width
    if image.mode in _COLOURS and page in (0, 1, 2):
        return Header((y, x), "uint8")
    if image.mode in _COLOURS:
        raise DamagedInput(
            f"{path.name}: colours ({image.mode}) where one plane is wanted; give page= 0 red, 1 green, 2 blue"
        )
    if image.mode not in _PNG_MODES:
        raise DamagedInput(
            f"{path.name}: mode {image.mode} (palette, bits or transparency) where grey levels are wanted"
        )
    if page not in (None, 0) or getattr(image, "n_frames", 1) > 1:
        raise DamagedInput(f"{path.name}: {getattr(image, 'n_frames', 1)} frames, wanted the only one; page is {page}")
    sixteen_bit = image.format == "PNG" and image.mode == "I"  # Pillow's older name for a 16-bit PNG
    return Header((y, x), "uint16" if sixteen_bit else _PNG_MODES[image.mode])


def _image_pixels(image: Image.Image, page: int | None, dtype: str) -> Array:
    pixels = np.asarray(image)  # (y, x) or (y, x, colour)
    plane = pixels[..., page or 0] if pixels.ndim == 3 else pixels
    return np.ascontiguousarray(plane).astype(dtype, copy=False)


def plane_warnings(
    pixels: Array, constant: float = 0.999, saturated: float = 0.05, dark_rows: float = 0.25
) -> list[str]:
    """Tell what is suspicious in a plane that could be read.

    Parameters
    ----------
    pixels : ndarray of shape (y, x)
    constant : float
        Fraction of pixels with one value above which the plane is called constant (a closed shutter, an empty file).
    saturated : float
        Fraction of pixels at the largest number of an integer type above which the plane is called saturated.
    dark_rows : float
        Fraction of rows, all of them 0 at the bottom, above which a copy was probably broken off.

    Examples
    --------
    >>> plane_warnings(np.zeros((64, 64), np.uint16))
    ['100.0 % of the pixels are 0']
    """
    middle = pixels.size // 2
    usual = np.partition(pixels, middle, axis=None)[middle]  # a value that most pixels have is their median
    if (share := np.mean(pixels == usual)) > constant:
        return [f"{100 * share:.1f} % of the pixels are {usual}"]
    found = []
    if pixels.dtype.kind in "iu" and (share := np.mean(pixels == np.iinfo(pixels.dtype).max)) > saturated:
        found.append(f"{100 * share:.1f} % of the pixels are saturated")
    rows = np.flatnonzero(pixels.any(axis=1))
    empty = len(pixels) - 1 - (rows[-1] if len(rows) else -1)
    if empty > dark_rows * len(pixels):
        found.append(f"the last {empty} rows are 0; the copy may have broken off")
    return found

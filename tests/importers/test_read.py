"""Every kind of damage is refused by the file's name; what is sound is read as other libraries read it."""

import os

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cellpheno.errors import DamagedInput
from cellpheno.importers.read import Header, plane_header, plane_warnings, read_plane

IMAGE = np.random.default_rng(0).integers(1, 4000, (64, 48), dtype=np.uint16)
RED = np.stack([np.full((4, 5), v, np.uint8) for v in (10, 20, 30)], axis=-1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int16"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"compression": "lzw"}, {"tile": (16, 16)}, {"rowsperstrip": 7}]
)
def test_tiff_is_read_as_written(tmp_path, dtype, byteorder, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE.astype(dtype), byteorder=byteorder, metadata=None, **options)
    assert plane_header(path) == Header((64, 48), dtype)
    read = read_plane(path, expected=Header((64, 48), dtype))
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, IMAGE.astype(dtype))


@pytest.mark.parametrize(("suffix", "dtype"), [("png", "uint8"), ("png", "uint16"), ("bmp", "uint8")])
def test_png_and_bmp_are_read_as_written(tmp_path, suffix, dtype):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(IMAGE.astype(dtype)).save(path)
    assert plane_header(path) == Header((64, 48), dtype)
    np.testing.assert_array_equal(read_plane(path), IMAGE.astype(dtype))


def test_pages_and_colours_are_read_only_when_asked_for(tmp_path):
    stack, colour = tmp_path / "stack.tif", tmp_path / "colour.png"
    tifffile.imwrite(stack, np.stack([IMAGE, IMAGE + 1]), photometric="minisblack", metadata=None)
    Image.fromarray(RED).save(colour)
    with pytest.raises(DamagedInput, match=r"stack\.tif: 2 pages where one plane is wanted; give page= \(0 to 1\)"):
        read_plane(stack)
    np.testing.assert_array_equal(read_plane(stack, 1), IMAGE + 1)
    with pytest.raises(DamagedInput, match="2 pages, wanted page 2"):
        read_plane(stack, 2)
    with pytest.raises(DamagedInput, match=r"colour\.png: colours \(RGB\).*0 red, 1 green, 2 blue"):
        read_plane(colour)
    assert [int(read_plane(colour, page).max()) for page in range(3)] == [10, 20, 30]


def test_grey_palettes_are_grey_and_others_refused(tmp_path):
    grey, colour = tmp_path / "grey.tif", tmp_path / "colour.tif"
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    pixels = IMAGE.astype(np.uint8)
    tifffile.imwrite(grey, pixels, photometric="palette", colormap=ramp)
    tifffile.imwrite(colour, pixels, photometric="palette", colormap=ramp[:, ::-1])
    np.testing.assert_array_equal(read_plane(grey), pixels)
    with pytest.raises(DamagedInput, match=r"colour\.tif: colours from a palette"):
        read_plane(colour)


def absent_strip(path):
    tifffile.imwrite(path, IMAGE, rowsperstrip=16, metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[0].tags["StripOffsets"].overwrite([0, *tiff.pages[0].dataoffsets[1:]])


def stack_in_one_page(path):
    tifffile.imwrite(path, np.stack([IMAGE, IMAGE]), imagej=True)
    with tifffile.TiffFile(path, mode="r+") as tiff:  # as ImageJ writes big stacks: one page tells of many
        tiff.filehandle.seek(tiff.pages[0].offset + 2 + 12 * len(tiff.pages[0].tags))
        tiff.filehandle.write(b"\0\0\0\0")


FAULTS = {
    "zero-byte": (lambda p: p.touch(), "empty file"),
    "eight bytes": (lambda p: p.write_bytes(b"II*\0\x08\0\0\0"), ""),
    "page at offset 0": (lambda p: p.write_bytes(b"II*\0\0\0\0\0"), ""),
    "web page": (lambda p: p.write_text("<html>503</html>"), "no readable TIF"),
    "link to nowhere": (lambda p: p.symlink_to("gone.tif"), "a link to nowhere"),
    "not there": (lambda p: None, "no such file"),
    "a folder": (lambda p: p.mkdir(), ""),
    "absent strip": (absent_strip, "strip 0 of 4 is absent"),
    "colours": (lambda p: tifffile.imwrite(p, RED, photometric="rgb"), "3 colours a pixel"),
    "stack in one page": (stack_in_one_page, r"holds \(2, 64, 48\) in one page"),
    "inverted": (lambda p: tifffile.imwrite(p, IMAGE, photometric="miniswhite"), "0 is white"),
    "other size": (lambda p: tifffile.imwrite(p, IMAGE[:32]), r"32 x 48 pixels \(y, x\), the plate has \(64, 48\)"),
    "axes swapped": (lambda p: tifffile.imwrite(p, IMAGE.T), r"48 x 64 pixels"),
    "other type": (lambda p: tifffile.imwrite(p, IMAGE.astype(np.uint8)), "uint8, the plate has uint16"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_refused_before_pixels_are_decoded(tmp_path, fault):
    path = tmp_path / "P1_B03_s1_w1_DNA.tif"
    make, message = FAULTS[fault]
    make(path)
    with pytest.raises(DamagedInput, match=r"P1_B03_s1_w1_DNA\.tif: .*" + message) as caught:
        read_plane(path, expected=Header((64, 48), "uint16"))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ["raw.tif", "zlib.tif", "a.png", "a.bmp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_file_cut_short_is_refused(tmp_path, name, kept):
    path = tmp_path / name
    if path.suffix == ".tif":
        tifffile.imwrite(path, IMAGE, compression="zlib" if name == "zlib.tif" else None, metadata=None)
    else:
        Image.fromarray(IMAGE.astype(np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DamagedInput, match=path.name):
        read_plane(path)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_flipped_bytes_give_pixels_of_the_header_or_the_named_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "flipped.tif"
    tifffile.imwrite(path, IMAGE[:8, :8], compression=data.draw(st.sampled_from([None, "zlib", "lzw"])))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    read, told = None, ""
    try:
        read = read_plane(path, expected=Header((8, 8), "uint16"))
    except DamagedInput as error:
        told = str(error)
    assert told.startswith("flipped.tif: ") if read is None else (read.shape, read.dtype) == ((8, 8), np.uint16)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[1.0, np.inf]], np.float32))
    with pytest.raises(DamagedInput, match=r"a\.tif: pixels that are not finite"):
        read_plane(tmp_path / "a.tif")


def test_a_lost_disk_blames_no_file(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE)

    def lost(*_, **__):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr("cellpheno.importers.read.TiffFile", lost)
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_plane(tmp_path / "a.tif")
    assert not isinstance(caught.value, DamagedInput)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a, []),
        (lambda a: a * 0, ["100.0 % of the pixels are 0"]),
        (lambda a: a * 0 + 65535, ["100.0 % of the pixels are 65535"]),
        (lambda a: np.where(np.arange(48) < 12, np.uint16(65535), a), ["25.0 % of the pixels are saturated"]),
        (lambda a: np.concatenate([a[:32], a[32:] * 0]), ["the last 32 rows are 0; the copy may have broken off"]),
        (lambda a: np.concatenate([a[:60], a[60:] * 0]), []),
        (lambda a: (a / 4000).astype(np.float32), []),
    ],
)
def test_suspicious_planes_are_told(change, expected):
    assert plane_warnings(change(IMAGE)) == expected

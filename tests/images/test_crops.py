import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellpheno.errors import DamagedInput, Stopped
from cellpheno.images.crops import (
    Crops,
    crop_size,
    cut_crops,
    n_crops,
    read_attributes,
    read_crops,
    read_pixels,
    sample_cells,
    write_crops,
)


def some_crops(n, channels=2, size=6, dtype=np.uint16, seed=0):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 200, (n, channels, size, size)).astype(dtype)
    site, number = generator.integers(1, 9, (2, n)).astype(np.int32)
    return Crops(pixels, site, number, generator.random(n) < 0.3)


def assert_same(first, second):
    for name, a, b in zip(Crops._fields, first, second, strict=True):
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a, b, err_msg=name)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(0, 40),
    channels=st.integers(1, 3),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    cells_per_chunk=st.integers(1, 64),
    shard_bytes=st.sampled_from([1, 2000, 2**28]),
    bounds=st.tuples(st.integers(0, 45), st.integers(0, 45)),
)
def test_write_then_read_is_the_identity(tmp_path_factory, n, channels, dtype, cells_per_chunk, shard_bytes, bounds):
    crops, path = some_crops(n, channels, dtype=dtype), tmp_path_factory.mktemp("crops") / "B03.zarr"
    write_crops(path, crops, cells_per_chunk=cells_per_chunk, shard_bytes=shard_bytes, well="B03")
    assert n_crops(path) == n
    assert_same(read_crops(path), crops)
    part = slice(*sorted(bounds))
    assert_same(read_crops(path, part), Crops(*(array[part] for array in crops)))


def test_attributes_come_back_and_one_file_holds_the_pixels(tmp_path):
    about = {
        "plate": "12E4",
        "well": "B03",
        "channels": ["DNA", "ER"],
        "pixel_size_um": None,
        "crop_um": 32.5,
        "seed": 1,
    }
    write_crops(tmp_path / "B03.zarr", some_crops(200), **about)
    assert read_attributes(tmp_path / "B03.zarr") == about
    assert len([p for p in (tmp_path / "B03.zarr/pixels/c").rglob("*") if p.is_file()]) == 1


def test_crops_of_zeros_are_stored_like_others(tmp_path):
    crops = Crops(np.zeros((3, 1, 2, 2), np.uint8), *np.zeros((2, 3), np.int32), np.zeros(3, bool))
    write_crops(tmp_path / "B03.zarr", crops)
    assert_same(read_crops(tmp_path / "B03.zarr"), crops)


def test_no_flipped_bit_gives_other_pixels(tmp_path):
    path, crops = tmp_path / "B03.zarr", some_crops(5, channels=1, size=4)
    write_crops(path, crops)
    shard = path / "pixels/c/0/0/0/0"
    good, silent = shard.read_bytes(), []
    for i in range(len(good)):
        shard.write_bytes(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :])
        try:
            read = read_crops(path)
        except DamagedInput as error:
            assert "B03.zarr: pixels is damaged" in str(error)  # noqa: PT017 - a bit without meaning may raise nothing
        else:
            assert_same(read, crops)
            silent.append(i)
    assert len(silent) < 0.05 * len(good)


@pytest.mark.parametrize("array", Crops._fields)
def test_a_lost_or_empty_or_cut_file_raises(tmp_path, array):
    path = tmp_path / "B03.zarr"
    write_crops(path, some_crops(20))
    (shard,) = (p for p in (path / array / "c").rglob("*") if p.is_file())
    good = shard.read_bytes()
    shard.write_bytes(good[: len(good) // 2])
    with pytest.raises(DamagedInput, match=f"{array} is damaged"):
        read_crops(path)
    shard.write_bytes(b"")
    with pytest.raises(DamagedInput, match=f"{array} lacks"):
        read_crops(path)
    shard.unlink()
    with pytest.raises(DamagedInput, match=f"{array} lacks"):
        read_crops(path)


def test_a_signal_while_reading_is_not_taken_for_damage(tmp_path, monkeypatch):
    def stopped(*_):
        raise Stopped("signal SIGTERM")

    write_crops(tmp_path / "B03.zarr", some_crops(3))
    monkeypatch.setattr(zarr.Array, "__getitem__", stopped)
    with pytest.raises(Stopped):
        read_pixels(tmp_path / "B03.zarr", slice(0, 1))


def test_writing_refuses(tmp_path):
    write_crops(tmp_path / "B03.zarr", some_crops(2))
    with pytest.raises(FileExistsError, match="not empty"):
        write_crops(tmp_path / "B03.zarr", some_crops(2))
    with pytest.raises(ValueError, match=r"2 crops, but \{'site': 3\}"):
        write_crops(tmp_path / "B04.zarr", some_crops(2)._replace(site=np.zeros(3, np.int32)))
    with pytest.raises(DamagedInput, match=r"B05\.zarr: pixels is missing; crop the well again"):
        read_crops(tmp_path / "B05.zarr")


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9))),
    st.integers(1, 12),
    st.integers(0, 10**6),
)
@settings(deadline=None)
def test_crops_equal_windows_of_the_padded_image(image, size, seed):
    _, height, width = image.shape
    centres = np.random.default_rng(seed).uniform((0, 0), (height - 0.51, width - 0.51), (5, 2))
    pixels, at_border = cut_crops(image, centres, size)
    padded = np.pad(image, ((0, 0), (size, size), (size, size)))
    for crop, border, (y, x) in zip(pixels, at_border, np.floor(centres + 0.5).astype(int) - size // 2, strict=True):
        np.testing.assert_array_equal(crop, padded[:, y + size : y + 2 * size, x + size : x + 2 * size])
        assert border == (y < 0 or x < 0 or y + size > height or x + size > width)


def test_neighbours_are_hidden_on_request():
    image = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3)
    cells = np.array([[1, 1, 2], [1, 2, 2], [0, 2, 2]])
    pixels, _ = cut_crops(image, np.array([[1, 1]]), 3, cells=cells, object_number=np.array([2]))
    assert pixels[0, 0].tolist() == [[0, 0, 3], [0, 5, 6], [0, 8, 9]]


def test_cutting_refuses():
    image = np.zeros((1, 4, 5))
    with pytest.raises(ValueError, match=r"cells \[1, 2\] \(2 in all\) are outside the 4 x 5 image"):
        cut_crops(image, np.array([[0, 0], [4, 0], [np.nan, 1]]), 2)
    with pytest.raises(ValueError, match="both"):
        cut_crops(image, np.zeros((1, 2)), 2, cells=np.zeros((4, 5), int))


def test_sampled_cells_depend_on_the_seed_alone():
    draw = sample_cells(100, 10, np.random.default_rng(3))
    np.testing.assert_array_equal(draw, sample_cells(100, 10, np.random.default_rng(3)))
    assert len(set(draw.tolist())) == 10
    assert not np.array_equal(draw, sample_cells(100, 10, np.random.default_rng(4)))
    assert sorted(sample_cells(7, None, np.random.default_rng(0)).tolist()) == list(range(7))
    with pytest.raises(ValueError, match="cells_per_well=0"):
        sample_cells(7, 0, np.random.default_rng(0))


def test_crop_size_follows_the_median_cell():
    assert crop_size(np.array([np.pi * 10**2, np.nan])) == 32  # 1.5 diameters of 20 pixels: 30
    with pytest.raises(ValueError, match="no cell"):
        crop_size(np.array([np.nan]))

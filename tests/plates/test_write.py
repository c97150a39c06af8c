"""Plates are written, read back the same, and opened by the programs of others."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellpheno.errors import DamagedInput, InputError, PlateError
from cellpheno.plates.commit import hash_tree
from cellpheno.plates.levels import chunk_length, pyramid, shard_shape, write_levels
from cellpheno.plates.plate import open_plate
from cellpheno.plates.write import (
    create_plate,
    drop_empty_wells,
    drop_field,
    field_of,
    list_fields,
    write_image,
    write_labels,
)

WELLS = st.dictionaries(
    st.sampled_from(["A1", "b3", "H-12", "C/07"]),
    st.sets(st.integers(0, 30), min_size=1, max_size=3),
    min_size=1,
    max_size=3,
)


@settings(deadline=None, max_examples=8)
@given(
    wells=WELLS,
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    shape=hnp.array_shapes(min_dims=3, max_dims=3, max_side=40).filter(lambda s: s[0] <= 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_written_is_read_back(tmp_path_factory, wells, dtype, shape, seed):
    rng = np.random.default_rng(seed)
    channels = [f"channel {i}" for i in range(shape[0])]
    path = tmp_path_factory.mktemp("plate") / "P.1.zarr"
    plate = create_plate(path, "P.1", wells, channels, pixel_size_um=0.325)
    images, labels = {}, {}
    for well in plate.wells:
        for field in well.fields:
            image = (rng.random(shape) * (255 if dtype == "uint8" else 65535)).astype(dtype)
            images[well.name, field.site] = image
            labels[well.name, field.site] = rng.integers(0, 2**31, shape[1:], dtype=np.int32)
            write_image(field, image)
            write_labels(field, {"cells": labels[well.name, field.site]})
    again = open_plate(path)
    assert (again.name, again.channels, again.pixel_size_um) == ("P.1", tuple(channels), 0.325)
    assert again.folder == path.parent / "P.1"
    assert sum(len(well.fields) for well in again.wells) == len(images) == sum(map(len, wells.values()))
    pick = [channels[-1], channels[0]]
    for well in again.wells:
        for field in well.fields:
            expected = images[well.name, field.site]
            assert field.metadata == {"Metadata_Plate": "P.1", "Metadata_Well": well.name, "Metadata_Site": field.site}
            assert field.index == again.sites.index(field.site)
            read = field.read()
            assert read.dtype == expected.dtype
            np.testing.assert_array_equal(read, expected)
            np.testing.assert_array_equal(field.read(pick), expected[[-1, 0]])
            np.testing.assert_array_equal(field.labels("cells"), labels[well.name, field.site])


def test_validator_accepts_a_sparse_plate_with_labels(plate):
    yaozarrs.validate_zarr_store(str(plate.path))


def test_programs_of_others_open_the_plate(plate):
    python = os.environ.get("CELLPHENO_READERS_PYTHON")
    if not python:
        pytest.skip("CELLPHENO_READERS_PYTHON names no Python with ngio and ome-zarr-models")
    sums = {
        f"{field.path.relative_to(plate.path)}": [int(field.read().sum()), int(field.labels("nuclei").max())]
        for well in plate.wells
        for field in well.fields
    }
    script = Path(__file__).with_name("readers_check.py")
    done = subprocess.run([python, script, plate.path, json.dumps(sums)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 fields, 0.65 um, DNA FKHR-GFP\n"


def test_one_shard_a_level_a_field_with_names_and_checksums(plate):
    field = plate.well("B03").fields[0]
    stored = sorted(p.relative_to(field.path).as_posix() for p in field.path.rglob("*") if p.is_file())
    levels = [f"{group}{level}" for group in ("", "labels/nuclei/") for level in (0, 1)]
    groups = ["", "labels/", "labels/nuclei/"]
    shards = [f"{level}/c/0/0" + ("" if "labels" in level else "/0") for level in levels]
    assert stored == sorted([*shards, *(f"{x}/zarr.json" for x in levels), *(f"{x}zarr.json" for x in groups)])
    array = zarr.open_array(field.path / "0", mode="r")
    assert (array.shards, array.chunks) == ((2, 300, 280), (1, 300, 280))
    assert array.metadata.dimension_names == ("c", "y", "x")
    inner = json.loads((field.path / "0" / "zarr.json").read_text())["codecs"][0]["configuration"]["codecs"]
    assert inner[-1] == {"name": "zstd", "configuration": {"level": 3, "checksum": True}}
    assert not any("consolidated" in p.read_text() for p in plate.path.rglob("zarr.json"))


def test_a_shard_is_written_for_zeros_too(plate):
    field = plate.well("A01").fields[0]
    write_image(field, np.zeros((2, 300, 280), np.uint16))
    assert (field.path / "0" / "c" / "0" / "0" / "0").stat().st_size > 0
    assert field.read().max() == 0


@given(st.integers(1, 5000))
def test_chunks_divide_the_field_where_they_can(n):
    chunk = chunk_length(n)
    assert min(n, 128) <= chunk <= 384
    dividing = [d for d in range(128, 385) if n % d == 0]
    assert (n % chunk == 0) or not dividing
    assert all(abs(chunk - 256) <= abs(d - 256) for d in dividing)


@given(hnp.array_shapes(min_dims=3, max_dims=3, max_side=5000), st.sampled_from([1, 2, 4]), st.integers(2**19, 2**28))
def test_shards_are_whole_chunks_and_below_the_limit(shape, itemsize, limit):
    chunks = (1, chunk_length(shape[1]), chunk_length(shape[2]))
    shard = shard_shape(shape, chunks, itemsize, limit)
    whole = tuple(-(-n // c) * c for n, c in zip(shape, chunks, strict=True))
    assert all(s % c == 0 and s <= w for s, c, w in zip(shard, chunks, whole, strict=True))
    assert np.prod(shard, dtype=float) * itemsize <= max(limit, 384 * 384 * itemsize)
    assert shard == whole or np.prod(whole, dtype=float) * itemsize > limit


def test_several_shards_above_the_limit_hold_the_same_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_shape, "__defaults__", (2**18,))
    image = np.random.default_rng(0).integers(0, 2**16, (2, 600, 520), dtype=np.uint16)
    write_levels(tmp_path, [image], "cyx")
    assert len(list((tmp_path / "0" / "c").rglob("[0-9]"))) > 4
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "0", mode="r")[...], image)


def test_pyramid_is_the_mean_of_four_pixels_and_labels_the_nearest():
    image = np.array([[[0, 1, 10], [2, 4, 11], [8, 8, 250]]], np.uint8)
    first, second = pyramid(image, "mean", smallest=3)
    assert first is image
    assert second.tolist() == [[[2, 11], [8, 250]]]  # 7/4 rounds to 2, 10.5 to 11, edges are repeated
    assert second.dtype == np.uint8
    assert pyramid(image.astype(np.float32), "mean", 3)[1].tolist() == [[[1.75, 10.5], [8.0, 250.0]]]
    assert pyramid(image[0], "nearest", 3)[1].tolist() == [[0, 10], [8, 250]]
    assert [level.shape[1] for level in pyramid(np.zeros((1, 1080, 1080), np.uint8), "mean")] == [1080, 540, 270, 135]


def test_labels_have_the_levels_of_the_image_and_no_new_values(plate):
    field = plate.well("A01").fields[0]
    labels = field.labels("nuclei")
    small = zarr.open_array(field.path / "labels" / "nuclei" / "1", mode="r")[...]
    np.testing.assert_array_equal(small, labels[::2, ::2])
    write_labels(field, {"cells": np.ones((300, 280), np.int32)})
    assert field.label_names == ("cells", "nuclei")
    np.testing.assert_array_equal(field.labels("nuclei"), labels)


def test_display_windows_are_percentiles(plate):
    field = plate.well("A01").fields[0]
    shown = json.loads((field.path / "zarr.json").read_text())["attributes"]["ome"]["omero"]["channels"]
    low, high = np.percentile(field.read()[0], [0.1, 99.9])
    assert shown[0]["window"] == {"min": 0, "max": 65535, "start": low, "end": high}
    assert [(c["label"], c["color"]) for c in shown] == [("DNA", "0000FF"), ("FKHR-GFP", "00FF00")]


def test_the_same_plate_has_the_same_bytes_and_creating_it_again_changes_none(plate, tmp_path):
    before = hash_tree(plate.path)
    again = create_plate(plate.path, "P1", {"A01": [2], "B3": [2, 5]}, plate.channels, 0.65)
    copy = create_plate(tmp_path / "copy" / "P1.zarr", "P1", {"A01": [2], "B3": [2, 5]}, plate.channels, 0.65)
    for well in reversed(copy.wells):
        for field in well.fields:
            source = again.well(well.name).fields[field.index - well.fields[0].index]
            write_image(field, source.read())
            write_labels(field, {"nuclei": source.labels("nuclei")})
    assert hash_tree(plate.path) == hash_tree(copy.path) == before


def test_another_plate_is_not_written_over_and_sites_may_only_be_added(plate):
    with pytest.raises(PlateError, match="is named 'P1', the new plate 'P2'") as caught:
        create_plate(plate.path, "P2", {"A01": [1]}, ["DNA"], 0.65)
    assert len(caught.value.faults) == 4
    assert create_plate(plate.path, "P1", {"A01": [2, 5, 9]}, plate.channels, 0.65).sites == (2, 5, 9)
    with pytest.raises(PlateError, match="is no OME-Zarr plate"):
        create_plate(plate.path.parent, "P1", {"A01": [2]}, ["DNA"])


def test_lost_fields_and_wells_leave_a_valid_plate(plate):
    lost = field_of(plate.well("B03"), 2)
    drop_field(lost)
    list_fields(plate.well("B03"), [5])
    drop_field(plate.well("A01").fields[0])
    list_fields(plate.well("A01"), [])
    assert drop_empty_wells(plate.path) == ("A01",)
    assert drop_empty_wells(plate.path) == ()
    yaozarrs.validate_zarr_store(str(plate.path))
    assert [(field.index, field.site) for field in open_plate(plate.path).well("B03").fields] == [(1, 5)]
    create_plate(plate.path, "P1", {"A01": [2], "B03": [2, 5]}, plate.channels, 0.65)
    assert [well.name for well in open_plate(plate.path).wells] == ["A01", "B03"]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((1, 9, 9), np.uint16), r"shape \(1, 9, 9\), wanted \(2, y, x\)"),
        (np.zeros((2, 0, 9), np.uint16), "shape"),
        (np.zeros((2, 9, 9), np.int64), "data type int64, wanted one of"),
        (np.full((2, 9, 9), np.nan, np.float32), "not finite"),
    ],
)
def test_pixels_that_do_not_fit_are_refused_and_the_old_ones_stay(plate, pixels, message):
    field = plate.well("A01").fields[0]
    before = field.read()
    with pytest.raises(ValueError, match=message):
        write_image(field, pixels)
    np.testing.assert_array_equal(field.read(), before)


def test_requests_that_cannot_be_a_plate_are_refused(tmp_path, plate):
    for arguments, message in [
        (({}, ["DNA"]), "0 wells"),
        (({"A01": [1]}, []), "0 channels"),
        (({"A01": [1]}, ["FKHR-GFP", "FKHR GFP"]), "would share a column name"),
        (({"A01": [1]}, ["DNA"], -1.0), "pixel_size_um=-1.0"),
        (({"A01": [1]}, ["DNA"], None, 100), "plate_format=100"),
    ]:
        with pytest.raises(ValueError, match=message):
            create_plate(tmp_path / "new.zarr", "P", *arguments)
    with pytest.raises(InputError, match=r"sites \(2, 5\), not 3"):
        field_of(plate.well("A01"), 3)
    with pytest.raises(DamagedInput, match=r"neither zarr\.json nor \.zattrs"):
        write_labels(field_of(plate.well("A01"), 5), {"nuclei": np.zeros((3, 3), np.int32)})
    for labels in (np.zeros((9, 9), np.int32), np.zeros((300, 280), np.int64), np.full((300, 280), -1, np.int32)):
        with pytest.raises(ValueError, match="labels 'nuclei'"):
            write_labels(plate.well("A01").fields[0], {"nuclei": labels})

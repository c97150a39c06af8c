"""Plates of this and other programs are read; damage is never read as pixels."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from cellpheno.errors import DamagedInput, InputError, PlateError
from cellpheno.names import row_name, well_name
from cellpheno.plates.commit import hash_tree, verify_tree
from cellpheno.plates.plate import Plate, open_plate
from cellpheno.plates.write import write_image

SHARD = "0/c/0/0/0"


def foreign_plate(path, axes="cyx", separator="/", version="0.4"):
    """Plate as other programs write it, by hand: Zarr v2, one well "B/3", field "0", nothing of ours."""
    new = version != "0.4"

    def group(folder, part):
        folder.mkdir(parents=True, exist_ok=True)
        if new:
            attributes = {"ome": {"version": version, **part}}
            document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            (folder / "zarr.json").write_text(json.dumps(document))
        else:
            (folder / ".zgroup").write_text('{"zarr_format": 2}')
            (folder / ".zattrs").write_text(json.dumps(part))

    shape = {"t": 1, "c": 2, "z": 1, "y": 40, "x": 50}
    image = np.random.default_rng(0).integers(0, 2**16, [shape[a] for a in axes], dtype=np.uint16)
    rows, columns = [{"name": r} for r in "AB"], [{"name": str(c)} for c in (1, 2, 3)]
    well = {"path": "B/3", "rowIndex": 1, "columnIndex": 2}
    tag = {} if new else {"version": version}
    group(path, {"plate": {"name": "theirs", "rows": rows, "columns": columns, "wells": [well], **tag}})
    group(path / "B", {})
    group(path / "B" / "3", {"well": {"images": [{"path": "0"}], **tag}})
    unit = {"type": "space", "unit": "nanometer"}
    listed = [{"name": a, **(unit if a in "zyx" else {"type": "channel" if a == "c" else "time"})} for a in axes]
    scale = [650.0 if a in "zyx" else 1.0 for a in axes]
    level = {"path": "s0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    omero = {"channels": [{"label": "DNA"}, {"label": "GFP"}]}
    group(path / "B" / "3" / "0", {"multiscales": [{"axes": listed, "datasets": [level], **tag}], "omero": omero})
    encoding = {"name": "default" if new else "v2", "separator": separator}
    array = zarr.create_array(
        path / "B" / "3" / "0" / "s0",
        shape=image.shape,
        dtype=image.dtype,
        chunks=[1] * (len(axes) - 2) + [32, 32],
        fill_value=0,
        zarr_format=3 if new else 2,
        chunk_key_encoding=encoding,
    )
    array[...] = image
    return image.reshape(-1, 40, 50)


@pytest.mark.parametrize(
    ("axes", "separator", "version"),
    [("cyx", "/", "0.4"), ("tczyx", "/", "0.4"), ("tczyx", ".", "0.4"), ("cyx", "/", "0.5"), ("czyx", "/", "0.6")],
)
def test_plates_of_others_are_read(tmp_path, axes, separator, version):
    image = foreign_plate(tmp_path / "theirs.ome.zarr", axes, separator, version)
    plate = open_plate(tmp_path / "theirs.ome.zarr")
    assert (plate.name, plate.channels, plate.pixel_size_um, plate.sites) == ("theirs", ("DNA", "GFP"), 0.65, None)
    assert plate.folder == tmp_path / "theirs"
    (field,) = plate.well("b03").fields
    assert field.metadata == {"Metadata_Plate": "theirs", "Metadata_Well": "B03", "Metadata_Site": 0}
    np.testing.assert_array_equal(field.read(), image)
    np.testing.assert_array_equal(field.read(["GFP"]), image[1:])
    assert field.label_names == ()


def test_a_chunk_that_others_left_out_is_a_warning_and_an_empty_one_is_damage(tmp_path):
    image = foreign_plate(tmp_path / "P.zarr")
    chunk = tmp_path / "P.zarr" / "B" / "3" / "0" / "s0" / "1" / "1" / "0"
    chunk.unlink()
    field = open_plate(tmp_path / "P.zarr").well("B03").fields[0]
    with pytest.warns(UserWarning, match="1 of 8 chunks of .* are absent and read as zeros"):
        read = field.read()
    expected = image.copy()
    expected[1, 32:, :32] = 0
    np.testing.assert_array_equal(read, expected)
    chunk.touch()
    with pytest.raises(DamagedInput, match=r"well B03, site 0: P\.zarr/B/3/0/s0/1/1/0 is empty"):
        field.read()


def test_several_z_planes_are_refused(tmp_path):
    foreign_plate(tmp_path / "P.zarr", "czyx")
    shutil.rmtree(tmp_path / "P.zarr" / "B" / "3" / "0" / "s0")
    zarr.create_array(tmp_path / "P.zarr" / "B" / "3" / "0" / "s0", data=np.ones((2, 3, 4, 4), np.uint8))
    with pytest.raises(DamagedInput, match="one z plane"):
        open_plate(tmp_path / "P.zarr").well("B3").fields[0].read()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_damage_of_their_well(tmp_path, bad):
    foreign_plate(tmp_path / "P.zarr")
    shutil.rmtree(tmp_path / "P.zarr" / "B" / "3" / "0" / "s0")
    image = np.ones((2, 40, 50), np.float32)
    image[1, 3, 4] = bad
    zarr.create_array(tmp_path / "P.zarr" / "B" / "3" / "0" / "s0", data=image)
    field = open_plate(tmp_path / "P.zarr").well("B03").fields[0]
    assert field.read(["DNA"]).max() == 1
    with pytest.raises(DamagedInput, match=r"plate theirs, well B03, site 0: .* not finite"):
        field.read()


@pytest.mark.parametrize("fault", ["deleted", "zero-byte", "cut short"])
@pytest.mark.parametrize("part", [SHARD, "1/c/0/0/0", "labels/nuclei/0/c/0/0"])
def test_lost_shards_never_read_as_zeros(plate, fault, part):
    field = plate.well("B03").fields[1]
    manifest = hash_tree(plate.path)
    path = field.path / part
    whole = path.read_bytes()
    path.unlink()
    if fault != "deleted":
        path.write_bytes(b"" if fault == "zero-byte" else whole[: len(whole) // 2])
    with pytest.raises(DamagedInput, match=f"plate P1, well B03, site 5: P1.zarr/B/03/1/{part}"):
        field.labels("nuclei") if "labels" in part else field.read(level=int(part[0]))
    assert len(verify_tree(plate.path, manifest)) == 1
    assert plate.well("B03").fields[0].read().shape == (2, 300, 280)  # the other field and well go on
    assert plate.well("A01").fields[0].read().shape == (2, 300, 280)


def test_a_flipped_bit_in_every_region_of_a_shard_is_caught(plate):
    field = plate.well("A01").fields[0]
    path = field.path / SHARD
    whole, image = path.read_bytes(), field.read()
    assert len(whole) > 200_000
    every = [
        *range(0, len(whole), len(whole) // 60),
        *range(len(whole) - 40, len(whole)),
    ]  # the index stands at the end
    for position in every:
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(DamagedInput, match=f"well A01, site 2: P1.zarr/A/01/0/{SHARD} is damaged"):
            field.read()
    path.write_bytes(whole)
    np.testing.assert_array_equal(field.read(), image)


def test_a_flipped_bit_in_any_byte_of_a_small_shard_never_changes_a_pixel(plate):
    field = plate.well("A01").fields[0]
    image = np.tile(np.arange(24, dtype=np.uint16), (2, 30, 1))  # compresses to few bytes, all of them of the format
    write_image(field, image)
    path = field.path / SHARD
    whole, caught = path.read_bytes(), 0
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position * 5) % 8
        path.write_bytes(flipped)
        try:
            np.testing.assert_array_equal(field.read(), image)  # one unused bit of Zstandard's frame means nothing
        except DamagedInput:
            caught += 1
    assert caught >= len(whole) - 2


def test_swapped_shards_are_seen_by_the_manifest(plate):
    manifest = hash_tree(plate.path)
    one, two = (field.path / SHARD for field in plate.well("B03").fields)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert len(verify_tree(plate.path, manifest)) == 2


@pytest.mark.parametrize("part", ["zarr.json", "0/zarr.json"])
@pytest.mark.parametrize("content", [None, b"", b'{"zarr_format": 3'])
def test_damaged_metadata_of_a_field_name_well_and_file(plate, part, content):
    field = plate.well("B03").fields[1]
    (field.path / part).unlink()
    if content is not None:
        (field.path / part).write_bytes(content)
    with pytest.raises(DamagedInput, match=r"plate P1, well B03, site 5: P1\.zarr/B/03/1"):
        field.read()


def test_damaged_metadata_of_a_well_do_not_stop_the_plate(plate):
    (plate.path / "B" / "03" / "zarr.json").write_text("<html>")
    again = open_plate(plate.path)
    with pytest.raises(DamagedInput, match=r"well B03: P1\.zarr/B/03/zarr\.json: no readable JSON"):
        again.well("B03").fields
    assert len(again.well("A01").fields) == 1


def test_a_partial_field_is_no_field(plate):
    field = plate.well("A01").fields[0]
    field.path.rename(field.path.with_name("0.partial"))
    with pytest.raises(DamagedInput, match=r"neither zarr\.json nor \.zattrs is there"):
        plate.well("A01").fields[0].read()


def test_what_is_no_plate_is_told_with_what_was_found(tmp_path, plate):
    empty, images = tmp_path / "empty", tmp_path / "images"
    empty.mkdir()
    images.mkdir()
    (images / "a.tif").touch()
    zarr.create_group(tmp_path / "group.zarr")
    for path, message in [
        (tmp_path / "P2.zarr", "nothing is there; beside it are P1.zarr"),
        (images / "a.tif", "it is a file"),
        (images, r"a folder with a\.tif; import images into a plate first"),
        (empty, "it is an empty folder"),
        (tmp_path, r"a folder with the plates P1\.zarr, group\.zarr; give one of them"),
        (plate.path / "B" / "03" / "0", "holds 'multiscales' metadata: give the plate's folder above it"),
        (plate.path / "B" / "03", "holds 'well' metadata"),
        (tmp_path / "group.zarr", "it has no plate metadata"),
    ]:
        with pytest.raises(PlateError, match=message):
            open_plate(path)


def test_all_faults_of_plate_metadata_are_told_at_once(plate):
    path = plate.path / "zarr.json"
    document = json.loads(path.read_text())
    document["attributes"]["ome"]["plate"]["wells"] += [{"path": "B/03"}, {"path": "../../x"}]
    path.write_text(json.dumps(document))
    with pytest.raises(PlateError) as caught:
        open_plate(plate.path)
    assert len(caught.value.faults) == 2
    path.write_text("{")
    with pytest.raises(PlateError, match="no readable JSON"):
        open_plate(plate.path)


def test_unknown_channels_levels_labels_and_wells_are_told_with_what_is_there(plate):
    field = plate.well("A01").fields[0]
    with pytest.raises(InputError, match=r"\['FKHRGFP'\] are not on plate P1.*did you mean 'FKHR-GFP'"):
        field.read(["FKHRGFP"])
    with pytest.raises(InputError, match="levels 0 to 1"):
        field.read(level=2)
    with pytest.raises(InputError, match=r"no labels 'cells', only \['nuclei'\]"):
        field.labels("cells")
    with pytest.raises(InputError, match="well H12 is not on plate P1, which has A01, B03"):
        plate.well("H12")


def test_a_field_whose_channels_differ_from_its_plate_is_damaged(plate):
    path = plate.well("A01").fields[0].path / "zarr.json"
    path.write_text(path.read_text().replace('"label": "DNA"', '"label": "Actin"'))
    with pytest.raises(DamagedInput, match=r"has channels \['Actin', 'FKHR-GFP'\], its plate \['DNA', 'FKHR-GFP'\]"):
        plate.well("A01").fields[0].read()


@given(st.integers(0, 31), st.integers(1, 48), st.sampled_from(["{}{}", "{}-{}", "{}/{}", "{} {}"]), st.booleans())
def test_wells_are_found_in_any_spelling(row, column, spelling, lower):
    name = well_name(row_name(row), column)
    plate = Plate(Path("P.zarr"), "P", ("DNA",), None, None, (f"{row_name(row)}/{column}",))
    text = spelling.format(row_name(row), column)
    well = plate.well(text.lower() if lower else text)
    assert (well.name, f"{well.row}{well.column}") == (name, name)

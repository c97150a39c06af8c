"""A raw folder becomes a plate, a well at a time; what is damaged stays out of it, named, and the rest goes on."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaozarrs
from skimage.io import imread

from cellpheno.errors import InputError
from cellpheno.importers import filename, table
from cellpheno.importers.convert import WellImport, create_planned_plate, import_well, plan_plate
from cellpheno.importers.read import Header
from cellpheno.plates.commit import hash_tree
from cellpheno.plates.plate import open_plate
from cellpheno.plates.write import drop_empty_wells

DATA = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real images of ../shared/data are not here")


def convert(raw, path, wells=None):
    plan = plan_plate(filename.scan(raw))
    create_planned_plate(path, plan)
    return {well: import_well(path, well, plan.wells[well], plan.header) for well in wells or plan.wells}


def test_every_plane_arrives_where_it_belongs(raw, tmp_path):
    results = convert(raw, tmp_path / "SIM1.zarr")
    assert results == {well: WellImport(well, "done", 2, ()) for well in ("A01", "B02", "B10")}
    plate = open_plate(tmp_path / "SIM1.zarr")
    assert (plate.name, plate.channels, plate.sites, plate.pixel_size_um) == ("SIM1", ("DNA", "GFP"), (1, 2), None)
    for well in plate.wells:
        for field in well.fields:
            for i, channel in enumerate(plate.channels):
                source = tifffile.imread(raw / f"SIM1_{well.name}_s{field.site}_w{i + 1}_{channel}.tif")
                np.testing.assert_array_equal(field.read([channel])[0], source)
    yaozarrs.validate_zarr_store(str(plate.path))


def test_order_and_processes_change_no_byte_and_the_source_is_not_written_to(raw, tmp_path):
    before = hash_tree(raw)
    convert(raw, tmp_path / "a" / "SIM1.zarr")
    plan = pickle.loads(pickle.dumps(plan_plate(filename.scan(raw))))
    path = tmp_path / "b" / "SIM1.zarr"
    create_planned_plate(path, plan)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        jobs = [pool.submit(import_well, path, well, plan.wells[well], plan.header) for well in reversed(plan.wells)]
        assert {job.result().status for job in jobs} == {"done"}
    assert hash_tree(path) == hash_tree(tmp_path / "a" / "SIM1.zarr")
    assert hash_tree(raw) == before


def damage_one(raw, channel="w1_DNA", site=1):
    (raw / f"SIM1_B02_s{site}_{channel}.tif").write_bytes(b"")


def test_a_damaged_field_is_left_out_and_named_and_the_rest_goes_on(raw, tmp_path):
    damage_one(raw)
    (raw / "SIM1_B10_s2_w2_GFP.tif").unlink()
    plan = plan_plate(filename.scan(raw))
    assert plan.faults == {
        "B02": ("SIM1_B02_s1_w1_DNA.tif: empty file (0 bytes); copy it again",),
        "B10": ("field 2: no file of channel GFP",),
    }
    results = convert(raw, tmp_path / "SIM1.zarr")
    assert results["A01"].status == "done"
    assert results["B02"] == WellImport("B02", "partial", 1, plan.faults["B02"])
    assert results["B10"] == WellImport("B10", "partial", 1, plan.faults["B10"])
    plate = open_plate(tmp_path / "SIM1.zarr")
    assert {w.name: [f.site for f in w.fields] for w in plate.wells} == {"A01": [1, 2], "B02": [2], "B10": [1]}
    yaozarrs.validate_zarr_store(str(plate.path))


def test_a_well_without_a_sound_field_is_quarantined_and_comes_back_when_repaired(raw, tmp_path):
    path = tmp_path / "SIM1.zarr"
    whole = {p: p.read_bytes() for p in raw.glob("SIM1_B02_*")}
    convert(raw, path)
    sound = hash_tree(path)
    damage_one(raw, site=1)
    damage_one(raw, "w2_GFP", site=2)
    result = convert(raw, path, ["B02"])["B02"]
    assert (result.status, result.n_fields, len(result.messages)) == ("quarantined", 0, 2)
    assert not (path / "B" / "02" / "0").exists()  # no pixels of before the damage are left
    assert drop_empty_wells(path) == ("B02",)
    yaozarrs.validate_zarr_store(str(path))
    for file, content in whole.items():
        file.write_bytes(content)
    assert convert(raw, path, ["B02"])["B02"].status == "done"
    assert hash_tree(path) == sound


def test_a_well_with_fewer_fields_or_suspicious_planes_is_warned_and_one_without_any_missing(raw, tmp_path):
    for file in raw.glob("SIM1_A01_s2_*"):
        file.unlink()
    tifffile.imwrite(raw / "SIM1_B02_s2_w1_DNA.tif", np.zeros((40, 50), np.uint16), metadata=None)
    results = convert(raw, tmp_path / "SIM1.zarr")
    assert results["A01"] == WellImport("A01", "warned", 1, ("field 2: no file, other wells have it",))
    assert results["B02"] == WellImport("B02", "warned", 2, ("SIM1_B02_s2_w1_DNA.tif: 100.0 % of the pixels are 0",))
    plan = plan_plate(filename.scan(raw))
    nothing = import_well(tmp_path / "SIM1.zarr", "B10", plan.wells["B10"].iloc[:0], plan.header)
    assert (nothing.status, nothing.n_fields) == ("missing", 0)


def test_the_common_shape_and_type_are_those_of_most_files(raw):
    tifffile.imwrite(raw / "SIM1_A01_s1_w1_DNA.tif", np.zeros((20, 25), np.uint16), metadata=None)
    tifffile.imwrite(raw / "SIM1_B10_s1_w1_DNA.tif", np.zeros((40, 50), np.uint8), metadata=None)
    plan = plan_plate(filename.scan(raw))
    assert plan.header == Header((40, 50), "uint16")
    assert plan.n_bytes == 3 * 2 * 2 * 40 * 50 * 2
    assert plan.faults["A01"] == ("SIM1_A01_s1_w1_DNA.tif: 20 x 25 pixels (y, x), the plate has (40, 50)",)
    assert "SIM1_B10_s1_w1_DNA.tif: uint8, the plate has uint16" in plan.faults["B10"][0]


def test_faults_of_the_whole_request_are_told_at_once(raw):
    (raw / "SIM2_A01_s1_w1_DNA.tif").touch()
    planes = filename.scan(raw, channels={"DNA": "Cell-1", "GFP": "Cell 1", "Actin": "Actin"})
    with pytest.raises(InputError) as caught:
        plan_plate(planes, pixel_size_um=-1.0)
    told = caught.value.faults
    assert len(told) == 4
    assert "images of 2 plates" in told[0]
    assert told[1] == "channel 'Actin': no file of it anywhere"
    assert "would share a column name" in told[2]
    assert told[3] == "pixel_size_um -1.0; wanted a number > 0"


def test_a_folder_without_a_readable_image_or_with_an_odd_type_is_refused(raw):
    files = sorted(raw.iterdir())
    for file in files:
        tifffile.imwrite(file, np.zeros((4, 4), np.int64))
    with pytest.raises(InputError, match="most images are int64; uint8, uint16, float32 are written"):
        plan_plate(filename.scan(raw))
    for file in files:
        file.write_text("<html>")
    with pytest.raises(InputError, match=r"no image can be read; the first of 12: SIM1_A01_s1_w1_DNA\.tif"):
        plan_plate(filename.scan(raw))


def test_a_well_that_no_plate_has_is_told_and_the_others_go_on(raw):
    for file in list(raw.glob("SIM1_A01_*")):
        file.rename(raw / file.name.replace("A01", "Z99"))
    plan = plan_plate(filename.scan(raw))
    assert list(plan.wells) == ["B02", "B10"]
    assert plan.faults == {"Z99": ("SIM1_Z99_s1_w1_DNA.tif: no plate has a well Z99 (4 files)",)}


@pytest.mark.data
@needs_data
def test_real_tiff_plate_arrives_unchanged(tmp_path):
    folder = DATA / "bbbc013"
    files = {
        s: f"images/Channel{i}-{{ImageNumber:0>2}}-{{Row}}-{{Column}}.tif" for i, s in ((1, "FKHR-GFP"), (2, "DNA"))
    }
    planes = table.scan(folder, table="1049_Metadata.csv", planes=files, well=["Row", "Column"], plate="BBBC013")
    plan = plan_plate(planes)
    assert (plan.header, len(plan.wells), plan.faults) == (Header((640, 640), "uint8"), 96, {})
    create_planned_plate(tmp_path / "BBBC013.zarr", plan)
    assert import_well(tmp_path / "BBBC013.zarr", "C07", plan.wells["C07"], plan.header).status == "done"
    (field,) = open_plate(tmp_path / "BBBC013.zarr").well("C07").fields
    sources = [tifffile.imread(folder / "images" / f"Channel{i}-31-C-07.tif") for i in (1, 2)]
    np.testing.assert_array_equal(field.read(), np.stack(sources))


@pytest.mark.data
@needs_data
def test_real_colour_png_give_one_channel_a_colour(tmp_path):
    (image,) = (DATA / "bbbc021_fields" / "images").glob("bbbc021v1_595.png")
    (tmp_path / image.name).symlink_to(image.resolve())
    (tmp_path / "wells.csv").write_text("well,n\nB02,595\n")
    files = dict.fromkeys(["Actin", "Tubulin", "DNA"], "bbbc021v1_{n}.png")
    known = {"table": "wells.csv", "planes": files, "plate": "P1"}
    plan = plan_plate(table.scan(tmp_path, pages={"Actin": 0, "Tubulin": 1, "DNA": 2}, **known))
    create_planned_plate(tmp_path / "P1.zarr", plan)
    assert import_well(tmp_path / "P1.zarr", "B02", plan.wells["B02"], plan.header).status == "done"
    pixels = open_plate(tmp_path / "P1.zarr").well("B02").fields[0].read()
    np.testing.assert_array_equal(np.moveaxis(pixels, 0, -1), imread(image)[..., :3])
    with pytest.raises(InputError, match=r"no image can be read.*colours \(RGB"):
        plan_plate(table.scan(tmp_path, **known))

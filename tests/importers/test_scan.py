"""Raw folders become plane tables; what cannot be one is refused with what was looked for."""

import logging
from pathlib import Path

import pytest

from cellpheno.errors import ConfigError, InputError
from cellpheno.importers import filename, table
from cellpheno.importers.planes import PLANE_COLUMNS, missing_channels, plane_faults, plane_table, split_wells

BBBC013 = Path(__file__).parents[2] / "../shared/data/bbbc013"


def places(planes):
    columns = (planes[name] for name in ("row", "column", "field", "channel"))
    return [f"{row}{column} {field} {channel}" for row, column, field, channel in zip(*columns, strict=True)]


def test_file_names_are_listed_in_reading_order(raw):
    planes = filename.scan(raw)
    wells = ("A01", "B02", "B10")
    assert places(planes) == [f"{w} {s} {c}" for w in wells for s in (1, 2) for c in ("DNA", "GFP")]
    assert tuple(planes.columns) == PLANE_COLUMNS
    assert set(planes["plate"]) == {"SIM1"}
    assert all(Path(path).exists() for path in planes["path"])
    assert planes["channel"].cat.categories.tolist() == ["DNA", "GFP"]
    assert filename.matches(raw) == "12 of 12 images are named like SIM1_A01_s1_w1_DNA.tif"


def test_litter_is_ignored_and_images_that_do_not_fit_are_logged(raw, caplog):
    before = filename.scan(raw)
    for name in ("._SIM1_A01_s9_w1_DNA.tif", ".DS_Store", "Thumbs.db", "SIM1_A01_s9_w1_DNA.tif~", "notes.txt"):
        (raw / name).write_bytes(b"\0")
    (raw / "overview.png").touch()
    with caplog.at_level(logging.WARNING):
        assert filename.scan(raw).equals(before)
    assert caplog.messages == ["1 images of 13 do not fit the pattern and are left out, such as overview.png"]


def test_channels_are_chosen_renamed_and_ordered(raw):
    planes = filename.scan(raw, channels={"GFP": "FKHR-GFP", "DNA": "Hoechst"})
    assert places(planes)[:2] == ["A01 1 FKHR-GFP", "A01 1 Hoechst"]
    assert len(filename.scan(raw, channels={"GFP": "GFP"})) == 6
    with pytest.raises(InputError, match=r"no image in .* of the channels .*; found are \['DNA', 'GFP'\]"):
        filename.scan(raw, channels={"Actin": "Actin"})


def test_own_patterns_with_rows_columns_and_folders(tmp_path):
    for name in ("P7/r02c03/ch1.tiff", "P7/r02c03/ch10.tiff", "P7/r02c03/ch2.tiff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    pattern = r"(?P<plate>[^/]+)/r\d+c\d+/(?P<channel>ch\d+)\.tiff"
    with pytest.raises(ConfigError, match="wanted a group"):
        filename.scan(tmp_path, pattern=pattern)
    pattern = r"(?P<plate>[^/]+)/r0(?P<row>\d)c(?P<column>\d+)/(?P<channel>ch\d+)\.tiff"
    planes = filename.scan(tmp_path, pattern=pattern, pixel_size_um=0.6)
    assert planes["channel"].cat.categories.tolist() == ["ch1", "ch2", "ch10"]
    assert planes["pixel_size_um"].tolist() == [0.6] * 3
    assert planes["plate"].tolist() == ["P7"] * 3
    wells, unknown = split_wells(planes)  # row "2" is no letter: the well is told, not dropped
    assert (wells, list(unknown)) == ({}, ["203"])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is no regular expression"),
        (r"(?P<well>\w+)", "channel"),
        (r"(?P<well>\w+)_(?P<channel>\w+)_(?P<wave>\d)", "unknown group 'wave'; known are"),
        (r"(?P<well>\w\d+)_(?P<channel>\w+)\.tif", "no group 'plate': give plate="),
    ],
)
def test_patterns_that_cannot_work_are_refused(raw, pattern, message):
    with pytest.raises(ConfigError, match=message):
        filename.scan(raw, pattern=pattern)


def test_no_image_tells_what_was_looked_for(raw, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "._a.tif").touch()
    for arguments, message in [
        ((empty, {}), r"no image in .*empty: looked for \.tif, \.tiff, \.png and \.bmp"),
        ((tmp_path / "gone", {}), "no image folder .*gone: nothing is there"),
        ((raw, {"plate": "P9"}), r"no image of plate 'P9' in .*; found are plates \['SIM1'\]"),
        ((raw, {"plate": "P", "pattern": r"(?P<well>x)(?P<channel>y)"}), "fits importer.pattern.*12, such as SIM1_A01"),
    ]:
        with pytest.raises(InputError, match=message):
            filename.scan(arguments[0], **arguments[1])
    assert filename.matches(empty) is None


def test_a_well_that_no_plate_has_is_kept_and_told_with_its_files(raw):
    (raw / "SIM1_A01_s1_w1_DNA.tif").rename(raw / "SIM1_Z99_s1_w1_DNA.tif")
    planes = filename.scan(raw)
    wells, unknown = split_wells(planes)
    assert list(wells) == ["A01", "B02", "B10"]
    assert unknown == {"Z99": ["SIM1_Z99_s1_w1_DNA.tif"]}
    assert missing_channels(wells["A01"]) == {1: ("DNA",)}


def test_two_files_for_one_plane_and_two_plates_are_told_at_once(raw):
    (raw / "copy").mkdir()
    (raw / "copy" / "SIM1_B02_s1_w1_DNA.tif").touch()
    (raw / "SIM2_A01_s1_w1_DNA.tif").touch()
    first, second = plane_faults(filename.scan(raw))
    assert first == "images of 2 plates ['SIM1', 'SIM2'] in one folder; choose one with plate="
    assert second.startswith("plate SIM1, well B02, field 1, channel DNA: two files claim it, ")
    assert "SIM1_B02_s1_w1_DNA.tif" in second
    assert "copy/SIM1_B02_s1_w1_DNA.tif" in second
    assert len(plane_faults(filename.scan(raw, plate="SIM1"))) == 1
    assert plane_faults(plane_table([], [])) == ("no image: the table of planes is empty",)


def made_table(folder, text, files):
    folder.mkdir(exist_ok=True)
    (folder / "wells.csv").write_text(text)
    for name in files:
        (folder / name).touch()
    return folder


def test_table_fills_its_templates_with_text(tmp_path):
    text = "n,Row,Column,s,compound\n1,A,01,2,NA\n007,B,10,1,1e5\n"
    folder = made_table(tmp_path / "raw", text, ["DNA-01-A-01-NA.png", "DNA-007-B-10-1e5.png"])
    planes = table.scan(
        folder,
        table="wells.csv",
        planes={"GFP": "GFP-{n}.bmp", "DNA": "DNA-{n:0>2}-{Row}-{Column}-{compound}.png"},
        well=["Row", "Column"],
        site="s",
        pages={"DNA": 2},
    )
    assert places(planes) == ["A01 2 GFP", "A01 2 DNA", "B10 1 GFP", "B10 1 DNA"]
    assert [Path(path).name for path in planes["path"]][1::2] == ["DNA-01-A-01-NA.png", "DNA-007-B-10-1e5.png"]
    assert planes["page"].tolist() == [-1, 2, -1, 2]
    assert set(planes["plate"]) == {"raw"}
    assert table.matches(folder) == "wells.csv has Row, Column; give planes= (a file template a channel)"


def test_table_takes_one_plate_of_many(tmp_path):
    folder = made_table(tmp_path, "plate,well\n12E4,A1\n007,A1\n", ["12E4.tif", "007.tif"])
    known = {"table": "wells.csv", "planes": {"DNA": "{plate}.tif"}, "plate_column": "plate"}
    assert table.scan(folder, plate="007", **known)["path"].tolist() == [str(folder / "007.tif")]
    assert len(plane_faults(table.scan(folder, **known))) == 1
    with pytest.raises(InputError, match=r"no image: .* has no row of plate '7'"):
        table.scan(folder, plate="7", **known)


def test_rows_of_a_well_are_numbered_where_no_column_tells_the_field(tmp_path):
    text = "plate,well,file\nP1,A1,a.tif\nP2,A1,b.tif\nP1,A1,c.tif\nP1,B1,d.tif\n"
    folder = made_table(tmp_path / "raw", text, ["a.tif", "b.tif", "c.tif", "d.tif"])
    known = {"table": "wells.csv", "planes": {"DNA": "{file}"}, "plate_column": "plate", "number_sites": True}
    assert places(table.scan(folder, plate="P1", **known)) == ["A01 1 DNA", "A01 2 DNA", "B01 1 DNA"]
    assert places(table.scan(folder, plate="P2", **known)) == ["A01 1 DNA"]


def test_faults_of_a_table_are_told_at_once(tmp_path):
    folder = made_table(tmp_path, "well,s,f\nZ99,1,a\nA1,x,../../b\nA2,2,/c\n", ["a.tif"])
    with pytest.raises(InputError) as caught:
        table.scan(folder, table="wells.csv", planes={"DNA": "{f}.tif"}, site="s")
    told = [fault.replace(str(folder), "raw") for fault in caught.value.faults]
    assert told[0].startswith("raw/wells.csv, line 2: well 'Z99'")
    assert told[1:] == [
        "raw/wells.csv, line 3: site 'x'; wanted a whole number",
        "raw/wells.csv, line 3: file '../../b.tif' stands outside raw",
        "raw/wells.csv, line 4: file '/c.tif' stands outside raw",
    ]
    with pytest.raises(ConfigError) as caught:
        table.scan(folder, table="wells.csv", planes={"DNA": "{F}.tif"}, well="Well", pages={"GFP": 1})
    assert len(caught.value.faults) == 3
    assert "did you mean 'well'?" in caught.value.faults[0]
    made_table(tmp_path, "well,f\nA1,a\n", [])
    with pytest.raises(InputError, match=r"no image: looked for .*gone-a\.tif and 0 more"):
        table.scan(folder, table="wells.csv", planes={"DNA": "gone-{f}.tif"})


def test_folders_without_images_or_tables_match_no_table(tmp_path):
    assert table.matches(tmp_path) is None
    (tmp_path / "a.tif").touch()
    assert table.matches(tmp_path) is None
    (tmp_path / "b.csv").write_text("x,y\n")
    assert table.matches(tmp_path) is None


@pytest.mark.data
@pytest.mark.skipif(not BBBC013.is_dir(), reason="the real images of ../shared/data are not here")
def test_real_plate_with_a_table():
    files = {
        f"{stain}": f"images/Channel{i}-{{ImageNumber:0>2}}-{{Row}}-{{Column}}.tif"
        for i, stain in ((1, "GFP"), (2, "DNA"))
    }
    planes = table.scan(BBBC013, table="1049_Metadata.csv", planes=files, well=["Row", "Column"], plate="BBBC013")
    assert len(planes) == 192
    assert all(Path(path).exists() for path in planes["path"])
    assert plane_faults(planes) == ()

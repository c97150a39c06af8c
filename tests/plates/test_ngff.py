import json

import pytest
from yaozarrs import validate_ome_object

from cellpheno.errors import DamagedInput, InputError
from cellpheno.plates import ngff
from cellpheno.plates.faults import image_faults, plate_faults, well_faults

WINDOW = {"min": 0, "max": 65535, "start": 100, "end": 900}


def group(folder, attributes, name="zarr.json"):
    folder.mkdir(exist_ok=True)
    document = attributes if name == ".zattrs" else {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (folder / name).write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    "attributes",
    [
        ngff.plate_attributes("P1", ["A01", "B03", "H12"], [1, 4], ["DNA", "GFP"], 0.65),
        ngff.plate_attributes("P1", ["AF48"], [0], ["DNA"], None),
        ngff.well_attributes([0, 2]),
        ngff.image_attributes("B03 site 1", ["DNA", "GFP"], 3, 0.65, [WINDOW, WINDOW], 1),
        ngff.image_attributes("B03 site 1", ["DNA"], 1, None, [WINDOW], 1),
        ngff.label_attributes("nuclei", 3, 0.65, 1),
        ngff.labels_attributes(["cells", "nuclei"]),
    ],
)
def test_what_is_built_passes_the_validator(attributes):
    validate_ome_object(attributes["ome"])


def test_plate_takes_the_smallest_format_that_holds_its_wells():
    def shape(wells, plate_format=None):
        plate = ngff.plate_attributes("P", wells, [1], ["DNA"], None, plate_format)["ome"]["plate"]
        return len(plate["rows"]), len(plate["columns"])

    assert [shape(wells) for wells in (["B03"], ["D06"], ["F08"], ["H12"], ["P24"], ["AF48"])] == [
        (2, 3), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48),
    ]  # fmt: skip
    assert shape(["B03"], 96) == (8, 12)
    with pytest.raises(InputError, match="wells \\['I01'\\] stand outside a plate of 8 x 12"):
        shape(["A01", "I01"], 96)


def test_pixel_size_is_read_in_micrometers_whatever_the_unit():
    ome = ngff.image_attributes("f", ["DNA"], 1, 0.5, [WINDOW], 1)["ome"]
    for axis in ome["multiscales"][0]["axes"][1:]:
        axis["unit"] = "nanometer"
    assert ngff.pixel_size_um(ome) == pytest.approx(0.0005)
    assert ngff.pixel_size_um(ngff.image_attributes("f", ["DNA"], 1, None, [WINDOW], 1)["ome"]) is None


@pytest.mark.parametrize("version", ["0.5", "0.5.2", "0.6", "0.6.dev3"])
def test_new_versions_are_read_by_their_string(tmp_path, version):
    metadata = ngff.read_metadata(group(tmp_path, {"ome": {"version": version, "plate": {"name": "x"}}}))
    assert metadata.ome["plate"] == {"name": "x"}
    assert metadata.cellpheno == {}


@pytest.mark.parametrize(
    "part", [{"plate": {"version": "0.4"}}, {"multiscales": [{"version": "0.4"}]}, {"labels": ["a"]}]
)
def test_version_0_4_is_read_in_the_form_of_0_5(tmp_path, part):
    metadata = ngff.read_metadata(group(tmp_path, {**part, "cellpheno": {"site": 3}}, ".zattrs"))
    assert metadata.ome["version"] == "0.4"
    assert metadata.ome.items() >= part.items()
    assert metadata.cellpheno == {"site": 3}


@pytest.mark.parametrize("version", ["0.3", "0.7", "1.0", None, 0.5])
def test_other_versions_are_refused_with_those_that_are_read(tmp_path, version):
    with pytest.raises(DamagedInput, match=r"0\.4, 0\.5 and 0\.6 are read"):
        ngff.read_metadata(group(tmp_path, {"ome": {"version": version, "plate": {}}}))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"attributes": []}', b'{"attributes": {"ome": 3}}'])
def test_damaged_metadata_name_their_file(tmp_path, content):
    (tmp_path / "zarr.json").write_bytes(content)
    with pytest.raises(DamagedInput, match=r"zarr\.json"):
        ngff.read_metadata(tmp_path)


def test_all_faults_of_a_plate_are_told_at_once():
    plate = {
        "rows": [{"name": "A"}, {"name": "A"}],
        "columns": [{"name": "01"}],
        "wells": [
            {"path": "A/01", "rowIndex": 0, "columnIndex": 4},
            {"path": "A/01", "rowIndex": 0, "columnIndex": 0},
            {"path": "../etc"},
            {"path": "C/01"},
            {"path": "AZ/99"},
        ],
    }
    assert plate_faults(plate) == (
        "rows: a name stands there twice",
        "well 'A/01': listed twice",
        "well 'A/01': columnIndex is 4, wanted 0",
        "well '../etc': wanted a path of row/column, such as 'B/03'",
        "well 'C/01': row 'C' is not listed in rows",
        "well 'AZ/99': row 'AZ' is not listed in rows",
        "well 'AZ/99': column '99' is not listed in columns",
        "well 'AZ/99': well 'AZ99': wanted a row A to AF and a column 1 to 48, such as B03",
    )
    assert len(plate_faults({})) == 3


def test_faults_of_wells_and_images():
    assert well_faults({"images": [{"path": "0"}, {"path": "0"}]}) == ("field '0': listed twice",)
    assert well_faults({"images": {}}) == ("images: wanted a list of objects with a path",)
    ome = ngff.image_attributes("f", ["DNA"], 2, 0.5, [WINDOW], 1)["ome"]
    assert image_faults(ome) == ()
    ome["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"] = [1, 1]
    ome["multiscales"][0]["datasets"][0]["path"] = "../../0"
    assert image_faults(ome) == (
        "level '../../0': wanted a path inside the image",
        "level '1': scale [[1, 1]], wanted one number > 0 an axis of 'cyx'",
    )

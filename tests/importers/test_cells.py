import numpy as np
import pytest
import tifffile
from PIL import Image

from cellpheno.errors import DamagedInput, InputError
from cellpheno.importers.cells import cell_header, fit_size, read_cell, scan_cells
from cellpheno.importers.read import Header


def write_table(folder, text):
    (folder / "labels.csv").write_text(text)
    return folder


def test_columns_are_kept_as_typed_and_values_stand_for_wells(tmp_path):
    write_table(tmp_path, "id,phase,track,place\n1,NA,007,north\n2,1e5,008,south\n3,NO,007,north\n")
    cells = scan_cells(tmp_path, table="labels.csv", file="{phase}/{id:0>3}.png", well_by="place")
    assert cells["Metadata_Well"].tolist() == ["A01", "A02", "A01"]
    assert cells["Metadata_ObjectNumber"].tolist() == [1, 1, 2]
    assert cells["Metadata_phase"].tolist() == ["NA", "1e5", "NO"]
    assert cells["Metadata_track"].tolist() == ["007", "008", "007"]
    assert cells["path"].tolist() == [str(tmp_path / name) for name in ("NA/001.png", "1e5/002.png", "NO/003.png")]


def test_wells_sites_and_numbers_of_the_table(tmp_path):
    write_table(tmp_path, "file\tw\ts\tn\ta\nx.png\tb3\t2\t17\tu\ny.png\tB-04\t1\t9\tv\n".replace("\t", ","))
    cells = scan_cells(tmp_path, table="labels.csv", well="w", site="s", number="n", columns=["a"])
    assert list(cells)[:4] == ["Metadata_Well", "Metadata_Site", "Metadata_ObjectNumber", "Metadata_a"]
    assert cells.iloc[:, :4].to_numpy().tolist() == [["B03", 2, 17, "u"], ["B04", 1, 9, "v"]]


def test_more_than_384_values_fill_a_larger_plate(tmp_path):
    write_table(tmp_path, "file,g\n" + "".join(f"{i}.png,{i:04d}\n" for i in range(400)))
    wells = scan_cells(tmp_path, table="labels.csv", well_by="g")["Metadata_Well"]
    assert wells.is_unique
    assert wells.iloc[[0, 47, 48]].tolist() == ["A01", "A48", "B01"]


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"file": "{fle}.png"}, "did you mean {file}"),
        ({"well_by": "quadrat"}, "did you mean 'quadrant'"),
        ({"well": "quadrant", "well_by": "quadrant"}, "give the one or the other"),
        ({"well": "quadrant"}, "line 2: well '0'"),
        ({"site": "file"}, "line 2: file 'a.png'; wanted a whole number"),
        ({"columns": ["Metadata_Well"]}, "no column 'Metadata_Well'"),
        ({"number": "quadrant"}, "line 3: cell A01 1 0 stands in line 2 already"),
        ({"file": "../{file}"}, "stands outside"),
        ({"file": "same.png"}, "file same.png stands in line 2 already"),
    ],
)
def test_faults_name_the_line_and_what_to_do(tmp_path, settings, hint):
    write_table(tmp_path, "file,quadrant\na.png,0\nb.png,0\n")
    with pytest.raises(InputError) as caught:
        scan_cells(tmp_path, table="labels.csv", **settings)
    assert hint in "\n".join(caught.value.faults)


def test_channels_are_colours_or_pages(tmp_path):
    pixels = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    Image.fromarray(np.stack([pixels[0], pixels[1], 0 * pixels[0]], -1)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(np.uint16), photometric="minisblack")
    Image.fromarray(pixels[1]).save(tmp_path / "grey.png")
    expected = Header((4, 4), "uint8")
    two = {"H2B": 1, "tubulin": 0}
    np.testing.assert_array_equal(read_cell(tmp_path / "a.png", two, expected), pixels[::-1])
    np.testing.assert_array_equal(read_cell(tmp_path / "a.tif", two, Header((4, 4), "uint16")), pixels[::-1])
    np.testing.assert_array_equal(read_cell(tmp_path / "grey.png", {"H2B": None}, expected), pixels[1:])
    with pytest.raises(DamagedInput, match=r"grey\.png"):
        cell_header(tmp_path / "grey.png", two)


@pytest.mark.parametrize("shape", [(5, 5), (8, 5), (3, 3), (3, 8), (4, 4)])
def test_the_middle_stays_in_the_middle(shape):
    image = np.zeros((1, *shape), np.uint8)
    image[0, shape[0] // 2, shape[1] // 2] = 7
    out = fit_size(image, 4)
    assert out.shape == (1, 4, 4)
    y, x = np.argwhere(out[0] == 7)[0]
    assert y == 4 // 2
    assert x == 4 // 2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellpheno.errors import PlateError
from cellpheno.names import row_name, well_name
from cellpheno.plates.platemap import read_platemap, read_text_table

NAMES = [
    "NA",
    "NaN",
    "None",
    "null",
    "inf",
    "True",
    "1e5",
    "12E4",
    "007",
    "MARCH1",
    "",
    "µM β-actin",
    "细胞",
    "🧫",
    "é",
]


def write(folder, text, name="map.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def faults(*args, **kwargs):
    with pytest.raises(PlateError) as caught:
        read_platemap(*args, **kwargs)
    return caught.value.faults


def test_text_stays_text(tmp_path):
    lines = "\n".join(f"A{i + 1},{name}" for i, name in enumerate(NAMES))
    table = read_platemap(write(tmp_path, f"well,compound\n{lines}\n"), plate="007")
    assert table["Metadata_compound"].tolist() == NAMES
    assert table["Metadata_Plate"].tolist() == ["007"] * len(NAMES)
    assert table.columns.tolist() == ["Metadata_Plate", "Metadata_Well", "Metadata_compound"]


@given(st.integers(0, 31), st.integers(1, 48), st.sampled_from(["{r}{c}", "{r}{c:02d}", "{r}-{c:02d}", "{r}/{c}"]))
def test_any_spelling_of_a_well(tmp_path_factory, row, column, spelling):
    folder = tmp_path_factory.mktemp("map")
    for text in (spelling.format(r=row_name(row), c=column), spelling.format(r=row_name(row).lower(), c=column)):
        table = read_platemap(write(folder, f"well,x\n{text},1\n"), plate="P")
        assert table["Metadata_Well"].tolist() == [well_name(row_name(row), column)]


@pytest.mark.parametrize(
    ("text", "name", "encoding"),
    [
        ("well,label\nA1,x\nB2,y\n", "map.csv", "utf-8-sig"),
        ("well,label\r\nA1,x\r\nB2,y\r\n", "map.csv", "utf-16"),
        ("well;label\nA1;x\nB2;y\n", "map.csv", "utf-8"),
        ("well\tlabel\nA1\tx\nB2\ty\n", "map.txt", "utf-8"),
        ("\u00a0well , label\u00a0,,\n A1 ,\u00a0x\u00a0,,\n,,,\nB2,\ty,,\n", "map.csv", "utf-8"),
        ('well,label\nA1,"x"\nB2,"y"\nB02,y\n', "map.csv", "utf-8"),
    ],
)
def test_spreadsheets_own_ways_of_writing_the_same_map(tmp_path, text, name, encoding):
    table = read_platemap(write(tmp_path, text, name, encoding), plate="P1")
    assert table.to_numpy().tolist() == [["P1", "A01", "x"], ["P1", "B02", "y"]]


def test_row_and_column_renamed_columns_and_columns_by_row(tmp_path):
    path = write(tmp_path, "ImageNumber,Column,Row,Dose\n1,12,H,0\n2,01,A,10\n")
    table = read_platemap(
        path,
        plate="P1",
        well=["Row", "Column"],
        columns={"dose": "Dose"},
        by_row={"drug": {"A-D": "Wortmannin", "E-H": "LY294002"}, "edge": {"A": "yes"}},
    )
    assert table.columns.tolist() == [
        "Metadata_Plate",
        "Metadata_Well",
        "Metadata_dose",
        "Metadata_drug",
        "Metadata_edge",
    ]
    assert table.to_numpy().tolist() == [
        ["P1", "A01", "10", "Wortmannin", "yes"],
        ["P1", "H12", "0", "LY294002", ""],
    ]


def test_rows_of_the_plate_are_taken_from_a_map_of_many(tmp_path):
    path = write(tmp_path, "barcode,well,label\n000123,A1,x\n12E4,A1,y\n")
    assert read_platemap(path, plate="12E4", plate_column="barcode").to_numpy().tolist() == [["12E4", "A01", "y"]]
    assert read_platemap(path, plate_column="barcode")["Metadata_Plate"].tolist() == ["000123", "12E4"]
    assert (
        "no row of plate 'P9'; column 'barcode' has ['000123', '12E4']"
        in faults(path, plate="P9", plate_column="barcode")[0]
    )


def test_missing_columns_are_told_at_once_with_the_nearest_names(tmp_path):
    path = write(tmp_path, "Well_,Compond,dose\nA1,x,1\n")
    first, second = faults(path, plate="P1", well="well", columns={"label": "compound", "dose": "dose"})
    assert "no column 'well' for the well; did you mean 'Well_'?" in first
    assert "no column 'compound' for the column 'label'; did you mean 'Compond'?" in second


def test_unreadable_and_conflicting_wells_name_their_lines_at_once(tmp_path):
    path = write(tmp_path, "well,label\nZ99,x\nB3,x\n\nB03,y\n,x\n")
    told = [fault.replace(str(path), "map") for fault in faults(path, plate="P1")]
    assert told[0].startswith("map, line 2: well 'Z99'")
    assert told[1].startswith("map, line 6: well ''")
    assert told[2] == "map: well B03 has two rows that differ, lines 3 and 5"


def test_faults_of_the_file_itself(tmp_path):
    write(tmp_path, "well\n", "other.csv")
    with pytest.raises(PlateError, match=r"no such table; tables beside it: \['other\.csv'\]"):
        read_text_table(tmp_path / "map.csv")
    with pytest.raises(PlateError, match="the table is empty"):
        read_text_table(write(tmp_path, "\n,\n"))
    with pytest.raises(PlateError, match="byte 10 is not utf-8"):
        read_text_table(write(tmp_path, "well,dose\n\xb5M,1\n", encoding="latin-1"))
    assert read_text_table(write(tmp_path, "w\n5\xb5M\n", encoding="cp1252"), "cp1252")[1] == [(2, {"w": "5µM"})]
    with pytest.raises(PlateError, match=r"column 'a' stands there twice\n.*line 2: 3 cells, the heading has 2"):
        read_text_table(write(tmp_path, "a,a\n1,2,3\n"))
    assert "no row below the heading" in faults(write(tmp_path, "well,label\n"), plate="P1")[0]


def test_columns_that_are_a_part_of_another_one(tmp_path):
    path = write(tmp_path, "well,plate\nA1,Week3_25421\nA2,Week10_40111\n")
    table = read_platemap(path, plate_column="plate", columns={}, by_pattern={"week": {"plate": "Week([0-9]+)_"}})
    assert table["Metadata_week"].tolist() == ["10", "3"]  # the plates come in the order of their names
    told = faults(path, plate="P1", by_pattern={"week": {"plate": "Day([0-9]+)"}})
    assert "line 2: 'Week3_25421' does not match 'Day([0-9]+)', which makes 'week'" in told[0]
    assert "no column 'plat' for the column 'week'" in faults(path, plate="P1", by_pattern={"week": {"plat": "(.)"}})[0]


def test_overlapping_or_unreadable_rows_and_doubled_names_are_refused(tmp_path):
    path = write(tmp_path, "well,drug\nA1,x\n")
    told = faults(path, plate="P1", by_row={"drug": {"A-D": "x", "D-E": "y", "E-D": "z", "1-2": "z"}})
    assert len(told) == 4
    assert "rows 'D-E'" in told[0]
    assert "rows 'E-D'" in told[1]
    assert "row '1'" in told[2]
    assert "two columns would be called 'Metadata_drug'" in told[3]
    assert "give plate=" in faults(path)[0]

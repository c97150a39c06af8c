"""Features made by other programs: every container gives the same row a well, names stay as typed, nothing is lost."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cellpheno.errors import InputError
from cellpheno.profiles.elsewhere import check_profiles, profile_files, read_profiles
from cellpheno.profiles.matched import unmatched

FLY = Path(__file__).parents[3] / "shared/data/cellprofiler_oracle/example_fly/output"
WELLS = [("007", "B03"), ("007", "B04"), ("NA", "B03")]


def tables(seed=0):
    """Images, of which two are of one well, and the cells and nuclei in them."""
    rng = np.random.default_rng(seed)
    images = pd.DataFrame(
        {
            "ImageNumber": [1, 2, 3, 4],
            "FileName_DNA": ["a.tif", "b.tif", "c.tif", "d.tif"],
            "Metadata_Plate": ["007", "007", "007", "NA"],
            "Metadata_Well": ["b3", "B03", "B-04", "B03"],
        }
    )
    objects = {}
    for name in ("Cells", "Nuclei"):
        number = np.repeat([1, 2, 3, 4], 5)
        values = rng.normal(size=(20, 2))
        values[3, 0] = np.nan
        objects[name] = pd.DataFrame(
            {"ImageNumber": number, "ObjectNumber": np.tile(range(1, 6), 4), "AreaShape_Area": values[:, 0]}
        ).assign(Intensity_MeanIntensity_DNA=values[:, 1])
    return images, objects


def naive():
    """Median of a well's objects, one feature at a time."""
    objects = tables()[1]
    of = {1: WELLS[0], 2: WELLS[0], 3: WELLS[1], 4: WELLS[2]}
    rows = []
    for key in WELLS:
        row = {}
        for name, table in objects.items():
            own = table[[of[n] == key for n in table["ImageNumber"]]]
            for feature in ("AreaShape_Area", "Intensity_MeanIntensity_DNA"):
                row[f"{name}_{feature}"] = np.median([v for v in own[feature] if not np.isnan(v)])
        rows.append(row)
    return pd.DataFrame(rows)


def write(folder, kind):
    images, objects = tables()
    prefixed = {n: t.rename(columns={c: f"{n}_{c}" for c in t if c != "ImageNumber"}) for n, t in objects.items()}
    joined = prefixed["Cells"].join(prefixed["Nuclei"].drop(columns="ImageNumber"))
    cells = images.drop(columns="FileName_DNA").merge(joined, on="ImageNumber").drop(columns="ImageNumber")
    cells = cells.drop(columns=["Cells_ObjectNumber", "Nuclei_ObjectNumber"])
    path = folder / "made"
    if kind == "cellprofiler_csv":
        path.mkdir()
        images.to_csv(path / "MyExpt_Image.csv", index=False)
        for name, table in objects.items():
            table.to_csv(path / f"MyExpt_{name}.csv", index=False)
    elif kind in ("per_compartment.sqlite", "per_object.sqlite"):
        path = folder / kind
        with closing(sqlite3.connect(path)) as connection:
            images.rename(columns=lambda c: c if c == "ImageNumber" else f"Image_{c}").to_sql(
                "MyExpt_Per_Image", connection, index=False
            )
            if kind.startswith("per_object"):
                joined.to_sql("MyExpt_Per_Object", connection, index=False)
            else:
                for name, table in prefixed.items():
                    table.to_sql(f"MyExpt_Per_{name}", connection, index=False)
    elif kind == "cytotable.parquet":
        path = folder / kind
        cells.rename(columns=lambda c: f"Image_{c}" if c.startswith("Metadata_") else c).to_parquet(path)
    elif kind == "parquet_folder":
        path.mkdir()
        for i, (_, part) in enumerate(cells.groupby("Metadata_Plate")):
            part.to_parquet(path / f"part-{i}.parquet")
    else:
        path = folder / kind
        cells.to_csv(path, index=False, sep="\t" if "tsv" in kind else ",")
    return str(path)


@pytest.mark.parametrize(
    "kind",
    [
        *("cellprofiler_csv", "per_compartment.sqlite", "per_object.sqlite", "cytotable.parquet", "parquet_folder"),
        *("cells.csv", "cells.csv.gz", "cells.tsv"),
    ],
)
def test_every_container_gives_the_median_of_each_well(kind, tmp_path, caplog):
    table = read_profiles(write(tmp_path, kind))
    assert list(zip(table["Metadata_Plate"], table["Metadata_Well"], strict=True)) == WELLS
    found = table[[c for c in naive() if c in table]]
    assert found.shape == (3, 4)
    pd.testing.assert_frame_equal(found[naive().columns], naive())
    left = [c for c in table if not c.startswith(("Metadata_", "Cells_A", "Cells_I", "Nuclei_A", "Nuclei_I"))]
    assert all("ObjectNumber" in c for c in left)


def test_profiles_that_are_rows_of_wells_stay_as_they_are_and_text_columns_are_told(tmp_path, caplog):
    path = tmp_path / "profiles.csv"
    path.write_text("Metadata_Plate,Metadata_Well,Metadata_Drug,moa,f0,f1\n1e5,A01,x,k,1.5,inf\n1e5,A02,y,k,,3\n")
    table = read_profiles(str(path))
    assert list(table) == ["Metadata_Plate", "Metadata_Well", "f0", "f1"]
    assert table["Metadata_Plate"].tolist() == ["1e5", "1e5"]
    np.testing.assert_array_equal(table[["f0", "f1"]], [[1.5, np.nan], [np.nan, 3.0]])
    assert "moa" in caplog.text


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Metadata_Plate,Metadata_Well,f\nP,A01,1\n")
    assert read_profiles(str(path))["f"].tolist() == [1]
    path.write_text("Metadata_Plate,Metadata_Well,f\nP,A01,25\n")
    assert read_profiles(str(path))["f"].tolist() == [25]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("Metadata_Plate,f\nP,1\n", {}, "no column Metadata_Well; its Metadata columns: Metadata_Plate"),
        ("Well,f\nA01,1\n", {"well": "Well"}, "no column Metadata_Plate"),
        ("Metadata_Plate,Metadata_Well,f\nP,A01,1\nP,,2\n", {}, "1 of 2 rows have no plate or no well"),
        ("Metadata_Plate,Metadata_Well,f\nP,A99,1\nP,Q,1\n", {}, "'A99'.*\n.*'Q'"),
        ("Metadata_Plate,Metadata_Well,f\nP,A01,x\n", {}, "no column of numbers"),
        ("", {}, "no table that can be read"),
    ],
)
def test_refusals_name_the_file_and_what_is_wrong(text, options, message, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_profiles(str(path), **options)


def test_a_place_without_files_and_objects_without_image_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not there"):
        profile_files(str(tmp_path / "no"))
    with pytest.raises(InputError, match=r"0 files \*Image.csv"):
        profile_files(str(tmp_path))
    made = Path(write(tmp_path, "cellprofiler_csv"))
    table = pd.read_csv(made / "MyExpt_Image.csv", dtype=str, keep_default_na=False)
    table.iloc[1:].to_csv(made / "MyExpt_Image.csv", index=False)
    with pytest.raises(InputError, match="5 of 20 objects are of images"):
        read_profiles(str(made))


def test_one_plate_that_is_not_named(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("Metadata_Well,f\nA1,1\n")
    assert read_profiles(str(path), one_plate="SIM1").iloc[0].tolist() == ["SIM1", "A01", 1.0]


def test_a_run_that_shares_no_well_with_them_is_refused():
    profiles = pd.DataFrame({"Metadata_Plate": ["X"], "Metadata_Well": ["A01"]})
    with pytest.raises(InputError, match="its plates are X, the run's are P1"):
        unmatched(profiles.assign(Metadata_Plate="P1"), profiles, "p.csv")


def test_wells_that_only_one_side_has_are_told_of_both():
    wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["B03", "B04"]})
    theirs = pd.DataFrame({"Metadata_Plate": ["P2", "P1", "P2"], "Metadata_Well": ["C01", "B03", "B03"]})
    assert unmatched(wells, theirs, "p.csv") == ({"P1": ["B04"]}, {"P2": ["B03", "C01"]})


@pytest.mark.parametrize("position", range(15, 400, 35))
def test_a_damaged_packed_file_is_refused_or_read_alike(position, tmp_path):
    path = Path(write(tmp_path, "cells.csv.gz"))
    whole = bytearray(path.read_bytes())
    whole[position : position + 8] = b"\xff" * 8
    path.write_bytes(whole)
    for ask in (read_profiles, check_profiles):
        with pytest.raises(InputError, match=r"cells\.csv\.gz: no table that can be read"):
            ask(str(path))


def test_a_header_that_is_no_header_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("Metadata_Plate,Metadata_Well," + "f" * 200_000 + "\nP,A01,1\n")
    with pytest.raises(InputError, match=r"no table that can be read .field larger than field limit"):
        read_profiles(str(tmp_path / "p.csv"))


def test_a_number_that_is_none_is_named_and_does_not_cost_its_feature(tmp_path):
    (tmp_path / "p.csv").write_text("Metadata_Plate,Metadata_Well,f\nP,A01,1\nP,A02,oops\nP,A03,2\n")
    with pytest.raises(InputError, match="1 of 3 values of f are no numbers, such as 'oops'"):
        read_profiles(str(tmp_path / "p.csv"))


def test_files_of_other_columns_are_refused(tmp_path):
    for name, columns in (("a", ["f", "g"]), ("b", ["f"])):
        rows = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": ["A01"], "Metadata_more": name})
        rows.assign(**dict.fromkeys(columns, 1.0)).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=r"b\.parquet lacks 1 columns of a\.parquet, such as g"):
        read_profiles(str(tmp_path))


@pytest.mark.data
@pytest.mark.skipif(not FLY.is_dir(), reason="needs ../shared/data/cellprofiler_oracle")
def test_cellprofilers_own_files_are_read(tmp_path):
    for name in ("Image", "Cells", "Nuclei", "Cytoplasm"):
        shutil.copy(FLY / f"{name}.csv", tmp_path / f"{name}.csv")
        (tmp_path / f"{name}.csv").chmod(0o644)
    images = pd.read_csv(tmp_path / "Image.csv", dtype=str)
    images.assign(Metadata_Well=["A01", "A02", "A02"]).to_csv(tmp_path / "Image.csv", index=False)
    table = read_profiles(str(tmp_path), one_plate="fly").set_index("Metadata_Well")
    cells = pd.read_csv(FLY / "Cells.csv")
    own = cells[cells["ImageNumber"] > 1]
    assert table.loc["A02", "Cells_AreaShape_Area"] == np.median(own["AreaShape_Area"])
    nuclei = pd.read_csv(FLY / "Nuclei.csv").query("ImageNumber == 1")
    features = [c for c in nuclei if c not in ("ImageNumber", "ObjectNumber")]
    expected = [np.nanmedian(nuclei[c]) for c in features]
    np.testing.assert_allclose(table.loc["A01", [f"Nuclei_{c}" for c in features]].astype(float), expected)
    assert table.shape[0] == 2
    assert table.shape[1] > 300


def test_the_number_of_a_row_is_no_feature(tmp_path, caplog):
    """Rows stand in the order of the plate, or of its classes."""
    rows = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["B02", "B03"], "Cells_A": [1.0, 2.0]})
    rows = rows.assign(dose=[1, 2])
    rows.to_csv(tmp_path / "indexed.csv")
    with caplog.at_level("INFO", "cellpheno"):
        found = read_profiles(str(tmp_path / "indexed.csv"))
    assert list(found) == ["Metadata_Plate", "Metadata_Well", "Cells_A", "dose"]
    assert "numbers of rows are left out: Unnamed: 0" in caplog.text
    assert "taken as features, though of no compartment: dose" in caplog.text


def test_two_tables_of_one_compartment_are_refused(tmp_path):
    (tmp_path / "Run_Image.csv").write_text("ImageNumber,Metadata_Plate,Metadata_Well\n1,P1,B02\n")
    for name in ("Nuclei", "FilteredNuclei"):
        (tmp_path / f"Run_{name}.csv").write_text("ImageNumber,ObjectNumber,AreaShape_Area\n1,1,5\n")
    with pytest.raises(InputError, match=r"AreaShape_Area twice.*Run_FilteredNuclei\.csv, Run_Nuclei\.csv"):
        read_profiles(str(tmp_path))

import functools
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from cellpheno.batch.engine import run_jobs
from cellpheno.batch.ledger import read_record
from cellpheno.errors import InputError
from cellpheno.measure.area_shape import area_shape
from cellpheno.measure.field import measure_field
from cellpheno.measure.intensity import intensity
from cellpheno.names import CELL_KEYS
from cellpheno.plates.write import create_plate, write_image
from cellpheno.profiles.aggregate import aggregate
from cellpheno.stages import cell_tables
from cellpheno.stages.cell_tables import cells_path, open_cells, read_cells, write_cells
from cellpheno.stages.measure import measure, measure_well
from cellpheno.stages.segment import segment

ONE = functools.partial(run_jobs, workers=1)
MEASURED = {"shape": {"area_shape": area_shape}, "channel": {"intensity": intensity}}
WELLS = {"B02": [1, 3], "AA01": [1, 3], "A10": [3], "A09": [1]}
EMPTY = "A09"


def squares(image, channels=(), metadata=None):
    """Cells of 28 x 28 pixels and less with a nucleus in each; none in a black image."""
    index = np.indices(image.shape[1:]) // 32
    cells = 1 + index[0] * (image.shape[2] // 32) + index[1]
    y, x = np.indices(image.shape[1:]) % 32
    cells = np.where((y < 28 - cells % 5) & (x < 28) & (image.max() > 0), cells, 0)
    nuclei = np.where((abs(y - 12) < 6) & (abs(x - 12) < 7), cells, 0)
    labels = {"cells": cells, "nuclei": nuclei, "cytoplasm": np.where(nuclei > 0, 0, cells)}
    return {name: label.astype(np.int32) for name, label in labels.items()}


def make_plate(path, wells, side=96, brighter=(), measurements=MEASURED):
    """Write, segment and measure a plate of two channels; a well in ``brighter`` has half more of the second one."""
    plate = create_plate(path, path.stem, wells, ["DNA", "FKHR-GFP"], pixel_size_um=0.65)
    rng = np.random.default_rng(0)
    for well in plate.wells:
        for field in well.fields:
            image = rng.integers(500, 4000, (2, side, side), np.uint16)
            image[1] += (well.name in brighter) * image[1] // 2
            write_image(field, image * np.uint16(well.name != EMPTY))
    segment(path, squares, ONE)
    assert measure(path, measurements, ONE).exit_code == 0
    return plate


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    return make_plate(tmp_path_factory.mktemp("cells") / "P1.zarr", WELLS)


def test_the_tables_of_all_wells_open_as_one_in_the_order_of_the_plate(plate):
    expected = []
    for well in plate.wells:
        for field in well.fields:
            labels = {name: field.labels(name) for name in field.label_names}
            table = measure_field(labels, field.read(), plate.channels, MEASURED)
            expected.append(pd.DataFrame(field.metadata, index=table.index).join(table))
    cells = open_cells(plate)
    assert cells.count_rows() == 9 * 5
    table = cells.to_table().to_pandas()
    pd.testing.assert_frame_equal(table, pd.concat(expected, ignore_index=True), check_dtype=False)
    assert table.columns[:4].tolist() == list(CELL_KEYS)
    assert table["Metadata_Well"].unique().tolist() == ["A10", "B02", "AA01"]
    pd.testing.assert_frame_equal(read_cells(plate), table)


def test_some_columns_of_some_wells(plate):
    table = read_cells(plate, ["Nuclei_Intensity_M*_FKHRGFP", "Cells_AreaShape_Area"], ["B2", "A10"])
    names = {f"Nuclei_Intensity_{name}_FKHRGFP" for name in ("MeanIntensity", "MeanIntensityEdge", "MedianIntensity")}
    assert {"Cells_AreaShape_Area", *names} < set(table.columns[4:])
    assert not any(name.startswith("Cytoplasm") for name in table)
    assert not any("DNA" in name for name in table)
    assert table["Metadata_Well"].tolist() == ["A10"] * 9 + ["B02"] * 18
    batches = open_cells(plate, ["AA01"]).to_batches(columns=["Metadata_Site"])
    assert [site for batch in batches for site in batch.column(0).to_pylist()] == [1] * 9 + [3] * 9


def test_every_well_has_the_same_types_even_one_without_cells(plate):
    schemas = [pa.parquet.read_schema(cells_path(plate.folder, well)) for well in WELLS]
    assert all(schema.equals(schemas[0]) for schema in schemas)
    types = dict(zip(schemas[0].names, schemas[0].types, strict=True))
    assert [str(types.pop(key)) for key in CELL_KEYS] == ["string", "string", "int64", "int64"]
    assert set(types.values()) == {pa.float64()}
    assert read_cells(plate, wells=[EMPTY]).empty
    assert aggregate(read_cells(plate))["Metadata_Count_Cells"].tolist() == [9, 18, 18]


def test_wells_that_cannot_be_opened_are_named(plate, tmp_path):
    with pytest.raises(InputError, match=r"no cell table of B03; .*status.csv tells why"):
        open_cells(plate, ["B02", "B03"])
    with pytest.raises(InputError, match=r"columns \['Cells_Area'\] match none of the"):
        read_cells(plate, ["Cells_Area"])
    with pytest.raises(InputError, match="no well is measured yet; run: cellpheno measure"):
        open_cells(create_plate(tmp_path / "P2.zarr", "P2", {"B02": [1]}, ["DNA"]))
    small = make_plate(tmp_path / "P3.zarr", {"B02": [1], "B03": [1], "B04": [1]}, side=32)
    measure(small.path, {"shape": MEASURED["shape"]}, ONE, wells=["B03"])
    with pytest.raises(InputError, match=r"measured differently \(B02, B04 \| B03\)"):
        open_cells(small)
    assert open_cells(small, ["B03"]).count_rows() == 1
    record = read_record(small.folder, "B03")
    record["segment"]["status"] = "quarantined"
    (small.folder / "ledger" / "B03.json").write_text(json.dumps(record))
    assert open_cells(small).count_rows() == 2  # without the well that is set aside


def some_fields(n, columns=50, rows=40):
    for site in range(n):
        values = np.random.default_rng(site).random((rows, columns))
        table = pd.DataFrame(values, columns=[f"Cells_AreaShape_{i}" for i in range(columns)])
        table.insert(0, "Metadata_Site", site)
        yield table


def test_a_well_of_many_fields_is_written_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(cell_tables, "ROWS", 100)
    assert write_cells(tmp_path / "B03.parquet", some_fields(7))["n_cells"] == 280
    file = pa.parquet.ParquetFile(tmp_path / "B03.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [120, 120, 40]
    expected = pd.concat(some_fields(7), ignore_index=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "B03.parquet"), expected)
    with pytest.raises(ValueError, match=r"differ in 1 columns, such as \['Cells_AreaShape_4'\]"):
        write_cells(tmp_path / "B04.parquet", [*some_fields(1, 4), *some_fields(1, 5)])
    assert not (tmp_path / "B04.parquet").exists()


def peak(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_with_neither_fields_nor_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(cell_tables, "ROWS", 100)
    few, many = (peak(lambda n=n: write_cells(tmp_path / "B03.parquet", some_fields(n))) for n in (4, 40))
    assert many < 1.2 * few
    path = tmp_path / "P1.zarr"
    make_plate(path, {"B02": [1, 2], "B03": [*range(1, 7)]}, side=320, measurements={})
    few, many = (peak(lambda well=well: measure_well(path, well, MEASURED)) for well in ("B02", "B03"))
    assert many < few + 4 * 320 * 320  # less than one label image more, though there are four fields more


def test_kernels_are_compiled_before_the_first_well_and_by_no_worker(tmp_path):
    make_plate(tmp_path / "P1.zarr", {"B02": [1], "B03": [1]}, side=32, measurements=MEASURED)
    script = """
from pathlib import Path
from cellpheno.batch.engine import run_jobs
from cellpheno.stages.measure import measure
if __name__ == "__main__":
    def engine(step, jobs, **where):
        print(len(list(Path("cache").rglob("*.nbc"))))
        return run_jobs(step, jobs, workers=2, **where)
    assert measure(Path("P1.zarr"), {}, engine).exit_code == 0
"""
    (tmp_path / "script.py").write_text(script)
    environment = {"NUMBA_CACHE_DIR": "cache", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(list((tmp_path / "cache").rglob("*.nbc"))) > 0  # workers added none


def test_nothing_is_compiled_where_nothing_is_to_do(plate, monkeypatch):
    monkeypatch.setattr("cellpheno.stages.measure.warm_up", lambda *_: pytest.fail("warmed up"))
    assert measure(plate.path, MEASURED, ONE).exit_code == 0


def test_pycytominer_and_copairs_read_the_tables_as_they_are(tmp_path):
    python = os.environ.get("CELLPHENO_READERS_PYTHON")
    if not python:
        pytest.skip("CELLPHENO_READERS_PYTHON names no Python with pycytominer and copairs")
    wells = [f"{row}{column:02d}" for row in "BC" for column in range(1, 6)]
    made = make_plate(tmp_path / "P1.zarr", {well: [1, 2] for well in wells}, 64, [w for w in wells if w[0] == "C"])
    aggregate(read_cells(made)).to_parquet(tmp_path / "wells.parquet")
    platemap = pd.DataFrame({"well_position": wells, "compound": ["none" if w[0] == "B" else "drug" for w in wells]})
    platemap.to_csv(tmp_path / "platemap.csv", index=False)
    script = Path(__file__).with_name("profilers_check.py")
    command = [python, script, made.folder / "cells", tmp_path / "platemap.csv", tmp_path / "wells.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "10 wells, 80 cells, drug 1.00\n"

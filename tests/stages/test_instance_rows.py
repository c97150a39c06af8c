"""Tables of instances, a well at a time: what one table of all would hold, in the memory of one well."""

import tracemalloc

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from cellpheno.components import describe
from cellpheno.images.crops import Crops
from cellpheno.models.mil import MILClassifier
from cellpheno.models.pooling import NoisyAnd
from cellpheno.models.transforms import PlatePercentiles
from cellpheno.names import CELL_KEYS, PLATE, WELL
from cellpheno.stages import predict as stage
from cellpheno.stages.instance_rows import commit_rows, merge_rows
from cellpheno.training.checkpoint import Checkpoint
from cellpheno.training.instances import Cells

FIRST = ["contestant", "split", "repeat", "fold", "role", *CELL_KEYS]


def well_rows(rng, well, role, split, fold, n=5, positions=True):
    """What a model says of the instances of a well."""
    keys = {PLATE: "P1", WELL: well, CELL_KEYS[2]: np.repeat([1, 2], n), CELL_KEYS[3]: np.tile(np.arange(n) + 1, 2)}
    middle = {f"Location_Center_{a}": np.tile(np.arange(n) * 16 + 7.5, 2) for a in "YX"} if positions else {}
    table = pd.DataFrame(keys).astype({CELL_KEYS[2]: np.int32, CELL_KEYS[3]: np.int32})
    said = rng.normal(size=(2 * n, 3))
    table = table.assign(**middle, weight=said[:, 0], logit_a=said[:, 1], logit_b=said[:, 2])
    return table.assign(role=role, split=split, repeat=0, fold=fold, contestant="mil")


def write_parts(folder, positions=True, one_group=False):
    """Tables of four models, two a split, the last of which had no well with cells."""
    rng, parts = np.random.default_rng(0), []
    for split, fold, held in (("z", 0, ["B02", "A01"]), ("z", 1, ["C01"]), ("a", 0, ["A01", "B02"]), ("a", 1, [])):
        new = ["D10", "D09"] if held else []
        wells = [(w, "out_of_fold") for w in held] + [(w, "new") for w in new]
        tables = [well_rows(rng, w, role, split, fold, positions=positions) for w, role in wells]
        columns = pd.DataFrame(columns=[*CELL_KEYS, "weight", "logit_a", "logit_b", "role", *FIRST[1:4], "contestant"])
        parts.append(folder / f"{split}{fold}.parquet")
        with commit_rows(parts[-1], columns) as write:
            for table in [pd.concat(tables)] if one_group and tables else tables:
                write(table)
    return parts


def naive(parts):
    """All in one table, the held-out rows as they are and the mean of the others."""
    cells = pd.concat([table for part in parts if len(table := pd.read_parquet(part))], ignore_index=True)
    numbers = [c for c in cells if c.startswith(("weight", "logit_", "Location_"))]
    new = cells[cells["role"] == "new"]
    mean = new.groupby(["contestant", "split", "role", *CELL_KEYS], sort=True)[numbers].mean().reset_index()
    both = pd.concat([cells[cells["role"] == "out_of_fold"], mean.assign(repeat=-1, fold=-1)], ignore_index=True)
    return both[[*FIRST, *numbers]]


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("one_group", [True, False])
def test_merged_rows_equal_a_naive_concatenation(tmp_path, positions, one_group):
    parts = write_parts(tmp_path, positions, one_group)
    found, wanted = pd.read_parquet(merge_rows(parts, tmp_path / "all.parquet")), naive(parts)
    assert len(found) == 10 * (5 + 4)
    assert (found["fold"] == -1).sum() == 40
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    again = merge_rows(parts, tmp_path / "again.parquet")
    assert again.read_bytes() == (tmp_path / "all.parquet").read_bytes()


def test_the_order_of_parts_decides_nothing_of_new_wells_but_rounding(tmp_path):
    parts = write_parts(tmp_path)
    for name, files in (("one", parts), ("other", [parts[3], *parts[:3]])):  # an empty table may come first
        merge_rows(files, tmp_path / name)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "one"), pd.read_parquet(tmp_path / "other"))


def test_each_well_is_a_row_group_and_no_well_leaves_the_columns(tmp_path):
    parts = write_parts(tmp_path)
    assert [pq.ParquetFile(part).num_row_groups for part in parts] == [4, 3, 4, 1]  # of no row
    merge_rows(parts, tmp_path / "all.parquet")
    assert pq.ParquetFile(tmp_path / "all.parquet").num_row_groups == 5 + 4
    merge_rows(parts[3:], tmp_path / "none.parquet")
    none = pd.read_parquet(tmp_path / "none.parquet")
    assert (list(none), len(none)) == ([*FIRST, "weight", "logit_a", "logit_b"], 0)


def test_a_table_that_was_cut_is_not_there(tmp_path):
    rows = well_rows(np.random.default_rng(0), "A01", "new", "a", 0)
    with pytest.raises(KeyError, match="logit_b"), commit_rows(tmp_path / "cut.parquet", rows.iloc[:0]) as write:
        [write(table) for table in (rows, rows.drop(columns="logit_b"))]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def maps():
    """A network of maps, which says much of each well."""
    encoder = torch.nn.Conv2d(1, 4, 4, stride=4)
    encoder.n_features, encoder.pooled = 4, False
    encoder.stride, encoder.first_centre = 4, lambda _: 1.5
    card = {"classes": ["a", "b"], "channels": ["x"], "dtype": "uint16", "crop_px": 128}
    card |= {"normalization": describe(PlatePercentiles), "instances": describe(Cells)}
    return Checkpoint(MILClassifier(encoder, NoisyAnd(2), ["a", "b"]).eval(), card)


@pytest.mark.filterwarnings("error")
def test_memory_does_not_grow_with_the_number_of_wells(maps, tmp_path, monkeypatch):
    n, rng = 6, np.random.default_rng(0)
    keys, pixels = np.arange(1, n + 1, dtype=np.int32), rng.integers(90, 200, (n, 1, 128, 128)).astype(np.uint16)
    crops = Crops(pixels, keys, keys, keys < 0)
    monkeypatch.setattr(Cells, "count", lambda *_: n)  # not from disk: what zarr leaves behind is no matter here
    monkeypatch.setattr(Cells, "read", lambda self, place, part: Crops(*(array[part] for array in crops)))
    monkeypatch.setattr(stage, "load_model", lambda *_: maps)
    monkeypatch.setattr(stage, "grey_limits", lambda *_: {"P1": np.array([[[90.0, 200.0]]], np.float32)})

    def peak(n_wells, output):
        wells = pd.DataFrame({PLATE: "P1", WELL: [f"W{i:03d}" for i in range(n_wells)], "label": ""})
        wells = wells.assign(place="memory", n_instances=n, role="new")
        about = {"split": "a", "repeat": 0, "fold": 0, "contestant": "mil"}
        tracemalloc.start()
        cpu = torch.device("cpu")
        part, _ = stage._predict_fold(output, wells, wells, np.zeros(2), about, output, "one", 1, cpu).files
        predicted = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        stage._merge([part, part], output, False, "mil")
        merged = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(pd.read_parquet(output / "instances.parquet", columns=[WELL])) == n_wells * n * 32 * 32
        return predicted, merged

    peak(1, tmp_path / "warm")  # modules that load late
    small, large = peak(4, tmp_path / "small"), peak(32, tmp_path / "large")
    for few, many in zip(small, large, strict=True):
        assert many < 1.2 * few

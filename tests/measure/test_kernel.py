import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba.core import caching

import cellpheno.measure.kernel

INDEX = """
import numpy as np
from cellpheno.measure.objects import index_objects
print(index_objects(np.arange(12).reshape(3, 4) // 5).areas.tolist())
"""
ALL = """
import numpy as np
from omegaconf import OmegaConf
from cellpheno.components import build
from cellpheno.config import config_groups, load_config
from cellpheno.measure.field import measure_field
names = ",".join(sorted(config_groups()["measurements"]))
labels = np.arange(12).reshape(3, 4) // 5
for reference in ("cellprofiler", "cp_measure"):
    settings = [f"measurements=[{names}]", f"feature_reference={reference}", "plate=P1.zarr", "folder=raw"]
    run = build(OmegaConf.to_container(load_config("run", *settings).measurements, resolve=True))
    for labels in (labels, np.asfortranarray(labels), labels.astype(np.uint16)):
        for dtype in (np.uint8, np.uint16, np.float32, np.float64):
            image = np.stack([labels, labels[::-1]]) / np.array(3 if dtype in (np.float32, np.float64) else 1)
            table = measure_field({"cells": labels, "nuclei": labels}, image.astype(dtype), ["DNA", "ER"], run)
print(table.Cells_AreaShape_Area.tolist())
"""


def test_without_any_folder_to_write_in_kernels_still_compile(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])  # read-only package and read-only home
    half = cellpheno.measure.kernel.kernel(lambda x: x / 2)
    assert half(3.0) == 1.5
    assert np.isnan(cellpheno.measure.kernel.kernel(lambda x: x / x)(0.0))


def test_a_real_error_is_not_swallowed(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(cellpheno.measure.kernel, "njit", broken)
    with pytest.raises(RuntimeError, match="no compiler"):
        cellpheno.measure.kernel.kernel(lambda x: x)


@pytest.mark.parametrize(
    ("script", "areas"), [(INDEX, "[5, 2]"), pytest.param(ALL, "[5.0, 2.0]", marks=pytest.mark.full)]
)
def test_processes_that_start_together_share_an_empty_cache(tmp_path, script, areas):
    def run(_):
        environment = {"NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=500).stdout

    with ThreadPoolExecutor(2) as pool:
        assert [output.strip() for output in pool.map(run, range(2))] == [areas, areas]
    assert list(tmp_path.rglob("*.1.nbc"))
    assert not list(tmp_path.rglob("*.2.nbc"))  # one set of types a kernel, whatever the image: see `kernel`
    assert run(None).strip() == areas  # read back from the cache

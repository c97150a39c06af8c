import shutil

import numpy as np
import pytest

from cellpheno.plates.plate import open_plate
from cellpheno.plates.write import create_plate, write_image, write_labels


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("template") / "P1.zarr"
    made = create_plate(path, "P1", {"B03": [5, 2], "a1": [2]}, ["DNA", "FKHR-GFP"], pixel_size_um=0.65)
    for well in made.wells:
        for field in well.fields:
            write_image(field, rng.integers(0, 4000, (2, 300, 280), dtype=np.uint16))
            write_labels(field, {"nuclei": rng.integers(0, 70000, (300, 280), dtype=np.int32)})
    return path


@pytest.fixture
def plate(template, tmp_path):
    """Plate P1 with wells A01 (sites 2) and B03 (sites 2, 5), two channels, 300 x 280 pixels, nuclei in each field."""
    return open_plate(shutil.copytree(template, tmp_path / "P1.zarr"))

from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as ndi
import skimage.measure

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def random_field():
    """(seed, size) -> touching blobs of many shapes with gaps in their labels, and a textured uint16 image."""

    def make(seed, size=240):
        rng = np.random.default_rng(seed)
        ground = ndi.gaussian_filter(rng.random((size, size)), 4)
        labels = skimage.measure.label(ground > np.quantile(ground, 0.55))
        labels[labels > 0] += (np.indices(labels.shape)[1][labels > 0] > size // 2) * labels.max()  # cut in two: touch
        smooth = ndi.gaussian_filter(rng.random((size, size)), 2)
        image = (smooth * 40000 + rng.integers(0, 9000, (size, size))).astype(np.uint16)
        return labels * 3, image

    return make


@pytest.fixture(scope="session")
def assert_equal_columns():
    """Compare our columns with another library's: both nan, or within 1e-9 relative (or the absolute tolerance)."""

    def check(ours, theirs, rename, atol=1e-14, loose=None):
        assert ours
        for name, values in ours.items():
            tolerance = next((t for start, t in (loose or {}).items() if rename(name).startswith(start)), atol)
            expected = np.asarray(theirs[rename(name)], float)
            np.testing.assert_allclose(values, expected, rtol=1e-9, atol=tolerance, err_msg=name)

    return check


@pytest.fixture(scope="session")
def data():
    if not DATA.is_dir():
        pytest.skip("../shared/data is not here: real images are not part of the package")
    return DATA.resolve()


@pytest.fixture(scope="session")
def cell_painting(data):
    """One field of the Cell Painting wells: cell labels (y, x), image (c, y, x) uint16, its published table."""
    import pandas as pd
    import tifffile

    folder = data / "cellpainting_two_wells" / "data_multiscene"
    labels = tifffile.imread(folder / "data_out" / "cdp2bioactives_h15.ome_scene0_mask.tif")
    with tifffile.TiffFile(folder / "cdp2bioactives_h15.ome.tif") as file:
        image = file.series[0].asarray()
    return labels, image, pd.read_csv(folder / "data_out" / "tables" / "cdp2bioactives_h15.ome_scene0_props.csv")

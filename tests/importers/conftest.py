import numpy as np
import pytest
import tifffile

WELLS = ("A01", "B02", "B10")
SITES = (1, 2)
CHANNELS = ("DNA", "GFP")


def file_name(well, site, channel, plate="SIM1"):
    return f"{plate}_{well}_s{site}_w{CHANNELS.index(channel) + 1}_{channel}.tif"


def plane(seed, shape=(40, 50)):
    return np.random.default_rng(seed).integers(100, 4000, shape, dtype=np.uint16)


@pytest.fixture
def raw(tmp_path):
    """Raw folder of plate SIM1: 3 wells, 2 sites, 2 channels, uint16 40 x 50, deflate; pixels by number of the file."""
    folder = tmp_path / "raw 'ü' %d"
    folder.mkdir()
    places = [(w, s, c) for w in WELLS for s in SITES for c in CHANNELS]
    for seed, (well, site, channel) in enumerate(places):
        tifffile.imwrite(folder / file_name(well, site, channel), plane(seed), compression="zlib", metadata=None)
    return folder

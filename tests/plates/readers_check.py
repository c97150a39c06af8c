"""Open a plate with ngio and ome-zarr-models; run by the Python that CELLPHENO_READERS_PYTHON names.

Usage: readers_check.py PLATE '{"B/03/0": [sum of pixels, largest label], ...}'
"""

import json
import sys
import warnings


def check(path, expected):
    import ngio
    import zarr
    from ome_zarr_models.v05 import HCS, Image

    HCS.from_zarr(zarr.open_group(path, mode="r"))
    plate = ngio.open_ome_zarr_plate(path, mode="r")
    assert sorted(plate.images_paths()) == sorted(expected), plate.images_paths()
    sizes, channels = set(), set()
    for field, (total, largest) in expected.items():
        Image.from_zarr(zarr.open_group(f"{path}/{field}", mode="r"))
        container = ngio.open_ome_zarr_container(f"{path}/{field}", mode="r")
        image, nuclei = container.get_image(path="0"), container.get_label("nuclei", path="0")
        assert [int(image.get_as_numpy().sum()), int(nuclei.get_as_numpy().max())] == [total, largest], field
        smaller = container.get_image(path="1"), container.get_label("nuclei", path="1")
        assert smaller[0].shape[-2:] == smaller[1].shape[-2:], field
        sizes.add(str(image.pixel_size.x))
        channels.add(" ".join(image.channel_labels))
    print(f"{len(expected)} fields, {' '.join(sizes)} um, {' '.join(channels)}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the readers among themselves
    check(sys.argv[1], json.loads(sys.argv[2]))

import base64
import io

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cellpheno.images.crops import Crops, write_crops
from cellpheno.report import gallery


def instances(sizes, weights):
    rows = [
        ("P1", f"B{well:02d}", 1, cell + 1, weights[well][cell], "a")
        for well, n in enumerate(sizes, start=1)
        for cell in range(n)
    ]
    columns = ["Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_ObjectNumber", "weight", "label"]
    return pd.DataFrame(rows, columns=columns)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 8), st.integers(0, 10**6))
def test_chosen_cells_are_the_extremes_within_each_well_s_share(sizes, n, seed):
    rng = np.random.default_rng(seed)
    weights = {well: rng.dirichlet(np.ones(size)) for well, size in enumerate(sizes, start=1)}
    chosen = gallery.choose_cells(instances(sizes, weights), ["a", "b"], n)
    share = max(2, -(-n // len(sizes)))
    for end, sign in (("highest", -1), ("lowest", 1)):
        best = [sign * w for well in weights for w in sorted(sign * weights[well] * len(weights[well]))[:share]]
        found = chosen[chosen["end"] == end]["relative"].tolist()
        np.testing.assert_allclose(found, sorted(best, key=lambda value: sign * value)[:n])


def test_equal_attention_is_one_times_the_mean():
    chosen = gallery.choose_cells(instances([4], {1: [0.25] * 4}), ["a"], 2)
    assert chosen["relative"].tolist() == [1.0] * 4


def test_only_wanted_cells_are_read_whatever_the_piece(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 999, (10, 2, 4, 4), dtype=np.uint16)
    number = np.arange(1, 11, dtype=np.int32)
    crops = Crops(pixels, np.full(10, 2, np.int32), number, np.zeros(10, bool))
    write_crops(tmp_path / "B03.zarr", crops, cells_per_chunk=4)
    monkeypatch.setattr(gallery, "CELLS_A_READ", 3)
    wanted = pd.DataFrame({"Metadata_Site": [2, 2, 1], "Metadata_ObjectNumber": [10, 4, 4]})
    found = gallery.read_cells(tmp_path / "B03.zarr", wanted)
    assert found.keys() == {(2, 10), (2, 4)}
    np.testing.assert_array_equal(found[2, 10], pixels[9])
    np.testing.assert_array_equal(found[2, 4], pixels[3])


def test_composite_equals_a_naive_loop():
    rng = np.random.default_rng(4)
    pixels, limits = rng.integers(0, 300, (3, 5, 6)), np.array([[10.0, 200.0], [0.0, 250.0], [50.0, 100.0]])
    colours = {"#4F7BFF": (79, 123, 255), "#FFB000": (255, 176, 0), "#FF4FA3": (255, 79, 163)}
    mixed = gallery.composite(pixels, limits, list(colours), gamma=0.8)
    for y in range(5):
        for x in range(6):
            light = [
                min(max((pixels[c, y, x] - low) / (high - low), 0), 1) ** 0.8 for c, (low, high) in enumerate(limits)
            ]
            for channel in range(3):
                value = sum(v * rgb[channel] for v, rgb in zip(light, colours.values(), strict=True))
                assert mixed[y, x, channel] == round(min(value, 255))


def test_png_holds_the_pixels():
    picture = np.random.default_rng(5).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    uri = gallery.png_uri(picture)
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), picture)


def test_damaged_crops_are_told_and_the_others_drawn(tmp_path):
    pixels = np.full((1, 1, 4, 4), 7, np.uint16)
    one = np.ones(1, np.int32)
    write_crops(tmp_path / "B03.zarr", Crops(pixels, one, one, np.zeros(1, bool)))
    cells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["B03", "B04"], "Metadata_Site": 1})
    drawn, faults = gallery.pictures(cells.assign(Metadata_ObjectNumber=1), {"P1": tmp_path}, {"P1": ["#FFFFFF"]})
    assert list(drawn) == [("P1", "B03", 1, 1)]
    assert len(faults) == 1
    assert "well B04" in faults[0]

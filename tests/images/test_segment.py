import inspect
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellpheno.images.labels import match_objects, own_labels
from cellpheno.images.segment import find_nuclei, foreground, grow_cells, threshold_propagation

ROOT = Path(__file__).parents[2]
DATA = ROOT / "../shared/data"


def field_of_cells(seed=0, side=256, noise=5.0):
    """DNA and cell body of round cells on a grid, some touching in pairs, with their true labels."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    nuclei, bodies = np.zeros((2, side, side), np.int32)
    centres = [(v + generator.integers(-6, 7), u) for v in range(40, side, 60) for u in range(40, side, 60)]
    centres += [(v, u + 19) for v, u in centres[::3]]  # nuclei of radius 11 that touch
    for i, (v, u) in enumerate(centres, 1):
        distance = np.hypot(y - v, x - u)
        bodies[(distance < 18) & (bodies == 0)] = i
        nuclei[(distance < 11) & (nuclei == 0)] = i
    image = np.stack([100 + 300.0 * (nuclei > 0), 100 + 100.0 * (bodies > 0)])
    image = ndimage.gaussian_filter(image, (0, 1, 1)) + generator.normal(0, noise, image.shape)
    return image.clip(0).astype(np.uint16), nuclei, bodies


def assert_consistent(labels):
    """What holds for every segmentation, whatever the image."""
    nuclei, cells, cytoplasm = (labels[name] for name in ("nuclei", "cells", "cytoplasm"))
    assert {array.dtype for array in labels.values()} == {np.dtype(np.int32)}
    np.testing.assert_array_equal(cells[nuclei > 0], nuclei[nuclei > 0])
    np.testing.assert_array_equal(np.where(nuclei > 0, nuclei, cytoplasm), cells)
    numbers = list(range(1, nuclei.max() + 1))
    assert np.unique(nuclei[nuclei > 0]).tolist() == np.unique(cells[cells > 0]).tolist() == numbers


@pytest.mark.parametrize("cells", [None, "body"])
def test_planted_cells_are_found(cells):
    image, nuclei, bodies = field_of_cells()
    labels = threshold_propagation(image, ["DNA", "body"], cells=cells, cell_distance=7, drop_border=None)
    assert_consistent(labels)
    assert match_objects(labels["nuclei"], nuclei, 0.7).f1 > 0.95
    assert match_objects(labels["cells"], bodies, 0.7).f1 > 0.95


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    knobs=st.fixed_dictionaries(
        {
            "cells": st.sampled_from([None, "body", "DNA"]),
            "threshold": st.sampled_from(["otsu", "li", "triangle"]),
            "threshold_window": st.sampled_from([None, 20, 500]),
            "split": st.sampled_from([None, "distance", "intensity"]),
            "drop_border": st.sampled_from([None, "nuclei", "cells"]),
            "min_contrast": st.sampled_from([0.0, 4.5]),
        }
    ),
)
def test_labels_agree_whatever_the_image_and_the_knobs(seed, knobs):
    generator = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(generator.random((2, 60, 70)), (0, 4, 4))
    labels = threshold_propagation(image, ["DNA", "body"], min_diameter=4, **knobs)
    assert_consistent(labels)
    if knobs["drop_border"] is not None:
        dropped = labels[knobs["drop_border"]]
        assert not any(edge.any() for edge in (dropped[0], dropped[-1], dropped[:, 0], dropped[:, -1]))


@given(st.floats(0.2, 50), st.floats(0, 1000))
@settings(max_examples=10, deadline=None)
def test_gain_and_offset_of_the_camera_change_nothing(gain, offset):
    image, _, _ = field_of_cells(side=128)
    plain = threshold_propagation(image, ["DNA", "body"], cells="body")
    scaled = threshold_propagation(image * gain + offset, ["DNA", "body"], cells="body")
    assert (plain["cells"] == scaled["cells"]).mean() > 0.999


def test_a_field_without_cells_is_empty():
    generator = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    vignetting = 100 - 30 * (y**2 + x**2)
    empty = {
        "noise": generator.normal(100, 5, (200, 200)),
        "vignetting": vignetting + generator.normal(0, 2, (200, 200)),
        "photons": generator.poisson(3, (200, 200)),
        "constant": np.full((200, 200), 7, np.uint16),
        "saturated": np.full((200, 200), 65535, np.uint16),
    }
    for name, plane in empty.items():
        labels = threshold_propagation(plane[None], ["DNA"])
        assert not any(array.any() for array in labels.values()), name
        assert {array.shape for array in labels.values()} == {(200, 200)}


def test_a_single_nucleus_in_a_large_field_is_found():
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:500, :500]
    image = generator.normal(100, 5, (1, 500, 500)) + 200 * (np.hypot(y - 200, x - 300) < 12)
    assert threshold_propagation(image, ["DNA"])["nuclei"].max() == 1


def test_saturated_nuclei_are_split():
    image, nuclei, _ = field_of_cells()
    clipped = np.minimum(image, 250)
    assert match_objects(threshold_propagation(clipped, ["DNA", "body"], drop_border=None)["nuclei"], nuclei).f1 > 0.95


def test_a_local_threshold_finds_dim_nuclei_beside_bright_ones():
    image, nuclei, _ = field_of_cells(side=384, noise=2)
    shaded = image[:1] * np.linspace(0.25, 2, 384)
    found = {w: threshold_propagation(shaded, ["DNA"], threshold_window=w, drop_border=None) for w in (None, 128)}
    scores = {window: match_objects(labels["nuclei"], nuclei, 0.5).f1 for window, labels in found.items()}
    assert scores[128] > scores[None] + 0.05


def test_foreground_knobs_by_hand():
    image = np.array([[10, 10, 11, 40, 50, 50.0]])  # Otsu's threshold is between 11 and 40
    assert foreground(image, 0).tolist() == [[False] * 3 + [True] * 3]
    assert foreground(image, 0, min_threshold=45).tolist() == [[False] * 4 + [True] * 2]
    assert foreground(image, 0, threshold_factor=10).sum() == 0
    assert foreground(image, 0, threshold_factor=0).all()


def test_objects_by_hand():
    mask = np.zeros((40, 60), bool)
    mask[2:12, 2:12] = True  # 100 pixels with a hole
    mask[6:8, 6:8] = False
    mask[20:22, 20:22] = True  # debris
    mask[2:38, 30:58] = True  # a clump
    labels = find_nuclei(mask * 1.0, mask, 1, min_diameter=5, max_diameter=20)
    assert np.unique(labels).tolist() == [0, 1]
    assert (labels == 1).sum() == 100


def test_two_discs_are_split_at_the_neck_or_at_the_dark_line():
    y, x = np.mgrid[:40, :60]
    mask = (np.hypot(y - 20, x - 20) < 11) | (np.hypot(y - 20, x - 39) < 11)
    image = np.where(np.abs(x - 29.5) < 2, 50.0, 100.0) * mask
    counts = {split: find_nuclei(image, mask, 2, split).max() for split in ("distance", "intensity", None)}
    assert counts == {"distance": 2, "intensity": 2, None: 1}


def test_cells_meet_where_the_image_says():
    nuclei = np.zeros((9, 30), np.int32)
    nuclei[3:6, 3:6], nuclei[3:6, 24:27] = 1, 2
    image = np.where(np.arange(30) < 20, 100.0, 200.0) * np.ones((9, 1))  # the step is nearer to nucleus 2
    cells = grow_cells(image, nuclei, np.ones((9, 30), bool))
    assert (cells[:, :19] == 1).all()
    assert (cells[:, 21:] == 2).all()


def test_refusals_name_the_field_and_the_choices():
    where = {"Metadata_Plate": "P1", "Metadata_Well": "B03", "Metadata_Site": 2}
    image = np.zeros((1, 8, 8))
    with pytest.raises(ValueError, match=r"P1 B03 2: no channel 'DNA' to segment; there are Hoechst"):
        threshold_propagation(image, ["Hoechst"], where)
    with pytest.raises(ValueError, match=r"P1 B03 2: 64 of 64 pixels of channel 'DNA' are nan"):
        threshold_propagation(image * np.nan, ["DNA"], where)
    for knob, value in {"threshold": "otzu", "split": "shape", "drop_border": "yes"}.items():
        with pytest.raises(ValueError, match=f"{knob}='{value}': wanted one of"):
            threshold_propagation(image, ["DNA"], **{knob: value})
    with pytest.raises(ValueError, match="min_diameter=9"):
        threshold_propagation(image, ["DNA"], min_diameter=9, max_diameter=5)


@pytest.mark.parametrize("function", [threshold_propagation, own_labels])
def test_the_config_has_every_knob_with_its_default(function):
    config = yaml.safe_load((ROOT / f"conf/segmentation/{function.__name__}.yaml").read_text())
    assert config.pop("_target_") == f"{function.__module__}.{function.__name__}"
    assert config.pop("_partial_") is True
    knobs = {p.name: p.default for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert config == knobs


@pytest.mark.data
def test_software_masks_of_cell_painting():
    folder = DATA / "cellpainting_two_wells/data_multiscene"
    if not folder.is_dir():
        pytest.skip(f"the real images are not at {folder}")
    found = matched = wanted = 0
    for well in ("h15", "h23"):
        with tifffile.TiffFile(folder / f"cdp2bioactives_{well}.ome.tif") as tiff:
            images = [series.asarray() for series in tiff.series]
        for scene, image in enumerate(images):
            truth = tifffile.imread(folder / f"data_out/cdp2bioactives_{well}.ome_scene{scene}_mask.tif")
            # the masks leave out cells that touch the border, and others besides
            cells = threshold_propagation(
                image, ["DNA", "ER", "RNA", "AGP", "Mito"], threshold="li", drop_border="cells"
            )["cells"]
            score = match_objects(cells, truth, 0.5)
            n = len(np.unique(truth)) - 1
            matched, found, wanted = matched + round(score.recall * n), found + cells.max(), wanted + n
    assert wanted == 864
    assert 2 * matched / (found + wanted) >= 0.75
    assert matched / wanted >= 0.9


@pytest.mark.data
def test_nuclei_of_bbbc013():
    folder = DATA / "bbbc013/images"
    if not folder.is_dir():
        pytest.skip(f"the real images are not at {folder}")
    counts = []
    for path in sorted(folder.glob("Channel2*.tif"))[::12]:
        labels = threshold_propagation(tifffile.imread(path)[None], ["DNA"], drop_border=None)
        assert_consistent(labels)
        counts.append(labels["nuclei"].max())
    assert 150 <= np.mean(counts) <= 205  # about 17,000 nuclei on 96 fields: 177

import gc

import numpy as np
import pytest
import scipy.ndimage as ndi
import skimage.morphology
from cp_measure.core.measuregranularity import get_granularity
from skimage.segmentation import relabel_sequential

import cellpheno.measure.granularity as module
from cellpheno.measure.granularity import granularity
from cellpheno.measure.objects import index_objects
from cellpheno.measure.opening_tree import opening_tree

CROSS = skimage.morphology.disk(1)
ATOL = 1e-9  # percentages: what cp_measure gives where nothing is removed is round-off


def without_channel(name):
    return name.removesuffix("_DNA")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("steps", [(0.25, 0.25, 10, 16), (0.5, 0.3, 4, 5), (1, 1, 3, 3), (0.4, 1, 0, 20)])
def test_equals_cp_measure(random_field, assert_equal_columns, seed, steps):
    labels, image = random_field(seed, 198)
    labels[3, 3] = labels.max() + 4  # one pixel
    ours = granularity(index_objects(labels), image, "DNA", *steps, reference="cp_measure")
    theirs = get_granularity(relabel_sequential(labels)[0], image / 65535.0, *steps)
    assert len(ours) == steps[-1]
    assert_equal_columns(ours, theirs, without_channel, ATOL)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_other_types_equal_cp_measure(random_field, assert_equal_columns, dtype):
    labels, image = random_field(2, 160)
    image = (image >> 8).astype(np.uint8) if dtype == np.uint8 else (image / 65535).astype(dtype)
    unit = image / 255.0 if dtype == np.uint8 else image.astype(float)
    ours = granularity(index_objects(labels), image, "DNA")
    assert_equal_columns(ours, get_granularity(relabel_sequential(labels)[0], unit), without_channel, ATOL)


def cellprofiler_naive(labels, image, subsample, background_subsample, radius, spectrum):
    """CellProfiler's steps with SciPy and scikit-image, the reduced size with its fraction."""

    def grid(size, factor):
        return [
            np.arange(0, s)[:, None] * f if i == 0 else np.arange(0, s) * f
            for i, (s, f) in enumerate(zip(size, factor, strict=True))
        ]

    def sample(pixels, size, factor):
        return ndi.map_coordinates(pixels, np.broadcast_arrays(*grid(size, factor)), order=1)

    def back(pixels, small, large):
        return sample(pixels, large, (np.subtract(small, 1)) / (np.subtract(large, 1)))

    size = np.multiply(image.shape, subsample)
    grey = sample(image, size, [1 / subsample] * 2)
    coarse = size * background_subsample
    ground = skimage.morphology.opening(
        sample(grey, coarse, [1 / background_subsample] * 2), skimage.morphology.disk(radius)
    )
    grey = np.maximum(grey - back(ground, coarse, size), 0)
    ids = np.unique(labels[labels > 0])
    before = mean = ndi.mean(image, labels, ids)
    columns, eroded = [], grey
    for _ in range(spectrum):
        eroded = skimage.morphology.erosion(eroded, CROSS)
        opened = skimage.morphology.reconstruction(eroded, grey, footprint=CROSS)
        after = ndi.mean(back(opened, size, image.shape), labels, ids)
        columns.append((before - after) * 100 / mean)
        before = after
    return columns


@pytest.mark.parametrize("size", [150, 151, 153])
def test_equals_naive_loop_also_where_the_reduced_size_is_not_whole(random_field, size):
    labels, image = random_field(3, size)
    ours = granularity(index_objects(labels), image, "DNA", 0.25, 0.5, 3, 6)
    for values, expected in zip(ours.values(), cellprofiler_naive(labels, image / 65535, 0.25, 0.5, 3, 6), strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=ATOL)


def test_references_differ_only_where_the_reduced_size_is_not_whole(random_field):
    labels, image = random_field(0, 161)
    objects = index_objects(labels)
    one, other = (granularity(objects, image, "DNA", reference=r) for r in ("cellprofiler", "cp_measure"))
    assert max(abs(one[name] - other[name]).max() for name in one) > 0.01
    objects, image = index_objects(labels[:160, :160]), image[:160, :160]
    one, other = (granularity(objects, image, "DNA", reference=r) for r in ("cellprofiler", "cp_measure"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("levels", [2, 6, 10**6])
@pytest.mark.parametrize("shape", [(23, 31), (1, 17), (9, 2)])
def test_tree_holds_every_opening_by_reconstruction(levels, shape):
    rng = np.random.default_rng(levels)
    image = np.rint(ndi.gaussian_filter(rng.random(shape), 1) * levels)
    tree = opening_tree(image, 7)
    rank, eroded = tree.rank.copy(), image
    assert np.array_equal(tree.level[rank], image)
    for k in range(1, 8):
        eroded = ndi.grey_erosion(eroded, footprint=CROSS, mode="reflect")
        rank = np.where(tree.size[rank] < k, tree.lower[rank], rank)
        expected = skimage.morphology.reconstruction(eroded, image, footprint=CROSS)
        assert np.array_equal(tree.level[rank], expected), k


@pytest.mark.parametrize("radius", [0, 1, 4, 10])
def test_background_equals_scikit_image(radius):
    image = np.random.default_rng(radius).random((17, 30))
    expected = skimage.morphology.opening(image, skimage.morphology.disk(radius))
    assert np.array_equal(module._open_by_disk(image, radius), expected)


def test_grains_by_hand():
    image = np.full((40, 40), 1.0)
    image[5, 5] += 100  # one erosion by the cross removes it
    image[15:18, 15:18] += 10  # 3 x 3: the second does
    image[25:30, 25:30] += 1  # 5 x 5: the third
    labels = np.ones(image.shape, int)
    steps = granularity(index_objects(labels), image, "DNA", 1, 1, 9, 4)
    total = image.sum()
    expected = [100 * part / total for part in (1600 + 100, 90, 25, 0)]  # with step 1 goes the background
    assert [float(column[0]) for column in steps.values()] == pytest.approx(expected, abs=1e-9)


def test_pixels_that_are_no_numbers(random_field):
    labels, image = random_field(0, 120)
    image = image / 65535
    objects = index_objects(labels)
    place = tuple(np.argwhere(labels == objects.ids[1])[0])
    far = tuple(np.argwhere(labels == 0)[0])
    black, bad = image.copy(), image.copy()
    black[place] = black[far] = 0
    bad[place], bad[far] = np.nan, np.inf
    expected = granularity(objects, black, "DNA", 0.5)
    for name, values in granularity(objects, bad, "DNA", 0.5).items():
        assert np.isnan(values[1])
        assert np.array_equal(np.delete(values, 1), np.delete(expected[name], 1))


def test_constant_black_and_small_images(random_field):
    labels, _ = random_field(0, 100)
    objects = index_objects(labels)
    constant = granularity(objects, np.full(labels.shape, 777, np.uint16), "DNA")
    assert constant["Granularity_1_DNA"] == pytest.approx(100)  # all of it is background
    assert not constant["Granularity_2_DNA"].any()
    assert not any(values.any() for values in granularity(objects, np.zeros(labels.shape), "DNA").values())
    small = granularity(index_objects(np.ones((7, 40), int)), np.ones((7, 40)), "DNA")
    assert len(small) == 16
    assert all(np.isnan(values).all() for values in small.values())


def test_the_tree_of_a_read_only_image_serves_all_compartments(random_field, monkeypatch):
    calls = []
    image_tree = module._image_tree
    monkeypatch.setattr(module, "_image_tree", lambda *arguments: calls.append(1) or image_tree(*arguments))
    labels, image = random_field(0, 100)
    compartments = [index_objects(labels), index_objects(np.where(labels % 2, labels, 0))]
    changing = [granularity(objects, image, "DNA") for objects in compartments]
    assert len(calls) == 2
    image.setflags(write=False)
    lasting = [granularity(objects, image, "DNA") for objects in compartments]
    granularity(compartments[0], image, "DNA", spectrum=3)
    assert len(calls) == 4  # another knob, another tree
    for before, after in zip(changing, lasting, strict=True):
        assert all(np.array_equal(before[name], after[name]) for name in before)
    assert len(module._trees) == 2
    for objects in compartments:
        objects.forget()
    del image
    gc.collect()
    assert not module._trees  # forgotten with the image


def test_no_objects_give_all_columns():
    features = granularity(index_objects(np.zeros((30, 30), int)), np.zeros((30, 30), np.uint8), "DNA", spectrum=5)
    assert list(features) == [f"Granularity_{k}_DNA" for k in range(1, 6)]
    assert all(values.shape == (0,) and values.dtype == float for values in features.values())


@pytest.mark.parametrize(
    "knobs",
    [{"subsample": 0}, {"background_subsample": 2}, {"background_radius": -1}, {"spectrum": 0}, {"reference": "both"}],
)
def test_refusals(knobs):
    with pytest.raises(ValueError, match="wanted"):
        granularity(index_objects(np.eye(9, dtype=int)), np.ones((9, 9)), "DNA", **knobs)


@pytest.mark.data
def test_equals_cp_measure_on_real_cells(cell_painting, assert_equal_columns):
    labels, image, _ = cell_painting
    ours = granularity(index_objects(labels), image[0], "DNA", reference="cp_measure")
    theirs = get_granularity(relabel_sequential(labels)[0], image[0] / 65535.0)
    assert_equal_columns(ours, theirs, without_channel, ATOL)

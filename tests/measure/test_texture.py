import numpy as np
import pytest
import skimage.exposure
from cp_measure.core.measuretexture import get_texture
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import relabel_sequential

from cellpheno.measure.objects import index_objects
from cellpheno.measure.texture import DIRECTIONS, texture


def without_channel(name):
    return name.removeprefix("Texture_").replace("_DNA", "")


# mahotas subtracts nearly equal numbers: E[x^2] - E[x]^2 of sums up to 510^2, and sqrt(1 - exp(-x)) near x = 0
LOOSE = {"SumVariance": 1e-9, "Variance": 1e-9, "InfoMeas2": 2e-7, "InfoMeas1": 1e-11, "Correlation": 1e-9}


@pytest.mark.parametrize(("scale", "levels"), [(1, 256), (3, 256), (3, 8), (5, 100)])
def test_equals_cp_measure(random_field, assert_equal_columns, scale, levels):
    labels, image = random_field(scale, 110)
    ours = texture(index_objects(labels), image, "DNA", [scale], levels)
    theirs = get_texture(relabel_sequential(labels)[0], image / 65535.0, scale, levels)
    assert len(ours) == 52
    assert_equal_columns(ours, theirs, without_channel, loose=LOOSE)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_other_types_equal_cp_measure(random_field, assert_equal_columns, dtype):
    labels, image = random_field(2, 120)
    image = (image >> 8).astype(np.uint8) if dtype == np.uint8 else (image / 65535).astype(dtype)
    ours = texture(index_objects(labels), image, "DNA")
    assert_equal_columns(ours, get_texture(relabel_sequential(labels)[0], image), without_channel, loose=LOOSE)


def haralick_naive(labels, grey, step):
    """A few of the features from the matrix as Haralick's paper writes them."""
    matrix = np.zeros((256, 256))
    for y, x in np.argwhere(labels):
        v, u = y + step[0], x + step[1]
        if v < labels.shape[0] and 0 <= u < labels.shape[1] and labels[v, u] and grey[y, x] and grey[v, u]:
            matrix[grey[y, x], grey[v, u]] += 1
            matrix[grey[v, u], grey[y, x]] += 1
    p = matrix / matrix.sum()
    i, j = np.indices(p.shape)
    mean, seen = (i * p).sum(), p[p > 0]
    return {
        "AngularSecondMoment": (p**2).sum(),
        "Contrast": ((i - j) ** 2 * p).sum(),
        "Variance": ((i - mean) ** 2 * p).sum(),
        "Correlation": ((i - mean) * (j - mean) * p).sum() / ((i - mean) ** 2 * p).sum(),
        "InverseDifferenceMoment": (p / (1 + (i - j) ** 2)).sum(),
        "SumAverage": ((i + j) * p).sum(),
        "Entropy": -(seen * np.log2(seen)).sum(),
    }


@pytest.mark.parametrize("k", range(4))
def test_equals_naive_loop(k):
    rng = np.random.default_rng(k)
    labels, image = rng.random((14, 11)) < 0.8, rng.integers(0, 9, (14, 11)).astype(np.uint8)
    ours = texture(index_objects(labels.astype(int)), image, "DNA", [2])
    step = tuple(2 * d for d in DIRECTIONS[k])
    for name, expected in haralick_naive(labels, image, step).items():
        assert ours[f"Texture_{name}_DNA_2_{k:02d}_256"][0] == pytest.approx(expected, rel=1e-12), name


def test_four_pixels_by_hand():
    features = texture(index_objects(np.ones((2, 2), int)), np.array([[1, 3], [1, 3]], np.uint8), "DNA", [1])
    across = {name: features[f"Texture_{name}_DNA_1_00_256"][0] for name in ("Contrast", "Correlation", "Entropy")}
    assert across == {"Contrast": 4, "Correlation": -1, "Entropy": 1}  # always 1 beside 3, both ways
    down = {name: features[f"Texture_{name}_DNA_1_02_256"][0] for name in ("Contrast", "Correlation", "InfoMeas1")}
    assert down == {"Contrast": 0, "Correlation": 1, "InfoMeas1": -1}  # the one level gives the other


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_other_objects_and_the_background_do_not_matter(seed, scale):
    rng = np.random.default_rng(seed)
    labels, image = rng.integers(0, 3, (12, 12)), rng.integers(0, 255, (12, 12)).astype(np.uint8)
    both = texture(index_objects(labels), image, "DNA", [scale])
    alone = texture(index_objects(np.where(labels == 2, 9, 0)), np.where(labels == 2, image, 200), "DNA", [scale])
    row = len(both[f"Texture_Contrast_DNA_{scale}_00_256"]) - 1
    for name, values in both.items():
        assert np.array_equal(values[row : row + 1], alone[name], equal_nan=True)


def test_undefined_is_nan():
    labels = np.zeros((12, 12), int)
    labels[:6], labels[8, 2], labels[10, :] = 1, 2, 3
    image = np.full(labels.shape, 0.5)
    for name, values in texture(index_objects(labels), image, "DNA").items():
        assert np.isfinite(values[0]), name  # constant, but defined
        assert np.isnan(values[1:]).all(), name  # one pixel; a row has no pair downwards
    assert texture(index_objects(labels), image, "DNA")["Texture_Entropy_DNA_3_00_256"][0] == 0
    image[0, 0] = np.nan
    assert all(np.isnan(values).all() for values in texture(index_objects(labels), image, "DNA").values())
    black = texture(index_objects(labels), np.zeros(labels.shape, np.uint16), "DNA")
    assert all(np.isnan(values).all() for values in black.values())


@pytest.mark.parametrize("levels", range(2, 257, 7))
def test_levels_are_those_of_scikit_image(levels):
    image = np.arange(256, dtype=np.uint8).reshape(128, 2)
    expected = skimage.exposure.rescale_intensity(image, in_range=(0, 255), out_range=(0, levels - 1)).astype(np.uint8)
    found = texture(index_objects(np.ones((128, 2), int)), image, "DNA", [1], levels)
    values = np.stack([expected[:-1].ravel(), expected[1:].ravel()])
    values = values[:, (values > 0).all(axis=0)].astype(float)
    contrast = ((values[0] - values[1]) ** 2).mean() if values.size else np.nan
    assert found[f"Texture_Contrast_DNA_1_02_{levels}"][0] == pytest.approx(contrast, nan_ok=True)


def test_refusals():
    objects, image = index_objects(np.ones((4, 4), int)), np.full((4, 4), 0.5)
    with pytest.raises(ValueError, match=r"channel ER: float pixels from 0\.5 to 300"):
        texture(objects, np.where(np.eye(4) > 0, 300, image), "ER")
    with pytest.raises(ValueError, match="levels 257: wanted 2 to 256"):
        texture(objects, image, "ER", levels=257)
    with pytest.raises(ValueError, match=r"scales \[3, 0\]: wanted 1 or more"):
        texture(objects, image, "ER", scales=[3, 0])


def test_no_objects_give_all_columns():
    features = texture(index_objects(np.zeros((3, 3), int)), np.zeros((3, 3), np.uint8), "DNA", [3, 5])
    assert len(features) == 104
    assert all(values.shape == (0,) and values.dtype == float for values in features.values())


@pytest.mark.data
def test_equals_cp_measure_on_real_cells(cell_painting, assert_equal_columns):
    labels, image, _ = cell_painting
    for pixels in image[:2]:
        stretched = (pixels / pixels.max() * 65535).astype(np.uint16)
        ours = texture(index_objects(labels), stretched, "DNA")
        theirs = get_texture(relabel_sequential(labels)[0], stretched / 65535.0)
        assert_equal_columns(ours, theirs, without_channel, loose=LOOSE)

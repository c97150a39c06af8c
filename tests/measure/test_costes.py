import warnings

import numpy as np
import pytest
import scipy.stats
from cp_measure.core.measurecolocalization import get_correlation_costes
from skimage.segmentation import relabel_sequential

from cellpheno.measure.costes import costes
from cellpheno.measure.costes_threshold import image_threshold
from cellpheno.measure.objects import index_objects

NAMES = {"Correlation_Costes_A_B": "Correlation_Costes_1", "Correlation_Costes_B_A": "Correlation_Costes_2"}


@pytest.fixture(scope="module")
def two_channels(random_field):
    """(seed, kind) -> labels and two images, uint16, that are correlated, independent or anticorrelated."""

    def make(seed, kind):
        labels, first = random_field(seed, 140)
        second = random_field(seed + 50, 140)[1]
        if kind == "correlated":
            second = first // 2 + second // 3
        elif kind == "anticorrelated":
            second = 60000 - first + second // 8
        return labels, first, second.astype(np.uint16)

    return make


def naive_threshold(first, second, scale):
    """CellProfiler's bisection, its correlation recomputed from the pixels at every step."""
    nonzero = (first > 0) | (second > 0)
    x, y = first[nonzero], second[nonzero]
    x_var, y_var = np.var(x, ddof=1), np.var(y, ddof=1)
    covariance = 0.5 * (np.var(x + y, ddof=1) - (x_var + y_var))
    wider = y_var - x_var
    slope = (wider + np.sqrt(wider * wider + 4 * covariance * covariance)) / (2 * covariance)
    offset = y.mean() - slope * x.mean()
    left, right, last, valid = 1, scale, 0, 1
    middle = ((right - left) // (6 / 5)) + left
    while middle != last:
        background = (first < middle / scale) | (second < slope * (middle / scale) + offset)
        if background.sum() <= 2:
            left = middle - 1
        else:
            r = scipy.stats.pearsonr(first[background], second[background])[0]
            if r < 0:
                left = middle - 1
            elif r >= 0:
                right, valid = middle + 1, middle
        last = middle
        middle = ((right - left) // (6 / 5 if right - left > 6 else 2)) + left
    return (valid - 1) / scale, slope * ((valid - 1) / scale) + offset


def naive(labels, first, second, scale):
    low1, low2 = naive_threshold(first.ravel(), second.ravel(), scale)
    both = (first > low1) & (second > low2)
    columns = {name: [] for name in NAMES}
    for label in np.unique(labels)[1:]:
        own = labels == label
        for name, image, low in zip(NAMES, (first, second), (low1, low2), strict=True):
            whole = image[own & (image >= low)].sum()
            columns[name].append(image[own & both].sum() / whole if whole else np.nan)
    return columns if both[labels > 0].any() else {name: [0] * index_objects(labels).ids.size for name in NAMES}


@pytest.mark.parametrize("kind", ["correlated", "independent", "anticorrelated"])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint8, np.float64])
def test_equals_cellprofiler_by_a_naive_search(two_channels, assert_equal_columns, kind, dtype):
    labels, first, second = two_channels(1, kind)
    if dtype == np.uint8:
        first, second = ((image >> 8).astype(dtype) for image in (first, second))
    if dtype == np.float64:
        first, second = first / 65535, second / 65535
    scale = 255 if dtype == np.uint8 else 65535
    full = 1 if dtype == np.float64 else scale
    ours = costes(index_objects(labels), first, second, "A", "B")
    assert_equal_columns(ours, naive(labels, first / full, second / full, scale), str, atol=1e-12)


@pytest.mark.parametrize("kind", ["correlated", "independent", "anticorrelated"])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint8])
def test_equals_cp_measure(two_channels, kind, dtype):
    labels, first, second = two_channels(2, kind)
    if dtype == np.uint8:
        first, second = ((image >> 8).astype(dtype) for image in (first, second))
    ours = costes(index_objects(labels), first, second, "A", "B", reference="cp_measure")
    with warnings.catch_warnings(action="ignore"):
        theirs = get_correlation_costes(first, second, relabel_sequential(labels)[0])
    for name, values in ours.items():
        expected = np.array(theirs[NAMES[name]])
        assert np.array_equal(np.isnan(values), np.isnan(expected))
        assert np.isclose(values, expected, rtol=1e-9, atol=0, equal_nan=True).mean() >= 0.99


@pytest.mark.parametrize("reference", ["cellprofiler", "cp_measure"])
def test_floats_of_16_bits_equal_16_bits(two_channels, assert_equal_columns, reference):
    labels, first, second = two_channels(4, "correlated")
    objects = index_objects(labels)
    whole = costes(objects, first, second, "A", "B", reference=reference)
    assert_equal_columns(costes(objects, first / 65535, second / 65535, "A", "B", reference=reference), whole, str)
    assert_equal_columns(costes(objects, first / 65535, second, "A", "B", reference=reference), whole, str)


def test_types_mix_on_the_finer_scale(two_channels, assert_equal_columns):
    labels, first, second = two_channels(5, "correlated")
    coarse = (second >> 8).astype(np.uint8)
    ours = costes(index_objects(labels), first, coarse, "A", "B")
    assert_equal_columns(ours, naive(labels, first / 65535, coarse / 255, 65535), str, atol=1e-12)


def test_the_threshold_sees_the_background_but_no_nan(two_channels):
    _, first, second = two_channels(6, "independent")
    second[:70] = first[:70] // 2
    whole = image_threshold(first, second, 65535)
    assert whole == pytest.approx(naive_threshold(first.ravel() / 65535, second.ravel() / 65535, 65535), rel=1e-9)
    broken = np.pad(first / 65535, 3, constant_values=np.nan)
    assert image_threshold(broken, np.pad(second / 65535, 3), 65535) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("reference", ["cellprofiler", "cp_measure"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float64])
def test_undefined_is_nan(reference, dtype):
    labels, rng = np.repeat([1, 2], 60).reshape(10, 12), np.random.default_rng(0)
    textured = rng.integers(1, 200, labels.shape).astype(dtype) / (65535 if dtype == np.float64 else 1)
    textured = textured.astype(dtype)
    for other in (np.full(labels.shape, 0.1), np.zeros(labels.shape)):
        flat = other if dtype == np.float64 else (other * 100).astype(dtype)
        for pair in ((textured, flat), (flat, textured), (flat, flat)):
            features = costes(index_objects(labels), *pair, "A", "B", reference=reference)
            assert all(np.isnan(values).all() for values in features.values())
    labels[0, 0] = 3  # one pixel
    features = costes(index_objects(labels), textured, textured, "A", "B", reference="cp_measure")
    assert all(np.isnan(values[2]) for values in features.values())


def test_a_constant_background_is_seen_exactly():
    x = np.array([[60000] * 400 + [60100, 60300, 60250, 60400]], np.uint16)
    y = np.array([[50000] * 400 + [50200, 50100, 50400, 50300]], np.uint16)
    labels = np.ones(x.shape, int)
    ours = costes(index_objects(labels), x, y, "A", "B", reference="cp_measure")
    with warnings.catch_warnings(action="ignore"):
        theirs = get_correlation_costes(x, y, labels)
    assert [values[0] for values in ours.values()] == pytest.approx([theirs[n][0] for n in NAMES.values()], nan_ok=True)


def test_nan_stays_in_its_object(two_channels):
    labels, first, second = two_channels(7, "correlated")
    first, objects = first / 65535, index_objects(labels)
    clean = costes(objects, first, second, "A", "B", reference="cp_measure")
    first[tuple(np.argwhere(labels == labels.max())[0])] = np.nan
    broken = costes(objects, first, second, "A", "B", reference="cp_measure")
    for name, values in broken.items():
        assert np.isnan(values[-1])
        assert np.array_equal(values[:-1], clean[name][:-1], equal_nan=True)


def test_no_objects_and_refusals():
    empty, image = index_objects(np.zeros((3, 3), int)), np.zeros((3, 3), np.uint16)
    for reference in ("cellprofiler", "cp_measure"):
        features = costes(empty, image, image.astype(float), "A", "B", reference=reference)
        assert features.keys() == NAMES.keys()
        assert all(values.shape == (0,) and values.dtype == float for values in features.values())
    with pytest.raises(ValueError, match=r"reference 'CP': wanted cellprofiler or cp_measure"):
        costes(empty, image, image, "A", "B", reference="CP")
    with pytest.raises(ValueError, match="steps 1: wanted 2"):
        costes(empty, image, image, "A", "B", steps=1)

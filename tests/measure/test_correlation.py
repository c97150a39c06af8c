import warnings
from itertools import pairwise

import numpy as np
import pytest
from cp_measure.core import measurecolocalization as cp_measure
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import relabel_sequential

from cellpheno.measure.correlation import correlation
from cellpheno.measure.objects import index_objects
from cellpheno.measure.ranks import dense_ranks

THEIRS = {
    "Correlation_Correlation_A_B": "Correlation_Pearson",
    "Correlation_Slope_A_B": "Correlation_Slope",
    "Correlation_Overlap_A_B": "Correlation_Overlap",
    "Correlation_K_A_B": "Correlation_K_1",
    "Correlation_K_B_A": "Correlation_K_2",
    "Correlation_Manders_A_B": "Correlation_Manders_1",
    "Correlation_Manders_B_A": "Correlation_Manders_2",
    "Correlation_RWC_A_B": "Correlation_RWC_1",
    "Correlation_RWC_B_A": "Correlation_RWC_2",
}


@pytest.fixture(scope="module")
def two_channels(random_field):
    """(seed, dtype) -> labels and two related images in that type."""

    def make(seed, dtype=np.uint16):
        labels, first = random_field(seed, 140)
        second = (random_field(seed + 50, 140)[1] // 2 + first // 3).astype(np.uint16)
        if dtype == np.uint16:
            return labels, first, second
        if dtype == np.uint8:
            return labels, (first >> 8).astype(dtype), (second >> 8).astype(dtype)
        return labels, (first / 65535).astype(dtype), (second / 65535).astype(dtype)

    return make


def unit(image):
    return image / np.iinfo(image.dtype).max if image.dtype.kind == "u" else image.astype(float)


def naive(labels, first, second, percent):
    """CellProfiler's definitions, an object at a time; ranks over the pixels of all objects."""
    first, second = unit(first), unit(second)
    rank1, rank2 = (np.unique(image[labels > 0], return_inverse=True)[1] for image in (first, second))
    n_ranks = max(rank1.max(), rank2.max()) + 1
    weights = np.zeros(labels.shape)
    weights[labels > 0] = (n_ranks - abs(rank1 - rank2)) / n_ranks
    columns = {name: [] for name in THEIRS}
    for label in np.unique(labels)[1:]:
        x, y, w = first[labels == label], second[labels == label], weights[labels == label]
        xs, ys = x >= percent / 100 * x.max(), y >= percent / 100 * y.max()
        both, dx, dy = xs & ys, x - x.mean(), y - y.mean()
        xx, yy, xy = (x[both] ** 2).sum(), (y[both] ** 2).sum(), (x[both] * y[both]).sum()
        values = [(dx * dy).sum() / np.sqrt((dx**2).sum() * (dy**2).sum()), (dx * dy).sum() / (dx**2).sum()]
        values += [xy / np.sqrt(xx * yy), xy / xx, xy / yy]
        values += [x[both].sum() / x[xs].sum(), y[both].sum() / y[ys].sum()]
        values += [(x * w)[both].sum() / x[xs].sum(), (y * w)[both].sum() / y[ys].sum()]
        for name, value in zip(THEIRS, values, strict=True):
            columns[name].append(value)
    return columns


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("percent", [15, 60])
@pytest.mark.filterwarnings("ignore:Degrees of freedom", "ignore:invalid value")  # theirs, of one pixel
def test_equals_cp_measure(two_channels, assert_equal_columns, dtype, percent):
    labels, first, second = two_channels(percent, dtype)
    ours = correlation(index_objects(labels), first, second, "A", "B", percent, "cp_measure")
    pixels = unit(first), unit(second), relabel_sequential(labels)[0]
    with warnings.catch_warnings(action="ignore"):  # it warns of one pixel
        theirs = cp_measure.get_correlation_pearson(*pixels)
    theirs |= cp_measure.get_correlation_rwc(*pixels, percent)
    theirs |= cp_measure.get_correlation_manders_fold(*pixels, percent)
    theirs |= cp_measure.get_correlation_overlap(*pixels, percent)
    assert ours.keys() == THEIRS.keys()
    kept = index_objects(labels).areas > 1
    trimmed = {name: values[kept] for name, values in ours.items()}
    assert_equal_columns(
        trimmed, {name: np.array(values)[kept] for name, values in theirs.items()}, THEIRS.get, atol=1e-12
    )


@pytest.mark.parametrize("dtypes", [(np.uint16, np.uint16), (np.uint8, np.uint16), (np.float32, np.uint8)])
def test_equals_a_naive_loop(two_channels, assert_equal_columns, dtypes):
    labels, first, _ = two_channels(3, dtypes[0])
    second = two_channels(3, dtypes[1])[2]
    ours = correlation(index_objects(labels), first, second, "A", "B", 40)
    assert_equal_columns(ours, naive(labels, first, second, 40), str, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(["uint8", "uint16", "float32", "float64"]))
def test_ranks_equal_numpys(seed, dtype):
    rng = np.random.default_rng(seed)
    values = np.exp(rng.normal(size=rng.integers(1, 400)) * rng.integers(0, 6)).clip(0, 255)
    if rng.random() < 0.5:
        values = np.floor(values)
    values = values.astype(dtype)
    pointer = np.unique(np.append(rng.integers(0, values.size, 5), [0, values.size]))
    parts = [np.unique(values[a:b], return_inverse=True)[1] for a, b in pairwise(pointer)]
    assert dense_ranks(pointer, values).tolist() == np.concatenate(parts).tolist()


def test_ranks_of_floats_of_any_sign_and_size():
    values = np.array([0.0, -0.0, -1e300, 1e-310, 5.0, 1e300, 5.0, -3.0])
    assert dense_ranks(np.array([0, 8]), values).tolist() == [2, 2, 0, 3, 4, 5, 4, 1]


def test_four_pixels_by_hand():
    x, y = np.array([[100, 80, 10, 50]], np.uint8), np.array([[10, 5, 20, 0]], np.uint8)
    features = correlation(index_objects(np.ones((1, 4), int)), x, y, "A", "B")
    # cuts 15 and 3; bright: 100 80 50 and 10 5 20; common: the first two; ranks 3 2 0 1 and 2 1 3 0
    assert features["Correlation_Manders_A_B"][0] == pytest.approx(180 / 230)
    assert features["Correlation_Manders_B_A"][0] == pytest.approx(15 / 35)
    assert features["Correlation_RWC_A_B"][0] == pytest.approx(180 * 3 / 4 / 230)
    assert features["Correlation_RWC_B_A"][0] == pytest.approx(15 * 3 / 4 / 35)
    assert features["Correlation_K_A_B"][0] == pytest.approx(1400 / 16400)
    assert features["Correlation_K_B_A"][0] == pytest.approx(1400 / 125)
    assert features["Correlation_Overlap_A_B"][0] == pytest.approx(1400 / np.sqrt(16400 * 125))
    assert features["Correlation_Slope_A_B"][0] == pytest.approx(-500 / 4600)


@pytest.mark.parametrize("brightest", range(20, 60000, 1580))
def test_a_level_at_the_cut_counts_as_it_does_in_floats(brightest):
    x = np.array([[brightest, brightest * 3 // 20, brightest * 3 // 20 + 1]], np.uint16)
    features = correlation(index_objects(np.ones((1, 3), int)), x, x[:, ::-1], "A", "B", reference="cp_measure")
    theirs = cp_measure.get_correlation_manders_fold(x / 65535.0, x[:, ::-1] / 65535.0, np.ones((1, 3), int))
    assert features["Correlation_Manders_A_B"][0] == pytest.approx(theirs["Correlation_Manders_1"][0])


def test_pairs_share_what_is_one_channels(two_channels, monkeypatch):
    labels, first, second = two_channels(1)
    images = [first, second, first // 2]
    for image in images:
        image.setflags(write=False)
    ranked = []
    monkeypatch.setattr("cellpheno.measure.correlation.dense_ranks", lambda *a: ranked.append(1) or dense_ranks(*a))
    objects = index_objects(labels)
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        correlation(objects, images[a], images[b], "A", "B")
    assert len(ranked) == 3


@pytest.mark.parametrize("dtype", [np.uint16, np.float64])
def test_undefined_is_nan(dtype):
    labels = np.repeat([[1, 2, 3, 4]], 5, axis=0)
    labels[:, 3] = [4, 0, 0, 0, 0]
    first = np.arange(20).reshape(5, 4).astype(dtype) / dtype(1)
    first = first.astype(dtype)
    second = first[::-1].copy()
    first[:, 0], second[:, 0] = 7, 3  # constant
    first[:, 1], second[:, 1] = 0, 0  # black
    features = correlation(index_objects(labels), first, second, "A", "B")
    finite = {name.split("_", 1)[1]: np.isfinite(values).tolist() for name, values in features.items()}
    assert finite.pop("Correlation_A_B") == finite.pop("Slope_A_B") == [False, False, True, False]
    assert all(found == [True, False, True, True] for found in finite.values())


@pytest.mark.parametrize("reference", ["cellprofiler", "cp_measure"])
def test_constant_floats_have_no_correlation(reference):
    labels, constant = np.ones((7, 13), int), np.full((7, 13), 0.1)
    other = np.random.default_rng(0).random((7, 13))
    features = correlation(index_objects(labels), constant, other, "A", "B", reference=reference)
    assert np.isnan(features["Correlation_Correlation_A_B"][0])
    assert np.isnan(features["Correlation_Slope_A_B"][0])
    assert features["Correlation_Manders_B_A"][0] == 1


def test_no_common_pixel():
    labels = np.array([[1, 1, 2, 2]])
    first, second = np.array([[9, 0, 9, 9]], np.uint8), np.array([[0, 9, 9, 9]], np.uint8)
    one = correlation(index_objects(labels), first, second, "A", "B")
    assert np.isnan(one["Correlation_Overlap_A_B"][0])
    assert one["Correlation_Manders_A_B"].tolist() == [0, 1]
    alone = correlation(index_objects(np.where(labels == 1, 1, 0)), first, second, "A", "B")
    assert [alone[name][0] for name in THEIRS if "Correlation_Cor" not in name and "Slope" not in name] == [0] * 7
    theirs = correlation(index_objects(labels), first, second, "A", "B", reference="cp_measure")
    assert theirs["Correlation_Overlap_A_B"].tolist() == [0, 1]


def test_nan_stays_in_its_object(two_channels):
    labels, first, second = two_channels(2, np.float64)
    clean = correlation(index_objects(labels), first, second, "A", "B", reference="cp_measure")
    spot = tuple(np.argwhere(labels == labels.max())[0])
    first[spot], second[np.unravel_index(np.argmin(labels), labels.shape)] = np.nan, np.inf
    broken = correlation(index_objects(labels), first, second, "A", "B", reference="cp_measure")
    for name, values in broken.items():
        assert np.isnan(values[-1])
        assert np.array_equal(values[:-1], clean[name][:-1], equal_nan=True)


def test_no_objects_and_refusals():
    empty, image = index_objects(np.zeros((3, 3), int)), np.zeros((3, 3), np.uint16)
    for reference in ("cellprofiler", "cp_measure"):
        features = correlation(empty, image, image.astype(float), "A", "B", reference=reference)
        assert features.keys() == THEIRS.keys()
        assert all(values.shape == (0,) and values.dtype == float for values in features.values())
    with pytest.raises(ValueError, match=r"reference 'CP': wanted cellprofiler or cp_measure"):
        correlation(empty, image, image, "A", "B", reference="CP")
    with pytest.raises(ValueError, match="threshold 100"):
        correlation(empty, image, image, "A", "B", threshold=100)

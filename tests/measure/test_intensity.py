import numpy as np
import pytest
from cp_measure.core.measureobjectintensity import get_intensity
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import relabel_sequential

from cellpheno.measure.intensity import intensity
from cellpheno.measure.objects import index_objects

LOOSE = {"Intensity_MassDisplacement": 1e-10}  # pixels: the difference of two places


def without_channel(name):
    return name.removesuffix("_DNA")


def of_pixels(*values, dtype=np.uint8):
    image = np.array([values], dtype)
    return {
        name: column[0] for name, column in intensity(index_objects(np.ones(image.shape, int)), image, "DNA").items()
    }


@pytest.mark.parametrize("reference", ["cellprofiler", "cp_measure"])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 255.0), (np.uint16, 65535.0), (np.float32, 1.0), (float, 1.0)])
def test_equals_cp_measure(random_field, assert_equal_columns, seed, dtype, scale, reference):
    labels, image = random_field(seed)
    labels[4, 4] = labels.max() + 3  # one pixel
    image = (image // 256).astype(dtype) if dtype == np.uint8 else image.astype(dtype) / (1 if scale > 1 else 65536)
    image = image.astype(dtype)
    ours = intensity(index_objects(labels), image, "DNA", reference)
    legacy = reference == "cellprofiler"  # cp_measure keeps CellProfiler's quantiles as an option
    theirs = get_intensity(relabel_sequential(labels)[0], image / np.float64(scale), legacy=legacy)
    assert_equal_columns(ours, theirs, without_channel, loose=LOOSE)


@pytest.mark.parametrize("levels", [2, 250, 60000])
def test_place_of_the_maximum_is_the_first_of_equals(random_field, levels):
    labels, _ = random_field(1)
    image = np.random.default_rng(0).integers(0, levels, labels.shape).astype(np.uint16)
    objects = index_objects(labels)
    ours = intensity(objects, image, "DNA")
    for i, label in enumerate(objects.ids):
        own = np.where(labels == label, image, -1.0)
        y, x = np.unravel_index(own.argmax(), own.shape)
        assert (ours["Location_MaxIntensity_Y_DNA"][i], ours["Location_MaxIntensity_X_DNA"][i]) == (y, x)


def test_four_pixels_by_hand():
    features = of_pixels(0, 51, 204, 102)
    expected = {
        "Intensity_IntegratedIntensity": 1.4,
        "Intensity_MeanIntensity": 0.35,
        "Intensity_StdIntensity": np.sqrt(0.0875),  # squares .1225 + .0225 + .2025 + .0025, a quarter of it
        "Intensity_LowerQuartileIntensity": 0.2,  # position 4 / 4 of 0, .2, .4, .8
        "Intensity_MedianIntensity": 0.4,
        "Intensity_MADIntensity": 0.4,  # position 2 of 0, .2, .4, .4
        "Intensity_UpperQuartileIntensity": 0.8,
        "Location_CenterMassIntensity_X": (0.2 + 1.6 + 1.2) / 1.4,
        "Intensity_MassDisplacement": 3 / 1.4 - 1.5,
        "Location_MaxIntensity_X": 2,
        "Location_MaxIntensity_Y": 0,
    }
    assert {name: features[f"{name}_DNA"] for name in expected} == pytest.approx(expected)
    edge = [value for name, value in features.items() if "Edge" in name]
    assert len(edge) == 5
    assert np.isnan(edge).all()  # the object fills the image: no pixel has another label beside it


@settings(deadline=None)
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=12), st.sampled_from([np.uint16, float]))
def test_reference_cp_measure_has_the_quantiles_of_numpy(values, dtype):
    image = np.array([values], dtype)
    found = intensity(index_objects(np.ones(image.shape, int)), image, "DNA", reference="cp_measure")
    quartiles = [found[f"Intensity_{name}Intensity_DNA"][0] for name in ("LowerQuartile", "Median", "UpperQuartile")]
    scale = 65535 if dtype == np.uint16 else 1
    assert quartiles == pytest.approx(np.percentile(values, [25, 50, 75]) / scale)
    assert found["Intensity_MADIntensity_DNA"][0] == pytest.approx(
        np.median(np.abs(values - np.median(values))) / scale
    )


def test_refuses_another_reference():
    with pytest.raises(ValueError, match="'legacy': wanted cellprofiler or cp_measure"):
        intensity(index_objects(np.ones((1, 2), int)), np.ones((1, 2)), "DNA", reference="legacy")


@settings(deadline=None)
@given(st.lists(st.integers(0, 65535), min_size=1, max_size=12), st.sampled_from([np.uint16, float]))
def test_quantiles_equal_naive_loop(values, dtype):
    def quantile(ordered, fraction):
        low = min(int(len(ordered) * fraction), len(ordered) - 1)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (len(ordered) * fraction - low)

    features = of_pixels(*values, dtype=dtype)
    scale = 65535 if dtype == np.uint16 else 1
    median = quantile(sorted(values), 0.5)
    for name, fraction in {"LowerQuartile": 0.25, "Median": 0.5, "UpperQuartile": 0.75}.items():
        expected = quantile(sorted(values), fraction) / scale
        assert features[f"Intensity_{name}Intensity_DNA"] == pytest.approx(expected)
    deviations = sorted(abs(value - median) for value in values)
    assert features["Intensity_MADIntensity_DNA"] == pytest.approx(quantile(deviations, 0.5) / scale)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_scaling_the_image_scales_grey_levels_and_moves_nothing(seed, factor):
    rng = np.random.default_rng(seed)
    labels, image = rng.integers(0, 4, (9, 9)), rng.random((9, 9))
    before, after = (intensity(index_objects(labels), image * f, "DNA") for f in (1, factor))
    for name, values in before.items():
        scales = name.startswith("Intensity") and "MassDisplacement" not in name
        np.testing.assert_allclose(after[name], values * (factor if scales else 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_object_with_a_pixel_that_is_no_number_has_no_number(random_field, bad):
    labels, image = random_field(0, 100)
    image = image / 65535
    objects = index_objects(labels)
    clean = intensity(objects, image, "DNA")
    y, x = objects.rows[objects.pointer[2]], objects.cols[objects.pointer[2]]
    image[y, x] = bad
    image[tuple(np.argwhere(labels == 0)[0])] = bad  # background does not matter
    for name, values in intensity(objects, image, "DNA").items():
        assert np.isnan(values[2]), name
        assert np.array_equal(np.delete(values, 2), np.delete(clean[name], 2), equal_nan=True), name


def test_constant_and_black_images(random_field):
    labels, _ = random_field(0, 100)
    constant = intensity(index_objects(labels), np.full(labels.shape, 777, np.uint16), "DNA")
    assert not constant["Intensity_StdIntensity_DNA"].any()
    assert not constant["Intensity_MADIntensity_DNA"].any()
    black = intensity(index_objects(labels), np.zeros(labels.shape), "DNA")
    assert not black["Intensity_MeanIntensity_DNA"].any()
    assert np.isnan(black["Location_CenterMassIntensity_X_DNA"]).all()  # nothing has a centre
    assert np.isnan(black["Intensity_MassDisplacement_DNA"]).all()


def test_no_objects_give_all_columns():
    features = intensity(index_objects(np.zeros((3, 3), int)), np.zeros((3, 3), np.uint8), "DNA")
    assert len(features) == 19
    assert all(values.shape == (0,) and values.dtype == float for values in features.values())


@pytest.mark.data
def test_equals_cp_measure_and_the_published_table_on_real_cells(cell_painting, assert_equal_columns):
    labels, image, table = cell_painting
    objects = index_objects(labels)
    for c, pixels in enumerate(image):
        ours = intensity(objects, pixels, "DNA")
        published = table[f"intensity_mean-C:{c}"].to_numpy() / 65535
        np.testing.assert_allclose(ours["Intensity_MeanIntensity_DNA"], published, rtol=1e-12)
        theirs = get_intensity(relabel_sequential(labels)[0], pixels / 65535.0, legacy=True)
        assert_equal_columns(ours, theirs, without_channel, loose=LOOSE)

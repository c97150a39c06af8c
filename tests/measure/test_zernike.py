import warnings
from math import fsum

import mahotas.features
import numpy as np
import pytest
from centrosome.cpmorphology import minimum_enclosing_circle
from cp_measure.core.measureobjectintensitydistribution import get_radial_zernikes
from cp_measure.core.measureobjectsizeshape import get_zernike
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from scipy.special import eval_jacobi
from skimage.segmentation import relabel_sequential

from cellpheno.measure.hull import enclosing_circles
from cellpheno.measure.objects import index_objects
from cellpheno.measure.zernike import intensity_zernike, zernike

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)).filter(np.any)
ORDERS = [(n, m) for n in range(10) for m in range(n % 2, n + 1, 2)]


def circles(labels):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # centrosome, one pixel
        centres, radii = minimum_enclosing_circle(labels, np.arange(1, labels.max() + 1))
    return np.column_stack([centres, radii])


def same_phase(ours, theirs, magnitude):
    """Within 1e-9, apart from whole turns; an object without a moment has no direction."""
    apart = np.abs(np.angle(np.exp(1j * (ours - theirs))))
    return (np.isnan(ours) == np.isnan(theirs)) & ~((apart > 1e-9) & (magnitude > 1e-7))


def assert_equals_cp_measure(labels, image, kept=slice(None)):
    objects = index_objects(labels)
    theirs = get_zernike(labels, None)
    for name, values in zernike(objects).items():
        expected = theirs[name.removeprefix("AreaShape_")]
        np.testing.assert_allclose(values[kept], expected[kept], rtol=1e-9, atol=1e-12, err_msg=name)
    theirs = get_radial_zernikes(labels, image / 65535)
    ours = intensity_zernike(objects, image, "ER")
    for n, m in ORDERS:
        magnitude = theirs[f"RadialDistribution_ZernikeMagnitude_{n}_{m}"]
        values = ours[f"RadialDistribution_ZernikeMagnitude_ER_{n}_{m}"]
        np.testing.assert_allclose(values[kept], magnitude[kept], rtol=1e-9, atol=1e-12, err_msg=f"{n} {m}")
        phase = theirs[f"RadialDistribution_ZernikePhase_{n}_{m}"]
        good = same_phase(ours[f"RadialDistribution_ZernikePhase_ER_{n}_{m}"], phase, magnitude)
        assert good[kept].all(), (n, m)


@pytest.mark.parametrize("seed", range(3))
def test_equals_cp_measure(random_field, seed):
    labels, image = random_field(seed)
    labels = relabel_sequential(labels)[0]
    assert np.array_equal(enclosing_circles(index_objects(labels)), circles(labels))  # to the bit
    assert_equals_cp_measure(labels, image)


@pytest.mark.data
def test_equals_cp_measure_on_real_cells(cell_painting):
    labels = relabel_sequential(cell_painting[0])[0]
    assert np.array_equal(enclosing_circles(index_objects(labels)), circles(labels))
    assert_equals_cp_measure(labels, cell_painting[1][0])


@settings(deadline=None, max_examples=50)
@given(masks)
def test_circle_of_any_mask_is_the_smallest_that_holds_all_pixels(mask):
    found = enclosing_circles(index_objects(mask.astype(int)))[0]
    np.testing.assert_allclose(found, circles(mask.astype(int))[0], rtol=1e-14, atol=1e-14)
    distances = np.linalg.norm(np.argwhere(mask) - found[:2], axis=1)
    assert distances.max() == pytest.approx(found[2], rel=1e-14)
    for step in np.argwhere(np.ones((3, 3))) - 1:  # another centre needs a larger circle
        moved = np.linalg.norm(np.argwhere(mask) - found[:2] - 1e-3 * step, axis=1)
        assert moved.max() >= found[2] * (1 - 1e-12)


def test_equals_naive_sums_by_jacobi_polynomials(random_field):
    """R_n^m(r) = (-1)^k r^m P_k^(m, 0)(1 - 2 r^2), k = (n - m) / 2; summed without loss."""
    labels, image = random_field(4, 100)
    objects = index_objects(labels)
    shape, grey = zernike(objects), intensity_zernike(objects, image, "ER")
    for o, (row, column, radius) in enumerate(enclosing_circles(objects)):
        own = slice(*objects.pointer[o : o + 2])
        y, x = (objects.rows[own] - row) / radius, (objects.cols[own] - column) / radius
        inside = x * x + y * y <= 1
        weights = image[objects.rows[own], objects.cols[own]] / 65535
        for n, m in ORDERS:
            k, z = (n - m) // 2, y + 1j * x
            values = (-1) ** k * eval_jacobi(k, m, 0, 1 - 2 * abs(z) ** 2) * z**m * inside
            total = complex(fsum(values.real), fsum(values.imag))
            expected = abs(total) / (np.pi * radius**2)
            assert shape[f"AreaShape_Zernike_{n}_{m}"][o] == pytest.approx(expected, rel=1e-11, abs=1e-14)
            total = complex(fsum(weights * values.real), fsum(weights * values.imag)) / len(y)
            magnitude = grey[f"RadialDistribution_ZernikeMagnitude_ER_{n}_{m}"][o]
            phase = grey[f"RadialDistribution_ZernikePhase_ER_{n}_{m}"][o]
            assert magnitude == pytest.approx(abs(total), rel=1e-11, abs=1e-14)
            assert magnitude * np.exp(1j * (np.pi / 2 - phase)) == pytest.approx(total, rel=1e-11, abs=1e-14)


def test_a_disk_has_a_zeroth_moment_alone():
    y, x = np.mgrid[-60:61, -60:61]
    features = zernike(index_objects((y**2 + x**2 <= 60**2).astype(int)))
    assert features["AreaShape_Zernike_0_0"].item() == pytest.approx(1, rel=0.01)
    assert max(values.item() for name, values in features.items() if not name.endswith("_0")) < 0.01


def test_magnitudes_are_those_of_mahotas_up_to_its_norm():
    """Mahotas divides by the sum of the grey levels and multiplies by (n + 1) / pi."""
    labels, image = np.zeros((41, 41), int), np.zeros((41, 41), np.uint16)
    y, x = np.mgrid[-20:21, -20:21]
    labels[y**2 + x**2 <= 19**2] = 1
    image[labels > 0] = (3000 + 90 * y + 40 * x + x * y)[labels > 0]
    theirs = mahotas.features.zernike_moments(image, 19 + 1e-9, degree=8, cm=(20, 20))  # it takes what is < the radius
    ours = intensity_zernike(index_objects(labels), image, "A")
    total = image[labels > 0].sum() / 65535 / (labels > 0).sum()
    for (n, m), expected in zip([(n, m) for n, m in ORDERS if n <= 8], theirs, strict=True):
        value = ours[f"RadialDistribution_ZernikeMagnitude_A_{n}_{m}"].item() / total * (n + 1) / np.pi
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-9), (n, m)


def test_one_pixel_is_undefined_and_bad_pixels_stay_in_their_object():
    labels = np.array([[1, 0, 2, 2, 2], [0, 0, 3, 3, 3]])
    image = np.array([[1, 1, 1, 2, 3], [1, np.nan, 1, np.nan, 3]])
    objects = index_objects(labels)
    for values in zernike(objects).values():
        assert np.isnan(values).tolist() == [True, False, False]
    for values in intensity_zernike(objects, image, "A").values():
        assert np.isnan(values).tolist() == [True, False, True]


def test_types_agree_and_scaling_the_image_scales_magnitudes(random_field):
    labels, image = random_field(2, 100)
    objects = index_objects(labels)
    ours, unit = intensity_zernike(objects, image, "A"), intensity_zernike(objects, image / 65535 / 2, "A")
    for name, values in ours.items():
        factor = 1 if "Phase" in name else 2
        np.testing.assert_allclose(unit[name] * factor, values, rtol=1e-9, atol=1e-13, err_msg=name)


def test_a_constant_image_repeats_the_shape(random_field):
    objects = index_objects(random_field(3, 100)[0])
    shape = zernike(objects)
    grey = intensity_zernike(objects, np.full(objects.labels.shape, 51, np.uint8), "A")
    for n, m in ORDERS:
        area = np.pi * enclosing_circles(objects)[:, 2] ** 2
        expected = shape[f"AreaShape_Zernike_{n}_{m}"] * area / objects.areas * 0.2
        values = grey[f"RadialDistribution_ZernikeMagnitude_A_{n}_{m}"]
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("degree", [0, 1, 4, 20])
def test_degree_adds_columns_and_changes_none(random_field, degree):
    labels, image = random_field(2, 60)
    objects = index_objects(labels)
    for features, all_features in (
        (zernike(objects, degree), zernike(objects, 20)),
        (intensity_zernike(objects, image, "A", degree), intensity_zernike(objects, image, "A", 20)),
    ):
        assert set(features) <= set(all_features)
        for name, values in features.items():
            if "Phase" not in name:
                np.testing.assert_allclose(values, all_features[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("degree", [-1, 21])
def test_other_degrees_are_refused(degree):
    with pytest.raises(ValueError, match=f"degree {degree}: wanted 0 to 20"):
        zernike(index_objects(np.ones((2, 2), int)), degree)


def test_no_objects_give_all_columns():
    none, one = index_objects(np.zeros((3, 3), int)), index_objects(np.ones((3, 3), int))
    image = np.ones((3, 3), np.uint16)
    for features, expected in (
        (zernike(none), zernike(one)),
        (intensity_zernike(none, image, "A"), intensity_zernike(one, image, "A")),
    ):
        assert list(features) == list(expected)
        assert all(values.shape == (0,) and values.dtype == float for values in features.values())

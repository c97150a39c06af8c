import numpy as np
import pytest
import skimage.measure
from cp_measure.core.measureobjectsizeshape import get_sizeshape
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.segmentation import relabel_sequential

from cellpheno.measure.moments import central_moments, moments
from cellpheno.measure.objects import index_objects

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)).filter(np.any)
FIRST = {"CentralMoment_0_1": 1e-8, "CentralMoment_1_0": 1e-8}  # 0; in cp_measure the error of its rounding


def moments_of(mask):
    features = moments(index_objects(np.asarray(mask).astype(int)))
    return {name.removeprefix("AreaShape_"): values[0] for name, values in features.items()}


def near_zero(theirs):
    """Absolute tolerance a column: odd moments vanish in symmetric objects, but for the rounding of the others."""
    largest = np.nanmax(theirs["CentralMoment_0_0"]) ** 0.5
    return {
        f"CentralMoment_{p}_{q}": 1e-13 * np.nanmax(theirs["CentralMoment_0_0"]) * largest ** (p + q)
        for p in range(3)
        for q in range(4)
    } | FIRST


@pytest.mark.parametrize("seed", range(3))
def test_equals_cp_measure(random_field, assert_equal_columns, seed):
    labels = relabel_sequential(random_field(seed)[0])[0]
    with np.errstate(divide="ignore"):  # one pixel has no perimeter
        theirs = get_sizeshape(labels, None)
    ours = moments(index_objects(labels))
    assert len(ours) == 12 + 12 + 16 + 7 + 4 + 2
    assert_equal_columns(ours, theirs, lambda n: n.removeprefix("AreaShape_"), atol=1e-12, loose=near_zero(theirs))


@pytest.mark.parametrize("seed", range(2))
def test_equals_regionprops(random_field, seed):
    labels, _ = random_field(seed, 120)
    ours = moments(index_objects(labels))
    for o, region in enumerate(skimage.measure.regionprops(labels)):
        tables = {"Spatial": region.moments, "Central": region.moments_central}
        for name, table in tables.items():
            for p in range(3):
                for q in range(4):
                    scale = region.area * max(table.shape) ** (p + q)
                    value = ours[f"AreaShape_{name}Moment_{p}_{q}"][o]
                    assert value == pytest.approx(table[p, q], rel=1e-12, abs=1e-9 * scale), (name, p, q)
        for k, invariant in enumerate(region.moments_hu):
            assert ours[f"AreaShape_HuMoment_{k}"][o] == pytest.approx(invariant, rel=1e-9, abs=1e-12)
        eigenvalues = [ours[f"AreaShape_InertiaTensorEigenvalues_{k}"][o] for k in range(2)]
        assert eigenvalues == pytest.approx(region.inertia_tensor_eigvals, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(masks)
def test_equals_naive_sums(mask):
    features, (y, x) = moments_of(mask), np.nonzero(mask)
    y0, x0 = y - y.min(), x - x.min()
    yc, xc = y - y.mean(), x - x.mean()
    for p in range(3):
        for q in range(4):
            assert features[f"SpatialMoment_{p}_{q}"] == (y0**p * x0**q).sum()
            assert features[f"CentralMoment_{p}_{q}"] == pytest.approx((yc**p * xc**q).sum(), rel=1e-11, abs=1e-9)
    tensor = np.cov(np.stack([x, y]), bias=True) * [[1, -1], [-1, 1]]
    for (i, j), value in np.ndenumerate(tensor):
        assert features[f"InertiaTensor_{i}_{j}"] == pytest.approx(value, abs=1e-12)


def test_worked_by_hand():
    features = moments_of([[1, 1], [1, 1], [0, 0]])  # +-1/2 in y and in x
    spatial = [features[f"SpatialMoment_{p}_{q}"] for p in range(3) for q in range(4)]
    assert spatial == [4, 2, 2, 2, 2, 1, 1, 1, 2, 1, 1, 1]
    expected = {"CentralMoment_2_0": 1, "CentralMoment_2_2": 1 / 4, "NormalizedMoment_2_0": 1 / 16, "HuMoment_0": 1 / 8}
    expected |= {"HuMoment_1": 0, "HuMoment_2": 0, "InertiaTensor_0_0": 1 / 4, "InertiaTensor_0_1": 0}
    expected |= {
        "InertiaTensorEigenvalues_0": 1 / 4,
        "InertiaTensorEigenvalues_1": 1 / 4,
        "NormalizedMoment_1_0": np.nan,
    }
    assert {name: features[name] for name in expected} == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(masks, st.integers(0, 3))
def test_hu_moments_stay_when_the_object_turns_and_the_last_changes_sign_in_the_mirror(mask, turns):
    features, turned, mirrored = moments_of(mask), moments_of(np.rot90(mask, turns)), moments_of(mask[:, ::-1])
    for k in range(7):
        value = pytest.approx(features[f"HuMoment_{k}"], rel=1e-9, abs=1e-13)
        assert turned[f"HuMoment_{k}"] == value
        assert (-1 if k == 6 else 1) * mirrored[f"HuMoment_{k}"] == value


@settings(deadline=None, max_examples=30)
@given(masks, st.integers(0, 5), st.integers(0, 2000))
def test_translation_leaves_moments_to_the_bit(mask, dy, dx):
    assert moments_of(mask) == pytest.approx(moments_of(np.pad(mask, ((dy, 1), (dx, 2)))), rel=0, abs=0, nan_ok=True)


def test_one_pixel_has_no_spread():
    features = moments_of([[0, 1]])
    assert features["CentralMoment_0_0"] == features["SpatialMoment_0_0"] == 1
    assert features["InertiaTensorEigenvalues_0"] == features["HuMoment_0"] == features["CentralMoment_2_2"] == 0


def test_no_objects_give_all_columns():
    none = index_objects(np.zeros((3, 3), int))
    features = moments(none)
    assert list(features) == list(moments(index_objects(np.ones((3, 3), int))))
    assert all(values.shape == (0,) and values.dtype == float for values in features.values())
    assert central_moments(none).shape == (0, 4, 4)

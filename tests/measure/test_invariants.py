"""What holds of every measurement under conf/measurements: all of them run, on objects and images of every kind."""

import re

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cellpheno.components import build
from cellpheno.config import config_groups, load_config
from cellpheno.measure.field import measure_field
from cellpheno.measure.objects import index_objects
from cellpheno.names import OBJECT

CHANNELS = ("DNA", "ER")
BY_NEIGHBORS = "Neighbors_"  # depends on the other objects
BY_IMAGE = "Correlation_(RWC|Costes)_"  # ranks and thresholds of all objects or of the image
BY_SURROUNDINGS = "Granularity_"  # of what is around the object
ON_CIRCLE = "Zernike"  # a pixel on the edge of the enclosing circle is in or out by round-off, as in CellProfiler
UNDEFINED = "NormalizedMoment_(0_0|0_1|1_0)"  # defined from the second order on
FEW = settings(
    deadline=None,
    max_examples=4,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # fields do not shrink
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def everything():
    """Every option of conf/measurements with its defaults."""
    options = ",".join(config_groups()["measurements"])
    return build(load_config("measure", "plate=P1.zarr", f"measurements=[{options}]").measurements)


@pytest.fixture(scope="module")
def measure(everything):
    def run(labels, image):
        return measure_field({"nuclei": labels}, image, CHANNELS, everything).set_index(OBJECT)

    return run


def draw(seed, size=96):
    """Objects of many kinds with gaps in their labels, and two textured channels, float in 0..1."""
    rng = np.random.default_rng(seed)
    ground = ndi.gaussian_filter(rng.random((size, size)), 4)
    labels = ndi.label(ground > np.quantile(ground, 0.6))[0] * 3
    labels[(labels > 0) & (np.indices(labels.shape)[1] > size // 2)] += 1  # cut in two: they touch
    labels[1, 1] = 70_000  # one pixel
    labels[size - 9 : size - 2, size - 9 : size - 2] = 80_001
    labels[2:9, size - 9 : size - 2] = 80_001  # two parts
    image = np.stack([ndi.gaussian_filter(rng.random((size, size)), sigma) for sigma in (1, 2)])
    image = (image - image.min()) / np.ptp(image) * 0.7 + 0.1 + 0.1 * rng.random(image.shape)
    return labels, image


def assert_same(ours, theirs, without="^$", rtol=1e-9, atol=1e-9):
    """Equal but for the columns that the pattern finds."""
    kept = [name for name in ours if not re.search(without, name)]
    assert [*ours.columns] == [*theirs.columns]
    assert len(kept) > 50
    for name in kept:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, atol=atol, err_msg=name)


@FEW
@given(st.integers(0, 10**6))
def test_relabelling_permutes_the_rows(measure, seed):
    labels, image = draw(seed)
    old = np.unique(labels)[1:]
    new = np.random.default_rng(seed).permutation(10 * len(old))[: len(old)] + 1
    renamed = np.zeros_like(labels)
    renamed[labels > 0] = new[np.searchsorted(old, labels[labels > 0])]
    before, after = measure(labels, image), measure(renamed, image)
    assert before.index.tolist() == old.tolist()
    assert after.index.tolist() == sorted(new)
    back = after.loc[new].set_axis(old)
    names = dict(zip(new.tolist(), old.tolist(), strict=True))
    numbers = [name for name in back if re.search("Object_?Number", name)]
    back[numbers] = back[numbers].map(lambda number: names.get(number, np.nan))
    assert_same(before, back)


@FEW
@given(st.integers(0, 10**6), st.integers(-20, 20), st.integers(-20, 20))
def test_a_shift_changes_places_alone(measure, seed, down, right):
    labels, image = (np.pad(array, [(0, 0)] * (array.ndim - 2) + [(21, 21)] * 2) for array in draw(seed))
    before = measure(labels, image)
    after = measure(np.roll(labels, (down, right), (0, 1)), np.roll(image, (down, right), (1, 2)))
    for axis, step in {"X": right, "Y": down}.items():
        places = f"(Center|CenterMassIntensity|MaxIntensity|BoundingBoxM.*)_{axis}(_|$)"
        moved = [name for name in before if re.search(places, name)]
        np.testing.assert_allclose(after[moved], before[moved] + step, rtol=0, atol=1e-9)
    assert_same(before, after, without=f"_[XY](_|$)|{ON_CIRCLE}|{BY_SURROUNDINGS}")  # granularity has a grid of its own
    large = before.index[before["Nuclei_AreaShape_Area"] > 90]
    circles = [name for name in before if re.search(ON_CIRCLE, name) and "Phase" not in name]
    np.testing.assert_allclose(after.loc[large, circles], before.loc[large, circles], rtol=0, atol=0.1)


@FEW
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.125]))
def test_scaling_the_image_scales_grey_levels_alone(measure, seed, factor):
    labels, image = draw(seed)
    before, after = measure(labels, image), measure(labels, image * factor)
    grey = "Nuclei_Intensity_(?!MassDisplacement)|ZernikeMagnitude"
    scaled = before.copy()
    scaled[[name for name in before if re.search(grey, name)]] *= factor
    assert_same(scaled, after, without="Texture|Costes")  # of absolute grey levels: 256 levels, steps of the threshold


@FEW
@given(st.integers(0, 10**6))
def test_an_object_alone_measures_as_among_others(measure, seed):
    labels, image = draw(seed)
    among = measure(labels, image)
    for label in (among.index[0], among.index[-3], *among.index[-2:]):
        alone = measure(np.where(labels == label, labels, 0), image)
        assert_same(among.loc[[label]], alone, without=f"{BY_NEIGHBORS}|{BY_IMAGE}")


@FEW
@given(st.integers(0, 10**6))
def test_float_images_measure_as_integers_over_their_full_scale(measure, seed):
    labels, image = draw(seed)
    image = (image * 65535).astype(np.uint16)
    assert_same(measure(labels, image), measure(labels, image / 65535), atol=1e-8)


def test_objects_of_every_kind_have_numbers(measure):
    labels, image = draw(1)
    table = measure(labels, image)
    assert not np.isinf(table).any(axis=None)
    areas = table["Nuclei_AreaShape_Area"]
    whole = table[areas > 90]
    assert len(whole) >= 5
    assert 80_001 in whole.index
    lacking = [name for name in whole if whole[name].isna().any()]
    assert all(re.search(UNDEFINED, name) for name in lacking), lacking
    assert areas[70_000] == 1
    assert table.loc[70_000].notna().sum() > 50


def test_constant_and_black_images_give_no_infinity(measure):
    labels, _ = draw(2)
    for level in (0.0, 0.25):
        table = measure(labels, np.full((2, *labels.shape), level))
        assert not np.isinf(table).any(axis=None)
        assert (table["Nuclei_Intensity_MeanIntensity_DNA"] == level).all()
        assert table["Nuclei_Correlation_Correlation_DNA_ER"].isna().all()
        assert table["Nuclei_AreaShape_FormFactor"].notna().sum() > 5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_pixel_without_a_number_spoils_its_object_in_its_channel(measure, bad):
    labels, image = draw(3)
    clean = measure(labels, image)
    own = clean["Nuclei_AreaShape_Area"].idxmax()
    y, x = np.argwhere(labels == own)[40]
    image = image.copy()
    image[0, y, x] = bad
    table = measure(labels, image)
    spoilt = [name for name in table if re.search("_DNA(_|$)", name)]
    assert len(spoilt) > 50
    assert table.loc[own, spoilt].isna().all(), table.loc[own, spoilt].dropna().index.tolist()
    assert_same(clean.drop(columns=spoilt), table.drop(columns=spoilt))
    others = clean.index[clean.index != own]
    assert_same(clean.loc[others], table.loc[others], without=f"{BY_IMAGE}|{BY_SURROUNDINGS}")
    assert table.loc[others, spoilt].notna().equals(clean.loc[others, spoilt].notna())


def test_a_field_without_objects_has_the_columns_of_any_other(measure):
    labels, image = draw(4)
    empty = measure(np.zeros_like(labels), image)
    assert len(empty) == 0
    assert [*empty.columns] == [*measure(labels, image).columns]
    assert set(empty.dtypes) == {np.dtype(float)}


def test_more_objects_than_two_bytes_can_count(everything):
    """66,000 objects of one pixel and one larger, the last: each measurement by itself, which spares memory."""
    labels = np.arange(1, 220 * 312 + 1).reshape(220, 312)
    labels[-20:, -12:] = labels.max() + 5
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 65536, labels.shape, np.uint16) for _ in CHANNELS]
    many, alone = (index_objects(found) for found in (labels, np.where(labels == labels.max(), labels, 0)))
    assert len(many) > 2**16
    arguments = {"shape": (), "channel": (planes[0], "DNA"), "pair": (*planes, *CHANNELS), "relation": ({},)}
    for section, functions in everything.items():
        for name, function in functions.items():
            columns, last = (function(objects, *arguments[section]) for objects in (many, alone))
            for column, values in columns.items():
                assert values.shape == (len(many),), name
                if not re.search(f"{BY_NEIGHBORS}|{BY_IMAGE}", column):
                    np.testing.assert_allclose(values[-1:], last[column], rtol=1e-9, atol=1e-9, err_msg=column)
        many.forget()


def test_volumes_are_refused_clearly(measure):
    labels, image = draw(5)
    with pytest.raises(ValueError, match=r"label image.*\(1, 96, 96\)"):
        measure(labels[None], image)
    with pytest.raises(ValueError, match=r"image of shape \(2, 1, 96, 96\)"):
        measure(labels, image[:, None])
    with pytest.raises(ValueError, match="plane by plane"):
        index_objects(labels[None])

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellpheno.measure.objects import all_finite, full_scale, index_objects, pixel_values, sort_within

label_images = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 5))


@settings(deadline=None)
@given(label_images, st.sampled_from([1, 1000, 2**24]))
def test_index_equals_naive_loop(small, factor):
    labels = small.astype(np.int64) * factor  # gaps; the largest factor takes the way of huge labels
    objects = index_objects(labels)
    assert objects.ids.tolist() == sorted(set(labels.ravel().tolist()) - {0})
    for i, label in enumerate(objects.ids):
        rows, cols = np.nonzero(labels == label)  # raster order
        own = slice(objects.pointer[i], objects.pointer[i + 1])
        assert objects.rows[own].tolist() == rows.tolist()
        assert objects.cols[own].tolist() == cols.tolist()
        assert objects.boxes[i].tolist() == [rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]
        assert np.array_equal(objects.labels == i + 1, labels == label)


@settings(deadline=None)
@given(label_images)
def test_inner_edge_equals_naive_loop(labels):
    objects = index_objects(labels)
    height, width = labels.shape
    for y, x, edge in zip(objects.rows, objects.cols, objects.inner_edge, strict=True):
        beside = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        inside = [(v, u) for v, u in beside if 0 <= v < height and 0 <= u < width]
        assert edge == any(labels[place] != labels[y, x] for place in inside)


def test_more_objects_than_16_bits_count():
    labels = np.arange(1, 70_001).reshape(200, 350)
    objects = index_objects(labels)
    assert len(objects) == 70_000
    assert objects.areas.max() == 1
    assert objects.rows[-1] == 199
    assert objects.cols[-1] == 349


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.uint64, ">u2"])
def test_any_integers_and_read_only_images(dtype):
    labels = np.array([[0, 9, 9], [4, 4, 4]], dtype)
    labels.setflags(write=False)
    assert index_objects(labels).areas.tolist() == [3, 2]


@pytest.mark.parametrize("shape", [(5, 4), (0, 4), (5, 0)])
def test_a_field_without_objects(shape):
    objects = index_objects(np.zeros(shape, int))
    assert len(objects) == objects.rows.size == objects.inner_edge.size == 0
    assert objects.boxes.shape == (0, 4)


def test_refusals():
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\): wanted \(y, x\)"):
        index_objects(np.zeros((2, 3, 4), int))
    with pytest.raises(TypeError, match="bool: wanted integers"):
        index_objects(np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="negative label -3"):
        index_objects(np.array([[0, -3]]))
    with pytest.raises(ValueError, match=r"image of shape \(3, 2\) and labels of shape \(2, 2\)"):
        pixel_values(index_objects(np.ones((2, 2), int)), np.zeros((3, 2), np.uint8))
    with pytest.raises(TypeError, match="int32: wanted uint8, uint16 or float"):
        full_scale(np.zeros((2, 2), np.int32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_sorted_and_finite_within_each_object(dtype):
    rng = np.random.default_rng(0)
    objects = index_objects(rng.integers(0, 4, (12, 12)))
    values = rng.integers(0, 250, objects.rows.size).astype(dtype)
    ordered = sort_within(objects, values)
    assert all_finite(objects, values).all()
    for start, stop in zip(objects.pointer[:-1], objects.pointer[1:], strict=True):
        assert ordered[start:stop].tolist() == sorted(values[start:stop].tolist())
    if np.issubdtype(dtype, np.floating):
        values[objects.pointer[1]] = np.inf
        assert all_finite(objects, values).tolist() == [True, False, True]

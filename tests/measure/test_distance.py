import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellpheno.measure.distance import edge_distance
from cellpheno.measure.objects import index_objects

label_images = hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 2))


def each_object(labels):
    objects = index_objects(labels)
    for o, name in enumerate(objects.ids):
        yield labels == name, slice(*objects.pointer[o : o + 2])


@settings(deadline=None)
@given(label_images)
def test_equals_scipy_object_by_object(labels):
    objects = index_objects(labels)
    with_border, without = edge_distance(objects), edge_distance(objects, False)
    for mask, own in each_object(labels):
        padded = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        assert np.array_equal(with_border[own], padded[mask])
        inside = ndi.distance_transform_edt(mask)[mask] if not mask.all() else np.inf
        assert np.array_equal(without[own], np.broadcast_to(inside, own.stop - own.start))


@pytest.mark.parametrize("border_is_edge", [True, False])
def test_equals_scipy_on_touching_blobs(random_field, border_is_edge):
    labels, _ = random_field(1)
    distance = edge_distance(index_objects(labels), border_is_edge)
    for mask, own in each_object(labels):
        ground = np.pad(mask, 1) if border_is_edge else np.pad(mask, 1, mode="edge")
        assert np.array_equal(distance[own], ndi.distance_transform_edt(ground)[1:-1, 1:-1][mask])


def test_a_disk_is_as_deep_as_its_radius():
    y, x = np.mgrid[-50:51, -50:51]
    distance = edge_distance(index_objects((y**2 + x**2 < 45**2).astype(int)))
    assert distance.max() == 45
    assert distance.min() == 1


def test_is_computed_once_for_each_border(random_field):
    objects = index_objects(random_field(0, 60)[0])
    assert objects.once(edge_distance, False) is objects.once(edge_distance, False)
    assert (objects.once(edge_distance, True) <= objects.once(edge_distance, False)).all()


def test_no_objects():
    assert edge_distance(index_objects(np.zeros((3, 3), int))).shape == (0,)

import numpy as np
import pytest
import scipy.ndimage as ndi
from cp_measure.multimask.measureobjectneighbors import measureobjectneighbors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.segmentation import relabel_sequential

from cellpheno.measure.neighbors import expand_labels, neighbors
from cellpheno.measure.objects import index_objects

label_images = hnp.arrays(
    np.int64,
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    elements=st.sampled_from([0, 0, 0, 2, 3, 7, 11]),
)


def grown(mask, radius):
    y, x = np.indices((15, 15)) - 7
    return ndi.binary_dilation(mask, x**2 + y**2 <= radius**2)


def naive(labels, distance):
    """CellProfiler's definition with a dilation an object; nan where CellProfiler has 0 for want of others."""
    where = {label: np.argwhere(labels == label).mean(axis=0) for label in np.unique(labels[labels > 0])}
    if distance == "expanded" and where:
        rows, cols = ndi.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
        labels = labels[rows, cols]
    reach = distance if isinstance(distance, int) else 1
    padded = np.pad(labels, 1, constant_values=-1)
    table = []
    for label, centre in where.items():
        own = labels == label
        near = np.unique(labels[grown(own, reach) & ~own & (labels > 0)])
        outline = own & ndi.binary_dilation(padded != label, np.ones((3, 3)))[1:-1, 1:-1]
        touching = outline & grown((labels > 0) & ~own, reach + 0.5)
        others = sorted((np.hypot(*(place - centre)), other) for other, place in where.items() if other != label)
        others = [*others[:2], *[(np.nan, np.nan)] * 2][:2]
        (d1, first), (d2, second) = others
        angle = np.nan
        if np.isfinite(d2) and d1 > 0:
            v1, v2 = where[first] - centre, where[second] - centre
            angle = np.degrees(np.arccos(np.clip(v1 @ v2 / (d1 * d2), -1, 1)))
        table.append([len(near), 100 * touching.sum() / outline.sum(), first, d1, second, d2, angle])
    return np.array(table).reshape(-1, 7).T


@settings(deadline=None, max_examples=40)
@given(label_images, st.sampled_from(["adjacent", "expanded", 1, 2, 4, 7]))
def test_equals_naive_loop(labels, distance):
    found = neighbors(index_objects(labels), distance)
    assert [name.split("_")[2] for name in found] == [str(distance).capitalize()] * 7
    for (name, values), expected in zip(found.items(), naive(labels, distance), strict=True):
        # 2e-6 degrees: the arccosine near 1 loses half of the digits
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=2e-6 if "Angle" in name else 0, err_msg=name)


@pytest.mark.parametrize("distance", ["adjacent", 1, 4, 9])
def test_equals_cp_measure(random_field, distance):
    labels, _ = random_field(1, 150)
    objects = index_objects(labels)
    ours = neighbors(objects, distance)
    method = ("Adjacent",) if distance == "adjacent" else ("Within a specified distance", distance)
    numbered = relabel_sequential(labels)[0]
    theirs = measureobjectneighbors(numbered, numbered, *method)
    assert ours.keys() == theirs.keys()
    first, second = (f"Neighbors_{k}ClosestObjectNumber_{str(distance).capitalize()}" for k in ("First", "Second"))
    assert np.array_equal(ours[first], objects.ids[theirs[second] - 1])  # their first is the object itself
    for name in ours.keys() - {first, second}:
        tolerance = 2e-6 if "Angle" in name else 1e-12
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=tolerance, err_msg=name)


@settings(deadline=None, max_examples=60)
@given(label_images.filter(np.any))
def test_grown_labels_are_those_of_the_nearest_pixel_of_scipy(labels):
    rows, cols = ndi.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    assert np.array_equal(expand_labels(labels.astype(np.int32)), labels[rows, cols])


def test_three_objects_by_hand():
    labels = np.array([[4, 4, 0, 6, 0, 0, 0, 9]])
    found = neighbors(index_objects(labels), 2)
    assert {name: values.tolist() for name, values in found.items()} == {
        "Neighbors_NumberOfNeighbors_2": [1, 1, 0],
        "Neighbors_PercentTouching_2": [50, 100, 0],
        "Neighbors_FirstClosestObjectNumber_2": [6, 4, 6],
        "Neighbors_FirstClosestDistance_2": [2.5, 2.5, 4],
        "Neighbors_SecondClosestObjectNumber_2": [9, 9, 4],
        "Neighbors_SecondClosestDistance_2": [6.5, 4, 6.5],
        "Neighbors_AngleBetweenNeighbors_2": [0, 180, 0],
    }
    assert neighbors(index_objects(labels), "expanded")["Neighbors_NumberOfNeighbors_Expanded"].tolist() == [1, 2, 1]


def test_without_others_the_closest_are_nan():
    alone = neighbors(index_objects(np.array([[0, 3, 3]])), "expanded")
    assert alone.pop("Neighbors_NumberOfNeighbors_Expanded") == alone.pop("Neighbors_PercentTouching_Expanded") == 0
    assert all(np.isnan(values).all() for values in alone.values())
    none = neighbors(index_objects(np.zeros((3, 3), int)), "expanded")
    assert len(none) == 7
    assert all(values.shape == (0,) for values in none.values())


def test_many_objects_in_little_time_and_memory():
    labels = np.zeros((520, 520), int)
    labels[::2, ::2] = np.arange(1, 260 * 260 + 1).reshape(260, 260)
    found = neighbors(index_objects(labels), 2)  # a lattice: four others at 2 pixels
    assert len(found["Neighbors_NumberOfNeighbors_2"]) == 67_600
    inside = np.arange(67_600).reshape(260, 260)[1:-1, 1:-1].ravel()
    assert (found["Neighbors_NumberOfNeighbors_2"][inside] == 4).all()
    assert (found["Neighbors_FirstClosestObjectNumber_2"][inside] == inside + 1 - 260).all()  # above: the first of four
    assert (found["Neighbors_SecondClosestObjectNumber_2"][inside] == inside).all()  # on the left
    assert np.allclose(found["Neighbors_AngleBetweenNeighbors_2"][inside], 90)


@pytest.mark.parametrize("distance", ["near", 0, -1, 2.5, None])
def test_refuses_other_distances(distance):
    with pytest.raises(ValueError, match="wanted adjacent, expanded or a number of pixels"):
        neighbors(index_objects(np.ones((2, 2), int)), distance)

import heapq

import numpy as np
import pytest
import scipy.ndimage as ndi
from cp_measure.core.measureobjectintensitydistribution import get_radial_distribution
from skimage.segmentation import relabel_sequential

from cellpheno.measure.objects import index_objects
from cellpheno.measure.radial import radial_distribution


def cp_measure_radial(*arguments):
    with np.errstate(invalid="ignore"):  # it divides by the pixels of empty wedges
        return get_radial_distribution(*arguments)


def without_channel(name):
    return name.replace("_DNA", "")


def spiral_field():
    """A field of the shapes that are hard: a spiral, a ring, two parts, one pixel, touching, cut by the border."""
    labels = np.zeros((60, 60), int)
    labels[2:21, 2:21] = 2
    labels[4:19, 4:6] = labels[4:6, 4:19] = labels[4:15, 17:19] = labels[13:15, 8:19] = labels[8:15, 8:10] = 0
    y, x = np.indices(labels.shape)
    labels[(abs(np.hypot(y - 12, x - 40) - 8) < 2.5)] = 5
    labels[30:36, 3:9], labels[38:43, 3:12] = 7, 7
    labels[50, 5] = 9
    labels[30:45, 20:30], labels[30:45, 30:38] = 10, 11
    labels[48:, 40:] = 14
    return labels


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("knobs", [{}, {"bins": 7}, {"scaled": False, "maximum_radius": 9, "bins": 3}])
def test_equals_cp_measure(random_field, assert_equal_columns, seed, knobs):
    labels, image = random_field(seed)
    labels[labels == 0] = np.where(np.random.default_rng(seed).random((labels == 0).sum()) < 0.001, 5, 0)  # scattered
    ours = radial_distribution(index_objects(labels), image, "DNA", **knobs, reference="cp_measure")
    theirs = cp_measure_radial(
        relabel_sequential(labels)[0],
        image / 65535.0,
        knobs.get("scaled", True),
        knobs.get("bins", 4),
        knobs.get("maximum_radius", 100),
    )
    assert len(ours) == len(theirs) == 3 * (knobs.get("bins", 4) + ("scaled" in knobs))
    assert_equal_columns(ours, theirs, without_channel)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_hard_shapes_and_other_types_equal_cp_measure(assert_equal_columns, dtype):
    labels = spiral_field()
    image = (np.random.default_rng(0).random(labels.shape) * 200).astype(dtype)
    ours = radial_distribution(index_objects(labels), image, "DNA", reference="cp_measure")
    assert_equal_columns(ours, cp_measure_radial(relabel_sequential(labels)[0], image.astype(float)), without_channel)


def naive(labels, image, label, bins, last):
    """CellProfiler's definition pixel by pixel, with Dijkstra's algorithm for the distances."""
    mask = labels == label
    depth = np.where(mask, ndi.distance_transform_edt(mask), -1)
    ties = np.flatnonzero(depth == depth.max())
    centre = tuple(int(c) for c in np.unravel_index(ties[-1 if last else 0], labels.shape))
    path, queue = {}, [(0.0, centre)]
    while queue:
        length, (y, x) = heapq.heappop(queue)
        if (y, x) not in path:
            path[y, x] = length
            for v in range(max(y - 1, 0), min(y + 2, labels.shape[0])):
                for u in range(max(x - 1, 0), min(x + 2, labels.shape[1])):
                    if mask[v, u]:
                        heapq.heappush(queue, (length + np.hypot(v - y, u - x), (v, u)))
    rings = [[[] for _ in range(8)] for _ in range(bins)]
    for (y, x), length in path.items():
        down, right = y - centre[0], x - centre[1]
        wedge = (down > 0) + 2 * (right > 0) + 4 * (abs(down) > abs(right))
        rings[int(length / (length + depth[y, x] + 0.001) * bins)][wedge].append(image[y, x])
    total = sum(image[place] for place in path)
    features = {}
    for k, ring in enumerate(rings):
        pixels, means = np.concatenate(ring), [np.mean(wedge) for wedge in ring if wedge]
        fraction = pixels.sum() / total
        features[f"FracAtD_DNA_{k + 1}of{bins}"] = fraction
        features[f"MeanFrac_DNA_{k + 1}of{bins}"] = fraction / (pixels.size / len(path)) if pixels.size else 0
        features[f"RadialCV_DNA_{k + 1}of{bins}"] = np.std(means) / np.mean(means) if means else 0
    return features


@pytest.mark.parametrize("reference", ["cellprofiler", "cp_measure"])
def test_equals_naive_loop(reference):
    labels = spiral_field()
    image = np.random.default_rng(1).random(labels.shape)
    objects = index_objects(labels)
    ours = radial_distribution(objects, image, "DNA", 3, reference=reference)
    for row, label in enumerate(objects.ids):
        for name, expected in naive(labels, image, label, 3, reference == "cellprofiler").items():
            assert ours[f"RadialDistribution_{name}"][row] == pytest.approx(expected, rel=1e-12), (label, name)


def test_references_differ_where_two_pixels_are_deepest():
    labels = np.zeros((5, 6), int)
    labels[1:4, 1:5] = 1  # the two pixels in the middle
    image = np.indices(labels.shape)[1] ** 2.0
    objects = index_objects(labels)
    inner = [
        radial_distribution(objects, image, "DNA", 2, reference=reference)["RadialDistribution_FracAtD_DNA_1of2"][0]
        for reference in ("cp_measure", "cellprofiler")
    ]
    # the centre, its neighbours above, below and aside, and the other deepest pixel; columns 1 2 3 4, squares 1 4 9 16
    assert inner == pytest.approx([(1 + 3 * 4 + 9) / 90, (4 + 3 * 9 + 16) / 90])
    with pytest.raises(ValueError, match="wanted cellprofiler or cp_measure"):
        radial_distribution(objects, image, "DNA", reference="CellProfiler")


def test_geometry_is_computed_once_a_mask(random_field, monkeypatch):
    import cellpheno.measure.radial as module

    calls = []
    shortest = module._shortest
    monkeypatch.setattr(module, "_shortest", lambda *arguments: calls.append(1) or shortest(*arguments))
    labels, image = random_field(0, 80)
    objects = index_objects(labels)
    for channel in ("DNA", "ER"):
        radial_distribution(objects, image, channel)
        radial_distribution(objects, image, channel, scaled=False)
    assert len(calls) == 1


def test_parts_that_no_path_joins_count_nowhere():
    labels = np.zeros((12, 20), int)
    labels[2:9, 2:9], labels[4, 15] = 1, 1
    image = np.random.default_rng(0).random(labels.shape)
    whole = radial_distribution(index_objects(labels), image, "DNA")
    alone = radial_distribution(index_objects(np.where(np.indices(labels.shape)[1] < 10, labels, 0)), image, "DNA")
    assert all(np.array_equal(whole[name], alone[name]) for name in alone)
    assert sum(whole[f"RadialDistribution_FracAtD_DNA_{k}of4"][0] for k in range(1, 5)) == pytest.approx(1)


def test_undefined_is_nan_and_empty_rings_are_0_as_in_cellprofiler():
    labels = spiral_field()
    objects = index_objects(labels)
    one = list(objects.ids).index(9)
    constant = radial_distribution(objects, np.full(labels.shape, 0.25), "DNA")
    values = [constant[f"RadialDistribution_{f}_DNA_{k}of4"][one] for k in (1, 2) for f in ("FracAtD", "MeanFrac")]
    assert values == pytest.approx([1, 1, 0, 0])
    assert all(abs(column).max() < 1e-12 for name, column in constant.items() if "CV" in name)
    black = radial_distribution(objects, np.zeros(labels.shape, np.uint16), "DNA")
    for name, column in black.items():
        assert (column == 0).all() if "CV" in name else np.isnan(column).all()
    image = np.random.default_rng(0).random(labels.shape)
    clean = radial_distribution(objects, image, "DNA")
    image[objects.rows[objects.pointer[2]], objects.cols[objects.pointer[2]]] = np.nan
    for name, column in radial_distribution(objects, image, "DNA").items():
        assert np.isnan(column[2]), name
        assert np.array_equal(np.delete(column, 2), np.delete(clean[name], 2))
    fills = radial_distribution(index_objects(np.ones((9, 9), int)), np.ones((9, 9)), "DNA")
    assert all(np.isnan(column).all() for column in fills.values())  # it has no edge


def test_no_objects_give_all_columns():
    features = radial_distribution(
        index_objects(np.zeros((3, 3), int)), np.zeros((3, 3), np.uint8), "DNA", scaled=False
    )
    assert len(features) == 15
    assert features["RadialDistribution_RadialCV_DNA_Overflow"].shape == (0,)


def test_refusals():
    objects, image = index_objects(np.eye(4, dtype=int)), np.ones((4, 4))
    with pytest.raises(ValueError, match="bins 0: wanted 1 to 8190"):
        radial_distribution(objects, image, "DNA", bins=0)
    with pytest.raises(ValueError, match="maximum_radius 0"):
        radial_distribution(objects, image, "DNA", maximum_radius=0)
    with pytest.raises(TypeError, match="int64"):
        radial_distribution(objects, image.astype(np.int64), "DNA")


@pytest.mark.data
def test_equals_cp_measure_on_real_cells(cell_painting, assert_equal_columns):
    labels, image, _ = cell_painting
    ours = radial_distribution(index_objects(labels), image[0], "DNA", reference="cp_measure")
    theirs = cp_measure_radial(relabel_sequential(labels)[0], image[0] / 65535.0)
    assert_equal_columns(ours, theirs, without_channel)

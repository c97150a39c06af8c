import math

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellpheno.images.labels import combine_labels, match_objects, own_labels, read_labels

FIELD = {"Metadata_Plate": "P1", "Metadata_Well": "B03", "Metadata_Site": 7}
IMAGE = np.zeros((2, 4, 6), np.uint16)
small_labels = hnp.arrays(np.int32, (6, 7), elements=st.integers(0, 4))


def matches_naive(predicted, truth, iou):
    """Largest number of pairs, by trying every choice of a partner for every object."""

    def best(left, free):
        if not left:
            return 0
        pairs = [
            1 + best(left[1:], free - {t})
            for t in free
            if ((predicted == left[0]) & (truth == t)).sum() / ((predicted == left[0]) | (truth == t)).sum() >= iou
        ]
        return max([best(left[1:], free), *pairs])

    return best([p for p in np.unique(predicted) if p], frozenset(int(t) for t in np.unique(truth) if t))


@settings(max_examples=60, deadline=None)
@given(small_labels, small_labels, st.sampled_from([0.05, 0.2, 0.5, 0.8]))
def test_matches_equal_the_naive_search(predicted, truth, iou):
    n, m = (len(np.unique(labels[labels > 0])) for labels in (predicted, truth))
    found = matches_naive(predicted, truth, iou)
    expected = [a / b if b else math.nan for a, b in ((found, n), (found, m), (2 * found, n + m))]
    np.testing.assert_allclose(match_objects(predicted, truth, iou), expected)


@given(small_labels, st.permutations(range(1, 5)), st.integers(1, 10**8))
@settings(deadline=None)
def test_numbers_of_objects_do_not_matter(labels, order, stride):
    renumbered = np.array([0, *order])[labels] * stride
    if labels.any():
        assert match_objects(renumbered, labels, 0.99) == (1, 1, 1)


def test_nothing_to_match():
    none, one = np.zeros((2, 2), int), np.ones((2, 2), int)
    assert all(math.isnan(value) for value in match_objects(none, none))
    precision, recall, f1 = match_objects(none, one)
    assert math.isnan(precision)
    assert (recall, f1) == (0, 0)


@given(small_labels, small_labels)
@settings(deadline=None)
def test_cytoplasm_is_the_cell_without_its_own_nuclei(nuclei, cells):
    cytoplasm = combine_labels(nuclei, cells)["cytoplasm"]
    for y, x in np.ndindex(cells.shape):
        shared = [((nuclei == nuclei[y, x]) & (cells == c)).sum() for c in range(1, 5)]
        own = nuclei[y, x] and max(shared) and cells[y, x] == 1 + int(np.argmax(shared))
        assert cytoplasm[y, x] == (0 if own else cells[y, x])


def test_label_files_of_a_field(tmp_path):
    nuclei, cells = np.zeros((2, 4, 6), np.uint16)
    cells[:3, :3], cells[:, 4:] = 9, 40000
    nuclei[1, 1], nuclei[2, 5] = 2, 5
    tifffile.imwrite(tmp_path / "P1_B03_07_nuclei.tif", nuclei)
    tifffile.imwrite(tmp_path / "P1_B03_07_cells.tif", cells.astype(np.float32)[None])
    paths = {name: f"{tmp_path}/{{plate}}_{{well}}_{{site:02d}}_{name}.tif" for name in ("nuclei", "cells")}
    labels = own_labels(IMAGE, ["a", "b"], FIELD, **paths)
    assert {name: array.dtype for name, array in labels.items()} == dict.fromkeys(
        ["nuclei", "cells", "cytoplasm"], "i4"
    )
    np.testing.assert_array_equal(labels["nuclei"], nuclei)
    np.testing.assert_array_equal(labels["cells"], cells)
    np.testing.assert_array_equal(labels["cytoplasm"], np.where(nuclei > 0, 0, cells))
    assert list(own_labels(IMAGE, ["a", "b"], FIELD, cells=paths["cells"])) == ["cells"]
    assert list(own_labels(IMAGE, ["a", "b"], FIELD, nuclei=paths["nuclei"])) == ["nuclei"]


def test_own_labels_refuse(tmp_path):
    with pytest.raises(ValueError, match="give the path"):
        own_labels(IMAGE, [], FIELD)
    with pytest.raises(FileNotFoundError, match="B03_cells"):
        own_labels(IMAGE, [], FIELD, cells=f"{tmp_path}/{{well}}_cells.tif")
    with pytest.raises(ValueError, match=r"'\{plat\}.tif'.*'plate': 'P1'"):
        own_labels(IMAGE, [], FIELD, cells="{plat}.tif")


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (np.zeros((4, 5), np.uint16), r"\(4, 5\) pixels; the field has \(4, 6\)"),
        (np.full((4, 6), 0.5, np.float32), "wanted whole numbers"),
        (np.full((4, 6), -1, np.int16), "wanted whole numbers"),
        (np.full((4, 6), 2**31, np.uint32), "wanted whole numbers"),
        (np.array([[255, 0, 255, 0, 0, 0]] * 4, np.uint8), "is a mask"),
    ],
)
def test_files_that_are_no_label_image_are_refused(tmp_path, values, fault):
    tifffile.imwrite(tmp_path / "cells.tif", values)
    with pytest.raises(ValueError, match=fault):
        read_labels(tmp_path / "cells.tif", (4, 6))

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.segmentation import find_boundaries

from cellpheno.measure.objects import index_objects
from cellpheno.measure.relations import children_count, largest_child, parent_index, relations

label_images = hnp.arrays(np.int64, (7, 7), elements=st.sampled_from([0, 0, 2, 3, 7, 11]))


@settings(deadline=None)
@given(label_images, label_images)
def test_relations_equal_naive_loop(parent_labels, child_labels):
    parents, children = index_objects(parent_labels), index_objects(child_labels)
    expected = []
    for child in children.ids:
        overlap = [((child_labels == child) & (parent_labels == parent)).sum() for parent in parents.ids]
        expected.append(int(np.argmax(overlap)) if max(overlap, default=0) else -1)
    assert parent_index(children, parents).tolist() == expected
    assert children_count(parents, children).tolist() == [expected.count(i) for i in range(len(parents))]
    for i, found in enumerate(largest_child(parents, children)):
        areas = [area if parent == i else 0 for area, parent in zip(children.areas, expected, strict=True)]
        assert found == (int(np.argmax(areas)) if max(areas, default=0) else -1)


def test_cells_grown_from_nuclei_keep_their_numbers(random_field):
    nuclei, _ = random_field(0, 100)
    cells = index_objects(np.where(nuclei > 0, nuclei, np.roll(nuclei, 1, axis=0)))
    features = relations(index_objects(nuclei), {"Cells": cells, "Cytoplasm": cells})
    assert list(features) == ["Number_Object_Number", "Parent_Cells"]
    assert (
        features["Parent_Cells"].tolist() == features["Number_Object_Number"].tolist() == np.unique(nuclei)[1:].tolist()
    )


@settings(deadline=None)
@given(label_images, label_images)
def test_distances_equal_naive_loop(parent_labels, child_labels):
    parents, children = index_objects(parent_labels), index_objects(child_labels)
    found = relations(children, {"Cells": parents}, distances=True)
    edges = find_boundaries(parent_labels, mode="inner")
    for i, child in enumerate(children.ids):
        parent = found["Parent_Cells"][i]
        centre = np.argwhere(child_labels == child).mean(axis=0)
        pixels, edge = np.argwhere(parent_labels == parent), np.argwhere(edges & (parent_labels == parent))
        centroid = np.hypot(*(pixels.mean(axis=0) - centre)) if len(pixels) else np.nan
        minimum = np.hypot(*(edge - centre).T).min() if len(edge) else np.nan
        assert found["Distance_Centroid_Cells"][i] == pytest.approx(centroid, abs=1e-12, nan_ok=True)
        assert found["Distance_Minimum_Cells"][i] == pytest.approx(minimum, abs=1e-12, nan_ok=True)


def test_a_nucleus_outside_all_cells_has_no_parent():
    cells, nuclei = index_objects(np.array([[5, 0, 0]])), index_objects(np.array([[0, 0, 8]]))
    assert np.isnan(relations(nuclei, {"Cells": cells})["Parent_Cells"]).all()
    assert relations(cells, {"Nuclei": nuclei})["Children_Nuclei_Count"].tolist() == [0]
    assert list(relations(nuclei, {})) == ["Number_Object_Number"]

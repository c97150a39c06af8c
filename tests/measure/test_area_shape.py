import numpy as np
import pandas as pd
import pytest
import skimage.measure
import skimage.morphology
import tifffile
from cp_measure.core.measureobjectsizeshape import get_feret, get_sizeshape
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.segmentation import relabel_sequential

from cellpheno.measure.area_shape import area_shape
from cellpheno.measure.objects import index_objects

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)).filter(np.any)


def cp_measure_name(name):
    return name.removeprefix("AreaShape_").removeprefix("Location_")


def shape_of(mask):
    features = area_shape(index_objects(mask.astype(int)))
    return {name.removeprefix("AreaShape_"): values[0] for name, values in features.items()}


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")  # centrosome, one pixel
@pytest.mark.parametrize("seed", range(3))
def test_equals_cp_measure(random_field, assert_equal_columns, seed):
    labels, _ = random_field(seed)
    numbered = relabel_sequential(labels)[0]
    ours = area_shape(index_objects(labels))
    ours["AreaShape_FormFactor"][ours["AreaShape_Perimeter"] == 0] = np.inf  # undefined there; cp_measure divides by 0
    with np.errstate(divide="ignore"):
        theirs = get_sizeshape(numbered, None) | get_feret(numbered, None)
    flip = np.abs(ours["AreaShape_Orientation"]) == 90  # the sign of 90 degrees is the sign of a rounding error
    ours["AreaShape_Orientation"][flip] *= np.sign(theirs["Orientation"][flip])
    assert_equal_columns(ours, theirs, cp_measure_name)


@pytest.mark.parametrize("seed", range(2))
def test_equals_regionprops(random_field, seed):
    labels, _ = random_field(seed, 120)
    ours = area_shape(index_objects(labels))
    properties = {
        "Area": "area",
        "ConvexArea": "area_convex",
        "Eccentricity": "eccentricity",
        "EquivalentDiameter": "equivalent_diameter_area",
        "EulerNumber": "euler_number",
        "Extent": "extent",
        "MajorAxisLength": "axis_major_length",
        "Perimeter": "perimeter",
        "Solidity": "solidity",
    }
    theirs = skimage.measure.regionprops_table(labels, properties=["label", *properties.values()])
    assert index_objects(labels).ids.tolist() == theirs["label"].tolist()
    for name, other in properties.items():
        np.testing.assert_allclose(ours[f"AreaShape_{name}"], theirs[other], rtol=1e-9, atol=1e-7, err_msg=name)


@settings(deadline=None)
@given(masks)
def test_convex_area_and_euler_number_of_any_mask(mask):
    features = shape_of(mask)
    assert features["ConvexArea"] == skimage.morphology.convex_hull_image(mask).sum()
    assert features["EulerNumber"] == skimage.measure.euler_number(mask, 2)


@settings(deadline=None, max_examples=40)
@given(masks)
def test_feret_diameters_of_any_mask_equal_naive_loop(mask):
    points = np.argwhere(mask)
    steps = (points[:, None] - points[None]).reshape(-1, 2)
    directions = steps[steps.any(axis=1)]
    features = shape_of(mask)
    assert features["MaxFeretDiameter"] == pytest.approx(np.sqrt((steps**2).sum(axis=1).max()))
    widths = [np.ptp(points @ (-dx, dy)) / np.hypot(dy, dx) for dy, dx in directions]  # narrowest along an edge
    assert features["MinFeretDiameter"] == pytest.approx(min(widths, default=0.0))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (
            [[1, 1], [1, 1]],  # border pixels only, each with two beside and one at the corner: four steps
            {"Area": 4, "Perimeter": 4, "FormFactor": np.pi, "Compactness": 1 / np.pi, "ConvexArea": 4, "Extent": 1}
            | {"MajorAxisLength": 2, "MinorAxisLength": 2, "Eccentricity": 0, "MaxFeretDiameter": np.sqrt(2)}
            | {"MinFeretDiameter": 1, "Center_X": 0.5, "Center_Y": 0.5, "MaximumRadius": 1, "EulerNumber": 1},
        ),
        (
            [[1, 1, 1, 1]],  # variance of 0, 1, 2, 3 is 5 / 4
            {"Area": 4, "MajorAxisLength": 2 * np.sqrt(5), "MinorAxisLength": 0, "Eccentricity": 1, "Orientation": 90}
            | {"MaxFeretDiameter": 3, "MinFeretDiameter": 0, "BoundingBoxMaximum_X": 4, "BoundingBoxMaximum_Y": 1},
        ),
        (
            [[1, 0], [1, 0], [1, 1]],  # an L: the hull takes no pixel more
            {"Area": 4, "BoundingBoxArea": 6, "Extent": 2 / 3, "ConvexArea": 5, "Solidity": 4 / 5}
            | {"MaxFeretDiameter": np.sqrt(5), "Center_X": 0.25, "Center_Y": 1.25},
        ),
        (
            [[1, 0, 1], [0, 0, 0], [1, 0, 1]],  # four parts
            {"Area": 4, "EulerNumber": 4, "ConvexArea": 9, "Perimeter": 0, "MaximumRadius": 1, "MedianRadius": 1},
        ),
        (
            [[1]],
            {"Area": 1, "Perimeter": 0, "FormFactor": np.nan, "Compactness": 0, "ConvexArea": 1, "Eccentricity": 0}
            | {"MaxFeretDiameter": 0, "MinFeretDiameter": 0, "MajorAxisLength": 0},
        ),
    ],
)
def test_objects_worked_by_hand(mask, expected):
    features = shape_of(np.array(mask))
    assert {name: features[name] for name in expected} == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(masks, st.integers(0, 5), st.integers(0, 5))
def test_translation_moves_places_and_leaves_shape_to_the_bit(mask, dy, dx):
    features, moved = shape_of(mask), shape_of(np.pad(mask, ((dy, 2), (dx, 2))))
    for name, value in features.items():
        if name.endswith(("_X", "_Y")):
            assert moved[name] == pytest.approx(value + (dx if name.endswith("X") else dy))
        else:
            assert np.array_equal(moved[name], value, equal_nan=True), name


def test_relabelling_permutes_rows(random_field):
    labels, _ = random_field(5, 120)
    names = np.unique(labels)[1:]
    new_names = np.random.default_rng(0).permutation(names * 7)
    relabelled = np.append(new_names, 0)[np.where(labels, np.searchsorted(names, labels), len(names))]
    before, after = area_shape(index_objects(labels)), area_shape(index_objects(relabelled))
    for name, values in before.items():
        assert np.array_equal(after[name], values[np.argsort(new_names)], equal_nan=True)


def test_no_objects_give_all_columns():
    features = area_shape(index_objects(np.zeros((3, 3), int)))
    assert list(features) == list(area_shape(index_objects(np.ones((3, 3), int))))
    assert all(values.shape == (0,) and values.dtype == float for values in features.values())


@pytest.mark.data
def test_equals_cellprofiler_on_its_own_masks(data):
    """The table was made by CellProfiler 3, before scikit-image changed ellipse, perimeter and convex hull."""
    ours, theirs = [], []
    for name, first_image in (("MEF_LMNA--", 1), ("MEF_wildtype", 31)):
        folder = data / "cellprofiler_oracle" / "mef_masks" / name
        table = pd.read_csv(folder / "CellProfiler.csv").sort_values(["ImageNumber", "ObjectNumber"])
        for number, path in enumerate(sorted(folder.glob("*.tiff")), first_image):
            features = pd.DataFrame(area_shape(index_objects(tifffile.imread(path))))
            ours.append(features)
            assert len(features) == (table.ImageNumber == number).sum(), path.name
        theirs.append(table)
    ours, theirs = pd.concat(ours, ignore_index=True), pd.concat(theirs, ignore_index=True)
    assert len(ours) == 193
    for name in ("Area", "EulerNumber", "Extent", "MaxFeretDiameter", "MinFeretDiameter"):
        np.testing.assert_allclose(ours[f"AreaShape_{name}"], theirs[f"AreaShape_{name}"], rtol=1e-12, err_msg=name)
    for name in ("MaximumRadius", "MeanRadius", "MedianRadius"):
        np.testing.assert_allclose(ours[f"AreaShape_{name}"], theirs[f"AreaShape_{name}"], rtol=1e-12, err_msg=name)
    for axis in "XY":
        np.testing.assert_allclose(ours[f"AreaShape_Center_{axis}"], theirs[f"Location_Center_{axis}"], rtol=1e-12)
    turned = 90 - ours.AreaShape_Orientation  # against the x axis then
    assert np.abs((turned - theirs.AreaShape_Orientation + 90) % 180 - 90).max() < 1e-9
    for name, tolerance in {
        "MajorAxisLength": 3e-3,
        "MinorAxisLength": 3e-3,
        "Solidity": 2e-2,
        "Perimeter": 8e-2,
    }.items():
        np.testing.assert_allclose(ours[f"AreaShape_{name}"], theirs[f"AreaShape_{name}"], rtol=tolerance, err_msg=name)
    np.testing.assert_allclose(ours.AreaShape_Eccentricity, theirs.AreaShape_Eccentricity, atol=5e-4)


@pytest.mark.data
def test_equals_cp_measure_on_real_cells(cell_painting, assert_equal_columns):
    labels = relabel_sequential(cell_painting[0])[0]
    ours = area_shape(index_objects(labels))
    kept = ours["AreaShape_Area"] > 10  # specks of a few pixels: test_objects_worked_by_hand
    with np.errstate(divide="ignore"):
        theirs = get_sizeshape(labels, None) | get_feret(labels, None)
    ours = {name: values[kept] for name, values in ours.items()}
    assert_equal_columns(ours, {k: v[kept] for k, v in theirs.items()}, cp_measure_name)

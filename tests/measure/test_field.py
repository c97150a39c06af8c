import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from cellpheno.components import build
from cellpheno.config import config_groups, load_config
from cellpheno.measure.area_shape import area_shape
from cellpheno.measure.field import measure_field, warm_up
from cellpheno.measure.intensity import intensity
from cellpheno.measure.objects import index_objects
from cellpheno.measure.relations import relations
from cellpheno.measure.texture import texture
from cellpheno.names import OBJECT, is_feature

ALL = {
    "shape": {"area_shape": area_shape},
    "channel": {"intensity": intensity, "texture": texture},
    "relation": {"relations": relations},
}


@pytest.fixture
def field(random_field):
    """Cells 1..n with a nucleus each, but cell 3 without, cell 6 with two; 2 channels."""
    cells, image = np.zeros((90, 120), int), random_field(0, 120)[1][:90]
    nuclei = np.zeros_like(cells)
    for i in range(12):
        y, x = 30 * (i // 4), 30 * (i % 4)
        cells[y : y + 30, x : x + 30 - i % 3] = i + 1
        nuclei[y + 8 : y + 18, x + 8 : x + 16] = i + 1
    nuclei[nuclei == 3] = 0
    nuclei[30 + 22 : 30 + 27, 30 + 4 : 30 + 9] = 50  # a smaller second nucleus in cell 6
    labels = {"cells": cells, "nuclei": nuclei, "cytoplasm": np.where(nuclei > 0, 0, cells)}
    return labels, np.stack([image, image[::-1]])


def test_a_row_is_a_cell_with_its_own_nucleus_and_cytoplasm(field):
    labels, image = field
    table = measure_field(labels, image, ["DNA", "FKHR-GFP"], ALL)
    assert table[OBJECT].tolist() == list(range(1, 13))
    assert table.Cells_Children_Nuclei_Count.tolist() == [1, 1, 0, 1, 1, 2, 1, 1, 1, 1, 1, 1]
    nuclei = index_objects(labels["nuclei"])
    own = intensity(nuclei, image[1], "FKHRGFP")["Intensity_MeanIntensity_FKHRGFP"]
    expected = [own[nuclei.ids.tolist().index(i)] if i != 3 else np.nan for i in range(1, 13)]
    assert np.array_equal(table.Nuclei_Intensity_MeanIntensity_FKHRGFP, expected, equal_nan=True)
    assert table.Nuclei_AreaShape_Area.tolist()[5] == 80  # the larger of two
    assert table.filter(like="Nuclei_", axis=1).filter(regex="^Nuclei").loc[2].isna().all()
    assert (table.Cytoplasm_Parent_Cells == table[OBJECT]).all()
    assert (table.Nuclei_AreaShape_Area.fillna(0) + table.Cytoplasm_AreaShape_Area <= table.Cells_AreaShape_Area).all()


def test_columns_depend_on_the_request_and_never_on_the_pixels(field):
    labels, image = field
    table = measure_field(labels, image, ["DNA", "ER"], ALL)
    for name, n in (("Texture_", 3 * 2 * 52), ("Intensity_Mean", 3 * 2 * 2), ("Parent_", 2), ("Children_", 2)):
        assert table.columns.str.contains(f"^[A-Za-z]+_{name}").sum() == n
    assert all(is_feature(name) for name in table.columns.drop(OBJECT))
    empty = measure_field({name: np.zeros_like(label) for name, label in labels.items()}, image, ["DNA", "ER"], ALL)
    assert len(empty) == 0
    pd.testing.assert_series_equal(empty.dtypes, table.dtypes)
    assert table.dtypes[OBJECT] == np.int64
    assert set(table.dtypes.drop(OBJECT)) == {np.dtype(float)}


@pytest.mark.parametrize("kept", [("cells",), ("nuclei",), ("cells", "nuclei"), ("cells", "cytoplasm")])
def test_label_images_that_are_given(field, kept):
    labels, image = field
    table = measure_field({name: labels[name] for name in kept}, image, ["DNA", "ER"], ALL)
    assert table[OBJECT].tolist() == np.unique(labels[kept[0]])[1:].tolist()
    assert {name.split("_")[0] for name in table.columns.drop(OBJECT)} == {name.capitalize() for name in kept}


def test_centres_and_nuclei_are_counted_whatever_is_measured(field):
    table = measure_field(*field, ["DNA", "ER"], {})
    assert table.columns[:4].tolist() == [
        OBJECT,
        "Cells_Children_Nuclei_Count",
        "Cells_AreaShape_Center_X",
        "Cells_AreaShape_Center_Y",
    ]
    full = measure_field(*field, ["DNA", "ER"], ALL)
    pd.testing.assert_frame_equal(full[table.columns], table)


def test_pairs_of_channels_and_an_own_measurement(field):
    def covariance(objects, image1, image2, channel1, channel2):
        product = image1[objects.rows, objects.cols] * 1.0 * image2[objects.rows, objects.cols]
        return {f"Correlation_Product_{channel1}_{channel2}": np.add.reduceat(product, objects.pointer[:-1])}

    labels, image = field
    three = np.concatenate([image, image[:1]])
    table = measure_field({"cells": labels["cells"]}, three, ["A", "B", "C"], {"pair": {"covariance": covariance}})
    assert table.columns[-3:].tolist() == [f"Cells_Correlation_Product_{pair}" for pair in ("A_B", "A_C", "B_C")]
    squares = (image[0].astype(float) ** 2)[labels["cells"] == 2].sum()
    assert table.Cells_Correlation_Product_A_C[1] == pytest.approx(squares)


def test_refusals(field):
    labels, image = field
    with pytest.raises(ValueError, match=r"label images \['cytoplasm', 'nuclei'\]"):
        measure_field({name: labels[name] for name in ("nuclei", "cytoplasm")}, image, ["A", "B"], ALL)
    with pytest.raises(ValueError, match="a name a channel"):
        measure_field(labels, image, ["A"], ALL)
    with pytest.raises(ValueError, match=r"label image nuclei of shape \(9, 120\)"):
        measure_field(labels | {"nuclei": labels["nuclei"][:9]}, image, ["A", "B"], ALL)
    with pytest.raises(ValueError, match=r"sections \['shapes'\]"):
        measure_field(labels, image, ["A", "B"], {"shapes": {}})
    with pytest.raises(ValueError, match="measurement again repeats AreaShape_Area"):
        measure_field(labels, image, ["A", "B"], {"shape": {"area_shape": area_shape, "again": area_shape}})
    with pytest.raises(ValueError, match="measurement one gave Size a shape other than"):
        measure_field(labels, image, ["A", "B"], {"shape": {"one": lambda objects: {"Size": np.ones(1)}}})


@pytest.mark.parametrize("reference", ["cellprofiler", "cp_measure"])
def test_every_option_of_the_configuration_together(field, reference):
    names = sorted(config_groups()["measurements"])
    settings = [f"measurements=[{','.join(names)}]", f"feature_reference={reference}", "plate=P1.zarr", "folder=raw"]
    chosen = build(OmegaConf.to_container(load_config("run", *settings).measurements, resolve=True))
    assert set(chosen) == {"shape", "channel", "pair", "relation"}
    table = measure_field(*field, ["DNA", "ER"], chosen)
    basic = measure_field(*field, ["DNA", "ER"], {"shape": ALL["shape"], "relation": ALL["relation"]})
    pd.testing.assert_frame_equal(table[basic.columns], basic)
    assert table.columns.is_unique
    assert all(is_feature(name) for name in table.columns.drop(OBJECT))
    assert not np.isinf(table.to_numpy()).any()


def test_the_warm_up_calls_every_measurement_with_the_channels_of_the_plate():
    seen = []

    def shape(objects):
        seen.append(len(objects))
        return {}

    def pair(objects, image1, image2, channel1, channel2):
        seen.append((channel1, channel2, image1.dtype.name, objects.areas.min() >= 100))
        return {}

    warm_up(["DNA", "FKHR-GFP", "ER"], {"shape": {"shape": shape}, "pair": {"pair": pair}})
    pairs = [(a, b, "uint16", True) for a, b in (("DNA", "FKHRGFP"), ("DNA", "ER"), ("FKHRGFP", "ER"))]
    assert seen == 3 * [4, *pairs]  # compartments

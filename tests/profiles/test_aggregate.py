import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellpheno.profiles.aggregate import COUNT, STATISTICS, aggregate


def naive(values, statistic):
    values = [v for v in values if not np.isnan(v)]
    if not values or (statistic == "std" and len(values) < 2):
        return np.nan
    if statistic == "mad":
        return np.median([abs(v - np.median(values)) for v in values])
    return {"median": np.median, "mean": np.mean, "std": lambda v: np.std(v, ddof=1)}[statistic](values)


def cell_table(sizes, seed):
    rng = np.random.default_rng(seed)
    well = np.repeat([f"B{i:02d}" for i in range(1, len(sizes) + 1)], sizes)
    values = rng.normal(size=(len(well), 2))
    values[rng.random(values.shape) < 0.3] = np.nan
    return pd.DataFrame(
        {
            "Metadata_Plate": "P1",
            "Metadata_Well": well,
            "Cells_AreaShape_Area": values[:, 0],
            "Nuclei_Intensity_MeanIntensity_DNA": values[:, 1],
        }
    )


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 10**6))
def test_every_statistic_equals_the_naive_loop_in_any_order_of_cells(sizes, seed):
    cells = cell_table(sizes, seed)
    table = aggregate(cells.sample(frac=1, random_state=seed % 1000), statistics=STATISTICS)
    assert table[COUNT].tolist() == sizes
    for _, row in table.iterrows():
        own = cells[cells["Metadata_Well"] == row["Metadata_Well"]]
        for feature in ("Cells_AreaShape_Area", "Nuclei_Intensity_MeanIntensity_DNA"):
            for statistic in STATISTICS:
                name = feature if statistic == "median" else f"{feature}_{statistic}"
                np.testing.assert_allclose(row[name], naive(own[feature], statistic), rtol=1e-12, atol=1e-14)


def test_a_well_without_cells_keeps_its_row_with_count_0_and_nan():
    cells = cell_table([2, 3], seed=0)
    wells = pd.DataFrame({"Metadata_Plate": "P1", "Metadata_Well": ["B02", "H12", "B01"], "label": "a"})
    table = aggregate(cells, wells=wells)
    assert table["Metadata_Well"].tolist() == ["B02", "H12", "B01"]
    assert table[COUNT].tolist() == [3, 0, 2]
    assert table.loc[1, ["Cells_AreaShape_Area", "Nuclei_Intensity_MeanIntensity_DNA"]].isna().all()


def test_no_cells_at_all_still_gives_every_well():
    table = aggregate(
        cell_table([2], 0).iloc[:0], wells=pd.DataFrame({"Metadata_Plate": ["P1"], "Metadata_Well": "B01"})
    )
    assert table[COUNT].tolist() == [0]
    assert np.isnan(table.loc[0, "Cells_AreaShape_Area"])


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"statistics": ["mode"]}, "mode"),
        ({"Cells_AreaShape_Area": np.inf}, {}, "infinite values in .*Cells_AreaShape_Area"),
        ({"Cells_AreaShape_Area": "big"}, {}, "hold no numbers"),
        ({"Metadata_Well": None}, {}, "Metadata_Well"),
        ({}, {"wells": pd.DataFrame({"Metadata_Plate": ["P1"], "Metadata_Well": ["B09"]})}, "B01"),
    ],
)
def test_refusals_name_what_is_wrong(change, options, message):
    with pytest.raises(ValueError, match=message):
        aggregate(cell_table([2], 0).assign(**change), **options)

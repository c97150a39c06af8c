"""Take cell tables through pycytominer and copairs; run by the Python that CELLPHENO_READERS_PYTHON names.

Usage: profilers_check.py FOLDER_OF_CELL_TABLES PLATEMAP.csv WELLS.parquet
"""

import sys
import warnings

import pandas as pd


def check(cells, platemap, expected):
    import pycytominer
    from copairs.map import average_precision, mean_average_precision

    table = pd.read_parquet(cells)
    wells = pycytominer.aggregate(table, compute_object_count=True)
    own = pd.read_parquet(expected).rename(columns={"Metadata_Count_Cells": "Metadata_Object_Count"})
    pd.testing.assert_frame_equal(wells[own.columns], own, check_dtype=False, rtol=1e-12)
    assert set(wells.columns) == set(own.columns)

    annotated = pycytominer.annotate(wells, platemap, join_on=["Metadata_well_position", "Metadata_Well"])
    scaled = pycytominer.normalize(annotated, samples="Metadata_compound == 'none'", method="standardize")
    features = [name for name in scaled if not name.startswith("Metadata_")]
    assert len(features) == sum(not name.startswith("Metadata_") for name in table)
    operations = ["variance_threshold", "correlation_threshold", "drop_na_columns", "drop_outliers"]
    selected = pycytominer.feature_select(scaled, operation=operations)
    kept = selected[[name for name in selected if name in features]]
    assert 2 <= kept.shape[1] < len(features)
    assert kept.notna().all(axis=None)
    alone = pycytominer.normalize(cells, method="standardize")  # the folder of all wells, as it is
    column = "Cells_Intensity_MeanIntensity_DNA"
    assert abs(alone[column].mean()) < 1e-9
    assert abs(alone[column].std(ddof=0) - 1) < 1e-9

    pairs = {
        "pos_sameby": ["Metadata_compound"],
        "pos_diffby": [],
        "neg_sameby": [],
        "neg_diffby": ["Metadata_compound"],
    }
    meta = selected[[name for name in selected if name.startswith("Metadata_")]]
    precision = average_precision(meta, kept.to_numpy(), **pairs, progress_bar=False)
    scores = mean_average_precision(
        precision, ["Metadata_compound"], null_size=1000, threshold=0.05, seed=0, progress_bar=False
    )
    drug = scores.set_index("Metadata_compound").loc["drug", "mean_average_precision"]
    print(f"{len(wells)} wells, {len(table)} cells, drug {drug:.2f}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the profilers among themselves
    check(*sys.argv[1:])

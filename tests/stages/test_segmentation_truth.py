"""Segmentation against the truth of the virtual microscope: good, but not so good that the plate is too easy."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from omegaconf import OmegaConf

from cellpheno.components import build
from cellpheno.config import load_config
from cellpheno.images.labels import match_objects

SMALL = [
    "simulation.wells=[A01,A02,A03]",
    "simulation.wells_per_class=1",
    "simulation.phenotypes={nuclear: null, membrane: null}",
    "simulation.fields=1",
]


def f1_at(iou, folder, *overrides):
    """Mean F1 of nuclei and cells over the fields of three simulated wells, border nuclei left out of the truth."""
    config = load_config("run", "experiment=demo", *SMALL, *overrides)
    simulation, segmentation = (
        build(OmegaConf.to_container(config[k], resolve=True)) for k in ("simulation", "segmentation")
    )
    truth = simulation(folder / "raw", folder / "truth", seed=1)
    found = {"nuclei": [], "cells": []}
    for (well, site), table in truth.groupby(["Metadata_Well", "Metadata_Site"]):
        stem = f"SIM1_{well}_s{site}"
        images = [tifffile.imread(path) for path in sorted((folder / "raw").glob(f"{stem}_w*.tif"))]
        labels = segmentation(np.stack(images), ["DNA", "CellMask", "Protein"])
        whole = table.loc[~table["nucleus_at_border"], "Metadata_ObjectNumber"]
        for name in found:
            true = tifffile.imread(folder / "truth" / f"{stem}_{name}.tif").astype(np.int32)
            found[name].append(match_objects(labels[name], np.where(np.isin(true, whole), true, 0), iou).f1)
    return pd.DataFrame(found).mean()


def test_the_default_plate_is_neither_hopeless_nor_too_easy(tmp_path):
    f1 = f1_at(0.7, tmp_path)
    assert f1.between(0.75, 0.97).all(), f1.to_dict()


def test_a_crowded_plate_is_harder(tmp_path):
    f1 = f1_at(0.7, tmp_path, "simulation=crowded")
    assert (f1 < 0.9).all(), f1.to_dict()


@pytest.mark.parametrize("iou", [0.5])
def test_most_cells_are_found(tmp_path, iou):
    assert (f1_at(iou, tmp_path) > 0.85).all()

import hashlib
import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from scipy import stats

from cellpheno.errors import InputError
from cellpheno.simulate.cells import Culture
from cellpheno.simulate.layout import PlateEffects
from cellpheno.simulate.plate import CAMERA, CHANNELS, CULTURE, simulate_plate

SMALL = {"wells_per_class": 2, "fields": 1, "field_px": 96, "seed": 4}
PAIR = {"control": {"pattern": "cytosolic"}, "nuclear": {"pattern": "nuclear"}}


def hashes(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plate")
    return folder, simulate_plate(folder / "raw", folder / "truth", **SMALL)


def test_same_seed_same_bytes_whatever_the_workers(made, tmp_path):
    simulate_plate(tmp_path / "raw", tmp_path / "truth", workers=2, **SMALL)
    for name in ("raw", "truth"):
        assert hashes(tmp_path / name) == hashes(made[0] / name)


def test_a_field_depends_on_seed_plate_well_and_site_only(made, tmp_path):
    changed = {**SMALL, "wells": ["A01-C05"], "wells_per_class": 3, "fields": 2, "phenotypes": PAIR, "responders": 0.0}
    simulate_plate(tmp_path / "raw", tmp_path / "truth", **changed)
    both = hashes(tmp_path / "raw").keys() & hashes(made[0] / "raw").keys() - {"platemap.csv"}
    dna = {name for name in both if "_w1_" in name}
    assert len(dna) >= 4
    assert all(hashes(tmp_path / "raw")[n] == hashes(made[0] / "raw")[n] for n in dna)
    first = tifffile.imread(sorted((tmp_path / "raw").glob("*A01_s1_w1*"))[0])
    second = tifffile.imread(sorted((tmp_path / "raw").glob("*A01_s2_w1*"))[0])
    assert not np.array_equal(first, second)
    simulate_plate(tmp_path / "raw2", tmp_path / "truth2", **{**changed, "seed": 5})
    assert not np.array_equal(first, tifffile.imread(sorted((tmp_path / "raw2").glob("*A01_s1_w1*"))[0]))


def test_files_are_what_a_microscope_writes(made):
    folder, truth = made
    images = sorted((folder / "raw").glob("*.tif"))
    assert len(images) == 10 * 3
    assert all(tifffile.imread(p).shape == (96, 96) and tifffile.imread(p).dtype == np.uint16 for p in images)
    platemap = pd.read_csv(folder / "raw" / "platemap.csv", dtype=str)
    assert platemap.columns.tolist() == ["plate", "well", "label", "compound", "concentration_um"]
    assert len(platemap) == 10
    assert not [p for p in (folder / "raw").iterdir() if p.suffix not in (".tif", ".csv")]
    with tifffile.TiffFile(images[0]) as tiff:
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert 1e4 / (numerator / denominator) == pytest.approx(0.6)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "truth" / "cells.parquet"), truth)
    for (well, site), cells in truth.groupby(["Metadata_Well", "Metadata_Site"]):
        labels = tifffile.imread(folder / "truth" / f"SIM1_{well}_s{site}_cells.tif")
        assert np.array_equal(np.unique(labels[labels > 0]), cells["Metadata_ObjectNumber"])


def test_responders_are_binomial_in_treated_wells_and_absent_in_controls(tmp_path):
    settings = {"wells_per_class": 12, "fields": 1, "field_px": 96, "phenotypes": PAIR, "compression": "zlib"}
    culture = Culture(density_per_mm2=1500.0, clustering=0.0, touching=0.0)
    truth = simulate_plate(tmp_path / "raw", tmp_path / "truth", culture=culture, seed=2, **settings)
    assert not truth.loc[truth["label"] == "control", "responder"].any()
    wells = truth[truth["label"] == "nuclear"].groupby("Metadata_Well")["responder"].agg(["sum", "size"])
    assert stats.binomtest(int(wells["sum"].sum()), int(wells["size"].sum()), 0.3).pvalue > 0.001
    spread = (((wells["sum"] - 0.3 * wells["size"]) ** 2) / (0.21 * wells["size"])).sum()
    assert 0.001 < stats.chi2(len(wells)).cdf(spread) < 0.999
    count = truth.groupby(["label", "Metadata_Well"]).size()
    assert stats.mannwhitneyu(count["control"], count["nuclear"]).pvalue > 0.001
    assert {"nuclear"} == set(truth.loc[truth["responder"], "pattern"])


def test_a_null_plate_has_no_class(tmp_path):
    phenotypes = {**PAIR, "rounded": {"pattern": "er", "morphology": "rounded"}}
    simulate_plate(tmp_path / "a", tmp_path / "at", phenotypes=phenotypes, responders=0.0, **SMALL)
    same = {name: {"pattern": "cytosolic"} for name in phenotypes}
    simulate_plate(tmp_path / "b", tmp_path / "bt", phenotypes=same, responders=1.0, **SMALL)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


def test_plate_effects_are_as_large_as_asked(tmp_path):
    channels = tuple(c._replace(background_e=0.0, well_cv=0.0) for c in CHANNELS)
    settings = {
        **SMALL,
        "phenotypes": {"control": {"pattern": "cytosolic"}},
        "wells": ["B01", "D08", "B04", "C05"],
        "wells_per_class": 4,
        "channels": channels,
        "camera": CAMERA._replace(offset_adu=0.0, read_noise_e=0.0),
    }

    def light(name, effects):
        simulate_plate(tmp_path / name, tmp_path / f"{name}_truth", effects=effects, **settings)
        found = {p.name.split("_")[1]: float(tifffile.imread(p).sum()) for p in (tmp_path / name).glob("*_w2_*")}
        return pd.Series(found)

    ratio = light("some", PlateEffects(0.5, 0.2, 1.4)) / light("none", PlateEffects(0.0, 0.0, 1.0))
    assert ratio["B01"] == pytest.approx(1.4 * 0.75 * 0.8, rel=0.01)
    assert ratio["D08"] == pytest.approx(1.4 * 1.25 * 0.8, rel=0.01)
    assert ratio[["B04", "C05"]].tolist() == pytest.approx([1.4 * (1 - 0.25 / 7), 1.4 * (1 + 0.25 / 7)], rel=0.01)


def test_dose_plate_tells_the_label_of_the_top_dose_only(tmp_path):
    settings = {**SMALL, "phenotypes": PAIR, "compounds_per_class": 1, "doses_um": (0.1, 10.0)}
    truth = simulate_plate(tmp_path / "raw", tmp_path / "truth", **settings)
    platemap = pd.read_csv(tmp_path / "raw" / "platemap.csv", dtype=str, keep_default_na=False)
    assert sorted(zip(platemap["concentration_um"], platemap["label"], strict=True)) == [
        ("0", "control"),
        ("0", "control"),
        ("0.1", ""),
        ("10", "nuclear"),
    ]
    wells = pd.read_csv(tmp_path / "truth" / "wells.csv")
    assert wells.loc[wells["concentration_um"] == 0.1, "label"].tolist() == ["nuclear"]
    assert wells.loc[wells["concentration_um"] == 0.1, "responders"].tolist() == pytest.approx([0.3 / 11])
    assert set(truth["label"]) <= {"control", "nuclear"}


def test_a_plate_without_cells_is_a_plate(tmp_path):
    truth = simulate_plate(tmp_path / "raw", tmp_path / "truth", culture=Culture(density_per_mm2=0.0), **SMALL)
    assert len(truth) == 0
    again = pd.read_parquet(tmp_path / "truth" / "cells.parquet")
    assert {"Metadata_Plate", "Metadata_ObjectNumber", "responder", "label"} <= set(again.columns)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"responders": 1.2}, "responders=1.2: wanted 0 to 1"),
        ({"plate_format": 95}, "plate_format=95"),
        ({"plate": "P_1"}, "plate='P_1'"),
        ({"layout": "rows"}, "layout='rows'"),
        ({"control": "DMSO"}, "control='DMSO' is no phenotype"),
        ({"phenotypes": {**PAIR, "x": {"pattern": "golgi"}}}, r"phenotypes.x.pattern='golgi': wanted one of cytosolic"),
        ({"phenotypes": {**PAIR, "x": {"pattern": "er", "morphology": "flat"}}}, "phenotypes.x.morphology='flat'"),
        ({"phenotypes": {**PAIR, "x": {"patern": "er"}}}, r"phenotypes.x: unknown \['patern'\]"),
        ({"culture": CULTURE._replace(density_per_mm2=-1.0)}, "culture.density_per_mm2=-1.0"),
        ({"camera": CAMERA._replace(gain_e_per_adu=0.0)}, "camera.gain_e_per_adu=0.0: wanted above 0"),
        ({"camera": CAMERA._replace(bits=20)}, "camera.bits=20: wanted 8 to 16"),
        ({"channels": CHANNELS[:2]}, "channels: 2 given"),
        ({"channels": (CHANNELS[0], *CHANNELS[:2])}, "wanted different names"),
        ({"fields": 0}, "fields=0: wanted at least 1"),
        ({"pixel_size_um": float("nan")}, "pixel_size_um=nan"),
        ({"doses_um": (1.0, 0.0)}, r"doses_um: 0.0 is not above 0"),
        ({"compression": "lzw"}, "compression='lzw'"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        simulate_plate(tmp_path / "raw", tmp_path / "truth", **{**SMALL, **changes})
    assert not list(tmp_path.iterdir())


def test_all_faults_come_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        simulate_plate(tmp_path / "raw", tmp_path / "truth", fields=0, responders=-1, layout="x", control="y")
    assert len(caught.value.faults) == 4


def test_truth_is_kept_apart_and_old_images_are_not_mixed_in(tmp_path):
    for truth in ("raw", "raw/truth", "."):
        with pytest.raises(InputError, match="neither inside the other"):
            simulate_plate(tmp_path / "raw", tmp_path / truth, **SMALL)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "OTHER_A01_s1_w1_DNA.tif").touch()
    with pytest.raises(InputError, match=r"holds 1 images of another plate, such as OTHER_A01"):
        simulate_plate(tmp_path / "raw", tmp_path / "truth", **SMALL)


@pytest.mark.parametrize("option", ["demo", "null_plate", "crowded", "dose", "morphology"])
def test_options_hold_every_knob_with_the_default_of_the_signature(option, tmp_path):
    with initialize_config_module("cellpheno.conf", version_base="1.3"):
        config = compose(overrides=[f"+simulation={option}"]).simulation
    call = instantiate(config, _convert_="all")
    assert call.func is simulate_plate
    default = {
        name: p.default
        for name, p in inspect.signature(simulate_plate).parameters.items()
        if name not in ("folder", "truth_folder", "plate", "seed", "workers")
    }
    assert call.keywords.keys() == default.keys()
    plain = {name: tuple(v) if isinstance(v, list) else v for name, v in call.keywords.items()}
    changed = {name for name in default if plain[name] != default[name]}
    assert (
        changed
        == {
            "demo": set(),
            "null_plate": {"responders"},
            "crowded": {"culture"},
            "dose": {"plate_format", "wells_per_class", "compounds_per_class", "responders", "doses_um"},
            "morphology": {"phenotypes"},
        }[option]
    )
    small = {"wells_per_class": 1, "field_px": 48, "fields": 1}
    call(tmp_path / "raw", tmp_path / "truth", **small, plate="007", seed=1, workers=0)
    assert set(pd.read_csv(tmp_path / "raw" / "platemap.csv", dtype=str)["plate"]) == {"007"}


def test_a_label_of_several_classes_stands_in_the_plate_map_as_typed(tmp_path):
    phenotypes = {"(none)": {"pattern": "cytosolic"}, "nuclear|er": {"pattern": ["nuclear", "er"]}}
    about = {"wells_per_class": 1, "fields": 1, "field_px": 128, "responders": 1.0, "control": "(none)"}
    truth = simulate_plate(tmp_path / "raw", tmp_path / "truth", phenotypes=phenotypes, **about)
    table = pd.read_csv(tmp_path / "raw/platemap.csv", keep_default_na=False)
    assert sorted(table["label"]) == ["(none)", "nuclear|er"]
    assert set(truth.loc[truth["label"] == "nuclear|er", "pattern"]) == {"nuclear|er"}

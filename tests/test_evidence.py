"""The long evidence: what the demonstration claims, over three seeds, and what it must not find where nothing is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score

from cellpheno.compare.contest import contest
from cellpheno.compare.statistics import scores
from cellpheno.components import build
from cellpheno.config import load_config
from cellpheno.stages.well_features import well_features
from cellpheno.stages.wells import usable, well_table
from tests.conftest import Screen

pytestmark = [pytest.mark.full, pytest.mark.timeout(3000)]
SEEDS = (1, 2, 3)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demonstration once a seed and option."""
    done = {}

    def run(seed: int, *overrides: str) -> Path:
        if (seed, overrides) not in done:
            screen = Screen(tmp_path_factory.mktemp(f"demo{seed}"))
            assert screen("run", "experiment=demo", f"seed={seed}", *overrides) == 0
            done[seed, overrides] = screen.folder / "demo"
        return done[seed, overrides]

    return run


def overall(folder, metric):
    scores = pd.read_csv(folder / "runs/demo/scores.csv", keep_default_na=False, na_values={"value": [""]})
    return scores[(scores["metric"] == metric) & (scores["class"] == "")].set_index("contestant")


def responder_auroc(folder, shuffle=None):
    """AUROC of attention for the responding cells of each treated well; cells are matched to the truth by centre."""
    keys = ["Metadata_Well", "Metadata_Site", "Metadata_ObjectNumber"]
    centre = ["Nuclei_AreaShape_Center_X", "Nuclei_AreaShape_Center_Y"]
    cells = pd.concat(pd.read_parquet(p, columns=keys + centre) for p in (folder / "SIM1/cells").glob("*.parquet"))
    cells = pd.read_parquet(folder / "runs/demo/instances.parquet").merge(cells, on=keys)
    truth = pd.read_parquet(folder / "truth/SIM1/cells.parquet")
    rows = []
    for (well, site), own in cells.groupby(keys[:2]):
        true = truth[(truth["Metadata_Well"] == well) & (truth["Metadata_Site"] == site)]
        dx = own[centre[0]].to_numpy()[:, None] - true["centre_x_px"].to_numpy()
        dy = own[centre[1]].to_numpy()[:, None] - true["centre_y_px"].to_numpy()
        distance = np.hypot(dx, dy)
        found = distance.min(axis=1) < 10  # pixels: the same nucleus
        responder = true["responder"].to_numpy()[distance.argmin(axis=1)]
        rows.append(own.assign(responder=responder)[found])
    table = pd.concat(rows)
    weight = table["weight"] if shuffle is None else table.groupby("Metadata_Well")["weight"].transform(
        lambda w: shuffle.permutation(w.to_numpy())
    )  # fmt: skip
    groups = table.assign(weight=weight).groupby("Metadata_Well")
    return [roc_auc_score(own["responder"], own["weight"]) for _, own in groups if own["responder"].nunique() == 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_finds_what_count_and_brightness_cannot(demo, seed):
    auroc = overall(demo(seed), "macro_auroc")["value"]
    assert auroc["cell_count"] <= 0.65
    assert auroc["mean_intensity"] <= 0.65
    assert auroc["mil"] >= 0.95


@pytest.mark.parametrize("seed", SEEDS)
def test_attention_goes_to_the_responding_cells(demo, seed):
    folder = demo(seed)
    assert np.median(responder_auroc(folder)) >= 0.8
    rng = np.random.default_rng(0)
    shuffled = np.mean([np.mean(responder_auroc(folder, shuffle=rng)) for _ in range(10)])
    assert shuffled == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_found_on_a_null_plate(demo, seed):
    mil = overall(demo(seed, "simulation=null_plate"), "balanced_accuracy").loc["mil"]
    assert mil["low"] <= 0.2 <= mil["high"]


def test_permuted_labels_are_called_better_or_worse_than_chance_as_rarely_as_they_should_be(demo):
    folder = demo(1)
    wells = usable(well_table([folder / "SIM1.zarr"], "label", None))
    folds = pd.read_csv(folder / "runs/demo/folds.csv")
    config = load_config("run", "experiment=demo")
    engineered = {"engineered": build(OmegaConf.to_container(config.baselines.engineered, resolve=True))}
    classes, features = sorted(wells["label"].unique()), well_features(wells)
    fold = wells.merge(folds, on=["Metadata_Plate", "Metadata_Well"])["fold"]
    rng, rejected = np.random.default_rng(0), 0
    for _ in range(200):
        dealt = wells.groupby(fold)["label"].transform(lambda own: rng.permutation(own.to_numpy()))
        predictions = contest(wells.assign(label=dealt), features, folds, engineered, classes, seed=0).predictions
        table = scores(predictions, classes, n_bootstrap=500, seed=0)
        row = table[(table["metric"] == "balanced_accuracy") & (table["class"] == "")].iloc[0]
        rejected += not row["low"] <= 1 / len(classes) <= row["high"]
    assert 0.02 <= rejected / 200 <= 0.09

"""A complete run's folder and its plate, small, made up and always the same."""

import json

import numpy as np
import pandas as pd
import pytest

from cellpheno.compare.assay import assay_quality, dose_response, dose_trend
from cellpheno.compare.statistics import differences, scores
from cellpheno.images.crops import Crops, write_crops
from cellpheno.names import well_name
from cellpheno.plates.write import create_plate

CLASSES = ["nuclear", "cytosolic", "<script>alert('x')</script>"]
CONTESTANTS = {"mil": 3.0, "engineered": 2.0, "position": 0.1}
SPLITS = ("by_well", "by_compound")
COMPOUNDS = ['=1+1 "Tax" & <b>ol</b>', "$\\frac$ 化合物"]


def make_wells(rng):
    wells = [well_name(row, column) for row in "BCDEFG" for column in range(2, 12)]
    label = [CLASSES[i % 3] if i < 36 else "" for i in range(len(wells))]
    status = ["done"] * len(wells)
    for i, name in ((3, "warned"), (10, "partial"), (17, "quarantined"), (25, "missing"), (50, "excluded")):
        status[i] = name
    lost = np.isin(status, ["quarantined", "missing", "excluded"])
    n_cells = np.where(lost, 0, rng.integers(6, 10, len(wells)))
    n_cells[30] = 0  # a well without cells
    return pd.DataFrame(
        {
            "Metadata_Plate": "P1",
            "Metadata_Well": wells,
            "Metadata_compound": [COMPOUNDS[i // 2 % 2] for i in range(len(wells))],
            "Metadata_dose": ["0" if i < 36 else f"{0.1 * 4 ** (i % 6):g}" for i in range(len(wells))],
            "label": label,
            "status": status,
            "n_cells": n_cells,
            "n_fields": np.where(lost, 0, 2),
            "messages": [
                "" if s == "done" else f"{w}_s1_w1.tif: <i>{s}</i>" for w, s in zip(wells, status, strict=True)
            ],
        }
    )


def make_predictions(wells, rng):
    used = wells[wells["status"].isin(["done", "warned", "partial"])]
    tables = []
    for contestant, strength in CONTESTANTS.items():
        for split in SPLITS:
            logits = rng.normal(size=(len(used), 3))
            truth = np.array([CLASSES.index(name) if name else -1 for name in used["label"]])
            logits[truth >= 0, truth[truth >= 0]] += strength
            answer = strength * (np.log(np.maximum(used["Metadata_dose"].astype(float), 0.01)) / 2).to_numpy()
            logits[truth < 0, 1] += answer[truth < 0]
            probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            new = truth < 0
            table = pd.DataFrame(
                {
                    "contestant": contestant,
                    "split": split,
                    "repeat": np.where(new, -1, 0),
                    "fold": np.where(new, -1, np.arange(len(used)) % 4),
                    "role": np.where(new, "new", "out_of_fold"),
                    "Metadata_Plate": used["Metadata_Plate"].to_numpy(),
                    "Metadata_Well": used["Metadata_Well"].to_numpy(),
                    "true": used["label"].to_numpy(),
                    "pred": [CLASSES[k] for k in logits.argmax(axis=1)],
                    **{f"prob_{name}": probabilities[:, k] for k, name in enumerate(CLASSES)},
                    **{f"logit_{name}": logits[:, k] for k, name in enumerate(CLASSES)},
                    "n_cells": used["n_cells"].to_numpy(),
                }
            )
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def make_scores(predictions):
    """The tables of the comparison, with a metric that the report has never heard of."""
    table = scores(predictions, CLASSES, n_bootstrap=200, seed=7)
    unknown = table[table["metric"] == "macro_f1"].assign(metric="my_metric", value=0.123456)
    return pd.concat([table, unknown]), differences(
        predictions, CLASSES, reference="engineered", n_bootstrap=200, seed=7
    )


def make_crops(folder, wells, rng, size=32):
    """Cells with a bright nucleus, whose second channel differs by class; returns the instance table."""
    y, x = np.mgrid[:size, :size] - size / 2
    instances = []
    for _, well in wells[wells["n_cells"] > 0].iterrows():
        n = int(well["n_cells"])
        radius = rng.uniform(4, 7, n)[:, None, None]
        nucleus = 1 / (1 + np.exp((np.hypot(y, x) - radius) * 1.5))
        ring = np.exp(-(((np.hypot(y, x) - radius - 4) / 2) ** 2))
        second = nucleus if well["label"] == "nuclear" else ring
        pixels = (rng.poisson(np.stack([nucleus, second], axis=1) * 3000 + 200)).astype(np.uint16)
        numbers = np.arange(1, n + 1, dtype=np.int32)
        crops = Crops(pixels, np.where(numbers % 2, 1, 2).astype(np.int32), numbers, np.zeros(n, bool))
        write_crops(folder / f"{well['Metadata_Well']}.zarr", crops, plate="P1")
        weight = rng.dirichlet(np.ones(n))
        instances.append(
            pd.DataFrame(
                {
                    "Metadata_Plate": "P1",
                    "Metadata_Well": well["Metadata_Well"],
                    "Metadata_Site": crops.site,
                    "Metadata_ObjectNumber": numbers,
                    "weight": weight,
                    "role": "out_of_fold" if well["label"] else "new",
                }
            )
        )
    table = pd.concat(instances, ignore_index=True)
    return pd.concat(
        [table.assign(contestant="mil", split=split, repeat=0, fold=0) for split in SPLITS], ignore_index=True
    )


def make_contest(run, predictions):
    """What the baselines chose among, rested on, said and cost, and a contest on fewer wells."""
    grid = ["as configured", "C=0.01 | <b>"]
    rows = [
        (name, split, 0, fold, i, settings, 5, 0.25 * (fold + i) / 4, i == fold % 2, "")
        for split in SPLITS
        for name in ("engineered", "position")
        for fold in range(4)
        for i, settings in enumerate(grid)
    ]
    names = [*("contestant", "split", "repeat", "fold", "configuration", "settings", "n_inner", "inner_score")]
    pd.DataFrame(rows, columns=[*names, "chosen", "note"]).to_csv(run / "tuning.csv", index=False)
    features = ["Nuclei_Intensity_IntegratedIntensity_GFP_mad", "Cells_AreaShape_Area", "Cells_<script>", "Image_D"]
    table = pd.DataFrame({"feature": features, "importance": [0.5, 0.25, 0.125, -0.0625], "n_folds": 4})
    table = table.assign(low=table["importance"] / 2, high=table["importance"] * 2)
    parts = [table.assign(contestant="engineered", split=split) for split in SPLITS]
    pd.concat([*parts, table.head(1).assign(contestant="cell_count", split="by_well")]).to_csv(
        run / "features.csv", index=False
    )
    curve = pd.read_csv(run / "scores.csv", keep_default_na=False).query("`class` == '' and metric != 'my_metric'")
    curve = curve[~curve["metric"].str.startswith("calibration")]
    curve = pd.concat([curve.assign(wells_per_class=n) for n in (2, 4, 8)])
    curve.drop(columns=["class", "n_junk"]).to_csv(run / "learning_curve.csv", index=False)
    pd.DataFrame({"message": ["other: profiles.csv lacks 1 wells: P1 <B02>"]}).to_csv(run / "messages.csv", index=False)
    folds = {f"train-by_well-repeat0_fold{i}": {"seconds": 10.0 + i, "peak_mb": 900.0 + i} for i in range(4)}
    costs = {"train": folds, "predict": {"x": {"seconds": 4.5, "peak_mb": 800.0}}}
    costs["baselines"] = {"engineered": {"seconds": 2.25, "peak_mb": 400.0}}
    (run / "timing.json").write_text(json.dumps(costs))


def make_run(folder, rng):
    plate = create_plate(folder / "P1.zarr", "P1", {"B02": [1, 2]}, ["DNA", "GFP"], pixel_size_um=0.65)
    run = folder / "runs" / "demo <1>"
    wells = make_wells(rng)
    run.mkdir(parents=True)
    wells.to_csv(run / "wells.csv", index=False)
    predictions = make_predictions(wells, rng)
    predictions.to_parquet(run / "predictions.parquet", index=False)
    held_out = predictions[predictions["role"] == "out_of_fold"]
    folds = held_out[["Metadata_Plate", "Metadata_Well", "split", "repeat", "fold"]].drop_duplicates()
    folds.to_csv(run / "folds.csv", index=False)
    score_table, difference_table = make_scores(predictions)
    score_table.to_csv(run / "scores.csv", index=False)
    difference_table.to_csv(run / "differences.csv", index=False)
    controls, by = CLASSES[:2], "Metadata_compound"
    trend = dose_trend(predictions, wells, controls, dose="Metadata_dose", by=by)
    quality = assay_quality(predictions, wells, controls, by=by, n_bootstrap=200, seed=7)
    pd.concat([quality, trend]).to_csv(run / "assay.csv", index=False)
    dose_response(predictions, wells, controls, dose="Metadata_dose", by=by).to_csv(run / "dose.csv", index=False)
    make_crops(plate.folder / "crops", wells, rng).to_parquet(run / "instances.parquet", index=False)
    make_contest(run, predictions)
    for fold in range(4):
        model = run / "models" / "by_well" / f"repeat0_fold{fold}"
        model.mkdir(parents=True)
        epoch = np.arange(20 + fold)
        history = {"epoch": epoch, "train_loss": np.exp(-epoch / 8) + 0.02 * fold, "val_loss": np.exp(-epoch / 9) + 0.1}
        accuracy = 1 - 0.67 * np.exp(-epoch / 6)
        pd.DataFrame({**history, "val_balanced_accuracy": accuracy, "lr": 0.001}).to_csv(
            model / "history.csv", index=False
        )
        (model / "card.json").write_text(json.dumps({"classes": CLASSES, "threads": 2, "sha256": f"{fold:064x}"}))
    (run / "config.yaml").write_text("seed: 7\npooling: gated_attention\ntitle: </pre><script>\n")
    return run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("screen"), np.random.default_rng(7))

"""The same job on a real plate: a protein that moves into the nucleus, two drugs (BBBC013v1)."""

from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import Screen

DATA = Path(__file__).parents[3] / "shared/data/bbbc013"
CONTROLS, DOSES = ["A01-H02", "A12-H12"], ["A04-H04", "A10-H10"]


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"BBBC013 is not there (wanted in {DATA})")
def test_controls_train_and_doses_are_predicted(tmp_path):
    screen = Screen(tmp_path)
    few = ["trainer.max_epochs=4", "cells_per_well=48", "n_bootstrap=200", "threads=1"]
    few += ["measurements=[shape,intensity,correlation,relations]", "split=[leave_one_group_out]"]
    wells = f"wells=[{','.join(CONTROLS + DOSES)}]"
    assert screen("run", "experiment=bbbc013", f"folder={DATA}", wells, *few) == 0
    folder = tmp_path / "bbbc013/runs/bbbc013"
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert set(predictions["split"]) == {"leave_one_group_out"}
    new = predictions[predictions["role"] == "new"]
    assert set(new["Metadata_Well"].str[1:]) == {"04", "10"}  # and the unlabelled wells only
    assert predictions.loc[predictions["role"] == "out_of_fold", "Metadata_Well"].nunique() == 24
    scores = pd.read_csv(folder / "scores.csv").query("metric == 'macro_auroc'")
    auroc = scores.set_index("contestant")["value"]
    assert auroc["engineered"] >= 0.95
    assert auroc["mil"] >= 0.8  # 4 epochs; the README has the full figures
    assert auroc["position"] <= 0.5  # the columns of the controls differ between the drugs
    assay = pd.read_csv(folder / "assay.csv")
    assert {"z_prime", "robust_z_prime", "spearman"} <= set(assay["metric"])
    assert set(assay["group"]) == {"Wortmannin", "LY294002"}
    engineered = assay.query("contestant == 'engineered' and metric == 'spearman'")
    assert (engineered["value"].abs() >= 0.7).all()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Wortmannin" in page
    assert "LY294002" in page

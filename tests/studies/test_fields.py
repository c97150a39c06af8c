"""The pooling study on whole fields: no well is on both sides, scores are those of the held-out wells, one command."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cellpheno.config import load_config
from cellpheno.models.transforms import PlatePercentiles
from cellpheno.studies import fields
from cellpheno.training.instances import Fields
from tests.conftest import Screen

SMALL = [
    *("experiment=field_pooling", "workers=1", "seeds=2", "fractions=[0.5,1.0]", "trainer.max_epochs=1"),
    *("simulation.wells_per_class=2", "simulation.plate_format=6", "simulation.field_px=64"),
    *(f"poolings.{name}=null" for name in ("noisy_and", "noisy_and_low", "noisy_or", "max", "gated_attention")),
]


def test_scores_are_those_of_wells_that_taught_nothing(monkeypatch):
    wells = pd.DataFrame({"Metadata_Well": [f"A{i:02d}" for i in range(1, 13)], "label": ["a", "b"] * 6})
    wells = wells.assign(Metadata_Plate="P1", place="nowhere")
    seen, logit = {}, np.random.default_rng(0).normal(size=12)

    def fit(training, validation, **settings):
        seen.update(training=training, settings=settings)
        assert validation.empty

    def predict(model, card, held, **settings):
        rows = held.sample(frac=1, random_state=0)
        return rows[["Metadata_Plate", "Metadata_Well"]].assign(logit_a=0.0, logit_b=logit[rows.index])

    stand_ins = {"fit_fold": fit, "predict_wells": predict, "load_model": lambda *_: (None, None)}
    stand_ins |= {"plate_limits": lambda *_, **__: {}, "device_of": lambda _: "cpu"}
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(fields, name, stand_in)
    about = {"classes": ["a", "b"], "instances": Fields, "normalization": PlatePercentiles, "pooling": "any"}
    found = fields.field_unit(wells, seed=1, trainer="any", **about)
    held = wells.drop(index=seen["training"].index)
    assert held["label"].value_counts().to_dict() == {"a": 3, "b": 3}
    truth = held["label"] == "b"
    assert found["macro_auroc"] == pytest.approx(roc_auc_score(truth, logit[held.index]))
    recalls = [((logit[held.index] > 0) == truth)[truth == k].mean() for k in (True, False)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert (seen["settings"]["pooling"], seen["settings"]["seed"]) == ("any", 1)


def test_a_study_on_fields_by_the_command_line(tmp_path, capsys):
    screen = Screen(tmp_path)
    assert screen("run", *SMALL) == 0
    folder = tmp_path / "field_pooling"
    table = pd.read_csv(folder / "field_pooling.csv")
    assert table[["pooling", "fraction", "seed"]].values.tolist() == [
        [pooling, fraction, seed] for pooling in ("attention", "mean") for fraction in (0.5, 1.0) for seed in (0, 1)
    ]
    assert table[["macro_auroc", "balanced_accuracy"]].notna().all(axis=None)
    truth = pd.read_parquet(folder / "plates/1-0/truth/cells.parquet")
    assert truth.loc[truth["label"] == "nuclear", "pattern"].eq("nuclear").all()  # at a fraction of 1 all respond
    means = pd.read_csv(folder / "field_pooling_means.csv").set_index(["metric", "pooling", "fraction"])
    own = table[(table["pooling"] == "mean") & (table["fraction"] == 0.5)]["macro_auroc"]
    assert means.loc[("macro_auroc", "mean", 0.5), "value"] == pytest.approx(own.mean())
    before = screen.hashes()
    assert "field_pooling/field_pooling.svg" in before
    (folder / "units/mean-0.5-1.json").unlink()  # as after a kill: one unit is done again
    assert screen("run", *SMALL) == 0
    assert screen.hashes() == before
    for wrong in ("fractions=[0]", "seeds=0"):
        assert screen("run", *SMALL, wrong) == 2
    assert "wanted above 0 and at most 1" in capsys.readouterr().err


def test_the_experiment_has_the_defaults_of_the_study():
    config = load_config("run", "experiment=field_pooling")
    assert config.study.test == fields.field_unit.__kwdefaults__["test"]
    assert config.study.threads == fields.field_unit.__kwdefaults__["threads"]

"""The pooling study: what is in a bag, that no well is on both sides, and that a small study finds what is planted."""

import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from cellpheno.batch.engine import Job, Result, run_jobs
from cellpheno.batch.ledger import read_record
from cellpheno.components import build
from cellpheno.config import load_config, to_yaml
from cellpheno.errors import InputError
from cellpheno.images.crops import Crops, write_crops
from cellpheno.models.attention import GatedAttention
from cellpheno.models.encoders import Features
from cellpheno.models.mil import MILClassifier
from cellpheno.models.pooling import Mean, NoisyAnd
from cellpheno.report.lines import score_lines
from cellpheno.stages.pooling_study import do_units
from cellpheno.studies import pooling as study
from cellpheno.studies.pooling import Bags, Cells, compose_bags, over_seeds, project, study_unit
from cellpheno.training.schedule import one_cycle

CLASSES = ["control", "a", "b"]
SMALL = {"cells_per_bag": 20, "larger_bags": 40, "bags_per_class": 10, "components": None, "test": 0.5}


@pytest.fixture(scope="module")
def wells(tmp_path_factory):
    """Four wells a class of 40 cells with 6 features: a class shifts its own, and each well shifts the last."""
    folder, rng, rows = tmp_path_factory.mktemp("features"), np.random.default_rng(0), []
    for k, label in enumerate(CLASSES):
        for i in range(4):
            features = rng.normal(size=(40, 6))
            features[:, k] += 4.0 * (k > 0)
            features[:, 5] = 10 * k + i
            places = [folder / f"{label}{i}", np.arange(40, dtype=np.int32), np.zeros(40, bool)]
            pixels = features[:, :, None, None].astype(np.float32)
            write_crops(places[0], Crops(pixels, places[1], places[1], places[2]))
            rows.append({"Metadata_Plate": "P1", "Metadata_Well": f"{'ABC'[k]}{i + 1:02d}", "label": label})
            rows[-1]["place"] = str(places[0])
    return pd.DataFrame(rows)


def unit(wells, pooling, **changes):
    settings = {
        **{"classes": CLASSES, "control": "control", "fraction": 0.5, "seed": 1, "model": MILClassifier},
        **{"encoder": Features, "optimizer": torch.optim.AdamW, "scheduler": one_cycle, "rates": [0.02], **SMALL},
    }
    return study_unit(wells, pooling=pooling, **settings | changes)


@pytest.mark.parametrize(("fraction", "responders"), [(0.02, 1), (0.05, 1), (0.2, 4), (0.5, 10), (1.0, 20)])
def test_a_bag_holds_exactly_its_fraction(wells, fraction, responders):
    cells = study.read_cells(wells, CLASSES)
    bags = compose_bags(cells, 3, 0, fraction=fraction, cells_per_bag=20, bags_per_class=5, seed=3)
    assert (bags.cells.shape, bags.label.tolist()) == ((15, 20), [0] * 5 + [1] * 5 + [2] * 5)
    for rows, label in zip(bags.cells, bags.label, strict=True):
        own = cells.label[rows]
        assert len(set(rows)) == 20
        assert (own == label).sum() == (20 if label == 0 else responders)
        assert set(own) <= {0, label}
    again = compose_bags(cells, 3, 0, fraction=fraction, cells_per_bag=20, bags_per_class=5, seed=3)
    assert np.array_equal(again.cells, bags.cells)


def test_too_few_cells_are_refused(wells):
    cells = study.read_cells(wells, CLASSES)
    with pytest.raises(InputError, match="class 2: 160 cells, a bag wants 200"):
        compose_bags(cells, 3, 0, fraction=1.0, cells_per_bag=200, bags_per_class=1, seed=0)


def test_no_well_teaches_and_tests(wells):
    rows = tuple(wells[["Metadata_Plate", "Metadata_Well", "label", "place"]].itertuples(index=False, name=None))
    seen = []
    for seed in range(3):
        (inner, inner_test), (outer, outer_test) = study._dealt(rows, tuple(CLASSES), 0.5, None, seed)
        names = [set(part.well) for part in (inner, inner_test, outer, outer_test)]
        assert not names[0] & names[1]
        assert not names[2] & names[3]
        assert names[0] | names[1] == names[2]
        assert names[2] | names[3] == set(wells["Metadata_Well"])
        assert all(set(part.label) == {0, 1, 2} for part in (inner, inner_test, outer, outer_test))
        seen.append(frozenset(names[3]))
    assert len(set(seen)) > 1


def test_a_frozen_encoder_stays_as_it_is(wells):
    cells = study.read_cells(wells, CLASSES)
    bags = compose_bags(cells, 3, 0, fraction=0.5, cells_per_bag=20, bags_per_class=2, seed=0)
    parts = {"classes": CLASSES, "optimizer": partial(torch.optim.SGD, lr=0.1)}
    model = MILClassifier(Features(6), Mean(), frozen=["encoder"], **parts)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    study.fit_bags(model, cells, bags, epochs=1, bags_per_batch=6, seed=0)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed
    assert not [name for name in changed if name.startswith("encoder.")]


def test_components_are_found_without_the_other_cells():
    rng = torch.Generator().manual_seed(0)
    first, second = (
        Cells(torch.randn(60, 8, generator=rng) * 3 + 5, np.zeros(60, int), np.zeros(60, str)) for _ in "ab"
    )
    own, other = project(first, second, 3, seed=0)
    scaled = ((first.features - first.features.mean(0)) / first.features.std(0)).numpy()
    wanted = np.linalg.svd(scaled, full_matrices=False)[1][:3]
    assert np.linalg.norm(own.features.numpy(), axis=0) == pytest.approx(wanted, rel=1e-3)
    alone = project(first, second._replace(features=second.features[:1]), 3, seed=0)[1]
    torch.testing.assert_close(alone.features, other.features[:1])


@pytest.mark.parametrize("pooling", [Mean, partial(NoisyAnd, threshold=0.1), GatedAttention])
def test_a_planted_class_is_found_and_a_null_one_is_not(wells, pooling):
    found = unit(wells, pooling, rates=[0.005, 0.05])
    assert found["macro_auroc"] > 0.95
    assert found["learning_rate"] in (0.005, 0.05)
    assert {"inner_auroc_0.005", "inner_auroc_0.05"} <= set(found)
    assert found == unit(wells, pooling, rates=[0.005, 0.05])
    controls = wells["label"] == "control"
    same = wells.assign(place=[*wells.loc[controls, "place"]] * 3)  # every class has the control's cells
    assert unit(same, pooling)["macro_auroc"] < 0.85


@pytest.mark.parametrize("threshold", [0.5, 0.02])
def test_noisy_and_and_its_instances_start_at_the_threshold(threshold):
    model = MILClassifier(Features(6), NoisyAnd(2, threshold=threshold), ["a", "b"]).eval()
    assert model.pooling.threshold_logit.sigmoid().tolist() == pytest.approx([threshold] * 2)
    start = model.head(torch.zeros(1, 6)).sigmoid()[0].tolist()
    assert start == pytest.approx([threshold] * 2, abs=0.15 if threshold == 0.5 else 1e-6)
    with pytest.raises(ValueError, match="threshold"):
        NoisyAnd(2, threshold=1.0)


def test_logits_do_not_depend_on_the_batch(wells):
    cells = study.read_cells(wells, CLASSES)
    bags = compose_bags(cells, 3, 0, fraction=0.5, cells_per_bag=10, bags_per_class=3, seed=0)
    model = MILClassifier(Features(6), GatedAttention(6), CLASSES).eval()
    whole = study.bag_logits(model, cells, bags)
    one = study.bag_logits(model, cells, Bags(bags.cells[4:5], bags.label[4:5]))
    assert one[0] == pytest.approx(whole[4], abs=1e-6)
    assert study.bag_logits(model, cells, bags, bags_per_batch=2) == pytest.approx(whole, abs=1e-6)


def test_interval_over_seeds_is_students():
    values = [0.7, 0.75, 0.9, 0.85]
    table = pd.DataFrame({"pooling": "mean", "fraction": 0.1, "seed": range(4), "score": values})
    found = over_seeds(table, "score").iloc[0]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found[["value", "low", "high", "n"]].tolist() == pytest.approx([np.mean(values), low, high, 4])


def test_a_training_that_diverged_is_no_score_and_is_not_counted(wells):
    found = unit(wells, Mean, rates=[1e38])
    assert np.isnan(found["macro_auroc"])
    assert unit(wells, Mean, rates=[1e38, 0.02])["learning_rate"] == 0.02
    table = pd.DataFrame({"pooling": "mean", "fraction": 0.5, "seed": [0, 1, 2], "auroc": [0.7, np.nan, 0.9]})
    assert over_seeds(table, "auroc")[["value", "n"]].to_numpy().tolist() == [[pytest.approx(0.8), 2]]


def test_the_picture_has_a_line_a_pooling():
    table = pd.DataFrame({"pooling": ["x", "x", "y", "y"], "fraction": [0.1, 1.0] * 2, "value": 0.8, "low": 0.7})
    figure = score_lines({"score": table.assign(high=0.9)}, order=["x", "y"], chance={"score": 0.5}, axis="cells")
    lines = [line for line in figure.axes[0].lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == ["x", "y"]
    assert all(len(line.get_xdata()) == 2 for line in lines)


def test_the_experiment_has_the_defaults_of_the_study():
    config = load_config("run", "experiment=pooling_study")
    knobs = build({"_target_": "cellpheno.studies.pooling.study_unit", "_partial_": True}).func.__kwdefaults__
    for name, value in knobs.items():
        assert (list(config.study[name]) if name == "rates" else config.study[name]) == (
            list(value) if name == "rates" else value
        ), name
    assert len(config.poolings) == 11
    assert "responders: 1.0" in to_yaml(config)


STUDY = [
    *("experiment=pooling_study", "steps=[pooling_study]", "plate=SIM1.zarr", "output=study", "workers=1", "seeds=1"),
    *(
        "fractions=[0.5]",
        "study.cells_per_bag=4",
        "study.larger_bags=8",
        "study.bags_per_class=4",
        "study.epochs=2",
        "study.components=8",
    ),
    *(f"poolings.{name}=null" for name in ("generalized_mean", "log_sum_exp", "noisy_and", "noisy_and_low")),
    *(f"poolings.{name}=null" for name in ("noisy_or", "isr", "max", "attention", "induced_attention")),
]


def test_a_study_of_two_poolings_by_the_command_line(cropped_screen, tmp_path, capsys):
    screen = type(cropped_screen)(tmp_path / "screen")
    shutil.copytree(cropped_screen.folder, screen.folder)
    assert screen("run", *STUDY) == 2
    assert "cellpheno embed" in capsys.readouterr().err
    assert screen("embed", "plate=SIM1.zarr", "encoder@embed_encoder=efficientnet_lite0", "threads=1") == 0
    assert screen("run", *STUDY) == 0
    table = pd.read_csv(screen.folder / "study/pooling_study.csv")
    assert table["pooling"].tolist() == ["gated_attention", "mean"]
    assert table[["macro_auroc", "balanced_accuracy"]].notna().all(axis=None)
    before = screen.hashes()
    assert "study/pooling_study.svg" in before
    (screen.folder / "study/units/mean-0.5-0.json").unlink()  # as after a kill: one unit is done again
    assert screen("run", *STUDY) == 0
    assert screen.hashes() == before
    for wrong in ("control=nothing", "fractions=[0.5,2]", "seeds=0"):
        assert screen("run", *STUDY, wrong) == 2


def test_a_study_whose_table_cannot_be_made_ends_as_a_bug_and_keeps_its_units(tmp_path):
    def unit(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{}")
        return Result("done", [place])

    def broken(done, place):
        raise ZeroDivisionError(f"{len(done)} units")

    jobs = [Job(f"mean-1-{seed}", "k", partial(unit, tmp_path / f"units/mean-1-{seed}.json")) for seed in (0, 1)]
    outcome = do_units("study", jobs, run_jobs, broken, tmp_path)
    assert "ZeroDivisionError: 2 units" in outcome.bugs[0]
    assert outcome.exit_code == 1
    assert all(read_record(tmp_path, job.unit)["study"]["status"] == "done" for job in jobs)

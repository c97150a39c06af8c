"""Several networks on the same folds: each trained, tuned on the wells that the baselines tune on, and compared."""

import shutil

import numpy as np
import pandas as pd
import pytest

from cellpheno.batch.ledger import commit_step, read_record
from cellpheno.compare.tuning import fold_seed, inner_wells
from cellpheno.errors import InputError
from cellpheno.images.crops import Crops, write_crops
from cellpheno.models.transforms import Unchanged
from cellpheno.plates.plate import open_plate
from cellpheno.stages.facts import grey_limits
from cellpheno.stages.learning_curve import learning_curve
from cellpheno.stages.report import _pictures
from cellpheno.stages.train import check_sizes
from cellpheno.stages.wells import usable, well_table
from cellpheno.training.instances import Cells
from tests.conftest import Screen

CONTEST = "steps=[train,predict,compare,learning_curve,report]"
CHOICE = [
    "contestants=[measured_attention]",
    "+pooling@contestants.max.pooling=max",
    "contestants.measured_attention.configurations=[{trainer.max_epochs: 1}, {trainer.max_epochs: 2}]",
    "configurations=[{optimizer.lr: 0.002}, {optimizer.lr: 0.004, encoder.width: 16}]",
    "contestant=gated",
    "curve=[1,2]",
]
KEYS = ["Metadata_Plate", "Metadata_Well"]


@pytest.fixture(scope="module")
def contest(cropped_screen, tmp_path_factory):
    screen = Screen(tmp_path_factory.mktemp("contest") / "screen")
    shutil.copytree(cropped_screen.folder, screen.folder)
    assert screen.run(CONTEST, *CHOICE) == 0
    return screen


def test_every_network_predicts_every_well_by_a_model_that_never_saw_it(contest):
    predictions = pd.read_parquet(contest.folder / "runs/small/predictions.parquet")
    networks = predictions[predictions["contestant"].isin(["gated", "measured_attention", "max"])]
    assert networks.groupby("contestant").size().to_dict() == {"gated": 8, "measured_attention": 8, "max": 8}
    folds = pd.read_csv(contest.folder / "runs/small/folds.csv").set_index("Metadata_Well")["fold"]
    assert (networks["fold"] == networks["Metadata_Well"].map(folds)).all()
    logits = networks.pivot(index="Metadata_Well", columns="contestant", values="logit_nuclear")
    assert (logits["gated"] != logits["max"]).all()
    assert (logits["gated"] != logits["measured_attention"]).all()


def test_the_choice_of_each_fold_is_recorded_and_made_on_the_wells_of_the_baselines(contest):
    folder = contest.folder / "runs/small"
    tuning = pd.read_csv(folder / "tuning.csv", keep_default_na=False)
    sizes = tuning.groupby(["contestant", "fold"]).size().unstack()
    assert sizes.loc[["gated", "measured_attention", "max", "engineered"]].to_numpy().tolist() == [[2, 2]] * 3 + [
        [4, 4]
    ]
    assert (tuning.groupby(["contestant", "fold"])["chosen"].sum() == 1).all()
    assert tuning["n_inner"].nunique() == 1
    wells = usable(well_table([contest.folder / "SIM1.zarr"], "label", None)).sort_values(KEYS)
    folds = pd.read_csv(folder / "folds.csv")
    for fold, held in folds.groupby("fold"):
        train = wells[~wells["Metadata_Well"].isin(held["Metadata_Well"])]
        inner, why = inner_wells(train, 0.25, fold_seed(1, "by_well", 0, int(fold)), None, False)
        assert why == ""
        assert len(inner) == tuning["n_inner"].iloc[0]
        assert not set(inner["Metadata_Well"]) & set(held["Metadata_Well"])


def test_the_learning_curve_holds_every_contestant_at_every_size(contest):
    folder = contest.folder / "runs/small"
    curve = pd.read_csv(folder / "learning_curve.csv")
    accuracy = curve[curve["metric"] == "balanced_accuracy"]
    contestants = {"gated", "max", "measured_attention", "engineered", "cell_count", "mean_intensity", "position"}
    for size in (1, 2):
        assert set(accuracy.loc[accuracy["wells_per_class"] == size, "contestant"]) == contestants
        records = sorted((folder / f"learning_curve/{size}_wells/ledger").glob("train-*.json"))
        assert len(records) == 2
        assert all(f'"n_wells": {2 * size}' in record.read_text() for record in records)


def test_a_second_run_finds_all_done(contest, caplog):
    with caplog.at_level("INFO", "cellpheno"):
        assert contest.run(CONTEST, *CHOICE) == 0
    said = [record.message for record in caplog.records if ": " in record.message]
    assert all("done already" in line for line in said), said


def test_a_contestant_without_predictions_or_on_other_folds_is_refused(contest, tmp_path, capsys):
    screen = Screen(tmp_path / "copy")
    shutil.copytree(contest.folder, screen.folder)
    assert screen.run("steps=[compare]", *CHOICE, "split.by_well.n_folds=3") == 2
    assert "max was trained on other folds" in capsys.readouterr().err
    shutil.rmtree(screen.folder / "runs/small/contestants/max")
    assert screen.run("steps=[compare]", *CHOICE) == 2
    assert "contestant max has no predictions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("configurations=[{optimizer.rate: 1}]", "optimizer.rate: optimizer takes"),
        ("configurations=[{optimiser.lr: 1}]", "optimiser is no component"),
        ("configurations=[]", "wanted one at least"),
        ("wells_per_class=0", "wells_per_class=0: wanted 1 or more"),
        ("+contestants.odd.poolling=1", "contestants.odd: train has no key poolling"),
    ],
)
def test_what_no_model_takes_is_refused_before_any_fold(cropped_screen, fresh_copy, capsys, override, told):
    screen = fresh_copy(cropped_screen)
    assert screen.run("steps=[train,predict]", override) == 2
    assert told in capsys.readouterr().err
    assert not (screen.folder / "runs/small/models").exists()


def test_plates_whose_crops_differ_in_size_are_refused_by_name(tmp_path):
    key = np.zeros(1, np.int32)
    for plate, side in (("P1", 8), ("P2", 12)):
        write_crops(tmp_path / f"{plate}.zarr", Crops(np.zeros((1, 2, side, side), np.uint16), key, key, key > 0))
    wells = pd.DataFrame({"Metadata_Plate": ["P1", "P2"], "n_instances": 1})
    wells["place"] = [str(tmp_path / f"{plate}.zarr") for plate in wells["Metadata_Plate"]]
    with pytest.raises(InputError, match=r"crops differ in size \(pixels\): P1 8, P2 12; cut all plates alike"):
        check_sizes(wells, Cells())
    with pytest.raises(InputError, match="normalization=none is for features, here are pictures of uint16"):
        grey_limits(wells, Unchanged(), Cells())


def test_curves_of_other_folds_than_the_runs_are_refused(tmp_path):
    for folder, fold in ((tmp_path, 0), (tmp_path / "learning_curve/1_wells", 1)):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("scores.csv", "messages.csv"):
            (folder / name).write_text("note\n")
        (folder / "folds.csv").write_text(f"fold\n{fold}\n")
    with pytest.raises(InputError, match=r"1_wells: of other wells or folds than the run's"):
        learning_curve(tmp_path, [1], engine=pytest.fail)


def test_the_report_draws_anew_where_the_cells_of_a_well_were_cut_anew(cropped_screen, fresh_copy):
    screen = fresh_copy(cropped_screen)
    plate = open_plate(screen.folder / "SIM1.zarr")
    before = _pictures(plate)
    assert min(map(len, before.values())) > 2
    well = sorted(before)[0]
    entry = read_record(plate.folder, well)["crop"]
    files = {name: {**facts, "sha256": "0" * 64} for name, facts in entry["files"].items()}
    commit_step(plate.folder, well, "crop", {**entry, "files": files})
    after = _pictures(plate)
    assert [name for name in before if before[name] != after[name]] == [well]


def test_a_bug_in_a_fold_of_one_network_ends_the_run_without_a_second_try(cropped_screen, tmp_path, monkeypatch):
    tried = []

    def broken(training, *, folder, **settings):
        tried.append(folder)
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("cellpheno.stages.train.train_fold", broken)
    screen = Screen(tmp_path / "screen")
    shutil.copytree(cropped_screen.folder, screen.folder)
    assert screen.run("steps=[train,predict]", "contestants=[max]") == 1
    assert len(tried) == len(set(tried)) == 4

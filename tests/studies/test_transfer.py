"""The transfer curve: what is drawn, what is held out, the table, and that a stopped study goes on."""

import json
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cellpheno.errors import InputError, Stopped
from cellpheno.images.crops import read_attributes, read_crops
from cellpheno.models.channels import PerChannel
from cellpheno.models.encoders import SmallResNet
from cellpheno.simulate.plate import simulate_plate
from cellpheno.stages import transfer_curve
from cellpheno.studies.simulated_cells import simulate_cells
from cellpheno.studies.transfer import check_study, draw_examples, summarize
from cellpheno.training.resume import ResumePoint
from tests.conftest import Screen
from tests.stages.test_single_cells import CELLS, draw

STUDY = [
    *("transfer_curve", "source=old", "target=set", "output=runs/curve", "label=kind", "workers=1", "threads=1"),
    *("examples=[1,3]", "resamples=2", "train_steps=3", "trainer.max_epochs=2", "validation=0", "apart=null"),
    *("encoder.width=8", "encoder.depth=1", "held_out=0.4"),
]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study on 72 imported cells, as source and as target; not to be changed."""
    from PIL import Image

    screen, rng = Screen(tmp_path_factory.mktemp("study")), np.random.default_rng(0)
    (screen.folder / "raw").mkdir()
    rows = ["file,kind,place,track"]
    for i in range(48):
        Image.fromarray(draw(rng, ("disc", "ring")[i % 2])).save(screen.folder / f"raw/{i}.png")
        rows.append(f"{i}.png,{('disc', 'ring')[i % 2]},{i // 12},{i}")
    (screen.folder / "raw/labels.csv").write_text("\n".join(rows) + "\n")
    first = [s for s in CELLS if not s.startswith(("steps=", "plate="))]
    for plate in ("old", "set"):
        assert screen(*first, "steps=[import_crops]", f"plate={plate}") == 0
    assert screen(*STUDY) == 0
    return screen


def test_every_unit_is_in_the_table_and_all_are_scored_on_the_same_wells(studied):
    table = pd.read_csv(studied.folder / "runs/curve/transfer.csv")
    assert len(table) == 2 * 2 * 3
    assert set(table["arm"]) == {"scratch", "fine_tuned", "frozen"}
    assert (table["n_cells"] == 2 * table["n"]).all()
    assert table["n_held_out"].unique().tolist() == [24]
    assert table["balanced_accuracy"].between(0, 1).all()
    assert (studied.folder / "runs/curve/transfer.svg").read_text().startswith("<?xml")
    summary = pd.read_csv(studied.folder / "runs/curve/transfer-summary.csv")
    own = table[(table["n"] == 3) & (table["arm"] == "scratch")]["balanced_accuracy"]
    row = summary[(summary["n"] == 3) & (summary["arm"] == "scratch")].iloc[0]
    low, high = stats.t.interval(0.95, 1, own.mean(), stats.sem(own)) if own.nunique() > 1 else (own.mean(),) * 2
    assert row["mean"] == pytest.approx(own.mean())
    assert (row["low"], row["high"]) == pytest.approx((max(0, low), min(1, high)))


def test_a_lost_unit_alone_is_done_again_to_the_same_bytes(studied, tmp_path, caplog):
    screen = Screen(tmp_path / "copy")
    shutil.copytree(studied.folder, screen.folder)
    (screen.folder / "runs/curve/units/n003-resample1-frozen.csv").unlink()
    with caplog.at_level("INFO", "cellpheno"):
        assert screen(*STUDY) == 0
    assert "transfer_curve: 11 of 12 done already, 1 to do" in caplog.text
    assert screen.hashes() == studied.hashes()


def test_a_source_that_was_stopped_goes_on_to_the_same_bytes(studied, tmp_path, caplog, monkeypatch):
    screen, save = Screen(tmp_path / "copy"), ResumePoint.on_train_epoch_end
    shutil.copytree(studied.folder, screen.folder)
    shutil.rmtree(screen.folder / "runs/curve/models/source")

    def stop(*given):
        save(*given)
        raise Stopped("signal SIGTERM")

    with monkeypatch.context() as patched:
        patched.setattr(ResumePoint, "on_train_epoch_end", stop)
        assert screen(*STUDY) == 4
    with caplog.at_level("INFO", "cellpheno"):
        assert screen(*STUDY) == 0
    assert "training goes on after epoch 0" in caplog.text
    assert screen.hashes() == studied.hashes()


def test_frozen_and_fine_tuned_start_from_the_source(studied):
    card = json.loads((studied.folder / "runs/curve/models/source/card.json").read_text())
    assert card["classes"] == ["disc", "ring"]
    assert card["class_counts"] == {"disc": 24, "ring": 24}


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (["source=set"], "wells of the target that are held out; give another screen"),
        (["source=null"], "give the cells to learn from first, or a trained model"),
        (["examples=[3,3]"], "examples=[3, 3]: wanted each once"),
        (["arms={a: {start: 1}}"], "arms.a={'start': 1}: wanted start: true"),
        (["arms={a: {start: false, frozen: head.x}}"], "arms.a: no layer 'head.x'"),
        (["arms={a: {start: false, colour: red}}"], "arms.a:"),
        (["apart=Metadata_batch"], "apart=Metadata_batch: the cells have no such column"),
    ],
)
def test_what_makes_no_study_is_refused(studied, settings, hint, capsys):
    assert studied(*STUDY, "output=runs/curve", *settings) == 2
    assert hint in capsys.readouterr().err


def test_what_the_source_shows_is_refused_before_it_is_trained_on(studied, tmp_path, capsys):
    screen = Screen(tmp_path / "copy")
    shutil.copytree(studied.folder, screen.folder)
    ask = [*STUDY, "output=runs/new"]
    assert screen(*ask, "arms={a: {start: true, frozen: head.x}}") == 2
    assert "arms.a: no layer 'head.x'" in capsys.readouterr().err
    for place in (screen.folder / "old/crops").glob("*.zarr"):
        about = json.loads((place / "zarr.json").read_text())
        about["attributes"]["channels"] = about["attributes"]["channels"][::-1]
        (place / "zarr.json").write_text(json.dumps(about))
    assert screen(*ask) == 2
    told = capsys.readouterr().err
    assert "source=old: channels: its cells have ['body', 'spot'], the data have ['spot', 'body'], the same in" in told
    assert not (screen.folder / "runs/new").exists()


def test_a_network_that_sees_each_channel_alone_may_learn_from_them_in_another_order():
    mixed, alone = partial(SmallResNet, width=8), partial(PerChannel, encoder=SmallResNet)
    transfer_curve._check_source_channels("old", ["DNA", "ER"], ["ER", "DNA"], alone)
    with pytest.raises(InputError, match=r"source=old: channels: its cells have \['DNA', 'ER'\], the data have"):
        transfer_curve._check_source_channels("old", ["DNA", "ER"], ["ER", "DNA"], mixed)


def test_more_examples_hold_the_fewer_and_small_classes_give_all():
    pool = pd.DataFrame({"label": ["a"] * 6 + ["b"] * 2, "Metadata_ObjectNumber": range(8)})
    drawn = {n: draw_examples(pool, n, seed=3) for n in (1, 2, 5)}
    assert set(drawn[1].index) < set(drawn[2].index) < set(drawn[5].index)
    assert drawn[5]["label"].value_counts().to_dict() == {"a": 5, "b": 2}
    shuffled = draw_examples(pool.sample(frac=1, random_state=0), 2, seed=3)
    assert set(shuffled.index) == set(drawn[2].index)  # whatever the order of the table
    assert set(draw_examples(pool, 2, seed=4).index) != set(drawn[2].index)


def test_one_resample_has_no_interval():
    table = pd.DataFrame({"n": [1], "arm": ["a"], "resample": [0], "balanced_accuracy": [0.5]})
    assert summarize(table)[["low", "high"]].isna().all(axis=None)
    with pytest.raises(InputError) as caught:
        check_study([0], 0, 0, {})
    assert len(caught.value.faults) == 4


def test_simulated_cells_are_cut_at_their_nuclei_with_their_own_labels(tmp_path):
    phenotypes = {"control": {"pattern": "cytosolic"}, "nuclear": {"pattern": "nuclear"}}
    make = partial(
        simulate_plate, phenotypes=phenotypes, wells_per_class=1, plate_format=6, fields=1, field_px=160, responders=1.0
    )
    files = simulate_cells(make, tmp_path / "sim", crop_px=32, seed=1)
    assert all(path.is_file() for path in files)
    assert sorted(p.name for p in (tmp_path / "sim").iterdir()) == ["cells", "crops"]  # no raw image is left
    seen = {}
    for path in (tmp_path / "sim/crops").glob("*.zarr"):
        table = pd.read_parquet(tmp_path / f"sim/cells/{path.stem}.parquet")
        crops = read_crops(path)
        assert read_attributes(path)["channels"] == ["DNA", "CellMask", "Protein"]
        keys = list(zip(crops.site, crops.object_number, strict=True))
        assert sorted(keys) == sorted(zip(table["Metadata_Site"], table["Metadata_ObjectNumber"], strict=True))
        dna = crops.pixels[:, 0].astype(float)
        middle, rim = dna[:, 12:20, 12:20].mean(), dna[:, :3].mean()
        assert middle > 2 * rim
        for label in table["Metadata_label"].unique():
            seen[label] = crops.pixels[:, 2, 12:20, 12:20].mean()
    assert set(seen) == {"cytosolic", "nuclear"}
    assert seen["nuclear"] > seen["cytosolic"]


def test_the_experiment_simulates_its_cells_and_knows_each_well(tmp_path, capsys):
    screen = Screen(tmp_path)
    keys = ("wells_per_class=2", "field_px=160", "fields=1")
    small = [f"{which}_simulation.{key}" for which in ("source", "target") for key in keys]
    quick = ["examples=[1]", "resamples=1", "train_steps=2", "trainer.max_epochs=1", "validation=0", "encoder.depth=1"]
    assert screen("run", "experiment=transfer_curve", *small, *quick) == 0, capsys.readouterr().err
    table = pd.read_csv(tmp_path / "transfer/runs/curve/transfer.csv")
    assert set(table["arm"]) == {"scratch", "fine_tuned", "frozen"}
    first = next((tmp_path / "transfer/target/ledger").glob("[A-H]??.json"))
    assert json.loads(first.read_text())["import_crops"]["files"]
    fewer = "target_simulation.wells_per_class=1"
    assert screen("run", "experiment=transfer_curve", *small, fewer, *quick) == 2
    assert "not of this simulation; give a new folder" in capsys.readouterr().err

"""Fine-tuning: what a run starts from has not seen the wells that the run holds out."""

import json
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest

from cellpheno.errors import InputError
from cellpheno.models.channels import PerChannel
from cellpheno.models.encoders import SmallResNet
from cellpheno.models.transforms import PerCrop
from cellpheno.names import PLATE, WELL
from cellpheno.stages import start as start_module
from cellpheno.stages.start import check_seen, check_start, seen_before, seen_wells
from cellpheno.training.checkpoint import build, load_model

MODEL = "runs/small/models/by_well/repeat0_fold0"
TUNE = ("steps=[train]", "output=runs/tuned", f"start={MODEL}", "configurations=[{}, {optimizer.lr: 0.002}]")


def wells_of(path):
    return set(pd.read_csv(path)[[PLATE, WELL]].itertuples(index=False, name=None))


def test_a_start_that_has_seen_held_out_wells_is_refused_unless_asked(
    finished_screen, fresh_copy, capsys, caplog, monkeypatch
):
    screen, loaded = fresh_copy(finished_screen), []
    monkeypatch.setattr(start_module, "load_model", lambda folder: loaded.append(folder) or load_model(folder))
    assert screen.run(*TUNE) == 2
    told = capsys.readouterr().err
    seen = wells_of(screen.folder / MODEL / "trained_on.csv")
    assert f"start={MODEL}: the model has learned from 4 wells that this run holds out (SIM1 " in told
    assert all(" ".join(well) in told for well in seen)
    assert "allow it: no_leak=[]" in told
    assert len(loaded) == 1  # whatever the number of configurations
    assert not (screen.folder / "runs/tuned/models").exists()
    assert screen.run(*TUNE[:3], "no_leak=[]") == 0
    assert "scores of such wells say too much" in caplog.text
    tuned = screen.folder / "runs/tuned/models/by_well/repeat0_fold0"
    assert wells_of(tuned / "seen_before.csv") == seen
    assert set(seen_wells(tuned).itertuples(index=False, name=None)) == seen | wells_of(tuned / "trained_on.csv")
    (tuned / "seen_before.csv").unlink()
    assert seen_wells(tuned) is None


def test_a_start_from_other_wells_is_taken_and_one_that_does_not_tell_is_not(finished_screen, fresh_copy):
    model = fresh_copy(finished_screen).folder / MODEL
    folds = pd.DataFrame({PLATE: "SIM1", WELL: sorted(seen_wells(model)[WELL]), "fold": 0})
    with pytest.raises(InputError, match=r"from 4 wells .* no_leak=\[compound\]"):
        check_seen(seen_before(model), folds, ["image", "compound"])
    check_seen(seen_before(model), folds.assign(fold=-1), ["image"])  # held out in no fold, so in no score
    check_seen(seen_before(model), folds.assign(**{PLATE: "SIM2"}), ["image"])
    (model / "trained_on.csv").unlink()
    with pytest.raises(InputError, match="which wells the model has seen is not known"):
        check_seen(seen_before(model), folds, ["image"])


@pytest.fixture
def asked(finished_screen):
    """What a training like the start's own says of its data."""
    trained = load_model(finished_screen.folder / MODEL)
    about = {"channels": trained.card["channels"], "pixel_size_um": trained.card["pixel_size_um"]}
    return trained, {**about, "normalization": build(trained.card["normalization"])()}


def test_a_start_on_the_same_channels_in_another_order_is_refused_unless_none_is_mixed(asked, caplog):
    trained, about = asked
    check_start(None, None, **about)
    check_start("MODEL", trained, **about)
    assert caplog.text == ""
    own = trained.card["channels"]
    turned = {**about, "channels": own[::-1]}
    with pytest.raises(InputError) as refused:
        check_start("MODEL", trained, **turned)
    for side in ("start=MODEL", str(own), str(own[::-1])):
        assert side in str(refused.value)
    alone = PerChannel(len(own), partial(SmallResNet, width=8, depth=1))
    check_start("MODEL", trained._replace(model=SimpleNamespace(encoder=alone)), **turned)


def test_in_what_the_data_of_a_start_differ_is_told_with_both_sides(asked, caplog):
    trained, about = asked
    own, size = trained.card["channels"], trained.card["pixel_size_um"]
    check_start("MODEL", trained, **{**about, "channels": ["x", *own[1:]]})
    assert f"trained with {own}, the data have {['x', *own[1:]]}; weights go from {own[0]} to x, from" in caplog.text
    check_start("MODEL", trained, **{**about, "channels": [own[0], "y"]})
    assert f"weights go from {own[0]} and {own[1]} to {own[0]}, from {own[1]} and {own[2]} to y" in caplog.text
    caplog.clear()
    check_start("MODEL", trained, **{**about, "pixel_size_um": 2 * size, "normalization": PerCrop()})
    size_told, norm_told = caplog.messages
    assert f"pixel_size_um: the model was trained with {size}, the data have {2 * size}" in size_told
    assert "PlatePercentiles" in norm_told
    assert "PerCrop" in norm_told


def test_each_training_asks_whether_its_start_fits(finished_screen, fresh_copy, capsys):
    screen = fresh_copy(finished_screen)
    card = json.loads((screen.folder / MODEL / "card.json").read_text())
    card["channels"] = card["channels"][::-1]
    (screen.folder / MODEL / "card.json").write_text(json.dumps(card))
    assert screen.run(*TUNE) == 2
    assert f"start={MODEL}: channels: the model was trained with {card['channels']}" in capsys.readouterr().err


def test_a_contestant_may_start_from_a_model_of_its_own(finished_screen, fresh_copy, capsys):
    screen = fresh_copy(finished_screen)
    ask = ["steps=[train]", "output=runs/tuned", "contestants=[max]", "trainer.max_epochs=1"]
    ask.append(f"+contestants.max.start={MODEL}")
    assert screen.run(*ask) == 2
    assert f"start={MODEL}: the model has learned from 4 wells" in capsys.readouterr().err
    assert screen.run(*ask, "no_leak=[]") == 0
    assert (screen.folder / "runs/tuned/contestants/max/models/by_well/repeat0_fold0/seen_before.csv").is_file()
    assert not list((screen.folder / "runs/tuned/models").rglob("seen_before.csv"))


def test_features_of_a_model_remember_the_wells_that_taught_it(finished_screen, fresh_copy, capsys):
    screen = fresh_copy(finished_screen)
    assert screen("embed", "plate=SIM1.zarr", "embedding=tuned", f"start={MODEL}") == 0
    ask = ["steps=[train,predict,compare]", "output=runs/tuned", "embedding=tuned", "contestants=[linear_probe]"]
    ask += ["contestants.linear_probe.configurations=[{}]", "baselines=[position]", "reference=position"]
    assert screen.run(*ask) == 2
    told = capsys.readouterr().err
    assert not (screen.folder / "runs/tuned").exists()  # the run's own network is not trained before
    assert "features 'tuned' of SIM1: the model has learned from 4 wells that this run holds out (SIM1 " in told
    assert screen.run(*ask, "no_leak=[]") == 0
    messages = pd.read_csv(screen.folder / "runs/tuned/messages.csv")["message"].tolist()
    assert any(
        "linear_probe: 4 of its held-out wells had been seen by the model from which it started" in m for m in messages
    )
    next((screen.folder / "SIM1/features/tuned").glob("seen_before-*.csv")).unlink()
    assert screen.run(*ask) == 2
    assert "which wells the model has seen is not known" in capsys.readouterr().err

"""Fine-tuning: what a run starts from has not seen the wells that the run holds out."""

import pandas as pd
import pytest

from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.stages import train_fold
from cellpheno.stages.run_folder import seen_wells
from cellpheno.stages.train_fold import check_start
from cellpheno.training.checkpoint import load_model

MODEL = "runs/small/models/by_well/repeat0_fold0"
TUNE = ("steps=[train]", "output=runs/tuned", f"start={MODEL}", "configurations=[{}, {optimizer.lr: 0.002}]")


def wells_of(path):
    return set(pd.read_csv(path)[[PLATE, WELL]].itertuples(index=False, name=None))


def test_a_start_that_has_seen_held_out_wells_is_refused_unless_asked(
    finished_screen, fresh_copy, capsys, caplog, monkeypatch
):
    screen, loaded = fresh_copy(finished_screen), []
    monkeypatch.setattr(train_fold, "load_model", lambda folder: loaded.append(folder) or load_model(folder))
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
        check_start(model, folds, ["image", "compound"])
    check_start(model, folds.assign(fold=-1), ["image"])  # held out in no fold, so in no score
    check_start(model, folds.assign(**{PLATE: "SIM2"}), ["image"])
    (model / "trained_on.csv").unlink()
    with pytest.raises(InputError, match="which wells the model has seen is not known"):
        check_start(model, folds, ["image"])

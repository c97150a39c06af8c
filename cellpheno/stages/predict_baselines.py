"""The contestants of a run on new plates: fitted anew from the features that the run kept, and held to its figures."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes, read_record
from cellpheno.bounds import Listed
from cellpheno.compare.contest import Answers, contest
from cellpheno.compare.predictions import NEW, OUT_OF_FOLD
from cellpheno.components import build, describe
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.plates.commit import commit_file, hash_file
from cellpheno.stages.run_folder import Plan, write_csv, write_parquet
from cellpheno.stages.well_features import (
    Baselines,
    elsewhere_hashes,
    lacking_messages,
    needed_columns,
    well_features,
)
from cellpheno.stages.wells import usable, well_table

CARD, TABLE = "contest.json", "contest.parquet"
CLOSE = 1e-6  # of logits, between the run and the fit anew


class Kept(NamedTuple):
    """What a run kept of its contest: nothing in it can run anything that the package does not allow."""

    wells: pd.DataFrame  # labelled wells: Metadata_*, label
    features: pd.DataFrame  # theirs
    folds: pd.DataFrame
    baselines: Baselines
    card: dict[str, Any]


def predict_baselines(
    plates: Annotated[Sequence[Path], Listed()],
    output: Path,
    models: Path,
    engine: Callable[..., Outcome],
) -> Outcome:
    """Predict the wells of new plates with a run's baselines, fitted anew from the features that the run kept.

    Parameters
    ----------
    plates : sequence of Path
        OME-Zarr plates, measured as those of the run were.
    output : Path
        Where predictions go.
    models : Path
        The run whose baselines predict, by the mean logit over its folds. Wells of its own are left out.
    engine : callable
        Where the work runs.
    """
    kept = read_contest(models)
    wells = usable(well_table(plates, None, None))
    own = pd.MultiIndex.from_frame(kept.wells[[PLATE, WELL]])
    new = wells[~pd.MultiIndex.from_frame(wells[[PLATE, WELL]]).isin(own)].reset_index(drop=True)
    new = _mapped(new)
    if new.empty:
        raise InputError(f"all {len(wells)} wells of the plates are labelled wells of {models}: none is new")
    records = [read_record(Path(w["folder"]), w[WELL]) for _, w in new.iterrows()]
    key = make_key(
        "predict_baselines",
        wells=new.drop(columns="folder").astype(str).to_dict("list"),
        cells=[input_hashes(record, "measure", "image_statistics") for record in records],
        contest=[hash_file(models / name) for name in (CARD, TABLE, "folds.csv", "predictions.parquet")],
        elsewhere=elsewhere_hashes(kept.baselines),
    )
    work = functools.partial(_predict, kept, new, models, output)
    outcome = engine("predict_baselines", [Job("predict_baselines", key, work)], folder=output, root=output)
    return outcome._replace(path=output / "predictions-baselines.csv")


def write_contest(
    output: Path,
    plan: Plan,
    features: pd.DataFrame,
    baselines: Baselines,
    settings: Mapping[str, Any],
) -> list[Path]:
    """Keep what a fit anew needs: features and labels of the training wells, and every setting, as plain data."""
    labelled = plan.usable[plan.usable["label"] != ""]
    wells = labelled[[c for c in labelled if str(c).startswith("Metadata_") or c == "label"]]
    extra = [c for c in features if c not in wells or c in (PLATE, WELL)]
    table = wells.merge(features[extra], on=[PLATE, WELL], how="left", validate="one_to_one")
    card = {
        "classes": plan.classes,
        "multilabel": plan.multilabel,
        "not_trained": sorted(map(list, plan.not_trained)),
        "baselines": describe(baselines),
        "wells": list(wells.columns),
        **settings,
    }
    with commit_file(output / CARD) as temporary:
        temporary.write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return [write_parquet(table, output / TABLE), output / CARD]


def read_contest(models: Path) -> Kept:
    """Read what a run kept of its contest.

    Raises
    ------
    InputError
        If it kept none.
    """
    if missing := [name for name in (CARD, TABLE, "folds.csv", "predictions.parquet") if not (models / name).is_file()]:
        raise InputError(f"models={models} has no {', '.join(missing)}; run: cellpheno compare output={models} ...")
    card = json.loads((models / CARD).read_text(encoding="utf-8"))
    table = pd.read_parquet(models / TABLE)
    folds = pd.read_csv(models / "folds.csv", dtype=str, keep_default_na=False).astype({"repeat": int, "fold": int})
    features = table[[PLATE, WELL, *(c for c in table if c not in card["wells"])]]
    return Kept(table[card["wells"]], features, folds, build(card["baselines"]), card)


def _mapped(wells: pd.DataFrame) -> pd.DataFrame:
    """Add what the plate maps say of the wells, where there are any: a baseline may look up a batch."""
    paths = [Path(folder) / "platemap.csv" for folder in sorted(set(wells["folder"]))]
    maps = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths if path.is_file()]
    if not maps:
        return wells
    mapped = pd.concat(maps, ignore_index=True)
    extra = [c for c in mapped if c not in wells or c in (PLATE, WELL)]
    return wells.merge(mapped[extra], on=[PLATE, WELL], how="left")


def _predict(kept: Kept, new: pd.DataFrame, models: Path, output: Path) -> Result:
    features = well_features(new, kept.card["aggregation"])
    _check_features(kept, features, new)
    messages = lacking_messages(new, features, kept.baselines)
    wells = pd.concat([kept.wells, new.reindex(columns=kept.wells.columns).assign(label="")], ignore_index=True)
    both = pd.concat([kept.features, features.reindex(columns=kept.features.columns)], ignore_index=True)
    predictions = _fit(kept, wells, both).predictions
    _check_same(predictions, models, kept.card["classes"])
    own = predictions[predictions["role"] == NEW].reset_index(drop=True)
    files = [write_csv(own, output / "predictions-baselines.csv")]
    files.append(write_parquet(own, output / "predictions-baselines.parquet"))
    return Result("warned" if messages else "done", files, messages)


def _fit(kept: Kept, wells: pd.DataFrame, features: pd.DataFrame) -> Answers:
    card = kept.card
    return contest(
        wells, features, kept.folds, kept.baselines, card["classes"], card["seed"],
        [(plate, well) for plate, well in card["not_trained"]], card["multilabel"],
        tuning=card["tuning"], groups=card["groups"], wells_per_class=card["wells_per_class"],
    )  # fmt: skip


def _check_features(kept: Kept, features: pd.DataFrame, new: pd.DataFrame) -> None:
    """Refuse plates that lack a feature of the run, or a column that a baseline looks up."""
    faults = []
    wanted = needed_columns(kept.baselines, [str(c) for c in kept.features])
    if missing := [name for name in wanted if name not in features]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        faults.append(
            f"the plates lack features of the run: {', '.join(missing[:5])}{more}; measure them alike (channels, "
            "measurements, image_statistics)"
        )
    batches = needed_columns(kept.baselines, [str(c) for c in kept.wells])
    if absent := [name for name in batches if name not in new or new[name].isna().any()]:
        faults.append(f"the plates' maps say nothing of {', '.join(absent)}, which a baseline of the run looks up")
    if faults:
        raise InputError(*faults)


def _check_same(predictions: pd.DataFrame, models: Path, classes: Sequence[str]) -> None:
    """Refuse to predict if the fit anew is not that of the run, as after an update of a library."""
    keys = ["contestant", "split", "repeat", "fold", PLATE, WELL]
    logits = [f"logit_{name}" for name in classes]
    ours = predictions.loc[predictions["role"] == OUT_OF_FOLD, [*keys, *logits]]
    theirs = pd.read_parquet(models / "predictions.parquet", columns=[*keys, *logits])
    both = ours.merge(theirs, on=keys, how="left", suffixes=("", "_run"))
    far = np.abs(both[logits].to_numpy() - both[[f"{name}_run" for name in logits]].to_numpy())
    if not (far <= CLOSE).all():  # nan: a prediction that the run does not have
        names = sorted(set(both.loc[~(far <= CLOSE).all(axis=1), "contestant"]))
        raise InputError(
            f"{', '.join(names)}, fitted anew, do not give the predictions of {models}: another version of a library "
            "or of cellpheno? Run compare again there"
        )

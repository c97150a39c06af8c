"""Trained models to predictions: held-out wells by the model that never saw them, new wells by all fold models."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes, read_record
from cellpheno.bounds import Listed, Range
from cellpheno.compare.predictions import NEW, OUT_OF_FOLD, prediction_rows, prior_logits
from cellpheno.compare.strict_splits import Place, fold_name
from cellpheno.errors import InputError
from cellpheno.names import CELL_KEYS, PLATE, WELL
from cellpheno.plates.commit import hash_file
from cellpheno.plates.plate import open_plate
from cellpheno.stages.facts import grey_limits
from cellpheno.stages.instance_rows import commit_rows, merge_rows
from cellpheno.stages.run_folder import (
    PREDICTIONS,
    TRAINED_ON,
    fold_models,
    read_csv,
    taken,
    write_csv,
    write_parquet,
)
from cellpheno.stages.well_steps import without_damaged
from cellpheno.stages.wells import Classes, class_names, usable, well_table, with_places
from cellpheno.training.checkpoint import CARD, build, check_card, load_model, read_card, several_classes
from cellpheno.training.device import find_device, rounding
from cellpheno.training.instances import Instances
from cellpheno.training.predict import predict_wells

log = logging.getLogger("cellpheno")


def predict(
    plates: Annotated[Sequence[Path], Listed()],
    output: Path,
    models: Path,
    engine: Callable[..., Outcome],
    label: str | None = "label",
    classes: Classes = None,
    label_separator: str | None = None,
    contestant: str = "mil",
    threads: Annotated[int, Range(1)] = 2,
    device: str = "cpu",
) -> Outcome:
    """Predict the wells of plates with a run's models.

    Parameters
    ----------
    plates : sequence of Path
        OME-Zarr plates; cropped, where the models are of cells.
    output : Path
        Where predictions go.
    models : Path
        The run whose models predict. Wells that it held out are predicted by the model that never saw them, all others
        by the mean logit of its models.
    engine : callable
        Where the work runs.
    label : str, optional
        Column of the plate map that holds the class; null where the plates have no plate map.
    classes : sequence or mapping, optional
        Class names, or class: value; null takes every value of the column.
    label_separator : str, optional
        Text between the classes of a well in several, such as "|"; null: one class a well.
    contestant : str
        Name of the models in the tables.
    threads : int
        CPU threads of the model; part of the result, since sums round differently.
    device : str
        Where the model works: cpu, cuda, cuda:1, mps or another of torch's; part of the result, as threads. In a run it
        is the trainer's.
    """
    again = functools.partial(predict, **locals())  # the same request, should wells be set aside
    where = find_device(device)
    folds = read_csv(models / "folds.csv")
    cells = models / "folds-cells.csv"  # of single cells, whose folds need not hold out a whole well
    of_cells = cells.is_file() and not taken(models, "train", "wells")  # else of models that are there no more
    trained_folds = fold_models(models, read_csv(cells) if of_cells else folds)
    if not trained_folds:
        raise InputError(f"models={models} holds no model of its folds; run: cellpheno train output={models} ...")
    folders = list(trained_folds.values())
    kind: Instances = build(read_card(folders[0])["instances"])()
    _check_cards(folders, plates, kind)
    if label is not None:
        _check_separator(read_card(folders[0]), label_separator)
    wells = with_places(usable(well_table(plates, label, classes, label_separator)), plates, kind)
    trained = read_csv(models / "wells.csv").merge(folds, on=[PLATE, WELL])
    tasks = {place: _task(place, wells, trained) for place in trained_folds}
    if faults := [f for place, folder in trained_folds.items() for f in _seen(folder, tasks[place])]:
        raise InputError(*faults, f"train again: cellpheno train output={models} ...")
    if label is not None:
        _check_classes(read_card(folders[0]), pd.concat(tasks.values()), classes, label_separator)
    jobs = [
        _job(folder, place, wells, tasks[place], output, threads, where, kind, contestant)
        for place, folder in trained_folds.items()
        if len(tasks[place])
    ]
    if not jobs:
        raise InputError(f"models={models}: of these {len(wells)} wells its folds held out none, and none is new")
    own: dict[str, Any] = {} if threads == 1 else {"workers": 1}  # as in training
    here = functools.partial(engine, folder=output, root=output, max_failed=len(jobs), **own)
    outcome = here("predict", jobs)
    if outcome.left_out or outcome.bugs:  # a fold's table is not there or old: what was merged from it is not valid
        (output / PREDICTIONS).unlink(missing_ok=True)
        return (not outcome.bugs and without_damaged(wells, kind, again)) or outcome
    parts = [output / "predictions" / f"{job.unit}.parquet" for job in jobs]
    key = make_key(
        "predict", parts=[hash_file(part) for part in parts], instances=[hash_file(_cells(p)) for p in parts]
    )
    multilabel = several_classes(read_card(folders[0]))
    here("predict", [Job("predict", key, functools.partial(_merge, parts, output, multilabel, contestant))])
    return outcome._replace(path=output / "predictions-mil.csv")


def _check_cards(folders: Sequence[Path], plates: Sequence[Path], instances: Instances) -> None:
    """Refuse models of several trainings, and plates that they were not trained for, all at once."""
    first = read_card(folders[0])
    faults = [
        f"{folder}: {key}: this model was trained with {found}, the one in {folders[0].name} with {wanted}; "
        "train all folds again"
        for folder in folders[1:]
        for (key, wanted), found in zip(_alike(first).items(), _alike(read_card(folder)).values(), strict=True)
        if found != wanted
    ]
    for plate in map(open_plate, plates):
        channels, pixel_size_um = instances.optics(plate)
        try:
            check_card(first, channels=channels, pixel_size_um=pixel_size_um)
        except InputError as error:
            faults += [f"{plate.path}: {fault}" for fault in error.faults]
    if faults:
        raise InputError(*faults)


def _alike(card: Mapping[str, Any]) -> dict[str, Any]:
    """What the cards of all models of a run have in common."""
    keys = ("classes", "channels", "pixel_size_um", "instances", "normalization")
    return {**{key: card.get(key) for key in keys}, "several classes a well": several_classes(card)}


def _check_separator(card: Mapping[str, Any], separator: str | None) -> None:
    """Refuse labels of another kind than those that a model has learned."""
    trained, given = several_classes(card), separator is not None
    if trained != given:
        kinds = {False: "one class a well", True: "several classes a well"}
        way = "label_separator=null" if given else "the label_separator of the training, such as label_separator='|'"
        means = f"label_separator={separator!r} means {kinds[given]}"
        raise InputError(f"{means}; the model was trained with {kinds[trained]}: give {way}")


def _check_classes(card: Mapping[str, Any], wells: pd.DataFrame, classes: Classes, separator: str | None) -> None:
    """Refuse classes that the models do not know, asked for or of wells that they held out; say those of new wells."""
    held = wells["role"] == OUT_OF_FOLD
    found, others = (class_names(rows, classes, separator is not None) for rows in (wells[held], wells[~held]))
    if not set(found) <= set(card["classes"]):
        try:
            check_card(card, classes=found)
        except InputError as fault:
            raise InputError(*fault.faults, "set label and classes as in its training, or label=null") from None
    if strange := [name for name in others if name not in card["classes"]]:
        log.info("classes: the model was trained with %s; new wells of %s get one of them", card["classes"], strange)


def _task(place: Place, wells: pd.DataFrame, trained: pd.DataFrame) -> pd.DataFrame:
    """Wells that the model of a fold predicts: those that it held out, and those that no fold of its repeat knows."""
    split, repeat, fold = place
    own = trained[(trained["split"] == split) & (trained["repeat"] == str(repeat))]
    keys = pd.MultiIndex.from_frame(wells[[PLATE, WELL]])
    held = keys.isin(pd.MultiIndex.from_frame(own.loc[own["fold"] == str(fold), [PLATE, WELL]]))
    new = ~keys.isin(pd.MultiIndex.from_frame(own[[PLATE, WELL]]))
    return wells[held | new].assign(role=np.where(held, OUT_OF_FOLD, NEW)[held | new])


def _seen(folder: Path, task: pd.DataFrame) -> list[str]:
    """Say so where a model learned from a well that its fold holds out by now, as after folds were dealt anew."""
    held = task.loc[task["role"] == OUT_OF_FOLD, [PLATE, WELL]]
    if held.empty:
        return []
    if not (folder / TRAINED_ON).is_file():
        return [f"{folder}: {TRAINED_ON} is not there, so which wells the model has seen is not known"]
    both = held.merge(read_csv(folder / TRAINED_ON), on=[PLATE, WELL])
    if both.empty:
        return []
    named = " ".join(both.iloc[0])
    return [f"{folder}: the model was trained on {len(both)} wells that folds.csv holds out, such as {named}"]


def _job(
    folder: Path,
    place: Place,
    wells: pd.DataFrame,
    chosen: pd.DataFrame,
    output: Path,
    threads: int,
    device: torch.device,
    instances: Instances,
    contestant: str,
) -> Job:
    card = read_card(folder)
    several, counts = several_classes(card), [card["class_counts"][name] for name in card["classes"]]
    prior = prior_logits(counts, card.get("n_labelled", sum(counts)), several)
    inputs = [input_hashes(read_record(Path(w["folder"]), w[WELL]), instances.step) for _, w in wells.iterrows()]
    key = make_key(
        "predict", inputs=inputs, card=hash_file(folder / CARD), threads=rounding(threads, device),
        wells=chosen[[PLATE, WELL, "label", "role"]].to_dict("list"), contestant=contestant, prior=prior.tolist(),
    )  # fmt: skip
    unit = "predict-" + fold_name(*place).replace("/", "-")
    about = {**place._asdict(), "contestant": contestant}
    where = (output, unit, threads, device)
    return Job(unit, key, functools.partial(_predict_fold, folder, wells, chosen, prior, about, *where))


def _predict_fold(
    folder: Path,
    wells: pd.DataFrame,
    chosen: pd.DataFrame,
    prior: np.ndarray,
    place: dict[str, Any],
    output: Path,
    unit: str,
    threads: int,
    device: torch.device,
) -> Result:
    """Predict some wells with one model; a well without cells gets the prior of the model's training wells."""
    model, card = load_model(folder, device)
    limits = grey_limits(wells, build(card["normalization"])(), build(card["instances"])())
    filled, path = chosen[chosen["n_instances"] > 0], output / "predictions" / f"{unit}.parquet"
    names = [f"logit_{name}" for name in card["classes"]]
    with commit_rows(_cells(path), pd.DataFrame(columns=[*CELL_KEYS, "weight", *names, "role", *place])) as write:

        def keep(rows: pd.DataFrame) -> None:
            write(rows.merge(chosen[[PLATE, WELL, "role"]], on=[PLATE, WELL]).assign(**place))

        found = predict_wells(model, card, filled, limits=limits, threads=threads, keep=keep)
    logits = chosen[[PLATE, WELL]].merge(found[[PLATE, WELL, *names]], on=[PLATE, WELL], how="left")[names]
    values = np.where(chosen[["n_instances"]].to_numpy() > 0, logits.to_numpy(float), prior)
    parts = []
    for role, rows in chosen.reset_index(drop=True).groupby("role", sort=False):
        about: dict[str, Any] = {"role": str(role), "multilabel": model.multilabel, **place}
        parts.append(prediction_rows(rows, values[rows.index], card["classes"], **about))
    return Result("done", [write_parquet(pd.concat(parts), path), _cells(path)])


def _cells(path: Path) -> Path:
    return path.with_name(f"{path.stem}-cells.parquet")


def _merge(parts: Sequence[Path], output: Path, multilabel: bool, contestant: str) -> Result:
    """All folds in one table; of new wells the mean logit over the models of a split."""
    rows = pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)
    names = [str(name).removeprefix("logit_") for name in rows if str(name).startswith("logit_")]
    tables = [rows[rows["role"] == OUT_OF_FOLD]]
    for split, new in rows[rows["role"] == NEW].groupby("split", sort=True):
        one = new.drop_duplicates([PLATE, WELL]).rename(columns={"true": "label"})
        logits = new.groupby([PLATE, WELL], sort=False)[[f"logit_{name}" for name in names]].mean()
        one = one.assign(label="")
        about: dict[str, Any] = {"contestant": contestant, "split": str(split), "role": NEW, "multilabel": multilabel}
        tables.append(prediction_rows(one, logits.to_numpy(), names, **about))
    predictions = pd.concat(tables, ignore_index=True)
    files = [
        write_csv(predictions, output / "predictions-mil.csv"),
        write_parquet(predictions, output / PREDICTIONS),
        merge_rows(list(map(_cells, parts)), output / "instances.parquet"),
    ]
    return Result("done", files)

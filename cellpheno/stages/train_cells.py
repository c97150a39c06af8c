"""Labelled cells to a model of single cells, one a fold, with out-of-fold predictions and scores of the cells."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.bounds import Listed, Range
from cellpheno.compare.predictions import prediction_rows
from cellpheno.compare.splits import assign_folds
from cellpheno.compare.strict_splits import Place, each_fold, fold_name
from cellpheno.errors import DamagedInput, InputError
from cellpheno.names import CELL_KEYS, row_keys
from cellpheno.plates.commit import commit_folder, hash_file
from cellpheno.seeds import derived_seed
from cellpheno.stages.cell_folds import repeated, set_aside, write_cell_plan
from cellpheno.stages.cell_scores import say_scores, score_cells
from cellpheno.stages.facts import as_arrays, as_lists, grey_limits
from cellpheno.stages.labelled_cells import input_hashes_of, labelled_cells
from cellpheno.stages.rehearsal import check_training
from cellpheno.stages.run_folder import Splits, model_files, taken, write_parquet
from cellpheno.stages.start import check_seen, check_start, load_start, merged, seen_before, write_taught
from cellpheno.stages.train_fold import check_network
from cellpheno.stages.well_steps import without_damaged
from cellpheno.stages.wells import Classes, class_names
from cellpheno.training.allocator import give_back_freed_memory
from cellpheno.training.cells import predict_cells
from cellpheno.training.checkpoint import Checkpoint, load_model
from cellpheno.training.device import device_of
from cellpheno.training.fit import fit_fold
from cellpheno.training.instances import Cells

Component = Callable[..., Any]
CONTESTANT = "cells"
log = logging.getLogger("cellpheno")


def train_cells(
    plates: Annotated[Sequence[Path], Listed()],
    output: Path,
    split: Splits,
    encoder: Component,
    pooling: Component,
    model: Component,
    normalization: Component,
    augmentation: Component | None,
    data: Component,
    optimizer: Component,
    scheduler: Component | None,
    trainer: Component,
    logger: Component | None,
    engine: Callable[..., Outcome],
    annotations: Path | None = None,
    label: str = "label",
    classes: Classes = None,
    apart: str | None = None,
    members: Annotated[int, Range(1)] = 1,
    start: Path | None = None,
    no_leak: Sequence[str] = ("image", "compound"),
    validation: Annotated[float, Range(0, 0.5)] = 0.2,
    patience: Annotated[int | None, Range(1)] = 8,
    weighted: bool = True,
    unit: str = "well",
    n_bootstrap: Annotated[int, Range(40)] = 2000,
    seed: Annotated[int, Range(0)] = 1,
    threads: Annotated[int, Range(1)] = 2,
) -> Outcome:
    """Train on cells that have labels of their own, and predict each cell by a model that never saw it.

    Parameters
    ----------
    plates : sequence of Path
        Folders of imported crops, or OME-Zarr plates with crops (then give annotations).
    output : Path
        The run's folder; one of its own, since models of wells stand at the same places.
    split : mapping
        Which cells are held out together: whole wells, or whole values of a column.
    encoder : callable
        The network that turns a crop into features.
    pooling : callable
        How cells become a well's verdict in prediction: mean_logit, mean_probability or vote.
    model : callable
        The classifier's own settings.
    normalization : callable
        How raw pixels become the network's input.
    augmentation : callable, optional
        Random changes of training crops.
    data : callable
        Batches of cells: single_cells.
    optimizer, scheduler : callable
        How weights are learned.
    trainer : callable
        Lightning's trainer: epochs, precision, device.
    logger : callable, optional
        Where the training curves go besides history.csv.
    engine : callable
        Where the work runs.
    annotations : Path, optional
        Table of cells with Metadata_Plate, Metadata_Well, Metadata_Site, Metadata_ObjectNumber and the label; null
        where the plates are imported crops with labels.
    label : str
        Column that holds the class.
    classes : sequence or mapping, optional
        Class names, or class: value; null takes every value of the column.
    apart : str, optional
        Column, such as Metadata_track: a training cell that shares its value with a held-out cell is dropped.
    members : int
        Models a fold, from different seeds; a cell is predicted by their mean logit.
    start : Path, optional
        Folder of a trained model from whose encoder every fold starts; it must not have seen the cells of this run.
    no_leak : sequence of str
        With image, a start that has seen wells whose cells are held out is refused; nothing else of it counts here.
    validation : float
        Fraction of the training cells that choose the best epoch: whole values of apart, else whole wells; 0 for none.
    patience : int, optional
        Epochs without a lower validation loss after which training ends; null: never.
    weighted : bool
        Weigh the loss so that all classes count alike.
    unit : str
        What the intervals resample: well, or a column such as Metadata_track; never cells.
    n_bootstrap : int
        Resamples behind each interval.
    seed : int
        Of folds, weights and order.
    threads : int
        CPU threads of the model; part of the result, since sums round differently.
    """
    again = functools.partial(train_cells, **locals())  # the same request, should wells be set aside
    parts: dict[str, Any] = {"encoder": encoder, "pooling": pooling, "model": model, "augmentation": augmentation}
    parts |= {"data": data, "optimizer": optimizer, "scheduler": scheduler, "trainer": trainer, "logger": logger}
    parts |= {"patience": patience, "weighted": weighted, "start": start}
    check_training({**parts, "normalization": normalization}, wells=False)
    found = labelled_cells(plates, annotations, label, classes)
    cells, names = found.cells, class_names(found.cells, classes)
    _check_request(cells, output, apart, unit, members)
    trained = load_start(start)
    optics: dict[str, Any] = {"channels": found.channels, "pixel_size_um": found.pixel_size_um}
    check_start(start, trained, **optics, normalization=normalization())
    check_parts(model, encoder, pooling, data, names, len(found.channels), trained)
    start_hash = None if trained is None else str(trained.card["weights_sha256"])
    folds = repeated(assign_folds(cells, split, seed), members)
    before = seen_before(start)
    check_seen(before, folds, no_leak)
    write_cell_plan(cells, folds, output)
    try:
        limits = as_lists(grey_limits(found.wells, normalization(), Cells()))
    except DamagedInput:
        if (outcome := without_damaged(found.wells, Cells(), again)) is None:
            raise
        return outcome
    work = functools.partial(
        train_cell_fold,
        classes=names,
        **optics,
        normalization=normalization,
        limits=limits,
        components=parts,
        apart=apart,
        validation=validation,
        threads=threads,
    )
    cells = cells.assign(input=input_hashes_of(cells))
    told = (output, seed, start_hash, merged([*before.values()]))
    jobs = [_job(work, cells, place, held, *told) for place, held in each_fold(folds)]
    serial = functools.partial(engine, folder=output, root=output, workers=1)  # folds share the cores
    outcome = serial("train_cells", jobs, max_failed=len(jobs))  # as in train, one damaged well stops many folds
    if outcome.left_out or outcome.bugs:  # a fold's table is not there, or of earlier models
        return (not outcome.bugs and without_damaged(found.wells, Cells(), again)) or outcome
    tables = [_table(output, job.unit) for job in jobs]
    settings: dict[str, Any] = {"classes": names, "unit": unit, "n_bootstrap": n_bootstrap, "seed": seed}
    key = make_key("train_cells", settings=settings, parts=[hash_file(path) for path in tables])
    last = serial("train_cells", [Job("cells", key, functools.partial(score_cells, tables, output, **settings))])
    if not last.bugs:
        say_scores(output)
    left_out = (*found.left_out, *outcome.left_out, *last.left_out)
    return Outcome(output / "scores-cells.csv", left_out, last.bugs)


def _check_request(cells: pd.DataFrame, output: Path, apart: str | None, unit: str, members: int) -> None:
    columns = [str(c) for c in cells if str(c).startswith("Metadata_")]
    faults = [
        f"{name}={column}: the cells have no such column, but {', '.join(columns)}"
        for name, column in (("apart", apart), ("unit", None if unit == "well" else unit))
        if column is not None and column not in columns
    ]
    if apart in columns and (cells[apart] == "").any():
        faults.append(f"apart={apart}: {int((cells[apart] == '').sum())} labelled cells have no value there")
    if members < 1:
        faults.append(f"members={members}: wanted 1 or more")
    faults += taken(output, "train", "wells")
    if faults:
        raise InputError(*faults)


def check_parts(
    model: Component,
    encoder: Component,
    pooling: Component,
    data: Component,
    classes: Sequence[str],
    n_channels: int,
    start: Checkpoint | None,
) -> None:
    """Build the network once before any fold, so that what does not fit is refused."""
    faults = []
    if getattr(getattr(pooling, "func", pooling), "pools", None) != "logits":
        faults.append("this pooling learns from whole wells; set pooling=mean_logit, mean_probability or vote")
    if not getattr(getattr(data, "func", data), "instances_have_labels", False):
        faults.append("these data are bags with a label a well; set data=single_cells")
    if faults:
        raise InputError(*faults)
    check_network(model, encoder, pooling, classes, n_channels, start)


def _job(
    work: "functools.partial[Result]",
    cells: pd.DataFrame,
    place: Place,
    held: pd.DataFrame,
    output: Path,
    seed: int,
    start_hash: str | None,
    before: pd.DataFrame | None,
) -> Job:
    name = fold_name(*place)
    keys = list(CELL_KEYS)
    out = pd.MultiIndex.from_frame(cells[keys]).isin(pd.MultiIndex.from_frame(held[keys]))
    training, tested = cells[~out].reset_index(drop=True), cells[out].reset_index(drop=True)
    fold_seed = derived_seed(seed, name)
    inputs = [part.drop(columns=["place", "folder"]).astype(str).to_dict("list") for part in (training, tested)]
    key = make_key("train_cells", settings=work.keywords, inputs=inputs, seed=fold_seed, start=start_hash)
    unit = "train_cells-" + name.replace("/", "-")
    places = {"folder": output / "models" / name, "resume": output / "resume" / f"{unit}-{key[:16]}.ckpt"}
    places["table"] = _table(output, unit)
    return Job(unit, key, functools.partial(work, training, tested, place, before=before, **places, seed=fold_seed))


def _table(output: Path, unit: str) -> Path:
    return output / "predictions" / f"{unit}.parquet"


def train_cell_fold(
    training: pd.DataFrame,
    held: pd.DataFrame,
    place: Place,
    *,
    folder: Path,
    resume: Path,
    table: Path,
    seed: int,
    classes: Sequence[str],
    channels: Sequence[str],
    pixel_size_um: float | None,
    normalization: Component,
    limits: Mapping[str, Any],
    components: Mapping[str, Any],
    before: pd.DataFrame | None,
    apart: str | None,
    validation: float,
    threads: int,
) -> Result:
    """Train the model of one fold and predict the cells that it never saw."""
    where = f"{place.split}, repeat {place.repeat}, fold {place.fold}"
    together = training[apart].isin(set(held[apart])) if apart is not None else pd.Series(False, index=training.index)
    training = training[~together].reset_index(drop=True)
    if together.any():
        log.info("%s: %d training cells share %s with a held-out cell: dropped", where, together.sum(), apart)
    if lost := sorted(set(classes) - set(training["label"])):
        raise InputError(f"split {where}: no training cell of class {', '.join(lost)} is left")
    chosen = set_aside(training, validation, seed, apart) if validation else training.iloc[:0]
    levels = as_arrays(limits)
    with commit_folder(folder) as temporary:
        fit_fold(
            training.drop(index=chosen.index),
            chosen,
            classes=classes,
            channels=channels,
            pixel_size_um=pixel_size_um,
            limits=levels,
            normalization=normalization(),
            folder=temporary,
            resume=resume,
            seed=seed,
            threads=threads,
            **components,
        )
        write_taught(training, before, temporary)
    trained, card = load_model(folder, device_of(components["trainer"]))
    logits = predict_cells(trained, card, held, limits=levels, threads=threads)
    rows = prediction_rows(held, logits, classes, contestant=CONTESTANT, **place._asdict())
    write_parquet(rows.join(held[_others(held)]), table)
    resume.unlink(missing_ok=True)
    give_back_freed_memory()
    facts = {"n_cells": len(training), "n_held_out": len(held), "n_dropped": int(together.sum())}
    return Result("done", [*model_files(folder), table], (), facts)


def _others(cells: pd.DataFrame) -> list[str]:
    """Columns of a cell table that say more of a cell than which it is."""
    return [str(c) for c in cells if str(c).startswith("Metadata_") and c not in row_keys(cells.columns)]

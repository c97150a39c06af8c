"""Crops to trained models: one a split, repeat and fold, each committed on its own so that a kill costs one fold."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes, read_record
from cellpheno.bounds import Listed, Range
from cellpheno.compare.learning import fewer_wells
from cellpheno.compare.strict_splits import each_fold, fold_name, training_wells
from cellpheno.compare.tuning import fold_seed
from cellpheno.errors import DamagedInput, InputError
from cellpheno.names import PLATE, WELL
from cellpheno.plates.plate import open_plate
from cellpheno.seeds import derived_seed
from cellpheno.stages.facts import as_lists, first_pixels, grey_limits
from cellpheno.stages.rehearsal import check_training
from cellpheno.stages.run_folder import Splits, plan_run, split_groups, taken, teaching, write_plan
from cellpheno.stages.start import check_seen, check_start, load_start, merged, seen_before
from cellpheno.stages.train_fold import check_network, train_fold
from cellpheno.stages.well_steps import without_damaged
from cellpheno.stages.wells import Classes, with_places
from cellpheno.training.configurations import configured
from cellpheno.training.instances import Instances, Optics, describe_instances

Component = Callable[..., Any]


def train(
    plates: Annotated[Sequence[Path], Listed()],
    output: Path,
    split: Splits,
    instances: Component,
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
    callbacks: Mapping[str, Component],
    engine: Callable[..., Outcome],
    label: str = "label",
    classes: Classes = None,
    label_separator: str | None = None,
    junk: Annotated[Sequence[str], Listed(empty=True)] = (),
    start: Path | None = None,
    no_leak: Annotated[Sequence[str], Listed(empty=True)] = ("image", "compound"),
    compound: str | None = None,
    train_on_partial: bool = False,
    validation: Annotated[float, Range(0, 0.5)] = 0.2,
    patience: Annotated[int | None, Range(1)] = 8,
    weighted: bool = True,
    configurations: Sequence[Mapping[str, Any]] = ({},),
    tuning: Annotated[float, Range(0, 0.5)] = 0.25,
    wells_per_class: Annotated[int | None, Range(1)] = None,
    seed: Annotated[int, Range(0)] = 1,
    threads: Annotated[int, Range(1)] = 2,
) -> Outcome:
    """Train the multiple-instance model, once a fold of each split.

    Parameters
    ----------
    plates : sequence of Path
        OME-Zarr plates; cropped, where the instances are cells.
    output : Path
        The run's folder.
    split : mapping
        Which wells are held out together.
    instances : callable
        What a well consists of: cells, whole fields, or features computed before.
    encoder : callable
        The network that turns a crop or a field into features.
    pooling : callable
        How the instances of a well become one prediction.
    model : callable
        The classifier's own settings.
    normalization : callable
        How raw pixels become the network's input.
    augmentation : callable, optional
        Random changes of training crops.
    data : callable
        Bags and batches.
    optimizer, scheduler : callable
        How weights are learned.
    trainer : callable
        Lightning's trainer: epochs, precision, device.
    logger : callable, optional
        Where the training curves go besides history.csv.
    callbacks : mapping of str to callable
        More of Lightning's callbacks, each made anew for a fold.
    engine : callable
        Where the work runs.
    label : str
        Column of the plate map that holds the class.
    classes : sequence or mapping, optional
        Class names, or class: value; null takes every value of the column.
    label_separator : str, optional
        Text between the classes of a well in several, such as "|"; null: one class a well.
    junk : sequence of str
        Classes that are learned like others but are no answer: their wells stand in no score.
    start : Path, optional
        Folder of a trained model from whose encoder every fold starts; it must not have seen the wells of this run.
    no_leak : sequence of str
        What may not be on both sides of a fold: image (the same picture, also of a well that start has seen), compound,
        columns such as Metadata_batch.
    compound : str, optional
        Column of the plate map that names it; null: one called compound, treatment or drug, unless it holds the class.
    train_on_partial : bool
        Train also on wells that lost a field.
    validation : float
        Fraction of the training wells that choose the best epoch; 0 for none.
    patience : int, optional
        Epochs without a lower validation loss after which training ends; null: never.
    weighted : bool
        Weigh the loss so that all classes count alike.
    configurations : sequence of mapping
        Settings among which each fold chooses, such as [{optimizer.lr: 0.01}, {pooling.slope: 20}]; [{}]: no choice.
    tuning : float
        Fraction of a fold's training wells on which it chooses, the same wells as the baselines'; 0: the first counts.
    wells_per_class : int, optional
        Train on so many wells of each class, drawn anew in each fold; null: on all.
    seed : int
        Of folds, weights and order.
    threads : int
        CPU threads of the model; part of the result, since sums round differently. With 1, folds are trained side by
        side.
    """
    again = functools.partial(train, **locals())  # the same request, should wells be set aside
    if whole := [name for name, made in callbacks.items() if not callable(made)]:
        raise InputError(*(f"callbacks.{name}: wants _partial_: true, so that each fold has its own" for name in whole))
    if faults := taken(output, "train_cells", "cells"):
        raise InputError(*faults)
    plan = plan_run(plates, label, classes, split, seed, train_on_partial, label_separator, junk, no_leak, compound)
    kind: Instances = instances()
    wells = with_places(plan.usable, plates, kind)
    channels, pixel_size_um = _same_optics(plates, kind)
    try:
        check_sizes(wells, kind)
        limits = as_lists(grey_limits(wells, normalization(), kind))
    except DamagedInput:
        if (outcome := without_damaged(wells, kind, again)) is None:
            raise
        return outcome
    components: dict[str, Any] = {
        **{"encoder": encoder, "pooling": pooling, "model": model, "augmentation": augmentation, "data": data},
        **{"optimizer": optimizer, "scheduler": scheduler, "trainer": trainer, "logger": logger},
        **{"callbacks": callbacks, "patience": patience, "weighted": weighted, "start": start},
    }
    check_training({**components, "normalization": normalization, "instances": instances}, configurations)
    trained = load_start(start)
    optics: dict[str, Any] = {"channels": channels, "pixel_size_um": pixel_size_um}
    check_start(start, trained, **optics, normalization=normalization())
    for settings in configurations:
        made = configured(components, settings)
        check_network(made["model"], made["encoder"], made["pooling"], plan.classes, len(channels), trained)
    before = seen_before(start, plates, kind)
    check_seen(before, plan.folds, no_leak)
    start_hash = None if trained is None else str(trained.card["weights_sha256"])
    work = functools.partial(
        train_fold,
        classes=plan.classes,
        **optics,
        normalization=normalization,
        limits=limits,
        instances=kind,
        components=components,
        multilabel=plan.multilabel,
        validation=validation,
        threads=threads,
        configurations=[dict(settings) for settings in configurations],
        tuning=tuning,
    )
    labelled = teaching(wells, plan)
    groups = split_groups(split)
    jobs = []
    for place, held in each_fold(plan.folds):
        choice = fold_seed(seed, *place)
        training = labelled[training_wells(labelled, held)]
        training = fewer_wells(training, wells_per_class, choice, (training["n_instances"] > 0).to_numpy())
        training = training.sort_values([PLATE, WELL]).reset_index(drop=True)
        fold = functools.partial(work, group=groups[place.split], choice_seed=choice)
        jobs.append(_job(fold, training, fold_name(*place), output, seed, start_hash, merged([*before.values()])))
    write_plan(plan, output)
    own = {} if threads == 1 else {"workers": 1}  # folds of one thread go side by side, others share the cores
    # One damaged well stops many folds; how many is no reason to give up before it is known which one it is.
    outcome = engine("train", jobs, folder=output, root=output, max_failed=len(jobs), **own)
    damaged = bool(outcome.left_out) and not outcome.bugs
    return (damaged and without_damaged(wells, kind, again)) or outcome


def check_sizes(wells: pd.DataFrame, instances: Instances) -> None:
    """Refuse plates whose crops differ in size, as where each took that of its own cells."""
    sizes = {plate: pixels.shape[-1] for plate, pixels in first_pixels(wells, instances).items()}
    if instances.same_size and len(set(sizes.values())) > 1:
        told = ", ".join(f"{plate} {size}" for plate, size in sizes.items())
        raise InputError(f"crops differ in size (pixels): {told}; cut all plates alike: cellpheno crop crop_um=...")


def _same_optics(plates: Sequence[Path], instances: Instances) -> Optics:
    """Channels and pixel size, which must be the same on all plates."""
    first, *others = [(path, instances.optics(open_plate(path))) for path in plates]
    differ = [other for other in others if other[1] != first[1]]
    if differ:
        told = [f"{path}: channels {list(names)}, pixel size {size} um" for path, (names, size) in [first, *differ]]
        raise InputError("the plates of a run must agree in channels and pixel size", *told)
    return first[1]


def _job(
    work: "functools.partial[Result]",
    training: pd.DataFrame,
    name: str,
    output: Path,
    seed: int,
    start_hash: str | None,
    before: pd.DataFrame | None,
) -> Job:
    model_seed = derived_seed(seed, name)
    instances, group = work.keywords["instances"], work.keywords["group"]
    inputs = [
        [
            *(w[PLATE], w[WELL], w["label"], None if group is None else w[group]),
            input_hashes(read_record(Path(w["folder"]), w[WELL]), instances.step),
        ]
        for _, w in training.iterrows()
    ]
    settings = {**work.keywords, "instances": describe_instances(instances)}
    taught = None if before is None else before.sort_values([PLATE, WELL]).to_numpy().tolist()
    key = make_key("train", settings=settings, inputs=inputs, seed=model_seed, start=start_hash, before=taught)
    unit = "train-" + name.replace("/", "-")
    places = {"folder": output / "models" / name, "resume": output / "resume" / f"{unit}-{key[:16]}.ckpt"}
    return Job(unit, key, functools.partial(work, training, before=before, **places, seed=model_seed))

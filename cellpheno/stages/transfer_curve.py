"""The transfer curve: one command, one table, one picture of what a network trained before is worth on a new screen."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.bounds import Listed, Range
from cellpheno.errors import InputError
from cellpheno.models.channels import PerChannel
from cellpheno.names import PLATE, WELL
from cellpheno.plates.commit import commit_file, hash_file
from cellpheno.report.learning import learning_curve
from cellpheno.report.palette import contestant_styles
from cellpheno.report.svg import write_svg
from cellpheno.stages.cell_folds import set_aside
from cellpheno.stages.labelled_cells import LabelledCells, about_cells, key_rows, labelled_cells
from cellpheno.stages.rehearsal import check_training
from cellpheno.stages.run_folder import write_csv
from cellpheno.stages.simulated_crops import simulated_crops
from cellpheno.stages.start import check_order, check_seen, check_start, load_start, seen_before
from cellpheno.stages.train_cells import check_parts
from cellpheno.stages.transfer_units import Arms, do_unit, study_key, train_source, unit_job
from cellpheno.stages.wells import Classes, class_names
from cellpheno.studies.transfer import Unit, check_study, summarize
from cellpheno.training.checkpoint import Checkpoint

Component = Callable[..., Any]
SOURCE = Path("models/source")
ARMS: Arms = {
    "scratch": {"start": False},
    "fine_tuned": {"start": True},
    "frozen": {"start": True, "frozen": "encoder"},
}


def transfer_curve(
    target: Path,
    output: Path,
    encoder: Component,
    pooling: Component,
    model: Component,
    normalization: Component,
    augmentation: Component | None,
    data: Component,
    optimizer: Component,
    scheduler: Component | None,
    trainer: Component,
    engine: Callable[..., Outcome],
    source: Path | None = None,
    start: Path | None = None,
    source_simulation: Component | None = None,
    target_simulation: Component | None = None,
    crop_px: Annotated[int | None, Range(1)] = None,
    arms: Arms | None = None,
    examples: Annotated[Sequence[int], Range(1), Listed()] = (1, 3, 5, 10, 25, 50, 100),
    resamples: Annotated[int, Range(1)] = 5,
    train_steps: Annotated[int, Range(1)] = 200,
    held_out: Annotated[float, Range(0, 0.5, open_low=True)] = 0.5,
    apart: str | None = None,
    no_leak: Annotated[Sequence[str], Listed(empty=True)] = ("image", "compound"),
    annotations: Path | None = None,
    label: str = "label",
    classes: Classes = None,
    validation: Annotated[float, Range(0, 0.5)] = 0.2,
    patience: Annotated[int | None, Range(1)] = 8,
    weighted: bool = True,
    seed: Annotated[int, Range(0)] = 1,
    threads: Annotated[int, Range(1)] = 2,
    workers: Annotated[int, Range(0)] = 2,
) -> Outcome:
    """Learn a new screen from few cells a class, with a network that was trained before and without.

    Parameters
    ----------
    target : Path
        Labelled cells of the new screen: a folder of imported crops, or a plate with crops (then give annotations).
    output : Path
        Gets transfer.csv, transfer-summary.csv and transfer.svg.
    encoder : callable
        The network that turns a crop into features; the same in all arms.
    pooling : callable
        How cells become a well's verdict: mean_logit, mean_probability or vote. The study scores cells.
    model : callable
        The classifier's own settings; an arm may change them.
    normalization : callable
        How raw pixels become the network's input.
    augmentation : callable, optional
        Random changes of training crops.
    data : callable
        Batches of cells: single_cells.
    optimizer, scheduler : callable
        How weights are learned.
    trainer : callable
        Lightning's trainer, of the source model; in the study the epochs follow from train_steps.
    engine : callable
        Where the work runs.
    source : Path, optional
        Labelled cells of the screen on which the first network is trained; null where start is given.
    start : Path, optional
        Folder of a trained model, in place of source.
    source_simulation, target_simulation : callable, optional
        A virtual microscope that makes the cells of source and target; null where they are there.
    crop_px : int, optional
        Side of simulated crops.
    arms : mapping, optional
        What is compared: {name: {start: true or false, and settings of the model such as frozen or rates}}; null:
        scratch, fine_tuned (the whole network) and frozen (the new head alone).
    examples : sequence of int
        Numbers of training cells a class.
    resamples : int
        Independent draws of the examples.
    train_steps : int
        Batches of each training, whatever the number of examples.
    held_out : float
        Fraction of the target's wells on which all are scored, to the nearest of 1/2, 1/3, 1/4 and so on.
    apart : str, optional
        Column, such as Metadata_track, whose values are held out whole, in place of wells.
    no_leak : sequence of str
        With image, a start that has learned from wells of the target on which all are scored is refused.
    annotations : Path, optional
        Table of the target's cells with labels; null where the target is imported crops with labels.
    label : str
        Column that holds the class.
    classes : sequence or mapping, optional
        Class names of the target, or class: value; null takes every value of the column.
    validation : float
        Fraction of the source's wells that choose the best epoch of the source model.
    patience : int, optional
        Epochs without a lower validation loss after which training of the source model ends; null: never.
    weighted : bool
        Weigh the loss so that all classes count alike.
    seed : int
        Of draws, weights and order.
    threads : int
        CPU threads of a model; part of the result, since sums round differently.
    workers : int
        Processes; the result does not depend on it.
    """
    compared = arms or ARMS
    check_study(examples, resamples, train_steps, compared)
    _check_source(source, start, source_simulation, target_simulation, crop_px)
    parts: dict[str, Any] = {"encoder": encoder, "pooling": pooling, "model": model, "augmentation": augmentation}
    parts |= {"data": data, "optimizer": optimizer, "scheduler": scheduler, "trainer": trainer, "weighted": weighted}
    check_training({**parts, "normalization": normalization, "start": start}, wells=False)
    for make, path in ((source_simulation, source), (target_simulation, target)):
        if make is not None and path is not None:
            made = simulated_crops(make, path, crop_px=crop_px or 0, seed=seed, engine=engine, workers=workers)
            if made.exit_code:
                return made
    here = functools.partial(engine, "transfer_curve", folder=output, root=output)
    new = labelled_cells([target], annotations, label, classes)
    names = class_names(new.cells, classes)
    held = _held_out(new.cells, held_out, seed, apart)
    check_seen(seen_before(start), held, no_leak)
    if start is None and source is not None:
        known = labelled_cells([source], None, label, None)
        _check_apart(source, known.cells, held)
        _check_source_channels(source, known.channels, new.channels, encoder)
        _check_arms(compared, {**parts, "classes": names}, new.channels, None)
        job = _source_job(known, output, normalization, parts, validation, patience, seed, threads)
        if (taught := here([job])).exit_code:  # the model that stands there is of earlier settings
            return taught
        start = output / SOURCE
    about = about_cells(new, normalization)
    trained = load_start(start)
    assert trained is not None  # `_check_source` saw to it
    check_start(start, trained, **{key: about[key] for key in ("channels", "pixel_size_um", "normalization")})
    _check_arms(compared, {**parts, "classes": names}, new.channels, trained)
    units = [Unit(n, r, arm) for n in examples for r in range(resamples) for arm in compared]
    work = functools.partial(
        do_unit,
        pool=new.cells.drop(index=held.index),
        held=held,
        arms=compared,
        start=start,
        steps=train_steps,
        classes=names,
        output=output,
        about=about,
        components=parts,
        seed=seed,
        threads=threads,
    )
    jobs = [unit_job(unit, work, str(trained.card["weights_sha256"])) for unit in units]
    if (outcome := here(jobs)).exit_code:  # a table is not there, or of an earlier study
        return outcome
    tables = [output / "units" / f"{job.unit}.csv" for job in jobs]
    key = make_key("transfer_curve", tables=[hash_file(path) for path in tables])
    last = here([Job("transfer", key, functools.partial(_merge, tables, len(names), output))])
    left_out = (*new.left_out, *outcome.left_out, *last.left_out)
    return Outcome(output / "transfer.csv", left_out, last.bugs)


def _check_source(
    source: Path | None,
    start: Path | None,
    source_simulation: Component | None,
    target_simulation: Component | None,
    crop_px: int | None,
) -> None:
    faults = []
    if (source is None) == (start is None):
        faults.append(f"source={source} and start={start}: give the cells to learn from first, or a trained model")
    if source_simulation is not None and source is None:
        faults.append("source_simulation needs source=FOLDER, where its cells go")
    if (source_simulation is not None or target_simulation is not None) and crop_px is None:
        faults.append("simulated cells need crop_px, the side of a crop in pixels")
    if faults:
        raise InputError(*faults)


def _check_source_channels(source: Path, known: Sequence[str], new: Sequence[str], encoder: Component) -> None:
    if getattr(encoder, "func", encoder) is not PerChannel:
        whose = f"source={source}: channels: its cells have {list(known)}"
        check_order(whose, known, new, "give another source")


def _source_job(
    known: LabelledCells,
    output: Path,
    normalization: Component,
    parts: Mapping[str, Any],
    validation: float,
    patience: int | None,
    seed: int,
    threads: int,
) -> Job:
    """Train the network that the study starts from; refused here if its parts do not fit."""
    classes = class_names(known.cells, None)
    model, encoder, pooling, data = (parts[name] for name in ("model", "encoder", "pooling", "data"))
    check_parts(model, encoder, pooling, data, classes, len(known.channels), None)
    work = functools.partial(
        train_source,
        known.cells,
        folder=output / SOURCE,
        classes=classes,
        about=about_cells(known, normalization),
        components=dict(parts),
        validation=validation,
        patience=patience,
        seed=seed,
        threads=threads,
    )
    key = make_key("transfer_curve", source=study_key(work), cells=key_rows(known.cells))
    resume = output / "resume" / f"source-{key[:16]}.ckpt"
    return Job("source", key, functools.partial(work, resume=resume))


def _check_arms(arms: Arms, parts: Mapping[str, Any], channels: Sequence[str], start: Checkpoint | None) -> None:
    """Build the network of every arm once, so that what does not fit it or its start is refused."""
    places = {name: parts[name] for name in ("encoder", "pooling", "data", "classes")}
    places["n_channels"] = len(channels)
    for name, arm in arms.items():
        settings = {key: value for key, value in arm.items() if key != "start"}
        try:
            check_parts(functools.partial(parts["model"], **settings), start=start, **places)
        except InputError as error:
            raise InputError(*(f"arms.{name}: {fault}" for fault in error.faults)) from None
        except TypeError as error:
            raise InputError(f"arms.{name}: {error}") from error


def _held_out(cells: pd.DataFrame, fraction: float, seed: int, apart: str | None) -> pd.DataFrame:
    """Cells on which all are scored: whole wells, or whole values of ``apart``."""
    if apart is not None and apart not in cells:
        columns = [str(c) for c in cells if str(c).startswith("Metadata_")]
        raise InputError(f"apart={apart}: the cells have no such column, but {', '.join(columns)}")
    if apart is None and cells[[PLATE, WELL]].drop_duplicates().shape[0] < 2:
        raise InputError("the target has one well only; give apart=COLUMN, whose values are held out whole")
    return set_aside(cells, fraction, seed, apart)


def _check_apart(source: Path, known: pd.DataFrame, held: pd.DataFrame) -> None:
    """Refuse a source that holds the very wells on which all are scored."""
    places = ["folder", WELL]
    wells = [part[places].assign(folder=[str(Path(f).resolve()) for f in part["folder"]]) for part in (known, held)]
    if both := len(wells[1].drop_duplicates().merge(wells[0].drop_duplicates())):
        raise InputError(f"source={source}: it holds {both} wells of the target that are held out; give another screen")


def _merge(tables: Sequence[Path], n_classes: int, output: Path) -> Result:
    """All units in one table, their means, and the picture."""
    table = pd.concat([pd.read_csv(path) for path in tables], ignore_index=True)
    table = table.sort_values(by=["n", "resample", "arm"], ignore_index=True)
    summary = summarize(table)
    styles = contestant_styles(sorted(set(table["arm"])))
    labels = ("labelled cells a class", "balanced accuracy")
    figure = learning_curve(summary, styles, title="Transfer", labels=labels, chance=1 / n_classes)
    picture = output / "transfer.svg"
    with commit_file(picture) as temporary:
        write_svg(figure, temporary)
    files = [write_csv(table, output / "transfer.csv"), write_csv(summary, output / "transfer-summary.csv"), picture]
    return Result("done", files)

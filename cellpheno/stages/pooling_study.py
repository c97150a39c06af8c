"""Cached features to a table and a picture: which pooling finds a class that few cells of a bag show."""

import functools
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes, read_record
from cellpheno.errors import InputError
from cellpheno.names import WELL
from cellpheno.plates.commit import commit_file, hash_file
from cellpheno.report.lines import score_lines
from cellpheno.report.svg import write_svg
from cellpheno.seeds import derived_seed
from cellpheno.stages.run_folder import write_csv
from cellpheno.stages.wells import Classes, class_names, usable, well_table, with_places
from cellpheno.studies.pooling import over_seeds
from cellpheno.training.instances import Embedded

Component = Callable[..., Any]
AXIS = "responding cells of a bag"
METRICS = {  # of the picture: columns of the table and their titles
    "macro_auroc": "macro AUROC",
    "balanced_accuracy": "balanced accuracy",
    "balanced_accuracy_larger": "balanced accuracy, larger bags",
}


def pooling_study(
    plates: Sequence[Path],
    output: Path,
    poolings: Mapping[str, Component | None],
    study: Component,
    encoder: Component,
    model: Component,
    optimizer: Component,
    scheduler: Component | None,
    engine: Callable[..., Outcome],
    fractions: Sequence[float],
    seeds: int,
    control: str = "control",
    embedding: str = "default",
    label: str = "label",
    classes: Classes = None,
    seed: int = 1,
) -> Outcome:
    """Train every pooling at every fraction of responding cells, and draw score against fraction.

    Parameters
    ----------
    plates : sequence of Path
        OME-Zarr plates, embedded, on which all cells of treated wells respond.
    output : Path
        Where the study's table and picture go.
    poolings : mapping
        What is compared, by name; null leaves one out.
    study : callable
        How a pooling is trained and scored at one fraction.
    encoder : callable
        What stands between cached features and the pooling.
    model : callable
        The classifier's own settings.
    optimizer, scheduler : callable
        How weights are learned; the study chooses the learning rate.
    engine : callable
        Where the work runs.
    fractions : sequence of float
        Of responding cells in a bag, above 0 to 1.
    seeds : int
        Dealings of wells, compositions of bags and starts of each.
    control : str
        The class whose cells fill the bags.
    embedding : str
        Name of the features.
    label : str
        Column of the plate map that holds the class.
    classes : sequence or mapping, optional
        Class names, or class: value; null takes every value of the column.
    seed : int
        Of everything random.
    """
    compared = {name: pooling for name, pooling in poolings.items() if pooling is not None}
    table = well_table(plates, label, classes)
    names = class_names(table, classes)
    faults = [] if control in names else [f"control={control} is no class; classes: {', '.join(names)}"]
    check_study(compared, fractions, seeds, faults)
    wells = with_places(usable(table), plates, Embedded(embedding))
    wells = wells[(wells["label"] != "") & (wells["n_instances"] > 0)].reset_index(drop=True)
    inputs = [input_hashes(read_record(Path(w["folder"]), w[WELL]), f"embed_{embedding}") for _, w in wells.iterrows()]
    parts = {"encoder": encoder, "model": model, "optimizer": optimizer, "scheduler": scheduler}
    work = functools.partial(study, classes=names, control=control, **parts)
    jobs = []
    for number, fraction, pooling in itertools.product(range(seeds), fractions, compared):
        what = {"pooling": pooling, "fraction": fraction, "seed": number}
        own_seed = derived_seed(seed, "study", number)
        own = functools.partial(work, pooling=compared[pooling], fraction=fraction, seed=own_seed)
        jobs.append(unit_job("pooling_study", own, wells, what, inputs, output))
    gather = functools.partial(gather_units, order=list(compared), n_classes=len(names), axis=AXIS)
    return do_units("pooling_study", jobs, engine, gather, output)


def check_study(
    compared: Mapping[str, Component], fractions: Sequence[float], seeds: int, faults: Sequence[str] = ()
) -> None:
    """Refuse what makes no study, together with other faults of the request."""
    faults = list(faults)
    if wrong := [fraction for fraction in fractions if not 0 < fraction <= 1]:
        faults.append(f"fractions={wrong}: wanted above 0 and at most 1")
    if not compared or not fractions or seeds < 1:
        faults.append(
            f"{len(compared)} poolings, {len(fractions)} fractions, {seeds} seeds: wanted one of each at least"
        )
    if faults:
        raise InputError(*faults)


def unit_job(
    step: str, work: Component, wells: pd.DataFrame, what: Mapping[str, Any], inputs: Sequence[Any], output: Path
) -> Job:
    """One pooling at one fraction with one seed, which is ``what``, as a unit of the ledger.

    Parameters
    ----------
    step : str
    work : callable
        Wells to scores.
    wells : DataFrame
    what : mapping
        pooling, fraction, seed.
    inputs : sequence
        Content hashes of what is read of the wells.
    output : Path
        Gets units/<name of the unit>.json.
    """
    unit = f"{what['pooling']}-{what['fraction']:g}-{what['seed']}"
    key = make_key(step, work=work, inputs=inputs, labels=list(wells["label"]))
    return Job(unit, key, functools.partial(_unit, work, wells, what, _place(output, unit)))


def do_units(
    step: str, jobs: Sequence[Job], engine: Callable[..., Outcome], gather: Callable[..., Result], output: Path
) -> Outcome:
    """Do the units of a study, then make table and picture of those that are done.

    Parameters
    ----------
    step : str
    jobs : sequence of Job
        From `unit_job`.
    engine : callable
    gather : callable
        `gather_units` with its settings.
    output : Path
    """
    outcome = engine(step, jobs, folder=output, root=output)
    if outcome.bugs:
        return outcome
    done = [path for job in jobs if (path := _place(output, job.unit)).is_file()]
    key = make_key(step, units=[hash_file(path) for path in done])
    last = engine(step, [Job(step, key, functools.partial(gather, done, output / step))], folder=output, root=output)
    return Outcome(output / f"{step}.csv", (*outcome.left_out, *last.left_out), last.bugs)


def _place(output: Path, unit: str) -> Path:
    return output / "units" / f"{unit}.json"


def _unit(work: Component, wells: pd.DataFrame, what: Mapping[str, Any], path: Path) -> Result:
    """Train and score one pooling at one fraction with one seed."""
    path.unlink(missing_ok=True)  # of other settings: should the work fail, it would be gathered
    with commit_file(path) as temporary:
        temporary.write_text(json.dumps({**what, **work(wells)}) + "\n", encoding="utf-8")
    return Result("done", [path])


def gather_units(units: Sequence[Path], path: Path, *, order: Sequence[str], n_classes: int, axis: str) -> Result:
    """All units as one table, their means with intervals as another, and the picture.

    Parameters
    ----------
    units : sequence of Path
    path : Path
        Of the files, without an ending.
    order : sequence of str
        Poolings in the order of the legend.
    n_classes : int
    axis : str
        What the fraction is of.
    """
    table = pd.DataFrame([json.loads(unit.read_text(encoding="utf-8")) for unit in units])
    table = table.sort_values(["pooling", "fraction", "seed"])
    metrics = {name: title for name, title in METRICS.items() if name in table}
    means = pd.concat([over_seeds(table, name).assign(metric=name) for name in metrics])
    tables = [write_csv(table, path.with_suffix(".csv")), write_csv(means, path.with_name(f"{path.name}_means.csv"))]
    figure = score_lines(
        {title: means[means["metric"] == metric] for metric, title in metrics.items()},
        order=[name for name in order if name in set(table["pooling"])],
        chance={title: 0.5 if name == "macro_auroc" else 1 / n_classes for name, title in metrics.items()},
        axis=axis,
    )
    with commit_file(path.with_suffix(".svg")) as temporary:
        write_svg(figure, temporary)
    lost = table[table[list(metrics)].isna().any(axis=1)]
    names = [f"{row.pooling} at {row.fraction:g}, seed {row.seed}" for row in lost.itertuples()]
    messages = [f"the training diverged and is in no mean: {', '.join(names)}"] if names else []
    return Result("warned" if messages else "done", [*tables, path.with_suffix(".svg")], messages)

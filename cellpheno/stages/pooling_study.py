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
    _check(names, control, compared, fractions, seeds)
    wells = with_places(usable(table), plates, Embedded(embedding))
    wells = wells[(wells["label"] != "") & (wells["n_instances"] > 0)].reset_index(drop=True)
    inputs = [input_hashes(read_record(Path(w["folder"]), w[WELL]), f"embed_{embedding}") for _, w in wells.iterrows()]
    parts = {"encoder": encoder, "model": model, "optimizer": optimizer, "scheduler": scheduler}
    work = functools.partial(study, classes=names, control=control, **parts)
    jobs = []
    for number, fraction, pooling in itertools.product(range(seeds), fractions, compared):
        what = {"pooling": pooling, "fraction": fraction, "seed": number}
        own = functools.partial(
            work, pooling=compared[pooling], fraction=fraction, seed=derived_seed(seed, "study", number)
        )
        key = make_key("pooling_study", settings=own.keywords, study=study, inputs=inputs, labels=list(wells["label"]))
        unit = f"{pooling}-{fraction:g}-{number}"
        jobs.append(Job(unit, key, functools.partial(_unit, own, wells, what, output / "units" / f"{unit}.json")))
    outcome = engine("pooling_study", jobs, folder=output, root=output)
    if outcome.bugs:
        return outcome
    done = [path for job in jobs if (path := output / "units" / f"{job.unit}.json").is_file()]
    key = make_key("pooling_study", units=[hash_file(path) for path in done])
    merge = functools.partial(_merge, done, list(compared), len(names), output)
    engine("pooling_study", [Job("pooling_study", key, merge)], folder=output, root=output)
    return outcome._replace(path=output / "pooling_study.csv")


def _check(
    names: Sequence[str], control: str, compared: Mapping[str, Component], fractions: Sequence[float], seeds: int
) -> None:
    faults = []
    if control not in names:
        faults.append(f"control={control} is no class; classes: {', '.join(names)}")
    if wrong := [fraction for fraction in fractions if not 0 < fraction <= 1]:
        faults.append(f"fractions={wrong}: wanted above 0 and at most 1")
    if not compared or not fractions or seeds < 1:
        faults.append(
            f"{len(compared)} poolings, {len(fractions)} fractions, {seeds} seeds: wanted one of each at least"
        )
    if faults:
        raise InputError(*faults)


def _unit(work: Component, wells: pd.DataFrame, what: Mapping[str, Any], path: Path) -> Result:
    """Train and score one pooling at one fraction with one seed."""
    with commit_file(path) as temporary:
        temporary.write_text(json.dumps({**what, **work(wells)}) + "\n", encoding="utf-8")
    return Result("done", [path])


def _merge(units: Sequence[Path], poolings: Sequence[str], n_classes: int, output: Path) -> Result:
    """All units as one table, their means with intervals as another, and the picture."""
    table = pd.DataFrame([json.loads(path.read_text(encoding="utf-8")) for path in units])
    table = table.sort_values(["pooling", "fraction", "seed"])
    metrics = {name: title for name, title in METRICS.items() if name in table}
    means = pd.concat([over_seeds(table, name).assign(metric=name) for name in metrics])
    paths = [write_csv(table, output / "pooling_study.csv"), write_csv(means, output / "pooling_study_means.csv")]
    figure = score_lines(
        {title: means[means["metric"] == metric] for metric, title in metrics.items()},
        order=[name for name in poolings if name in set(table["pooling"])],
        chance={title: 0.5 if name == "macro_auroc" else 1 / n_classes for name, title in metrics.items()},
        axis="responding cells of a bag",
    )
    with commit_file(output / "pooling_study.svg") as temporary:
        write_svg(figure, temporary)
    return Result("done", [*paths, output / "pooling_study.svg"])

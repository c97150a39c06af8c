"""Whole fields to a table and a picture: which pooling finds few responding cells, where nothing is segmented."""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.batch.engine import Job, Outcome
from cellpheno.batch.ledger import input_hashes, read_record
from cellpheno.importers.filename import scan
from cellpheno.names import WELL
from cellpheno.plates.plate import open_plate
from cellpheno.plates.platemap import read_platemap
from cellpheno.seeds import derived_seed
from cellpheno.stages.import_plate import import_plate
from cellpheno.stages.pooling_study import Component, check_study, do_units, gather_units, unit_job
from cellpheno.stages.simulate import simulate
from cellpheno.stages.wells import class_names, usable, well_table, with_places
from cellpheno.training.instances import Instances

AXIS = "responding cells of a well"


def field_pooling(
    output: Path,
    simulation: Callable[..., pd.DataFrame],
    poolings: Mapping[str, Component | None],
    study: Component,
    instances: Component,
    encoder: Component,
    model: Component,
    normalization: Component,
    augmentation: Component | None,
    data: Component,
    optimizer: Component,
    scheduler: Component | None,
    trainer: Component,
    engine: Callable[..., Outcome],
    fractions: Sequence[float],
    seeds: int,
    weighted: bool = True,
    seed: int = 1,
    workers: int = 2,
) -> Outcome:
    """Simulate a plate for every fraction of responding cells and seed, train every pooling on each, and draw scores.

    Parameters
    ----------
    output : Path
        Gets the plates, field_pooling.csv, the means with intervals, and a picture.
    simulation : callable
        The virtual microscope; the study sets the fraction of responding cells.
    poolings : mapping
        What is compared, by name; null leaves one out.
    study : callable
        How a pooling is trained and scored on one plate.
    instances : callable
        What of a plate is seen: whole fields.
    encoder : callable
        The network that turns a field into a map of features.
    model : callable
        The classifier's own settings.
    normalization : callable
        How raw pixels become the network's input.
    augmentation : callable, optional
        Random changes of training fields.
    data : callable
        Bags and batches.
    optimizer, scheduler : callable
        How weights are learned.
    trainer : callable
        Lightning's trainer: epochs, precision, device.
    engine : callable
        Where the work runs.
    fractions : sequence of float
        Of responding cells in treated wells, above 0 to 1.
    seeds : int
        Plates of each fraction, each with its own deal of wells and start.
    weighted : bool
        Weigh the loss so that all classes count alike.
    seed : int
        Of everything random.
    workers : int
        Processes; the result does not depend on it.
    """
    compared = {name: pooling for name, pooling in poolings.items() if pooling is not None}
    check_study(compared, fractions, seeds)
    parts: dict[str, Any] = {"instances": instances, "encoder": encoder, "model": model, "augmentation": augmentation}
    parts |= {"normalization": normalization, "data": data, "weighted": weighted}
    parts |= {"optimizer": optimizer, "scheduler": scheduler, "trainer": trainer}
    kind: Instances = instances()
    jobs: list[Job] = []
    n_classes = 0
    for number, fraction in itertools.product(range(seeds), fractions):
        own_seed = derived_seed(seed, "study", number)
        path = output / "plates" / f"{fraction:g}-{number}" / "SIM1.zarr"
        made = _plate(path, functools.partial(simulation, responders=fraction), engine, own_seed, workers)
        if made.bugs:
            return made
        channels, pixel_size_um = kind.optics(open_plate(path))
        table = well_table([path], "label", None)
        wells, names = with_places(usable(table), [path], kind), class_names(table, None)
        n_classes = len(names)
        inputs = [input_hashes(read_record(Path(w["folder"]), w[WELL]), kind.step) for _, w in wells.iterrows()]
        about = {"classes": names, "channels": channels, "pixel_size_um": pixel_size_um, "seed": own_seed}
        for pooling in compared:
            what = {"pooling": pooling, "fraction": fraction, "seed": number}
            own = functools.partial(study, pooling=compared[pooling], **about, **parts)
            jobs.append(unit_job("field_pooling", own, wells, what, inputs, output))
    gather = functools.partial(gather_units, order=list(compared), n_classes=n_classes, axis=AXIS)
    return do_units("field_pooling", jobs, engine, gather, output)


def _plate(
    path: Path, simulation: Callable[..., pd.DataFrame], engine: Callable[..., Outcome], seed: int, workers: int
) -> Outcome:
    """Simulate a plate and import it; what is done is skipped."""
    raw = path.parent / "raw" / path.stem
    made = simulate(raw, path.parent / "truth", simulation, engine, seed=seed, workers=workers)
    if made.bugs:
        return made
    platemap = functools.partial(read_platemap, raw / "platemap.csv")
    pixel_size_um = inspect.signature(simulation).parameters["pixel_size_um"].default
    return import_plate(raw, path, scan, platemap, engine, pixel_size_um=pixel_size_um)

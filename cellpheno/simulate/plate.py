"""A plate as a microscope leaves it: a folder of raw TIFF files with a plate map, and the truth in another folder."""

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray

from cellpheno.errors import InputError
from cellpheno.names import PLATE, SITE, WELL
from cellpheno.simulate.cells import Culture
from cellpheno.simulate.field import Conditions, Microscope, field_seed, simulate_field
from cellpheno.simulate.layout import PlannedWell, PlateEffects, map_label, plan_plate, well_brightness
from cellpheno.simulate.optics import Camera, Channel, Optics
from cellpheno.simulate.request import channel_faults, folder_faults, name_faults, phenotype_faults, range_faults

CHANNELS = (
    Channel("DNA", 0.461, signal_e=900.0, background_e=60.0, well_cv=0.08),
    Channel("CellMask", 0.670, signal_e=600.0, background_e=120.0, well_cv=0.08),
    Channel("Protein", 0.525, signal_e=350.0, background_e=80.0, well_cv=0.15),
)
LOCALIZATIONS: Mapping[str, Mapping[str, Any] | None] = {
    "control": {"pattern": "cytosolic"},
    "nuclear": {"pattern": "nuclear"},
    "membrane": {"pattern": "membrane"},
    "puncta": {"pattern": "puncta"},
    "mitochondria": {"pattern": "mitochondria"},
}
CULTURE, OPTICS, CAMERA, EFFECTS = Culture(), Optics(), Camera(), PlateEffects()


def simulate_plate(
    folder: str | Path,
    truth_folder: str | Path,
    *,
    plate: str = "SIM1",
    plate_format: int = 48,
    wells: Sequence[str] | None = None,
    wells_per_class: int = 8,
    layout: str = "random",
    phenotypes: Mapping[str, Mapping[str, Any] | None] = LOCALIZATIONS,
    control: str = "control",
    compounds_per_class: int = 2,
    responders: float = 0.3,
    doses_um: Sequence[float] = (),
    ec50_um: float = 1.0,
    hill_slope: float = 1.0,
    label_top_dose_only: bool = True,
    fields: int = 2,
    field_px: int = 540,
    pixel_size_um: float = 0.6,
    expression_cv: float = 0.35,
    channels: Sequence[Channel] = CHANNELS,
    culture: Culture = CULTURE,
    optics: Optics = OPTICS,
    camera: Camera = CAMERA,
    effects: PlateEffects = EFFECTS,
    compression: str | None = None,
    seed: int = 0,
    workers: int = 0,
) -> pd.DataFrame:
    """Simulate a plate: images and ``platemap.csv`` in one folder, the truth in another.

    Each field depends on seed, plate, well and site only; neither the number of workers nor the other wells change it.

    Parameters
    ----------
    folder : path
        Gets ``<plate>_<well>_s<site>_w<number>_<channel>.tif`` (uint16) and ``platemap.csv`` with plate, well, label,
        compound, concentration_um.
    truth_folder : path
        Gets ``cells.parquet``, ``wells.csv`` and ``<plate>_<well>_s<site>_{nuclei,cells}.tif`` (uint16 labels).
    plate : str
    plate_format : int
        Wells of the plate: 6, 24, 48, 96, 384 or 1536.
    wells : sequence of str, optional
        Wells to use, such as ``["B02-E07"]``; all by default. They fill up column by column.
    wells_per_class : int
    layout : str
        ``random`` shuffles the classes over the wells; ``columns`` gives each class its own columns (confounded).
    phenotypes : mapping
        Class to its ``pattern`` and, if any, ``morphology``. A class that is null is left out. A protein in several
        compartments has a list of patterns, or a mapping of pattern to share.
    control : str
        The class that is untreated; cells that do not respond look like it.
    compounds_per_class : int
        Compounds with the same effect, named ``<class>-1``, ``<class>-2``...
    responders : float
        Expected fraction (0 to 1) of responding cells in a treated well, at full effect; 0 makes a null plate.
    doses_um : sequence of float
        Doses, uM, dealt out in turn over the wells of a compound; none: one dose with full effect.
    ec50_um, hill_slope : float
        Dose of half the effect, uM, and steepness of the dose-response curve.
    label_top_dose_only : bool
        Leave the plate map's label empty below the highest dose.
    fields : int
        Fields a well.
    field_px : int
        Side of a field, pixels.
    pixel_size_um : float
    expression_cv : float
        Spread of the protein's amount over cells (standard deviation of the logarithm).
    channels : sequence of 3 Channel
        DNA, cell mask, protein.
    culture : Culture
    optics : Optics
    camera : Camera
    effects : PlateEffects
    compression : str, optional
        ``zlib`` or none.
    seed : int
    workers : int
        Processes that share the wells; 0 works in this one.

    Returns
    -------
    DataFrame
        The truth, a row a cell whose nucleus is in the field, as ``cells.parquet`` holds it.

    Raises
    ------
    InputError
        With every fault of the request, before anything is written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as t:
    ...     truth = simulate_plate(f"{t}/raw", f"{t}/truth", wells_per_class=1, fields=1, field_px=64)
    ...     images = len(list(Path(t).glob("raw/*.tif")))
    >>> images, truth["label"].nunique() <= 5
    (15, True)
    """
    faults = range_faults(locals())
    folder, truth_folder = Path(folder), Path(truth_folder)
    classes = {name: dict(phenotype) for name, phenotype in phenotypes.items() if phenotype is not None}
    faults += name_faults(plate, plate_format, layout, compression) + phenotype_faults(classes, control)
    faults += channel_faults(channels) + [f"doses_um: {dose} is not above 0" for dose in doses_um if dose <= 0]
    for owner, group in (("culture", culture), ("optics", optics), ("camera", camera), ("effects", effects)):
        faults += range_faults(group._asdict(), f"{owner}.")
    _refuse(faults)
    planned = plan_plate(
        plate=plate,
        plate_format=plate_format,
        wells=wells,
        wells_per_class=wells_per_class,
        layout=layout,
        classes=list(classes),
        control=control,
        compounds_per_class=compounds_per_class,
        responders=responders,
        doses_um=doses_um,
        ec50_um=ec50_um,
        hill_slope=hill_slope,
        seed=seed,
    )
    stems = [f"{plate}_{p.well}_s{site}" for p in planned for site in range(1, fields + 1)]
    _refuse(folder_faults(folder, truth_folder, [name for stem in stems for name in image_names(stem, channels)]))
    for new in (folder, truth_folder):
        new.mkdir(parents=True, exist_ok=True)
    one_well = partial(
        simulate_well,
        folder=folder,
        truth_folder=truth_folder,
        plate=plate,
        fields=fields,
        microscope=Microscope(field_px, pixel_size_um, tuple(channels), culture, optics, camera, expression_cv),
        phenotypes=classes,
        control=control,
        compression=compression,
        seed=seed,
    )
    brightness = [well_brightness(p.well, plate_format, effects) for p in planned]
    if workers:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            truth = pd.concat(pool.map(one_well, planned, brightness), ignore_index=True)
    else:
        truth = pd.concat(map(one_well, planned, brightness), ignore_index=True)
    truth.to_parquet(truth_folder / "cells.parquet", index=False)
    _write_maps(
        folder, truth_folder, plate, planned, [map_label(p, control, doses_um, label_top_dose_only) for p in planned]
    )
    return truth


def simulate_well(
    planned: PlannedWell,
    brightness: float,
    *,
    folder: Path,
    truth_folder: Path,
    plate: str,
    fields: int,
    microscope: Microscope,
    phenotypes: Mapping[str, Mapping[str, Any]],
    control: str,
    compression: str | None,
    seed: int,
) -> pd.DataFrame:
    """Simulate all fields of a well; write its images and label images.

    Parameters
    ----------
    planned : PlannedWell
    brightness : float
        Of all stains, against the ordinary well.
    folder, truth_folder : Path
        Both exist.
    plate, fields, phenotypes, control, compression, seed
        As for `simulate_plate`.
    microscope : Microscope

    Returns
    -------
    DataFrame
        The truth, a row a cell.
    """
    spread = np.random.default_rng(field_seed(seed, plate, planned.well, 0)).normal(size=len(microscope.channels))
    conditions = Conditions(
        phenotypes[control],
        phenotypes[planned.label],
        planned.responders,
        tuple(brightness * math.exp(c.well_cv * z) for c, z in zip(microscope.channels, spread.tolist(), strict=True)),
    )
    tables = []
    for site in range(1, fields + 1):
        images, truth = simulate_field(microscope, conditions, field_seed(seed, plate, planned.well, site))
        stem = f"{plate}_{planned.well}_s{site}"
        for name, image in zip(image_names(stem, microscope.channels), images, strict=True):
            write_tiff(folder / name, image, microscope.pixel_size_um, compression)
        for name, labels in (("nuclei", truth.nuclei), ("cells", truth.cells)):
            write_tiff(truth_folder / f"{stem}_{name}.tif", labels, microscope.pixel_size_um, "zlib")
        keys = pd.DataFrame({PLATE: plate, WELL: planned.well, SITE: site}, index=truth.table.index)
        tables.append(pd.concat([keys, truth.table], axis=1))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(label=planned.label, compound=planned.compound, concentration_um=planned.concentration_um)


def image_names(stem: str, channels: Sequence[Channel]) -> list[str]:
    """File names of the channels of a field.

    Examples
    --------
    >>> image_names("SIM1_B03_s1", CHANNELS)[0]
    'SIM1_B03_s1_w1_DNA.tif'
    """
    return [f"{stem}_w{number}_{channel.name}.tif" for number, channel in enumerate(channels, 1)]


def write_tiff(path: Path, pixels: NDArray[np.uint16], pixel_size_um: float, compression: str | None) -> None:
    """Write one plane: the file is whole or absent, and the same pixels give the same bytes."""
    unfinished = path.with_name(f"{path.name}.partial")
    per_cm = 1e4 / pixel_size_um
    tifffile.imwrite(
        unfinished,
        pixels,
        photometric="minisblack",
        compression=compression,
        metadata=None,
        software=False,
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )
    os.replace(unfinished, path)


def _write_maps(
    folder: Path, truth_folder: Path, plate: str, planned: Sequence[PlannedWell], known: Sequence[str]
) -> None:
    """Write the plate map as a laboratory would, and the plan as only the simulator knows it."""
    wells = pd.DataFrame(planned)
    wells.insert(0, "plate", plate)
    wells.to_csv(truth_folder / "wells.csv", index=False)
    told = wells.drop(columns="responders").assign(label=known)
    told["concentration_um"] = [f"{dose:g}" for dose in wells["concentration_um"]]
    told.to_csv(folder / "platemap.csv", index=False)


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise InputError(*faults)

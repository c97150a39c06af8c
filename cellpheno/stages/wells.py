"""The well table of a run: every well of the plates once, with its plate-map row, label, status and counts."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cellpheno.batch.ledger import USABLE, status_table
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL, split_well
from cellpheno.plates.plate import Plate, open_plate
from cellpheno.training.instances import Instances

Classes = Mapping[str, str] | Sequence[str] | None


def well_table(plates: Sequence[Path], label: str | None, classes: Classes) -> pd.DataFrame:
    """Every well of the plates, mapped or imaged, as one table.

    Parameters
    ----------
    plates : sequence of Path
        OME-Zarr plates.
    label : str, optional
        Column of the plate map that holds the class; without it no well has a label, and no plate map is needed.
    classes : mapping of class to value, sequence of values, or None
        Which values are classes; a well with another value has no label. None takes every value that occurs.

    Returns
    -------
    DataFrame
        ``Metadata_*`` of the plate map with ``Metadata_Row`` and ``Metadata_Column``, ``label`` (empty: no class),
        ``status``, ``n_fields``, ``n_cells``, ``messages``, and ``folder``, the folder of the well's plate.

    Raises
    ------
    InputError
        If two plates share a name, a plate map lacks the label column, or a class has no well.
    """
    tables: list[pd.DataFrame] = []
    faults: list[str] = []
    for path in plates:
        plate = open_plate(path)
        try:
            tables.append(_plate_wells(plate, label).assign(folder=str(plate.folder)))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(*faults)
    wells = pd.concat(tables, ignore_index=True)
    if (twice := wells[wells.duplicated([PLATE, WELL])]).size:
        raise InputError(f"plates {sorted(twice[PLATE].unique())} are given twice, or two plates share a name")
    wells["label"] = "" if label is None else _labels(wells[f"Metadata_{label}"], label, classes)
    return wells


def _plate_wells(plate: Plate, label: str | None) -> pd.DataFrame:
    path = plate.folder / "platemap.csv"
    if label is None:
        return _with_position(status_table(plate.folder, plate.name, []))
    if not path.is_file():
        raise InputError(f"{plate.path} has no plate map ({path}); import the plate with platemap.path=FILE")
    mapped = pd.read_csv(path, dtype=str, keep_default_na=False)
    if f"Metadata_{label}" not in mapped:
        columns = [str(c).removeprefix("Metadata_") for c in mapped if c not in (PLATE, WELL)]
        near = difflib.get_close_matches(label, columns, n=1)
        hint = f"; did you mean label={near[0]}?" if near else ""
        raise InputError(f"{path} has no column {label!r}; its columns: {', '.join(columns)}{hint}")
    status = status_table(plate.folder, plate.name, list(mapped[WELL]))
    return _with_position(status.merge(mapped, on=[PLATE, WELL], how="left").fillna(dict.fromkeys(mapped.columns, "")))


def _with_position(wells: pd.DataFrame) -> pd.DataFrame:
    position = pd.DataFrame([split_well(w) for w in wells[WELL]], columns=["Metadata_Row", "Metadata_Column"])
    return wells.drop(columns=position.columns, errors="ignore").join(position)


def _labels(values: pd.Series, label: str, classes: Classes) -> pd.Series:
    present = sorted(set(values) - {""})
    if classes is None:
        return values
    named = dict(classes) if isinstance(classes, Mapping) else {name: name for name in classes}
    if missing := [f"{name} ({label}={value})" for name, value in named.items() if value not in present]:
        raise InputError(f"no well has the class {', '.join(missing)}; values of {label}: {', '.join(present)}")
    return values.map({value: name for name, value in named.items()}).fillna("")


def class_names(wells: pd.DataFrame, classes: Classes) -> list[str]:
    """Classes in order: as configured, else sorted.

    Examples
    --------
    >>> class_names(pd.DataFrame({"label": ["b", "", "a"]}), None)
    ['a', 'b']
    """
    return sorted(set(wells["label"]) - {""}) if classes is None else [str(name) for name in classes]


def usable(wells: pd.DataFrame) -> pd.DataFrame:
    """Wells that have numbers: all but quarantined, missing and excluded ones."""
    return wells[wells["status"].isin(USABLE)].reset_index(drop=True)


def with_places(wells: pd.DataFrame, plates: Sequence[Path], instances: Instances) -> pd.DataFrame:
    """Add ``place``, where the instances of each well stand, and ``n_instances``; wells that lack them are refused.

    Raises
    ------
    InputError
        If the step that makes the instances has not been done for a plate, or lost a well.
    """
    opened = {plate.name: plate for plate in map(open_plate, plates)}
    places = [instances.place(opened[plate], well) for plate, well in wells[[PLATE, WELL]].itertuples(index=False)]
    faults: list[str] = []
    sizes: list[int] = []
    for place, (plate, well) in zip(places, wells[[PLATE, WELL]].itertuples(index=False), strict=True):
        try:
            sizes.append(instances.count(place))
        except FileNotFoundError:
            step = instances.step.partition("_")[0] if instances.step.startswith("embed_") else instances.step
            faults.append(f"plate {plate}, well {well}: {place} is not there; run: cellpheno {step} plate=...")
    if faults:
        more = [f"... ({len(faults)} wells in all)"] if len(faults) > 5 else []
        raise InputError(*faults[:5], *more)
    return wells.assign(place=[str(place) for place in places], n_instances=sizes)

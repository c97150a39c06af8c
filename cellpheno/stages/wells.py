"""The well table of a run: every well of the plates once, with its plate-map row, label, status and counts."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd

from cellpheno.batch.ledger import USABLE, status_table
from cellpheno.bounds import Listed
from cellpheno.classes import AND, NONE, join_classes, label_parts
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL, split_well
from cellpheno.plates.plate import Plate, open_plate
from cellpheno.training.instances import Instances

Classes = Annotated[Mapping[str, str] | Sequence[str] | None, Listed()]


def well_table(
    plates: Sequence[Path], label: str | None, classes: Classes, separator: str | None = None
) -> pd.DataFrame:
    """Every well of the plates, mapped or imaged, as one table.

    Parameters
    ----------
    plates : sequence of Path
        OME-Zarr plates.
    label : str, optional
        Column of the plate map that holds the class; without it no well has a label, and no plate map is needed.
    classes : mapping of class to value, sequence of values, or None
        Which values are classes; a well with another value has no label. None takes every value that occurs.
    separator : str, optional
        What stands between the classes of a well in several, such as ``|``. None: a well has one class.

    Returns
    -------
    DataFrame
        ``Metadata_*`` of the plate map with ``Metadata_Row`` and ``Metadata_Column``, ``label`` (empty: no class),
        ``status``, ``n_fields``, ``n_cells``, ``messages``, and ``folder``, the folder of the well's plate.

    Raises
    ------
    InputError
        If two plates share a name, a plate map lacks the label column, a class has no well, or a label of several
        classes has a part that is empty, doubled or unknown.
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
    if label is None:
        return wells.assign(label="")
    if separator is not None:
        return wells.assign(label=_label_sets(wells, label, classes, separator))
    return wells.assign(label=as_classes(wells[f"Metadata_{label}"], label, classes, "well"))


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


def as_classes(values: pd.Series, label: str, classes: Classes, what: str) -> pd.Series:
    """Class of each value of the column ``label``, empty where it is none; ``what`` has them: a well, a cell.

    Raises
    ------
    InputError
        If a class has no well (or cell), or two classes share a value.

    Examples
    --------
    >>> as_classes(pd.Series(["-1", "1", "0"]), "control", {"negative": "-1", "positive": "1"}, "well").tolist()
    ['negative', 'positive', '']
    """
    present = sorted(set(values) - {""})
    if classes is None:
        return values
    named = dict(classes) if isinstance(classes, Mapping) else {name: name for name in classes}
    given = list(named.values())
    doubled = sorted({value for value in given if given.count(value) > 1})
    faults = [f"{label}={value} is given to several classes; give it to one" for value in doubled]
    if missing := [f"{name} ({label}={value})" for name, value in named.items() if value not in present]:
        faults.append(f"no {what} has the class {', '.join(missing)}; values of {label}: {', '.join(present)}")
    if faults:
        raise InputError(*faults)
    return values.map({value: name for name, value in named.items()}).fillna("")


def _label_sets(wells: pd.DataFrame, label: str, classes: Classes, separator: str) -> pd.Series:
    """Labels of wells in several classes, joined as `cellpheno.classes` says; a value without any class is none."""
    values = wells[f"Metadata_{label}"]
    if not separator:
        raise InputError('label_separator is empty; give the text between the classes of a well, such as "|"')
    sets = {value: value.split(separator) if value != NONE else [] for value in sorted(set(values) - {""})}
    present = sorted({part for parts in sets.values() for part in parts} - {""})
    named = dict(classes) if isinstance(classes, Mapping) else {name: name for name in classes or present}
    known = set(named.values())
    faults = [
        f"class {name!r}: with several classes a well a name may not hold {AND!r} or be {NONE!r}; "
        "rename it, classes={NAME: VALUE}"
        for name in named
        if AND in name or name == NONE
    ]
    if missing := [f"{name} ({label}={value})" for name, value in named.items() if value not in present]:
        faults.append(f"no well has the class {', '.join(missing)}; values of {label}: {', '.join(present)}")
    for value, parts in sets.items():
        if wrong := _part_faults(parts, known):
            rows = wells[values == value]
            where = f"{rows[PLATE].iloc[0]} {rows[WELL].iloc[0]}" + (f" and {len(rows) - 1} more" * (len(rows) > 1))
            faults.append(f"{where}: {label} {value!r} {wrong}; correct the plate map")
    if faults:
        raise InputError(*faults)
    texts = {
        value: join_classes([own in parts for own in named.values()], list(named))
        for value, parts in sets.items()
        if not parts or known & set(parts)
    }
    return values.map(texts).fillna("")


def _part_faults(parts: Sequence[str], known: Collection[str]) -> str:
    """What is wrong with the parts of one label; a label of unknown parts only is no label, and nothing is wrong."""
    if "" in parts:
        return "has an empty part"
    if blank := [part for part in parts if part != part.strip()]:
        return f"has a part that begins or ends with a blank, {blank[0]!r}"
    if double := sorted({part for part in parts if parts.count(part) > 1}):
        return f"names {double[0]!r} twice"
    unknown = [part for part in parts if part not in known]
    if unknown and len(unknown) < len(parts):
        return f"names {', '.join(map(repr, unknown))} beside a class; the classes are {', '.join(sorted(known))}"
    return ""


def class_names(wells: pd.DataFrame, classes: Classes, multilabel: bool = False) -> list[str]:
    """Classes in order: as configured, else sorted.

    Examples
    --------
    >>> class_names(pd.DataFrame({"label": ["b", "", "a"]}), None)
    ['a', 'b']
    >>> class_names(pd.DataFrame({"label": ["b|c", "a"]}), None, multilabel=True)
    ['a', 'b', 'c']
    """
    if classes is not None:
        return [str(name) for name in classes]
    return sorted({part for label in set(wells["label"]) for part in label_parts(label, multilabel)})


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

"""Cells with labels of their own: rows of cell tables, or an annotation table, joined to the crops."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cellpheno.batch.ledger import USABLE, input_hashes, read_record, well_status
from cellpheno.errors import InputError, PlateError
from cellpheno.images.crops import read_attributes
from cellpheno.names import CELL_KEYS, OBJECT, PLATE, SITE, WELL, parse_well, well_order
from cellpheno.plates.plate import open_plate
from cellpheno.plates.platemap import column_faults, read_text_table
from cellpheno.stages.facts import grey_limits
from cellpheno.stages.wells import Classes, as_classes
from cellpheno.training.cells import list_cells
from cellpheno.training.instances import Cells

SHOWN = 10  # faults of one kind that are listed one by one


class LabelledCells(NamedTuple):
    """The cells of a request."""

    cells: pd.DataFrame  # Metadata_*, label, place, row, folder; a row a labelled cell that has a crop
    wells: pd.DataFrame  # Metadata_Plate, Metadata_Well, place, folder: all wells with crops, labelled or not
    channels: tuple[str, ...]
    pixel_size_um: float | None
    left_out: tuple[str, ...]  # labelled cells without a crop


def labelled_cells(plates: Sequence[Path], annotations: Path | None, label: str, classes: Classes) -> LabelledCells:
    """Find the labelled cells of plates, or of folders that `import_crops` wrote.

    Parameters
    ----------
    plates : sequence of Path
        OME-Zarr plates with crops, or folders of imported crops.
    annotations : Path, optional
        CSV or TSV: Metadata_Plate, Metadata_Well, Metadata_Site, Metadata_ObjectNumber, the label and any other
        column. Without it the labels stand in the imported cell tables.
    label : str
        Column of the label, with or without ``Metadata_``.
    classes : sequence of str, or mapping of class to value, optional
        None takes every value that occurs.

    Raises
    ------
    InputError
        With all faults at once: no crops, columns that are not there, cells listed twice, a class without a cell,
        plates that differ in channels or pixel size.
    """
    wells = pd.concat([_wells(path) for path in plates], ignore_index=True)
    if twice := sorted(set(wells.loc[wells.duplicated([PLATE, WELL]), PLATE])):
        raise InputError(f"plates {twice} are given twice, or two plates share a name")
    channels, pixel_size_um = _same_optics(wells)
    crops = [list_cells(p, w, c) for p, w, c in wells[[PLATE, WELL, "place"]].itertuples(index=False)]
    stored = pd.concat(crops, ignore_index=True).merge(wells[[PLATE, WELL, "folder"]], on=[PLATE, WELL])
    told = _imported(wells, label) if annotations is None else _annotated(annotations, label)
    told = told[told["label"] != ""]
    told = told.assign(label=as_classes(told["label"], label, classes, "cell"))
    told = told[told["label"] != ""]
    keys = list(CELL_KEYS)
    cells = told.merge(stored, on=keys, how="left", indicator=True)
    lost = cells[cells["_merge"] == "left_only"]
    found = cells[cells["_merge"] == "both"].drop(columns="_merge").astype({"row": int})
    if found.empty:
        raise InputError(f"none of {len(told)} labelled cells has a crop among {', '.join(map(str, plates))}")
    left_out = []
    if len(lost):
        first = " ".join(map(str, lost.iloc[0][keys]))
        left_out.append(f"{len(lost)} of {len(told)} labelled cells have no crop, such as {first}")
    ordered = found.sort_values(keys, ignore_index=True)
    return LabelledCells(ordered, wells, channels, pixel_size_um, tuple(left_out))


def input_hashes_of(cells: pd.DataFrame) -> list[str]:
    """Hash of what each cell's crop is read from."""
    wells = cells[["folder", WELL]].drop_duplicates()
    known = {
        (folder, well): "".join(input_hashes(read_record(Path(folder), well), "crop", "import_crops"))
        for folder, well in wells.itertuples(index=False)
    }
    return [known[key] for key in cells[["folder", WELL]].itertuples(index=False, name=None)]


def about_cells(found: LabelledCells, normalization: Callable[..., Any]) -> dict[str, Any]:
    """What `fit_fold` needs to know of cells."""
    made = normalization()
    optics = {"channels": found.channels, "pixel_size_um": found.pixel_size_um}
    return {**optics, "normalization": made, "limits": grey_limits(found.wells, made, Cells())}


def key_rows(cells: pd.DataFrame) -> dict[str, Any]:
    """What a key must know of cells: which they are, their labels, and the hash of what their crops are read from."""
    told = cells.assign(input=input_hashes_of(cells)).drop(columns=["place", "folder"])
    return {str(name): values for name, values in told.astype(str).to_dict("list").items()}


def _wells(path: Path) -> pd.DataFrame:
    """Wells of a plate that have crops: Metadata_Plate, Metadata_Well, crops, folder."""
    is_plate = (path / "zarr.json").exists() or (path / ".zattrs").exists()
    folder = open_plate(path).folder if is_plate else path
    crops = sorted((folder / "crops").glob("*.zarr"), key=lambda p: well_order(p.stem))
    if not crops:
        made = "crop" if is_plate else "import_crops"
        raise InputError(f"{path}: no crops in {folder / 'crops'}; run: cellpheno {made} plate={path} ...")
    able = [p for p in crops if well_status(read_record(folder, p.stem))[0] in USABLE]
    if not able:
        raise InputError(f"{path}: none of the wells with crops came through the last import; see {folder}/status.csv")
    rows = [(read_attributes(p)["plate"], p.stem, str(p), str(folder)) for p in able]
    return pd.DataFrame(rows, columns=[PLATE, WELL, "place", "folder"])


def _same_optics(wells: pd.DataFrame) -> tuple[tuple[str, ...], float | None]:
    """Channels and pixel size, which must be the same in all wells."""
    about = {path: read_attributes(path) for path in wells["place"]}
    optics = {path: (tuple(a["channels"]), a.get("pixel_size_um")) for path, a in about.items()}
    first = optics[wells["place"].iloc[0]]
    differ = [f"{path}: channels {list(o[0])}, pixel size {o[1]} um" for path, o in optics.items() if o != first]
    if differ:
        told = f"{wells['place'].iloc[0]}: channels {list(first[0])}, pixel size {first[1]} um"
        raise InputError("crops that are trained on together must agree in channels and scale", told, *differ[:SHOWN])
    return first


def _imported(wells: pd.DataFrame, label: str) -> pd.DataFrame:
    """Cell tables that `import_crops` wrote, with their label."""
    tables, faults = [], []
    for folder, names in wells.groupby("folder", sort=False)[WELL]:
        for well in names:
            path = Path(str(folder)) / "cells" / f"{well}.parquet"
            table = pd.read_parquet(path) if path.is_file() else pd.DataFrame()
            column = _column(label)
            if column not in table:
                own = [str(c).removeprefix("Metadata_") for c in table if str(c).startswith("Metadata_")]
                own = [c for c in own if f"Metadata_{c}" not in CELL_KEYS]
                faults.append(
                    f"{path} has no label {label!r}; its columns: {', '.join(own) or 'none'}; set label=COLUMN, or "
                    "annotations=FILE for cells of a measured plate"
                )
                break
            metadata = [str(c) for c in table if str(c).startswith("Metadata_")]
            tables.append(table[metadata].assign(label=table[column].astype(str)))
    if faults:
        raise InputError(*faults)
    return pd.concat(tables, ignore_index=True)


def _annotated(path: Path, label: str) -> pd.DataFrame:
    """Rows of an annotation table as text, with whole numbers as site and object number."""
    headings, rows = read_text_table(path)
    own = label if label in headings else _column(label)
    wanted = {key.removeprefix("Metadata_").lower(): key for key in CELL_KEYS} | {"label": own}
    if faults := column_faults(path, headings, wanted):
        raise PlateError(*faults)
    faults, kept = [], []
    for line, row in rows:
        try:
            numbers = {key: int(row[key]) for key in (SITE, OBJECT)}
            kept.append({**row, **numbers, WELL: parse_well(row[WELL]), "label": row[own], "_line": line})
        except ValueError as error:
            faults.append(f"{path}, line {line}: {error}; wanted a well and whole numbers for site and object")
    table = pd.DataFrame(kept)
    if len(table):
        first = table.groupby(list(CELL_KEYS))["_line"].transform("min")
        twice = table[table["_line"] != first]
        faults += [
            f"{path}, line {row['_line']}: this cell stands in line {before} already"
            for row, before in zip(twice.to_dict("records"), first[twice.index], strict=True)
        ]
    if faults or table.empty:
        raise InputError(*faults[:SHOWN] or [f"{path}: no row below the heading"])
    names = {name: _column(name) for name in headings if name not in ("label", own)}
    table = table.rename(columns=names).drop(columns="_line")
    return table.assign(**{_column(own): table["label"]}).drop(columns=own if own in table and own != "label" else [])


def _column(name: str) -> str:
    return name if name.startswith("Metadata_") else f"Metadata_{name}"

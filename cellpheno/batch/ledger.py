"""The ledger: one JSON record a unit (a well of a plate, a fold of a run), rewritten whole as each step commits.

A record is the commit point: output without a record is redone. It holds, a step: the key, the status, messages that
name files, the manifest (size and SHA-256 of every file that the step wrote) and what later steps need to know.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.names import PLATE, WELL, well_order
from cellpheno.plates.commit import commit_file, hash_file

STATUSES = ("done", "warned", "partial", "quarantined", "missing", "excluded")  # from best to worst
USABLE = ("done", "warned", "partial")

Record = dict[str, Any]


def record_path(folder: Path, unit: str) -> Path:
    """Where a unit's record stands."""
    return folder / "ledger" / f"{unit}.json"


def read_record(folder: Path, unit: str) -> Record:
    """Steps of a unit by name; empty where nothing was committed yet."""
    path = record_path(folder, unit)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def commit_step(folder: Path, unit: str, step: str, entry: Mapping[str, Any]) -> None:
    """Write a step's entry into the unit's record, whole and at once."""
    record = {**read_record(folder, unit), step: dict(entry)}
    path = record_path(folder, unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    with commit_file(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def manifest(root: Path, files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files by their path under ``root``."""
    return {
        path.relative_to(root).as_posix(): {"size": path.stat().st_size, "sha256": hash_file(path)}
        for path in sorted(files)
    }


def is_done(entry: Mapping[str, Any] | None, key: str, root: Path) -> bool:
    """Whether a step stands committed under this key with all its files in place; what was set aside is tried again."""
    if not entry or entry["key"] != key or entry["status"] == "quarantined":
        return False
    return all(
        (root / name).is_file() and (root / name).stat().st_size == facts["size"]
        for name, facts in entry["files"].items()
    )


def input_hashes(record: Record, *steps: str) -> list[str]:
    """Content hashes of what earlier steps wrote: the inputs of a later step's key."""
    return sorted({facts["sha256"] for step in steps for facts in record.get(step, {}).get("files", {}).values()})


def verify(folder: Path, root: Path) -> list[str]:
    """Compare every file that the ledger lists with its hash.

    Returns
    -------
    list of str
        One line a fault: the unit, the file, and whether it is missing or changed.
    """
    faults = []
    for path in sorted((folder / "ledger").glob("*.json")):
        for step, entry in read_record(folder, path.stem).items():
            for name, facts in entry["files"].items():
                if not (root / name).is_file():
                    faults.append(f"{path.stem}: {name} is missing; run {step} again")
                elif hash_file(root / name) != facts["sha256"]:
                    faults.append(f"{path.stem}: {name} has changed since {step} wrote it; run {step} again")
    return faults


def well_status(record: Record) -> tuple[str, list[str]]:
    """Worst status over a well's steps and all its messages."""
    entries = list(record.values())
    if not entries:
        return "missing", ["no image of this well"]
    return max((e["status"] for e in entries), key=STATUSES.index), [m for e in entries for m in e["messages"]]


def status_table(folder: Path, plate: str, planned: Sequence[str]) -> pd.DataFrame:
    """Every planned or recorded well exactly once, with its status, field and cell counts and messages.

    Parameters
    ----------
    folder : Path
        The plate's folder (``P1/`` beside ``P1.zarr``).
    plate : str
        Name of the plate.
    planned : sequence of str
        Wells of the plate map; wells with images are found in the ledger.
    """
    recorded = [path.stem for path in (folder / "ledger").glob("*.json")]
    rows = []
    for well in sorted({*planned, *recorded}, key=well_order):
        record = read_record(folder, well)
        status, messages = well_status(record)
        facts = {k: v for step in record.values() for k, v in step["facts"].items() if k in ("n_fields", "n_cells")}
        rows.append({PLATE: plate, WELL: well, "status": status, **facts, "messages": "; ".join(messages)})
    table = pd.DataFrame(rows, columns=[PLATE, WELL, "status", "n_fields", "n_cells", "messages"])
    return table.astype({"n_fields": "Int64", "n_cells": "Int64"})

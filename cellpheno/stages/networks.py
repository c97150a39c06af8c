"""The networks of a contest: who takes part, and what their folds chose."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.compare.predictions import OUT_OF_FOLD
from cellpheno.compare.strict_splits import UNSCORED
from cellpheno.compare.tuning import COLUMNS
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.plates.commit import hash_file
from cellpheno.stages.run_folder import PREDICTIONS, SEEN_BEFORE, TUNING, contestant_folder, fold_models, read_csv
from cellpheno.training.checkpoint import read_card

HELD = ["split", "repeat", "fold", PLATE, WELL]


def contest_networks(output: Path, own: str, contestants: Mapping[str, Any], folds: pd.DataFrame) -> dict[str, Path]:
    """Folders of the networks that take part: the run's own, where it was trained, and those beside it.

    Raises
    ------
    InputError
        If one of them has not predicted, or other wells than each fold holds out, or two share a name.
    """
    folders = {name: contestant_folder(output, name) for name in contestants}
    if (output / PREDICTIONS).is_file() or fold_models(output, folds):
        if own in folders:
            raise InputError(f"contestant={own}: a contestant of contestants has that name too; give another")
        folders = {own: output, **folders}
    faults, asked = [], _held_out(folds[folds["fold"] != UNSCORED])
    for name, folder in folders.items():
        if not (folder / PREDICTIONS).is_file():
            faults.append(f"contestant {name} has no predictions in {folder}; run: cellpheno run steps=[train,predict]")
            continue
        rows = pd.read_parquet(folder / PREDICTIONS, columns=["role", *HELD])
        found = _held_out(rows[rows["role"] == OUT_OF_FOLD])
        if found != asked:
            told = f"{len(asked - found)} of {len(asked)} held-out wells lack, {len(found - asked)} are of other folds"
            faults.append(
                f"contestant {name} was trained on other folds ({folder}): {told}; train it again and predict"
            )
    if faults:
        raise InputError(*faults)
    return folders


def _held_out(rows: pd.DataFrame) -> set[tuple[Any, ...]]:
    """Split, repeat, fold and well of each row."""
    return set(rows[HELD].astype({"repeat": int, "fold": int}).itertuples(index=False, name=None))


def network_hashes(folder: Path, folds: pd.DataFrame) -> list[Any]:
    """What the predictions of a network and its choices rest on."""
    models = fold_models(folder, folds).values()
    files = [path for model in models for name in (TUNING, SEEN_BEFORE) if (path := model / name).is_file()]
    return [hash_file(path) for path in (folder / PREDICTIONS, *files)]


def seen_messages(folder: Path, folds: pd.DataFrame, name: str) -> list[str]:
    """Say that what a network started from had seen wells which its folds hold out, where that was allowed."""
    held = folds.astype({"repeat": int, "fold": int})
    wells: set[tuple[str, str]] = set()
    unknown = False
    for place, model in fold_models(folder, folds).items():
        if (path := model / SEEN_BEFORE).is_file():
            own = held[(held[["split", "repeat", "fold"]] == list(place)).all(axis=1)]
            wells |= set(own.merge(read_csv(path))[[PLATE, WELL]].itertuples(index=False, name=None))
        elif read_card(model).get("training", {}).get("start") is not None:
            unknown = True
    told = f"{name}: {len(wells)} of its held-out wells had been seen by the model from which it started"
    told = f"{name}: which wells the model from which it started has seen is not known" if unknown else told
    return [f"{told}; its scores may say too much"] if wells or unknown else []


def network_tuning(folder: Path, folds: pd.DataFrame, name: str) -> pd.DataFrame:
    """What a network's folds chose among; empty where its models were made elsewhere."""
    tables = []
    for place, model in fold_models(folder, folds).items():
        if (path := model / TUNING).is_file():
            table = pd.read_csv(path, keep_default_na=False, na_values={"inner_score": [""]})
            tables.append(table.assign(contestant=name, **place._asdict())[COLUMNS])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)

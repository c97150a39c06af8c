"""The folder of a run, read into tables; what is optional and absent is None or empty."""

import contextlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cellpheno.classes import JUNK, SEVERAL, called_classes, label_parts
from cellpheno.compare.confounding import COUNTS, LAYOUT, NUMBER, PLACE
from cellpheno.compare.predictions import mean_over_repeats, probabilities
from cellpheno.compare.strict_splits import each_fold, fold_name
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.plates.commit import hash_file

TEXT = {"contestant", "reference", "split", "role", "true", "pred", "label", "status", "messages"} | {
    *("metric", "class", "unit", "verdict", "note", "group", "kind", "message", "settings", "feature")
}
WHOLE = ("n", "n_unit", "n_cells", "n_fields", "repeat", "fold", "epoch", "Metadata_Site", "Metadata_ObjectNumber")
NEEDED = {"wells": [PLATE, WELL, "label", "status"], "predictions": ["contestant", "split", "role", "true", "pred"]}


class Run(NamedTuple):
    """The tables of one experiment, each as its file has it."""

    folder: Path
    wells: pd.DataFrame
    predictions: pd.DataFrame
    folds: pd.DataFrame | None
    scores: pd.DataFrame | None
    scores_with_cells: pd.DataFrame | None  # without the wells that have no cell; None where all have some
    differences: pd.DataFrame | None
    class_differences: pd.DataFrame | None
    instances: pd.DataFrame | None
    assay: pd.DataFrame | None
    dose: pd.DataFrame | None
    tuning: pd.DataFrame | None
    features: pd.DataFrame | None
    learning_curve: pd.DataFrame | None
    matching: pd.DataFrame | None
    messages: list[str]  # what the contest had to say, such as wells without features
    both_sides: list[str]  # which compounds stand on both sides of a fold, a sentence a split
    looks_at: dict[str, str]  # what each contestant looks at, as contestants.csv tells it; empty where it is absent
    kinds: dict[str, str]  # of each class, as classes.csv tells it; empty where it is absent: one class a well
    histories: dict[str, dict[str, pd.DataFrame]]  # split, then fold
    cards: dict[str, dict[str, Any]]  # of each trained model, by split/fold
    config: dict[str, str]  # text of each resolved configuration, by file
    hashes: dict[str, str]  # sha256 of each file that was read

    @property
    def classes(self) -> list[str]:
        """Classes in the order of the models."""
        return [str(name).removeprefix("prob_") for name in self.predictions if str(name).startswith("prob_")]

    @property
    def answers(self) -> list[str]:
        """The classes without junk: those that are scored."""
        return [name for name in self.classes if self.kinds.get(name) != JUNK]

    @property
    def multilabel(self) -> bool:
        """Whether a well may have several classes."""
        return SEVERAL in self.kinds.values()

    @property
    def labels(self) -> list[str]:
        """The classes; where a well may have several, the sets of classes that the wells have."""
        return sorted(set(self.wells["label"]) - {""}) if self.multilabel else self.classes

    @property
    def places(self) -> list[str]:
        """Contestants that know where a well stands and nothing of its cells."""
        return self._that_look_at(PLACE, LAYOUT)

    @property
    def numbers(self) -> list[str]:
        """Contestants that know one number of a well, such as its count of cells."""
        return self._that_look_at(NUMBER, COUNTS)

    def _that_look_at(self, what: str, known: Iterable[str]) -> list[str]:
        """Contestants by what they look at; where the run does not tell, by their names."""
        return [name for name in self.contestants if self.looks_at.get(name, what if name in known else "") == what]

    @property
    def controls(self) -> list[str]:
        """Contestants that know nothing of what a cell looks like."""
        return [*self.numbers, *(name for name in self.contestants if name == "mean_intensity"), *self.places]

    @property
    def contestants(self) -> list[str]:
        """All of them, networks first."""
        return list(dict.fromkeys(self.predictions["contestant"]))

    @property
    def networks(self) -> list[str]:
        """Contestants that are networks, the run's own first."""
        own = {"mil", *([] if self.instances is None else self.instances["contestant"])}
        return [name for name in self.contestants if name in own or (self.folder / "contestants" / name).is_dir()]

    def labelled(self) -> "pd.Series[int]":
        """Count the labelled wells of each class."""
        named = [part for label in self.wells["label"] for part in label_parts(label, self.multilabel)]
        return pd.Series(named, dtype=object).value_counts()


def read_run(folder: Path | str) -> Run:
    """Read what there is of a run.

    Parameters
    ----------
    folder : path
        ``runs/<experiment>``, with wells.csv and predictions.parquet (or .csv) at least.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If a needed table or one of its columns is missing; all faults at once.
    """
    folder = Path(folder)
    names = ["wells", "predictions", "folds", "scores", "differences", "instances", "assay", "dose"]
    names += [
        "class_differences",
        "contestants",
        "tuning",
        "features",
        "learning_curve",
        "matching_scores",
        "messages",
        "both_sides",
        "scores_with_cells",
    ]
    paths = {name: path for name in names if (path := _path(folder, name))}
    tables: dict[str, Any] = {name: read_table(path) for name, path in paths.items()}
    faults = [
        f"{folder}: no {name}.csv or {name}.parquet; run `cellpheno compare`" for name in NEEDED if name not in tables
    ]
    for name, wanted in NEEDED.items():
        if name in tables and (lost := [column for column in wanted if column not in tables[name]]):
            faults.append(f"{paths[name]}: no column {lost}; the report needs {wanted}")
    if faults:
        raise InputError(*faults)
    splits = {split: i for i, split in enumerate(tables.get("folds", tables["predictions"])["split"].unique())}
    for name, table in tables.items():  # all sections follow the order in which the splits were asked for
        if "split" in table:
            tables[name] = table.sort_values("split", key=lambda names: names.map(splits), kind="stable")
    kinds = read_table(folder / "classes.csv") if (folder / "classes.csv").is_file() else None
    known = {fold_name(*place) for place, _ in each_fold(tables["folds"])} if "folds" in tables else None
    models = sorted((folder / "models").glob("*/*/"))
    models = [m for m in models if known is None or f"{m.parent.name}/{m.name}" in known]  # others are of other folds
    histories: dict[str, dict[str, pd.DataFrame]] = {}
    for model in models:
        if (model / "history.csv").is_file():
            histories.setdefault(model.parent.name, {})[model.name] = read_table(model / "history.csv")
    cards = {f"{m.parent.name}/{m.name}": m / "card.json" for m in models if (m / "card.json").is_file()}
    config = [*folder.glob("config.yaml"), *sorted((folder / "config").glob("*.yaml"))]
    read = [*paths.values(), *cards.values(), *config]
    return Run(
        folder,
        wells=tables["wells"],
        predictions=tables["predictions"],
        folds=tables.get("folds"),
        scores=tables.get("scores"),
        scores_with_cells=tables.get("scores_with_cells"),
        differences=tables.get("differences"),
        class_differences=tables.get("class_differences"),
        instances=tables.get("instances"),
        assay=tables.get("assay"),
        dose=tables.get("dose"),
        tuning=tables.get("tuning"),
        features=tables.get("features"),
        learning_curve=tables.get("learning_curve"),
        matching=tables.get("matching_scores"),
        messages=tables["messages"]["message"].tolist() if "messages" in tables else [],
        both_sides=tables["both_sides"]["note"].tolist() if "both_sides" in tables else [],
        looks_at=dict(zip(looks["contestant"], looks["kind"], strict=True))
        if (looks := tables.get("contestants")) is not None
        else {},
        kinds={} if kinds is None else dict(zip(kinds["class"], kinds["kind"], strict=True)),
        histories=histories,
        cards={name: json.loads(path.read_text("utf-8")) for name, path in cards.items()},
        config={path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in config},
        hashes={path.relative_to(folder).as_posix(): hash_file(path) for path in read},
    )


def _path(folder: Path, name: str) -> Path | None:
    return next((p for suffix in ("parquet", "csv") if (p := folder / f"{name}.{suffix}").is_file()), None)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table; names stay as typed (a compound may be called ``NA`` or ``007``), an absent text is empty.

    Parameters
    ----------
    path : path
        A .csv or .parquet file.

    Returns
    -------
    DataFrame
    """
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
    else:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    for column in table:
        name = str(column)
        if name in TEXT or (name.startswith("Metadata_") and name not in WHOLE):
            values = table[column].astype(object)
            table[column] = values.where(values.notna(), "").astype(str)
        elif not pd.api.types.is_numeric_dtype(table[column]):
            with contextlib.suppress(ValueError):  # a column of words stays one
                table[column] = pd.to_numeric(table[column].where(table[column] != ""))
    return table


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as plain dicts."""
    return [{str(column): value for column, value in row.items()} for row in table.to_dict("records")]


def stated(run: Run, key: str) -> list[str]:
    """What a run says of one of its keys: in its configuration, else on its models' cards; empty where neither does."""
    lines = [re.findall(rf"^{key}:[ ]*(\S.*?)[ ]*$", text, re.MULTILINE) for text in run.config.values()]
    told = {value.strip("'\"") for found in lines for value in found} - {"null"}
    told = told or {str(card[key]) for card in run.cards.values() if key in card}
    return sorted(told) if len(told) <= 3 else [f"{len(told)} {key}s"]  # each model has a seed of its own


def seed_of(run: Run) -> str:
    """Find the seed of a run; empty where nothing says it."""
    return ", ".join(stated(run, "seed"))


def one_row_a_well(predictions: pd.DataFrame, classes: list[str], multilabel: bool = False) -> pd.DataFrame:
    """Join the repeats of a cross-validation: the mean logit of a well, and what it predicts.

    Parameters
    ----------
    predictions : DataFrame
        As in predictions.csv.
    classes : list of str
    multilabel : bool
        A well may have several classes.

    Returns
    -------
    DataFrame, a row a contestant, split, role and well
    """
    if not predictions.duplicated(["contestant", "split", "role", PLATE, WELL]).any():
        return predictions.reset_index(drop=True)
    joined = mean_over_repeats(predictions, classes)
    logits = joined[[f"logit_{name}" for name in classes]].to_numpy()  # (B, K)
    joined[[f"prob_{name}" for name in classes]] = probabilities(logits, multilabel)
    return joined.assign(pred=called_classes(logits, classes, multilabel))

"""The folder of a run: its tables, and the plan of which well is held out when."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd

from cellpheno.bounds import Listed
from cellpheno.classes import JUNK, ONE, SEVERAL
from cellpheno.compare.leaks import IMAGE, both_sides, compound_column, leaks
from cellpheno.compare.splits import assign_folds
from cellpheno.compare.strict_splits import Place, each_fold, fold_name
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.plates.commit import commit_file
from cellpheno.stages.same_images import HASH, HASH_DIGITS, list_pictures, shared_images
from cellpheno.stages.wells import Classes, class_names, usable, well_table
from cellpheno.training.checkpoint import CARD

Splits = Annotated[Mapping[str, Callable[..., pd.DataFrame]], Listed()]
PREDICTIONS = "predictions-mil.parquet"  # of a network, in its folder
TUNING = "tuning.csv"  # beside each model: what its fold chose among
PICTURES = "pictures.csv"  # hashes of the pictures of a run's wells, so that they are known under other names
TRAINED_ON = "trained_on.csv"  # beside each model: the wells that taught it
SEEN_BEFORE = "seen_before.csv"  # beside a model that started from another: the wells which that one had seen


class Plan(NamedTuple):
    """Wells, folds and classes of a run."""

    wells: pd.DataFrame  # every well, usable or not
    usable: pd.DataFrame  # wells that have numbers
    folds: pd.DataFrame  # the fold in which each labelled usable well is held out
    classes: list[str]
    not_trained: frozenset[tuple[str, str]]  # labelled wells that lost a field: predicted, not trained on
    multilabel: bool  # a well may have several classes
    junk: list[str]  # classes that are learned but are no answer to the question
    both_sides: pd.DataFrame  # compounds that are on both sides of a fold
    pictures: pd.DataFrame  # of the usable wells, with the hash of their content


def plan_run(
    plates: Sequence[Path],
    label: str,
    classes: Classes,
    split: Splits,
    seed: int,
    train_on_partial: bool,
    label_separator: str | None = None,
    junk: Sequence[str] = (),
    no_leak: Sequence[str] = (),
    compound: str | None = None,
) -> Plan:
    """Decide which wells are compared and which is held out when.

    The same inputs give the same plan, so every step of a run makes it for itself; `write_plan` keeps it.

    Raises
    ------
    InputError
        As `well_table` and `assign_folds`, or where something of ``no_leak`` is on both sides of a fold, or the
        plate map has no column ``compound``.
    """
    multilabel = label_separator is not None
    wells = well_table(plates, label, classes, label_separator)
    names = class_names(wells, classes, multilabel)
    _check_junk(junk, names, multilabel)
    able = usable(wells)
    folds = assign_folds(able, split, seed, multilabel=multilabel)
    drug = compound_column(able, compound, label)
    pictures = list_pictures(able)
    if faults := leaks(able, folds, no_leak, shared_images(pictures) if IMAGE in no_leak else {}, drug):
        raise InputError(*faults)
    partial = able[(able["status"] == "partial") & (able["label"] != "")] if not train_on_partial else able.iloc[:0]
    spared = frozenset(zip(partial[PLATE], partial[WELL], strict=True))
    compounds = both_sides(able, folds, drug, label)
    return Plan(wells, able, folds, names, spared, multilabel, list(junk), compounds, pictures)


def write_plan(plan: Plan, output: Path) -> None:
    """Write ``wells.csv, folds.csv, both_sides.csv, classes.csv, pictures.csv``, once nothing is refused any more."""
    write_csv(plan.wells.drop(columns="folder"), output / "wells.csv")
    write_csv(plan.folds, output / "folds.csv")
    write_csv(plan.both_sides, output / "both_sides.csv")
    kinds = [JUNK if name in plan.junk else SEVERAL if plan.multilabel else ONE for name in plan.classes]
    write_csv(pd.DataFrame({"class": plan.classes, "kind": kinds}), output / "classes.csv")
    short = plan.pictures[HASH].str[:HASH_DIGITS]
    write_csv(plan.pictures[[PLATE, WELL]].assign(**{HASH: short}), output / PICTURES)


def teaching(wells: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Wells that models may learn from: labelled, and not spared for a lost field."""
    spared = pd.MultiIndex.from_frame(wells[[PLATE, WELL]]).isin(list(plan.not_trained))
    return wells[(wells["label"] != "") & ~spared]


def _check_junk(junk: Sequence[str], classes: Sequence[str], multilabel: bool) -> None:
    """Refuse junk that is no class, that leaves no question, or that stands beside other classes in a well."""
    faults = [
        f"junk {name!r} is no class; the classes are {', '.join(classes)}" for name in junk if name not in classes
    ]
    if junk and multilabel:
        faults.append(
            f"junk={list(junk)} with label_separator: a well of several classes is not junk as a whole; use one"
        )
    if junk and len(set(classes) - set(junk)) < 2:
        faults.append(f"junk={list(junk)} leaves fewer than two of the classes {', '.join(classes)} to tell apart")
    if faults:
        raise InputError(*faults)


def taken(output: Path, step: str, what: str) -> list[str]:
    """Say so where a folder holds models of another step, ``what`` it calls them."""
    if any((output / "ledger").glob(f"{step}-*.json")):
        return [f"output={output} holds models of {what}, which stand at the same places; give another output"]
    return []


def model_files(folder: Path) -> list[Path]:
    """Files of a trained model; what a logger wrote beside it is no result."""
    return [path for path in folder.rglob("*") if path.is_file() and "log" not in path.relative_to(folder).parts]


def contestant_folder(output: Path, name: str) -> Path:
    """Where a run keeps the models and predictions of a contestant besides its own model."""
    return output / "contestants" / name


def curve_folder(output: Path, wells_per_class: int) -> Path:
    """Where a run keeps its contest on so many training wells of each class."""
    return output / "learning_curve" / f"{wells_per_class}_wells"


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV, whole or not at all."""
    with commit_file(path) as temporary:
        table.to_csv(temporary, index=False)
    return path


def write_parquet(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as Parquet, whole or not at all."""
    with commit_file(path) as temporary:
        table.to_parquet(temporary, index=False)
    return path


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table of a run as text: names stay as typed."""
    if not path.is_file():
        raise InputError(f"{path} is not there; run: cellpheno train output={path.parent} ...")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def fold_models(models: Path, folds: pd.DataFrame) -> dict[Place, Path]:
    """Folder of the model of each fold (split, repeat, fold) of a fold table that has one; others are of other folds.

    Parameters
    ----------
    models : Path
        A run's folder.
    folds : DataFrame
        Its folds.csv.
    """
    numbered = folds.astype({"repeat": int, "fold": int})
    found = {place: models / "models" / fold_name(*place) for place, _ in each_fold(numbered)}
    return {place: folder for place, folder in found.items() if (folder / CARD).is_file()}


def split_groups(split: Splits) -> dict[str, str | None]:
    """Column that each split holds out as a whole; none where it deals single wells.

    Of a split that holds out several columns it is the first: the choice of configurations sets its values aside whole.

    Examples
    --------
    >>> from cellpheno.compare.splits import by_group, by_well
    >>> from cellpheno.compare.strict_splits import by_combination
    >>> import functools
    >>> both = functools.partial(by_combination, groups=["Metadata_compound", "Metadata_week"])
    >>> plate = functools.partial(by_group, group="Metadata_Plate")
    >>> split_groups({"by_well": by_well, "by_plate": plate, "both": both})
    {'by_well': None, 'by_plate': 'Metadata_Plate', 'both': 'Metadata_compound'}
    """
    found: dict[str, str | None] = {}
    for name, make in split.items():
        parameters = inspect.signature(make).parameters
        given = [parameters[key].default for key in ("group", "groups", "column") if key in parameters]
        found[name] = None if not given else str(given[0] if isinstance(given[0], str) else given[0][0])
    return found

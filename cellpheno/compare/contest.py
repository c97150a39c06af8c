"""The contest of the baselines: each is fitted in every fold, on the same wells and tuned alike."""

import functools
import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.classes import unknown_classes
from cellpheno.compare.importance import Fitted, fold_importance, importance_table
from cellpheno.compare.learning import fewer_wells
from cellpheno.compare.predictions import NEW, OUT_OF_FOLD, prediction_rows
from cellpheno.compare.splits import LABEL
from cellpheno.compare.strict_splits import Place, each_fold, training_wells
from cellpheno.compare.tuning import COLUMNS, Baseline, choose, fold_seed, inner_wells
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.profiles.aggregate import COUNT


class Answers(NamedTuple):
    """What the baselines said, and how each came to its configuration."""

    predictions: pd.DataFrame  # the prediction table
    tuning: pd.DataFrame  # a row a contestant, split, repeat, fold and configuration
    features: pd.DataFrame  # how much each contestant rests on each feature; empty where it was not asked


class Fold(NamedTuple):
    """The wells of a fold, the same for every baseline."""

    place: Place
    seed: int
    held: pd.DataFrame
    train: pd.DataFrame
    inner: pd.DataFrame  # training wells that choose the configuration
    why_none: str  # are set aside to choose


def contest(
    wells: pd.DataFrame,
    features: pd.DataFrame,
    folds: pd.DataFrame,
    baselines: Mapping[str, Baseline],
    classes: Sequence[str],
    seed: int,
    not_trained: Collection[tuple[str, str]] = (),
    multilabel: bool = False,
    *,
    tuning: float = 0.0,
    groups: Mapping[str, str | None] | None = None,
    wells_per_class: int | None = None,
    explain: bool = False,
) -> Answers:
    """Fit every baseline in every fold, each with the configuration that is best on training wells set aside.

    Parameters
    ----------
    wells : DataFrame, a row a well
        ``Metadata_Plate``, ``Metadata_Well``, ``label`` (empty: new).
    features : DataFrame, a row a well
        As from `cellpheno.profiles.aggregate.aggregate`, for every well of ``wells``.
    folds : DataFrame
        As from `cellpheno.compare.splits.assign_folds`.
    baselines : mapping of name to callable
    classes : sequence of str
    seed : int
    not_trained : collection of (plate, well)
        Labelled wells that are predicted but never trained on, such as those that lost a field.
    multilabel : bool
        A well may have several classes.
    tuning : float
        Fraction of a fold's training wells that choose the configuration; 0: the first counts.
    groups : mapping of split to column, optional
        What a split holds out as a whole is set aside as a whole.
    wells_per_class : int, optional
        Train on so many wells of each class (`cellpheno.compare.learning.fewer_wells`).
    explain : bool
        Measure how much each contestant rests on each of its features.

    Returns
    -------
    Answers
        ``predictions`` (out of fold of the labelled wells, and the folds' mean of the new ones), ``tuning`` and
        ``features``.

    Raises
    ------
    InputError
        With all faults: wells without features or fold, folds of unknown wells, labels of unknown classes.
    """
    _check(wells, features, folds, classes, multilabel)
    table = _joined(wells, features)
    new = table[table[LABEL] == ""]
    spared = table.index.isin(list(not_trained))
    parts: list[pd.DataFrame] = []
    tried: list[pd.DataFrame] = []
    shown: list[pd.DataFrame] = []
    for split, split_folds in folds.groupby("split", sort=False):
        group = (groups or {}).get(str(split))
        deal = functools.partial(_deal, table, spared, split_folds, seed, wells_per_class, tuning, group, multilabel)
        for name, baseline in baselines.items():
            about: dict[str, Any] = {"contestant": name, "multilabel": multilabel}
            of_new: list[NDArray[np.float64]] = []
            for fold in deal():  # anew: all folds at once would be as many copies of the table
                test = pd.concat([fold.held, new])
                logits, rows, fitted = _fit(baseline, fold, test, classes, multilabel, explain)
                where: dict[str, Any] = fold.place._asdict()
                for one in fitted:
                    rise = fold_importance(one, test[LABEL], classes, multilabel, fold.seed)
                    shown.append(rise.assign(contestant=name, split=str(split)))
                tried.append(rows.assign(contestant=name, **where))
                own = logits[: len(fold.held)]
                parts.append(prediction_rows(fold.held, own, classes, role=OUT_OF_FOLD, **where, **about))
                of_new.append(logits[len(fold.held) :])
            if len(new):
                mean = np.mean(of_new, axis=0)
                parts.append(prediction_rows(new, mean, classes, role=NEW, split=str(split), **about))
    tuned = pd.concat(tried, ignore_index=True)[COLUMNS]
    return Answers(pd.concat(parts, ignore_index=True), tuned, importance_table(shown))


def _joined(wells: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """Wells with their features, by plate and well."""
    extra = [column for column in features.columns if column not in wells.columns or column in (PLATE, WELL)]
    table = wells.merge(features[extra], on=[PLATE, WELL], how="left", validate="one_to_one")
    table = table.sort_values([PLATE, WELL])  # a fit may depend on the order of wells in its last bit
    table = table.assign(n_cells=table[COUNT], **{LABEL: table[LABEL].fillna("")})
    table.index = pd.MultiIndex.from_frame(table[[PLATE, WELL]], names=[None, None])
    return table


def _deal(
    table: pd.DataFrame,
    spared: NDArray[np.bool_],
    folds: pd.DataFrame,
    seed: int,
    wells_per_class: int | None,
    tuning: float,
    group: str | None,
    multilabel: bool,
) -> Iterator[Fold]:
    """Wells of each fold of one split."""
    for place, held in each_fold(folds):
        own_seed = fold_seed(seed, *place)
        here = table.index.isin(pd.MultiIndex.from_frame(held[[PLATE, WELL]]))
        train = table[training_wells(table, held) & ~spared & (table[LABEL] != "")]
        train = fewer_wells(train, wells_per_class, own_seed, (train[COUNT] != 0).to_numpy())
        inner, why_none = inner_wells(train[train[COUNT] != 0], tuning, own_seed, group, multilabel)
        yield Fold(place, own_seed, table[here], train, inner, why_none)


def _fit(
    baseline: Baseline, fold: Fold, test: pd.DataFrame, classes: Sequence[str], multilabel: bool, explain: bool
) -> tuple[NDArray[np.float64], pd.DataFrame, list[Fitted]]:
    """Logits (n, K) of the test wells, what was tried, and the fit where it can be shown."""
    options: dict[str, Any] = {"seed": fold.seed, **({"multilabel": True} if multilabel else {})}
    rows = choose(baseline, fold.train, fold.inner, fold.why_none, classes, **options)
    best = int(rows["chosen"].to_numpy().argmax())
    options |= {"configuration": best} if best else {}  # without a grid there is none to name
    fitted: list[Fitted] = []
    if explain and "explain" in inspect.signature(baseline).parameters:
        options["explain"] = fitted.append
    return baseline(fold.train, test, classes=classes, **options), rows, fitted


def _check(
    wells: pd.DataFrame, features: pd.DataFrame, folds: pd.DataFrame, classes: Sequence[str], multilabel: bool
) -> None:
    keys = [PLATE, WELL]
    faults: list[str] = []
    for what, table in (("wells", wells), ("well features", features)):
        faults += [f"{what}: {p} {w} is listed twice" for p, w in table.loc[table.duplicated(keys), keys].to_numpy()]
    labels = wells[LABEL].fillna("")
    known, measured = set(map(tuple, wells[keys].to_numpy())), set(map(tuple, features[keys].to_numpy()))
    labelled = set(map(tuple, wells.loc[labels != "", keys].to_numpy()))
    faults += [f"well features: no row for {p} {w}; aggregate with the list of wells" for p, w in known - measured]
    for split, rows in folds.groupby("split"):
        held = set(map(tuple, rows[keys].to_numpy()))
        faults += [f"split {split}: {p} {w} has no fold" for p, w in labelled - held]
        faults += [f"split {split}: {p} {w} has a fold but is no labelled well" for p, w in held - labelled]
    faults += [
        f"label {name!r}: the classes are {list(classes)}" for name in unknown_classes(labels, classes, multilabel)
    ]
    if faults:
        raise InputError(*sorted(faults))

"""New plates whose labels are known: what a run's contestants say of them, beside what its folds promised."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.bounds import Listed, Range
from cellpheno.classes import JUNK, SEVERAL, join_classes, label_parts
from cellpheno.compare.leaks import IMAGE, compound_column
from cellpheno.compare.predictions import NEW, OUT_OF_FOLD
from cellpheno.compare.statistics import differences, scores
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.plates.commit import hash_file
from cellpheno.report.run import records
from cellpheno.report.summary import main_metric, told_score
from cellpheno.report.words import metric
from cellpheno.stages.run_folder import PICTURES, PREDICTIONS, contestant_folder, fold_models, read_csv, write_csv
from cellpheno.stages.same_images import HASH, HASH_DIGITS, list_pictures, with_content
from cellpheno.stages.start import check_seen, seen_wells
from cellpheno.stages.wells import Classes, usable, well_table

KEYS = ["contestant", "split", "metric", "class"]
PROMISES = {"value": "promised", "low": "promised_low", "high": "promised_high"}
BASELINES = "predictions-baselines.parquet"
PROMISED = "predictions.parquet"  # of the run, out of fold

log = logging.getLogger("cellpheno")


def score_new(
    plates: Annotated[Sequence[Path], Listed()],
    output: Path,
    models: Path,
    engine: Callable[..., Outcome],
    contestants: Mapping[str, Any] = {},
    contestant: str = "mil",
    label: str = "label",
    classes: Classes = None,
    label_separator: str | None = None,
    no_leak: Annotated[Sequence[str], Listed(empty=True)] = ("image", "compound"),
    compound: str | None = None,
    reference: str = "engineered",
    unit: str = "well",
    n_bootstrap: Annotated[int, Range(40)] = 2000,
    seed: Annotated[int, Range(0)] = 1,
) -> Outcome:
    """Score what predict and predict_baselines said of new plates, beside what the run's cross-validation promised.

    Parameters
    ----------
    plates : sequence of Path
        OME-Zarr plates that the run has not seen, with labels in their plate maps.
    output : Path
        Where predict and predict_baselines wrote what they said of these plates.
    models : Path
        The run that predicted.
    engine : callable
        Where the work runs.
    contestants : mapping
        Networks of the run besides its own, by name.
    contestant : str
        Name of the run's own network in the tables.
    label : str
        Column of the plate map that holds the class.
    classes : sequence or mapping, optional
        Class names, or class: value; null: the values are the run's classes. A well of no class of the run is left out.
    label_separator : str, optional
        Text between the classes of a well in several, such as "|"; null: one class a well.
    no_leak : sequence of str
        With image, wells that a model has seen, in a training or before it, are refused, also under other names.
    compound : str, optional
        Column of the plate map that names it; null: one called compound, treatment or drug, unless it holds the class.
    reference : str
        The contestant with which the others are compared.
    unit : str
        What the intervals resample: well, or a column such as Metadata_Plate.
    n_bootstrap : int
        Resamples behind each interval.
    seed : int
        Of the resamples.
    """
    kinds = read_csv(models / "classes.csv")
    names, multilabel = kinds["class"].tolist(), SEVERAL in set(kinds["kind"])
    if multilabel != (label_separator is not None):
        way = "set label_separator as in its training" if multilabel else "label_separator=null"
        raise InputError(f"models={models} tells {'several classes' if multilabel else 'one class'} a well: {way}")
    wells = _labelled(plates, label, classes, label_separator, names)
    said = _said(output, contestant, contestants)
    trained = read_csv(models / "wells.csv")
    wells, messages = _new(wells, trained, compound_column(wells, compound, label))
    _check_pictures(models, trained, wells, no_leak)
    for folder in (models, *(contestant_folder(models, name) for name in contestants)):
        _check_models(folder, wells, no_leak)
    if lacking := [] if multilabel else [name for name in names if name not in set(wells["label"])]:
        messages += [f"no new well is {', '.join(lacking)}: both scores are over the other classes"]
    about = {"unit": unit, "n_bootstrap": n_bootstrap, "seed": seed, "multilabel": multilabel}
    about |= {"junk": kinds.loc[kinds["kind"] == JUNK, "class"].tolist()}
    work = functools.partial(_score, wells, said, models, output, names, reference, about, messages)
    promise = models / PROMISED
    key = make_key(
        "score_new",
        wells=wells.drop(columns="folder").astype(str).to_dict("list"),
        said={name: hash_file(path) for name, path in said.items()},
        promised=hash_file(promise) if promise.is_file() else None,
        settings=[names, reference, about],
        messages=messages,
    )
    outcome = engine("score_new", [Job("score_new", key, work)], folder=output, root=output)
    if not outcome.left_out and not outcome.bugs:
        _say(output, messages)
    return outcome._replace(path=output / "scores-new.csv")


def _labelled(
    plates: Sequence[Path], label: str, classes: Classes, separator: str | None, known: Sequence[str]
) -> pd.DataFrame:
    """Usable wells whose label is a class of the run; new plates need not hold all of them."""
    wells = usable(well_table(plates, label, None, separator))
    if unknown := [name for name in classes or () if name not in known]:
        raise InputError(
            f"classes: the models were trained with {list(known)}, asked for are {unknown} too; leave them out"
        )
    given = classes if isinstance(classes, Mapping) else {name: name for name in known}
    names = {value: name for name, value in given.items()}

    def read(text: str) -> str:
        parts = {names.get(part) for part in label_parts(text, separator is not None)}
        if text == "" or not parts <= set(known):
            return ""
        return str(parts.pop()) if separator is None else join_classes([name in parts for name in known], known)

    read_labels = wells["label"].map(read)
    strange = sorted(set(wells.loc[read_labels == "", "label"]) - {""})
    if strange:
        log.info("%s: no class of the run, such wells are left out", ", ".join(strange))
    found = wells.assign(label=read_labels)[read_labels != ""].reset_index(drop=True)
    if found.empty:
        raise InputError(f"no usable well of these plates has a class of the run ({', '.join(known)}) in {label}")
    return found


def _said(output: Path, own: str, contestants: Mapping[str, Any]) -> dict[str, Path]:
    """Tables of what was said of the new plates: of each network, and of the baselines together."""
    beside = {name: contestant_folder(output, name) / PREDICTIONS for name in contestants}
    places = {own: output / PREDICTIONS, **beside, "baselines": output / BASELINES}
    found = {name: path for name, path in places.items() if path.is_file()}
    if missing := [name for name in (contestants if found else places) if name not in found]:
        raise InputError(
            f"output={output} holds no predictions of {', '.join(missing)}; run: cellpheno run output={output} "
            "models=RUN steps=[predict,predict_baselines,score_new] ..."
        )
    return found


def _new(wells: pd.DataFrame, trained: pd.DataFrame, compound: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Wells that are none of the run's labelled ones, and what to bear in mind of them."""
    taught = trained[trained["label"] != ""]
    own = pd.MultiIndex.from_frame(wells[[PLATE, WELL]]).isin(pd.MultiIndex.from_frame(taught[[PLATE, WELL]]))
    new = wells[~own].reset_index(drop=True)
    if new.empty:
        raise InputError(f"all {len(wells)} labelled wells of these plates are the run's own: none is new")
    if compound is None or compound not in taught:
        return new, []
    met = new[compound].isin(set(taught[compound]) - {""})
    told = f"{met.sum()} of {len(new)} wells have a compound that taught the models: of new compounds they say nothing"
    return new, [told] if met.any() else []


def _check_pictures(models: Path, trained: pd.DataFrame, wells: pd.DataFrame, no_leak: Sequence[str]) -> None:
    """Refuse wells that are the run's own under other names, as their pictures tell."""
    if not (models / PICTURES).is_file():
        raise InputError(f"models={models} holds no {PICTURES}; write it: cellpheno compare output={models} ...")
    taught = read_csv(models / PICTURES).merge(trained.loc[trained["label"] != "", [PLATE, WELL]], on=[PLATE, WELL])
    own = list_pictures(wells)
    own = own.assign(**{HASH: own[HASH].str[:HASH_DIGITS]})
    both = with_content(own.merge(taught, on=HASH, suffixes=("", "_taught"))).drop_duplicates([PLATE, WELL])
    if both.empty:
        return
    new, old = both[[PLATE, WELL]].iloc[0], both[[f"{PLATE}_taught", f"{WELL}_taught"]].iloc[0]
    told = f"{len(both)} wells hold pictures that taught the models ({' '.join(new)} those of {' '.join(old)}, ...)"
    if IMAGE in no_leak:
        rest = ",".join(name for name in no_leak if name != IMAGE)
        raise InputError(f"{told}: they are not new; leave their plates out, or allow it: no_leak=[{rest}]")
    log.warning("%s; scores of such wells say too much", told)


def _check_models(folder: Path, wells: pd.DataFrame, no_leak: Sequence[str]) -> None:
    """Refuse wells that a network has seen, as in what it started from."""
    found = fold_models(folder, read_csv(folder / "folds.csv")).values() if (folder / "folds.csv").is_file() else ()
    check_seen({f"model {path}": seen_wells(path) for path in found}, wells, no_leak)


def _score(
    wells: pd.DataFrame,
    said: Mapping[str, Path],
    models: Path,
    output: Path,
    classes: Sequence[str],
    reference: str,
    about: Mapping[str, Any],
    messages: Sequence[str],
) -> Result:
    rows = pd.concat([pd.read_parquet(path) for path in said.values()], ignore_index=True)
    more = [c for c in wells if c in (PLATE, WELL) or (str(c).startswith("Metadata_") and c not in rows)]
    rows = rows[rows["role"] == NEW].merge(wells[[*more, "label"]], on=[PLATE, WELL])
    predictions = rows.assign(true=rows["label"]).drop(columns="label")
    _check_complete(predictions, wells, reference)
    # To the statistics a new well is one that its model never saw; all models of a run speak together.
    asked = predictions.assign(role=OUT_OF_FOLD)
    promises = _promises(models, set(wells["label"]), classes, about)
    found = scores(asked, classes, **about).merge(promises, on=KEYS, how="left")
    gaps = differences(asked, classes, reference=reference, **about)
    tables = {"predictions-new": predictions, "scores-new": found, "differences-new": gaps}
    files = [write_csv(table, output / f"{name}.csv") for name, table in tables.items()]
    return Result("warned" if messages else "done", files, messages)


def _check_complete(predictions: pd.DataFrame, wells: pd.DataFrame, reference: str) -> None:
    """Refuse where a contestant has not predicted all wells, or the reference is none of them."""
    counts = predictions.groupby(["contestant", "split"]).size().reset_index(name="n")
    faults = [
        f"{name} (split {split}) has predicted {n} of {len(wells)} labelled new wells; run predict and "
        "predict_baselines on all plates again"
        for name, split, n in counts.itertuples(index=False)
        if n != len(wells)
    ]
    names = sorted(set(predictions["contestant"]))
    if reference not in names:
        faults.append(f"reference={reference}: wanted one of {', '.join(names) or 'none: no new well was predicted'}")
    if faults:
        raise InputError(*faults)


def _promises(models: Path, present: set[str], classes: Sequence[str], about: Mapping[str, Any]) -> pd.DataFrame:
    """Scores of the run's cross-validation over its wells of the same classes; empty where it was not compared."""
    if not (models / PROMISED).is_file():
        return pd.DataFrame(columns=[*KEYS, *PROMISES.values()])
    rows = pd.read_parquet(models / PROMISED)
    rows = rows if about["multilabel"] else rows[rows["true"].isin(present)]
    wells, unit = read_csv(models / "wells.csv"), about["unit"]
    if unit in wells and unit not in rows:  # where neither has it, the scores refuse it
        rows = rows.merge(wells[[PLATE, WELL, unit]], on=[PLATE, WELL], how="left")
    return scores(rows, classes, **about)[[*KEYS, *PROMISES]].rename(columns=PROMISES)


def _read_scores(path: Path) -> pd.DataFrame:
    """Read a table of scores; names stay as typed, also a class that is called NA."""
    numbers = {name: [""] for name in (*PROMISES, *PROMISES.values())}
    return pd.read_csv(path, dtype=dict.fromkeys(KEYS, str), keep_default_na=False, na_values=numbers)


def _say(output: Path, messages: Sequence[str]) -> None:
    """Log the main score of each contestant and what was promised, and what to bear in mind."""
    table = _read_scores(output / "scores-new.csv")
    chosen = main_metric(table)
    for row in records(table[(table["metric"] == chosen) & (table["class"] == "")]):
        promised = told_score({name: row[own] for name, own in PROMISES.items()})
        told = (row["contestant"], row["split"], metric(chosen).label, told_score(row), row["n"], promised)
        log.info("%s, %s: %s %s over %d new wells; the cross-validation said %s", *told)
        messages = [*messages, row["note"]] if row["note"] not in ("", *messages) else messages
    for line in messages:
        log.warning("%s", line)

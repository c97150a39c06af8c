"""The contest: baselines on the same wells and folds, scores with intervals, paired differences, dose-response."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes, read_record
from cellpheno.compare.assay import assay_quality, dose_response, dose_trend
from cellpheno.compare.baselines import contest
from cellpheno.compare.matching_contest import Question, match_contestants, matching_question
from cellpheno.compare.statistics import differences, scores
from cellpheno.compare.tuning import check_grids
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.profiles.aggregate import STATISTICS
from cellpheno.stages.predict_baselines import write_contest
from cellpheno.stages.run_folder import Plan, Splits, plan_run, write_csv, write_parquet
from cellpheno.stages.well_features import Baselines, elsewhere_hashes, lacking_messages, well_features
from cellpheno.stages.wells import Classes


def compare(
    plates: Sequence[Path],
    output: Path,
    split: Splits,
    baselines: Baselines,
    engine: Callable[..., Outcome],
    label: str = "label",
    classes: Classes = None,
    label_separator: str | None = None,
    junk: Sequence[str] = (),
    no_leak: Sequence[str] = ("image", "compound"),
    compound: str | None = None,
    train_on_partial: bool = False,
    aggregation: Sequence[str] = ("median",),
    tuning: float = 0.25,
    reference: str = "engineered",
    unit: str = "well",
    n_bootstrap: int = 2000,
    dose: str | None = None,
    dose_by: str | None = None,
    match: Mapping[str, Any] | None = None,
    seed: int = 1,
) -> Outcome:
    """Compare the model with engineered features and simple baselines on the same wells and folds.

    Parameters
    ----------
    plates : sequence of Path
        OME-Zarr plates, measured.
    output : Path
        The run's folder.
    split : mapping
        Which wells are held out together.
    baselines : mapping
        Contestants on engineered features.
    engine : callable
        Where the work runs.
    label : str
        Column of the plate map that holds the class.
    classes : sequence or mapping, optional
        Class names, or class: value; null takes every value of the column.
    label_separator : str, optional
        Text between the classes of a well in several, such as "|"; null: one class a well.
    junk : sequence of str
        Classes that are learned like others but are no answer: their wells stand in no score.
    no_leak : sequence of str
        What may not be on both sides of a fold: image (the same picture), compound, columns such as Metadata_batch.
    compound : str, optional
        Column of the plate map that names it; null: one called compound or treatment, unless it holds the class.
    train_on_partial : bool
        Train also on wells that lost a field.
    aggregation : sequence of str
        How a well's cells become its features, several side by side: median, mean, mad, std.
    tuning : float
        Fraction of a fold's training wells on which each baseline chooses its configuration; 0: the first counts.
    reference : str
        The contestant with which the others are compared.
    unit : str
        What the intervals resample: well, or a column such as Metadata_Plate.
    n_bootstrap : int
        Resamples behind each interval.
    dose : str, optional
        Column of the plate map with a dose: gives dose-response curves and Z'. Two classes: negative, positive.
    dose_by : str, optional
        Column whose values, such as drugs, have a curve each.
    match : mapping, optional
        Not-same-compound matching of treatments: treatment and compound, columns of the plate map; batch, a column
        that neighbours may not share either; without, classes that are left out. Gives matching.csv and its scores.
    seed : int
        Of folds and resamples.
    """
    if dose is not None and label_separator is not None:
        raise InputError(
            f"dose={dose} with label_separator={label_separator!r}: a dose-response is of two classes, negative and "
            "positive, and one class a well; give dose=null or label_separator=null"
        )
    check_grids(baselines)
    if faults := settings_faults(aggregation, tuning):
        raise InputError(*faults)
    plan = plan_run(
        plates, output, label, classes, split, seed, train_on_partial, label_separator, junk, no_leak, compound
    )
    asked = None if match is None else matching_question(match, plan.usable, plan.classes, plan.multilabel)
    mil = output / "predictions-mil.parquet"
    records = [read_record(Path(w["folder"]), w[WELL]) for _, w in plan.usable.iterrows()]
    key = make_key(
        "compare",
        wells=plan.wells.drop(columns="folder").astype(str).to_dict("list"),
        folds=plan.folds.astype(str).to_dict("list"),
        cells=[input_hashes(record, "measure", "image_statistics") for record in records],
        mil=read_record(output, "predict").get("predict", {}).get("files", {}),
        baselines=baselines,
        settings=[plan.classes, plan.multilabel, plan.junk, reference, unit, n_bootstrap, dose, dose_by, seed],
        features=[aggregation, tuning, split_groups(split)],
        elsewhere=elsewhere_hashes(baselines),
        match=match,
    )
    settings = {"tuning": tuning, "groups": split_groups(split), "aggregation": list(aggregation), "seed": seed}
    work = functools.partial(
        _compare, plan, output, mil, baselines, settings, reference, unit, n_bootstrap, dose=dose, dose_by=dose_by,
        asked=asked,
    )  # fmt: skip
    return engine("compare", [Job("compare", key, work)], folder=output, root=output)


def _compare(
    plan: Plan,
    output: Path,
    mil: Path,
    baselines: Baselines,
    settings: Mapping[str, Any],
    reference: str,
    unit: str,
    n_bootstrap: int,
    *,
    dose: str | None,
    dose_by: str | None,
    asked: Question | None,
) -> Result:
    seed = settings["seed"]
    features = well_features(plan.usable, settings["aggregation"])
    messages = lacking_messages(plan.usable, features, baselines)
    about: tuple[Any, ...] = (plan.folds, baselines, plan.classes, seed, plan.not_trained, plan.multilabel)
    own, tuning = contest(plan.usable, features, *about, tuning=settings["tuning"], groups=settings["groups"])
    predictions = pd.concat([pd.read_parquet(mil), own], ignore_index=True) if mil.is_file() else own
    if unit in plan.usable and unit not in predictions:  # such as Metadata_compound, which the plate map tells
        predictions = predictions.merge(plan.usable[[PLATE, WELL, unit]], on=[PLATE, WELL], how="left")
    chance: dict[str, Any] = {"n_bootstrap": n_bootstrap, "seed": seed, "unit": unit}
    chance |= {"multilabel": plan.multilabel, "junk": plan.junk}
    tables = {
        "predictions": predictions,
        "tuning": tuning,
        "scores": scores(predictions, plan.classes, **chance),
        "differences": differences(predictions, plan.classes, reference=reference, **chance),
    }
    if dose is not None:
        by = None if dose_by is None else f"Metadata_{dose_by}"
        controls = (predictions, plan.usable, [name for name in plan.classes if name not in plan.junk])
        quality = assay_quality(*controls, by=by, n_bootstrap=n_bootstrap, seed=seed)
        trend = dose_trend(*controls, dose=f"Metadata_{dose}", by=by)
        tables["assay"] = pd.concat([quality, trend], ignore_index=True)
        tables["dose"] = dose_response(*controls, dose=f"Metadata_{dose}", by=by)
    if asked is not None:
        found = match_contestants(plan.usable, features, baselines, asked, plan.junk)
        tables |= {"matching": found.matches, "matching_scores": found.scores}
    for name in {"assay", "dose", "matching", "matching_scores"} - tables.keys():
        (output / f"{name}.csv").unlink(missing_ok=True)  # of a run that asked for it: the report would show it
    files = [write_csv(table, output / f"{name}.csv") for name, table in tables.items()]
    files.append(write_parquet(predictions, output / "predictions.parquet"))
    files += write_contest(output, plan, features, baselines, settings)
    return Result("warned" if messages else "done", files, messages, {})


def settings_faults(aggregation: Sequence[str], tuning: float) -> list[str]:
    """What is wrong with the settings of the contest.

    Examples
    --------
    >>> settings_faults(["mode"], 0.9)
    ["aggregation=['mode']: wanted one or more of median, mean, mad, std", 'tuning=0.9: wanted 0 to 0.5']
    """
    good = bool(aggregation) and set(aggregation) <= set(STATISTICS) and len(set(aggregation)) == len(aggregation)
    told = f"aggregation={list(aggregation)}: wanted one or more of {', '.join(STATISTICS)}"
    return ([] if good else [told]) + ([] if 0 <= tuning <= 0.5 else [f"tuning={tuning}: wanted 0 to 0.5"])


def split_groups(split: Splits) -> dict[str, str | None]:
    """Column that each split holds out as a whole; none where it deals single wells.

    Examples
    --------
    >>> from cellpheno.compare.splits import by_group, by_well
    >>> split_groups({"by_well": by_well, "by_plate": functools.partial(by_group, group="Metadata_Plate")})
    {'by_well': None, 'by_plate': 'Metadata_Plate'}
    """
    found = {name: inspect.signature(make).parameters.get("group") for name, make in split.items()}
    return {name: None if parameter is None else str(parameter.default) for name, parameter in found.items()}

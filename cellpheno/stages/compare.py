"""The contest: baselines on the same wells and folds, scores with intervals, paired differences, dose-response."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes, read_record
from cellpheno.batch.timing import Cost, timed, write_costs
from cellpheno.bounds import Listed, Range
from cellpheno.compare.assay import assay_quality, dose_response, dose_trend
from cellpheno.compare.class_differences import class_differences
from cellpheno.compare.confounding import NETWORK, looks_at
from cellpheno.compare.contest import contest
from cellpheno.compare.learning import short_classes
from cellpheno.compare.matching_contest import Question, match_contestants
from cellpheno.compare.predictions import OUT_OF_FOLD
from cellpheno.compare.statistics import differences, scores
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.profiles.aggregate import COUNT
from cellpheno.stages.contest_check import check_contest, check_wells, name_faults
from cellpheno.stages.networks import contest_networks, network_hashes, network_tuning, seen_messages
from cellpheno.stages.predict_baselines import write_contest
from cellpheno.stages.run_folder import (
    PREDICTIONS,
    Plan,
    Splits,
    plan_run,
    split_groups,
    teaching,
    write_csv,
    write_parquet,
    write_plan,
)
from cellpheno.stages.well_features import Baselines, elsewhere_hashes, lacking_messages, well_features
from cellpheno.stages.wells import Classes

NOT_ALWAYS = {"assay", "dose", "matching", "matching_scores", "learning_curve", "scores_with_cells"}
FEW = "classes with fewer than "  # how a message on a learning curve begins


def compare(
    plates: Annotated[Sequence[Path], Listed()],
    output: Path,
    split: Splits,
    baselines: Baselines,
    engine: Callable[..., Outcome],
    contestants: Mapping[str, Any] = {},
    contestant: str = "mil",
    label: str = "label",
    classes: Classes = None,
    label_separator: str | None = None,
    junk: Annotated[Sequence[str], Listed(empty=True)] = (),
    no_leak: Annotated[Sequence[str], Listed(empty=True)] = ("image", "compound"),
    compound: str | None = None,
    train_on_partial: bool = False,
    aggregation: Annotated[Sequence[str], Listed()] = ("median",),
    tuning: Annotated[float, Range(0, 0.5)] = 0.25,
    wells_per_class: Annotated[int | None, Range(1)] = None,
    reference: str = "engineered",
    unit: str = "well",
    n_bootstrap: Annotated[int, Range(40)] = 2000,
    dose: str | None = None,
    dose_by: str | None = None,
    match: Mapping[str, Any] | None = None,
    seed: Annotated[int, Range(0)] = 1,
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
    contestants : mapping
        More networks that were trained on the same folds, by name.
    contestant : str
        Name of the run's own network in the tables.
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
        Column of the plate map that names it; null: one called compound, treatment or drug, unless it holds the class.
    train_on_partial : bool
        Train also on wells that lost a field.
    aggregation : sequence of str
        How a well's cells become its features, several side by side: median, mean, mad, std.
    tuning : float
        Fraction of a fold's training wells on which each baseline chooses its configuration; 0: the first counts.
    wells_per_class : int, optional
        Train on so many wells of each class, drawn anew in each fold; null: on all.
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
    check_contest(baselines, aggregation, tuning, dose, label_separator)
    plan = plan_run(plates, label, classes, split, seed, train_on_partial, label_separator, junk, no_leak, compound)
    asked = check_wells(plan, unit, dose, dose_by, match)
    networks = contest_networks(output, contestant, contestants, plan.folds)
    if faults := name_faults(networks, baselines, reference):
        raise InputError(*faults)
    records = [read_record(Path(w["folder"]), w[WELL]) for _, w in plan.usable.iterrows()]
    key = make_key(
        "compare",
        wells=plan.wells.drop(columns="folder").astype(str).to_dict("list"),
        folds=plan.folds.astype(str).to_dict("list"),
        not_trained=sorted(plan.not_trained),
        cells=[input_hashes(record, "measure", "image_statistics") for record in records],
        networks={name: network_hashes(folder, plan.folds) for name, folder in networks.items()},
        baselines=baselines,
        settings=[plan.classes, plan.multilabel, plan.junk, reference, unit, n_bootstrap, dose, dose_by, seed],
        features=[aggregation, tuning, wells_per_class, split_groups(split)],
        elsewhere=elsewhere_hashes(baselines),
        match=match,
    )
    settings = {
        **{"tuning": tuning, "groups": split_groups(split), "wells_per_class": wells_per_class},
        **{"aggregation": list(aggregation), "seed": seed},
    }
    work = functools.partial(
        _compare, plan, output, networks, baselines, settings, reference, unit, n_bootstrap, dose=dose, dose_by=dose_by,
        asked=asked,
    )  # fmt: skip
    outcome = engine("compare", [Job("compare", key, work)], folder=output, root=output)
    if not outcome.left_out:  # else the tables that stand there belong to other scores
        write_plan(plan, output)
    return outcome


def _compare(
    plan: Plan,
    output: Path,
    networks: Mapping[str, Path],
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
    messages = [
        *lacking_messages(plan.usable, features, baselines),
        *_few_wells(plan, features, settings["wells_per_class"]),
        *(line for name, folder in networks.items() for line in seen_messages(folder, plan.folds, name)),
    ]
    costs: dict[str, Cost] = {}
    contestants = timed(baselines, costs)
    about: tuple[Any, ...] = (plan.folds, contestants, plan.classes, seed, plan.not_trained, plan.multilabel)
    chosen = {name: settings[name] for name in ("tuning", "groups", "wells_per_class")}
    whole = settings["wells_per_class"] is None  # a part of a learning curve is not explained
    own, tuning, important = contest(plan.usable, features, *about, **chosen, explain=whole)
    write_costs(output, "baselines", costs)
    of_networks = [pd.read_parquet(folder / PREDICTIONS) for folder in networks.values()]
    predictions = pd.concat([*of_networks, own], ignore_index=True)
    tuning = pd.concat(
        [*(network_tuning(folder, plan.folds, name) for name, folder in networks.items()), tuning], ignore_index=True
    )
    if unit in plan.usable and unit not in predictions:  # such as Metadata_compound, which the plate map tells
        predictions = predictions.merge(plan.usable[[PLATE, WELL, unit]], on=[PLATE, WELL], how="left")
    chance: dict[str, Any] = {"n_bootstrap": n_bootstrap, "seed": seed, "unit": unit}
    chance |= {"multilabel": plan.multilabel, "junk": plan.junk}
    tables = {
        "predictions": predictions,
        "tuning": tuning,
        "features": important,
        "messages": pd.DataFrame({"message": messages}, dtype=object),
        "scores": scores(predictions, plan.classes, **chance),
        "differences": differences(predictions, plan.classes, reference=reference, **chance),
        "class_differences": class_differences(predictions, plan.classes, reference=reference, **chance),
        "contestants": _looks(networks, baselines),
    }
    full = predictions.merge(features.loc[features[COUNT] != 0, [PLATE, WELL]], on=[PLATE, WELL])
    if 0 < (full["role"] == OUT_OF_FOLD).sum() < (predictions["role"] == OUT_OF_FOLD).sum():
        tables["scores_with_cells"] = scores(full, plan.classes, **chance)
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
    for name in NOT_ALWAYS - tables.keys():
        (output / f"{name}.csv").unlink(missing_ok=True)  # of other settings: the report would show it
    files = [write_csv(table, output / f"{name}.csv") for name, table in tables.items()]
    files.append(write_parquet(predictions, output / "predictions.parquet"))
    files += write_contest(output, plan, features, baselines, settings)
    return Result("warned" if messages else "done", files, messages, {})


def _looks(networks: Iterable[str], baselines: Baselines) -> pd.DataFrame:
    """What each contestant looks at, so that the report knows which are controls whatever they are called."""
    rows = [(name, NETWORK) for name in networks] + [(name, looks_at(own)) for name, own in baselines.items()]
    return pd.DataFrame(rows, columns=["contestant", "kind"])


def _few_wells(plan: Plan, features: pd.DataFrame, wells_per_class: int | None) -> list[str]:
    """Say which classes are too few for a point of a learning curve; wells without cells are not drawn."""
    if wells_per_class is None:
        return []
    filled = features.loc[features[COUNT] != 0, [PLATE, WELL]]
    short = short_classes(teaching(plan.usable.merge(filled, on=[PLATE, WELL]), plan), plan.folds, wells_per_class)
    told = ", ".join(f"{name} {n}" for name, n in short.items())
    return [f"{FEW}{wells_per_class} training wells in some fold: {told}"] if short else []

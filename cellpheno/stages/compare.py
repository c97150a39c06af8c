"""The contest: baselines on the same wells and folds, scores with intervals, paired differences, dose-response."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes, read_record
from cellpheno.compare.assay import assay_quality, dose_response, dose_trend
from cellpheno.compare.baselines import baseline_predictions
from cellpheno.compare.statistics import differences, scores
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL
from cellpheno.profiles.aggregate import COUNT, aggregate
from cellpheno.stages.cell_tables import cells_path
from cellpheno.stages.run_folder import Plan, Splits, plan_run, write_csv, write_parquet
from cellpheno.stages.wells import Classes

Baselines = Mapping[str, Callable[..., Any]]


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
    no_leak: Sequence[str] = ("image",),
    train_on_partial: bool = False,
    reference: str = "engineered",
    unit: str = "well",
    n_bootstrap: int = 2000,
    dose: str | None = None,
    dose_by: str | None = None,
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
        What may not be on both sides of a fold: image (the same picture), columns such as Metadata_compound.
    train_on_partial : bool
        Train also on wells that lost a field.
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
    seed : int
        Of folds and resamples.
    """
    if dose is not None and label_separator is not None:
        raise InputError(
            f"dose={dose} with label_separator={label_separator!r}: a dose-response is of two classes, negative and "
            "positive, and one class a well; give dose=null or label_separator=null"
        )
    plan = plan_run(plates, output, label, classes, split, seed, train_on_partial, label_separator, junk, no_leak)
    mil = output / "predictions-mil.parquet"
    records = [read_record(Path(w["folder"]), w[WELL]) for _, w in plan.usable.iterrows()]
    key = make_key(
        "compare",
        wells=plan.wells.drop(columns="folder").astype(str).to_dict("list"),
        folds=plan.folds.astype(str).to_dict("list"),
        cells=[input_hashes(record, "measure") for record in records],
        mil=read_record(output, "predict").get("predict", {}).get("files", {}),
        baselines=baselines,
        settings=[plan.classes, plan.multilabel, plan.junk, reference, unit, n_bootstrap, dose, dose_by, seed],
    )
    work = functools.partial(
        _compare, plan, output, mil, baselines, reference, unit, n_bootstrap, dose=dose, dose_by=dose_by, seed=seed
    )
    return engine("compare", [Job("compare", key, work)], folder=output, root=output)


def _compare(
    plan: Plan,
    output: Path,
    mil: Path,
    baselines: Baselines,
    reference: str,
    unit: str,
    n_bootstrap: int,
    *,
    dose: str | None,
    dose_by: str | None,
    seed: int,
) -> Result:
    features = well_features(plan.usable)
    about: tuple[Any, ...] = (plan.folds, baselines, plan.classes, seed, plan.not_trained, plan.multilabel)
    own = baseline_predictions(plan.usable, features, *about)
    predictions = pd.concat([pd.read_parquet(mil), own], ignore_index=True) if mil.is_file() else own
    chance: dict[str, Any] = {"n_bootstrap": n_bootstrap, "seed": seed, "unit": unit}
    chance |= {"multilabel": plan.multilabel, "junk": plan.junk}
    tables = {
        "predictions": predictions,
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
    files = [write_csv(table, output / f"{name}.csv") for name, table in tables.items()]
    files.append(write_parquet(predictions, output / "predictions.parquet"))
    return Result("done", files, (), {})


def well_features(wells: pd.DataFrame) -> pd.DataFrame:
    """Aggregated features of every well, one cell table in memory at a time; a well without cells has nan.

    Where nothing was measured, as on the path of whole fields, no well has features, and their number is unknown.
    """
    if not any(cells_path(Path(well["folder"]), well[WELL]).is_file() for _, well in wells.iterrows()):
        return wells[[PLATE, WELL]].assign(**{COUNT: np.nan})
    rows = []
    for _, well in wells.iterrows():
        cells = pd.read_parquet(cells_path(Path(well["folder"]), well[WELL]))
        rows.append(aggregate(cells, wells=pd.DataFrame([well[[PLATE, WELL]]])))
    return pd.concat(rows, ignore_index=True)

"""One fold of the wells: choose among configurations, then train; and what must fit before any fold."""

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.batch.engine import Result
from cellpheno.compare.splits import inner_split
from cellpheno.compare.tuning import choose, inner_wells
from cellpheno.errors import InputError
from cellpheno.models.finetune import parameter_groups, start_from
from cellpheno.models.mil import build_classifier
from cellpheno.plates.commit import commit_folder
from cellpheno.stages.facts import as_arrays
from cellpheno.stages.run_folder import TUNING, model_files, write_csv
from cellpheno.stages.start import write_taught
from cellpheno.training.allocator import give_back_freed_memory
from cellpheno.training.checkpoint import Checkpoint, load_model
from cellpheno.training.configurations import configured
from cellpheno.training.device import device_of
from cellpheno.training.fit import fit_fold
from cellpheno.training.instances import Instances
from cellpheno.training.predict import predict_wells

Component = Callable[..., Any]


def check_network(
    model: Component,
    encoder: Component,
    pooling: Component,
    classes: Sequence[str],
    n_channels: int,
    start: Checkpoint | None,
) -> None:
    """Build the network once before any fold, so that what does not fit is refused.

    Raises
    ------
    InputError
        If the parts do not fit each other, the channels or the start.
    """
    try:
        network = build_classifier(model, encoder, pooling, classes=classes, n_channels=n_channels)
        parameter_groups(network, network.rates)
        if start is not None:
            start_from(network.encoder, start.model.encoder.state_dict())
    except InputError:
        raise
    except (ModuleNotFoundError, RuntimeError, ValueError) as error:
        raise InputError(str(error)) from error


def train_fold(
    training: pd.DataFrame,
    *,
    folder: Path,
    resume: Path,
    configurations: Sequence[Mapping[str, Any]],
    tuning: float,
    group: str | None,
    choice_seed: int,
    components: Mapping[str, Any],
    before: pd.DataFrame | None,
    **settings: Any,
) -> Result:
    """Train the model of one fold; wells without cells teach nothing and are left out."""
    labels = training["label"].tolist()
    filled = training[training["n_instances"] > 0].reset_index(drop=True)
    multilabel = settings["multilabel"]
    fraction = tuning if len(configurations) > 1 else 0
    inner, why_none = inner_wells(filled, fraction, choice_seed, group, multilabel)
    network = functools.partial(_scored_by_network, grid=configurations, components=components, settings=settings)
    tried = choose(network, filled, inner, why_none, settings["classes"], multilabel=multilabel)
    chosen = configured(components, configurations[int(tried["chosen"].to_numpy().argmax())])
    with commit_folder(folder) as temporary:
        _fit(filled, temporary, chosen, resume=resume, labels=labels, **settings)
        write_csv(tried, temporary / TUNING)
        write_taught(training, before, temporary)
    resume.unlink(missing_ok=True)
    give_back_freed_memory()
    return Result(
        "done", model_files(folder), (), {"n_wells": len(filled), "n_instances": int(filled["n_instances"].sum())}
    )


def _scored_by_network(
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    classes: Sequence[str],
    multilabel: bool,
    grid: Sequence[Mapping[str, Any]],
    components: Mapping[str, Any],
    settings: Mapping[str, Any],
    configuration: int = 0,
) -> NDArray[np.float64]:
    """Logits (n, K) of wells by a network that one configuration trained: to the choice, a contestant like others."""
    chosen = {**configured(components, grid[configuration]), "logger": None}
    with tempfile.TemporaryDirectory() as folder:
        _fit(train, Path(folder), chosen, labels=train["label"].tolist(), **settings)
        limits, threads = as_arrays(settings["limits"]), settings["threads"]
        trained = load_model(Path(folder), device_of(chosen["trainer"]))
        found = predict_wells(*trained, test, limits=limits, threads=threads)
    return found[[f"logit_{name}" for name in classes]].to_numpy(np.float64)


def _fit(
    wells: pd.DataFrame,
    folder: Path,
    components: Mapping[str, Any],
    *,
    classes: Sequence[str],
    channels: Sequence[str],
    pixel_size_um: float | None,
    normalization: Component,
    limits: Mapping[str, Any],
    instances: Instances,
    multilabel: bool,
    validation: float,
    threads: int,
    seed: int,
    labels: Sequence[str],
    resume: Path | None = None,
) -> None:
    """Train on wells, some of which choose the best epoch."""
    chosen = inner_split(wells, validation, seed, multilabel=multilabel) if validation else wells.iloc[:0]
    fit_fold(
        wells.drop(index=chosen.index),
        chosen,
        classes=classes,
        channels=channels,
        pixel_size_um=pixel_size_um,
        limits=as_arrays(limits),
        normalization=normalization(),
        instances=instances,
        folder=folder,
        resume=resume,
        seed=seed,
        labels=labels,
        multilabel=multilabel,
        threads=threads,
        **components,
    )

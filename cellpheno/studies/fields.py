"""Which pooling finds few responding cells in whole fields? Nothing is segmented; a network learns from wells alone.

Bags cannot be composed here, since the cells of a field stay where they are: each plate is simulated with its fraction
of responding cells.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellpheno.compare.metrics import score
from cellpheno.compare.splits import inner_split
from cellpheno.names import PLATE, WELL
from cellpheno.seeds import derived_seed
from cellpheno.studies.pooling import MEASURES
from cellpheno.training.bags import Normalization, plate_limits
from cellpheno.training.checkpoint import load_model
from cellpheno.training.device import device_of
from cellpheno.training.fit import fit_fold
from cellpheno.training.instances import Instances
from cellpheno.training.predict import predict_wells


def field_unit(
    wells: pd.DataFrame,
    *,
    classes: Sequence[str],
    instances: Callable[[], Instances],
    normalization: Callable[[], Normalization],
    seed: int,
    test: float = 0.5,
    threads: int = 1,
    **components: Any,
) -> dict[str, float]:
    """Train one pooling on wells of a plate and score it on the others.

    Which wells those are depends on the seed alone, so all poolings meet the same ones. The model itself is not kept.

    Parameters
    ----------
    wells : DataFrame
        Metadata_Plate, Metadata_Well, label, place (see `cellpheno.training.instances`).
    classes : sequence of str
    instances, normalization : callable
        As a config gives them.
    seed : int
    test : float
        Fraction of the wells of each class that are held out.
    threads : int
        CPU threads; part of the result, since sums round differently.
    **components
        What else `cellpheno.training.fit.fit_fold` takes: channels, pixel_size_um, encoder, pooling, model, ...

    Returns
    -------
    dict
        macro_auroc, balanced_accuracy, log_loss.
    """
    held = inner_split(wells, test, derived_seed(seed, "test"))
    kind, scale = instances(), normalization()
    common: dict[str, Any] = {"limits": plate_limits(wells, scale, seed=0, instances=kind), "threads": threads}
    with tempfile.TemporaryDirectory() as scratch:
        fit_fold(
            wells.drop(index=held.index),
            wells.iloc[:0],
            classes=classes,
            instances=kind,
            normalization=scale,
            patience=None,
            folder=Path(scratch),
            seed=seed,
            **common,
            **components,
        )
        predicted = predict_wells(*load_model(Path(scratch), device_of(components["trainer"])), held, **common)
    table = held.merge(predicted, on=[PLATE, WELL], validate="one_to_one")
    truth = np.array([list(classes).index(label) for label in table["label"]], dtype=np.intp)
    logits = table[[f"logit_{name}" for name in classes]].to_numpy(float)
    overall = score(logits, truth, np.ones((1, len(truth)))).overall
    return {name: float(overall[name][0]) for name in MEASURES}

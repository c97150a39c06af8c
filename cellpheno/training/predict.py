"""Predict wells one at a time, so that memory does not grow with the plate."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellpheno.classes import called_classes
from cellpheno.errors import InputError
from cellpheno.images.crops import n_crops, read_crops
from cellpheno.models.mil import BagOutput, MILClassifier
from cellpheno.names import OBJECT, PLATE, SITE, WELL
from cellpheno.training.bags import Limits, Normalization, normalize
from cellpheno.training.checkpoint import build, check_card
from cellpheno.training.fit import reproducible


def predict_wells(
    model: MILClassifier, card: Mapping[str, Any], wells: pd.DataFrame, *, limits: Limits, threads: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predict the class of each well and say what each of its cells had to do with it.

    A well is read and encoded in pieces of one size and pooled as a whole, alone: what is said of it depends on no
    other well.

    Parameters
    ----------
    model, card
        As `cellpheno.training.checkpoint.load_model` gives them.
    wells : DataFrame
        Metadata_Plate, Metadata_Well, crops (path). Wells without cells get no row: what to say of them is no matter
        of a model of cells.
    limits : mapping of str to ndarray of shape (1, c, 2)
        Of each plate (`plate_limits` of all its wells, with the card's normalisation).
    threads : int
        CPU threads; part of the result, since sums round differently.

    Returns
    -------
    predictions : DataFrame
        Metadata_Plate, Metadata_Well, pred, prob_<class>, logit_<class>, n_cells; score_<class> of a pooling of scores.
    instances : DataFrame
        Metadata_*, weight (sums to 1 in a well; nan where the pooling has none), logit_<class>. A row a cell, in the
        order of site and object number.

    Raises
    ------
    InputError
        If a plate has no limits, or crops differ in size, channels or dtype from those of training.
    """
    normalization: Normalization = build(card["normalization"])()
    if normalization.scope == "plate" and (lost := sorted(set(wells[PLATE]) - set(limits))):
        raise InputError(*(f"plate {plate!r} has no limits for its normalisation" for plate in lost))
    columns = [PLATE, WELL, "pred", *(f"{kind}_{name}" for kind in ("prob", "logit") for name in model.classes)]
    predictions: list[dict[str, Any]] = []
    instances: list[pd.DataFrame] = []
    model.eval()
    with reproducible(0, threads), torch.inference_mode():
        for plate, well, path in wells[[PLATE, WELL, "crops"]].itertuples(index=False):
            n_cells = n_crops(path)
            if n_cells:
                pieces = _pieces(path, n_cells, model.piece, card)
                features, keys = _embed(model, pieces, str(plate), normalization, limits)
                out = model.classify(features, torch.zeros(n_cells, dtype=torch.long), 1)
                predictions.append({PLATE: plate, WELL: well, **_bag_row(out, model), "n_cells": n_cells})
                instances.append(_instance_rows(out, model.classes, {PLATE: plate, WELL: well}, keys))
    table = pd.DataFrame(predictions, columns=None if predictions else [*columns, "n_cells"])
    cells = pd.concat(instances, ignore_index=True) if instances else _instance_columns(model.classes)
    return table, cells


def _pieces(path: Any, n_cells: int, size: int, card: Mapping[str, Any]) -> Iterator[Any]:
    """Crops of a well, piece by piece, each checked against the card."""
    for start in range(0, n_cells, size):
        crops = read_crops(path, slice(start, min(start + size, n_cells)))
        channels, side = crops.pixels.shape[1], crops.pixels.shape[-1]
        if channels != len(card["channels"]):
            raise InputError(f"{path}: {channels} channels; the model was trained with {card['channels']}")
        try:
            check_card(card, crop_px=side, dtype=str(crops.pixels.dtype))
        except InputError as fault:
            raise InputError(*(f"{path}: {line}" for line in fault.faults)) from None
        yield crops


def _embed(
    model: MILClassifier, pieces: Iterator[Any], plate: str, normalization: Normalization, limits: Limits
) -> tuple[Tensor, NDArray[np.int32]]:
    """Features (N, d) of a well's cells and their keys (N, 2): site, object number."""
    features, keys = [], []
    for crops in pieces:
        features.append(model.embed(normalize(crops.pixels, plate, normalization, limits).to(model.device)))
        keys.append(np.stack([crops.site, crops.object_number], axis=1))
    return torch.cat(features), np.concatenate(keys)


def _bag_row(out: BagOutput, model: MILClassifier) -> dict[str, Any]:
    """One well's prediction, as columns of the prediction table."""
    classes, logits = model.classes, out.logits[0].double()  # (K,); double, so that the printed probabilities sum to 1
    row: dict[str, Any] = {"pred": called_classes(logits[None].cpu().numpy(), classes, model.multilabel)[0]}
    row |= _columns("prob", classes, logits.sigmoid() if model.multilabel else logits.softmax(0))
    row |= _columns("logit", classes, logits)
    if out.bag_scores is not None:
        row |= _columns("score", classes, out.bag_scores[0].double().sigmoid())
    return row


def _columns(kind: str, classes: tuple[str, ...], values: Tensor) -> dict[str, float]:
    return {f"{kind}_{name}": value for name, value in zip(classes, values.tolist(), strict=True)}


def _instance_rows(
    out: BagOutput, classes: tuple[str, ...], metadata: dict[str, str], keys: NDArray[np.int32]
) -> pd.DataFrame:
    """Cells of one well, a row each, sorted by site and object number."""
    weights = out.instance_weights
    table = pd.DataFrame(metadata, index=range(len(keys)))
    table[SITE], table[OBJECT] = keys[:, 0], keys[:, 1]
    table["weight"] = np.full(len(keys), np.nan) if weights is None else weights.double().cpu().numpy()
    if out.instance_logits is not None:
        table[[f"logit_{name}" for name in classes]] = out.instance_logits.double().cpu().numpy()
    return table.sort_values([SITE, OBJECT])


def _instance_columns(classes: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(columns=[PLATE, WELL, SITE, OBJECT, "weight", *(f"logit_{name}" for name in classes)])

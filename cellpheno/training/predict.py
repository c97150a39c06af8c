"""Predict wells one at a time, so that memory does not grow with the plate."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from cellpheno.classes import called_classes
from cellpheno.errors import InputError
from cellpheno.images.crops import Crops
from cellpheno.models.mil import BagOutput, MILClassifier, flatten_positions
from cellpheno.names import OBJECT, PLATE, SITE, WELL
from cellpheno.training.bags import Limits, Normalization, normalize
from cellpheno.training.checkpoint import build, check_card
from cellpheno.training.fit import reproducible
from cellpheno.training.instances import Instances


def predict_wells(
    model: MILClassifier,
    card: Mapping[str, Any],
    wells: pd.DataFrame,
    *,
    limits: Limits,
    threads: int = 1,
    keep: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """Predict the class of each well and say what each of its cells or positions had to do with it.

    A well is read, encoded and pooled alone, in pieces of one size: what is said of it depends on no other well, and
    memory holds the pixels and features of one piece (of the whole well where a pooling attends between instances).

    Parameters
    ----------
    model, card
        As `cellpheno.training.checkpoint.load_model` gives them; the model works on its own device.
    wells : DataFrame
        Metadata_Plate, Metadata_Well, place (see `cellpheno.training.instances`). Wells without cells get no row: what
        to say of them is no matter of a model of cells.
    limits : mapping of str to ndarray of shape (1, c, 2)
        Of each plate (`plate_limits` of all its wells, with the card's normalisation).
    threads : int
        CPU threads; part of the result, since sums round differently.
    keep : callable, optional
        Gets the instances of each well once it is predicted: Metadata_*, weight (sums to 1 in a well), logit_<class>. A
        row a cell, in the order of site and object number; with a map of features a row a position, numbered row by
        row, and where its middle is in the field: Location_Center_Y, Location_Center_X, in pixels of the level that the
        model reads.

    Returns
    -------
    DataFrame
        Metadata_Plate, Metadata_Well, pred, prob_<class>, logit_<class>; score_<class> of a pooling of scores.

    Raises
    ------
    InputError
        If a plate has no limits, or pictures differ in size, channels or dtype from those of training.
    """
    normalization: Normalization = build(card["normalization"])()
    kind: Instances = build(card["instances"])()
    if normalization.scope == "plate" and (lost := sorted(set(wells[PLATE]) - set(limits))):
        raise InputError(*(f"plate {plate!r} has no limits for its normalisation" for plate in lost))
    columns = [PLATE, WELL, "pred", *(f"{k}_{name}" for k in ("prob", "logit") for name in model.classes)]
    predictions: list[dict[str, Any]] = []
    model.eval()
    with reproducible(0, threads), torch.inference_mode():
        for plate, well, place in wells[[PLATE, WELL, "place"]].itertuples(index=False):
            if kind.count(place):
                keys: list[pd.DataFrame] = []  # of the instances, piece by piece as they pass
                embed = partial(_embed, model, str(plate), normalization, limits, keys)
                out, weights = model.classify_pieces(map(embed, _pieces(kind, place, model.piece, card)))
                predictions.append({PLATE: plate, WELL: well, **_bag_row(out, model)})
                if keep is not None:
                    keep(_instance_rows(out, weights, model.classes, {PLATE: plate, WELL: well}, keys))
    return pd.DataFrame(predictions, columns=None if predictions else columns)


def _pieces(kind: Instances, place: str, size: int, card: Mapping[str, Any]) -> Iterator[Crops]:
    """Pictures of a well, piece by piece, each checked against the card."""
    n = kind.count(place)
    for start in range(0, n, size):
        crops = kind.read(place, slice(start, min(start + size, n)))
        channels, side = crops.pixels.shape[1], crops.pixels.shape[-1]
        if channels != len(card["channels"]):
            raise InputError(f"{place}: {channels} channels; the model was trained with {card['channels']}")
        try:
            check_card(card, dtype=str(crops.pixels.dtype), **({"crop_px": side} if kind.same_size else {}))
        except InputError as fault:
            raise InputError(*(f"{place}: {line}" for line in fault.faults)) from None
        yield crops


def _embed(
    model: MILClassifier,
    plate: str,
    normalization: Normalization,
    limits: Limits,
    keys: list[pd.DataFrame],
    crops: Crops,
) -> Tensor:
    """Features (n, d) of the cells or positions of a piece; their keys are added to ``keys``."""
    found = model.embed(normalize(crops.pixels, plate, normalization, limits).to(model.device))
    if found.ndim == 2:
        keys.append(pd.DataFrame({SITE: crops.site, OBJECT: crops.object_number}))
    else:
        centres = [
            _centres(model.encoder, *sizes) for sizes in zip(crops.pixels.shape[2:], found.shape[2:], strict=True)
        ]
        keys.append(_positions(crops.site, *centres))
    return flatten_positions(found, torch.zeros(len(found), dtype=torch.long))[0]


def _centres(encoder: Any, n_pixels: int, n_positions: int) -> NDArray[np.float64]:
    """Middles of the positions along one axis, in pixels of the image."""
    centres: NDArray[np.float64] = encoder.first_centre(n_pixels) + np.arange(n_positions) * float(encoder.stride)
    return centres


def _positions(site: NDArray[np.int32], centre_y: NDArray[np.float64], centre_x: NDArray[np.float64]) -> pd.DataFrame:
    """Keys of the positions of some fields, row by row, and the middle of each in pixels of the image."""
    n, rows, columns = len(site), len(centre_y), len(centre_x)
    y, x = np.divmod(np.tile(np.arange(rows * columns), n), columns)
    return pd.DataFrame(
        {
            SITE: np.repeat(site, rows * columns),
            OBJECT: (y * columns + x + 1).astype(np.int32),
            "Location_Center_Y": centre_y[y],
            "Location_Center_X": centre_x[x],
        }
    )


def _bag_row(out: BagOutput, model: MILClassifier) -> dict[str, Any]:
    """One well's prediction, as columns of the prediction table."""
    classes = model.classes
    logits = out.logits[0].cpu().double()  # (K,); double, so that the printed probabilities sum to 1
    row: dict[str, Any] = {"pred": called_classes(logits[None].numpy(), classes, model.multilabel)[0]}
    row |= _columns("prob", classes, logits.sigmoid() if model.multilabel else logits.softmax(0))
    row |= _columns("logit", classes, logits)
    if out.bag_scores is not None:
        row |= _columns("score", classes, out.bag_scores[0].cpu().double().sigmoid())
    return row


def _columns(kind: str, classes: tuple[str, ...], values: Tensor) -> dict[str, float]:
    return {f"{kind}_{name}": value for name, value in zip(classes, values.tolist(), strict=True)}


def _instance_rows(
    out: BagOutput, weights: Tensor, classes: tuple[str, ...], metadata: dict[str, str], pieces: list[pd.DataFrame]
) -> pd.DataFrame:
    """Instances of one well, a row each, sorted by site and object number; ``pieces`` are their keys."""
    keys = pd.concat(pieces, ignore_index=True)
    table = keys.assign(**metadata)[[*metadata, *keys]].assign(weight=weights.cpu().double().numpy())
    table[[f"logit_{name}" for name in classes]] = out.instance_logits.cpu().double().numpy()
    return table.sort_values([SITE, OBJECT], ignore_index=True)

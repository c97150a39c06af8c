"""Trained models on disk: weights that carry no code, and a card that says what they are for.

A model's folder holds ``model.safetensors`` and ``card.json``. Classes stand in the card as plain dicts (see
`cellpheno.components`); loading builds only what `build` admits, whatever a card says.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors

from cellpheno import components
from cellpheno.classes import membership
from cellpheno.components import describe, resolve, targets
from cellpheno.errors import InputError
from cellpheno.models.mil import MILClassifier, build_classifier
from cellpheno.plates.commit import commit_file
from cellpheno.training.bags import Limits, Normalization
from cellpheno.training.instances import Cells, Instances, describe_instances

WEIGHTS, CARD = "model.safetensors", "card.json"


class Checkpoint(NamedTuple):
    """A trained model and its card."""

    model: MILClassifier
    card: dict[str, Any]


def build(description: Mapping[str, Any]) -> Callable[..., Any]:
    """Turn a part of a card into a class with its knobs filled in, if a card may name it.

    Admitted are the classes and functions of ``cellpheno.models``, the kinds of instances of ``cellpheno.training`` and
    torch's layers. It is the object found that is judged, not the name that leads to it.

    Raises
    ------
    InputError
        If the card names anything else, or a knob that does not exist.

    Examples
    --------
    >>> build({"_target_": "cellpheno.models.pooling.NoisyAnd", "slope": 5.0})(n_classes=2).slope
    5.0
    >>> build({"_target_": "cellpheno.plates.commit.commit_folder"})
    Traceback (most recent call last):
    cellpheno.errors.InputError: cellpheno.plates.commit.commit_folder is not admitted in a model's card
    """
    for target in targets(description):
        found: Any = resolve(target)
        ours = found.__module__.startswith(
            ("cellpheno.models.", "cellpheno.training.instances", "cellpheno.training.measured")
        )
        if not ours and not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
            raise InputError(f"{target} is not admitted in a model's card")
    part: Callable[..., Any] = components.build({**description, "_partial_": True})
    return part


def with_defaults(part: Callable[..., Any]) -> "partial[Any]":
    """Fill in a class's plain defaults, so that those of a later version cannot change what an older card means.

    Examples
    --------
    >>> from cellpheno.models.pooling import NoisyAnd
    >>> with_defaults(NoisyAnd).keywords
    {'slope': 10.0, 'threshold': 0.5}
    """
    defaults = {name: knob.default for name, knob in inspect.signature(part).parameters.items()}
    plain = {name: value for name, value in defaults.items() if isinstance(value, bool | int | float | str)}
    return partial(part, **plain)


def make_card(
    parts: Mapping[str, Callable[..., Any]],
    normalization: Normalization,
    *,
    classes: Sequence[str],
    labels: Sequence[str],
    multilabel: bool,
    channels: Sequence[str],
    instances: Instances,
    first: NDArray[Any],
    limits: Limits,
) -> dict[str, Any]:
    """Say what a model is made of and what it was trained on, as plain values.

    Parameters
    ----------
    parts : mapping of name to callable
        ``model``, ``encoder`` and ``pooling``, with their knobs filled in.
    normalization : Normalization
    classes, labels : sequence of str
        The classes, and the labels of all wells of the training fold.
    multilabel : bool
    channels : sequence of str
    instances : Instances
    first : ndarray
        Pixels (1, c, y, x) of one instance: the size and kind of all.
    limits : mapping of plate to ndarray
    """
    counts = membership(labels, classes, multilabel).sum(axis=0).tolist()
    return {
        "cellpheno": version("cellpheno"),
        "torch": torch.__version__,
        "classes": list(classes),
        "class_counts": dict(zip(classes, counts, strict=True)),
        "n_labelled": len(labels),
        "channels": list(channels),
        "crop_px": first.shape[-1] if instances.same_size else None,
        "dtype": str(first.dtype),
        "limits": {plate: np.asarray(values).tolist() for plate, values in sorted(limits.items())},
        "instances": describe_instances(instances),
        "normalization": describe_normalization(normalization),
        **{name: describe(with_defaults(part)) for name, part in parts.items()},
    }


def describe_normalization(normalization: Normalization) -> dict[str, Any]:
    """A normalisation with all its knobs, as it stands in a card."""
    described: dict[str, Any] = describe(with_defaults(partial(type(normalization), **vars(normalization))))
    return described


def save_model(folder: Path, model: MILClassifier, card: Mapping[str, Any]) -> None:
    """Write the weights, then the card with their hash.

    Parameters
    ----------
    folder : Path
        Made where missing.
    model : MILClassifier
    card : mapping
        Plain values: see `load_model` for what loading needs.
    """
    weights = dump_tensors({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    with commit_file(folder / WEIGHTS) as path:
        path.write_bytes(weights)
    text = json.dumps({**card, "weights_sha256": hashlib.sha256(weights).hexdigest()}, indent=2, sort_keys=True)
    with commit_file(folder / CARD) as path:
        path.write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path | str) -> dict[str, Any]:
    """Read a model's card.

    Raises
    ------
    InputError
        If there is none, or it is no card.
    """
    path = Path(folder) / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; this is not the folder of a trained model") from None
    except ValueError as fault:
        raise InputError(f"{path}: not a model's card ({fault})") from None
    wanted = ("classes", "class_counts", "channels", "model", "encoder", "pooling", "normalization", "weights_sha256")
    if missing := [key for key in wanted if not isinstance(card, dict) or key not in card]:
        raise InputError(f"{path}: a model's card needs {missing}")
    return {"instances": describe(Cells), **card}  # before there were fields, all instances were cells


def several_classes(card: Mapping[str, Any]) -> bool:
    """Whether a card's model answers with several classes a well; older cards do not say it, and theirs do not.

    Examples
    --------
    >>> several_classes({"model": {"multilabel": True}}), several_classes({"model": {}})
    (True, False)
    """
    return bool(card["model"].get("multilabel", False))


def load_model(folder: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a trained model, ready to predict; nothing in its folder is executed.

    Parameters
    ----------
    folder : path
        Holds ``model.safetensors`` and ``card.json``.
    device : torch.device or str
        Where the model shall work.

    Returns
    -------
    Checkpoint
        The model in evaluation mode on that device, and its card.

    Raises
    ------
    InputError
        If a file is missing or changed, the card names something that is not admitted, or weights and card differ.
    """
    card = read_card(folder)
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise InputError(f"{path}: no such file; the card beside it has lost its weights")
    weights = path.read_bytes()
    if (found := hashlib.sha256(weights).hexdigest()) != card["weights_sha256"]:
        raise InputError(f"{path}: damaged or replaced; its sha256 is {found}, the card says {card['weights_sha256']}")
    try:
        parts = [build(card[part]) for part in ("model", "encoder", "pooling")]
        with torch.device("meta"):  # no random or pretrained weights are made, whose package may be missing
            model = build_classifier(*parts, classes=card["classes"], n_channels=len(card["channels"]))
        own = {name: value.clone() for name, value in load_tensors(weights).items()}  # out of the file's bytes
        model.load_state_dict(own, assign=True)
        model.to("cpu").encoder.to(memory_format=model.layout)
    except InputError as fault:
        raise InputError(*(f"{folder}: {line}" for line in fault.faults)) from None
    except (RuntimeError, TypeError, ValueError, safetensors.SafetensorError) as fault:
        raise InputError(f"{folder}: the weights do not fit the card: {fault}") from None
    return Checkpoint(model.to(device).eval(), card)


def check_card(card: Mapping[str, Any], **data: Any) -> None:
    """Refuse data that a model was not trained for.

    Parameters
    ----------
    card : mapping
    **data
        What the data are, by the card's keys: channels, classes, pixel_size_um, crop_px, dtype, normalization. Pixel
        sizes may differ by 1 %.

    Raises
    ------
    InputError
        Naming both sides of each difference.

    Examples
    --------
    >>> check_card({"channels": ["DNA", "ER"]}, channels=["ER", "DNA"])
    Traceback (most recent call last):
        ...
    cellpheno.errors.InputError: channels: the model was trained with ['DNA', 'ER'], the data have ['ER', 'DNA']
    """
    faults = []
    for key, value in data.items():
        trained, found = card[key], list(value) if isinstance(value, tuple) else value
        if key == "pixel_size_um" and trained and found:
            same = abs(found - trained) <= 0.01 * trained
        else:
            same = found == trained
        if not same:
            faults.append(f"{key}: the model was trained with {trained}, the data have {found}")
    if faults:
        raise InputError(*faults)

"""What a training is made of, made once without data: what a library refuses is told before any work is done."""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from cellpheno.components import describe, refusal
from cellpheno.errors import InputError
from cellpheno.models.finetune import parameter_groups
from cellpheno.models.mil import MILClassifier, build_classifier
from cellpheno.training.checkpoint import read_card
from cellpheno.training.configurations import check_configurations, configured
from cellpheno.training.fit import check_trainer, quiet

PARTS = ("encoder", "pooling", "model", "normalization", "instances", "augmentation", "data", "optimizer", "scheduler")


def check_training(
    settings: Mapping[str, Any],
    configurations: Sequence[Mapping[str, Any]] = ({},),
    where: str = "",
    wells: bool = True,
) -> None:
    """Refuse parts of a training that cannot be made, in any of its configurations.

    Parameters
    ----------
    settings : mapping
        The keys of train; others are passed over.
    configurations : sequence of mapping
        Settings among which a fold chooses.
    where : str
        Stands before the keys in a message, such as ``contestants.mean.``.
    wells : bool
        Wells are trained on, not single cells with labels of their own.

    Raises
    ------
    InputError
        With all faults, each with its key.
    """
    parts = {name: settings[name] for name in (*PARTS, "trainer", "logger") if callable(settings.get(name))}
    several = settings.get("label_separator") is not None
    try:
        check_configurations(parts, configurations)
        if settings.get("start") is not None:
            read_card(settings["start"])
        if wells and getattr(getattr(parts.get("data"), "func", None), "instances_have_labels", False):
            raise InputError("data=single_cells is of cells with labels of their own (train_cells); set data=cell_bags")
    except InputError as error:
        raise InputError(*(f"{where}{fault}" for fault in error.faults)) from None
    faults, tried = list[str](), list[Any]()
    for own in configurations:
        made = configured(parts, own)
        if (known := describe(made)) not in tried:
            tried.append(known)
            faults += [f"{where}{_of_choice(fault, own)}" for fault in _faults(made, settings, several)]
    if faults:
        raise InputError(*dict.fromkeys(faults))


def _changes(augmentation: Any) -> bool:
    """Whether an augmentation is asked for anything: all settings of ``augmentation=none`` are zero."""
    known = () if augmentation is None else inspect.signature(augmentation).parameters.values()
    return any(parameter.default is not parameter.empty and bool(parameter.default) for parameter in known)


def _of_choice(fault: str, own: Mapping[str, Any]) -> str:
    """Say of a fault that it is of a setting of ``configurations``."""
    return f"configurations: {fault}" if any(fault.startswith(f"{key}=") for key in own) else fault


def _faults(made: Mapping[str, Any], settings: Mapping[str, Any], several: bool) -> list[str]:
    """What refuses to be made, part by part; nothing is computed, for tensors of torch's device ``meta`` are empty."""
    faults = [fault for name in ("normalization", "instances") if name in made for fault in _alone(name, made[name])]
    kind = made.get("instances")
    if _changes(made.get("augmentation")) and not getattr(getattr(kind, "func", kind), "pictures", True):
        faults.append("augmentation: features are no pictures that can be turned or brightened; give augmentation=none")
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "augmentation" in made:
            pixels, generator = torch.zeros(2, 3, 16, 16), torch.Generator()
            faults += refusal(lambda augmentation: augmentation(pixels, generator), _only(made, "augmentation"))
        callbacks = settings.get("callbacks") or {}
        for name, callback in callbacks.items():
            faults += _alone(f"callbacks.{name}", callback) if callable(callback) else []
        for fault in refusal(_make_trainer, _only(made, "trainer")):
            faults.append(fault + ("; give trainer=default for a CPU" if fault.startswith("trainer.accel") else ""))
        with torch.device("meta"):
            found = refusal(functools.partial(_network, several), _only(made, "encoder", "pooling", "model"))
            if found:
                return faults + found
            network = _network(several, **_only(made, "encoder", "pooling", "model"))
            groups = functools.partial(parameter_groups, network, network.rates)
            if found := refusal(lambda optimizer: optimizer(groups()), _only(made, "optimizer")):
                return faults + found
            if "scheduler" in made:
                optimizer = made["optimizer"](groups())
                faults += refusal(lambda scheduler: scheduler(optimizer, 100), _only(made, "scheduler"))
    return faults


def _only(made: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: made[name] for name in names}


def _alone(name: str, component: Callable[..., Any]) -> list[str]:
    """Faults of what is made of its own settings alone."""
    return refusal(lambda **one: one[name](), {name: component})


def _network(several: bool, encoder: Any, pooling: Any, model: Any) -> MILClassifier:
    """A network for stand-ins of classes and channels, whose number only the data know."""
    network = build_classifier(
        functools.partial(model, multilabel=several), encoder, pooling, classes=("a", "b"), n_channels=3
    )
    parameter_groups(network, network.rates)
    return network


def _make_trainer(trainer: Callable[..., Any]) -> None:
    given = {"logger": False, "callbacks": [], "enable_progress_bar": False}
    known = inspect.signature(trainer).parameters
    check_trainer(trainer(**{key: value for key, value in given.items() if key in known}))

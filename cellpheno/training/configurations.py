"""Other settings of a model's components, such as ``{"optimizer.lr": 0.01}``, among which a fold chooses."""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from cellpheno.errors import InputError


def configured(components: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Put settings in the place of a component's own.

    Parameters
    ----------
    components : mapping of str to partial
    settings : mapping of str to value
        ``component.knob`` to value, with a further dot for a component within a component.

    Examples
    --------
    >>> from torch.optim import AdamW
    >>> made = configured({"optimizer": functools.partial(AdamW, lr=0.1)}, {"optimizer.lr": 0.01})
    >>> made["optimizer"].keywords
    {'lr': 0.01}
    """
    made = dict(components)
    for dotted, value in settings.items():
        name, _, knob = dotted.partition(".")
        made[name] = _with(made[name], knob, value)
    return made


def _with(component: Any, knob: str, value: Any) -> Any:
    inner, _, rest = knob.partition(".")
    if rest:
        value = _with(component.keywords[inner], rest, value)
    return functools.partial(component, **{inner: value})


def check_configurations(components: Mapping[str, Any], configurations: Sequence[Mapping[str, Any]]) -> None:
    """Refuse settings that no component takes.

    Raises
    ------
    InputError
        With every fault.

    Examples
    --------
    >>> check_configurations({"optimizer": functools.partial(dict, lr=1)}, [])
    Traceback (most recent call last):
    cellpheno.errors.InputError: configurations=[]: wanted one at least; [{}] is the model as it is configured
    """
    faults = [] if configurations else ["configurations=[]: wanted one at least; [{}] is the model as it is configured"]
    for settings in configurations:
        for dotted in settings:
            name, _, knob = dotted.partition(".")
            faults += _faults(dotted, components, name, knob)
    if faults:
        raise InputError(*dict.fromkeys(faults))


def _faults(dotted: str, within: Mapping[str, Any], name: str, knob: str) -> list[str]:
    made = sorted(key for key, part in within.items() if callable(part))
    if name not in made:
        return [f"configurations: {dotted}: {name} is no component; they are {', '.join(made)}"]
    inner, _, rest = knob.partition(".")
    component = within[name]
    known = list(inspect.signature(component).parameters)
    if inner not in known:
        return [f"configurations: {dotted}: {name} takes {', '.join(known)}"]
    return _faults(dotted, getattr(component, "keywords", {}), inner, rest) if rest else []

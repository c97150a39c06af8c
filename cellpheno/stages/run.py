"""The whole job: the steps one after another, each skipping what its keys say is done."""

import inspect
import logging
from collections.abc import Sequence
from typing import Any

from cellpheno.batch.engine import Outcome
from cellpheno.components import resolve
from cellpheno.errors import ConfigError

log = logging.getLogger("cellpheno")


def run(steps: Sequence[str], **settings: Any) -> Outcome:
    """Do the whole job, from raw images to the report; done steps are skipped.

    Parameters
    ----------
    steps : sequence of str
        Which steps, in order.
    classifier : callable
        What the baselines fit to their features.
    **settings
        The keys of all steps.
    """
    outcomes: list[Outcome] = []
    for step in steps:
        outcomes.append(_call(step, settings))
        if outcomes[-1].bugs:
            break  # what follows would rest on nothing
    if not outcomes:
        raise ConfigError("steps=[] leaves nothing to do; give for example steps=[segment,measure]")
    left_out = tuple(dict.fromkeys(line for outcome in outcomes for line in outcome.left_out))
    return Outcome(outcomes[-1].path, left_out, tuple(line for outcome in outcomes for line in outcome.bugs))


def _call(step: str, settings: dict[str, Any]) -> Outcome:
    function = resolve(f"cellpheno.stages.{step}.{step}")
    taken = {name: settings[name] for name in inspect.signature(function).parameters if name in settings}
    outcome: Outcome = function(**taken)
    for line in outcome.left_out:
        log.warning("%s left out %s", step, line)
    return outcome

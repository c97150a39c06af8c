"""The whole job: the steps one after another, each skipping what its keys say is done."""

import functools
import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cellpheno.batch.engine import Outcome
from cellpheno.components import resolve
from cellpheno.errors import ConfigError

log = logging.getLogger("cellpheno")


def run(steps: Sequence[str], **settings: Any) -> Outcome:
    """Do the whole job, from raw images to the report; done steps are skipped.

    Steps of one plate are done for each of ``plates``. Where there are several, the name of a plate's file is its
    barcode: it tells the importer and the plate map which images and rows are its own.

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
    for step, own in [(name, own) for name in steps for own in _turns(name, settings)]:
        outcomes.append(_call(step, own))
        if outcomes[-1].bugs:
            break  # what follows would rest on nothing
    if not outcomes:
        raise ConfigError("steps=[] leaves nothing to do; give for example steps=[segment,measure]")
    left_out = tuple(dict.fromkeys(line for outcome in outcomes for line in outcome.left_out))
    return Outcome(outcomes[-1].path, left_out, tuple(line for outcome in outcomes for line in outcome.bugs))


def _turns(step: str, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Settings of each call of a step: one, or one a plate."""
    plates = settings.get("plates") or []
    if len(plates) < 2 or "plate" not in inspect.signature(_function(step)).parameters:
        return [settings]
    turns = []
    for plate in map(Path, plates):
        barcode = plate.name.removesuffix(".zarr").removesuffix(".ome")
        importer = functools.partial(settings["importer"], plate=barcode)
        turns.append({**settings, "plate": plate, "importer": importer})
    return turns


def _function(step: str) -> Callable[..., Outcome]:
    return resolve(f"cellpheno.stages.{step}.{step}")


def _call(step: str, settings: dict[str, Any]) -> Outcome:
    function = _function(step)
    taken = {name: settings[name] for name in inspect.signature(function).parameters if name in settings}
    outcome: Outcome = function(**taken)
    for line in outcome.left_out:
        log.warning("%s left out %s", step, line)
    return outcome

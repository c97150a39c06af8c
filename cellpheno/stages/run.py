"""The whole job: the steps one after another, each skipping what its keys say is done."""

import functools
import inspect
import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cellpheno.batch.engine import Job, Outcome
from cellpheno.batch.workers import kept_workers
from cellpheno.bounds import Listed
from cellpheno.components import resolve
from cellpheno.errors import ConfigError
from cellpheno.stages.run_folder import contestant_folder, curve_folder

log = logging.getLogger("cellpheno")
CONTEST = ("train", "predict", "compare")
LEARNING = ("train", "predict")  # steps that each contestant of `contestants` goes through by itself


def run(steps: Annotated[Sequence[str], Listed()], **settings: Any) -> Outcome:
    """Do the whole job, from raw images to the report; done steps are skipped.

    Steps of one plate are done for each of ``plates``. Where there are several, the name of a plate's file is its
    barcode: it tells the importer and the plate map which images and rows are its own. ``train`` and ``predict`` are
    done for the run's own model and then for each of ``contestants``, in ``contestants/NAME`` of the run's folder.

    Parameters
    ----------
    steps : sequence of str
        Which steps, in order.
    classifier : callable
        What the baselines fit to their features.
    contestants : mapping of str to mapping
        More networks on the same folds, each with the keys of train in which it differs, such as pooling.
    **settings
        The keys of all steps.
    """
    turns = [turn for name in steps for turn in _turns(name, settings)]
    _check(turns, settings)
    with kept_workers():
        outcomes = _do(turns, settings)
    if not outcomes:
        raise ConfigError("steps=[] leaves nothing to do; give for example steps=[segment,measure]")
    left_out = tuple(dict.fromkeys(line for outcome in outcomes for line in outcome.left_out))
    return Outcome(outcomes[-1].path, left_out, tuple(line for outcome in outcomes for line in outcome.bugs))


def _do(turns: Sequence[tuple[str, dict[str, Any]]], settings: dict[str, Any]) -> list[Outcome]:
    """Do all turns, up to one that met a bug: what follows would rest on nothing."""
    outcomes: list[Outcome] = []
    to_ask = {step for step, _ in turns} >= {"train", "compare"}
    for step, series in itertools.groupby(turns, key=lambda turn: turn[0]):
        calls = [own for _, own in series]
        if step == "train" and to_ask:  # before it the wells may not be there
            _check_wells(settings)
            to_ask = False
        if step == "train" and len(calls) > 1 and all(_side_by_side(own, calls[0]) for own in calls):
            outcomes += _train_together(calls)
            if outcomes[-1].bugs:
                return outcomes
        for own in calls:
            outcomes.append(_call(step, own))
            if outcomes[-1].bugs:
                return outcomes
    return outcomes


def _side_by_side(own: dict[str, Any], first: dict[str, Any]) -> bool:
    """Whether folds of a network may be trained beside those of another: with more threads they share the cores."""
    return bool(own["threads"] == 1 and own["engine"] is first["engine"])


def _train_together(calls: Sequence[dict[str, Any]]) -> list[Outcome]:
    """Train folds of several networks in one go: a worker need not wait for the last fold of each.

    Each `train` then finds its folds done, or does again what failed, and says so as it does alone.

    Returns
    -------
    list of Outcome
        Which wells had to be set aside before, as `train` says it, and at last bugs that the folds met.
    """
    gathered: list[Job] = []

    def gather(step: str, jobs: Sequence[Job], *, folder: Path, **_: Any) -> Outcome:
        gathered.extend(job._replace(folder=folder) for job in jobs)
        return Outcome(folder)

    planned = [_call("train", {**own, "engine": gather}) for own in calls]
    place = Path(calls[0]["output"])
    trained = calls[0]["engine"]("train", gathered, folder=place, root=place, max_failed=len(gathered))
    return [*planned, trained._replace(left_out=())]  # what a fold lacked `train` says with the well's name


def _check(turns: Sequence[tuple[str, dict[str, Any]]], settings: dict[str, Any]) -> None:
    """Refuse before the first step what the last one would refuse: contestants that cannot be made or do not fit."""
    names = {step for step, _ in turns}
    if "train" in names:
        check = resolve("cellpheno.stages.rehearsal.check_training")
        for name in (None, *(settings.get("contestants") or {})):
            own = settings if name is None else _of_contestant(settings, name)
            check(own, own["configurations"], "" if name is None else f"contestants.{name}: ")
    if names & {"predict", "embed"}:
        _taken("cellpheno.training.device.find_device", settings)
    if "compare" in names:
        _taken("cellpheno.stages.contest_check.check_contest", settings)
    if {"train", "compare"} <= names:
        _taken("cellpheno.stages.contest_check.check_names", settings)


def _check_wells(settings: dict[str, Any]) -> None:
    """Refuse before the first training what the wells, or what a later network starts from, do not allow."""
    plan = _taken("cellpheno.stages.run_folder.plan_run", settings)
    _taken("cellpheno.stages.contest_check.check_wells", {**settings, "plan": plan})
    for own in (settings, *(_of_contestant(settings, name) for name in settings.get("contestants") or {})):
        before = _taken("cellpheno.stages.start.seen_before", {**own, "instances": own["instances"]()})
        resolve("cellpheno.stages.start.check_seen")(before, plan.folds, own["no_leak"])


def _turns(step: str, settings: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Calls that a step stands for: one, or one a plate, one a contestant that learns, or whole contests."""
    if step == "learning_curve":
        smaller = [turn for name in CONTEST for n in settings["curve"] for turn in _turns(name, _with(settings, n))]
        return [*smaller, (step, settings)]
    if step in LEARNING:
        contestants = settings.get("contestants") or {}
        return [(step, settings), *((step, _of_contestant(settings, name)) for name in contestants)]
    plates = settings.get("plates") or []
    if len(plates) < 2 or "plate" not in inspect.signature(_function(step)).parameters:
        return [(step, settings)]
    turns = []
    for plate in map(Path, plates):
        barcode = plate.name.removesuffix(".zarr").removesuffix(".ome")
        importer = functools.partial(settings["importer"], plate=barcode)
        turns.append((step, {**settings, "plate": plate, "importer": importer}))
    return turns


def _with(settings: dict[str, Any], wells_per_class: int) -> dict[str, Any]:
    """The run's settings for a contest on few training wells, in which the first configurations count."""
    folder = curve_folder(Path(settings["output"]), wells_per_class)
    return {**settings, "output": folder, "models": folder, "wells_per_class": wells_per_class, "tuning": 0.0}


def _of_contestant(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """The run's settings with those of a contestant in their place, and a folder of its own within the run's."""
    own = settings["contestants"][name]
    if unknown := sorted(set(own) - set(inspect.signature(_function("train")).parameters)):
        raise ConfigError(f"contestants.{name}: train has no key {', '.join(unknown)}")
    places = {key: contestant_folder(Path(settings[key]), name) for key in ("output", "models") if key in settings}
    started = {"start": Path(own["start"])} if own.get("start") is not None else {}
    return {**settings, **own, **started, **places, "contestant": name}


def _function(step: str) -> Callable[..., Outcome]:
    return resolve(f"cellpheno.stages.{step}.{step}")


def _taken(target: str, settings: dict[str, Any]) -> Any:
    """Call a function with those of the settings that it names."""
    function = resolve(target)
    return function(**{name: settings[name] for name in inspect.signature(function).parameters if name in settings})


def _call(step: str, settings: dict[str, Any]) -> Outcome:
    outcome: Outcome = _taken(f"cellpheno.stages.{step}.{step}", settings)
    for line in outcome.left_out:
        log.warning("%s left out %s", step, line)
    return outcome

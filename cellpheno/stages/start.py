"""What a training starts from, a model or the features that one made, and the wells which that model had seen."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.compare.leaks import IMAGE
from cellpheno.compare.strict_splits import UNSCORED
from cellpheno.errors import InputError
from cellpheno.models.channels import PerChannel, channel_mixing
from cellpheno.names import PLATE, WELL
from cellpheno.plates.plate import Plate, open_plate
from cellpheno.stages.run_folder import SEEN_BEFORE, TRAINED_ON, read_csv, write_csv
from cellpheno.training.bags import Normalization
from cellpheno.training.checkpoint import Checkpoint, check_card, describe_normalization, load_model, read_card
from cellpheno.training.instances import Embedded, Instances

Seen = Mapping[str, pd.DataFrame | None]  # wells that each source had seen; None where that is not known

log = logging.getLogger("cellpheno")


def load_start(start: Path | None) -> Checkpoint | None:
    """Load the model from whose encoder a training starts, if there is one; what cannot be loaded is refused."""
    try:
        return None if start is None else load_model(start)
    except ModuleNotFoundError as error:
        raise InputError(str(error)) from error


def check_start(
    start: Path | None,
    trained: Checkpoint | None,
    *,
    channels: Sequence[str],
    pixel_size_um: float | None,
    normalization: Normalization,
) -> None:
    """Say in what the data differ from those that taught a start, and which channel gets whose weights.

    Other channels, another magnification or normalisation may be meant. The same channels in another order are not:
    each would be seen with the weights of another.

    Raises
    ------
    InputError
        If the channels are the start's in another order, and its encoder mixes them.
    """
    if trained is None:
        return
    card, mixed = trained.card, not isinstance(trained.model.encoder, PerChannel)
    own, named = list(card["channels"]), list(channels)
    if mixed:
        check_order(f"start={start}: channels: the model was trained with {own}", own, named, "start=null")
    data: dict[str, Any] = {"pixel_size_um": pixel_size_um, "normalization": describe_normalization(normalization)}
    data |= {"channels": named} if mixed else {}
    try:
        check_card(card, **{key: value for key, value in data.items() if key in card})
    except InputError as differ:
        for told in differ.faults:
            where = f"; weights go {_mapping(own, named)}" if told.startswith("channels:") else ""
            log.warning("start=%s: %s%s", start, told, where)


def check_order(told: str, own: Sequence[str], channels: Sequence[str], otherwise: str) -> None:
    """Refuse channels that are those of a first training in another order; ``told`` says whose and which those are.

    Examples
    --------
    >>> check_order("source=A: it has ['DNA', 'ER']", ["DNA", "ER"], ["ER", "DNA"], "another source")
    Traceback (most recent call last):
    cellpheno.errors.InputError: source=A: it has ['DNA', 'ER'], the data have ['ER', 'DNA'], the same in another ...
    """
    if list(own) != list(channels) and sorted(own) == sorted(channels):
        raise InputError(
            f"{told}, the data have {list(channels)}, the same in another order: each would be seen with the weights "
            f"of another; import plates in its order, or {otherwise}"
        )


def _mapping(own: Sequence[str], named: Sequence[str], most: int = 8) -> str:
    """From which of a start's channels those of the data have their weights."""
    mixing = channel_mixing(len(own), len(named))
    told = [
        f"from {' and '.join(own[i] for i in mixing[:, k].nonzero()[:, 0].tolist())} to {name}"
        for k, name in enumerate(named[:most])
    ]
    return ", ".join([*told, *(["..."] if len(named) > most else [])])


def seen_before(start: Path | None, plates: Sequence[Path] = (), instances: Instances | None = None) -> Seen:
    """Wells that taught what a training starts from: the model ``start``, and what made its features."""
    found = {} if start is None else {f"start={start}": seen_wells(start)}
    if isinstance(instances, Embedded):
        for plate in map(open_plate, plates):
            files = [seen_file(plate, instances.name, start_hash) for start_hash in instances.starts(plate)]
            tables = [read_csv(file) if file.is_file() else None for file in files]
            found |= {f"features {instances.name!r} of {plate.name}": merged(tables)} if tables else {}
    return found


def seen_file(plate: Plate, embedding: str, start_hash: str) -> Path:
    """Where it stands which wells had taught the model of this hash, which made features of the plate."""
    return plate.folder / "features" / embedding / f"seen_before-{start_hash[:16]}.csv"


def check_seen(before: Seen, held: pd.DataFrame, no_leak: Sequence[str]) -> None:
    """Refuse to start from what learned from wells that are held out: to it their pictures are not new.

    Where ``no_leak`` allows the same picture on both sides of a fold, it is said and no more.

    Parameters
    ----------
    before : mapping of str to DataFrame
        As `seen_before` gives it.
    held : DataFrame
        Wells; where it has a column ``fold``, those held out in some fold count.
    no_leak : sequence of str

    Raises
    ------
    InputError
        Also where nothing tells which wells were seen.
    """
    if "fold" in held:
        held = held[held["fold"] != UNSCORED]
    held = held[[PLATE, WELL]].drop_duplicates()
    faults = []
    for source, seen in before.items():
        if seen is None:
            faults.append(
                f"{source}: which wells the model has seen is not known ({TRAINED_ON} or {SEEN_BEFORE} is missing)"
            )
        elif not (both := held.merge(seen, on=[PLATE, WELL])).empty:
            named = ", ".join(f"{plate} {well}" for plate, well in both[:5].itertuples(index=False))
            named += ", ..." if len(both) > 5 else ""
            faults.append(f"{source}: the model has learned from {len(both)} wells that this run holds out ({named})")
    if faults and IMAGE in no_leak:
        rest = ",".join(name for name in no_leak if name != IMAGE)
        raise InputError(
            *faults[:-1], f"{faults[-1]}; start from a model of other wells, or allow it: no_leak=[{rest}]"
        )
    for told in faults:
        log.warning("%s; scores of such wells say too much", told)


def seen_wells(model: Path) -> pd.DataFrame | None:
    """Wells that taught a model or those that it started from; None where that is not known."""
    started = read_card(model).get("training", {}).get("start") is not None
    files = [model / TRAINED_ON, *([model / SEEN_BEFORE] if started or (model / SEEN_BEFORE).is_file() else [])]
    return merged([read_csv(path) if path.is_file() else None for path in files])


def merged(tables: Sequence[pd.DataFrame | None]) -> pd.DataFrame | None:
    """All wells of some tables, each once; None where one of them is not known."""
    known = [table[[PLATE, WELL]] for table in tables if table is not None]
    return pd.concat(known, ignore_index=True).drop_duplicates() if known and len(known) == len(tables) else None


def write_taught(training: pd.DataFrame, before: pd.DataFrame | None, folder: Path) -> None:
    """Write beside a model which wells taught it, and which ones had been seen by what it started from."""
    write_csv(training[[PLATE, WELL]].drop_duplicates(), folder / TRAINED_ON)
    if before is not None:
        write_csv(before, folder / SEEN_BEFORE)

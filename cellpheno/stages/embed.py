"""Crops or tiles to features: an encoder that no longer learns sees each once, however many trainings follow."""

import functools
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from cellpheno.batch.engine import Job, Outcome, Result
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import input_hashes
from cellpheno.bounds import Listed, Range
from cellpheno.components import describe
from cellpheno.errors import InputError
from cellpheno.images.crops import write_crops
from cellpheno.names import PLATE, WELL
from cellpheno.plates.commit import commit_folder
from cellpheno.plates.plate import Plate, open_plate
from cellpheno.stages.facts import as_lists, grey_limits
from cellpheno.stages.run_folder import write_csv
from cellpheno.stages.start import seen_file, seen_wells
from cellpheno.stages.well_steps import do_wells, records_after
from cellpheno.training.allocator import give_back_freed_memory
from cellpheno.training.bags import Normalization
from cellpheno.training.checkpoint import build, check_card, load_model, with_defaults
from cellpheno.training.device import find_device, rounding
from cellpheno.training.embed import embed_well, fixed_encoder, weights_hash
from cellpheno.training.instances import Embedded, Instances, describe_instances

Component = Callable[..., Any]
log = logging.getLogger("cellpheno")


class Source(NamedTuple):
    """What makes the features, and what stands beside them to say so."""

    network: nn.Module
    normalization: Normalization
    about: dict[str, Any]


def embed(
    plate: Path,
    embed_instances: Component,
    embed_encoder: Component,
    embed_normalization: Component,
    engine: Callable[..., Outcome],
    wells: Annotated[Sequence[str] | None, Listed()] = None,
    embedding: str = "default",
    start: Path | None = None,
    threads: Annotated[int, Range(1)] = 2,
    device: str = "cpu",
) -> Outcome:
    """Turn every cell or tile into features once, with an encoder that no longer learns, and store them a well.

    Parameters
    ----------
    plate : Path
        The OME-Zarr plate; cropped, where the instances are cells.
    embed_instances : callable
        What is turned into features: cells or tiles.
    embed_encoder : callable
        The network that turns a picture into features; it must come with weights, as efficientnet_lite0 does.
    embed_normalization : callable
        How raw pixels become the network's input.
    engine : callable
        Where the work runs.
    wells : sequence of str, optional
        Only these wells: names or rectangles such as B03-D06.
    embedding : str
        Name of these features: letters, digits, - and _. Several stand side by side.
    start : Path, optional
        Folder of a trained model whose encoder and normalisation are used in place of the chosen ones; a run on these
        features may not hold out wells which that model has seen.
    threads : int
        CPU threads of the model; part of the result, since sums round differently.
    device : str
        Where the model works: cpu, cuda, cuda:1, mps or another of torch's; part of the result, as threads. In a run it
        is the trainer's.
    """
    where = find_device(device)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", embedding):
        raise InputError(f"embedding={embedding!r}: wanted letters, digits, - and _, since a folder is named by it")
    opened = open_plate(plate)
    seen: Instances = embed_instances()
    if isinstance(seen, Embedded):
        raise InputError("embed_instances: features are made of cells or tiles, not of features")
    records = records_after(opened, seen.step, wells)
    source = _source(opened, seen, embed_encoder, embed_normalization, start)
    if not getattr(source.network, "pooled", True):
        wanted = "give embed_encoder.pooled=true" if start is None else f"start={start} was trained with maps of them"
        raise InputError(f"an instance has one row of features, no map of them (encoder.pooled=true): {wanted}")
    limits = grey_limits(_all_wells(opened, seen), source.normalization, seen)
    kind = Embedded(embedding)
    work = functools.partial(_embed_well, opened, seen, kind, source, limits, threads=threads, device=where)
    rounds = rounding(threads, where)
    jobs = [
        Job(well, _key(input_hashes(record, seen.step), source, limits, rounds), functools.partial(work, well))
        for well, record in records.items()
    ]
    if start is not None and (taught := seen_wells(start)) is not None:  # for trainings on these features
        write_csv(taught, seen_file(opened, embedding, source.about["start"]))
    serial = functools.partial(engine, workers=1)  # the network has the cores that `threads` names
    outcome = do_wells(kind.step, opened, jobs, serial, opened.folder / "features" / embedding)
    give_back_freed_memory()
    return outcome


def _source(
    plate: Plate, instances: Instances, encoder: Component, normalization: Component, start: Path | None
) -> Source:
    """The encoder with its weights: its own, or those of a trained model."""
    if start is None:
        try:
            network = fixed_encoder(encoder, len(plate.channels))
        except InputError:
            raise
        except (ModuleNotFoundError, ValueError) as error:
            raise InputError(str(error)) from error
        parts = {"encoder": encoder, "normalization": normalization}
        about = {name: describe(with_defaults(part)) for name, part in parts.items()}
        about |= {"weights_sha256": weights_hash(network), "start": None, **_seen(plate, instances)}
        return Source(network, normalization(), about)
    model, card = load_model(start)
    check_card(
        card, channels=plate.channels, pixel_size_um=instances.optics(plate)[1], **_pictures_of(plate, instances)
    )
    log.info("embed: encoder and normalisation of %s", start)
    about = {"encoder": card["encoder"], "normalization": card["normalization"], "start": card["weights_sha256"]}
    about |= {"weights_sha256": weights_hash(model.encoder), **_seen(plate, instances)}
    return Source(model.encoder, build(card["normalization"])(), about)


def _seen(plate: Plate, instances: Instances) -> dict[str, Any]:
    """What the encoder sees: features of other channels or of another magnification are others, and are named so."""
    channels, size = instances.optics(plate)
    rounded = None if size is None else float(f"{size:.2g}")  # a hundredth more or less is the same microscope
    return {"instances": describe_instances(instances), "channels": list(channels), "pixel_size_um": rounded}


def _pictures_of(plate: Plate, instances: Instances) -> dict[str, Any]:
    """Side and dtype of the plate's cells or tiles, as a card has them; nothing where no well has one."""
    for place in _all_wells(plate, instances)["place"]:
        if instances.count(place):
            pixels = instances.pixels(place, slice(0, 1))
            return {"crop_px": pixels.shape[-1], "dtype": str(pixels.dtype)}
    return {}


def _all_wells(plate: Plate, instances: Instances) -> pd.DataFrame:
    """Well table of all wells, whichever are embedded: the plate's grey levels rest on all."""
    wells = list(records_after(plate, instances.step, None))
    places = [str(instances.place(plate, well)) for well in wells]
    return pd.DataFrame({PLATE: [plate.name] * len(wells), WELL: wells, "place": places})


def _key(inputs: Sequence[str], source: Source, limits: Mapping[str, NDArray[np.float32]], rounds: int | str) -> str:
    return make_key(
        "embed",
        inputs=inputs,
        limits=as_lists(limits),
        threads=rounds,
        **source.about,
    )


def _embed_well(
    plate: Plate,
    instances: Instances,
    embedded: Embedded,
    source: Source,
    limits: Mapping[str, NDArray[np.float32]],
    well: str,
    *,
    threads: int,
    device: torch.device,
) -> Result:
    """Encode and store the cells or tiles of one well."""
    place, path = instances.place(plate, well), embedded.place(plate, well)
    how = (source.normalization, limits)
    features = embed_well(source.network, instances, place, plate.name, *how, threads=threads, device=device)
    n, d = features.pixels.shape[:2]
    about = {"plate": plate.name, "well": well, **source.about}
    about["limits"] = limits[plate.name].tolist() if plate.name in limits else None
    about["features"] = feature_names(source.about, d)
    with commit_folder(path) as temporary:
        write_crops(temporary, features, **about)
    return Result("done", [p for p in path.rglob("*") if p.is_file()], (), {"n_embedded": n, "n_features": d})


def feature_names(about: Mapping[str, Any], n: int) -> list[str]:
    """Names of features that tell their source apart: a model of one encoder's features refuses those of another.

    Examples
    --------
    >>> feature_names({"weights_sha256": "0f"}, 2)
    ['2e1cb4a3_0000', '2e1cb4a3_0001']
    """
    source = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
    return [f"{source}_{i:04d}" for i in range(n)]

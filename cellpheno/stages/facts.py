"""Facts of a plate that many wells share, from a sample drawn by a fixed seed."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.errors import DamagedInput, InputError
from cellpheno.names import PLATE
from cellpheno.training.bags import Limits, plate_limits
from cellpheno.training.instances import Instances

SAMPLE_SEED = 0  # a fact belongs to the plate, not to a run


def grey_limits(wells: pd.DataFrame, normalization: Any, instances: Instances) -> dict[str, NDArray[np.float32]]:
    """Limits that the normalisation of each plate rests on, from all its wells, whatever their labels.

    Training and prediction see the same values, since they ask for the same wells.

    Raises
    ------
    InputError
        If the normalisation does not take such pixels.
    """
    first: dict[str, NDArray[Any]] = {}
    if normalization.scope == "crop":
        with suppress(DamagedInput):  # the step says so when it comes to this well
            first = first_pixels(wells, instances)
    try:
        for pixels in first.values():
            normalization.limits(pixels)
    except ValueError as error:
        raise InputError(str(error)) from error
    return plate_limits(wells, normalization, seed=SAMPLE_SEED, instances=instances)


def first_pixels(wells: pd.DataFrame, instances: Instances) -> dict[str, NDArray[Any]]:
    """First instance (1, c, y, x) of each plate; a plate without any is left out."""
    places = {
        str(plate): next((place for place in own if instances.count(place)), None)
        for plate, own in wells.groupby(PLATE, sort=False)["place"]
    }
    return {plate: instances.pixels(place, slice(0, 1)) for plate, place in places.items() if place is not None}


def as_lists(limits: Limits) -> dict[str, list[Any]]:
    """Limits as plain data, for a key."""
    return {plate: values.tolist() for plate, values in limits.items()}


def as_arrays(limits: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Undo `as_lists`.

    Examples
    --------
    >>> as_arrays(as_lists({"P1": np.zeros((1, 2, 2), np.float32)}))["P1"].shape
    (1, 2, 2)
    """
    return {plate: np.array(values, np.float32) for plate, values in limits.items()}

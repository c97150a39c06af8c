"""Facts of a plate that many wells share, from a sample drawn by a fixed seed."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cellpheno.training.bags import plate_limits
from cellpheno.training.instances import Instances

SAMPLE_SEED = 0  # a fact belongs to the plate, not to a run


def grey_limits(wells: pd.DataFrame, normalization: Any, instances: Instances) -> dict[str, NDArray[np.float32]]:
    """Limits that the normalisation of each plate rests on, from all its wells, whatever their labels.

    Training and prediction see the same values, since they ask for the same wells.
    """
    return plate_limits(wells, normalization, seed=SAMPLE_SEED, instances=instances)

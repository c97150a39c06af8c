"""Grey levels of whole fields, without segmentation: what any picture tells before a cell is found in it."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cellpheno.names import channel_tokens

PERCENTILES = (1, 10, 50, 90, 99)


def field_statistics(pixels: NDArray[np.generic], channels: Sequence[str]) -> dict[str, float]:
    """Mean, standard deviation and percentiles of each channel, and the correlation of each pair of channels.

    Parameters
    ----------
    pixels : array of shape (c, y, x)
        Raw grey levels of a field.
    channels : sequence of str

    Returns
    -------
    dict of name to value
        Grey levels: ``Image_Intensity_MeanIntensity_DNA``, ``..._StdIntensity_DNA`` (divided by n) and
        ``..._Percentile_01_DNA`` (1, 10, 50, 90, 99; linear between ranks). Pearson's correlation over pixels:
        ``Image_Correlation_Correlation_DNA_ER``, nan where a channel is constant.

    Examples
    --------
    >>> pixels = np.array([[[0, 2], [4, 6]], [[3, 2], [1, 0]]], dtype=np.uint8)
    >>> found = field_statistics(pixels, ["DNA", "ER"])
    >>> found["Image_Intensity_MeanIntensity_DNA"], found["Image_Intensity_Percentile_50_DNA"]
    (3.0, 3.0)
    >>> round(found["Image_Correlation_Correlation_DNA_ER"], 6)
    -1.0
    """
    names = channel_tokens(channels)
    values = pixels.reshape(len(names), -1).astype(np.float64)  # (c, n)
    mean, deviation = values.mean(axis=1), values.std(axis=1)
    percentiles = np.percentile(values, PERCENTILES, axis=1)  # (5, c)
    found: dict[str, float] = {}
    for k, name in enumerate(names):
        found[f"Image_Intensity_MeanIntensity_{name}"] = float(mean[k])
        found[f"Image_Intensity_StdIntensity_{name}"] = float(deviation[k])
        for i, percent in enumerate(PERCENTILES):
            found[f"Image_Intensity_Percentile_{percent:02d}_{name}"] = float(percentiles[i, k])
    for a, b in itertools.combinations(range(len(names)), 2):
        together = float(((values[a] - mean[a]) * (values[b] - mean[b])).mean())
        scale = float(deviation[a] * deviation[b])
        found[f"Image_Correlation_Correlation_{names[a]}_{names[b]}"] = together / scale if scale > 0 else np.nan
    return found

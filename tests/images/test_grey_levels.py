import numpy as np
import pytest

from cellpheno.images.grey_levels import PERCENTILES, field_statistics


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_each_value_equals_numpy_one_channel_at_a_time(dtype):
    pixels = np.random.default_rng(0).integers(0, 255, size=(3, 9, 11)).astype(dtype)
    found = field_statistics(pixels, ["DNA", "FKHR-GFP", "ER"])
    names = ["DNA", "FKHRGFP", "ER"]
    assert len(found) == 3 * (2 + len(PERCENTILES)) + 3
    for plane, name in zip(pixels.astype(float), names, strict=True):
        assert found[f"Image_Intensity_MeanIntensity_{name}"] == pytest.approx(plane.mean())
        assert found[f"Image_Intensity_StdIntensity_{name}"] == pytest.approx(plane.std())
        for percent in PERCENTILES:
            assert found[f"Image_Intensity_Percentile_{percent:02d}_{name}"] == pytest.approx(
                np.percentile(plane, percent)
            )
    expected = np.corrcoef(pixels.reshape(3, -1).astype(float))
    assert found["Image_Correlation_Correlation_DNA_FKHRGFP"] == pytest.approx(expected[0, 1])
    assert found["Image_Correlation_Correlation_FKHRGFP_ER"] == pytest.approx(expected[1, 2])


def test_a_constant_channel_correlates_with_nothing():
    pixels = np.stack([np.full((4, 4), 7), np.arange(16).reshape(4, 4)]).astype(np.uint16)
    found = field_statistics(pixels, ["A", "B"])
    assert np.isnan(found["Image_Correlation_Correlation_A_B"])
    assert found["Image_Intensity_StdIntensity_A"] == 0

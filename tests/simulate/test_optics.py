import numpy as np
import pytest
from scipy import stats

from cellpheno.simulate.optics import Camera, Channel, Optics, blur, expose, image_electrons, shot_noise, vignette

CHANNEL = Channel("Protein", 0.525, 350.0, 80.0, 0.1)


@pytest.mark.parametrize("gain", [0.3, 0.46, 2.0])
def test_photon_transfer_gives_the_gain_and_the_read_noise(gain):
    camera = Camera(gain_e_per_adu=gain, read_noise_e=6.0, offset_adu=100.0)
    light = np.array([5, 20, 40, 100, 300, 1000, 3000], np.float32)
    flats = [
        expose(np.full((300, 300), e, np.float32), camera, np.random.default_rng(int(e))).astype(float) for e in light
    ]
    slope, intercept = np.polyfit([f.mean() - 100 for f in flats], [f.var() for f in flats], 1, w=1 / light)
    assert slope == pytest.approx(1 / gain, rel=0.02)
    assert intercept == pytest.approx(36 / gain**2 + 1 / 12, rel=0.1)  # read noise, and rounding to grey levels
    assert [f.mean() for f in flats] == pytest.approx(light / gain + 100, rel=0.01)


@pytest.mark.parametrize("mean", [0.5, 29.0, 30.0, 60.0, 500.0])
def test_shot_noise_is_poisson(mean):
    counts = shot_noise(np.full((400, 500), mean, np.float32), np.random.default_rng(0))
    k = np.arange(int(counts.max()) + 1)
    seen = np.cumsum(np.bincount(counts.ravel().astype(int))) / counts.size
    assert np.abs(seen - stats.poisson(mean).cdf(k)).max() < 0.005  # Kolmogorov's 0.1 % limit is 0.0044 at n = 200,000
    assert stats.skew(counts.ravel()) == pytest.approx(mean**-0.5, abs=0.02)


def test_vignetting_at_the_corner_and_in_the_centre():
    light = vignette((101, 201), 0.25)
    assert light[0, 0] == pytest.approx(0.75)
    assert light[-1, -1] == pytest.approx(0.75)
    assert light[50, 100] == pytest.approx(1.0)
    assert light[50, 0] == pytest.approx(0.875)


def test_saturation_and_depth():
    bright = np.full((10, 10), 1e6, np.float32)
    for bits in (8, 12, 16):
        assert (expose(bright, Camera(bits=bits), np.random.default_rng(0)) == 2**bits - 1).all()
    dark = expose(np.zeros((200, 200), np.float32), Camera(gain_e_per_adu=1, read_noise_e=4), np.random.default_rng(0))
    assert dark.mean() == pytest.approx(100, abs=0.1)
    assert dark.std() == pytest.approx(4, rel=0.03)


@pytest.mark.parametrize("sigma_um", [0.5, 2.0, 6.0, 12.0])
def test_blur_keeps_light_and_has_the_width_asked_for(sigma_um):
    spot = np.zeros((301, 301), np.float32)
    spot[150, 150] = 1000
    seen = blur(spot, sigma_um, 0.6)
    y = np.arange(301) - 150
    assert seen.sum() == pytest.approx(1000, rel=1e-3)
    assert np.sqrt((seen.sum(1) * y**2).sum() / 1000) * 0.6 == pytest.approx(sigma_um, rel=0.06)


def test_haze_moves_light_away_and_loses_none():
    spot = np.zeros((201, 201), np.float32)
    spot[100, 100] = 1000
    sharp = image_electrons(spot, np.zeros_like(spot), CHANNEL, Optics(haze=0.0), 0.6)
    hazy = image_electrons(spot, np.zeros_like(spot), CHANNEL, Optics(haze=0.2), 0.6)
    defocused = image_electrons(np.zeros_like(spot), spot, CHANNEL, Optics(haze=0.0), 0.6)
    assert hazy.sum() == pytest.approx(sharp.sum(), rel=1e-3)
    assert hazy.max() / sharp.max() == pytest.approx(0.8, abs=0.02)
    assert defocused.max() < 0.15 * sharp.max()

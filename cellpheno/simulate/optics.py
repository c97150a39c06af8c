"""From light to grey levels: objective, illumination and camera, each parameter with its unit."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from cellpheno.simulate.cells import Image


class Channel(NamedTuple):
    """One stain and its light.

    Parameters
    ----------
    name : str
    wavelength_um : float
        Emission.
    signal_e : float
        Electrons a pixel in a typical part of a typical cell (DNA: nucleus; the others: mean over the cell).
    background_e : float
        Electrons a pixel where there is no cell.
    well_cv : float
        Spread of the stain's brightness over wells (standard deviation of the logarithm).
    """

    name: str
    wavelength_um: float
    signal_e: float
    background_e: float
    well_cv: float


class Optics(NamedTuple):
    """An objective and its illumination.

    Parameters
    ----------
    na : float
        Numerical aperture.
    sharp_um : float
        Blur of an object in focus beyond diffraction: the depth of a cell (Gaussian sigma).
    defocus_um : float
        Blur of a cell out of focus (Gaussian sigma).
    haze : float
        Fraction of the light (0 to 1) that arrives spread over ``haze_um``.
    haze_um : float
        Gaussian sigma of the haze.
    vignetting : float
        Fraction of the light that is lost at the field's corners, against the centre.
    """

    na: float = 0.75
    sharp_um: float = 0.55
    defocus_um: float = 2.2
    haze: float = 0.12
    haze_um: float = 6.0
    vignetting: float = 0.15


class Camera(NamedTuple):
    """A camera.

    Parameters
    ----------
    gain_e_per_adu : float
        Electrons a grey level.
    read_noise_e : float
        Standard deviation of the reading, electrons.
    offset_adu : float
        Grey level without light.
    bits : int
        Depth of the converter, 8 to 16; brighter pixels saturate.
    """

    gain_e_per_adu: float = 0.46
    read_noise_e: float = 1.6
    offset_adu: float = 100.0
    bits: int = 16


def psf_sigma_um(wavelength_um: float, na: float) -> float:
    """Gaussian that is nearest to the diffraction pattern of a wide-field microscope in focus.

    References
    ----------
    Zhang, Zerubia, Olivo-Marin 2007, Applied Optics 46(10), 1819, doi:10.1364/AO.46.001819

    Examples
    --------
    >>> round(psf_sigma_um(0.52, 0.75), 3)
    0.156
    """
    return 0.225 * wavelength_um / na


def vignette(size: tuple[int, int], loss: float) -> Image:
    """Illumination over the field: 1 in the centre, ``1 - loss`` at the corner pixels, falling with the squared radius.

    Examples
    --------
    >>> [round(float(light), 2) for light in vignette((3, 3), 0.2)[0]]
    [0.8, 0.9, 0.8]
    """
    y, x = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in size)
    return (1 - loss * (y[:, None] ** 2 + x[None, :] ** 2) / 2).astype(np.float32)


def blur(image: Image, sigma_um: float, pixel_size_um: float) -> Image:
    """Gaussian blur; a wide one is made on a coarser grid, where it costs little and looks the same.

    Examples
    --------
    >>> spot = np.zeros((101, 101), np.float32); spot[50, 50] = 1
    >>> round(float(blur(spot, 1.0, 0.5)[50, 50] * 2 * np.pi * 4), 2)
    1.0
    """
    sigma = sigma_um / pixel_size_um
    coarse = int(sigma / 3)
    if coarse < 2:
        blurred: Image = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3.0)
        return blurred
    rows, columns = image.shape
    padded: Image = np.pad(image, ((0, -rows % coarse), (0, -columns % coarse)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // coarse, coarse, -1, coarse).mean((1, 3), dtype=np.float32)
    wide: Image = ndimage.gaussian_filter(blocks, sigma / coarse, mode="nearest", truncate=3.0)
    smooth: Image = ndimage.uniform_filter(wide.repeat(coarse, 0).repeat(coarse, 1), coarse, mode="nearest")
    return smooth[:rows, :columns]


def image_electrons(focused: Image, defocused: Image, channel: Channel, optics: Optics, pixel_size_um: float) -> Image:
    """Mean electrons a pixel that reach the camera from the light of a field, before vignetting.

    Parameters
    ----------
    focused, defocused : ndarray of shape (y, x), float32
        Light of the cells in and out of focus, electrons a pixel.
    channel : Channel
    optics : Optics
    pixel_size_um : float
    """
    diffraction = psf_sigma_um(channel.wavelength_um, optics.na)
    light: Image = blur(focused, float(np.hypot(diffraction, optics.sharp_um)), pixel_size_um)
    if defocused.any():
        light += blur(defocused, float(np.hypot(diffraction, optics.defocus_um)), pixel_size_um)
    if optics.haze > 0:
        light += optics.haze * (blur(light, optics.haze_um, pixel_size_um) - light)
    return light


def shot_noise(mean: Image, rng: Generator) -> NDArray[np.float32]:
    """Poisson counts.

    Below 30 they are drawn exactly; above, by the Cornish-Fisher expansion, which keeps the mean, the variance and the
    skewness and is ten times faster.

    Parameters
    ----------
    mean : ndarray of shape (y, x), float
        At least 0.
    rng : Generator

    References
    ----------
    Cornish, Fisher 1938, Revue de l'Institut International de Statistique 5(4), 307, doi:10.2307/1400905

    Examples
    --------
    >>> shot_noise(np.zeros((1, 3), np.float32), np.random.default_rng(0)).tolist()
    [[0.0, 0.0, 0.0]]
    """
    z = rng.standard_normal(mean.shape, np.float32)
    count: NDArray[np.float32] = np.rint(mean + np.sqrt(mean) * z + (z * z - 1) / 6).astype(np.float32)
    few = mean < 30
    count[few] = rng.poisson(mean[few])
    return count


def expose(electrons: Image, camera: Camera, rng: Generator) -> NDArray[np.uint16]:
    """Take the picture: shot noise, read noise, gain, offset, saturation.

    Parameters
    ----------
    electrons : ndarray of shape (y, x), float
        Mean electrons a pixel.
    camera : Camera
    rng : Generator

    Returns
    -------
    ndarray of shape (y, x), uint16
        Grey levels. Their variance grows with their mean by ``1 / gain_e_per_adu``.

    Examples
    --------
    >>> still = Camera(gain_e_per_adu=1.0, read_noise_e=0.0, offset_adu=100.0)
    >>> expose(np.zeros((1, 2), np.float32), still, np.random.default_rng(0)).tolist()
    [[100, 100]]
    """
    caught = shot_noise(electrons, rng) + camera.read_noise_e * rng.standard_normal(electrons.shape, np.float32)
    grey = np.rint(caught / np.float32(camera.gain_e_per_adu) + np.float32(camera.offset_adu))
    return np.clip(grey, 0, 2**camera.bits - 1).astype(np.uint16)

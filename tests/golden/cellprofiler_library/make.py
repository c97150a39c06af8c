"""Remake inputs.npz and values.npz with CellProfiler's own library; SOURCE.md says in which environment.

Usage: python make.py
"""

import sys
import warnings
from itertools import combinations
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import centriole.cpmorphology
import numpy as np
import scipy.ndimage as ndi
from cellprofiler_library.functions.measurement import ObjectRecord, bisection_costes
from cellprofiler_library.functions.object_processing import crop_labels_and_image
from cellprofiler_library.modules._measurecolocalization import run_image_pair_objects
from cellprofiler_library.modules._measuregranularity import measure_granularity
from cellprofiler_library.modules._measureobjectintensitydistribution import (
    calculate_zernikes_for_image,
    measureobjectintensitydistribution,
    prepare_object_zernike_polynomials,
)
from cellprofiler_library.modules._measureobjectneighbors import measure_object_neighbors
from cellprofiler_library.modules._measureobjectsizeshape import measureobjectsizeshape
from cellprofiler_library.modules._measuretexture import measure_object_texture
from cellprofiler_library.opts.measurecolocalization import CostesMethod
from cellprofiler_library.opts.measureobjectneighbors import DistanceMethod

HERE = Path(__file__).parent
SIZE = (132, 168)
FULL = 65535  # CellProfiler's scale of a uint16 image
CHANNELS = ("DNA", "ER", "RNA")


def draw_labels():
    """Draw objects of every kind, (y, x) uint16; the labels have gaps."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    labels = np.zeros(SIZE, np.uint16)

    def ellipse(label, row, column, height, width, turn=0.0):
        v, u = y - row, x - column
        along, across = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
        labels[(along / width) ** 2 + (across / height) ** 2 <= 1] = label

    ellipse(3, 20, 22, 12, 12)
    ellipse(7, 22.5, 60.5, 9.5, 17.5, 0.5)
    ellipse(8, 25, 100, 13, 9, 1.1)
    ellipse(12, 56, 24, 14, 11, 0.3)
    ellipse(13, 56, 45, 13, 12)  # touches 12
    ellipse(20, 68, 36, 5, 9, -0.4)  # touches both
    ellipse(21, 60, 80, 10, 15, -0.7)
    ellipse(30, 0, 128, 10, 12)  # on the upper border
    ellipse(31, 131, 167, 14, 17)  # in a corner
    ellipse(33, 100, 0, 11, 7)  # on the left border
    ellipse(40, 65, 115, 12, 12)
    labels[(labels == 40) & (np.hypot(y - 65, x - 115) < 5)] = 0  # a ring
    ellipse(41, 100, 35, 14, 14)
    labels[(labels == 41) & (x > 33) & (np.abs(y - 100) < 6)] = 0  # a C
    ellipse(50, 110, 80, 6, 5)
    ellipse(50, 92, 92, 4, 7)  # 50 has two parts
    ellipse(52, 100, 125, 9, 16, 0.9)
    ellipse(53, 34, 148, 11, 8, 0.2)
    labels[33:36, 132:164] = 60  # cuts 53 in two and touches it
    labels[80, 5] = 61  # one pixel
    labels[82:84, 150] = 62  # two pixels
    labels[126, 20:33] = 63  # a line
    labels[116:121, 54:66] = 64  # rectangles
    labels[121:126, 54:58] = 64
    labels[3, 3] = 200  # one pixel near the corner
    return labels


def draw_image(labels, rng):
    """Draw three channels, (c, y, x) uint16: ER goes with DNA, RNA against it; flat in object 52, black in 64."""
    smooth = [ndi.gaussian_filter(rng.random(SIZE), sigma) for sigma in (2, 3, 1.5)]
    smooth = [(part - part.min()) / np.ptp(part) for part in smooth]
    dna = 0.06 + 0.8 * smooth[0] * ndi.gaussian_filter((labels > 0).astype(float), 2)
    er = 0.05 + 0.6 * dna + 0.3 * smooth[1]
    rna = 0.7 - 0.6 * dna + 0.25 * smooth[2]
    unit = np.stack([dna, er, rna]) + 0.08 * rng.random((3, *SIZE))
    image = (np.clip(unit, 0, 1) * FULL).astype(np.uint16) & 0xFFF0  # as of a 12-bit camera
    image[1, labels == 52] = 20000
    image[2, labels == 64] = 0
    return image


def import_intensity():
    """Import the module that asks the whole of CellProfiler for a function that the library has too."""
    name = "cellprofiler_core.utilities.core.object"
    for depth in range(1, 5):
        part = ".".join(name.split(".")[:depth])
        sys.modules[part] = ModuleType(part)
    sys.modules[name].crop_labels_and_image = crop_labels_and_image
    from cellprofiler_library.modules._measureobjectintensity import measure_object_intensity

    return measure_object_intensity


def intensity(labels, planes):
    """Give the library's values, but the median deviation by CellProfiler 4.2's rule; the library's stands apart."""
    measure, n = import_intensity(), int(labels.max())
    columns = {}
    for channel, plane in planes.items():
        numbered = [(labels, np.arange(1, n + 1, dtype=np.int32))]
        columns |= measure(plane, channel, "Objects", None, numbered, n, 2).objects["Objects"]
        name = f"Intensity_MADIntensity_{channel}"
        columns[f"library {name}"] = columns[name]
        columns[name] = np.array([median_deviation(plane[labels == label]) for label in range(1, n + 1)])
    return {name: values for name, values in columns.items() if name.split("_")[-2] != "Z"}


def median_deviation(values):
    """Both medians stand at position m / 2 of m sorted values, counted from 0, between two by their distances."""

    def middle(ordered):
        low = min(int(len(ordered) / 2), len(ordered) - 1)
        high, weight = min(low + 1, len(ordered) - 1), len(ordered) / 2 - low
        return ordered[low] * (1 - weight) + ordered[high] * weight

    return middle(np.sort(np.abs(values - middle(np.sort(values)))))


def shape(labels):
    return measureobjectsizeshape(labels[None, None, None, None], "Objects").objects["Objects"]


def texture(labels, planes, scale, levels):
    columns, ids = {}, np.arange(1, labels.max() + 1, dtype=np.int32)
    for channel, plane in planes.items():
        columns |= measure_object_texture(
            "Objects", labels, channel, plane.copy(), None, levels, ids, scale, False
        ).objects["Objects"]
    return columns


def granularity(labels, planes, subsample, background_subsample, background_radius, spectrum):
    columns, everywhere = {}, np.ones(SIZE, bool)
    for channel, plane in planes.items():
        record = ObjectRecord("Objects", labels, everywhere, plane)
        columns |= measure_granularity(
            channel, plane, everywhere, subsample, background_subsample, background_radius, [record], spectrum
        ).objects["Objects"]
    return columns


def radial(labels, planes, bins, scaled, maximum_radius):
    columns, ids = {}, np.arange(1, labels.max() + 1)
    for channel, plane in planes.items():
        found, _ = measureobjectintensitydistribution(
            plane, channel, labels, "Objects", ids, "These objects", bins, scaled, maximum_radius
        )
        columns |= found.objects["Objects"]
    return {name: values for name, values in columns.items() if "BinNumber" not in name}


def last_maximum(image, labels, ids):
    """Find the maximum of each object, the last in raster order of equal ones, (2, n)."""
    places = [np.argwhere((labels == label) & (image == image[labels == label].max()))[-1] for label in ids]
    return np.array(places).T


def radial_last(labels, planes, *arguments):
    """As `radial`, with a rule for objects that have several deepest pixels: the library leaves it to the sort."""
    with patch.object(centriole.cpmorphology, "maximum_position_of_labels", last_maximum):
        return radial(labels, planes, *arguments)


def intensity_zernike(labels, planes):
    n = int(labels.max())
    ids = np.arange(1, n + 1, dtype=np.int32)
    rows, cols = np.nonzero(labels)
    ijv = np.stack([rows, cols, labels[rows, cols]], axis=1)
    own, polynomials, indexes = prepare_object_zernike_polynomials([(labels, ids)], n, ijv, 9)
    columns = {}
    for channel, plane in planes.items():
        columns |= calculate_zernikes_for_image(
            channel, "Objects", ids, plane, np.ones(SIZE, bool), ijv, own, polynomials, indexes, True
        ).objects["Objects"]
    return columns


def correlation(labels, planes):
    columns, inside = {}, labels > 0
    for (first, a), (second, b) in combinations(planes.items(), 2):
        columns |= run_image_pair_objects(
            a[inside],
            b[inside],
            labels[inside],
            int(labels.max()),
            first,
            second,
            im1_thr_percentage=15,
            im2_thr_percentage=15,
            measurement_types=["Correlation", "Manders", "RWC", "Overlap"],
        ).objects["Objects"]
    return columns


def costes(labels, planes):
    """Thresholds of the library over the whole image, applied in CellProfiler 4.2's way.

    It sums what is above both thresholds over what is at or above one (0 where no object of the image has a pixel above
    both); the library takes "at or above" for both.
    """
    columns, ids = {}, np.arange(1, labels.max() + 1)
    for (first, a), (second, b) in combinations(planes.items(), 2):
        low_a, low_b = bisection_costes(a.ravel(), b.ravel(), FULL)
        both = (a > low_a) & (b > low_b) & (labels > 0)
        for name, plane, low in ((f"{first}_{second}", a, low_a), (f"{second}_{first}", b, low_b)):
            part, whole = (ndi.sum(plane * where, labels, ids) for where in (both, plane >= low))
            columns[f"Correlation_Costes_{name}"] = part / whole if both.any() else np.zeros(len(ids))
    return columns


def costes_library(labels, planes):
    columns, inside = {}, labels > 0
    for (first, a), (second, b) in combinations(planes.items(), 2):
        columns |= run_image_pair_objects(
            a[inside],
            b[inside],
            labels[inside],
            int(labels.max()),
            first,
            second,
            im1_costes_pixels=a.ravel(),
            im2_costes_pixels=b.ravel(),
            measurement_types=["Costes"],
            im1_scale=FULL,
            im2_scale=FULL,
            costes_method=CostesMethod.FASTER,
        ).objects["Objects"]
    return columns


def neighbors(labels, method, distance=1):
    n = int(labels.max())
    return measure_object_neighbors(
        labels, labels, labels, labels, "Objects", "Objects", True, 2, distance, method, np.ones(n, bool), n
    ).objects["Objects"]


def make():
    labels = draw_labels()
    image = draw_image(labels, np.random.default_rng(7))
    np.savez_compressed(HERE / "inputs.npz", labels=labels, image=image)
    ids, numbered = np.unique(labels, return_inverse=True)  # the library wants labels without gaps
    numbered = numbered.reshape(SIZE).astype(np.int32)
    planes = dict(zip(CHANNELS, image / FULL, strict=True))
    cases = {
        "shape": shape(numbered),
        "intensity": intensity(numbered, planes),
        "texture": texture(numbered, planes, 3, 256),
        "texture_coarse": texture(numbered, planes, 1, 8),
        "granularity": granularity(numbered, planes, 0.25, 0.25, 10, 16),
        "granularity_fine": granularity(numbered, planes, 1.0, 0.5, 6, 8),
        "radial": radial(numbered, planes, 4, True, 100),
        "radial_last": radial_last(numbered, planes, 4, True, 100),
        "radial_unscaled": radial(numbered, planes, 3, False, 9),
        "intensity_zernike": intensity_zernike(numbered, planes),
        "correlation": correlation(numbered, planes),
        "costes": costes(numbered, planes),
        "costes_library": costes_library(numbered, planes),
        "neighbors_adjacent": neighbors(numbered, DistanceMethod.ADJACENT),
        "neighbors_expanded": neighbors(numbered, DistanceMethod.EXPAND),
        "neighbors_3": neighbors(numbered, DistanceMethod.WITHIN, 3),
        "neighbors_8": neighbors(numbered, DistanceMethod.WITHIN, 8),
    }
    arrays = {"ids": ids[ids > 0]}
    for case, columns in cases.items():
        arrays[f"{case} names"] = np.array([*columns])
        arrays[f"{case} values"] = np.stack([np.asarray(values, float) for values in columns.values()])
        print(f"{case:20s} {len(columns):4d} columns, {np.isnan(arrays[f'{case} values']).mean():.2f} nan")
    np.savez_compressed(HERE / "values.npz", **arrays)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 0 / 0 of objects of one pixel
        make()

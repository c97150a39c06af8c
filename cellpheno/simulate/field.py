"""One field of view: cells, their stains, and the picture a microscope takes of them."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray
from scipy import ndimage

from cellpheno.names import well_order
from cellpheno.simulate.cells import CellShape, Culture, Labels, draw_shape, grow, place
from cellpheno.simulate.geometry import CellGeometry, geometry
from cellpheno.simulate.morphology import MORPHOLOGIES
from cellpheno.simulate.optics import Camera, Channel, Optics, expose, image_electrons, vignette
from cellpheno.simulate.patterns import pattern_shares
from cellpheno.simulate.stains import stain

MARGIN_UM = 20.0  # cells grow beyond the field, so that its border cuts them as a microscope's does
_STREAMS = ("shape", "response", "expression", "morphology", "place", "texture", "protein", "camera")


class Microscope(NamedTuple):
    """All that is the same for every field of a plate."""

    field_px: int
    pixel_size_um: float
    channels: Sequence[Channel]  # DNA, cell mask, protein
    culture: Culture
    optics: Optics
    camera: Camera
    expression_cv: float


class Conditions(NamedTuple):
    """What a well does to its cells: two phenotypes, and the fraction of cells that shows the second."""

    control: Mapping[str, Any]
    treated: Mapping[str, Any]
    responders: float
    brightness: tuple[float, ...]  # of each channel, against the ordinary well


class FieldTruth(NamedTuple):
    """The truth of a field: label images (y, x) and a row a cell, row i for label i + 1."""

    nuclei: NDArray[np.uint16]
    cells: NDArray[np.uint16]
    table: pd.DataFrame


def field_seed(seed: int, plate: str, well: str, site: int) -> SeedSequence:
    """Seed of one field, whatever else is simulated; site 0 is the well itself.

    Examples
    --------
    >>> bool((field_seed(1, "P1", "B03", 2).generate_state(2) == field_seed(1, "P1", "b3", 2).generate_state(2)).all())
    True
    """
    return SeedSequence([*_plate_words(seed, plate), *well_order(well), site])


def plate_seed(seed: int, plate: str) -> SeedSequence:
    """Seed of what concerns the plate as a whole: its layout."""
    return SeedSequence(_plate_words(seed, plate))


def _plate_words(seed: int, plate: str) -> list[int]:
    return [seed, zlib.crc32(plate.encode())]


def simulate_field(
    microscope: Microscope, conditions: Conditions, seed: SeedSequence
) -> tuple[NDArray[np.uint16], FieldTruth]:
    """Simulate one field.

    Shapes, places, DNA, cell mask, protein and camera have random streams of their own: with the same seed, two
    phenotypes that differ in the protein's pattern only give identical images of DNA and cell mask.

    Parameters
    ----------
    microscope : Microscope
    conditions : Conditions
    seed : SeedSequence

    Returns
    -------
    images : ndarray of shape (3, y, x), uint16
        DNA, cell mask, protein.
    truth : FieldTruth
        Cells whose nucleus lies in the field, wholly or in part.
    """
    rng = dict(zip(_STREAMS, (np.random.default_rng(s) for s in seed.spawn(len(_STREAMS))), strict=True))
    um, margin = microscope.pixel_size_um, round(MARGIN_UM / microscope.pixel_size_um)
    size = (microscope.field_px + 2 * margin,) * 2
    n = rng["shape"].poisson(microscope.culture.density_per_mm2 * size[0] * size[1] * (um / 1000) ** 2)
    responder = rng["response"].random(n) < conditions.responders
    phenotype = [conditions.treated if r else conditions.control for r in responder]
    shapes = [draw_shape(microscope.culture, rng["shape"]) for _ in range(n)]
    changes = [MORPHOLOGIES[p["morphology"]] if p.get("morphology") else None for p in phenotype]
    shapes = [f(s, r) if f else s for f, s, r in zip(changes, shapes, rng["morphology"].spawn(n), strict=True)]
    expression = np.exp(rng["expression"].normal(0, microscope.expression_cv, n))

    placed, centres, nuclei = place(shapes, size, um, microscope.culture, rng["place"])
    shapes, expression = [shapes[i] for i in placed], expression[placed]
    cells = grow(shapes, centres, nuclei, um, rng["place"])
    patterns = [phenotype[i]["pattern"] for i in placed]
    geometries = _geometries(shapes, nuclei, cells, um, rng["place"])
    light = stain(geometries, shapes, patterns, expression, size, um, rng["texture"], rng["protein"])

    view = (slice(margin, margin + microscope.field_px),) * 2
    images = np.stack(
        [
            _photograph(microscope, i, light[i], conditions.brightness[i], view, camera)
            for i, camera in enumerate(rng["camera"].spawn(len(microscope.channels)))
        ]
    )
    table = pd.DataFrame(
        {
            "responder": responder[placed],
            "pattern": ["|".join(pattern_shares(pattern)) for pattern in patterns],
            "morphology": [phenotype[i].get("morphology") or "" for i in placed],
            "expression": expression,
            "dna_content": [s.dna_content for s in shapes],
            "dna_brightness": [s.dna_brightness for s in shapes],
            "in_focus": [s.in_focus for s in shapes],
        }
    )
    return images, _truth(nuclei[view], cells[view], table, um)


def _geometries(
    shapes: Sequence[CellShape], nuclei: Labels, cells: Labels, pixel_size_um: float, rng: Generator
) -> list[CellGeometry]:
    """Geometry of each cell in its bounding box with two pixels to spare."""
    boxes = ndimage.find_objects(cells, max_label=len(shapes))
    free_um = ndimage.distance_transform_edt(np.pad(cells > 0, 1))[1:-1, 1:-1].astype(np.float32) * np.float32(
        pixel_size_um
    )
    geometries = []
    for label, (shape, box, child) in enumerate(zip(shapes, boxes, rng.spawn(len(shapes)), strict=True), 1):
        y, x = (slice(max(b.start - 2, 0), b.stop + 2) for b in box)
        mine = nuclei[y, x] == label, cells[y, x] == label
        geometries.append(geometry(shape, (y, x), *mine, free_um[y, x], pixel_size_um, child))
    return geometries


def _photograph(
    microscope: Microscope,
    index: int,
    light: NDArray[np.float32],
    brightness: float,
    view: tuple[slice, slice],
    rng: Generator,
) -> NDArray[np.uint16]:
    """Grey levels of one channel from the light (2, y, x) in and out of focus."""
    channel, optics = microscope.channels[index], microscope.optics
    image = image_electrons(light[0], light[1], channel, optics, microscope.pixel_size_um)[view]
    electrons = brightness * channel.signal_e * image + channel.background_e
    return expose(electrons * vignette(image.shape, optics.vignetting), microscope.camera, rng)


def _truth(nuclei: Labels, cells: Labels, table: pd.DataFrame, pixel_size_um: float) -> FieldTruth:
    """Keep the cells with nucleus in view, number them from 1 and measure them."""
    seen = np.unique(nuclei[nuclei > 0])
    labels = np.arange(1, seen.size + 1)
    renumber = np.zeros(len(table) + 1, np.int32)
    renumber[seen] = labels
    new_nuclei, new_cells = renumber[nuclei], renumber[cells]
    centre = np.array(ndimage.center_of_mass(new_nuclei > 0, new_nuclei, labels)).reshape(-1, 2)
    measured = pd.DataFrame(
        {
            "Metadata_ObjectNumber": labels,
            "centre_y_px": centre[:, 0],
            "centre_x_px": centre[:, 1],
            "nucleus_area_um2": np.bincount(new_nuclei.ravel(), minlength=seen.size + 1)[1:] * pixel_size_um**2,
            "cell_area_um2": np.bincount(new_cells.ravel(), minlength=seen.size + 1)[1:] * pixel_size_um**2,
            "nucleus_at_border": np.isin(labels, _rim(new_nuclei)),
            "cell_at_border": np.isin(labels, _rim(new_cells)),
        }
    )
    table = pd.concat([measured, table.iloc[seen - 1].reset_index(drop=True)], axis=1)
    return FieldTruth(new_nuclei.astype(np.uint16), new_cells.astype(np.uint16), table)


def _rim(labels: Labels) -> Labels:
    """Labels on the outermost pixels."""
    return np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])

import numpy as np
import pytest
from scipy import ndimage

from cellpheno.simulate.cells import Culture, draw_shape, grow, place
from cellpheno.simulate.field import Conditions, Microscope, field_seed, simulate_field
from cellpheno.simulate.geometry import geometry
from cellpheno.simulate.plate import CAMERA, CHANNELS, CULTURE, OPTICS

UM = 0.6


@pytest.fixture(scope="session")
def dish():
    """Shapes, nuclei, cells and geometries of a small dish, with no cell at the image's border."""
    rng = np.random.default_rng(7)
    culture = Culture(density_per_mm2=500.0, out_of_focus=0.0, dim=0.0)
    shapes = [draw_shape(culture, rng) for _ in range(30)]
    placed, centres, nuclei = place(shapes, (400, 400), UM, culture, rng)
    shapes = [shapes[i] for i in placed]
    cells = grow(shapes, centres, nuclei, UM, rng)
    free_um = ndimage.distance_transform_edt(cells > 0).astype(np.float32) * UM
    whole = (slice(None), slice(None))
    found = [
        geometry(shape, whole, nuclei == label, cells == label, free_um, UM, rng)
        for label, shape in enumerate(shapes, 1)
        if min(centres[label - 1]) > 60 and max(centres[label - 1]) < 340
    ]
    return shapes, centres, nuclei, cells, found


@pytest.fixture(scope="session")
def look():
    """Simulate one field of 300 px: look(treated={...}, responders=1.0, ...)."""

    def simulate(treated=None, responders=1.0, brightness=(1.0, 1.0, 1.0), seed=3, **changes):
        microscope = Microscope(300, UM, CHANNELS, CULTURE, OPTICS, CAMERA, 0.35)._replace(**changes)
        control = {"pattern": "cytosolic"}
        conditions = Conditions(control, treated or control, responders, brightness)
        return simulate_field(microscope, conditions, field_seed(seed, "P1", "B03", 1))

    return simulate

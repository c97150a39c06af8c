import numpy as np
import pytest
from scipy import ndimage

from cellpheno.simulate.cells import Culture, draw_shape
from cellpheno.simulate.morphology import MORPHOLOGIES, area_um2


@pytest.fixture(scope="module")
def shapes():
    rng = np.random.default_rng(0)
    return [draw_shape(Culture(), rng) for _ in range(80)]


def ratios(name, shapes, measure):
    rng = np.random.default_rng(1)
    return np.array([measure(MORPHOLOGIES[name](s, rng)) / measure(s) for s in shapes])


def nuclear_area(shape):
    return sum(area_um2(n) for n in shape.nuclei)


def aspect(shape):
    theta = np.linspace(0, 2 * np.pi, shape.body.radius_um.size, endpoint=False)
    points = shape.body.radius_um * np.stack([np.cos(theta), np.sin(theta)])
    low, high = np.linalg.eigvalsh(np.cov(points, aweights=shape.body.radius_um))
    return np.sqrt(high / low)


def test_large_nucleus_is_larger_by_what_is_said(shapes):
    grown = ratios("large_nucleus", shapes, nuclear_area)
    assert 1.9 <= grown.min() <= grown.max() <= 2.5
    assert (ratios("large_nucleus", shapes, lambda s: area_um2(s.body)) < grown).all()


def test_elongated_stretches_and_keeps_the_area(shapes):
    stretched = [aspect(MORPHOLOGIES["elongated"](s, np.random.default_rng(i))) for i, s in enumerate(shapes)]
    assert np.median(stretched) > 3
    assert np.median(stretched) > 1.5 * np.median([aspect(s) for s in shapes])
    assert ratios("elongated", shapes, lambda s: area_um2(s.body)) == pytest.approx(1, rel=1e-6)


def test_rounded_is_small_round_and_thick(shapes):
    changed = [MORPHOLOGIES["rounded"](s, np.random.default_rng(i)) for i, s in enumerate(shapes)]
    assert max(aspect(s) for s in changed) < 1.25
    assert np.median(ratios("rounded", shapes, lambda s: area_um2(s.body))) < 0.5
    assert all(s.height > 1 for s in changed)


def test_fragments_and_extra_nuclei_are_counted(shapes):
    rng = np.random.default_rng(0)
    fragments = [len(MORPHOLOGIES["fragmented_nucleus"](s, rng).nuclei) for s in shapes]
    nuclei = [len(MORPHOLOGIES["multinucleate"](s, rng).nuclei) for s in shapes]
    assert set(fragments) <= set(range(4, 9))
    assert set(nuclei) == {2, 3, 4}


@pytest.mark.parametrize("name", MORPHOLOGIES)
def test_in_the_picture_the_cell_count_stays_and_nuclei_change(name, look):
    _, before = look()
    images, after = look({"pattern": "cytosolic", "morphology": name})
    assert (after.table["morphology"] == name).all()
    assert len(after.table) == pytest.approx(len(before.table), abs=5)
    pieces = [ndimage.label(after.nuclei == i)[1] for i in after.table["Metadata_ObjectNumber"]]
    expected = {"multinucleate": (1.6, 4), "fragmented_nucleus": (1.3, 8)}.get(name, (1, 1.001))
    assert expected[0] <= np.mean(pieces) <= expected[1]
    assert images.dtype == np.uint16

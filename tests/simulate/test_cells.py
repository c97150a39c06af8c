import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellpheno.simulate.cells import Culture, draw_shape, outline, place, smooth_noise

UM = 0.6


@given(st.floats(5, 5000), st.floats(1, 6), st.floats(0, 0.4), st.floats(0, 3.1), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_outline_has_the_area_asked_for(area, aspect, bumps, direction, seed):
    radius = outline(area, aspect, bumps, direction, np.random.default_rng(seed)).radius_um
    y, x = radius * np.sin(t := np.linspace(0, 2 * np.pi, radius.size, endpoint=False)), radius * np.cos(t)
    shoelace = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert radius.min() > 0
    assert shoelace == pytest.approx(area, rel=0.01)


def test_nuclei_have_the_area_in_um2_whatever_the_pixel(dish):
    shapes, _, nuclei, _, _ = dish
    drawn = [np.pi * np.mean(s.nuclei[0].radius_um ** 2) for s in shapes]
    measured = np.bincount(nuclei.ravel())[1:] * UM**2
    inside = ~np.isin(
        np.arange(1, len(shapes) + 1), np.concatenate([nuclei[0], nuclei[-1], nuclei[:, 0], nuclei[:, -1]])
    )
    np.testing.assert_allclose(measured[inside], np.array(drawn)[inside], rtol=0.05)
    fine = place(shapes[:3], (800, 800), UM / 2, Culture(), np.random.default_rng(0))[2]
    clear = place(shapes[:3], (400, 400), UM, Culture(), np.random.default_rng(0))[2]
    assert np.bincount(fine.ravel())[1:] * (UM / 2) ** 2 == pytest.approx(
        np.bincount(clear.ravel())[1:] * UM**2, rel=0.05
    )


def test_sizes_follow_the_culture():
    rng = np.random.default_rng(0)
    shapes = [draw_shape(Culture(nucleus_area_um2=100.0, cell_area_um2=900.0), rng) for _ in range(600)]
    before = [s for s in shapes if s.dna_content == 1.0]
    assert np.median([np.pi * np.mean(s.nuclei[0].radius_um ** 2) for s in before]) == pytest.approx(100, rel=0.05)
    assert np.median([np.pi * np.mean(s.body.radius_um**2) for s in before]) == pytest.approx(900, rel=0.06)
    assert len(before) / len(shapes) == pytest.approx(0.6, abs=0.06)
    assert np.mean([s.in_focus for s in shapes]) == pytest.approx(0.94, abs=0.03)


def test_every_cell_is_one_piece_round_its_nucleus(dish):
    shapes, _, nuclei, cells, _ = dish
    assert np.array_equal(np.unique(nuclei), np.arange(len(shapes) + 1))
    assert (cells[nuclei > 0] == nuclei[nuclei > 0]).all()
    for label in range(1, len(shapes) + 1):
        assert ndimage.label(cells == label)[1] == 1


def test_touching_and_gap_are_kept():
    rng = np.random.default_rng(3)
    shapes = [draw_shape(Culture(), rng) for _ in range(25)]

    def gaps_um(culture):
        nuclei = place(shapes, (300, 300), UM, culture, np.random.default_rng(1))[2]
        return np.array(
            [
                ndimage.distance_transform_edt((nuclei == 0) | (nuclei == label))[nuclei == label].min() * UM
                for label in range(1, nuclei.max() + 1)
            ]
        )

    apart = gaps_um(Culture(touching=0.0, nucleus_gap_um=4.0))
    assert apart.min() > 3.0
    touching = gaps_um(Culture(touching=1.0, clustering=0.0))
    assert np.mean(touching < 2.5) > 0.9


def test_noise_has_unit_spread_at_every_scale():
    for sigma in (0.8, 1.5, 4.0):
        assert smooth_noise((400, 400), sigma, np.random.default_rng(0)).std() == pytest.approx(1, abs=0.08)


def test_a_crowd_loses_cells_instead_of_overlapping():
    rng = np.random.default_rng(0)
    shapes = [draw_shape(Culture(), rng) for _ in range(25)]
    placed, centres, nuclei = place(shapes, (70, 70), UM, Culture(), rng)
    assert len(placed) < 25
    assert centres.shape == (len(placed), 2)
    assert nuclei.max() == len(placed)

import numpy as np
import pytest
from scipy import ndimage

from cellpheno.simulate.cells import Culture
from cellpheno.simulate.optics import Camera, Optics
from cellpheno.simulate.patterns import PATTERNS
from cellpheno.simulate.plate import CHANNELS

PERFECT = {
    "optics": Optics(haze=0.0, vignetting=0.0),
    "camera": Camera(gain_e_per_adu=0.5, read_noise_e=0.0, offset_adu=0.0),
    "channels": tuple(c._replace(background_e=0.0) for c in CHANNELS),
    "culture": Culture(out_of_focus=0.0),
}


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p != "cytosolic"])
def test_the_pattern_changes_the_protein_only_and_its_total_not_at_all(pattern, look):
    control, truth = look(**PERFECT)
    treated, same = look({"pattern": pattern}, **PERFECT)
    assert np.array_equal(control[:2], treated[:2])
    assert np.array_equal(truth.cells, same.cells)
    assert treated[2].mean() == pytest.approx(control[2].mean(), rel=0.06)  # cells cut by the border: part is outside
    assert not np.array_equal(control[2], treated[2])


def test_total_protein_of_each_cell_is_its_expression(look):
    images, truth = look(**PERFECT)
    whole = truth.table[~truth.table["cell_at_border"]]
    total = ndimage.sum(images[2], truth.cells, whole["Metadata_ObjectNumber"]) * 0.5
    expected = whole["expression"] * whole["cell_area_um2"] / 0.36 * 350.0
    assert total / expected.to_numpy() == pytest.approx(1, abs=0.12)  # blur exchanges light with the neighbours
    assert np.sum(total) == pytest.approx(expected.sum(), rel=0.04)


def test_no_responder_no_difference(look):
    control, truth = look(responders=0.0)
    treated, other = look({"pattern": "nuclear", "morphology": "rounded"}, responders=0.0)
    assert np.array_equal(control, treated)
    assert truth.table.equals(other.table)
    assert not truth.table["responder"].any()


def test_a_bystander_in_a_treated_well_looks_as_in_the_control(look):
    control, _ = look(**PERFECT)
    treated, mixed = look({"pattern": "nuclear"}, responders=0.4, **PERFECT)
    far = ndimage.distance_transform_edt(~np.isin(mixed.cells, np.flatnonzero(mixed.table["responder"]) + 1)) > 8
    bystanders = np.isin(mixed.cells, np.flatnonzero(~mixed.table["responder"]) + 1) & far
    hidden = ndimage.binary_dilation(mixed.cells == 0, iterations=8)  # cells whose nucleus is outside the field
    inner = bystanders & ~hidden
    assert inner.sum() > 500
    difference = treated[2][inner].astype(float) - control[2][inner]
    assert abs(difference.mean()) < 4 * difference.std() / inner.sum() ** 0.5 + 0.5
    assert (mixed.table["pattern"] == np.where(mixed.table["responder"], "nuclear", "cytosolic")).all()


def test_truth_agrees_with_its_label_images(look):
    _, truth = look()
    table = truth.table
    n = len(table)
    assert n > 5
    assert table["Metadata_ObjectNumber"].tolist() == list(range(1, n + 1))
    assert np.array_equal(np.unique(truth.nuclei), np.arange(n + 1))
    assert (truth.cells[truth.nuclei > 0] == truth.nuclei[truth.nuclei > 0]).all()
    naive = [[(truth.nuclei == i).sum() * 0.36, (truth.cells == i).sum() * 0.36] for i in range(1, n + 1)]
    np.testing.assert_allclose(table[["nucleus_area_um2", "cell_area_um2"]], naive)
    centres = [np.argwhere(truth.nuclei == i).mean(0) for i in range(1, n + 1)]
    np.testing.assert_allclose(table[["centre_y_px", "centre_x_px"]], centres)
    whole = table[~table["nucleus_at_border"]]
    assert whole["nucleus_area_um2"].between(60, 450).all()


def test_dna_is_bright_in_nuclei_and_dark_elsewhere(look):
    images, truth = look()
    dna = images[0].astype(float)
    assert np.median(dna[truth.nuclei > 0]) > 5 * np.median(dna[truth.cells == 0])
    assert np.median(images[1][truth.cells > 0]) > 2 * np.median(images[1][truth.cells == 0])


def test_brightness_scales_the_stains_and_not_the_background(look):
    plain, _ = look(**PERFECT)
    twice, _ = look(**PERFECT, brightness=(1.0, 2.0, 0.5))
    ratio = [t.sum(dtype=float) / p.sum(dtype=float) for p, t in zip(plain, twice, strict=True)]
    assert ratio == pytest.approx([1.0, 2.0, 0.5], rel=0.01)
    empty, truth = look(culture=Culture(density_per_mm2=0.0), brightness=(2.0, 2.0, 2.0))
    assert len(truth.table) == 0
    assert not truth.cells.any()
    assert empty[0].mean() == pytest.approx(100 + 60 * (1 - 0.15 / 3) / 0.46, rel=0.01)  # mean light: 1 - loss / 3

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellpheno.models.transforms import PerCrop, PlatePercentiles, Unchanged, augment


def raw(n=4, c=2, size=12, seed=0):
    return np.random.default_rng(seed).integers(0, 65536, (n, c, size, size)).astype(np.uint16)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_plate_percentiles_are_those_of_all_crops_of_a_channel():
    crops = raw()
    limits = PlatePercentiles(low=1, high=99).limits(crops)
    assert limits.shape == (1, 2, 2)
    for c in range(2):
        assert limits[0, c].tolist() == pytest.approx(np.percentile(crops[:, c], [1, 99]), rel=1e-6)


@settings(deadline=None, max_examples=20)
@given(gain=st.floats(0.1, 10), offset=st.floats(0, 1000))
def test_a_brighter_plate_looks_the_same(gain, offset):
    crops, stretch = raw().astype(np.float32), PlatePercentiles()
    brighter = crops * np.float32(gain) + np.float32(offset)
    same = stretch(brighter, stretch.limits(brighter))
    torch.testing.assert_close(same, stretch(crops, stretch.limits(crops)), atol=1e-3, rtol=1e-3)


def test_per_crop_equals_the_naive_loop():
    crops = raw()
    stretch = PerCrop()
    out = stretch(crops, stretch.limits(crops)).numpy()
    for i, c in np.ndindex(4, 2):
        low, high = np.percentile(crops[i, c], [0.1, 99.9])
        assert np.allclose(out[i, c], (np.minimum(crops[i, c], high) - low) / (high - low), atol=1e-5)


@pytest.mark.parametrize("make", [PlatePercentiles, PerCrop])
def test_real_numbers_are_stretched_as_grey_levels_are(make):
    grey = np.random.default_rng(0).integers(0, 2000, (3, 2, 16, 16)).astype(np.uint16)
    real = (grey / 100_000).astype(np.float32)
    found = [make()(crops, make().limits(crops)) for crops in (grey, real)]
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


def test_constant_channel_becomes_zero():
    crops = np.full((2, 1, 4, 4), 300, np.uint16)
    for stretch in (PlatePercentiles(), PerCrop()):
        assert not stretch(crops, stretch.limits(crops)).any()


def test_percentiles_out_of_order_are_refused():
    with pytest.raises(ValueError, match="wanted 0 <= low < high <= 100"):
        PlatePercentiles(low=99, high=1)


def test_percentiles_of_nothing_are_refused():
    with pytest.raises(ValueError, match="percentiles of no pixel"):
        PlatePercentiles().limits(raw()[:0])


def dihedral(crop):
    turned = [torch.rot90(crop, k, (1, 2)) for k in range(4)]
    return [*turned, *(turn.flip(2) for turn in turned)]


@pytest.mark.parametrize("size", [5, 6])
def test_flips_and_rotations_give_all_eight_and_nothing_else(size):
    crop = torch.rand(2, size, size)
    out = augment(crop.expand(200, 2, size, size), generator(), shift_px=0, jitter=0)
    kinds = [[torch.equal(one, kind) for kind in dihedral(crop)] for one in out]
    assert all(sum(row) == 1 for row in kinds)
    assert (torch.tensor(kinds).sum(0) > 10).all()


def test_rotations_alone_give_the_four_turns():
    crop = torch.rand(1, 4, 4)
    out = augment(crop.expand(200, 1, 4, 4), generator(), flips=False, shift_px=0, jitter=0)
    counts = [sum(torch.equal(one, kind) for one in out) for kind in dihedral(crop)]
    assert sum(counts[:4]) == 200
    assert min(counts[:4]) > 25
    assert counts[4:] == [0, 0, 0, 0]


def test_shift_moves_by_whole_pixels_and_repeats_the_border():
    row = torch.arange(6.0).expand(300, 1, 6, 6)
    out = augment(row, generator(), flips=False, rotations=False, shift_px=2, jitter=0)
    seen = {tuple(one[0, 0].tolist()) for one in out}
    assert seen == {tuple(min(max(x + d, 0), 5) for x in map(float, range(6))) for d in range(-2, 3)}


def test_jitter_is_a_gain_a_channel_a_crop_of_the_asked_size():
    crops = torch.ones(2000, 3, 2, 2)
    gains = augment(crops, generator(), flips=False, rotations=False, shift_px=0, jitter=0.2)
    assert (gains.amax((2, 3)) == gains.amin((2, 3))).all()
    assert gains[:, :, 0, 0].log().std().item() == pytest.approx(0.2, rel=0.05)


def test_augmentation_follows_its_generator_and_nothing_else():
    crops = torch.rand(8, 2, 6, 6)
    assert torch.equal(augment(crops, generator(1)), augment(crops, generator(1)))
    assert not torch.equal(augment(crops, generator(1)), augment(crops, generator(2)))


def test_oblong_crops_cannot_be_rotated():
    with pytest.raises(ValueError, match="crops of 4 x 6 pixels cannot be rotated"):
        augment(torch.zeros(1, 1, 4, 6), generator())
    assert augment(torch.zeros(1, 1, 4, 6), generator(), rotations=False).shape == (1, 1, 4, 6)


def test_pictures_are_not_taken_for_features():
    with pytest.raises(ValueError, match="normalization=none is for features, here are pictures of uint16"):
        Unchanged().limits(np.zeros((2, 3, 8, 8), np.uint16))

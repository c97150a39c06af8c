import heapq
import math

import centrosome.propagate
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellpheno.images.propagate import propagate


def propagate_naive(image, seeds, mask, regularization):
    """Dijkstra with Python's heap, the cost as printed in the paper."""
    height, width = image.shape
    around = np.pad(image.astype(float), 1, mode="edge")
    labels = np.where(seeds > 0, seeds, 0)
    distances = np.where(seeds > 0, 0.0, np.inf)
    queue = [(0.0, int(seeds[y, x]), y, x) for y, x in np.argwhere((seeds > 0) & mask)]
    heapq.heapify(queue)
    while queue:
        distance, label, y, x = heapq.heappop(queue)
        if (distance, label) != (distances[y, x], labels[y, x]):
            continue
        for dy, dx in [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]:
            v, u = y + dy, x + dx
            if not (0 <= v < height and 0 <= u < width and mask[v, u]):
                continue
            difference = np.abs(around[y : y + 3, x : x + 3] - around[v : v + 3, u : u + 3]).sum()
            way = distance + math.sqrt(difference**2 + (abs(dy) + abs(dx)) * regularization**2)
            if (way, label) < (distances[v, u], labels[v, u]):
                distances[v, u], labels[v, u] = way, label
                heapq.heappush(queue, (way, label, v, u))
    return labels, distances


def cells_in_noise(seed, side, n):
    """A smooth random surface, seeds of some pixels each, a mask with holes."""
    generator = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(generator.random((side, side)), 2)
    image = (image - image.min()) / np.ptp(image)
    seeds = np.zeros((side, side), np.int32)
    seeds[tuple(generator.integers(0, side, (2, n)))] = np.arange(1, n + 1)
    return image, ndimage.grey_dilation(seeds, size=(3, 3)), image > 0.2


@pytest.mark.parametrize("regularization", [0.001, 0.05, 1.0])
@pytest.mark.parametrize("levels", [0, 255, 60000])  # 0: real numbers of range 0 to 1
def test_equals_centrosome(levels, regularization):
    image, seeds, mask = cells_in_noise(1, 150, 40)
    if levels:
        image = np.round(image * levels) / levels
    labels, distances = propagate(image, seeds, mask, regularization)
    expected, expected_distances = centrosome.propagate.propagate(image, seeds, mask, regularization)
    assert (labels == expected).mean() >= 0.9999
    reached = expected_distances >= 0
    np.testing.assert_array_equal(np.isfinite(distances), reached)
    np.testing.assert_allclose(distances[reached], expected_distances[reached], rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-6, 0.01, 0.3]), st.sampled_from([1, 7, 60000]))
def test_equals_the_naive_loop_whatever_the_range_of_the_image(seed, regularization, levels):
    image, seeds, mask = cells_in_noise(seed, 14, 4)
    image = np.round(image * levels)  # small regularization and large range: more costs than buckets
    labels, distances = propagate(image, seeds, mask, regularization)
    expected, expected_distances = propagate_naive(image, seeds, mask, regularization)
    np.testing.assert_allclose(distances, expected_distances, rtol=1e-6)
    assert (labels == expected).mean() > 0.98  # ties of sums that round differently


def test_a_flat_image_gives_the_nearest_seed_and_ties_the_lower_label():
    seeds = np.array([[2, 0, 0, 0, 0, 0, 1]])
    labels, distances = propagate(np.zeros((1, 7)), seeds, np.ones((1, 7), bool), 0.5)
    assert labels.tolist() == [[2, 2, 2, 1, 1, 1, 1]]
    assert distances.tolist() == [[0, 0.5, 1, 1.5, 1, 0.5, 0]]


def test_seeds_keep_their_pixels_and_only_those_in_the_mask_grow():
    seeds = np.array([[1, 0, 0, 0, 2]])
    mask = np.array([[False, True, True, False, True]])
    labels, distances = propagate(np.zeros((1, 5)), seeds, mask)
    assert labels.tolist() == [[1, 0, 0, 0, 2]]
    assert np.isinf(distances[0, 1:4]).all()


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_turning_the_image_turns_the_distances(seed):
    image, seeds, mask = cells_in_noise(seed, 20, 3)
    _, distances = propagate(image, seeds, mask)
    _, turned = propagate(np.rot90(image), np.rot90(seeds), np.rot90(mask))
    np.testing.assert_allclose(turned, np.rot90(distances), rtol=1e-6)


def test_refusals():
    flat, mask = np.zeros((2, 2)), np.ones((2, 2), bool)
    with pytest.raises(ValueError, match="wanted one shape"):
        propagate(flat, np.zeros((2, 3), int), mask)
    with pytest.raises(ValueError, match="regularization=0"):
        propagate(flat, np.zeros((2, 2), int), mask, 0)
    with pytest.raises(ValueError, match="nan or inf"):
        propagate(np.full((2, 2), np.nan), np.eye(2, dtype=int), mask)

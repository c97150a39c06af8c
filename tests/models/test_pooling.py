import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellpheno.models.pooling import GatedAttention, Mean, NoisyAnd, bag_max, bag_mean, bag_softmax, bag_sum

D = 3  # features, or classes


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def mean_naive(bag_of_scores, _):
    return [sum(sigmoid(z) for z in column) / len(column) for column in zip(*bag_of_scores, strict=True)]


def noisy_and_naive(bag_of_scores, pooling):  # as printed in Kraus 2016
    a, out = pooling.slope, []
    for m, b_logit in zip(mean_naive(bag_of_scores, None), pooling.threshold_logit.tolist(), strict=True):
        b = sigmoid(b_logit)
        low, high = sigmoid(-a * b), sigmoid(a * (1 - b))
        out.append((sigmoid(a * (m - b)) - low) / (high - low))
    return out


def attention_naive(bag_of_features, pooling):  # as printed in Ilse 2018, equations 7 and 9
    h = torch.tensor(bag_of_features)
    scores = [
        (pooling.score.weight[0] * torch.tanh(pooling.value(row)) * torch.sigmoid(pooling.gate(row))).sum().item()
        for row in h
    ]
    powers = [math.exp(score) for score in scores]
    return sum(power / sum(powers) * row for power, row in zip(powers, h, strict=True)).tolist()


def poolings():
    torch.manual_seed(3)
    noisy_and = NoisyAnd(D)
    noisy_and.threshold_logit.data = torch.tensor([-1.0, 0.0, 1.5])
    return [
        (Mean(), mean_naive, torch.sigmoid),
        (noisy_and, noisy_and_naive, torch.sigmoid),
        (GatedAttention(D, hidden=4), attention_naive, torch.nn.Identity()),
    ]


each_pooling = pytest.mark.parametrize(("pooling", "naive", "link"), poolings(), ids=["mean", "noisy_and", "attention"])
ragged = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def batch(sizes, seed, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    bag = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return scale * torch.randn(len(bag), D, generator=generator), bag, generator


@each_pooling
@settings(deadline=None, max_examples=30)
@given(sizes=ragged, seed=st.integers(0, 10**6))
def test_equals_the_naive_loop_whatever_the_order_and_the_other_bags(pooling, naive, link, sizes, seed):
    values, bag, generator = batch(sizes, seed)
    shuffle = torch.randperm(len(bag), generator=generator)
    out = link(pooling(values[shuffle], bag[shuffle], len(sizes)))
    for b in range(len(sizes)):
        assert out[b].tolist() == pytest.approx(naive(values[bag == b].tolist(), pooling), abs=1e-5)
        alone = link(pooling(values[bag == b], torch.zeros(sizes[b], dtype=torch.long), 1))
        torch.testing.assert_close(alone[0], out[b], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("slope", "threshold", "expected"),
    [
        (10.0, 0.5, [0, 0.011447, 0.070104, 0.5, 0.929896, 1]),
        (5.0, 0.5, [0, 0.051097, 0.173105, 0.5, 0.826895, 1]),
        (10.0, 0.2, [0, 0.170068, 0.571582, 0.946516, 0.995758, 1]),
    ],
)
def test_noisy_and_known_values(slope, threshold, expected):
    pooling = NoisyAnd(1, slope=slope)
    pooling.threshold_logit.data.fill_(math.log(threshold / (1 - threshold)))
    for mean, value in zip([0, 0.1, 0.25, 0.5, 0.75, 1], expected, strict=True):
        scores = torch.logit(torch.full((7, 1), float(mean)), eps=1e-30).clamp(-60, 60)
        probability = pooling(scores, torch.zeros(7, dtype=torch.long), 1).sigmoid().item()
        assert probability == pytest.approx(value, abs=1e-5)


def test_noisy_and_with_a_flat_slope_is_the_mean():
    values, bag, _ = batch([5, 9], seed=1)
    flat, mean = NoisyAnd(D, slope=1e-3)(values, bag, 2).sigmoid(), Mean()(values, bag, 2).sigmoid()
    torch.testing.assert_close(flat, mean, atol=1e-3, rtol=0)


def test_mean_of_three_probabilities():
    scores = torch.logit(torch.tensor([[0.1], [0.2], [0.9]]))
    assert Mean()(scores, torch.zeros(3, dtype=torch.long), 1).sigmoid().item() == pytest.approx(0.4)


@each_pooling
def test_bag_of_one(pooling, naive, link):
    values = torch.tensor([[0.5, -1.0, 2.0]])
    out = link(pooling(values, torch.tensor([0]), 1))
    assert out[0].tolist() == pytest.approx(naive(values.tolist(), pooling), abs=1e-6)


@each_pooling
def test_empty_bag_is_refused_by_its_number(pooling, naive, link):
    with pytest.raises(ValueError, match=r"bags \[1\] of 3 hold no instance"):
        pooling(torch.ones(2, D), torch.tensor([0, 2]), 3)


def test_index_beyond_the_last_bag_is_refused():
    with pytest.raises(ValueError, match="bag index 2 in a batch of 2 bags"):
        bag_mean(torch.ones(2, 1), torch.tensor([0, 2]), 2)


@each_pooling
def test_gradients(pooling, naive, link):
    values, bag, _ = batch([1, 4, 2], seed=2)
    double = copy.deepcopy(pooling).double()
    assert torch.autograd.gradcheck(lambda v: double(v, bag, 3), values.double().requires_grad_())


@each_pooling
def test_half_precision_stays_close(pooling, naive, link):
    values, bag, _ = batch([300, 20, 1], seed=4)
    with torch.autocast("cpu", torch.bfloat16):
        half = pooling(values.bfloat16(), bag, 3)
    full = pooling(values.bfloat16().float(), bag, 3)
    assert half.dtype == torch.float32
    assert (link(half) - link(full)).abs().max() < 0.02


@each_pooling
def test_a_hundred_thousand_instances(pooling, naive, link):
    values, _, _ = batch([100_000], seed=5)
    bag = torch.zeros(len(values), dtype=torch.long)
    double = copy.deepcopy(pooling).double()(values.double(), bag, 1)
    torch.testing.assert_close(link(pooling(values, bag, 1)), link(double).float())


@pytest.mark.parametrize("size", [200.0, -200.0])
@pytest.mark.parametrize("pooling", [Mean(), NoisyAnd(D)], ids=["mean", "noisy_and"])
def test_extreme_logits_have_finite_values_and_gradients(pooling, size):
    scores = torch.full((4, D), size, requires_grad=True)
    out = pooling(scores, torch.zeros(4, dtype=torch.long), 1)
    out.sum().backward()
    assert out.isfinite().all()
    assert scores.grad.isfinite().all()
    assert (out.sigmoid() > 0.5).all() == (size > 0)


def test_attention_sums_to_one_in_each_bag_and_makes_the_weighted_mean():
    pooling = GatedAttention(D, hidden=4)
    values, bag, _ = batch([3, 5, 1], seed=6)
    weights = pooling.weights(values, bag, 3)
    torch.testing.assert_close(bag_sum(weights[:, None], bag, 3), torch.ones(3, 1))
    torch.testing.assert_close(bag_sum(weights[:, None] * values, bag, 3), pooling(values, bag, 3))


def test_softmax_equals_torch_on_one_bag_and_survives_large_scores():
    values = torch.tensor([[500.0], [499.0], [-500.0]])
    torch.testing.assert_close(
        bag_softmax(values, torch.zeros(3, dtype=torch.long), 1), torch.softmax(values, 0), atol=1e-7, rtol=1e-6
    )
    assert bag_max(values, torch.tensor([0, 1, 1]), 2).flatten().tolist() == [500.0, 499.0]


@pytest.mark.parametrize("slope", [0.0, -1.0])
def test_noisy_and_refuses_a_slope_that_does_not_rise(slope):
    with pytest.raises(ValueError, match="wanted a positive number"):
        NoisyAnd(2, slope=slope)

"""What holds of every option of the group pooling; a new option needs its naive loop in NAIVE."""

import copy
import math
import weakref
from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cellpheno.components import build
from cellpheno.config import CONF
from cellpheno.models.encoders import Features
from cellpheno.models.mil import MILClassifier
from cellpheno.models.segments import bag_sum, merge

D = 3  # features, or classes
SMALL = {"hidden": 4, "heads": 2, "points": 3}
NOT_IN_PIECES = {"induced_attention"}
GROWS_WITH_THE_BAG = {"noisy_or", "isr"}


def make(option):
    torch.manual_seed(3)
    config = OmegaConf.to_container(OmegaConf.load(f"{CONF}/pooling/{option}.yaml"))
    config |= {key: value for key, value in SMALL.items() if key in config}
    pooling = build(config)
    pooling = (
        pooling(**({"n_classes": D} if option == "noisy_and" else {})) if kind(pooling) != "features" else pooling(D)
    )
    if option == "noisy_and":
        pooling.threshold_logit.data = torch.tensor([-1.0, 0.0, 1.5])
    return pooling


def kind(pooling):
    return getattr(pooling, "func", pooling).pools


def scores(pooling):
    return kind(pooling) == "scores"


def link(pooling, out):
    return {"scores": torch.sigmoid, "logits": lambda z: z.softmax(-1), "features": lambda h: h}[kind(pooling)](out)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def noisy_and(p, pooling, k):
    a, b = pooling.slope, sigmoid(pooling.threshold_logit[k].item())
    low, high = sigmoid(-a * b), sigmoid(a * (1 - b))
    return (sigmoid(a * (sum(p) / len(p) - b)) - low) / (high - low)


def generalized_mean(p, pooling, _):
    r = pooling.exponent
    return (sum(x**r for x in p) / len(p)) ** (1 / r)


def log_sum_exp(p, pooling, _):
    r = pooling.sharpness
    return math.log(sum(math.exp(r * x) for x in p) / len(p)) / r


def isr(p, *_):
    odds = sum(x / (1 - x) for x in p)
    return odds / (1 + odds)


def of_classes(formula):
    def naive(rows, pooling):
        columns = [[sigmoid(z) for z in column] for column in zip(*rows.tolist(), strict=True)]
        return [formula(p, pooling, k) for k, p in enumerate(columns)]

    return naive


def of_weights(score):
    def naive(rows, pooling):
        powers = [math.exp(x) for x in score(rows, pooling)]
        return sum(power / sum(powers) * row for power, row in zip(powers, rows, strict=True)).tolist()

    return naive


def attention(rows, pooling):  # Ilse 2018, equation 8
    return [(pooling.score.weight[0] * torch.tanh(pooling.value(row))).sum().item() for row in rows]


def gated_attention(rows, pooling):  # Ilse 2018, equation 9
    w, v, u = pooling.score.weight[0], pooling.value, pooling.gate
    return [(w * torch.tanh(v(row)) * torch.sigmoid(u(row))).sum().item() for row in rows]


def heads_by_hand(layer, query, others):
    """One row looks at other rows; softmax(q . k / sqrt(width)) v, head by head."""
    (wq, wk, wv), (bq, bk, bv) = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    parts = []
    for head in torch.arange(layer.embed_dim).chunk(layer.num_heads):
        q = (wq @ query + bq)[head]
        powers = [math.exp((q @ (wk @ row + bk)[head]).item() / math.sqrt(len(head))) for row in others]
        parts.append(sum(x / sum(powers) * (wv @ row + bv)[head] for x, row in zip(powers, others, strict=True)))
    return layer.out_proj.weight @ torch.cat(parts) + layer.out_proj.bias


def induced_attention(rows, pooling):
    x = [pooling.enter(row) for row in rows]
    summary = [heads_by_hand(pooling.look, point, x) for point in pooling.points]
    known = [pooling.norm(row + heads_by_hand(pooling.tell, row, summary)) for row in x]
    return [(pooling.score.weight[0] * torch.tanh(pooling.value(row))).sum().item() for row in known]


def softmax(z):
    return [math.exp(x) / sum(map(math.exp, z)) for x in z]


def mean_logit(rows, _):
    return softmax([sum(column) / len(column) for column in zip(*rows.tolist(), strict=True)])


def mean_probability(rows, _):
    return [sum(column) / len(column) for column in zip(*map(softmax, rows.tolist()), strict=True)]


NAIVE = {
    "mean_logit": mean_logit,
    "mean_probability": mean_probability,
    "vote": mean_probability,  # in training; votes stand in test_cell_pooling.py
    "mean": of_classes(lambda p, *_: sum(p) / len(p)),
    "max": of_classes(lambda p, *_: max(p)),
    "generalized_mean": of_classes(generalized_mean),
    "log_sum_exp": of_classes(log_sum_exp),
    "noisy_or": of_classes(lambda p, *_: 1 - math.prod(1 - x for x in p)),
    "isr": of_classes(isr),
    "noisy_and": of_classes(noisy_and),
    "attention": of_weights(attention),
    "gated_attention": of_weights(gated_attention),
    "induced_attention": of_weights(induced_attention),
}
SHARES = {
    "mean": lambda p: p,
    "max": lambda p: (p == p.max()).float(),
    "generalized_mean": lambda p: p**2.5,
    "log_sum_exp": lambda p: torch.expm1(5 * p),
    "noisy_or": lambda p: -torch.log1p(-p),
    "isr": lambda p: p / (1 - p),
    "noisy_and": lambda p: p,
}
OPTIONS = sorted(path.stem for path in CONF.glob("pooling/*.yaml"))
each_option = pytest.mark.parametrize("option", OPTIONS)
ragged = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def batch(sizes, seed, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    bag = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return scale * torch.randn(len(bag), D, generator=generator), bag, generator


def alone(n):
    return torch.zeros(n, dtype=torch.long)


def test_every_option_has_its_naive_loop():
    assert set(OPTIONS) == set(NAIVE)


@each_option
@settings(deadline=None, max_examples=10)
@given(sizes=ragged, seed=st.integers(0, 10**6))
def test_equals_the_naive_loop_whatever_the_order_and_the_other_bags(option, sizes, seed):
    pooling = make(option)
    values, bag, generator = batch(sizes, seed)
    shuffle = torch.randperm(len(bag), generator=generator)
    out = link(pooling, pooling(values[shuffle], bag[shuffle], len(sizes)))
    for b in range(len(sizes)):
        assert out[b].tolist() == pytest.approx(NAIVE[option](values[bag == b], pooling), abs=1e-5)
        by_itself = link(pooling, pooling(values[bag == b], alone(sizes[b]), 1))
        torch.testing.assert_close(by_itself[0], out[b], atol=1e-6, rtol=1e-5)


@each_option
def test_a_bag_of_one_is_its_instance(option):
    pooling, values = make(option), torch.tensor([[0.5, -1.0, 2.0]])
    out = link(pooling, pooling(values, alone(1), 1))
    expected = NAIVE[option](values, pooling) if option == "noisy_and" else link(pooling, values)[0].tolist()
    assert out[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert (pooling.weights(values, alone(1), 1) == 1).all()


@each_option
def test_empty_bag_is_refused_by_its_number(option):
    pooling = make(option)
    for step in (pooling, pooling.weights):
        with pytest.raises(ValueError, match=r"bags \[1\] of 3 hold no instance"):
            step(torch.ones(2, D), torch.tensor([0, 2]), 3)


@each_option
def test_index_beyond_the_last_bag_is_refused(option):
    with pytest.raises(ValueError, match="bag index 2 in a batch of 2 bags"):
        make(option)(torch.ones(2, D), torch.tensor([0, 2]), 2)


@each_option
def test_gradients_of_values_and_parameters(option):
    values, bag, _ = batch([1, 4, 2], seed=2)
    double = make(option).double()
    parameters = dict(double.named_parameters())

    def pool(v, *changed):
        return torch.func.functional_call(double, dict(zip(parameters, changed, strict=True)), (v, bag, 3))

    assert torch.autograd.gradcheck(pool, (values.double().requires_grad_(), *parameters.values()), fast_mode=True)


@each_option
def test_half_precision_stays_close(option):
    pooling, (values, bag, _) = make(option), batch([300, 20, 1], seed=4)
    if option in GROWS_WITH_THE_BAG:
        values = values - 6  # or nothing but 1 is to be seen
    head = torch.nn.Linear(D, D) if kind(pooling) == "features" else None
    with torch.autocast("cpu", torch.bfloat16):
        half, weights = pooling(values.bfloat16(), bag, 3), pooling.weights(values.bfloat16(), bag, 3)
    full = pooling(values, bag, 3)
    assert half.dtype == weights.dtype == torch.float32
    found, wanted = (head(out).softmax(-1) if head else link(pooling, out) for out in (half, full))
    assert 0 < (found - wanted).abs().max() < 0.02


@each_option
def test_a_hundred_thousand_instances(option):
    pooling, (values, _, _) = make(option), batch([100_000], seed=5)
    if option in GROWS_WITH_THE_BAG:
        values = values - 12  # or nothing but 1 is to be seen
    double = copy.deepcopy(pooling).double()(values.double(), alone(len(values)), 1)
    out = link(pooling, pooling(values, alone(len(values)), 1))
    torch.testing.assert_close(out.double(), link(pooling, double), atol=1e-5, rtol=1e-5)


@each_option
def test_only_noisy_or_and_isr_grow_with_the_bag(option):
    pooling, (values, bag, _) = make(option), batch([4], seed=6)
    once, often = pooling(values, bag, 1), pooling(values.repeat(50, 1), alone(200), 1)
    if option in GROWS_WITH_THE_BAG:
        assert (often > once + 1).all()
    else:
        torch.testing.assert_close(often, once, atol=1e-5, rtol=1e-5)


@each_option
def test_weights_are_shares_that_sum_to_one_in_each_bag(option):
    pooling, (values, bag, _) = make(option), batch([3, 5, 1], seed=7)
    weights = pooling.weights(values, bag, 3)
    if not scores(pooling):
        assert weights.shape == (9,)
        if kind(pooling) == "features":
            torch.testing.assert_close(bag_sum(weights[:, None] * values, bag, 3), pooling(values, bag, 3))
        weights = weights[:, None]
    else:
        for b in range(3):
            terms = torch.stack([SHARES[option](p) for p in values[bag == b].sigmoid().T], dim=1)
            torch.testing.assert_close(weights[bag == b], terms / terms.sum(0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(bag_sum(weights, bag, 3), torch.ones(3, weights.shape[1]))


@each_option
@pytest.mark.parametrize("size", [200.0, -200.0])
def test_extreme_values_have_finite_outputs_weights_and_gradients(option, size):
    pooling, values = make(option), torch.full((4, D), size, requires_grad=True)
    out = pooling(values, alone(4), 1)
    out.sum().backward()
    assert out.isfinite().all()
    assert values.grad.isfinite().all()
    assert (pooling.weights(values, alone(4), 1) - 0.25).abs().max() < 1e-6
    if scores(pooling):
        assert (values.grad > 0).all()
        assert out.abs().min() > 150  # nothing is cut off


pieces_of = pytest.mark.parametrize("option", [option for option in OPTIONS if option not in NOT_IN_PIECES])


def in_pieces(pooling, values, bag, n_bags, size):
    pieces = zip(values.split(size), bag.split(size), strict=True)
    return pooling.finish(reduce(merge, (pooling.collect(v, b, n_bags) for v, b in pieces)))


@pieces_of
@settings(deadline=None, max_examples=10)
@given(sizes=ragged, size=st.integers(1, 7), scale=st.sampled_from([1.0, 30.0]), seed=st.integers(0, 10**6))
def test_pieces_equal_the_whole(option, sizes, size, scale, seed):
    pooling, (values, bag, generator) = make(option), batch(sizes, seed, scale)
    shuffle = torch.randperm(len(bag), generator=generator)
    values, bag = values[shuffle], bag[shuffle]  # so that pieces lack bags
    out = in_pieces(pooling, values, bag, len(sizes), size)
    torch.testing.assert_close(out, pooling(values, bag, len(sizes)), atol=1e-5, rtol=1e-4)


@pieces_of
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_a_large_bag_in_pieces_equals_the_whole(option, dtype, tolerance):
    pooling, (values, _, _) = make(option), batch([50_000], seed=8)
    values, bag = values.to(dtype), alone(50_000)
    whole = pooling.to(dtype)(values, bag, 1)
    out = in_pieces(pooling.float(), values, bag, 1, 997)
    assert out.dtype == dtype
    torch.testing.assert_close(out, whole, atol=tolerance, rtol=tolerance)


@pieces_of
def test_gradients_pass_through_pieces(option):
    double, (values, bag, _) = make(option).double(), batch([1, 4, 2], seed=2)
    values = values.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: in_pieces(double, v, bag, 3, 2), values)


@pieces_of
def test_a_bag_that_no_piece_holds_is_refused(option):
    pooling, sums = make(option), make(option).collect(torch.ones(2, D), torch.tensor([0, 2]), 3)
    with pytest.raises(ValueError, match=r"bags \[1\] of 3 hold no instance"):
        pooling.finish(merge(sums, sums))


@pytest.mark.parametrize("option", sorted(NOT_IN_PIECES))
def test_attention_between_instances_refuses_pieces(option):
    with pytest.raises(TypeError, match="attends between the instances of a bag; give it whole bags"):
        make(option).collect(torch.ones(2, D), alone(2), 1)


def classifier(option, dtype=torch.float32):
    return MILClassifier(Features(D), make(option), ["a", "b", "c"]).to(dtype).eval()


@each_option
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_a_classifier_says_of_pieces_what_it_says_of_the_whole(option, dtype, tolerance):
    model, values = classifier(option, dtype), batch([5000], seed=9)[0].to(dtype)
    with torch.inference_mode():
        whole = model.classify(values, alone(5000), 1)
        weights = model.weights(values, whole, alone(5000))
        out, shares = model.classify_pieces(values.split(997))
        once, own = model.classify_pieces([values])
    torch.testing.assert_close(out.logits, whole.logits, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(out.instance_logits, whole.instance_logits, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(shares, weights, atol=tolerance / 5000, rtol=tolerance)
    assert torch.equal(once.logits, whole.logits)
    assert torch.equal(own, weights)


@each_option
def test_a_classifier_keeps_no_features_of_a_bag_in_pieces(option):
    alive = []

    def piece(_):
        assert option in NOT_IN_PIECES or not any(past() is not None for past in alive)
        features = torch.ones(4, D)
        alive.append(weakref.ref(features))
        return features

    with torch.inference_mode():
        out, weights = classifier(option).classify_pieces(map(piece, range(6)))
    assert (len(alive), len(weights), len(out.instance_logits)) == (6, 24, 24)


@each_option
def test_that_a_whole_bag_is_in_memory_is_said_once(option, caplog):
    model = classifier(option)
    with torch.inference_mode(), caplog.at_level("INFO", "cellpheno"):
        for _ in range(2):
            model.classify_pieces([torch.ones(4, D), torch.ones(2, D)])
    assert len(caplog.messages) == (option in NOT_IN_PIECES)
    if caplog.messages:
        told = "InducedAttention attends between instances: all features of a well are in memory; of the first 6 x 3"
        assert caplog.messages[0].startswith(told)

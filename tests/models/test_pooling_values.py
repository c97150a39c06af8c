"""Known values, limits, and arithmetic of 500 digits."""

import copy
import math
from decimal import Decimal, localcontext

import pytest
import torch

from cellpheno.models.any_instance import ISR, Max, NoisyOr
from cellpheno.models.attention import Attention, GatedAttention, InducedAttention
from cellpheno.models.pooling import GeneralizedMean, LogSumExp, Mean, NoisyAnd
from cellpheno.models.segments import bag_max, bag_softmax, bag_sums, log_mean, log_total, merge


def probability(pooling, *instances):
    logits = torch.logit(torch.tensor(instances, dtype=torch.float64))[:, None]
    return pooling(logits, torch.zeros(len(instances), dtype=torch.long), 1).sigmoid().item()


@pytest.mark.parametrize(
    ("slope", "threshold", "expected"),
    [
        (10.0, 0.5, [0, 0.011447, 0.070104, 0.5, 0.929896, 1]),
        (5.0, 0.5, [0, 0.051097, 0.173105, 0.5, 0.826895, 1]),
        (10.0, 0.2, [0, 0.170068, 0.571582, 0.946516, 0.995758, 1]),
    ],
)
def test_noisy_and(slope, threshold, expected):
    pooling = NoisyAnd(1, slope=slope)
    pooling.threshold_logit.data.fill_(math.log(threshold / (1 - threshold)))
    for mean, value in zip([1e-30, 0.1, 0.25, 0.5, 0.75, 1 - 1e-12], expected, strict=True):
        assert probability(pooling, *[mean] * 7) == pytest.approx(value, abs=6e-7)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (Mean(), 0.4),
        (Max(), 0.9),
        (NoisyOr(), 0.928),
        (ISR(), 0.903485),
        (GeneralizedMean(1), 0.4),
        (GeneralizedMean(2.5), 0.586258),
        (GeneralizedMean(5), 0.722548),
        (LogSumExp(1), 0.467120),
        (LogSumExp(2.5), 0.568294),
        (LogSumExp(5), 0.689752),
    ],
)
def test_three_probabilities(pooling, expected):
    assert probability(pooling, 0.1, 0.2, 0.9) == pytest.approx(expected, abs=6e-7)


def exact(formula, logits):
    """Logit of a bag by the formula for probabilities, with so many digits that nothing rounds."""
    with localcontext() as context:
        context.prec = 500
        p = [1 / (1 + (-Decimal(z)).exp()) for z in logits]
        bag = formula(p)
        return float(bag.ln() - (1 - bag).ln())


def s(x):
    return 1 / (1 + (-x).exp())


def noisy_and(slope):
    def formula(p):
        a, b = Decimal(slope), Decimal("0.5")
        return (s(a * (sum(p) / len(p) - b)) - s(-a * b)) / (s(a * (1 - b)) - s(-a * b))

    return formula


def product(p):
    return math.prod((1 - x for x in p), start=Decimal(1))


CASES = [
    (Mean(), lambda p: sum(p) / len(p)),
    (Max(), max),
    (NoisyOr(), lambda p: 1 - product(p)),
    (ISR(), lambda p: 1 - 1 / (1 + sum(x / (1 - x) for x in p))),
    *((NoisyAnd(1, a), noisy_and(a)) for a in (0.01, 10.0, 60.0)),
    *(
        (GeneralizedMean(r), lambda p, r=Decimal(r): (sum(x**r for x in p) / len(p)) ** (1 / r))
        for r in (0.25, 2.5, 40)
    ),
    *((LogSumExp(r), lambda p, r=Decimal(r): (sum((r * x).exp() for x in p) / len(p)).ln() / r) for r in (0.01, 5, 60)),
]
BAGS = [
    *([200.0], [-200.0], [200.0, -200.0], [200.0] * 3, [-200.0] * 3, [0.3, -0.2, 0.1]),
    *([-50.0, -45.0, -60.0], [50.0, 45.0, 60.0], [-9.0, -8.5, -12.0], [9.0, 8.5, 12.0], [15.0, 14.0, 17.0, -3.0]),
    *([-100.0] * 9 + [100.0], [100.0] * 9 + [-100.0], [36.0, 40.0, 44.0], [-36.0, -40.0, -44.0]),
]


@pytest.mark.parametrize(("pooling", "formula"), CASES)
def test_logits_are_exact_at_both_ends(pooling, formula):
    for logits in BAGS:
        values, bag = torch.tensor(logits, dtype=torch.float64)[:, None], torch.zeros(len(logits), dtype=torch.long)
        expected = exact(formula, values[:, 0].tolist())
        assert pooling(values, bag, 1).item() == pytest.approx(expected, rel=1e-9, abs=1e-9), logits
        assert pooling(values.float(), bag, 1).item() == pytest.approx(expected, rel=3e-5, abs=3e-5), logits


def test_flat_and_steep_poolings_are_the_mean_and_the_maximum():
    p = (0.15, 0.4, 0.8, 0.3)
    for flat in (NoisyAnd(1, slope=1e-4), LogSumExp(1e-4), GeneralizedMean(1)):
        assert probability(flat, *p) == pytest.approx(0.4125, abs=1e-4)
    for steep in (LogSumExp(2000), GeneralizedMean(2000)):
        assert probability(steep, *p) == pytest.approx(0.8, abs=1e-3)


def test_noisy_or_and_isr_saturate_where_noisy_and_does_not():
    background = [0.01] * 1000
    assert probability(NoisyOr(), *background) == pytest.approx(0.99996, abs=5e-6)
    assert probability(ISR(), *background) > 0.9
    assert probability(NoisyAnd(1), *background) < 0.01


def test_noisy_and_learns_its_slope_where_none_is_given():
    learned, fixed = NoisyAnd(1, slope=None), NoisyAnd(1)
    assert [name for name, _ in fixed.named_parameters()] == ["threshold_logit"]
    assert probability(learned, 0.1, 0.2, 0.9) == pytest.approx(probability(fixed, 0.1, 0.2, 0.9), abs=1e-6)
    double = copy.deepcopy(learned).double()
    scores, bag = torch.tensor([[-1.0], [0.5]], dtype=torch.float64), torch.tensor([0, 0])
    double(scores, bag, 1).sum().backward()
    nearby = [NoisyAnd(1, slope=10 * math.exp(step)).double()(scores, bag, 1).item() for step in (-1e-5, 1e-5)]
    assert double.log_slope.grad.item() == pytest.approx((nearby[1] - nearby[0]) / 2e-5, abs=1e-5)


@pytest.mark.parametrize("far", [60.0, -60.0])
def test_a_threshold_at_the_end_of_its_range_keeps_numbers_finite(far):
    pooling, scores = NoisyAnd(1), torch.tensor([[-1.0], [0.5]], requires_grad=True)
    pooling.threshold_logit.data.fill_(far)
    out = pooling(scores, torch.tensor([0, 0]), 1)
    out.sum().backward()
    assert out.isfinite().all()
    assert scores.grad.isfinite().all()
    assert pooling.threshold_logit.grad.isfinite().all()


@pytest.mark.parametrize("kind", [lambda x: NoisyAnd(2, slope=x), GeneralizedMean, LogSumExp])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_knob_that_does_not_rise_is_refused(kind, value):
    with pytest.raises(ValueError, match="wanted a positive number"):
        kind(value)


@pytest.mark.parametrize("knobs", [{"heads": 3}, {"points": 0}, {"heads": 0}])
def test_sizes_of_induced_attention_that_do_not_fit_are_refused(knobs):
    with pytest.raises(ValueError, match="hidden a multiple of heads"):
        InducedAttention(2, hidden=4, **{"heads": 2, **knobs})


@pytest.mark.parametrize(("kind", "sees"), [(Attention, False), (GatedAttention, False), (InducedAttention, True)])
def test_only_induced_attention_compares_instances_with_their_company(kind, sees):
    torch.manual_seed(0)
    pooling, features = kind(3).double(), 2 * torch.randn(4, 3, dtype=torch.float64)
    bag = torch.zeros(3, dtype=torch.long)
    one, other = (pooling.weights(features[rows], bag, 1) for rows in ([0, 1, 2], [0, 1, 3]))
    change = (one[0] / one[1] - other[0] / other[1]).abs().item()
    assert change > 1e-6 if sees else change < 1e-12


@pytest.mark.parametrize("pooling", [NoisyOr(), ISR()], ids=["noisy_or", "isr"])
def test_a_certain_instance_makes_a_certain_bag(pooling):
    scores, bag = torch.tensor([[math.inf], [1.0], [math.inf], [-2.0]]), torch.zeros(4, dtype=torch.long)
    assert pooling(scores, bag, 1).item() == math.inf
    assert pooling.finish(merge(pooling.collect(scores[1:2], bag[:1], 1), pooling.collect(scores[:1], bag[:1], 1))) > 99
    assert pooling.weights(scores, bag, 1).flatten().tolist() == [0.5, 0, 0.5, 0]


def test_softmax_equals_torch_on_one_bag_and_survives_large_scores():
    values = torch.tensor([[500.0], [499.0], [-500.0]])
    torch.testing.assert_close(
        bag_softmax(values, torch.zeros(3, dtype=torch.long), 1), torch.softmax(values, 0), atol=1e-7, rtol=1e-6
    )
    assert bag_max(values, torch.tensor([0, 1, 1]), 2).flatten().tolist() == [500.0, 499.0]


def test_sums_equal_torch_logsumexp():
    terms = torch.tensor([[800.0, -3.0], [801.0, 2.0], [-900.0, 0.0]])
    sums = bag_sums(terms, torch.zeros(3, dtype=torch.long), 1)
    torch.testing.assert_close(log_total(sums)[0], torch.logsumexp(terms, 0))
    torch.testing.assert_close(log_mean(sums)[0], torch.logsumexp(terms, 0) - math.log(3))

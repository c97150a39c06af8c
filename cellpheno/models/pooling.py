"""Pooling of scores: from what is said of each instance to what is said of its bag, class by class.

Axes: N instances in the batch, B bags, K classes, d features. A batch is ragged: ``bag[i]`` is the bag of instance
``i``. A pooling says by ``pools`` what it takes: ``"scores"`` turns instance logits (N, K) into bag logits (B, K),
``"features"`` turns instance features (N, d) into bag features (B, d) (`cellpheno.models.attention`).

In formulas ``z`` is an instance's logit of a class, ``p = s(z)`` its probability with ``s`` the sigmoid, ``n`` the
size of the bag, and ``P`` the bag's probability, of which the logit is returned. Sums are kept as logarithms, of what
``P`` rises with and of what it lacks to 1: so P near 0, P near 1 and their gradients are exact where P itself rounds.

Every pooling has three steps more than ``forward``:

- ``weights(values, bag, n_bags)``: what each instance has to do with its bag; it sums to 1 in a bag. Of scores it is
  (N, K), the share of the instance in the sum that ``P`` rises with; of features (N,), the attention.
- ``collect(values, bag, n_bags)``: a piece of the bags as `BagSums`, in the dtype of the values, float32 at least.
- ``finish(sums)``: the pooled rows, once all pieces are one by `merge`. ``forward`` is the two in one.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from cellpheno.models.logarithms import log_1_minus_exp, log_minus_log, log_softplus
from cellpheno.models.segments import BagSums, at_least_float32, bag_softmax, bag_sums, log_mean


class Mean(nn.Module):
    """Mean of the instance probabilities: ``P = sum_i p_i / n``; all instances count alike.

    References
    ----------
    Kraus, Ba, Frey 2016, Bioinformatics 32(12), i52, doi:10.1093/bioinformatics/btw252

    Examples
    --------
    >>> scores = torch.logit(torch.tensor([[0.1], [0.2], [0.9]]))
    >>> round(Mean()(scores, torch.zeros(3, dtype=torch.long), 1).sigmoid().item(), 4)
    0.4
    """

    pools = "scores"

    def forward(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        return self.finish(self.collect(scores, bag, n_bags))

    def weights(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Share (N, K) of each instance: ``p``."""
        return bag_softmax(logsigmoid(at_least_float32(scores)), bag, n_bags)

    def collect(self, scores: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Sum ``p`` and ``1 - p``."""
        return _sum_probabilities(scores, bag, n_bags)

    def finish(self, sums: BagSums) -> Tensor:
        """Bag logits (B, K)."""
        log_mean_p, log_lack = log_mean(sums).chunk(2, dim=1)  # (B, K) each
        return log_mean_p - log_lack


class GeneralizedMean(nn.Module):
    """Generalized mean of the instance probabilities: ``P = (sum_i p_i^r / n)^(1/r)``.

    It is the mean at ``r = 1`` and nears the maximum as ``r`` grows.

    Parameters
    ----------
    exponent : float
        ``r``, above 0.

    References
    ----------
    Kraus, Ba, Frey 2016, Bioinformatics 32(12), i52, doi:10.1093/bioinformatics/btw252

    Examples
    --------
    >>> scores = torch.logit(torch.tensor([[0.1], [0.2], [0.9]]))
    >>> round(GeneralizedMean()(scores, torch.zeros(3, dtype=torch.long), 1).sigmoid().item(), 4)
    0.5863
    """

    pools = "scores"

    def __init__(self, exponent: float = 2.5) -> None:
        super().__init__()
        self.exponent = _positive("exponent", exponent)

    def forward(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        return self.finish(self.collect(scores, bag, n_bags))

    def weights(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Share (N, K) of each instance: ``p^r``."""
        return bag_softmax(self.exponent * logsigmoid(at_least_float32(scores)), bag, n_bags)

    def collect(self, scores: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Sum ``p^r`` and ``1 - p^r``."""
        scores, r = at_least_float32(scores), self.exponent
        lack = log_1_minus_exp(math.log(r) + log_softplus(-scores))  # 1 - exp(-r softplus(-z))
        return bag_sums(torch.cat([r * logsigmoid(scores), lack], dim=1), bag, n_bags)

    def finish(self, sums: BagSums) -> Tensor:
        """Bag logits (B, K)."""
        log_power, log_lack = log_mean(sums).chunk(2, dim=1)  # (B, K) each: P^r and 1 - P^r
        log_minus_log_p = log_minus_log(log_power, log_lack) - math.log(self.exponent)
        return log_power / self.exponent - log_1_minus_exp(log_minus_log_p)


class LogSumExp(nn.Module):
    """Log-sum-exp of the instance probabilities: ``P = log(sum_i exp(r p_i) / n) / r``.

    It nears the mean as ``r`` falls to 0, and the maximum as ``r`` grows.

    Parameters
    ----------
    sharpness : float
        ``r``, above 0.

    References
    ----------
    Kraus, Ba, Frey 2016, Bioinformatics 32(12), i52, doi:10.1093/bioinformatics/btw252

    Examples
    --------
    >>> scores = torch.logit(torch.tensor([[0.1], [0.2], [0.9]]))
    >>> round(LogSumExp()(scores, torch.zeros(3, dtype=torch.long), 1).sigmoid().item(), 4)
    0.6898
    """

    pools = "scores"

    def __init__(self, sharpness: float = 5.0) -> None:
        super().__init__()
        self.sharpness = _positive("sharpness", sharpness)

    def forward(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        return self.finish(self.collect(scores, bag, n_bags))

    def weights(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Share (N, K) of each instance: ``exp(r p) - 1``."""
        return bag_softmax(self._rise(at_least_float32(scores)), bag, n_bags)

    def collect(self, scores: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Sum ``exp(r p) - 1`` and ``1 - exp(-r (1 - p))``."""
        scores = at_least_float32(scores)
        lack = log_1_minus_exp(math.log(self.sharpness) + logsigmoid(-scores))
        return bag_sums(torch.cat([self._rise(scores), lack], dim=1), bag, n_bags)

    def finish(self, sums: BagSums) -> Tensor:
        """Bag logits (B, K)."""
        log_rise, log_lack = log_mean(sums).chunk(2, dim=1)  # (B, K) each: exp(r P) - 1 and 1 - exp(-r (1 - P))
        log_rest = log_minus_log(-logsigmoid(-log_rise) - self.sharpness, log_lack)  # of r (1 - P)
        return log_softplus(log_rise) - log_rest

    def _rise(self, scores: Tensor) -> Tensor:
        log_rp = math.log(self.sharpness) + logsigmoid(scores)  # (N, K)
        return log_rp.exp() + log_1_minus_exp(log_rp)


class NoisyAnd(nn.Module):
    """Noisy-AND: a bag is positive once a learned fraction of its instances is, whatever its size.

    ``P = (s(a(m - b)) - s(-ab)) / (s(a(1 - b)) - s(-ab))``, ``m = sum_i p_i / n``, ``a`` the slope and ``b`` in (0, 1)
    the threshold, one a class and learned.

    Parameters
    ----------
    n_classes : int
    slope : float or None
        ``a``, the same for all classes; large values approach a step at the threshold. None: learned, 10 at the start.
    threshold : float
        ``b`` at the start, above 0 and below 1. The classifier's head starts so that ``p`` lies near it too. Where few
        instances of a bag respond, start low: from 0.5 all instances stay half positive, and the mean of many that do
        not respond hides the few that do (see `cellpheno.studies.pooling`).

    References
    ----------
    Kraus, Ba, Frey 2016, Bioinformatics 32(12), i52, doi:10.1093/bioinformatics/btw252

    Examples
    --------
    >>> scores = torch.logit(torch.full((7, 1), 0.25))
    >>> round(NoisyAnd(1)(scores, torch.zeros(7, dtype=torch.long), 1).sigmoid().item(), 4)
    0.0701
    """

    pools = "scores"

    def __init__(self, n_classes: int, slope: float | None = 10.0, threshold: float = 0.5) -> None:
        super().__init__()
        if slope is not None:
            _positive("slope", slope)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold {threshold}: wanted above 0 and below 1")
        self.slope = slope
        self.log_slope = nn.Parameter(torch.tensor(math.log(10.0))) if slope is None else None
        self.start_logit = math.log(threshold / (1 - threshold))  # what the head's bias begins with
        self.threshold_logit = nn.Parameter(torch.full((n_classes,), self.start_logit))  # (K,), sigmoid of it is b

    def forward(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        return self.finish(self.collect(scores, bag, n_bags))

    def weights(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Share (N, K) of each instance: ``p``."""
        return bag_softmax(logsigmoid(at_least_float32(scores)), bag, n_bags)

    def collect(self, scores: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Sum ``p`` and ``1 - p``."""
        return _sum_probabilities(scores, bag, n_bags)

    def finish(self, sums: BagSums) -> Tensor:
        """Bag logits (B, K)."""
        log_m, log_lack = log_mean(sums).chunk(2, dim=1)  # (B, K) each
        a = log_m.new_tensor(self.slope) if self.log_slope is None else self.log_slope.exp()
        b = self.threshold_logit.sigmoid()  # (K,)
        # The logit of P in closed form, from s(x) - s(y) = s(x) s(-y) (1 - exp(y - x)): nothing cancels, no epsilon.
        at_ends = logsigmoid(a * b) - logsigmoid(a * (1 - b))
        ratio = log_1_minus_exp(a.log() + log_m) - log_1_minus_exp(a.log() + log_lack)
        return a * (log_m.exp() - b) + at_ends + ratio


def _sum_probabilities(scores: Tensor, bag: Tensor, n_bags: int) -> BagSums:
    """Sums of p and of 1 - p, (B, 2K)."""
    scores = at_least_float32(scores)
    return bag_sums(torch.cat([logsigmoid(scores), logsigmoid(-scores)], dim=1), bag, n_bags)


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} {value}: wanted a positive number")
    return value

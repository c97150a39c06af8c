"""Poolings of scores by which one positive instance is enough: noisy-OR, ISR and the maximum.

The first two add up: a bag's score grows with its size. The contract and the letters are those of
`cellpheno.models.pooling`.
"""

import torch
from torch import Tensor, nn

from cellpheno.models.logarithms import log_1_minus_exp, log_softplus
from cellpheno.models.segments import (
    BagSums,
    at_least_float32,
    bag_max,
    bag_softmax,
    bag_sums,
    log_total,
    refuse_empty,
)


class NoisyOr(nn.Module):
    """Noisy-OR: ``P = 1 - prod_i (1 - p_i)``; one positive instance makes a positive bag.

    Large bags saturate: 1,000 instances of p = 0.01 make P = 0.99996. With ``S = sum_i softplus(z_i)`` the logit is
    ``log(exp(S) - 1)``.

    References
    ----------
    Kraus, Ba, Frey 2016, Bioinformatics 32(12), i52, doi:10.1093/bioinformatics/btw252

    Examples
    --------
    >>> scores = torch.logit(torch.tensor([[0.1], [0.2], [0.9]]))
    >>> round(NoisyOr()(scores, torch.zeros(3, dtype=torch.long), 1).sigmoid().item(), 4)
    0.928
    """

    pools = "scores"

    def forward(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        return self.finish(self.collect(scores, bag, n_bags))

    def weights(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Share (N, K) of each instance: ``-log(1 - p)``."""
        return bag_softmax(log_softplus(at_least_float32(scores)), bag, n_bags)

    def collect(self, scores: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Sum ``-log(1 - p)``."""
        return bag_sums(log_softplus(at_least_float32(scores)), bag, n_bags)

    def finish(self, sums: BagSums) -> Tensor:
        """Bag logits (B, K)."""
        log_sum = log_total(sums)  # (B, K)
        return log_sum.exp() + log_1_minus_exp(log_sum)


class ISR(nn.Module):
    """Integrated segmentation and recognition: the odds of a bag are the sum of the odds of its instances.

    ``P = S / (1 + S)``, ``S = sum_i p_i / (1 - p_i) = sum_i exp(z_i)``. Large bags saturate, as noisy-OR's do.

    References
    ----------
    Keeler, Rumelhart, Leow 1990, NIPS 3, 557; Kraus, Ba, Frey 2016, Bioinformatics 32(12), i52,
    doi:10.1093/bioinformatics/btw252

    Examples
    --------
    >>> scores = torch.logit(torch.tensor([[0.1], [0.2], [0.9]]))
    >>> round(ISR()(scores, torch.zeros(3, dtype=torch.long), 1).sigmoid().item(), 4)
    0.9035
    """

    pools = "scores"

    def forward(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        return self.finish(self.collect(scores, bag, n_bags))

    def weights(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Share (N, K) of each instance: its odds."""
        return bag_softmax(scores, bag, n_bags)

    def collect(self, scores: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Sum the odds."""
        return bag_sums(scores, bag, n_bags)

    def finish(self, sums: BagSums) -> Tensor:
        """Bag logits (B, K)."""
        return log_total(sums)


class Max(nn.Module):
    """Maximum of the instance probabilities: ``P = max_i p_i``; only the top instance learns.

    References
    ----------
    Kraus, Ba, Frey 2016, Bioinformatics 32(12), i52, doi:10.1093/bioinformatics/btw252

    Examples
    --------
    >>> scores = torch.logit(torch.tensor([[0.1], [0.2], [0.9]]))
    >>> round(Max()(scores, torch.zeros(3, dtype=torch.long), 1).sigmoid().item(), 4)
    0.9
    """

    pools = "scores"

    def forward(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        return self.finish(self.collect(scores, bag, n_bags))

    def weights(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Share (N, K) of each instance: all of the top one; equals share it."""
        top = scores == bag_max(scores, bag, n_bags)[bag]  # (N, K)
        return bag_softmax(torch.where(top, 0.0, -torch.inf), bag, n_bags)

    def collect(self, scores: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Keep the maximum, and let the gradient pass to it."""
        return bag_sums(scores, bag, n_bags)._replace(top=bag_max(scores, bag, n_bags))

    def finish(self, sums: BagSums) -> Tensor:
        """Bag logits (B, K)."""
        refuse_empty(sums.size)
        return sums.top

"""Pooling of what is said of single cells, for models that were trained cell by cell: nothing is learned on wells.

Axes: N instances in the batch, B bags, K classes. ``pools = "logits"``: the head stands before, as with a pooling of
scores, but the K logits of an instance are those of one softmax, and no layer stands behind the pooling. A bag of one
instance has the instance's probabilities, so that a cell is a bag like any other in training. ``exclusive``: what comes
out are logarithms of probabilities, of classes that exclude one another.

The three steps beside ``forward`` are those of `cellpheno.models.pooling`.
"""

import torch
from torch import Tensor, nn

from cellpheno.models.segments import BagSums, at_least_float32, bag_sizes, bag_sums, log_mean, refuse_empty


class MeanLogit(nn.Module):
    """Mean of the cells' logits: the logits of a well are the softmax's of the geometric mean of its cells.

    Behind a linear head it is the head's word on the mean of the cells' features. A sure cell counts more than a
    doubtful one.

    Examples
    --------
    >>> MeanLogit()(torch.tensor([[1.0, 0.0], [3.0, 2.0]]), torch.zeros(2, dtype=torch.long), 1).tolist()
    [[2.0, 1.0]]
    """

    pools = "logits"

    def forward(self, logits: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        return self.finish(self.collect(logits, bag, n_bags))

    def weights(self, logits: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Share (N,) of each instance, all alike: 1 over the size of the bag."""
        return equal_shares(logits, bag, n_bags)

    def collect(self, logits: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Sum the logits."""
        values = at_least_float32(logits)
        return bag_sums(values.new_zeros(len(values), 1), bag, n_bags, values)

    def finish(self, sums: BagSums) -> Tensor:
        """Bag logits (B, K)."""
        refuse_empty(sums.size)
        assert sums.values is not None  # `collect` weighs values
        return sums.values / sums.total


class MeanProbability(nn.Module):
    """Mean of the cells' probabilities, as DeepLoc takes the cells of a protein together; its logarithm is returned.

    References
    ----------
    Kraus et al. 2017, Mol Syst Biol 13, 924, doi:10.15252/msb.20177551

    Examples
    --------
    >>> cells = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).log()
    >>> [round(p, 4) for p in MeanProbability()(cells, torch.zeros(2, dtype=torch.long), 1)[0].exp().tolist()]
    [0.7, 0.3]
    """

    pools = "logits"
    exclusive = True

    def forward(self, logits: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        return self.finish(self.collect(logits, bag, n_bags))

    def weights(self, logits: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Share (N,) of each instance, all alike: 1 over the size of the bag."""
        return equal_shares(logits, bag, n_bags)

    def collect(self, logits: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Sum the probabilities, as logarithms."""
        return bag_sums(at_least_float32(logits).log_softmax(1), bag, n_bags)

    def finish(self, sums: BagSums) -> Tensor:
        """Bag logits (B, K)."""
        return log_mean(sums)


class Vote(nn.Module):
    """Vote: each cell counts for the class that it looks most like, ``P_k = (votes_k + 1/2) / (n + K/2)``.

    The halves keep a class without a vote from being impossible. Votes have no gradient: in training, and for a bag of
    one cell, the mean probability stands in their place.

    Examples
    --------
    >>> cells = torch.tensor([[2.0, 0.0], [3.0, 0.0], [0.0, 9.0]])
    >>> Vote().eval()(cells, torch.zeros(3, dtype=torch.long), 1).exp().tolist()
    [[0.625, 0.375]]
    """

    pools = "logits"
    exclusive = True

    def forward(self, logits: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        return self.finish(self.collect(logits, bag, n_bags))

    def weights(self, logits: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Share (N,) of each instance, all alike: 1 over the size of the bag."""
        return equal_shares(logits, bag, n_bags)

    def collect(self, logits: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Sum the probabilities, as logarithms, and outside of training the votes."""
        terms = at_least_float32(logits).log_softmax(1)  # (N, K)
        if self.training:
            return bag_sums(terms, bag, n_bags)
        first = torch.arange(terms.shape[1], device=terms.device) == logits.argmax(1, keepdim=True)  # (N, K)
        votes = torch.where(terms.isnan(), terms, torch.where(first, 0.0, -torch.inf))  # nan has no first class
        return bag_sums(torch.cat([terms, votes], dim=1), bag, n_bags)

    def finish(self, sums: BagSums) -> Tensor:
        """Bag logits (B, K)."""
        if self.training:
            return log_mean(sums)
        log_mean_p, log_share = log_mean(sums).chunk(2, dim=1)  # (B, K) each
        size = sums.size[:, None].to(log_share.dtype)
        log_votes = ((log_share.exp() * size + 0.5) / (size + log_share.shape[1] / 2)).log()
        return torch.where(size > 1, log_votes, log_mean_p)


def equal_shares(logits: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """1 over the size of its bag for each instance (N,); ValueError if a bag is empty.

    Examples
    --------
    >>> equal_shares(torch.zeros(3, 2), torch.tensor([0, 0, 1]), 2).tolist()
    [0.5, 0.5, 1.0]
    """
    return 1 / bag_sizes(bag, n_bags)[bag].to(at_least_float32(logits).dtype)

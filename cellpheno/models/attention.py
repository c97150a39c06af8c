"""Pooling by attention: a weighted mean of the features of a bag's instances, the weights learned from the features.

Axes: N instances in the batch, B bags, d features. The steps of a pooling are told in `cellpheno.models.pooling`. The
pooled row lies among the features of its instances, and the weights of a bag sum to 1: behind a linear head the weight
and the logit of an instance are its exact share in the verdict.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from cellpheno.bounds import Range
from cellpheno.models.segments import BagSums, bag_sizes, bag_softmax, bag_sum, bag_sums, refuse_empty


class Attention(nn.Module):
    """Attention: ``weight = softmax over the bag of w . tanh(V h)``, from the features ``h`` of an instance alone.

    Parameters
    ----------
    n_features : int
        d, the encoder's output.
    hidden : int
        Width of V.

    References
    ----------
    Ilse, Tomczak, Welling 2018, PMLR 80, 2127, doi:10.48550/arXiv.1802.04712

    Examples
    --------
    >>> pooling = Attention(n_features=2)
    >>> pooling(torch.tensor([[1.0, 2.0]]), torch.tensor([0]), 1).tolist()
    [[1.0, 2.0]]
    """

    pools = "features"
    gated = False

    def __init__(self, n_features: int, hidden: Annotated[int, Range(1)] = 128) -> None:
        super().__init__()
        self.value = nn.Linear(n_features, hidden)  # V
        if self.gated:
            self.gate = nn.Linear(n_features, hidden)  # U
        self.score = nn.Linear(hidden, 1)  # w

    def forward(self, features: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance features (N, d) to bag features (B, d)."""
        return self.finish(self.collect(features, bag, n_bags))

    def weights(self, features: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Attention (N,) of each instance in its bag, from features (N, d)."""
        return bag_softmax(self._score(features), bag, n_bags)[:, 0]

    def collect(self, features: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Sum features (N, d) and their weights."""
        return bag_sums(self._score(features), bag, n_bags, features)

    def finish(self, sums: BagSums) -> Tensor:
        """Bag features (B, d)."""
        refuse_empty(sums.size)
        assert sums.values is not None  # `collect` weighs features
        return sums.values / sums.total

    def _score(self, features: Tensor) -> Tensor:
        features = features.to(self.value.weight.dtype)
        known = self.value(features).tanh()  # (N, hidden)
        score: Tensor = self.score(known * self.gate(features).sigmoid() if self.gated else known)
        return score  # (N, 1)


class GatedAttention(Attention):
    """Gated attention: ``weight = softmax over the bag of w . (tanh(V h) * s(U h))``, ``s`` the sigmoid.

    The gate lets a weight depend on products of features, where tanh alone is nearly linear.

    Parameters
    ----------
    n_features : int
        d, the encoder's output.
    hidden : int
        Width of V and U.

    References
    ----------
    Ilse, Tomczak, Welling 2018, PMLR 80, 2127, doi:10.48550/arXiv.1802.04712

    Examples
    --------
    >>> pooling = GatedAttention(n_features=2)
    >>> [round(weight, 4) for weight in pooling.weights(torch.ones(3, 2), torch.tensor([0, 0, 1]), 2).tolist()]
    [0.5, 0.5, 1.0]
    """

    gated = True


class InducedAttention(nn.Module):
    """Attention that depends on the company: a few learned points look at the bag, and each instance at them.

    ``x = norm(A h)``; ``s = attend(points to all x of the bag)``; ``c = attend(x to s)``;
    ``weight = softmax over the bag of w . tanh(V norm(x + c))``. So a weight can say how an instance differs from the
    rest of its bag, at a cost of ``points`` looks an instance, not n. The two looks are the induced set attention of
    Lee et al. without its feed-forward layers; here they make weights only, so that the pooled row is still a mean of
    instance features.

    Parameters
    ----------
    n_features : int
        d, the encoder's output.
    hidden : int
        Width of x, a multiple of ``heads``.
    heads : int
        Of either attention.
    points : int
        Learned points that sum up a bag.

    References
    ----------
    Lee, Lee, Kim, Kosiorek, Choi, Teh 2019, PMLR 97, 3744 (Set Transformer), doi:10.48550/arXiv.1810.00825

    Examples
    --------
    >>> pooling = InducedAttention(n_features=2)
    >>> [round(w, 4) for w in pooling.weights(torch.ones(5, 2), torch.tensor([0, 0, 0, 0, 1]), 2).tolist()]
    [0.25, 0.25, 0.25, 0.25, 1.0]
    """

    pools = "features"

    def __init__(
        self, n_features: int, hidden: Annotated[int, Range(1)] = 128, heads: int = 4, points: int = 16
    ) -> None:
        super().__init__()
        if min(hidden, heads, points) < 1 or hidden % heads:
            raise ValueError(
                f"hidden {hidden}, heads {heads}, points {points}: wanted 1 or more each, hidden a multiple of heads"
            )
        self.enter = nn.Sequential(nn.Linear(n_features, hidden), nn.LayerNorm(hidden))  # A
        self.points = nn.Parameter(torch.randn(points, hidden))
        self.look = nn.MultiheadAttention(hidden, heads)  # points to instances
        self.tell = nn.MultiheadAttention(hidden, heads)  # instances to points
        self.norm = nn.LayerNorm(hidden)
        self.value = nn.Linear(hidden, hidden)  # V
        self.score = nn.Linear(hidden, 1)  # w

    def forward(self, features: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance features (N, d) to bag features (B, d)."""
        return bag_sum(features * self.weights(features, bag, n_bags)[:, None], bag, n_bags)

    def weights(self, features: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Attention (N,) of each instance in its bag, from features (N, d) of whole bags."""
        size = bag_sizes(bag, n_bags).tolist()
        order = bag.argsort(stable=True)  # bag after bag
        with torch.autocast(features.device.type, enabled=False):
            x = self.enter(features[order].to(self.points.dtype))  # (N, hidden)
            known = torch.cat([self._in_company(one) for one in x.split(size)])
            score = self.score(self.value(known).tanh())  # (N, 1)
        return bag_softmax(score[order.argsort()], bag, n_bags)[:, 0]

    def collect(self, features: Tensor, bag: Tensor, n_bags: int) -> BagSums:
        """Refuse pieces: the first weight of a bag needs its last instance."""
        raise TypeError("InducedAttention attends between the instances of a bag; give it whole bags, not pieces")

    def _in_company(self, x: Tensor) -> Tensor:  # (n, hidden) of one bag
        summary, _ = self.look(self.points, x, x, need_weights=False)  # (points, hidden)
        told, _ = self.tell(x, summary, summary, need_weights=False)  # (n, hidden)
        out: Tensor = self.norm(x + told)
        return out

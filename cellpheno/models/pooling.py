"""Pooling: from the instances of each bag to one row a bag.

Axes: N instances in the batch, B bags, K classes, d features. A batch is ragged: ``bag[i]`` is the bag of instance
``i``, so nothing is padded and no mask exists. A pooling says by ``pools`` what it takes: ``"scores"`` turns instance
logits (N, K) into bag logits (B, K), ``"features"`` turns instance features (N, d) into bag features (B, d).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid


def bag_sizes(bag: Tensor, n_bags: int) -> Tensor:
    """Count the instances of each bag and refuse empty ones.

    Parameters
    ----------
    bag : Tensor of shape (N,), int64, in 0..n_bags-1, in any order
    n_bags : int

    Returns
    -------
    Tensor of shape (B,), int64

    Raises
    ------
    ValueError
        If a bag is empty (a pooled value of nothing is not a number that anyone should see), or an index is too high.

    Examples
    --------
    >>> bag_sizes(torch.tensor([0, 1, 0]), 2).tolist()
    [2, 1]
    """
    size = torch.bincount(bag, minlength=n_bags)
    if len(size) > n_bags:
        raise ValueError(f"bag index {len(size) - 1} in a batch of {n_bags} bags; wanted 0 to {n_bags - 1}")
    if empty := (size == 0).nonzero().flatten().tolist():
        raise ValueError(f"bags {empty} of {n_bags} hold no instance; leave them out of the batch")
    return size


def bag_mean(values: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Mean of each bag.

    Parameters
    ----------
    values : Tensor of shape (N, K), float
    bag : Tensor of shape (N,), int64
    n_bags : int

    Returns
    -------
    Tensor of shape (B, K), float32 at least (sums over 10^5 instances drift in half precision)

    Raises
    ------
    ValueError
        If a bag is empty.

    Examples
    --------
    >>> bag_mean(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2).tolist()
    [[2.0], [5.0]]
    """
    size = bag_sizes(bag, n_bags)  # (B,)
    return bag_sum(values, bag, n_bags) / size[:, None]


def bag_sum(values: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Sum of each bag, in float32 at least; the sum of nothing is 0.

    Examples
    --------
    >>> bag_sum(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2).tolist()
    [[4.0], [5.0]]
    """
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    return values.new_zeros(n_bags, values.shape[1]).index_add(0, bag, values)  # (B, K)


def bag_max(values: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Maximum of each bag; the maximum of nothing is minus infinity.

    Examples
    --------
    >>> bag_max(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2).tolist()
    [[3.0], [5.0]]
    """
    start = values.new_full((n_bags, values.shape[1]), -torch.inf)
    return start.scatter_reduce(0, bag[:, None].expand_as(values), values, "amax")  # (B, K)


def bag_softmax(values: Tensor, bag: Tensor, n_bags: int) -> Tensor:
    """Softmax over the instances of each bag.

    Parameters
    ----------
    values : Tensor of shape (N, K), float
    bag : Tensor of shape (N,), int64
    n_bags : int

    Returns
    -------
    Tensor of shape (N, K), float32 at least; sums to 1 in each bag

    Raises
    ------
    ValueError
        If a bag is empty.

    Examples
    --------
    >>> bag_softmax(torch.tensor([[0.0], [0.0], [5.0]]), torch.tensor([0, 0, 1]), 2).flatten().tolist()
    [0.5, 0.5, 1.0]
    """
    bag_sizes(bag, n_bags)
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    top = bag_max(values.detach(), bag, n_bags)  # (B, K), only keeps exp in range
    powers = (values - top[bag]).exp()  # (N, K)
    return powers / bag_sum(powers, bag, n_bags)[bag]


class Mean(nn.Module):
    """Mean of the instance probabilities, class by class: the baseline that treats all instances alike.

    ``P = mean_i s(z_i)`` with ``s`` the sigmoid; returned as a logit.

    References
    ----------
    Kraus, Ba, Frey 2016, Bioinformatics 32(12), i52, doi:10.1093/bioinformatics/btw252

    Examples
    --------
    >>> scores = torch.logit(torch.tensor([[0.1], [0.2], [0.9]]))
    >>> Mean()(scores, torch.zeros(3, dtype=torch.long), 1).sigmoid().round(decimals=4).item()
    0.4000000059604645
    """

    pools = "scores"

    def forward(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        mean, rest = _mean_probabilities(scores, bag, n_bags)
        return mean.log() - rest.log()


class NoisyAnd(nn.Module):
    """Noisy-AND: a bag is positive once a learned fraction of its instances is.

    ``P = (s(a(m - b)) - s(-ab)) / (s(a(1 - b)) - s(-ab))`` with ``s`` the sigmoid, ``m`` the bag's mean instance
    probability, ``a`` the slope and ``b`` in (0, 1) the threshold, one a class.

    Parameters
    ----------
    n_classes : int
    slope : float
        ``a``; large values approach a step at the threshold.

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

    def __init__(self, n_classes: int, slope: float = 10.0) -> None:
        super().__init__()
        if slope <= 0:
            raise ValueError(f"slope {slope}: wanted a positive number (10 is usual)")
        self.slope = slope
        self.threshold_logit = nn.Parameter(torch.zeros(n_classes))  # (K,), sigmoid keeps b inside (0, 1)

    def forward(self, scores: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance logits (N, K) to bag logits (B, K)."""
        mean, rest = _mean_probabilities(scores, bag, n_bags)  # (B, K)
        a, b = self.slope, self.threshold_logit.sigmoid()  # b (K,)
        # The logit of P in closed form, from s(x) - s(y) = s(x) s(-y) (1 - exp(y - x)): nothing cancels, no epsilon.
        at_ends = logsigmoid(a * b) - logsigmoid(a * (1 - b))
        return a * (mean - b) + at_ends + (-torch.expm1(-a * mean)).log() - (-torch.expm1(-a * rest)).log()


class GatedAttention(nn.Module):
    """Gated attention: a weighted mean of instance features, the weights learned from the features.

    ``weight = softmax over the bag of w . (tanh(V h) * s(U h))``. The weights of a bag sum to 1.

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
    >>> pooling(torch.ones(3, 2), torch.tensor([0, 0, 1]), 2).shape
    torch.Size([2, 2])
    """

    pools = "features"

    def __init__(self, n_features: int, hidden: int = 128) -> None:
        super().__init__()
        self.value = nn.Linear(n_features, hidden)  # V
        self.gate = nn.Linear(n_features, hidden)  # U
        self.score = nn.Linear(hidden, 1)  # w

    def weights(self, features: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Attention (N,) of each instance in its bag, from features (N, d)."""
        score = self.score(self.value(features).tanh() * self.gate(features).sigmoid())  # (N, 1)
        return bag_softmax(score, bag, n_bags)[:, 0]

    def forward(self, features: Tensor, bag: Tensor, n_bags: int) -> Tensor:
        """Instance features (N, d) to bag features (B, d)."""
        return bag_sum(features * self.weights(features, bag, n_bags)[:, None], bag, n_bags)


def _mean_probabilities(scores: Tensor, bag: Tensor, n_bags: int) -> tuple[Tensor, Tensor]:
    """Mean of s(z) and mean of 1 - s(z), (B, K) each: the second is exact where the first rounds to 1."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # bfloat16 sigmoids are too coarse
    tiny = torch.finfo(scores.dtype).tiny
    mean = bag_mean(scores.sigmoid(), bag, n_bags).clamp_min(tiny)
    rest = bag_mean((-scores).sigmoid(), bag, n_bags).clamp_min(tiny)
    return mean, rest

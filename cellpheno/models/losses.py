"""The loss of a batch of bags, and the accuracy that is logged beside it.

Axes: B bags, K classes. ``logits`` (B, K) are what is said of a bag, ``scores`` (B, K) the logits of the pooled P_k;
None where the pooling is none of scores. Both are trained, after Kraus et al. 2016 (doi:10.1093/bioinformatics/btw252).
``smoothing``, 0 to 1, is the share of the truth that is spread evenly over the classes, or over yes and no.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot


def one_class_loss(
    logits: Tensor, scores: Tensor | None, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of bags with one class each, and of their scores beside it, mean over the bags.

    Parameters
    ----------
    logits, scores : Tensor of shape (B, K)
    labels : Tensor of shape (B,)
    weights : Tensor of shape (K,), optional
        A bag counts by its own class. Given to torch, the weights would also weigh the smoothing, which then goes to
        the rare classes, and a mean would be by their sum, so that a batch of one well is not weighed.
    smoothing : float

    Examples
    --------
    >>> round(one_class_loss(torch.zeros(1, 2), None, torch.tensor([0])).item(), 4)  # the logarithm of 2
    0.6931
    """
    each = cross_entropy(logits.float(), labels, label_smoothing=smoothing, reduction="none")  # (B,)
    if scores is not None:
        n_classes = logits.shape[1]
        truth = one_hot(labels, n_classes) * (1 - smoothing) + smoothing / n_classes  # (B, K)
        each = each + binary_cross_entropy_with_logits(scores.float(), truth, reduction="none").sum(1)
    return (each if weights is None else each * weights[labels]).mean()


def several_classes_loss(
    logits: Tensor, scores: Tensor | None, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Binary cross-entropy of bags with several classes, and of their scores: summed over classes, mean over the bags.

    Parameters
    ----------
    logits, scores, labels : Tensor of shape (B, K)
        Labels 0 or 1.
    weights : Tensor of shape (2, K), optional
        Of no and of yes.
    smoothing : float

    Examples
    --------
    >>> round(several_classes_loss(torch.zeros(1, 2), None, torch.tensor([[0, 1]])).item(), 4)  # twice that of 2
    1.3863
    """
    truth = labels.float() * (1 - smoothing) + smoothing / 2
    weight = None if weights is None else torch.where(labels > 0, weights[1], weights[0])  # (B, K)
    losses = [
        binary_cross_entropy_with_logits(own.float(), truth, weight=weight, reduction="sum") / len(labels)
        for own in (logits, scores)
        if own is not None
    ]
    return torch.stack(losses).sum()


def balanced_accuracy(labels: Tensor, predicted: Tensor) -> Tensor:
    """Mean recall over the classes that are there.

    Parameters
    ----------
    labels, predicted : Tensor of shape (B,), int64

    Examples
    --------
    >>> balanced_accuracy(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])).item()
    0.8333333730697632
    """
    hits = (labels == predicted).float()
    return torch.stack([hits[labels == k].mean() for k in sorted(set(labels.tolist()))]).mean()

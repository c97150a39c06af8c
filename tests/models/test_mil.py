from functools import partial
from typing import NamedTuple

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, cross_entropy, one_hot

from cellpheno.models.attention import GatedAttention
from cellpheno.models.encoders import SmallResNet
from cellpheno.models.mil import MILClassifier, balanced_accuracy, build_classifier
from cellpheno.models.pooling import Mean, NoisyAnd
from cellpheno.models.segments import bag_sum

CLASSES = ["a", "b", "c"]


class Batch(NamedTuple):
    instances: Tensor
    bag: Tensor
    labels: Tensor


def batch():
    generator = torch.Generator().manual_seed(0)
    return Batch(
        torch.rand(9, 2, 16, 16, generator=generator),
        torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2]),
        torch.tensor([2, 0, 1]),
    )


def classifier(pooling, **knobs):
    torch.manual_seed(0)
    model, encoder = partial(MILClassifier, **knobs), partial(SmallResNet, width=8, depth=1)
    return build_classifier(model, encoder, pooling, classes=CLASSES, n_channels=2)


@pytest.mark.parametrize("pooling", [Mean, NoisyAnd, GatedAttention])
def test_shapes_and_independence_of_the_other_bags(pooling):
    model, (instances, bag, _) = classifier(pooling).eval(), batch()
    out = model(instances, bag, 3)
    assert out.logits.shape == (3, 3)
    assert out.instance_logits.shape == (9, 3)
    for b in range(3):
        alone = model(instances[bag == b], torch.zeros(int((bag == b).sum()), dtype=torch.long), 1)
        torch.testing.assert_close(alone.logits[0], out.logits[b], atol=1e-4, rtol=1e-4)


def test_a_bag_logit_is_the_weighted_mean_of_its_instances_logits():
    model, (instances, bag, _) = classifier(GatedAttention).eval(), batch()
    out = model(instances, bag, 3)
    weights = model.weights(model.embed(instances), bag, 3)
    torch.testing.assert_close(bag_sum(weights[:, None] * out.instance_logits, bag, 3), out.logits)


def test_score_poolings_learn_from_both_losses():
    model, (instances, bag, labels) = classifier(NoisyAnd).eval(), batch()
    out = model(instances, bag, 3)
    p = out.bag_scores.sigmoid()
    expected = cross_entropy(model.bag_head(out.bag_scores), labels)
    expected = expected + binary_cross_entropy(p, one_hot(labels, 3).float(), reduction="none").sum(1).mean()
    torch.testing.assert_close(model.loss(out, labels), expected)


def test_class_weights_and_label_smoothing_reach_the_loss():
    weights = torch.tensor([0.5, 1.0, 4.0])
    torch.manual_seed(0)
    model = MILClassifier(
        *(SmallResNet(2, width=8, depth=1), GatedAttention(32), CLASSES), class_weights=weights, label_smoothing=0.1
    )
    out = model(*batch()[:2], 3)
    expected = cross_entropy(out.logits, batch().labels, weight=weights, label_smoothing=0.1)
    torch.testing.assert_close(model.loss(out, batch().labels), expected)
    assert "class_weights" not in model.state_dict()


def test_evaluation_in_pieces_equals_the_whole():
    small, whole = classifier(GatedAttention, piece=2).eval(), classifier(GatedAttention).eval()
    torch.testing.assert_close(small(*batch()[:2], 3).logits, whole(*batch()[:2], 3).logits, atol=1e-5, rtol=1e-4)


def test_memory_layout_changes_nothing_but_rounding():
    last, plain = classifier(Mean).eval(), classifier(Mean, channels_last=False).eval()
    torch.testing.assert_close(last(*batch()[:2], 3).logits, plain(*batch()[:2], 3).logits, atol=1e-5, rtol=1e-4)


def test_balanced_accuracy_equals_scikit_learn():
    labels, predicted = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0, 0, 1, 1, 0, 2])
    expected = balanced_accuracy_score(labels, predicted)
    assert balanced_accuracy(labels, predicted).item() == pytest.approx(expected)


@pytest.mark.parametrize("classes", [["a"], ["a", "a"]])
def test_classes_must_be_two_or_more_different_names(classes):
    with pytest.raises(ValueError, match="wanted two or more different names"):
        MILClassifier(SmallResNet(1), Mean(), classes)


def test_what_is_no_pooling_is_refused():
    with pytest.raises(TypeError, match="Identity is no pooling"):
        MILClassifier(SmallResNet(1), nn.Identity(), CLASSES)

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, cross_entropy, one_hot

from cellpheno.models.attention import GatedAttention
from cellpheno.models.encoders import Features, SmallResNet
from cellpheno.models.losses import balanced_accuracy
from cellpheno.models.mil import BagOutput, MILClassifier, build_classifier
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
    weights = model.weights(model.embed(instances), out, bag)
    torch.testing.assert_close(bag_sum(weights[:, None] * out.instance_logits, bag, 3), out.logits)


def test_score_poolings_learn_from_both_losses():
    model, (instances, bag, labels) = classifier(NoisyAnd).eval(), batch()
    out = model(instances, bag, 3)
    p = out.bag_scores.sigmoid()
    expected = cross_entropy(model.bag_head(out.bag_scores), labels)
    expected = expected + binary_cross_entropy(p, one_hot(labels, 3).float(), reduction="none").sum(1).mean()
    torch.testing.assert_close(model.loss(out, labels), expected)


def test_a_rare_class_counts_as_much_as_a_frequent_one_in_batches_of_any_size():
    """Nine wells of one class and one of the other: half of the loss each, over single wells and over all at once."""
    labels = torch.tensor([0] * 9 + [1])
    model = classifier(NoisyAnd, class_weights=torch.tensor([10 / 18, 10 / 2, 1.0])).eval()
    instances, bag = (
        torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(1)).expand(10, -1, -1, -1),
        torch.arange(10),
    )
    whole = model.loss(model(instances, bag, 10), labels)
    alone = torch.stack([model.loss(model(instances[:1], bag[:1], 1), label[None]) for label in labels])
    torch.testing.assert_close(whole, alone.mean())
    frequent, rare = alone[0] * 9, alone[9]
    plain = classifier(NoisyAnd).eval()
    unweighted = [plain.loss(plain(instances[:1], bag[:1], 1), torch.tensor([k])) for k in (0, 1)]
    torch.testing.assert_close(frequent / unweighted[0], rare / unweighted[1])


@pytest.mark.parametrize("pooling", [GatedAttention, NoisyAnd])
def test_smoothing_does_not_teach_the_rare_classes_to_a_frequent_one(pooling):
    """What is best to say of a sure cell of a frequent class: itself, and the others alike."""
    model = classifier(pooling, class_weights=torch.tensor([0.34, 34.0, 34.0]), label_smoothing=0.1)
    logits = torch.zeros(1, 3, requires_grad=True)
    scores = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits, scores], max_iter=200, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        loss = model.loss(BagOutput(logits, logits, scores if pooling is NoisyAnd else None), torch.tensor([0]))
        loss.backward()
        return loss

    optimizer.step(step)
    torch.testing.assert_close(logits.softmax(1)[0], torch.tensor([0.9, 0.0, 0.0]) + 0.1 / 3, atol=1e-3, rtol=0)
    if pooling is NoisyAnd:
        torch.testing.assert_close(scores.sigmoid()[0], torch.tensor([0.9, 0.0, 0.0]) + 0.1 / 3, atol=1e-3, rtol=0)


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


def naive_yes_no_loss(logits, truth, weights, smoothing):
    """Weighted binary cross-entropy of smoothed answers: summed over classes, mean over bags, a term at a time."""
    total = 0.0
    for row, answers in zip(logits.tolist(), truth.tolist(), strict=True):
        for k, (z, t) in enumerate(zip(row, answers, strict=True)):
            p, target = 1 / (1 + math.exp(-z)), t * (1 - smoothing) + smoothing / 2
            weight = 1.0 if weights is None else weights[int(t)][k]
            total -= weight * (target * math.log(p) + (1 - target) * math.log(1 - p))
    return total / len(truth)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [[0.5, 1.0, 4.0], [2.0, 1.0, 0.25]]])
@pytest.mark.parametrize("pooling", [NoisyAnd, GatedAttention])
def test_the_loss_of_several_classes_a_bag_equals_a_naive_loop(pooling, weights, smoothing):
    given = None if weights is None else torch.tensor(weights)
    knobs = {"multilabel": True, "class_weights": given, "label_smoothing": smoothing}
    model, (instances, bag, _) = classifier(pooling, **knobs).eval(), batch()
    truth = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    out = model(instances, bag, 3)
    expected = naive_yes_no_loss(out.logits, truth, weights, smoothing)
    if pooling is NoisyAnd:
        expected += naive_yes_no_loss(out.bag_scores, truth, weights, smoothing)
    assert model.loss(out, truth).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("pooling", [NoisyAnd, GatedAttention])
def test_class_weights_and_label_smoothing_of_one_class_a_bag_equal_a_naive_loop(pooling):
    weights, smoothing, truth = [0.5, 1.0, 4.0], 0.1, batch().labels
    model = classifier(pooling, class_weights=torch.tensor(weights), label_smoothing=smoothing).eval()
    assert "class_weights" not in model.state_dict()
    out = model(*batch()[:2], 3)
    total = 0.0
    for i, k in enumerate(truth.tolist()):
        row = out.logits[i].log_softmax(0).tolist()
        total -= weights[k] * ((1 - smoothing) * row[k] + smoothing / 3 * sum(row))
        for j, score in enumerate([] if out.bag_scores is None else out.bag_scores[i].tolist()):
            target, p = (1 - smoothing) * (j == k) + smoothing / 3, 1 / (1 + math.exp(-score))
            total -= weights[k] * (target * math.log(p) + (1 - target) * math.log(1 - p))
    assert model.loss(out, truth).item() == pytest.approx(total / 3, rel=1e-5)


def test_validation_of_several_classes_is_the_mean_balanced_accuracy_of_their_answers():
    model, logged = classifier(Mean, multilabel=True).eval(), {}
    model.log = lambda name, value, **_: logged.update({name: float(value)})
    truth = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    one = batch()._replace(labels=truth)
    with torch.no_grad():
        model.validation_step(one, 0)
        predicted = model(*one[:2], 3).logits > 0
    model.on_validation_epoch_end()
    expected = np.mean([balanced_accuracy_score(truth[:, k], predicted[:, k]) for k in range(3)])
    assert logged["val_balanced_accuracy"] == pytest.approx(expected)


def test_a_feature_that_did_not_vary_in_training_says_nothing_of_new_wells():
    """Its weight is where it started: a count that was 3 in every training cell must not speak when it is 4."""
    encoder = Features(n_channels=2)
    training = torch.randn(64, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    training[:, 1] = 3.0
    encoder(training)
    found = encoder.eval()(torch.tensor([[0.5, 3.0], [0.5, 4.0]])[:, :, None, None])
    assert found[:, 1].tolist() == [0.0, 0.0]
    assert found[0, 0] == found[1, 0] != 0


def test_a_last_batch_of_one_cell_is_passed_over():
    model = classifier(Mean).train()
    one = Batch(torch.rand(1, 2, 16, 16), torch.tensor([0]), torch.tensor([1]))
    assert model.training_step(one, 0) is None

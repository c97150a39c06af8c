"""Verdicts from single cells: votes, and a classifier whose cells are bags of one."""

import math
from collections import Counter
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from cellpheno.models.cell_pooling import MeanLogit, MeanProbability, Vote
from cellpheno.models.encoders import SmallResNet
from cellpheno.models.mil import MILClassifier, build_classifier


def alone(n):
    return torch.zeros(n, dtype=torch.long)


def test_votes_are_counted():
    logits = torch.randn(41, 3, generator=torch.Generator().manual_seed(0))
    counts = Counter(logits.argmax(1).tolist())
    out = Vote().eval()(logits, alone(41), 1)[0].exp().tolist()
    assert out == pytest.approx([(counts[k] + 0.5) / 42.5 for k in range(3)], rel=1e-5)
    assert sum(out) == pytest.approx(1)


def test_a_class_without_a_vote_is_not_impossible_and_one_cell_says_what_it_says():
    logits = torch.tensor([[0.0, 9.0], [0.0, 9.0], [0.5, 0.0]])
    out = Vote().eval()(logits, torch.tensor([0, 0, 1]), 2)
    assert out[0].exp().tolist() == pytest.approx([0.5 / 3, 2.5 / 3], rel=1e-5)
    assert out[1].tolist() == pytest.approx(torch.tensor([0.5, 0.0]).log_softmax(0).tolist())


def test_a_cell_that_is_no_number_does_not_vote_for_the_first_class():
    out = Vote().eval()(torch.tensor([[0.0, 9.0], [torch.nan, torch.nan], [0.0, 9.0]]), torch.tensor([0, 0, 1]), 2)
    assert out[0].isnan().all()
    assert out[1].isfinite().all()


@pytest.mark.parametrize("pooling", [Vote, MeanProbability])
def test_one_class_a_cell_is_no_answer_where_a_well_has_several(pooling):
    parts = partial(MILClassifier), partial(SmallResNet, width=8, depth=1), lambda *_: pooling()
    with pytest.raises(ValueError, match="this pooling gives each cell one class"):
        build_classifier(*parts, classes=["a", "b"], n_channels=1, multilabel=True)


def test_votes_in_pieces_equal_the_whole():
    from cellpheno.models.segments import merge

    pooling, logits = Vote().eval(), torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    sums = merge(pooling.collect(logits[:7], alone(7), 1), pooling.collect(logits[7:], alone(13), 1))
    torch.testing.assert_close(pooling.finish(sums), pooling(logits, alone(20), 1))


@pytest.mark.parametrize("pooling", [MeanLogit, MeanProbability, Vote])
def test_cells_as_bags_of_one_are_trained_by_plain_cross_entropy(pooling):
    torch.manual_seed(0)
    encoder = partial(SmallResNet, width=8, depth=1)
    model = build_classifier(MILClassifier, encoder, pooling, classes=["a", "b", "c"], n_channels=2)
    crops, labels = torch.rand(6, 2, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    out = model(crops, torch.arange(6), 6)
    expected = cross_entropy(out.instance_logits, labels)
    torch.testing.assert_close(model.loss(out, labels), expected)
    assert model.bag_head is None
    assert out.bag_scores is None


def test_a_wells_logit_is_the_mean_of_its_cells():
    torch.manual_seed(0)
    model = MILClassifier(SmallResNet(1, width=8, depth=1), MeanLogit(), ["a", "b"]).eval()
    out = model(torch.rand(5, 1, 16, 16), torch.tensor([0, 0, 0, 1, 1]), 2)
    torch.testing.assert_close(out.logits[0], out.instance_logits[:3].mean(0))
    torch.testing.assert_close(out.logits[1], out.instance_logits[3:].mean(0))


def test_orientations_make_a_prediction_that_no_turn_changes():
    torch.manual_seed(0)
    crops = torch.rand(3, 1, 16, 16)
    plain, turned = (
        MILClassifier(SmallResNet(1, width=8, depth=1), MeanLogit(), ["a", "b"], orientations=on).eval()
        for on in (False, True)
    )
    turned.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        views = [v for m in (crops, crops.flip(-1)) for v in (m.rot90(k, (2, 3)) for k in range(4))]
        expected = torch.stack([plain.embed(view) for view in views]).mean(0)
        torch.testing.assert_close(turned.embed(crops), expected)
        torch.testing.assert_close(turned.embed(crops.rot90(1, (2, 3))), expected)
        assert (plain.embed(crops.rot90(1, (2, 3))) - plain.embed(crops)).abs().max() > 1e-3
    assert math.isclose(
        turned.train().embed(crops).mean().item(), plain.train().embed(crops).mean().item(), abs_tol=1e-6
    )

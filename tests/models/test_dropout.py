"""Dropout against torch's own: how much is dropped, what is left, and that it repeats."""

import pytest
import torch
from torch import nn

from cellpheno.models.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_features_are_dropped_as_often_as_asked_and_keep_their_mean(p):
    ones = torch.ones(400, 1000)
    torch.manual_seed(1)
    ours, theirs = Dropout(p)(ones), nn.Dropout(p)(ones)
    spread = (p * (1 - p) / ones.numel()) ** 0.5
    assert abs(float((ours == 0).float().mean()) - round(256 * p) / 256) < 4 * spread
    assert abs(float(ours.mean()) - float(theirs.mean())) < 8 * spread / (1 - p)
    rows, columns = (ours == 0).float().mean(1), (ours == 0).float().mean(0)
    assert float(rows.std()) == pytest.approx((p * (1 - p) / 1000) ** 0.5, rel=0.2)  # neither rows nor columns together
    assert float(columns.std()) == pytest.approx((p * (1 - p) / 400) ** 0.5, rel=0.2)


def test_evaluation_and_zero_leave_features_as_they_are():
    features = torch.rand(7, 3)
    assert torch.equal(Dropout(0.5).eval()(features), features)
    assert torch.equal(Dropout(0.0)(features), features)


def test_the_same_seed_drops_the_same_and_gradients_flow_through_what_is_left():
    features = torch.rand(5, 13, requires_grad=True)
    torch.manual_seed(3)
    one = Dropout(0.5)(features)
    torch.manual_seed(3)
    assert torch.equal(one, Dropout(0.5)(features))
    one.sum().backward()
    assert torch.equal(features.grad, torch.where(one == 0, 0.0, 2.0))


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_what_would_drop_all_is_refused(p):
    with pytest.raises(ValueError, match="wanted 0 or more"):
        Dropout(p)

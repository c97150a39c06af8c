"""What makes a fold's training another: its wells, their labels, and the groups that are kept apart within it."""

from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from cellpheno.names import PLATE, WELL
from cellpheno.stages.train import _job
from cellpheno.training.instances import Cells

WELLS = pd.DataFrame({PLATE: "P1", WELL: ["A01", "A02"], "label": ["a", "b"], "compound": ["x", "y"], "folder": "P1"})


def key(wells, seed=1, group="compound", start=None):
    return _job(partial(print, instances=Cells(), group=group), wells, "s/fold0", Path("run"), seed, start, None).key


def test_the_same_request_has_the_same_key():
    assert key(WELLS) == key(WELLS.copy())
    assert key(WELLS.assign(compound="z"), group=None) == key(WELLS, group=None)  # nothing is kept apart by it


@pytest.mark.parametrize(
    "other",
    [
        key(WELLS.iloc[:1]),
        key(WELLS.assign(label=["b", "a"])),
        key(WELLS.assign(compound=["x", "x"])),
        key(WELLS, seed=2),
        key(WELLS, group=None),
        key(WELLS, start="0f"),
    ],
)
def test_another_request_has_another_key(other):
    assert other != key(WELLS)

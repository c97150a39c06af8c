from collections import Counter

import pytest

from cellpheno.errors import InputError
from cellpheno.names import well_order
from cellpheno.simulate.layout import PlateEffects, hill, plan_plate, well_brightness

CLASSES = ["control", "nuclear", "membrane", "puncta", "mitochondria"]


def plan(**changes):
    settings = {
        "plate": "P1",
        "plate_format": 48,
        "wells": None,
        "wells_per_class": 8,
        "layout": "random",
        "classes": CLASSES,
        "control": "control",
        "compounds_per_class": 2,
        "responders": 0.3,
        "doses_um": (),
        "ec50_um": 1.0,
        "hill_slope": 1.0,
        "seed": 1,
    }
    return plan_plate(**{**settings, **changes})


def test_every_class_has_its_wells_once():
    planned = plan()
    wells = [p.well for p in planned]
    assert len(set(wells)) == 40
    assert wells == sorted(wells, key=well_order)
    assert Counter(p.label for p in planned) == dict.fromkeys(CLASSES, 8)
    assert {(p.compound, p.responders, p.concentration_um) for p in planned if p.label == "control"} == {("DMSO", 0, 0)}
    assert sum(p.compound == "nuclear-2" for p in planned) == 4


def test_layout_is_random_by_seed_and_plate_or_by_columns():
    labels = [p.label for p in plan()]
    assert labels == [p.label for p in plan()]
    assert labels != [p.label for p in plan(seed=2)]
    assert labels != [p.label for p in plan(plate="P2")]
    confounded = plan(layout="columns", wells_per_class=6)
    assert all(len({p.label for p in confounded if p.well[1:] == f"{c:02d}"}) == 1 for c in range(1, 6))
    assert [p.responders for p in plan(responders=0.0)] == [0.0] * 40


def test_random_layout_balances_classes_over_columns_in_the_long_run():
    column = [well_order(p.well)[1] for seed in range(200) for p in plan(seed=seed) if p.label == "nuclear"]
    assert sum(column) / len(column) == pytest.approx((6 * sum(range(1, 7)) + 4 * 7) / 40, abs=0.15)


def test_doses_are_dealt_out_evenly_with_the_effect_of_the_curve():
    doses = (0.1, 1.0, 10.0)
    planned = plan(doses_um=doses, compounds_per_class=1, wells_per_class=6, responders=0.8, hill_slope=2.0)
    treated = [p for p in planned if p.label == "nuclear"]
    assert sorted(p.concentration_um for p in treated) == [0.1, 0.1, 1.0, 1.0, 10.0, 10.0]
    for p in treated:
        assert p.responders == pytest.approx(0.8 * p.concentration_um**2 / (1 + p.concentration_um**2))
    assert hill(1e9, 1.0, 2.0) == pytest.approx(1)


def test_brightness_has_the_gradient_edge_and_batch_asked_for():
    effects = PlateEffects(gradient=0.4, edge=0.2, batch_brightness=1.5)
    assert well_brightness("B01", 96, effects) == pytest.approx(1.5 * 0.8 * 0.8)
    assert well_brightness("B12", 96, effects) == pytest.approx(1.5 * 1.2 * 0.8)
    assert well_brightness("B02", 96, effects) == pytest.approx(1.5 * (0.8 + 0.4 / 11))
    assert well_brightness("A02", 96, effects) / well_brightness("D02", 96, effects) == pytest.approx(0.8)
    assert well_brightness("C05", 96, PlateEffects(0, 0, 1)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wells_per_class": 10}, "need 50 wells and 48 are there"),
        ({"wells": ["A1-B2"]}, "need 40 wells and 4 are there"),
        ({"wells": ["A1-H12"]}, r"wells \['G01'.* are not on a plate of 48"),
    ],
)
def test_too_few_or_foreign_wells_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        plan(**changes)

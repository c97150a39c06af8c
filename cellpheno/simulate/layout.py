"""Which well gets what: classes, compounds and doses over a plate, and how bright each place is."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cellpheno.errors import InputError
from cellpheno.names import PLATE_FORMATS, parse_wells, row_name, well_name, well_order
from cellpheno.simulate.field import plate_seed

SINGLE_DOSE_UM = 10.0  # what the plate map says of a treated well where no doses are asked for


class PlateEffects(NamedTuple):
    """Brightness over the plate that has nothing to do with the treatment.

    Parameters
    ----------
    gradient : float
        Brightness of the last column minus that of the first, as a fraction of the middle; linear between.
    edge : float
        Fraction of the brightness that the outermost wells lose.
    batch_brightness : float
        Factor of the whole plate.
    """

    gradient: float = 0.1
    edge: float = 0.05
    batch_brightness: float = 1.0


class PlannedWell(NamedTuple):
    """A row of the plate map, with what only the simulator knows: the expected fraction of responding cells."""

    well: str
    label: str
    compound: str
    concentration_um: float
    responders: float


def hill(concentration_um: float, ec50_um: float, slope: float) -> float:
    """Fraction of the full effect at a concentration.

    Examples
    --------
    >>> hill(2.0, 2.0, 1.5), hill(0.0, 2.0, 1.5), round(hill(4.0, 2.0, 1.0), 3)
    (0.5, 0.0, 0.667)
    """
    if concentration_um <= 0:
        return 0.0
    return float(1 / (1 + (ec50_um / concentration_um) ** slope))


def well_brightness(well: str, plate_format: int, effects: PlateEffects) -> float:
    """Brightness of a well against the ordinary one, from its place on the plate.

    Examples
    --------
    >>> round(well_brightness("B08", 48, PlateEffects(gradient=0.2, edge=0.1)), 3)
    0.99
    """
    n_rows, n_columns = PLATE_FORMATS[plate_format]
    row, column = well_order(well)
    light = effects.batch_brightness * (1 + effects.gradient * ((column - 1) / (n_columns - 1) - 0.5))
    return light * (1 - effects.edge) if row in (0, n_rows - 1) or column in (1, n_columns) else light


def plan_plate(
    *,
    plate: str,
    plate_format: int,
    wells: Iterable[str] | None,
    wells_per_class: int,
    layout: str,
    classes: Sequence[str],
    control: str,
    compounds_per_class: int,
    responders: float,
    doses_um: Sequence[float],
    ec50_um: float,
    hill_slope: float,
    seed: int,
) -> list[PlannedWell]:
    """Deal classes, compounds and doses out over the wells, in reading order; parameters as for `simulate_plate`.

    Raises
    ------
    InputError
        If the classes need more wells than there are, or a well is not on the plate.

    Examples
    --------
    >>> plan = plan_plate(plate="P1", plate_format=48, wells=["A1-A4"], wells_per_class=2, layout="columns",
    ...     classes=["DMSO", "nuclear"], control="DMSO", compounds_per_class=1, responders=0.3, doses_um=[],
    ...     ec50_um=1.0, hill_slope=1.0, seed=0)
    >>> [(p.well, p.label, p.responders) for p in plan]
    [('A01', 'DMSO', 0.0), ('A02', 'DMSO', 0.0), ('A03', 'nuclear', 0.3), ('A04', 'nuclear', 0.3)]
    """
    n_rows, n_columns = PLATE_FORMATS[plate_format]
    whole = [well_name(row_name(r), c) for c in range(1, n_columns + 1) for r in range(n_rows)]
    chosen = whole if wells is None else sorted(parse_wells(wells), key=lambda w: well_order(w)[::-1])
    if off := [w for w in chosen if w not in set(whole)]:
        raise InputError(f"plate {plate}: wells {off} are not on a plate of {plate_format} wells; choose others")
    n = wells_per_class * len(classes)
    if n > len(chosen):
        raise InputError(
            f"plate {plate}: {len(classes)} classes of {wells_per_class} wells need {n} wells and {len(chosen)} are "
            "there; take a larger plate_format or fewer wells_per_class"
        )
    chosen = chosen[:n]  # column by column, as a pipette goes
    if layout == "random":
        order = np.random.default_rng(plate_seed(seed, plate)).permutation(n)
        chosen = [chosen[i] for i in order]
    planned = []
    for i, well in enumerate(chosen):
        label, copy = classes[i // wells_per_class], i % wells_per_class
        if label == control:
            planned.append(PlannedWell(well, label, "DMSO", 0.0, 0.0))
            continue
        compound = f"{label}-{copy % compounds_per_class + 1}"
        dose = doses_um[copy // compounds_per_class % len(doses_um)] if doses_um else SINGLE_DOSE_UM
        effect = hill(dose, ec50_um, hill_slope) if doses_um else 1.0
        planned.append(PlannedWell(well, label, compound, float(dose), responders * effect))
    return sorted(planned, key=lambda p: well_order(p.well))


def map_label(planned: PlannedWell, control: str, doses_um: Sequence[float], label_top_dose_only: bool) -> str:
    """Class that the plate map tells: empty for the lower doses where only the highest counts as known.

    Examples
    --------
    >>> well = PlannedWell("B03", "nuclear", "nuclear-1", 0.1, 0.02)
    >>> map_label(well, "control", [0.1, 10], True), map_label(well, "control", [0.1, 10], False)
    ('', 'nuclear')
    """
    top = max(doses_um, default=-math.inf)
    lower = planned.label != control and planned.concentration_um < top
    return "" if label_top_dose_only and lower else planned.label

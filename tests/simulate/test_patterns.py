import numpy as np
import pytest

from cellpheno.simulate.patterns import PATTERNS, localize
from cellpheno.simulate.request import phenotype_faults

UM = 0.6


def shares(pattern, cells):
    """Mean over cells of the protein's share in the nucleus, its nucleoli, the rim and next to the nucleus."""
    rows = []
    for i, cell in enumerate(cells):
        density = PATTERNS[pattern](cell, np.random.default_rng(i))
        cytoplasm = cell.cell & ~cell.nucleus
        near = cytoplasm & (cell.nucleus_distance_um < 5)
        rows.append(
            [
                density[cell.nucleus].sum(),
                density[cell.nucleoli > 0.5].mean() / density[cell.nucleus & (cell.nucleoli < 0.1)].mean(),
                density[cell.cell & (cell.edge_distance_um < 2.0)].sum(),
                density[near].mean() / density[cytoplasm & ~near].mean(),
                density[cytoplasm].std() / density[cytoplasm].mean(),
            ]
        )
    return dict(zip(("nucleus", "nucleoli", "rim", "near", "contrast"), np.mean(rows, axis=0), strict=True))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_total_is_one_and_nothing_lies_outside_the_cell(pattern, dish):
    for i, cell in enumerate(dish[4]):
        density = PATTERNS[pattern](cell, np.random.default_rng(i))
        assert density.sum() == pytest.approx(1, abs=1e-4)
        assert density.min() >= 0
        assert not density[~cell.cell].any()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("cytosolic", {"nucleus": (0.05, 0.2), "contrast": (0, 0.5)}),
        ("nuclear", {"nucleus": (0.8, 1), "nucleoli": (0, 0.7)}),
        ("nucleolar", {"nucleus": (0.8, 1), "nucleoli": (4, 10)}),
        ("membrane", {"rim": (0.6, 1), "near": (0, 0.8)}),
        ("er", {"nucleus": (0, 0.2), "near": (2, 8), "contrast": (0.5, 1.5)}),
        ("mitochondria", {"nucleus": (0, 0.1), "near": (1.2, 6), "contrast": (1, 4)}),
        ("puncta", {"nucleus": (0, 0.15), "rim": (0, 0.25), "contrast": (0.9, 4)}),
    ],
)
def test_each_pattern_is_where_its_name_says(pattern, expected, dish):
    found = shares(pattern, dish[4])
    for name, (low, high) in expected.items():
        assert low <= found[name] <= high, (name, found)


def test_every_pattern_has_an_oracle_above():
    assert set(PATTERNS) == {"cytosolic", "nuclear", "nucleolar", "membrane", "er", "mitochondria", "puncta"}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_cell_without_cytoplasm_keeps_its_protein(pattern, dish):
    cell = dish[4][0]
    bare = cell._replace(cell=cell.nucleus, thickness=cell.thickness * cell.nucleus)
    density = PATTERNS[pattern](bare, np.random.default_rng(0))
    assert density.sum() == pytest.approx(1, abs=1e-4)
    assert not density[~bare.cell].any()


def test_spots_keep_their_places(dish):
    cell = dish[4][0]
    density = PATTERNS["puncta"](cell, np.random.default_rng(0))
    again = PATTERNS["puncta"](cell, np.random.default_rng(0))
    other = PATTERNS["puncta"](cell, np.random.default_rng(1))
    assert np.array_equal(density, again)
    assert np.corrcoef(density[cell.cell], other[cell.cell])[0, 1] < 0.6


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("nuclear", {"nuclear": 1.0}),
        (["nuclear", "membrane"], {"nuclear": 0.5, "membrane": 0.5}),
        ({"membrane": 1, "er": 3}, {"membrane": 0.25, "er": 0.75}),
    ],
)
def test_a_protein_in_several_compartments_is_shared_between_them(pattern, parts, dish):
    cell, rng = dish[4][0], np.random.default_rng(7)
    expected = sum(share * PATTERNS[name](cell, rng) for name, share in parts.items())
    density = localize(pattern, cell, np.random.default_rng(7))
    np.testing.assert_allclose(density, expected, rtol=1e-6)
    assert density.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("nucleus", "wanted one of cytosolic"),
        ([], "wanted one of cytosolic"),
        (["nuclear", "rim"], "or several as a list"),
        (["nuclear", "nuclear"], "wanted different patterns"),
        ({"nuclear": 1, "er": 0}, "share 0, wanted a number above 0"),
        ({"nuclear": 1, "er": "much"}, "share 'much', wanted a number above 0"),
    ],
)
def test_patterns_that_cannot_be_drawn_are_refused(pattern, found):
    (fault,) = phenotype_faults({"control": {"pattern": pattern}}, "control")
    assert fault.startswith("phenotypes.control.pattern=")
    assert found in fault

"""Changes of a cell's shape, made before it finds its place: one function a phenotype."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from cellpheno.simulate.cells import CellShape, Outline, outline

Morphology = Callable[[CellShape, Generator], CellShape]


def area_um2(curve: Outline) -> float:
    """Area inside an outline.

    Examples
    --------
    >>> round(area_um2(Outline(np.full(256, 2.0))), 3)
    12.566
    """
    return float(np.pi * np.mean(curve.radius_um**2))


def large_nucleus(shape: CellShape, rng: Generator) -> CellShape:
    """Nucleus of 1.9 to 2.5 times the area with twice the DNA, in a larger cell (endoreplication)."""
    scale = np.sqrt(rng.uniform(1.9, 2.5))
    nuclei = tuple(Outline(n.radius_um * scale, n.offset_um) for n in shape.nuclei)
    return shape._replace(
        nuclei=nuclei, body=Outline(shape.body.radius_um * np.sqrt(scale)), dna_content=2 * shape.dna_content
    )


def elongated(shape: CellShape, rng: Generator) -> CellShape:
    """Spindle: the same area, 4 to 6 times as long as wide, with an oval nucleus along it."""
    direction = rng.uniform(0, np.pi)
    body = outline(area_um2(shape.body), rng.uniform(4.0, 6.0), 0.08, direction, rng)
    nucleus = outline(area_um2(shape.nuclei[0]), rng.uniform(1.8, 2.3), 0.03, direction, rng)
    return shape._replace(nuclei=(nucleus,), body=body)


def rounded(shape: CellShape, rng: Generator) -> CellShape:
    """Detaching: a small, round and thick cell round a round nucleus."""
    nucleus_um2 = 0.85 * area_um2(shape.nuclei[0])
    body = outline(max(0.4 * area_um2(shape.body), 1.7 * nucleus_um2), 1.05, 0.02, 0.0, rng)
    return shape._replace(nuclei=(outline(nucleus_um2, 1.05, 0.02, 0.0, rng),), body=body, height=2.2)


def fragmented_nucleus(shape: CellShape, rng: Generator) -> CellShape:
    """Apoptosis: the nucleus in 4 to 8 bright round pieces, the cell shrunk to about half."""
    total = 0.6 * area_um2(shape.nuclei[0])
    share = rng.dirichlet(np.full(rng.integers(4, 9), 3.0))
    reach = 1.1 * np.sqrt(total / np.pi)
    nuclei = []
    for part in share:
        angle, away = rng.uniform(0, 2 * np.pi), reach * np.sqrt(rng.random())
        offset = (float(away * np.sin(angle)), float(away * np.cos(angle)))
        nuclei.append(outline(max(total * part, 4.0), 1.1, 0.02, 0.0, rng)._replace(offset_um=offset))
    body = Outline(shape.body.radius_um * np.sqrt(0.55))
    return shape._replace(nuclei=tuple(nuclei), body=body, height=1.5, dna_brightness=1.9 * shape.dna_brightness)


def multinucleate(shape: CellShape, rng: Generator) -> CellShape:
    """Failed division: 2 to 4 nuclei side by side in a cell of nearly as many times the area."""
    n = int(rng.choice([2, 3, 4], p=[0.6, 0.25, 0.15]))
    first = area_um2(shape.nuclei[0])
    ring = 1.05 * np.sqrt(first / np.pi) / (1.0 if n == 2 else np.sin(np.pi / n))
    start = rng.uniform(0, 2 * np.pi)
    nuclei = []
    for angle in start + 2 * np.pi * np.arange(n) / n:
        area = 0.8 * first * float(np.exp(rng.normal(0, 0.12)))
        offset = (float(ring * np.sin(angle)), float(ring * np.cos(angle)))
        nuclei.append(
            outline(area, rng.uniform(1.05, 1.3), 0.04, rng.uniform(0, np.pi), rng)._replace(offset_um=offset)
        )
    return shape._replace(
        nuclei=tuple(nuclei), body=Outline(shape.body.radius_um * n**0.4), dna_content=n * shape.dna_content
    )


MORPHOLOGIES: dict[str, Morphology] = {
    f.__name__: f for f in (large_nucleus, elongated, rounded, fragmented_nucleus, multinucleate)
}

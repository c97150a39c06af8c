"""Heat maps of a plate with its real geometry: a number or a class a well."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cellpheno.names import PLATE_FORMATS, row_name, well_order
from cellpheno.report.palette import INK, MUTED
from cellpheno.report.svg import TIP, styled
from cellpheno.report.words import TIMES

WIDTH = 4.1  # inches: two maps stand side by side on a page, one on a phone
SEQUENTIAL = LinearSegmentedColormap.from_list("sequential", ["#E6F0F7", "#8FBBDA", "#2F75AE", "#0B2F5B"])


def plate_shape(wells: Sequence[str]) -> tuple[int, int]:
    """Rows and columns of the smallest plate format, from 24 wells on, that holds the wells.

    Examples
    --------
    >>> plate_shape(["B03", "H12"]), plate_shape(["P24"]), plate_shape([])
    ((8, 12), (16, 24), (8, 12))
    """
    places = [well_order(well) for well in wells] or [(7, 12)]
    height, width = max(row for row, _ in places) + 1, max(column for _, column in places)
    held = (shape for n, shape in sorted(PLATE_FORMATS.items()) if height <= shape[0] and width <= shape[1] and n >= 24)
    return next(held)


@styled
def plate_heatmap(
    wells: Sequence[str],
    values: Sequence[float] | Sequence[str],
    *,
    title: str = "",
    colours: Mapping[str, str] | None = None,
    letters: Mapping[str, str] | None = None,
    limits: tuple[float, float] | None = None,
    label: str = "",
    tips: Sequence[str] | None = None,
    marked: Sequence[bool] | None = None,
    shape: tuple[int, int] | None = None,
) -> Figure:
    """Draw a plate, a square a well. A well without a value is hatched, a place without a well is an outline.

    Parameters
    ----------
    wells : sequence of str
        Such as ``B03``.
    values : sequence of float, or of str where ``colours`` is given
        nan and the empty text are "no value".
    title : str
    colours : mapping of value to colour, optional
        Makes the map categorical; the legend is the page's.
    letters : mapping of value to letter, optional
        Written into the square, for readers who cannot rely on colour.
    limits : tuple of float, optional
        Ends of the colour scale of a continuous map; by default those of the values.
    label : str
        Of the colour scale.
    tips : sequence of str, optional
        What is shown while the pointer rests on a well.
    marked : sequence of bool, optional
        Wells that get a cross.
    shape : tuple of int, optional
        Rows and columns of the plate; by default the smallest format from 96 wells on that holds the wells.

    Returns
    -------
    Figure
    """
    n_rows, n_columns = shape or plate_shape(wells)
    square = (WIDTH - 0.3) / n_columns
    below = 0.5 if colours is None else 0.05
    height = square * n_rows + 0.45 + below
    figure = Figure(figsize=(WIDTH, height))
    # The geometry is known, so nothing is laid out by trial: that would take longer than the drawing.
    axes = figure.add_axes((0.25 / WIDTH, below / height, n_columns * square / WIDTH, n_rows * square / height))
    _draw_grid(axes, n_rows, n_columns, wells, title)
    scale, places = _scale(values, limits) if colours is None else None, [well_order(well) for well in wells]
    for i, (row, column) in enumerate(places):
        value = values[i]
        colour = _colour(value, colours, scale)
        box = Rectangle((column - 0.45, row - 0.45), 0.9, 0.9, linewidth=0.4, clip_on=False)
        box.set(facecolor=colour or "white", edgecolor=_edge(colour), hatch=None if colour else "//////")
        box.set_gid(f"{TIP}{tips[i] if tips else wells[i]}")
        axes.add_patch(box)
        text = TIMES if marked is not None and marked[i] else (letters or {}).get(str(value), "")
        if text:
            size = 72 * square * (0.75 if text == TIMES else 0.5)
            ink = readable_on(colour or "#FFFFFF")
            axes.text(column, row, text, ha="center", va="center_baseline", fontsize=size, color=ink)
    if scale is not None:
        place = figure.add_axes((0.25 / WIDTH, 0.36 / height, 0.45, 0.07 / height))
        bar = figure.colorbar(ScalarMappable(scale, SEQUENTIAL), cax=place, orientation="horizontal", label=label)
        bar.outline.set_visible(False)
        bar.ax.locator_params(nbins=4)
    return figure


def _draw_grid(axes: Axes, n_rows: int, n_columns: int, wells: Sequence[str], title: str) -> None:
    axes.set(xlim=(0.5, n_columns + 0.5), ylim=(n_rows - 0.5, -0.5))
    axes.set_title(title, pad=14)
    step = math.ceil(n_columns / 12) if n_columns < 48 else 4
    size = max(4.5, min(7.5, 90 / n_rows))
    columns = [c for c in range(1, n_columns + 1) if c == 1 or c % step == 0]
    axes.set_xticks(columns, [str(c) for c in columns], fontsize=7)
    axes.set_yticks(range(n_rows), [row_name(r) for r in range(n_rows)], fontsize=size)
    axes.tick_params(length=0, pad=1.5, top=False, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    taken = {well_order(well) for well in wells}
    empty = [(c, r) for r in range(n_rows) for c in range(1, n_columns + 1) if (r, c) not in taken]
    axes.plot(
        [c for c, _ in empty], [r for _, r in empty], linestyle="none", marker=".", markersize=1.8, color="#B9C4CC"
    )


def _scale(values: Sequence[float] | Sequence[str], limits: tuple[float, float] | None) -> Normalize:
    known = [float(value) for value in values if math.isfinite(float(value))] or [0.0, 1.0]
    low, high = limits or (min(known), max(known))
    return Normalize(low, high if high > low else low + 1)


def _colour(value: float | str, colours: Mapping[str, str] | None, scale: Normalize | None) -> str | None:
    if scale is None:
        return (colours or {}).get(str(value))
    return matplotlib.colors.to_hex(_map(SEQUENTIAL, scale, float(value))) if math.isfinite(float(value)) else None


def _map(colormap: Colormap, scale: Normalize, value: float) -> tuple[float, float, float, float]:
    red, green, blue, alpha = colormap(float(scale(value)))
    return red, green, blue, alpha


def _edge(colour: str | None) -> str:
    pale = colour is None or min(matplotlib.colors.to_rgb(colour)) > 0.85
    return MUTED if pale else colour or MUTED


def readable_on(colour: str) -> str:
    """Ink or white, whichever reads better on the colour (relative luminance as in WCAG 2).

    Examples
    --------
    >>> readable_on("#F0E442") == INK, readable_on("#0B2F5B")
    (True, '#FFFFFF')
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)]
    return INK if 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.25 else "#FFFFFF"

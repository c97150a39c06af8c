"""Scores against a share on a logarithmic axis: a line a method, with its interval at each point."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from cellpheno.report.palette import CLASS_COLOURS, MUTED
from cellpheno.report.svg import styled

MARKERS = "osD^vPX*hp<>"
SPREAD = 0.012  # decades between neighbouring methods, so that their intervals stand side by side


@styled
def score_lines(
    panels: Mapping[str, pd.DataFrame], *, order: Sequence[str], chance: Mapping[str, float], axis: str
) -> Figure:
    """Draw one panel a metric: value and interval of each pooling at each fraction.

    Parameters
    ----------
    panels : mapping of title to DataFrame
        Columns pooling, fraction (above 0), value, low, high; without an interval (nan) only the value is drawn.
    order : sequence of str
        Poolings in the order of colours and of the legend.
    chance : mapping of title to float
        What guessing scores: a dotted line.
    axis : str
        What the fraction is of.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(3.6 * len(panels) + 1.3, 3.3), layout="constrained")
    for axes, (title, table) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.axhline(chance[title], color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        for place, name in enumerate(order):
            rows = table[table["pooling"] == name].sort_values("fraction")
            x = rows["fraction"] * 10 ** (SPREAD * (place - (len(order) - 1) / 2))
            colour = CLASS_COLOURS[place % len(CLASS_COLOURS)]
            axes.vlines(x, rows["low"], rows["high"], color=colour, linewidth=0.9, alpha=0.7)
            marker = MARKERS[place % len(MARKERS)]
            axes.plot(x, rows["value"], marker=marker, markersize=4, linewidth=1.2, color=colour, label=name)
        fractions = np.unique(table["fraction"])
        axes.set_xscale("log")
        axes.set_xticks(fractions)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.set(xlabel=axis, ylim=(min(chance[title] - 0.05, table["value"].min() - 0.02), 1.02))
        axes.set_title(title)
        axes.grid(axis="y")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=7.5)
    return figure

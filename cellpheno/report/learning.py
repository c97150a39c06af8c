"""Chart of a learning curve: how good each arm of a study is with so many examples."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from cellpheno.report.palette import MUTED, Style
from cellpheno.report.plots import WIDTH
from cellpheno.report.svg import TIP, styled


@styled
def learning_curve(
    summary: pd.DataFrame, styles: Mapping[str, Style], *, title: str, labels: tuple[str, str], chance: float | None
) -> Figure:
    """Draw the mean of each arm over the number of examples, with its interval; numbers stand on a logarithmic axis.

    Parameters
    ----------
    summary : DataFrame
        Columns arm, n, mean, low, high.
    styles : mapping of arm to Style
    title : str
    labels : tuple of two str
        Of the two axes.
    chance : float, optional
        What guessing scores: a dotted line.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    axes = figure.add_subplot()
    if chance is not None:
        axes.axhline(chance, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate("chance", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=6.5)
    for arm, rows in summary.groupby("arm", sort=True):
        style = styles[str(arm)]
        axes.fill_between(rows["n"], rows["low"], rows["high"], color=style.colour, alpha=0.18, linewidth=0)
        axes.plot(
            rows["n"], rows["mean"], style.marker, linestyle="-", color=style.colour, label=str(arm).replace("_", " ")
        )
        for row in rows.to_dict("records"):
            (point,) = axes.plot([row["n"]], [row["mean"]], style.marker, color=style.colour, markersize=5)
            point.set_gid(f"{TIP}{arm}, {row['n']}: {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    numbers = sorted(summary["n"].unique())
    axes.set(xscale="log", xlabel=labels[0], ylabel=labels[1], ylim=(0, 1.03))
    axes.xaxis.set_major_locator(FixedLocator(numbers))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.grid(axis="y")
    figure.legend(loc="outside lower center", fontsize=7.5, ncols=2)  # never over a line
    axes.set_title(title, pad=6)
    return figure

"""Charts of a run: a table in, a matplotlib figure out. Each is narrow enough to be read on a phone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cellpheno.report.palette import HAIRLINE, INK, MUTED, Style
from cellpheno.report.plate_map import SEQUENTIAL, readable_on
from cellpheno.report.svg import TIP, styled

WIDTH = 3.6  # inches
ROWS_WIDTH = 2.75  # of forest plots: four stand side by side


def shorten(text: str, length: int = 24) -> str:
    """Cut a long name for an axis; tables hold it in full.

    Examples
    --------
    >>> shorten("a" * 30, 5)
    'aaaa…'
    """
    return text if len(text) <= length else text[: length - 1] + "…"


@styled
def confusion_matrix(
    counts: NDArray[np.int64],
    classes: Sequence[str],
    colours: Mapping[str, str],
    *,
    title: str = "",
    unit: str = "wells",
) -> Figure:
    """Draw wells or cells by true (row) and predicted (column) class: the count, and its share of the row.

    Parameters
    ----------
    counts : ndarray of shape (K, K), int
    classes : sequence of K str
    colours : mapping of class to colour
    title : str
    unit : str
        What is counted.

    Returns
    -------
    Figure
    """
    n = len(classes)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)  # a row without wells stays pale
    side = min(0.62, 3.6 / n)
    figure = Figure(figsize=(side * n + 1.5, side * n + 1.1), layout="constrained")
    axes = figure.add_subplot()
    for i in range(n):
        for j in range(n):
            colour = share_colour(share[i, j])
            tip = f"{counts[i, j]} {unit} of {classes[i]} predicted as {classes[j]}"
            box = Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, facecolor=colour, edgecolor="none", gid=f"{TIP}{tip}")
            axes.add_patch(box)
            ink = readable_on(colour) if counts[i, j] else MUTED
            offset = 0.12 if n <= 8 and counts[i, j] else 0.0
            size = 11 if n <= 8 else 7
            axes.text(j, i - offset, str(counts[i, j]), ha="center", va="center", fontsize=size, color=ink)
            if offset:
                axes.text(j, i + 0.26, f"{share[i, j]:.0%}", ha="center", va="center", fontsize=6.5, color=ink)
    names = [shorten(name, 16) for name in classes]
    axes.set_xticks(
        range(n), names, rotation=40 if n > 2 else 0, ha="right" if n > 2 else "center", rotation_mode="anchor"
    )
    axes.set_yticks(range(n), names)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal", xlabel="predicted", ylabel="true")
    axes.set_title(title)
    axes.tick_params(length=0, labelcolor=INK, pad=11)
    axes.spines[:].set_visible(False)
    for i, name in enumerate(classes):  # the class's colour beside its name
        axes.plot([i], [n - 0.5 + 0.12], "s", color=colours[name], markersize=4, clip_on=False)
        axes.plot([-0.5 - 0.12], [i], "s", color=colours[name], markersize=4, clip_on=False)
    return figure


def share_colour(share: float) -> str:
    """Colour of a share 0 to 1 on the sequential scale.

    Examples
    --------
    >>> share_colour(0.0)
    '#e6f0f7'
    """
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in SEQUENTIAL(float(share))[:3]))


@styled
def forest_plot(
    scores: pd.DataFrame, styles: Mapping[str, Style], *, title: str, note: str = "", chance: float | None = None
) -> Figure:
    """Draw one metric: a row a contestant, its value and its interval.

    Parameters
    ----------
    scores : DataFrame
        Columns contestant, value, low, high; a row a contestant. Without an interval (nan) only the value is drawn.
    styles : mapping of contestant to Style
    title, note : str
    chance : float, optional
        What guessing scores: a dotted line.

    Returns
    -------
    Figure
    """
    figure, axes = _rows(scores["contestant"].tolist(), title, note)
    if chance is not None:
        axes.axvline(chance, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate("chance", (chance, -0.62), ha="center", va="bottom", fontsize=6.5, color=MUTED)
    for place, row in enumerate(scores.itertuples(index=False)):
        style = styles[str(row.contestant)]
        _interval(axes, place, row, style.colour, style.marker, filled=True, name=str(row.contestant))
    return figure


@styled
def difference_plot(differences: pd.DataFrame, styles: Mapping[str, Style], *, title: str, note: str = "") -> Figure:
    """Draw paired differences in one metric against zero; hollow where there is no evidence of a difference.

    Parameters
    ----------
    differences : DataFrame
        Columns contestant, value (contestant minus reference), low, high, verdict; a row a contestant.
    styles : mapping of contestant to Style
    title, note : str

    Returns
    -------
    Figure
    """
    names = differences["contestant"].tolist()
    figure, axes = _rows(names, title, note)
    axes.axvline(0, color=INK, linewidth=0.9)
    for place, row in enumerate(differences.itertuples(index=False)):
        seen = row.verdict in ("ahead", "behind")
        style = styles[str(row.contestant)]
        _interval(axes, place, row, style.colour, style.marker, filled=seen, name=names[place])
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.02), max(high, 0.02))  # zero never stands at the very edge
    return figure


def _rows(names: Sequence[str], title: str, note: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(ROWS_WIDTH, 0.27 * len(names) + 0.75), layout="constrained")
    axes = figure.add_subplot()
    figure.suptitle(title)  # over the names too: the axes beside them are narrow
    axes.set_yticks(range(len(names)), [shorten(name, 36) for name in names])
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=note)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure, axes


def _interval(axes: Axes, place: int, row: Any, colour: str, marker: str, *, filled: bool, name: str) -> None:
    axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt")
    face = colour if filled else "white"
    tip = f"{TIP}{name}: {row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
    axes.plot([row.value], [place], marker, color=colour, markerfacecolor=face, markersize=6, gid=tip, clip_on=False)


@styled
def training_curves(histories: Mapping[str, pd.DataFrame], *, title: str, chance: float | None = None) -> Figure:
    """Draw losses and validation accuracy over epochs: all folds thin, their mean thick.

    Parameters
    ----------
    histories : mapping of fold name to DataFrame
        Columns epoch, train_loss, val_loss, val_balanced_accuracy; what is absent or nan is not drawn.
    title : str
    chance : float, optional
        Balanced accuracy of guessing.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(WIDTH * 1.15, 3.3), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    top.set_title(title)
    curves = [
        (top, "train_loss", "#56B4E9", "training", "-"),
        (top, "val_loss", "#0072B2", "validation", "-"),
        (bottom, "val_balanced_accuracy", "#0072B2", "validation", "-"),
    ]
    for axes, column, colour, label, line in curves:
        folds = [h.set_index("epoch")[column].dropna() for h in histories.values() if column in h]
        for fold in folds:
            axes.plot(fold.index, fold, color=colour, linewidth=0.7, alpha=0.45)
        if folds:
            mean = pd.concat(folds, axis=1).dropna().mean(axis=1)  # only where every fold still trains
            axes.plot(mean.index, mean, line, color=colour, linewidth=2, label=label)
    if chance is not None:
        bottom.axhline(chance, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
    top.set_ylabel("loss")
    bottom.set(ylabel="balanced accuracy", xlabel="epoch", ylim=(0, 1.03))
    bottom.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for axes in (top, bottom):
        axes.grid(axis="y")
    if top.get_legend_handles_labels()[0]:
        top.legend(loc="upper right", fontsize=7.5)
    return figure


@styled
def dose_response(
    means: pd.DataFrame,
    wells: pd.DataFrame,
    style: Style,
    colours: Mapping[str, str],
    *,
    title: str,
    labels: Sequence[str],
) -> Figure:
    """Draw the margin of wells by dose on a logarithmic axis; wells of dose zero stand left of a break.

    Parameters
    ----------
    means : DataFrame
        Columns dose, mean, sd.
    wells : DataFrame
        Columns Metadata_Well, dose, score, label; without rows the bars of one standard deviation stand for them.
    style : Style
    colours : mapping of class to colour
        Of wells with a label, which are controls.
    title : str
    labels : sequence of two str
        Of the dose axis and of the score axis.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(WIDTH, 2.75), layout="constrained")
    axes = figure.add_subplot()
    doses = sorted(float(dose) for dose in means["dose"].unique() if dose > 0)
    step = np.log10(doses[-1] / doses[0]) / (len(doses) - 1) if len(doses) > 1 else 0.3
    zero = float(np.log10(doses[0]) if doses else 0.0) - 1.6 * step
    place = {dose: float(np.log10(dose)) for dose in doses}
    curve = means[means["dose"] > 0]
    at = [place[dose] for dose in curve["dose"]]
    axes.plot(at, curve["mean"], "_-", color=style.colour, markersize=11, markeredgewidth=2, linewidth=1.8)
    if wells.empty:
        at = [place.get(dose, zero) for dose in means["dose"]]
        axes.errorbar(
            at, means["mean"], means["sd"].fillna(0), fmt="none", ecolor=style.colour, elinewidth=1, alpha=0.6
        )
    for dose in wells["dose"].unique():
        _wells(axes, place.get(dose, zero), wells[wells["dose"] == dose], step, colours, style)
    for label, here in wells[wells["dose"] == 0].groupby("label"):  # a mean over both controls would be of neither
        own = colours.get(str(label), style.colour)
        axes.plot([zero], [here["score"].mean()], "_", color=own, markersize=16, markeredgewidth=2)
    rest = len(curve) < len(means)
    if rest:
        axes.axvline(zero + 0.8 * step, color=HAIRLINE, linewidth=3)
    shown = doses[:: max(1, -(-len(doses) // 6))]
    axes.set_xticks([zero] * rest + [place[dose] for dose in shown], ["0"] * rest + [f"{dose:g}" for dose in shown])
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.set_title(title, pad=6)
    axes.grid(axis="y")
    return figure


def _wells(
    axes: Axes, place: float, wells: pd.DataFrame, step: float, colours: Mapping[str, str], style: Style
) -> None:
    # Wells of one dose stand side by side in the order of their scores: nothing is random, and nothing is hidden.
    wells = wells.sort_values("score")
    offsets = (np.arange(len(wells)) - (len(wells) - 1) / 2) / max(len(wells), 5) * 0.7 * step
    for offset, well in zip(offsets, wells.to_dict("records"), strict=True):
        (point,) = axes.plot([place + offset], [well["score"]], style.marker, markersize=4.5, alpha=0.85)
        point.set(color=colours.get(well["label"], style.colour), markeredgecolor="white", markeredgewidth=0.4)
        point.set_gid(f"{TIP}{well['Metadata_Well']}: {well['score']:.2f} {well['label']}")

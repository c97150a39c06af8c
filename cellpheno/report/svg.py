"""A matplotlib figure as a piece of SVG that stands inside a page: the same bytes for the same figure."""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from cellpheno.report.palette import HAIRLINE, INK, MUTED

STYLE: dict[Any, Any] = {  # matplotlib's stubs list every key
    "svg.fonttype": "none",  # text stays text: it can be searched, and the page's own font draws it
    "text.parse_math": False,  # a compound may be called "$x$"
    "font.family": ["DejaVu Sans"],  # comes with matplotlib and is wide: in the page's font nothing runs over
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.unicode_minus": True,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}
TIP = "tip:"  # an artist whose gid starts so gets the rest as its tooltip
styled = matplotlib.rc_context(STYLE)


def inline_svg(figure: Figure, key: str, description: str) -> Markup:
    """SVG of a figure, to be written into a page.

    Parameters
    ----------
    figure : Figure
    key : str
        Unique in the page: identifiers inside the picture derive from it.
    description : str
        What a screen reader says.

    Returns
    -------
    Markup, safe to write as it is: all text of the figure is escaped
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's browser has more fonts
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text[text.index("<svg ") :], flags=re.DOTALL)
    text = re.sub(rf"<g id=(['\"]){TIP}(.*?)\1>", r"<g><title>\2</title>", text)
    used = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', text))
    text = re.sub(r'(<\w+) id="([^"]*)"', lambda tag: tag[0] if tag[2] in used else tag[1], text)
    text = re.sub(r'(<path[^>]* d=")([^"]*)', lambda path: path[1] + _shorter(path[2]), text)
    return Markup(_responsive(re.sub(r"\n\s*", "\n", text), description).strip())


def _shorter(outline: str) -> str:
    # A hundredth of a point is finer than any screen; plate maps have thousands of corners.
    return " ".join(re.sub(r"(\.\d\d)\d+", r"\1", outline).split())


def _responsive(text: str, description: str) -> str:
    # The size becomes an upper bound, so that a picture shrinks on a phone and never grows blurred or clumsy.
    head, body = text.split(">", 1)
    view_box = re.search(r'viewBox="([^"]*)"', head)
    assert view_box is not None  # the SVG writer always states it
    width = float(view_box[1].split()[2]) * 4 / 3  # points to CSS pixels
    opening = (
        f'<svg viewBox="{view_box[1]}" role="img" aria-label="{escape(description)}" style="max-width:{width:.0f}px"'
    )
    return f"{opening}>{body}"


def write_svg(figure: Figure, path: Path) -> None:
    """Write a figure as a file of its own: the same bytes for the same figure."""
    settings = {**STYLE, "svg.hashsalt": path.stem}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    path.write_text(
        re.sub(rf"<g id=(['\"]){TIP}(.*?)\1>", r"<g><title>\2</title>", buffer.getvalue()), encoding="utf-8"
    )

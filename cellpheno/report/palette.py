"""One colour a class and one colour a contestant, the same in every picture of a report.

Classes take hues of Okabe and Ito that contestants do not use first, so that a colour never means two things in a
report of up to six classes; more classes go on with Tol's muted hues.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

CLASS_COLOURS = (
    *("#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#5F6B76", "#0072B2", "#D55E00"),  # Okabe and Ito
    *("#332288", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499"),  # Tol, muted
)
OTHER_CONTESTANTS = ("#882255", "#117733", "#332288", "#999933", "#AA4499", "#44AA99")
CHANNEL_COLOURS = ("#FFB000", "#FF4FA3", "#00D6A3", "#E8E8E8", "#FF6A3D")  # light that is added; DNA_COLOUR for DNA
DNA_COLOUR = "#4F7BFF"
UNLABELLED = "#DDE3E8"
OTHER_SET = "#8A6D5A"
INK, MUTED, HAIRLINE = "#1C2833", "#5D6D7B", "#D5DCE2"


class Style(NamedTuple):
    """How a contestant is drawn: the marker tells contestants apart where colours cannot."""

    colour: str
    marker: str


CONTESTANT_STYLES = {
    "mil": Style("#0072B2", "o"),
    "engineered": Style("#D55E00", "s"),
    "cell_count": Style("#7C8894", "D"),
    "mean_intensity": Style("#7C8894", "^"),
    "position": Style("#7C8894", "v"),
}


class StatusStyle(NamedTuple):
    """How a well's status is drawn, and what it means in a sentence."""

    colour: str
    letter: str
    meaning: str


STATUS_STYLES = {
    "done": StatusStyle("#D3E1EA", "", "measured, trained on where labelled, predicted"),
    "warned": StatusStyle("#F0E442", "w", "used like a done well; something was unusual"),
    "partial": StatusStyle("#E69F00", "p", "a field was lost; predicted from what is left, not trained on by default"),
    "quarantined": StatusStyle("#D55E00", "q", "its files cannot be trusted; no number"),
    "missing": StatusStyle("#FFFFFF", "m", "planned in the plate map, no image found; no number"),
    "excluded": StatusStyle("#5F6B76", "x", "left out by the user; no number"),
}
OTHER_STATUS = StatusStyle("#CC79A7", "?", "a status that this version of the report does not know")


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """Colour of each class by its place in the order of the classes; after 16 classes the colours repeat.

    Examples
    --------
    >>> class_colours(["nuclear", "cytosolic"])
    {'nuclear': '#009E73', 'cytosolic': '#E69F00'}
    """
    return {name: CLASS_COLOURS[i % len(CLASS_COLOURS)] for i, name in enumerate(classes)}


def set_colours(true: Sequence[str], predicted: Iterable[str]) -> dict[str, str]:
    """Colour of each set of classes: those that wells have take the colours in turn, all others share one.

    Examples
    --------
    >>> set_colours(["nuclear", "nuclear|membrane"], ["membrane"])["membrane"] == OTHER_SET
    True
    """
    return dict.fromkeys(predicted, OTHER_SET) | class_colours(true)


def contestant_styles(contestants: Sequence[str]) -> dict[str, Style]:
    """Colour and marker of each contestant: two hues for the two that matter, grey for the baselines.

    Examples
    --------
    >>> contestant_styles(["mil", "forest"])["forest"]
    Style(colour='#882255', marker='P')
    """
    others = [name for name in contestants if name not in CONTESTANT_STYLES]
    spare = {
        name: Style(OTHER_CONTESTANTS[i % len(OTHER_CONTESTANTS)], "PX*hpd"[i % 6]) for i, name in enumerate(others)
    }
    return {name: CONTESTANT_STYLES.get(name) or spare[name] for name in contestants}


def channel_colours(channels: Sequence[str]) -> list[str]:
    """Colour of the light of each channel in a composite; a single channel is white, DNA is blue.

    Examples
    --------
    >>> channel_colours(["DNA", "GFP"])
    ['#4F7BFF', '#FFB000']
    """
    if len(channels) == 1:
        return ["#FFFFFF"]
    dna = next((i for i, name in enumerate(channels) if name.lower() in {"dna", "dapi", "hoechst", "h2b"}), None)
    rest = iter(CHANNEL_COLOURS * (len(channels) // len(CHANNEL_COLOURS) + 1))
    return [DNA_COLOUR if i == dna else next(rest) for i in range(len(channels))]

# ruff: noqa: RUF001 (typographic signs are meant, and stand here only)
"""Names, numbers and meanings as a reader sees them."""

import math
from typing import NamedTuple


class Metric(NamedTuple):
    """A score in words."""

    label: str
    meaning: str
    better: str = ""  # "higher" or "lower"; empty where the report does not know


METRICS = {
    "balanced_accuracy": Metric(
        "balanced accuracy", "mean over the classes of the share of wells called right", "higher"
    ),
    "macro_auroc": Metric(
        "macro AUROC", "chance that a well of a class scores above a well of another, over classes", "higher"
    ),
    "mean_average_precision": Metric(
        "mean average precision", "whether the wells of a class stand first by its score, over classes", "higher"
    ),
    "average_precision": Metric(
        "average precision",
        "precision among the wells that score as high as one of the class, mean over these",
        "higher",
    ),
    "macro_f1": Metric("macro F1", "harmonic mean of precision and recall, mean over the classes", "higher"),
    "log_loss": Metric("log loss", "surprise at the truth, in nats a well; sure and wrong costs most", "lower"),
    "auroc": Metric("AUROC", "chance that a well of the class scores above a well of another class", "higher"),
    "recall": Metric("recall", "share of the wells of the class that were found", "higher"),
    "precision": Metric("precision", "share of the wells called so that are of the class", "higher"),
    "f1": Metric("F1", "harmonic mean of precision and recall", "higher"),
    "brier": Metric("Brier score", "squared error of the probabilities, half its sum over the classes", "lower"),
    "calibration_error": Metric(
        "calibration error", "gap between the probability of what is called and how often it is right", "lower"
    ),
    "calibration_limit": Metric(
        "calibration limit", "calibration error below which 95 % of perfectly calibrated contestants stay", ""
    ),
    "z_prime": Metric(
        "Z′", "room between the controls in units of their spread; above 0.5 is an excellent assay", "higher"
    ),
    "robust_z_prime": Metric("robust Z′", "Z′ from median and MAD, which a stray well cannot move far", "higher"),
    "spearman": Metric("Spearman ρ with dose", "whether the score rises (1) or falls (−1) with dose, over wells", ""),
    "hill_bottom": Metric("Hill bottom", "margin at dose 0 by the fitted Hill curve"),
    "hill_top": Metric("Hill top", "margin at high dose by the fitted Hill curve"),
    "hill_ec50": Metric("EC50", "dose half way between, in the plate map's unit"),
    "hill_slope": Metric("Hill slope", "steepness of the fitted Hill curve"),
}
GLOSSARY = {
    "well, bag, instance": "A well is the unit that is labelled, predicted and resampled. To the MIL model it is a bag "
    "whose instances are the crops of its cells; no cell is labelled.",
    "MIL": "Multiple-instance learning: a network looks at each cell, a pooling joins the cells of a well, and only "
    "the class of the well is compared with the truth.",
    "attention": "The weight of a cell in the pooling, here as a multiple of the mean weight in its well. It says "
    "which cells the model used, not why: it is no explanation; a cell of high attention need not be a responder.",
    "engineered": "Shape, intensity and texture features of each cell, joined a well, with a classifier on top.",
    "cell count, mean intensity, position": "Controls. What they reach can be had without looking at a phenotype; if "
    "position predicts the class, plate layout and class go together.",
    "out of fold, held out": "Predicted by a model that never saw the well in training. All scores are of such "
    "predictions.",
    "interval": "What lies in [ ], by default at 95 %: a bootstrap over wells, or over plates or compounds where the "
    "table says so; recall and balanced accuracy by well have Jeffreys' interval. It is left empty where too few units "
    "can be resampled.",
    "difference": "Contestant minus reference on the same resampled wells. “No evidence of a difference” is a verdict "
    "about this many wells; it does not say that the two are equal. A lead is told only if p, corrected for the "
    "number of contestants after Holm, is small and the interval leaves out zero; beside it stands the difference that "
    "would have been shown 4 times in 5.",
    "calibration": "A well that is called with a probability of 0.8 should be right 4 times in 5. The calibration "
    "error is the gap, in 15 bins of probability; over few wells it is not 0 even for perfect probabilities, so it is "
    "held against its limit.",
    "logit, margin": "A class's score before it becomes a probability. Dose and assay figures use the margin (positive "
    "minus negative logit), since probabilities saturate near 0 and 1.",
    "Z′": "1 − 3 (σ₊ + σ₋) / |μ₊ − μ₋| between positive and negative control wells.",
}
DASH, MINUS, TIMES = "–", "−", "×"


def contestant_label(name: str) -> str:
    """Name of a contestant in words.

    Examples
    --------
    >>> contestant_label("mil"), contestant_label("cell_count")
    ('MIL', 'cell count')
    """
    return "MIL" if name == "mil" else name.replace("_", " ")


def quoted_label(name: str) -> str:
    """Name of a contestant where it stands in a sentence without the page around it.

    Examples
    --------
    >>> quoted_label("engineered"), quoted_label("mil")
    ('engineered features', 'MIL')
    """
    return "engineered features" if name == "engineered" else contestant_label(name)


def split_label(name: str) -> str:
    """Name of a split in words.

    Examples
    --------
    >>> split_label("by_well")
    'by well'
    """
    return name.replace("_", " ")


def metric(name: str) -> Metric:
    """Words for a metric; one that is not known is called by its name.

    Examples
    --------
    >>> metric("log_loss").better, metric("my_score").label
    ('lower', 'my score')
    """
    return METRICS.get(name) or Metric(name.replace("_", " "), "")


def number(value: float, digits: int = 3) -> str:
    """Print a number with a true minus sign; nan is a dash.

    Examples
    --------
    >>> number(-0.04), number(float("nan")), number(0.98765, 2)
    ('−0.040', '–', '0.99')
    """
    return DASH if math.isnan(value) else f"{value:.{digits}f}".replace("-", MINUS)


def interval(low: float, high: float, digits: int = 3) -> str:
    """Print an interval; nothing where there is none.

    Examples
    --------
    >>> interval(-0.01, 0.2, 2), interval(float("nan"), 1.0)
    ('[−0.01, 0.20]', '')
    """
    return "" if math.isnan(low) or math.isnan(high) else f"[{number(low, digits)}, {number(high, digits)}]"


def count(value: float) -> str:
    r"""Print a count with thin spaces between thousands.

    Examples
    --------
    >>> count(12345).replace("\u202f", "_")
    '12_345'
    """
    return f"{int(value):,}".replace(",", "\u202f")

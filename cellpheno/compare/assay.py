"""How well the controls separate, and how the wells answer to the dose.

All on the margin ``logit_<positive> - logit_<negative>`` of a well, which keeps its spread where probabilities are 0
or 1. Wells predicted in several repeats count once, with the mean logit.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import curve_fit
from scipy.special import expit
from scipy.stats import spearmanr
from scipy.stats import t as student

from cellpheno.compare.metrics import Floats
from cellpheno.compare.predictions import NEW, OUT_OF_FOLD, mean_over_repeats
from cellpheno.compare.resampling import generator
from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL

MIN_CONTROLS = 3  # wells of each class; fewer give no interval
HILL = ("bottom", "top", "ec50", "slope")


def z_prime(positive: Floats, negative: Floats) -> Floats:
    """Z': what is left between the controls' means after three standard deviations of each, 1 at best.

    Parameters
    ----------
    positive, negative : arrays of shape (..., n), float
        Scores of control wells; leading axes are resamples.

    References
    ----------
    Zhang, Chung, Oldenburg 1999, J Biomol Screen 4(2), 67, doi:10.1177/108705719900400206

    Examples
    --------
    >>> float(z_prime(np.array([9.0, 10.0, 11.0]), np.array([-1.0, 0.0, 1.0])))
    0.4
    """
    spread = positive.std(axis=-1, ddof=1) + negative.std(axis=-1, ddof=1)
    return _left(spread, positive.mean(axis=-1) - negative.mean(axis=-1))


def robust_z_prime(positive: Floats, negative: Floats) -> Floats:
    """Z' with medians and 1.4826 times the median absolute deviation, so that one bad well does not decide it.

    Examples
    --------
    >>> round(float(robust_z_prime(np.array([9.0, 10.0, 11.0]), np.array([-1.0, 0.0, 90.0]))), 4)
    0.1104
    """
    middles = [np.median(values, axis=-1, keepdims=True) for values in (positive, negative)]
    deviations = [np.abs(v - m) for v, m in zip((positive, negative), middles, strict=True)]
    spread = 1.4826 * sum(np.median(d, axis=-1) for d in deviations)
    return _left(np.asarray(spread), (middles[0] - middles[1])[..., 0])


def assay_quality(
    predictions: pd.DataFrame,
    wells: pd.DataFrame,
    classes: Sequence[str],
    *,
    by: str | None = None,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    seed: int,
) -> pd.DataFrame:
    """Z' and robust Z' of the control wells, scored out of fold, with bootstrap intervals over wells.

    Parameters
    ----------
    predictions : DataFrame
        The prediction table.
    wells : DataFrame, a row a well
        Holds the column ``by``.
    classes : (negative, positive)
    by : str, optional
        Column, such as ``Metadata_Drug``, each value of which has controls of its own.
    n_bootstrap, confidence, seed
        Wells are drawn within each class. The interval is Student's t on log(1 - Z'): few wells understate a
        standard deviation, and plain percentiles at 8 wells a class would hold the truth 3 times in 4 only.

    Returns
    -------
    DataFrame
        ``contestant, split, group, metric, value, low, high, n``; nan with fewer than 2 wells a class, no interval
        with fewer than 3.
    """
    margins = _margins(predictions, wells, classes, [] if by is None else [by])
    margins = margins[(margins["role"] == OUT_OF_FOLD) & margins["true"].isin(list(classes))]
    rows = []
    for (contestant, split, group), own in _groups(margins, by):
        arms = [own.loc[own["true"] == name, "margin"].to_numpy(np.float64) for name in (classes[1], classes[0])]
        rng, fewest = generator(seed, "assay", split, group), min(map(len, arms))
        for metric, statistic in (("z_prime", z_prime), ("robust_z_prime", robust_z_prime)):
            value = float(statistic(*arms)) if fewest >= 2 else np.nan
            low = high = np.nan
            if fewest >= MIN_CONTROLS:
                drawn = [arm[rng.integers(0, len(arm), (n_bootstrap, len(arm)))] for arm in arms]
                low, high = _log_interval(value, statistic(*drawn), len(own) - 2, confidence)
            rows.append((contestant, split, group, metric, value, low, high, len(own)))
    return pd.DataFrame(rows, columns=["contestant", "split", "group", "metric", "value", "low", "high", "n"])


def dose_response(
    predictions: pd.DataFrame, wells: pd.DataFrame, classes: Sequence[str], *, dose: str, by: str | None = None
) -> pd.DataFrame:
    """Margin at each dose, over the wells that have one.

    Parameters
    ----------
    predictions, wells, classes, by
        As in `assay_quality`.
    dose : str
        Column of ``wells``; empty rows have no dose and are left out.

    Returns
    -------
    DataFrame
        ``contestant, split, group, dose, mean, sd, n``: margin of the wells, its standard deviation (nan for one).

    Raises
    ------
    InputError
        If a column is missing or a dose is no number.
    """
    margins = _margins(predictions, wells, classes, [dose] if by is None else [dose, by])
    margins = margins.assign(dose=doses(margins, dose)).dropna(subset="dose")
    rows = []
    for key, own in _groups(margins, by):
        for level, here in own.groupby("dose", sort=True)["margin"]:
            rows.append((*key, level, here.mean(), here.std(), len(here)))
    return pd.DataFrame(rows, columns=["contestant", "split", "group", "dose", "mean", "sd", "n"])


def dose_trend(
    predictions: pd.DataFrame, wells: pd.DataFrame, classes: Sequence[str], *, dose: str, by: str | None = None
) -> pd.DataFrame:
    """Spearman's correlation of margin and dose over wells, and the four parameters of a Hill curve.

    Where there are new wells, they alone count: all fold models scored them, but each control well only one.

    Returns
    -------
    DataFrame
        ``contestant, split, group, metric, value, low, high, n`` with the metrics ``spearman, hill_bottom, hill_top,
        hill_ec50, hill_slope``; ``low`` and ``high`` are nan, and the Hill values too where the fit does not converge.
    """
    margins = _margins(predictions, wells, classes, [dose] if by is None else [dose, by])
    margins = margins.assign(dose=doses(margins, dose)).dropna(subset="dose")
    rows = []
    for key, own in _groups(margins, by):
        own = own[own["role"] == NEW] if (own["role"] == NEW).any() else own
        x, y = own["dose"].to_numpy(np.float64), own["margin"].to_numpy(np.float64)
        varies = np.ptp(x) > 0 and np.ptp(y) > 0
        rho = float(spearmanr(x, y).statistic) if varies and len(x) > 2 else np.nan
        values = (rho, *fit_hill(x, y))
        for metric, value in zip(("spearman", *(f"hill_{name}" for name in HILL)), values, strict=True):
            rows.append((*key, metric, value, np.nan, np.nan, len(x)))
    return pd.DataFrame(rows, columns=["contestant", "split", "group", "metric", "value", "low", "high", "n"])


def hill(x: Floats, bottom: float, top: float, log_ec50: float, slope: float) -> Floats:
    """Hill curve: ``bottom + (top - bottom) / (1 + (ec50 / x)^slope)``, ``bottom`` at dose 0."""
    with np.errstate(divide="ignore"):
        log_x = np.log(x)
    curve: Floats = bottom + (top - bottom) * expit(slope * (log_x - log_ec50))
    return curve


def fit_hill(x: Floats, y: Floats) -> tuple[float, float, float, float]:
    """Least-squares bottom, top, EC50 (in the dose's unit) and slope of a Hill curve.

    The slope is kept positive (top is the level at high dose, above or below bottom) and at most 20, and the EC50
    within the doses that were tried. All are nan with fewer than 5 doses or where the fit does not converge.

    Examples
    --------
    >>> x = np.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    >>> [round(value, 3) for value in fit_hill(x, hill(x, -1.0, 3.0, np.log(4.0), 2.0))]
    [-1.0, 3.0, 4.0, 2.0]
    """
    positive = np.unique(x[x > 0])
    if len(np.unique(x)) < 5 or len(positive) < 4 or np.ptp(y) == 0:
        return np.nan, np.nan, np.nan, np.nan
    ends = np.log(positive[[0, -1]])
    start = (y[x == x.min()].mean(), y[x == x.max()].mean(), ends.mean(), 1.0)
    limits = ([-np.inf, -np.inf, ends[0], 0.01], [np.inf, np.inf, ends[1], 20.0])
    try:
        bottom, top, log_ec50, slope = curve_fit(hill, x, y, p0=start, bounds=limits, max_nfev=2000)[0]
    except RuntimeError:
        return np.nan, np.nan, np.nan, np.nan
    return float(bottom), float(top), float(np.exp(log_ec50)), float(slope)


def _log_interval(value: float, draws: Floats, degrees: int, confidence: float) -> tuple[float, float]:
    loss = 1 - draws[np.isfinite(draws)]
    if value >= 1 or not (loss > 0).any():
        return np.nan, np.nan
    half = student.ppf((1 + confidence) / 2, degrees) * np.log(loss[loss > 0]).std()
    return float(1 - (1 - value) * np.exp(half)), float(1 - (1 - value) * np.exp(-half))


def _left(spread: Floats, gap: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        left: Floats = np.where(gap != 0, 1 - 3 * spread / np.abs(gap), np.nan)
    return left


def _margins(
    predictions: pd.DataFrame, wells: pd.DataFrame, classes: Sequence[str], columns: list[str]
) -> pd.DataFrame:
    """Margin of each well over all repeats, beside the columns of the wells that are wanted."""
    if len(classes) != 2:
        raise InputError(f"classes {list(classes)}: wanted (negative, positive)")
    if missing := [column for column in columns if column not in wells]:
        raise InputError(f"wells: no columns {missing}; there are {list(wells.columns)}")
    table = mean_over_repeats(predictions, classes)
    table["margin"] = table[f"logit_{classes[1]}"] - table[f"logit_{classes[0]}"]
    return table.merge(wells[[PLATE, WELL, *columns]], on=[PLATE, WELL], how="left", validate="many_to_one")


def _groups(margins: pd.DataFrame, by: str | None) -> list[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Return ((contestant, split, group), wells) in order; the group is "" without ``by``."""
    named = margins.assign(group="" if by is None else margins[by].fillna("").astype(str))
    found = named.groupby(["contestant", "split", "group"], sort=True)
    return [((str(a), str(b), str(c)), own) for (a, b, c), own in ((tuple(key), own) for key, own in found)]


def doses(wells: pd.DataFrame, dose: str) -> "pd.Series[float]":
    """Doses of the wells; nan where they have none.

    Raises
    ------
    InputError
        Naming each well whose dose is no number, or below 0.

    Examples
    --------
    >>> doses(pd.DataFrame({"Metadata_dose": ["0.5", ""]}), "Metadata_dose").tolist()
    [0.5, nan]
    """
    text = wells[dose].where(wells[dose].notna() & (wells[dose].astype(str).str.strip() != ""))
    number = pd.to_numeric(text, errors="coerce")
    wrong = wells[text.notna() & (number.isna() | (number < 0))].drop_duplicates([PLATE, WELL])
    if len(wrong):
        raise InputError(
            *(
                f"{p} {w}: {dose} {v!r} is no dose (a number, 0 or above)"
                for p, w, v in wrong[[PLATE, WELL, dose]].to_numpy()
            )
        )
    return number

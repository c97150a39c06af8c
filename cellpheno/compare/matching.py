"""Does a treatment's profile lie next to another one of its class: not-same-compound matching, with its denominator.

A treatment (a compound at a dose) is matched to its nearest other treatment by cosine distance; the match is right if
both have one mechanism. NSC: the neighbour may not be of the same compound. NSCB: nor of the same batch. A class whose
treatments have no permitted partner of their class cannot be matched rightly whatever the profiles, so it is named, and
the score is given over those that can.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta

from cellpheno.errors import InputError

NSC, NSCB = "NSC", "NSCB"
SCORE_COLUMNS = ["contestant", "kind", "metric", "class", "value", "low", "high", "n", "n_all", "note"]
MATCH_COLUMNS = ["treatment", "compound", "batch", "true", "pred", "neighbour", "distance", "note"]


class Matching(NamedTuple):
    """Matches of every treatment, and the score of it all."""

    matches: pd.DataFrame  # a row a treatment: MATCH_COLUMNS; the note says why it cannot be scored
    scores: pd.DataFrame  # contestant, kind, metric, class, value, low, high, n, n_all, note


def treatment_profiles(
    profiles: pd.DataFrame, features: Sequence[str], treatment: Sequence[str], keep: Sequence[str]
) -> pd.DataFrame:
    """Median profile of each treatment.

    Parameters
    ----------
    profiles : DataFrame, a row a well
        Normalized features with the columns of ``treatment`` and ``keep``.
    features : sequence of str
    treatment : sequence of str
        Columns that make a treatment, such as ``Metadata_compound, Metadata_dose``.
    keep : sequence of str
        Columns of one value a treatment, such as the class; where there are several they are joined by ``|``.

    Returns
    -------
    DataFrame, a row a treatment

    Raises
    ------
    InputError
        If a column is missing.

    Examples
    --------
    >>> wells = pd.DataFrame({"drug": ["x", "x", "y"], "moa": ["m", "m", "n"], "f": [1.0, 3.0, 5.0]})
    >>> treatment_profiles(wells, ["f"], ["drug"], ["moa"]).values.tolist()
    [['x', 'm', 2.0], ['y', 'n', 5.0]]
    """
    _check_columns(profiles, [*features, *treatment, *keep])
    groups = profiles.groupby(list(treatment), sort=True, dropna=False)
    others = [column for column in keep if column not in treatment]
    texts = groups[others].agg(_joined) if others else groups[[]].first()
    return texts.join(groups[list(features)].median()).reset_index()


def match_treatments(
    profiles: pd.DataFrame,
    features: Sequence[str],
    *,
    label: str,
    compound: str,
    batch: str | None = None,
    contestant: str = "engineered",
    confidence: float = 0.95,
) -> Matching:
    """Match each treatment with its nearest permitted neighbour by cosine distance.

    Parameters
    ----------
    profiles : DataFrame, a row a treatment
        Without controls. A batch may name several, joined by ``|``: two treatments are of the same batch if they share
        one.
    features : sequence of str
    label : str
        Column of the class, such as the mechanism of action.
    compound : str
        Column: a neighbour of the same compound is not permitted.
    batch : str, optional
        Column: nor one of the same batch.
    contestant : str
        Whose profiles these are.
    confidence : float
        Of the intervals, Jeffreys' on compounds: treatments of one compound are one unit.

    Returns
    -------
    Matching
        Scores of the whole: ``accuracy`` over all ``n_all`` treatments, in which one that cannot be matched rightly
        counts as wrong, and ``accuracy_of_scorable`` over ``n``; ``recall`` of each class. The note of the whole names
        the classes that cannot be scored.

    Raises
    ------
    InputError
        With all faults: missing columns, features that are not finite or all zero, fewer than two classes.

    References
    ----------
    Ljosa et al. 2013, J Biomol Screen 18, 1321, doi:10.1177/1087057113503553

    Examples
    --------
    >>> table = pd.DataFrame({"moa": ["m", "m", "n", "n"], "drug": list("abcd"),
    ...                       "f": [1.0, 1.0, 0.0, 0.1], "g": [0.0, 0.1, 1.0, 1.0]})
    >>> match_treatments(table, ["f", "g"], label="moa", compound="drug").scores.loc[0, ["value", "n"]].tolist()
    [1.0, 4.0]
    """
    _check_columns(profiles, [*features, label, compound, *([batch] if batch else [])])
    table = profiles.reset_index(drop=True)
    unit = _unit_vectors(table, features, compound)
    classes = table[label].astype(str).to_numpy()
    if len(set(classes)) < 2:
        raise InputError(f"matching: two classes or more are wanted in {label}, found {sorted(set(classes))}")
    permitted = _permitted(table, compound, batch)
    distance = np.where(permitted, 1 - unit @ unit.T, np.inf)  # (n, n)
    nearest = distance.argmin(axis=1)
    partner = (permitted & (classes[:, None] == classes)).any(axis=1)
    alone = ~permitted.any(axis=1)
    what = "compound" if batch is None else "compound and batch"
    matches = pd.DataFrame(
        {
            "treatment": table.index,
            "compound": table[compound].astype(str),
            "batch": table[batch].astype(str) if batch else "",
            "true": classes,
            "pred": np.where(alone, "", classes[nearest]),
            "neighbour": np.where(alone, -1, nearest),
            "distance": np.where(alone, np.nan, distance.min(axis=1)),
            "note": np.where(partner, "", f"no treatment of its class with another {what}"),
        }
    )
    return Matching(matches, _match_scores(matches, contestant, NSC if batch is None else NSCB, confidence))


def _joined(values: "pd.Series[str]") -> str:
    return "|".join(sorted(set(values.astype(str))))


def _unit_vectors(table: pd.DataFrame, features: Sequence[str], compound: str) -> NDArray[np.float64]:
    """Profiles (n, d) of length 1."""
    values = table[list(features)].to_numpy(np.float64)
    length = np.sqrt((values**2).sum(axis=1, keepdims=True))
    bad = ~np.isfinite(length[:, 0]) | (length[:, 0] == 0)
    if bad.any():
        names = ", ".join(table.loc[bad, compound].astype(str).unique()[:8])
        raise InputError(f"matching: {int(bad.sum())} profiles are zero or not finite ({names}): no angle to others")
    unit: NDArray[np.float64] = values / length
    return unit


def _permitted(table: pd.DataFrame, compound: str, batch: str | None) -> NDArray[np.bool_]:
    """Whether a treatment (column) may be the neighbour of another (row)."""
    names = table[compound].astype(str).to_numpy()
    permitted: NDArray[np.bool_] = names[:, None] != names
    if batch is not None:
        sets = [set(text.split("|")) for text in table[batch].astype(str)]
        permitted = permitted & np.array([[not a & b for b in sets] for a in sets], dtype=bool)
    return permitted


def _match_scores(matches: pd.DataFrame, contestant: str, kind: str, confidence: float) -> pd.DataFrame:
    right = (matches["true"] == matches["pred"]).astype(float)
    able = matches["note"] == ""
    lost = [name for name, own in able.groupby(matches["true"]) if not own.any()]
    told = f"cannot be scored: {', '.join(lost)} ({int((~able).sum())} of {len(matches)} treatments)" if lost else ""
    if not lost and not able.all():
        told = f"cannot be scored: {int((~able).sum())} of {len(matches)} treatments"
    parts = [("accuracy", "", right, told), ("accuracy_of_scorable", "", right[able], told)]
    for name in sorted(set(matches["true"])):
        own = able & (matches["true"] == name)
        why = "" if own.any() else matches.loc[matches["true"] == name, "note"].iloc[0]
        parts.append(("recall", str(name), right[own], why))
    rows = []
    for metric, name, values, note in parts:
        value, low, high = _proportion(values, matches.loc[values.index, "compound"], confidence)
        n_all = len(matches) if name == "" else int((matches["true"] == name).sum())
        rows.append((contestant, kind, metric, name, value, low, high, len(values), n_all, note))
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def _proportion(right: "pd.Series[float]", compound: "pd.Series[str]", confidence: float) -> tuple[float, float, float]:
    """Share that is right with Jeffreys' interval on as many units as there are compounds."""
    if right.empty:
        return np.nan, np.nan, np.nan
    value, n, tail = float(right.mean()), compound.nunique(), (1 - confidence) / 2
    low, high = beta.ppf([tail, 1 - tail], value * n + 0.5, (1 - value) * n + 0.5)
    return value, (0.0 if value == 0 else float(low)), (1.0 if value == 1 else float(high))


def _check_columns(table: pd.DataFrame, columns: Sequence[str]) -> None:
    if missing := [column for column in dict.fromkeys(columns) if column not in table]:
        raise InputError(f"profiles: no columns {missing}; there are {', '.join(map(str, table.columns[:12]))}")

"""The verdict: sentences to quote, and who is compared with whom in them."""

from collections.abc import Iterable

import pandas as pd

from cellpheno.compare.verdict import verdict_sentence
from cellpheno.report.run import Run, records
from cellpheno.report.summary import chance_of, in_order, main_metric, told_score
from cellpheno.report.words import contestant_label, metric, number, quoted_label, split_label


def reference_of(differences: pd.DataFrame) -> str:
    """Contestant with which the others are compared.

    Examples
    --------
    >>> reference_of(pd.DataFrame({"reference": ["position", "engineered"]}))
    'engineered'
    """
    references = [str(name) for name in differences["reference"]]
    return "engineered" if "engineered" in references else references[0]


def lead_of(run: Run, split: str, among: Iterable[str]) -> str:
    """Contestant that the verdict is about: ``mil``, the only network, else of several the best in this split.

    Parameters
    ----------
    run : Run
    split : str
    among : iterable of str
        Contestants other than the reference; without a network the first in the report's order.
    """
    names = in_order(among)
    networks = [name for name in names if name in run.networks]
    if "mil" in networks or len(networks) < 2 or run.scores is None:
        return (networks or names)[0]
    rows = run.scores[(run.scores["split"] == split) & (run.scores["class"] == "")]
    name = main_metric(rows)
    values = rows[rows["metric"] == name].set_index("contestant")["value"].reindex(networks)
    return str((-values if metric(name).better == "lower" else values).idxmax())


def verdicts(run: Run) -> list[str]:
    """Say, a split, whether the leading contestant is ahead of the engineered features: sentences to quote."""
    if run.differences is None or run.differences.empty:
        return ["No comparison has been made of this run yet."]
    sentences = []
    for split, part in run.differences.groupby("split", sort=False):
        part = part[part["metric"] == main_metric(part)]
        rows = {row["contestant"]: row for row in records(part[part["reference"] == reference_of(part)])}
        row = rows[lead_of(run, str(split), rows)]
        named = {name: quoted_label(row[name]) for name in ("contestant", "reference")}
        sentences.append(verdict_sentence({**row, **named}, split_label(str(split))))
    return sentences


def leading(run: Run, split: str) -> list[tuple[str, str]]:
    """Contestants that a reader asks about first, each with a word for why.

    The first two in the report's order, which are the network and the engineered features, the best of the others, and
    the best control.
    """
    if run.scores is None:
        return []
    part = run.scores[(run.scores["split"] == split) & (run.scores["class"] == "")]
    if part.empty:
        return []
    name = main_metric(part)
    part = part[part["metric"] == name].sort_values("value", ascending=metric(name).better == "lower", kind="stable")
    ranked = part["contestant"].tolist()  # the best first
    first = [contestant for contestant in in_order(ranked) if contestant not in run.controls][:2]
    others = [contestant for contestant in ranked if contestant not in (*first, *run.controls)]
    best = [(others[0], "best of the others " if len(others) > 1 else "")] if others else []
    controls = [(contestant, "best control ") for contestant in ranked if contestant in run.controls]
    return [*((contestant, "") for contestant in first), *best, *controls[:1]]


def standing(run: Run) -> list[str]:
    """Say, a split, what the leading contestants and the best control score, and what guessing would."""
    if run.scores is None:
        return []
    sentences = []
    for split, part in run.scores.groupby("split", sort=False):
        name = main_metric(part)
        part = part[(part["metric"] == name) & (part["class"] == "")]
        rows = {row["contestant"]: row for row in records(part)}
        words = [f"{why}{contestant_label(one)} {told_score(rows[one])}" for one, why in leading(run, str(split))]
        chance = chance_of(name, len(run.answers))
        words += [f"guessing {number(chance)}"] if chance is not None else []
        label = metric(name).label
        where = f"{label[0].upper()}{label[1:]}, split {split_label(str(split))}"
        sentences.append(f"{where}: {', '.join(words)}.")
    return sentences

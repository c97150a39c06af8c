"""A run as one section of a Markdown file that keeps the results of many runs, each between two marks of its own."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import pandas as pd

from cellpheno.errors import InputError
from cellpheno.report.contestants import choice_rows, contestant_costs
from cellpheno.report.curves import crossings
from cellpheno.report.matching import matching
from cellpheno.report.mistakes import mistakes
from cellpheno.report.run import Run, records, stated
from cellpheno.report.summary import in_order, main_metric, score_cell
from cellpheno.report.verdict import verdicts
from cellpheno.report.words import MINUS, contestant_label, interval, metric, number, split_label

HEAD = "# Results\n\nEach section is of one run; `cellpheno record` writes it anew and leaves the others as they are.\n"
LIBRARIES = ("cellpheno", "torch", "scikit-learn", "numpy")
METRICS = ("macro_auroc", "mean_average_precision", "log_loss")  # beside the one that the verdict is about


def record_section(run: Run, title: str, date: str) -> str:
    """Write what is known of a run as Markdown, from its tables.

    Parameters
    ----------
    run : Run
    title : str
    date : str
        Of the record; it stands nowhere else.

    Returns
    -------
    str
        Ends with a line break; the first line is a heading of the second level with the title and the folder's name.
    """
    if run.scores is None or run.differences is None:
        raise InputError(f"{run.folder} has no scores to record; run: cellpheno compare output={run.folder} ...")
    versions = [f"{name} {version(name)}" for name in LIBRARIES] + [f"Python {platform.python_version()}"]
    told = {name: ", ".join(stated(run, name)) or "not stated" for name in ("seed", "threads", "device")}
    labelled = int((run.wells["label"] != "").sum())
    lines = [
        f"## {_text(title)} ({_text(run.folder.resolve().name)})",
        "",
        f"Recorded on {date} with {', '.join(versions)}. Seed {told['seed']}, threads {told['threads']}, "
        f"device {told['device']}. {len(run.wells)} wells on {run.wells['Metadata_Plate'].nunique()} plates, "
        f"{labelled} labelled in {len(run.classes)} classes.",
        "",
        *(line for sentence in verdicts(run) for line in (f"> {_text(sentence)}", "")),
    ]
    for split, scores in run.scores.groupby("split", sort=False):
        lines += _split_lines(run, str(split), scores[scores["class"] == ""])
    return "\n".join([*lines, *_matching_lines(run), *_cost_lines(run)]) + "\n"


def _split_lines(run: Run, split: str, scores: pd.DataFrame) -> list[str]:
    """Scores, differences and choices of one split."""
    first = scores.iloc[0]
    units = "" if first["unit"] == "well" else f", {int(first['n_unit'])} {first['unit']}s"
    asked = [name for name in dict.fromkeys((main_metric(scores), *METRICS)) if name in set(scores["metric"])]
    values = {(row["contestant"], row["metric"]): row for row in records(scores)}
    rows = [
        [contestant_label(name), *(_score(values.get((name, one))) for one in asked)]
        for name in in_order(scores["contestant"])
    ]
    lines = [f"### Split {_text(split_label(split))}: {int(first['n'])} wells{units}", ""]
    lines += [*_table(["contestant", *(metric(one).label for one in asked)], rows), ""]
    if run.differences is not None and len(part := run.differences[run.differences["split"] == split]):
        part = part[part["metric"].isin(asked)]
        heads = ["pair", "metric", "difference", "p (Holm)", "detectable", "verdict"]
        ordered = [row for name in in_order(part["contestant"]) for row in records(part[part["contestant"] == name])]
        lines += [*_table(heads, [_difference(row) for row in ordered]), ""]
    if run.tuning is not None and len(part := run.tuning[run.tuning["split"] == split]):
        heads = ["contestant", "settings", "chosen in folds", "mean inner score", "note"]
        lines += ["Every configuration that was tried:", ""]
        lines += [*_table(heads, [list(row.values()) for row in choice_rows(part)]), ""]
    return [*lines, *_mistake_lines(run, split), *_curve_lines(run, split)]


def _mistake_lines(run: Run, split: str) -> list[str]:
    found = [own for own in mistakes(run) if own["split"] == split_label(split)]
    if not found:
        return []
    rows = [[name, f"{wrong} of {n}", where] for name, wrong, n, where in found[0]["rows"]]
    unit = found[0]["unit"]
    return [f"Wells called wrong, by {unit}:", "", *_table(["contestant", "wrong", f"of which {unit}"], rows), ""]


def _curve_lines(run: Run, split: str) -> list[str]:
    """Scores over the number of training wells, and where they cross those of the reference."""
    if run.learning_curve is None or run.learning_curve.empty:
        return []
    part = run.learning_curve[run.learning_curve["split"] == split]
    name = main_metric(part)
    values = {(row["contestant"], row["wells_per_class"]): row for row in records(part[part["metric"] == name])}
    sizes = sorted(part["wells_per_class"].unique())
    rows = [
        [contestant_label(one), *(_score(values.get((one, size))) for size in sizes)]
        for one in in_order(part["contestant"])
    ]
    lines = [f"Training wells a class against {metric(name).label}, first configurations:", ""]
    lines += [*_table(["contestant", *(str(size) for size in sizes)], rows), ""]
    return [*lines, *(f"- {_text(line)}" for line in crossings(run, split, part)), ""]


def _score(row: dict[str, Any] | None) -> str:
    return _told(None if row is None else score_cell(row))


def _told(cell: Mapping[str, str] | None) -> str:
    return "" if cell is None else f"{cell['value']} {cell['interval']}".strip()


def _difference(row: dict[str, Any]) -> list[str]:
    pair = f"{contestant_label(row['contestant'])} {MINUS} {contestant_label(row['reference'])}"
    value = f"{number(row['value'])} {interval(row['low'], row['high'])}".strip()
    figures = [number(float(row.get(name, float("nan")))) for name in ("p_holm", "detectable")]
    told = f"{row['verdict']}: {row['note']}" if row["note"] else row["verdict"]
    return [pair, metric(row["metric"]).label, value, *figures, told]


def _matching_lines(run: Run) -> list[str]:
    """How often the nearest other treatment is of the same class, with what cannot be scored."""
    heads = ["contestant", "kind", "right of all", "right of the scorable", "scorable", "treatments", "note"]
    rows = []
    for row in matching(run):
        scores = (_told(row[name]) for name in ("of_all", "of_scorable"))
        rows.append([contestant_label(row["contestant"]), row["kind"], *scores, row["n"], row["n_all"], row["note"]])
    return ["### Matching of treatments by their features", "", *_table(heads, rows), ""] if rows else []


def _cost_lines(run: Run) -> list[str]:
    rows = contestant_costs(run.folder, run.predictions["contestant"], run.networks)
    heads = ["contestant", "training or fitting, s", "predicting, s", "peak memory, MB"]
    named = [[contestant_label(row["contestant"]), row["fitting"], row["predicting"], row["memory"]] for row in rows]
    return ["### Cost, as measured over all splits and folds", "", *_table(heads, named)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(heads), ["---"] * len(heads), *rows]
    return [f"| {' | '.join(_text(cell) for cell in line)} |" for line in lines]


def _text(text: str) -> str:
    """Foreign text in one line of Markdown, none of whose signs opens anything."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def with_section(text: str, name: str, section: str) -> str:
    r"""Put a run's section in place of the one it had, or at the end; all else stays as it is.

    Parameters
    ----------
    text : str
        The file so far; empty: a head is written first.
    name : str
        Of the run's folder: what the section is known by.
    section : str

    Raises
    ------
    InputError
        If the marks of the run's section are not one pair.

    Examples
    --------
    >>> both = with_section(with_section("", "a", "## A\n"), "b", "## B\n")
    >>> again = with_section(both, "a", "## New\n")
    >>> "## A" in again, again.index("## New") < again.index("## B"), with_section(again, "a", "## A\n") == both
    (False, True, True)
    """
    begin, end = (f"<!-- {word} of cellpheno record {quote(name)} -->\n" for word in ("begin", "end"))
    new = f"{begin}{section}{end}"
    numbers = text.count(begin), text.count(end)
    if numbers == (1, 1) and text.index(begin) < text.index(end):
        return text[: text.index(begin)] + new + text[text.index(end) + len(end) :]
    if numbers != (0, 0):
        raise InputError(
            f"results: the marks of {name} stand there {numbers[0]} and {numbers[1]} times; wanted once each, "
            f"{begin.strip()} above {end.strip()}; mend the file by hand"
        )
    before = text or HEAD
    return before + ("" if before.endswith("\n") else "\n") + "\n" + new

"""What the report says of compounds: matching of treatments, and which stand on both sides of a fold."""

from pathlib import Path
from typing import Any

from cellpheno.report.run import read_table, records
from cellpheno.report.summary import in_order
from cellpheno.report.words import DASH, count, interval, number


def matching(folder: Path) -> list[dict[str, Any]]:
    """Arrange matching_scores.csv, a row a contestant and kind; nothing where nothing was matched."""
    path = folder / "matching_scores.csv"
    if not path.is_file():
        return []
    table = read_table(path)
    whole = {(row["contestant"], row["kind"], row["metric"]): row for row in records(table[table["class"] == ""])}
    rows = []
    for contestant in in_order(table["contestant"]):
        for kind in dict.fromkeys(table.loc[table["contestant"] == contestant, "kind"]):
            of_all = whole[contestant, kind, "accuracy"]
            scorable = whole.get((contestant, kind, "accuracy_of_scorable"))
            rows.append(
                {
                    "contestant": contestant,
                    "kind": kind,
                    "of_all": _cell(of_all),
                    "of_scorable": scorable and _cell(scorable),
                    "n": count(scorable["n"]) if scorable else DASH,
                    "n_all": count(of_all["n_all"]),
                    "note": of_all["note"],
                }
            )
    return rows


def both_sides(folder: Path) -> list[str]:
    """Sentences of both_sides.csv, a split each."""
    path = folder / "both_sides.csv"
    return read_table(path)["note"].tolist() if path.is_file() else []


def _cell(row: dict[str, Any]) -> dict[str, str]:
    return {
        "value": number(row["value"]),
        "interval": interval(row["low"], row["high"]),
        "full": f"{row['value']} [{row['low']}, {row['high']}], n {row['n']}",
    }

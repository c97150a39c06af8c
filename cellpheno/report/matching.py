"""What the report says of treatments that were matched to their nearest."""

from typing import Any

from cellpheno.report.run import Run, records
from cellpheno.report.summary import in_order
from cellpheno.report.words import DASH, count, interval, number


def matching(run: Run) -> list[dict[str, Any]]:
    """Arrange the scores of matching, a row a contestant and kind; nothing where nothing was matched."""
    if run.matching is None:
        return []
    table = run.matching
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


def _cell(row: dict[str, Any]) -> dict[str, str]:
    return {
        "value": number(row["value"]),
        "interval": interval(row["low"], row["high"]),
        "full": f"{row['value']} [{row['low']}, {row['high']}], n {row['n']}",
    }

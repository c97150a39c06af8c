"""What each contestant rests on, what it chose, and what it cost: plain data for the page and for the record."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cellpheno.measure.columns import describe_column
from cellpheno.profiles.aggregate import STATISTICS
from cellpheno.report.run import Run, records
from cellpheno.report.summary import in_order
from cellpheno.report.words import DASH, contestant_label, interval, number, split_label

FEATURES_SHOWN = 10
FEW_FEATURES = 3  # so many or fewer make no list


def important_features(run: Run) -> list[dict[str, Any]]:
    """List the features that matter most to each contestant that has some, a split each."""
    if run.features is None:
        return []
    sections = []
    for split, part in run.features.groupby("split", sort=False):
        tables = []
        for name in in_order(part["contestant"]):
            rows = part[part["contestant"] == name]
            if len(rows) > FEW_FEATURES:
                useful = rows[rows["importance"] > 0].head(FEATURES_SHOWN)
                words = {"contestant": contestant_label(name), "n": len(rows)}
                tables.append({**words, "rows": [_feature_row(row) for row in records(useful)]})
        if tables:
            sections.append({"split": split_label(str(split)), "tables": tables})
    return sections


def _feature_row(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "feature": row["feature"],
        "meaning": meaning_of(row["feature"]),
        "value": number(row["importance"]),
        "interval": interval(row["low"], row["high"]),
        "full": repr(float(row["importance"])),
        "n_folds": number(row["n_folds"], 0),
    }


def meaning_of(feature: str) -> str:
    """Say in a sentence what a column of a well table is; nothing where no measurement of ours documents it.

    Examples
    --------
    >>> meaning_of("Nuclei_AreaShape_Area"), meaning_of("Cells_Intensity_IntegratedIntensity_DNA_mad")
    ('Number of pixels. Unit: pixel^2.', 'Sum of the pixels. Channel DNA; unit: grey level; mad over the cells.')
    >>> meaning_of("Cells_Something_Else")
    ''
    """
    statistic = next((name for name in STATISTICS if feature.endswith(f"_{name}")), "")
    for name, of_cells in ((feature, ""), (feature.removesuffix(f"_{statistic}"), statistic)):
        try:
            column = describe_column(name)
        except ValueError:
            continue
        parts = [f"{key} {value}" for key, value in column.fields.items()]
        parts += [f"unit: {column.unit}"] if column.unit != "1" else []
        parts += [f"{of_cells} over the cells"] if of_cells else []
        told = "; ".join(parts)
        return f"{column.definition} {told[0].upper()}{told[1:]}." if told else column.definition
    return ""


def choices(run: Run) -> list[dict[str, Any]]:
    """Count, a split, in how many folds each contestant chose each of its configurations."""
    if run.tuning is None or run.tuning.empty:
        return []
    return [
        {"split": split_label(str(split)), "rows": choice_rows(part)}
        for split, part in run.tuning.groupby("split", sort=False)
    ]


def choice_rows(tuning: pd.DataFrame) -> list[dict[str, str]]:
    """Rows of one split: contestant, settings, folds in which they were chosen, mean score on the wells set aside.

    Configurations that no fold tried are left out.

    Examples
    --------
    >>> rows = pd.DataFrame({"contestant": "x", "configuration": [0, 1, 0, 1], "settings": ["a", "b", "a", "b"],
    ...     "chosen": [True, False, False, False], "inner_score": [0.5, 0.25, 1.0, 0.75], "note": ""})
    >>> choice_rows(rows)[0]
    {'contestant': 'x', 'settings': 'a', 'chosen': '1 of 2', 'score': '0.750', 'note': ''}
    """
    found = []
    for name in in_order(tuning["contestant"]):
        for _, rows in tuning[tuning["contestant"] == name].groupby("configuration", sort=True):
            chosen = rows["chosen"].astype(str).str.lower() == "true"
            scores = pd.to_numeric(rows["inner_score"], errors="coerce")
            if not chosen.any() and scores.isna().all():
                continue  # no wells were set aside, so it was not tried
            notes = "; ".join(dict.fromkeys(str(note) for note in rows["note"].dropna() if str(note)))
            found.append(
                {
                    "contestant": contestant_label(name),
                    "settings": str(rows["settings"].iloc[0]),
                    "chosen": f"{int(chosen.sum())} of {len(rows)}",
                    "score": number(float(scores.mean())),
                    "note": notes,
                }
            )
    return found


def contestant_costs(folder: Path, contestants: Iterable[str], networks: Iterable[str]) -> list[dict[str, str]]:
    """Seconds and memory of each contestant over all splits and folds, as ``timing.json`` has them.

    Parameters
    ----------
    folder : path
        The run's folder.
    contestants, networks : iterable of str
        All of them, and those that were trained and predicted in steps of their own.

    Returns
    -------
    list of dict
        ``contestant``, ``fitting`` and ``predicting`` (seconds), ``memory`` (peak, MB); a dash where nothing was
        measured. A baseline fits and predicts at once.
    """
    rows = []
    for name in in_order(contestants):
        own = folder / "contestants" / name
        costs = _timing(own if own.is_dir() else folder)
        if name in networks:
            steps = [list(costs.get(step, {}).values()) for step in ("train", "predict")]
        else:
            steps = [[costs["baselines"][name]] if name in costs.get("baselines", {}) else [], []]
        fitting, predicting = (number(sum(c["seconds"] for c in step), 1) if step else DASH for step in steps)
        rows.append({"contestant": name, "fitting": fitting, "predicting": predicting, "memory": _peak(steps)})
    return rows


def plate_costs(folders: Mapping[str, Path]) -> list[dict[str, str]]:
    """Seconds and memory of the steps that each plate went through, such as measuring, over its wells."""
    return [
        {
            "plate": plate,
            "step": step,
            "units": str(len(units)),
            "seconds": number(sum(cost["seconds"] for cost in units.values()), 1),
            "memory": _peak([list(units.values())]),
        }
        for plate, folder in folders.items()
        for step, units in _timing(folder).items()
    ]


def _peak(steps: Iterable[list[dict[str, float]]]) -> str:
    return number(max((cost["peak_mb"] for step in steps for cost in step), default=float("nan")), 0)


def _timing(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    path = folder / "timing.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}

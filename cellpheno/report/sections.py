"""The pictures of a run's tables, section by section: each function returns plain data for the page."""

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from cellpheno.names import PLATE, WELL
from cellpheno.report.palette import (
    OTHER_STATUS,
    STATUS_STYLES,
    UNLABELLED,
    Style,
    class_colours,
    contestant_styles,
    set_colours,
)
from cellpheno.report.plate_map import plate_heatmap, plate_shape
from cellpheno.report.plots import confusion_matrix, difference_plot, forest_plot, training_curves
from cellpheno.report.run import Run, one_row_a_well, records
from cellpheno.report.summary import MEASURED, chance_of, in_order, score_table
from cellpheno.report.svg import inline_svg
from cellpheno.report.verdict import lead_of, reference_of
from cellpheno.report.words import DASH, MINUS, contestant_label, interval, metric, number, split_label

DIRECTION = {"higher": "higher is better", "lower": "lower is better", "": ""}
LEADING = 2  # contestants whose plate maps stand open; those of the others are folded away


def compared(run: Run) -> list[dict[str, Any]]:
    """Arrange tables and forest plots of the scores, a split each."""
    if run.scores is None:
        return []
    sections, styles = [], contestant_styles(in_order(run.scores["contestant"]))
    named = {contestant_label(name): style for name, style in styles.items()}
    for split, scores in run.scores.groupby("split", sort=False):
        whole, parts = scores[scores["class"] == ""], scores[scores["class"] != ""]
        plots = []
        for name, rows in whole[whole["metric"] != "calibration_limit"].groupby("metric", sort=False):
            rows = ordered(rows).assign(contestant=lambda t: t["contestant"].map(contestant_label))
            words = metric(str(name))
            chance = chance_of(str(name), len(run.answers))
            figure = forest_plot(rows, named, title=words.label, note=DIRECTION[words.better], chance=chance)
            plots.append(
                inline_svg(figure, f"forest {split} {name}", f"{words.label} of each contestant with its interval")
            )
        by_class = score_table(parts, ("class", "contestant")) if len(parts) else None
        sections.append(
            {"split": split_label(str(split)), "table": score_table(whole), "plots": plots, "by_class": by_class}
        )
    return sections


def differences(run: Run) -> list[dict[str, Any]]:
    """Arrange the paired differences, a split each."""
    if run.differences is None:
        return []
    sections = []
    for split, part in run.differences.groupby("split", sort=False):
        plots, part = [], ordered(part)
        named = {contestant_label(n): style for n, style in contestant_styles(in_order(part["contestant"])).items()}
        for (reference, name), rows in part.groupby(["reference", "metric"], sort=False):
            words, than = metric(str(name)), contestant_label(str(reference))
            rows = rows.assign(contestant=rows["contestant"].map(contestant_label))
            note = "\n".join(filter(None, [f"minus {than}", DIRECTION[words.better]]))
            figure = difference_plot(rows, named, title=words.label, note=note)
            text = f"{words.label}: each contestant minus {than}"
            plots.append(inline_svg(figure, f"difference {split} {reference} {name}", text))
        told = {
            "rows": [_difference_row(row) for row in records(part)],
            "by_class": _class_differences(run, str(split)),
        }
        sections.append({"split": split_label(str(split)), "plots": plots, **told})
    return sections


def _class_differences(run: Run, split: str) -> dict[str, Any] | None:
    """Draw the difference in recall of each class between the leading contestant and the reference, and list all."""
    if run.class_differences is None or run.differences is None:
        return None
    part = run.class_differences[run.class_differences["split"] == split]
    reference = reference_of(run.differences[run.differences["split"] == split])
    lead = lead_of(run, split, part["contestant"].unique())
    rows = part[(part["contestant"] == lead) & (part["metric"] == "recall")]
    colours = class_colours(run.classes)
    drawn = rows.assign(contestant=rows["class"], verdict="")
    pair = f"{contestant_label(lead)} {MINUS} {contestant_label(reference)}"
    named = {name: Style(colours[name], "o") for name in rows["class"]}
    figure = difference_plot(drawn, named, title="recall of each class", note=pair)
    plot = inline_svg(figure, f"class difference {split}", f"recall of each class: {pair}")
    return {"plot": plot, "rows": [_difference_row(row) for row in records(ordered(part))]}


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the report's order of contestants."""
    order = {name: i for i, name in enumerate(in_order(table["contestant"]))}
    return table.sort_values("contestant", key=lambda names: names.map(order), kind="stable")


def _difference_row(row: dict[str, Any]) -> dict[str, str]:
    return {
        "pair": f"{contestant_label(row['contestant'])} {MINUS} {contestant_label(row['reference'])}",
        "metric": metric(row["metric"]).label,
        "value": number(row["value"]),
        "interval": interval(row["low"], row["high"]),
        "class": row.get("class", ""),
        **{name: number(row[name]) if name in row else DASH for name in ("p", "p_holm", "p_mcnemar", "detectable")},
        "n": number(row["n"], 0),
        "verdict": row.get("verdict", ""),
        "note": row.get("note", ""),
        "full": repr(float(row["value"])),
    }


def confusions(run: Run) -> list[dict[str, Any]]:
    """Draw true against predicted class of the held-out wells, a split and contestant each; not of wells in several."""
    if run.multilabel:
        return []
    colours, sections = class_colours(run.classes), []
    joined = one_row_a_well(run.predictions[run.predictions["role"] == "out_of_fold"], run.classes)
    for split, part in joined.groupby("split", sort=False):
        plots = []
        for name in in_order(part["contestant"]):
            rows = part[(part["contestant"] == name) & part["true"].isin(run.classes) & part["pred"].isin(run.classes)]
            table = pd.crosstab(rows["true"], rows["pred"]).reindex(
                index=run.classes, columns=run.classes, fill_value=0
            )
            figure = confusion_matrix(table.to_numpy(), run.classes, colours, title=contestant_label(name))
            text = f"confusion matrix of {contestant_label(name)}, {len(rows)} wells"
            plots.append(inline_svg(figure, f"confusion {split} {name}", text))
        sections.append({"split": split_label(str(split)), "plots": plots[:LEADING], "more": plots[LEADING:]})
    return sections


def label_colours(run: Run) -> dict[str, str]:
    """Colour of each class; where a well may have several, of each set of classes that is true or predicted."""
    return set_colours(run.labels, run.predictions["pred"]) if run.multilabel else class_colours(run.classes)


def plate_maps(run: Run) -> list[dict[str, Any]]:
    """Draw each plate: what is known of its wells, then what the contestants say of them, a split each."""
    joined = one_row_a_well(run.predictions, run.classes, run.multilabel)
    shape = plate_shape(run.wells[WELL].tolist())
    cells = run.wells["n_cells"].dropna() if "n_cells" in run.wells else pd.Series(dtype=float)
    limits = (0.0, float(cells.max()) if len(cells) else 1.0)
    plates = []
    for plate, wells in run.wells.groupby(PLATE, sort=False):
        splits = []
        for split, part in joined[joined[PLATE] == plate].groupby("split", sort=False):
            maps = [
                _prediction_maps(run, wells, part, name, shape, f"{plate} {split}")
                for name in in_order(part["contestant"])
            ]
            shown, folded = maps[:LEADING], maps[LEADING:]
            splits.append(
                {
                    "split": split_label(str(split)),
                    "plots": [p for m in shown for p in m],
                    "more": [m[0] for m in folded],
                }
            )
        plates.append({"plate": plate, "known": _known_maps(run, wells, shape, limits), "splits": splits})
    return plates


def _known_maps(run: Run, wells: pd.DataFrame, shape: tuple[int, int], limits: tuple[float, float]) -> list[Markup]:
    names, plate = wells[WELL].tolist(), wells[PLATE].iloc[0]
    colours = {"": UNLABELLED, **label_colours(run)}
    tips = [f"{w[WELL]}: {w['label'] or 'no label'}, {w['status']}" for _, w in wells.iterrows()]
    truth = plate_heatmap(names, wells["label"].tolist(), title="Label", colours=colours, tips=tips, shape=shape)
    styles = {status: STATUS_STYLES.get(status, OTHER_STATUS) for status in wells["status"]}
    status = plate_heatmap(
        names,
        wells["status"].tolist(),
        title="Status",
        colours={name: style.colour for name, style in styles.items() if name != "missing"},
        letters={name: style.letter for name, style in styles.items()},
        tips=tips,
        shape=shape,
    )
    maps = [inline_svg(truth, f"label {plate}", f"labels of plate {plate}")]
    if "n_cells" in wells and wells["n_cells"].notna().any():  # not where nothing was segmented
        counts = wells["n_cells"].where(wells["status"].isin(MEASURED)).tolist()
        known = [
            f"{name}: {n:.0f} cells" if n >= 0 else f"{name}: no count" for name, n in zip(names, counts, strict=True)
        ]
        figure = plate_heatmap(
            names, counts, title="Cells", limits=limits, label="cells a well", tips=known, shape=shape
        )
        maps.append(inline_svg(figure, f"cells {plate}", f"number of cells in the wells of plate {plate}"))
    return [*maps, inline_svg(status, f"status {plate}", f"status of the wells of plate {plate}")]


def _prediction_maps(
    run: Run, wells: pd.DataFrame, predictions: pd.DataFrame, contestant: str, shape: tuple[int, int], key: str
) -> list[Markup]:
    rows = predictions[predictions["contestant"] == contestant].drop_duplicates(WELL).set_index(WELL)
    names, label = wells[WELL].tolist(), contestant_label(contestant)
    known = {well: rows.loc[well] for well in names if well in rows.index}
    called = [str(known[well]["pred"]) if well in known else "" for well in names]
    sure = [
        float(known[well][f"prob_{p}"]) if p in run.classes else np.nan for well, p in zip(names, called, strict=True)
    ]
    truth = [str(known[well]["true"]) if well in known else "" for well in names]
    right = [
        float(known[well][f"prob_{t}"]) if t in run.classes else np.nan for well, t in zip(names, truth, strict=True)
    ]
    wrong = [bool(t) and t != p for t, p in zip(truth, called, strict=True)]
    tips = [
        f"{w}: {p or 'no prediction'} ({number(s, 2)}), label {t or 'none'}"
        for w, p, s, t in zip(names, called, sure, truth, strict=True)
    ]
    colours, title = label_colours(run), f"{label}: prediction"
    figure = plate_heatmap(names, called, title=title, colours=colours, tips=tips, marked=wrong, shape=shape)
    maps = [inline_svg(figure, f"predicted {key} {contestant}", f"predictions of {label} on the plate")]
    if contestant in run.networks[:1] and not all(np.isnan(right)):
        title = f"{label}: probability of the label"
        figure = plate_heatmap(
            names, right, title=title, limits=(0.0, 1.0), label="probability", tips=tips, shape=shape
        )
        maps.append(inline_svg(figure, f"probability {key} {contestant}", f"probability that {label} gives the label"))
    return maps


def training(run: Run) -> list[dict[str, Any]]:
    """Draw the training curves, a split each."""
    return [
        {
            "split": split_label(split),
            "plot": inline_svg(
                training_curves(
                    folds, title=f"{len(folds)} models", chance=1 / (2 if run.multilabel else len(run.classes))
                ),
                f"training {split}",
                f"loss and balanced accuracy over epochs of {len(folds)} models",
            ),
        }
        for split, folds in run.histories.items()
    ]

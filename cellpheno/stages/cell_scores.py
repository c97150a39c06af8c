"""Out-of-fold predictions of single cells to scores, a picture of what is taken for what, and a line for the log."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cellpheno.batch.engine import Result
from cellpheno.compare.predictions import mean_over_repeats
from cellpheno.compare.statistics import scores
from cellpheno.plates.commit import commit_file
from cellpheno.report.palette import class_colours
from cellpheno.report.plots import confusion_matrix
from cellpheno.report.svg import write_svg
from cellpheno.stages.run_folder import write_csv, write_parquet

log = logging.getLogger("cellpheno")


def score_cells(
    tables: Sequence[Path], output: Path, *, classes: Sequence[str], unit: str, n_bootstrap: int, seed: int
) -> Result:
    """All folds in one table, and their scores."""
    predictions = pd.concat([pd.read_parquet(path) for path in tables], ignore_index=True)
    pictures: list[Path] = []
    told = scores(predictions, classes, unit=unit, n_bootstrap=n_bootstrap, seed=seed)
    means = mean_over_repeats(predictions, classes)
    for split, rows in means.groupby("split", sort=True):
        picture = output / f"confusion-{split}.svg"
        with commit_file(picture) as temporary:
            write_svg(_confusion(rows, classes, str(split)), temporary)
        pictures.append(picture)
    files = [
        *pictures,
        write_parquet(predictions, output / "predictions-cells.parquet"),
        write_csv(predictions, output / "predictions-cells.csv"),
        write_csv(told, output / "scores-cells.csv"),
    ]
    return Result("done", files)


def _confusion(rows: pd.DataFrame, classes: Sequence[str], title: str) -> Figure:
    """Cells by true and predicted class."""
    pred = rows[[f"logit_{name}" for name in classes]].to_numpy().argmax(axis=1)
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (rows["true"].map({name: k for k, name in enumerate(classes)}).to_numpy(int), pred), 1)
    return confusion_matrix(counts, classes, class_colours(classes), title=title, unit="cells")


def say_scores(output: Path) -> None:
    """Log the balanced accuracy of each split."""
    table = pd.read_csv(output / "scores-cells.csv")
    for row in table[table["metric"] == "balanced_accuracy"].to_dict("records"):
        bounds = f"[{row['low']:.3f}, {row['high']:.3f}]" if not np.isnan(row["low"]) else f"({row['note']})"
        told = (row["split"], row["value"], bounds, row["n"], row["n_unit"], row["unit"])
        log.info("%s: balanced accuracy %.3f %s over %d cells, %d %ss", *told)

"""A split of random cells is marked wherever its scores stand."""

import shutil

import pandas as pd

from cellpheno.compare.statistics import differences, scores
from cellpheno.compare.strict_splits import LEAKY, LEAKY_NOTE
from cellpheno.report.html import write_report
from tests.report.conftest import CLASSES


def test_a_split_of_random_cells_marks_every_score_and_difference_and_the_head_of_the_report(run_folder, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    table = pd.read_parquet(folder / "predictions.parquet").replace({"split": {"by_compound": f"{LEAKY}random_cells"}})
    table.to_parquet(folder / "predictions.parquet", index=False)
    folds = pd.read_csv(folder / "folds.csv").replace({"split": {"by_compound": f"{LEAKY}random_cells"}})
    folds.to_csv(folder / "folds.csv", index=False)
    told = scores(table, CLASSES, n_bootstrap=50, seed=7)
    gaps = differences(table, CLASSES, reference="engineered", n_bootstrap=50, seed=7)
    for rows in (told, gaps):
        marked = rows["note"].str.contains(LEAKY_NOTE)
        leaky = rows["split"] == f"{LEAKY}random_cells"
        assert (marked == leaky).all()
        assert leaky.any()
    told.to_csv(folder / "scores.csv", index=False)
    gaps.to_csv(folder / "differences.csv", index=False)
    page = write_report(folder).read_text("utf-8")
    head = page[page.index("Before you quote this") : page.index("</header>")]
    assert LEAKY_NOTE in head
    assert "leaky random cells" in page[: page.index("</header>")]

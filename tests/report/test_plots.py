import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from cellpheno.names import PLATE_FORMATS, row_name, well_name
from cellpheno.report.palette import CLASS_COLOURS, CONTESTANT_STYLES, class_colours
from cellpheno.report.plate_map import plate_heatmap, plate_shape
from cellpheno.report.plots import confusion_matrix, dose_response, forest_plot, training_curves
from cellpheno.report.run import one_row_a_well, read_table
from cellpheno.report.svg import inline_svg


def boxes(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


@pytest.mark.parametrize("n", [96, 384, 1536])
def test_wells_of_every_format_stand_at_their_place(n):
    n_rows, n_columns = PLATE_FORMATS[n]
    last = well_name(row_name(n_rows - 1), n_columns)
    figure = plate_heatmap(["A01", last], [1.0, np.nan])
    first_box, last_box = boxes(figure)
    assert plate_shape(["A01", last]) == (n_rows, n_columns)
    assert first_box.get_center().tolist() == pytest.approx([1, 0])
    assert last_box.get_center().tolist() == pytest.approx([n_columns, n_rows - 1])
    assert last_box.get_hatch()
    assert not first_box.get_hatch()
    assert figure.axes[0].yaxis_inverted()  # row A is on top


def test_categories_keep_their_colour_and_the_unknown_is_hatched():
    colours = class_colours(["a", "b"])
    found = boxes(plate_heatmap(["B02", "B03", "B04"], ["b", "a", ""], colours=colours))
    shown = ["#{:02X}{:02X}{:02X}".format(*(round(255 * c) for c in box.get_facecolor()[:3])) for box in found[:2]]
    assert shown == [colours["b"], colours["a"]]
    assert found[2].get_hatch()


def test_colours_of_leading_contestants_and_first_classes_differ():
    leading = {CONTESTANT_STYLES[name].colour for name in ("mil", "engineered")}
    assert not leading & set(CLASS_COLOURS[:6])
    assert len(set(CLASS_COLOURS)) == len(CLASS_COLOURS)


def test_confusion_matrix_prints_counts_and_shares():
    figure = confusion_matrix(np.array([[3, 1], [0, 0]]), ["a", "b"], class_colours(["a", "b"]))
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["3", "75%", "1", "25%", "0", "0"]  # a class without wells has no share


def test_forest_plot_draws_the_value_without_an_interval():
    rows = pd.DataFrame({"contestant": ["mil"], "value": [0.9], "low": [np.nan], "high": [np.nan]})
    text = inline_svg(forest_plot(rows, CONTESTANT_STYLES, title="x"), "k", "d")
    assert "mil: 0.900" in text


def test_mean_of_training_curves_ends_with_the_shortest_fold():
    long, short = (pd.DataFrame({"epoch": range(n), "val_loss": np.ones(n) * n}) for n in (6, 4))
    figure = training_curves({"f0": long, "f1": short}, title="")
    mean = max(figure.axes[0].lines, key=lambda line: line.get_linewidth())
    assert mean.get_xdata().tolist() == [0, 1, 2, 3]
    assert mean.get_ydata().tolist() == [5.0] * 4


def test_dose_wells_stand_round_their_dose_and_zero_left_of_all():
    doses = np.repeat([0.0, 1.0, 10.0, 100.0], 3)
    wells = pd.DataFrame({"Metadata_Well": "B02", "dose": doses, "score": np.arange(12.0), "label": ""})
    means = wells.groupby("dose", as_index=False)["score"].mean().rename(columns={"score": "mean"}).assign(sd=1.0)
    figure = dose_response(means, wells, CONTESTANT_STYLES["mil"], {}, title="", labels=["dose", "score"])
    points = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert len(points) == 12
    np.testing.assert_allclose(np.reshape(points, (4, 3)).mean(axis=1)[1:], [0, 1, 2], atol=1e-9)
    assert max(points[:3]) < min(points[3:])
    assert figure.axes[0].get_xticklabels()[0].get_text() == "0"


def test_svg_is_the_same_twice_and_carries_no_markup_of_others():
    def draw():
        return inline_svg(
            plate_heatmap(["B02"], ['<b> id="x" $\\frac$\''], colours={}, tips=["<i>\"'&"]), "key", "a <b>"
        )

    text = draw()
    assert text == draw()
    assert "<i>" not in text
    assert "<b>" not in text
    assert re.search(r"<title>&lt;i&gt;.*&amp;</title>", text)
    assert not re.search(r"\d{4}-\d\d-\d\d", text)  # no date


def test_tables_keep_text_as_typed(tmp_path):
    (tmp_path / "t.csv").write_text("Metadata_Plate,Metadata_compound,label,value,low\n007,NA,1e5,0.5,\n")
    row = read_table(tmp_path / "t.csv").iloc[0]
    assert row[["Metadata_Plate", "Metadata_compound", "label"]].tolist() == ["007", "NA", "1e5"]
    assert row["value"] == 0.5
    assert np.isnan(row["low"])


def test_repeats_join_by_their_mean_logit():
    keys = {"contestant": "mil", "split": "s", "role": "out_of_fold", "Metadata_Plate": "P1", "Metadata_Well": "B02"}
    rows = [
        {**keys, "repeat": r, "true": "a", "pred": p, "logit_a": a, "logit_b": 0.0}
        for r, p, a in ((0, "a", 3.0), (1, "b", -1.0))
    ]
    joined = one_row_a_well(pd.DataFrame(rows), ["a", "b"])
    assert joined["pred"].tolist() == ["a"]
    assert joined["prob_a"].item() == pytest.approx(1 / (1 + np.exp(-1.0)))

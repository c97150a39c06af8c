"""What the page says of each contestant's features, choices and cost, against the tables."""

import re

import pytest

from cellpheno.report.contestants import contestant_costs, important_features
from cellpheno.report.curves import learning_curves
from cellpheno.report.html import write_report
from cellpheno.report.run import read_run
from cellpheno.report.summary import warnings_of
from cellpheno.report.words import DASH, number


@pytest.fixture
def run(run_folder):
    return read_run(run_folder)


@pytest.fixture(scope="session")
def text(run_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("cost") / "report.html"
    return write_report(run_folder, plates=[run_folder.parents[1] / "P1.zarr"], show_cost=True, path=path).read_text(
        "utf-8"
    )


def section(text, name):
    return text[text.index(f'id="{name}"') :].split("</section>")[0]


def test_features_stand_by_name_with_what_they_are(run, text):
    (table,) = important_features(run)[0]["tables"]  # a contestant of one feature has no list
    assert table["contestant"] == "engineered"
    assert [row["feature"] for row in table["rows"]] == run.features["feature"].head(3).tolist()  # the last is below 0
    first = table["rows"][0]
    assert first["meaning"] == "Sum of the pixels. Channel GFP; unit: grey level; mad over the cells."
    assert (first["value"], first["interval"], first["n_folds"]) == ("0.500", "[0.250, 1.000]", "4")
    page = section(text, "features")
    assert "the 3 most important of 4 features" in page
    assert "Cells_&lt;script&gt;" in page
    assert "share their importance" in page


def test_choices_are_counted_over_the_folds(run, text):
    own = run.tuning.query("contestant == 'engineered' and split == 'by_well' and configuration == 1")
    chosen = (own["chosen"].astype(str) == "True").sum()
    page = section(text, "choices")
    row = re.search(r"<tr><th[^>]*>engineered</th><td[^>]*>C=0.01 \| &lt;b&gt;</td>(.*?)</tr>", page)[1]
    assert re.findall(r">([^<>]+)</td>", row)[:2] == [f"{chosen} of 4", number(own["inner_score"].mean())]


def test_unequal_numbers_of_configurations_and_messages_are_told_before_quoting(run):
    told = warnings_of(run)
    assert "Contestants chose among different numbers of configurations: 2 for engineered, position; 1 for MIL." in told
    assert "other: profiles.csv lacks 1 wells: P1 <B02>" in told
    equal = run.tuning[run.tuning["configuration"] == 0]
    assert not any("different numbers" in note for note in warnings_of(run._replace(tuning=equal)))


def test_costs_are_sums_over_the_folds_and_only_shown_when_asked(run, run_folder, text, tmp_path):
    rows = contestant_costs(run.folder, ["engineered", "position", "mil"], ["mil"])
    assert rows == [
        {"contestant": "mil", "fitting": "46.0", "predicting": "4.5", "memory": "903"},
        {"contestant": "engineered", "fitting": "2.2", "predicting": DASH, "memory": "400"},
        {"contestant": "position", "fitting": DASH, "predicting": DASH, "memory": DASH},
    ]
    assert "not the same to the byte" in section(text, "cost")
    assert "46.0" in section(text, "cost")
    plain = write_report(run_folder, path=tmp_path / "plain.html").read_text("utf-8")
    assert 'id="cost"' not in plain


def test_the_learning_curve_has_a_panel_a_metric_and_every_number_in_its_table(run, text):
    (first, _) = learning_curves(run)
    own = run.learning_curve.query("split == 'by_well'")
    assert len(first["plots"]) == own["metric"].nunique() - 2  # log loss and Brier score are no parts of one
    assert len(first["table"]["rows"]) == 3 * 3
    row = next(row for row in first["table"]["rows"] if row["names"] == (4, "mil"))
    wanted = own.query("wells_per_class == 4 and contestant == 'mil'")["value"]
    assert [cell["value"] for cell in row["cells"]] == [number(value) for value in wanted]
    assert 'id="curve"' in text

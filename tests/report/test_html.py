import html
import re
import shutil
from html.parser import HTMLParser

import pandas as pd
import pytest

from cellpheno.errors import InputError
from cellpheno.report.assay import Doses
from cellpheno.report.html import write_report
from cellpheno.report.run import read_run
from cellpheno.report.words import number


def write(run_folder, **options):
    doses = Doses("Metadata_dose", "Metadata_compound", read_run(run_folder).classes[:2])
    plates = [run_folder.parents[1] / "P1.zarr"]
    return write_report(run_folder, plates=plates, cells_per_class=3, doses=doses, **options)


class Page(HTMLParser):
    """Tags, attributes, the text a reader sees, and whether all tags are closed in order."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="session")
def text(run_folder):
    return write(run_folder).read_text("utf-8")


@pytest.fixture(scope="session")
def page(text):
    return Page(text)


@pytest.fixture
def bare(run_folder, tmp_path):
    """A run with nothing but what is needed: one contestant, no model."""
    predictions = pd.read_parquet(run_folder / "predictions.parquet").query(
        "contestant == 'mil' and split == 'by_well'"
    )
    predictions.to_csv(tmp_path / "predictions.csv", index=False)
    shutil.copy(run_folder / "wells.csv", tmp_path)
    return tmp_path


def test_twice_the_same_bytes(run_folder, text, tmp_path):
    assert write(run_folder, path=tmp_path / "again.html").read_text("utf-8") == text


def test_page_is_well_formed_and_its_links_lead_somewhere(text, page):
    assert page.open == []
    links = [value for name, value in page.attributes if name == "href"]
    targets = {value for name, value in page.attributes if name == "id"}
    assert len(links) > 8
    assert {link.removeprefix("#") for link in links} <= targets
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= targets


def test_nothing_is_loaded_and_no_script_can_run(text, page):
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert not {"script", "iframe", "object", "link", "base"} & set(page.tags)
    assert not re.search(r"(?i)https?:|@import|javascript:", text)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/png;base64,") for name, value in page.attributes if name == "src")


def test_foreign_names_are_text(run_folder, text, page):
    names = [*read_run(run_folder).classes, *pd.read_csv(run_folder / "wells.csv")["Metadata_compound"].unique()]
    for name in names:
        assert name in "".join(page.text)
    assert "<script" not in text
    assert "<b>ol" not in text
    assert run_folder.name in "".join(page.text)


def test_every_well_is_on_the_maps(run_folder, text):
    wells = read_run(run_folder).wells
    for well, label, status in wells[["Metadata_Well", "label", "status"]].to_numpy():
        assert f"<title>{well}: {html.escape(label or 'no label', quote=False)}, {status}</title>" in text


def test_every_well_that_is_not_done_is_listed_with_its_message(run_folder, text):
    table = Page(text[text.index('id="wells-left-out"') :].split("</table>")[0])
    told = "\n".join(table.text)
    wells = read_run(run_folder).wells
    for _, well in wells.iterrows():
        assert (f"{well['Metadata_Well']}_s1_w1.tif" in told) == (well["status"] != "done")


def test_numbers_are_those_of_the_tables(run_folder, text):
    run = read_run(run_folder)
    table = text[text.index('class="scores"') :].split("</table>")[0]
    shown = re.findall(r'<td class="value" title="([^;"]+)[^"]*">([^<]+)<', table)
    scores = run.scores[(run.scores["split"] == "by_well") & (run.scores["class"] == "")]
    metrics = list(scores["metric"].unique())
    values = scores.set_index(["contestant", "metric"])["value"]
    wanted = [values[name, metric] for name in ("mil", "engineered", "position") for metric in metrics]
    assert "my_metric" in metrics
    assert [float(full) for full, _ in shown] == wanted
    assert [rounded for _, rounded in shown] == [number(value) for value in wanted]


def test_verdict_is_the_row_of_the_table(run_folder, page):
    rows = read_run(run_folder).differences.query("contestant == 'mil' and metric == 'balanced_accuracy'")
    told = "".join(page.text)
    for split, value, n, p in rows[["split", "value", "n", "p_holm"]].to_numpy():
        assert re.search(
            rf"MIL.*engineered features.*{abs(value):.2f} .*balanced accuracy over {n:.0f} wells "
            rf"\(split {split.replace('_', ' ')}; p = {p:.3f}, Holm-corrected\)",
            told,
        )


def test_cells_are_shown_at_both_ends_of_each_class(text, run_folder):
    cells = text[text.index('id="cells"') :].split("</section>")[0]
    n_classes, n_splits = 3, 2
    assert cells.count("<img") == 2 * 3 * n_classes * n_splits
    assert cells.count('class="bar"') == cells.count("<img")
    assert "White bar: 5 µm" in cells  # 32 pixels of 0.65 µm are 20.8 µm wide


def test_what_is_missing_is_said_with_the_command_that_makes_it(bare):
    page = Page(write_report(bare).read_text("utf-8"))
    told = "".join(page.text)
    for name in ("scores.csv", "differences.csv", "instances.parquet", "history.csv", "card.json"):
        assert f"{name}" in told
    assert {"cellpheno compare", "cellpheno predict", "cellpheno train"} <= set(page.text)
    assert "No comparison has been made" in told
    assert "Dose and assay quality" not in told


def test_lost_crops_cost_the_pictures_only(bare, run_folder):
    shutil.copy(run_folder / "instances.parquet", bare)
    told = "".join(Page(write_report(bare).read_text("utf-8")).text)
    assert "plate P1 was not given to the report" in told
    told = "".join(Page(write_report(bare, plates=[bare / "gone.zarr"]).read_text("utf-8")).text)
    assert "gone.zarr is no plate that can be opened" in told


def test_pooling_without_weights_is_said(bare, run_folder):
    instances = pd.read_parquet(run_folder / "instances.parquet").assign(weight=float("nan"))
    instances.to_parquet(bare / "instances.parquet")
    told = "".join(Page(write_report(bare, plates=[run_folder.parents[1] / "P1.zarr"]).read_text("utf-8")).text)
    assert "gives cells no weights" in told


def test_run_without_its_tables_is_refused_with_all_faults(tmp_path):
    with pytest.raises(InputError) as refused:
        write_report(tmp_path)
    assert len(refused.value.faults) == 2
    (tmp_path / "wells.csv").write_text("Metadata_Plate,label\nP1,a\n")
    with pytest.raises(InputError, match=r"no column \['Metadata_Well', 'status'\]"):
        write_report(tmp_path)

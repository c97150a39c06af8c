"""The section of a run in a file of results: its numbers are the tables', and nothing else in the file moves."""

import pytest

from cellpheno.errors import InputError
from cellpheno.report.record import HEAD, record_section, with_section
from cellpheno.report.run import read_run, stated
from cellpheno.report.words import MINUS, interval, number
from cellpheno.stages.record import record

ASKED = {"balanced accuracy": "balanced_accuracy", "macro AUROC": "macro_auroc"}
ASKED |= {"mean average precision": "mean_average_precision", "log loss": "log_loss"}


@pytest.fixture
def run(run_folder):
    return read_run(run_folder)


def cells(line):
    return [cell.strip() for cell in line.strip()[1:-1].replace(r"\|", "¦").split("|")]


def test_every_number_is_that_of_its_table(run):
    text = record_section(run, "A | <title>", "2026-11-26")
    lines = text.splitlines()
    assert lines[0] == r"## A \| &lt;title> (demo &lt;1>)"
    assert "Recorded on 2026-11-26 with cellpheno 0." in text
    assert "Seed 7, threads 2, device not stated." in text
    later = run._replace(config={**run.config, "predict": "device: cuda"})
    assert "Seed 7, threads 2, device cuda." in record_section(later, "t", "2026-11-26")
    assert text.count("### Split") == 2
    part = text[text.index("### Split by well") :].split("###")[1]
    table = [cells(line) for line in part.splitlines() if line.startswith("|")]
    assert table[0] == ["contestant", "balanced accuracy", "macro AUROC", "mean average precision", "log loss"]
    scores = run.scores.query("split == 'by_well' and `class` == ''").set_index(["contestant", "metric"])
    for row, name in zip(table[2:5], ("mil", "engineered", "position"), strict=True):
        own = [scores.loc[(name, one)] for one in ASKED.values()]
        assert row[1:] == [f"{number(s['value'])} {interval(s['low'], s['high'])}" for s in own]
    pairs = [row for row in table if row[0] == f"MIL {MINUS} engineered"]
    wanted = run.differences.query("split == 'by_well' and contestant == 'mil'").set_index("metric")
    for row in pairs:
        own = wanted.loc[ASKED[row[1]]]
        assert row[2] == f"{number(own['value'])} {interval(own['low'], own['high'])}"
        told = f"{own['verdict']}: {own['note']}" if own["note"] else own["verdict"]
        assert row[3:] == [number(own["p_holm"]), number(own["detectable"]), told]
    assert len(pairs) == 4
    assert "Wells called wrong, by compound:" in part
    assert ["engineered", "C=0.01 ¦ &lt;b>", "2 of 4", "0.156", ""] in table
    assert ["MIL", "46.0", "4.5", "903"] in [cells(line) for line in lines]
    assert len([line for line in lines if line.startswith("> ")]) == 2


def test_other_sections_stay_to_the_byte_and_the_own_one_is_replaced(run_folder, tmp_path):
    path = tmp_path / "some" / "RESULTS.md"
    record(run_folder, path, date="2026-11-26")
    first = path.read_bytes().decode()
    assert first.startswith(HEAD)
    assert "</pre><script>" not in first  # the title of the run's configuration is text
    head, tail = "# Mine\r\n\r\nby hand, é\r\n", "\r\nbelow, by hand, without an end"
    path.write_bytes((head + first.removeprefix(HEAD) + tail).encode())
    record(run_folder, path, title="New", date="2026-11-27")
    second = path.read_bytes().decode()
    assert second.startswith(head)
    assert second.endswith(tail)
    assert second.count("cellpheno record") == 2
    assert "## New (demo &lt;1>)" in second
    assert "2026-11-26" not in second
    other = with_section(second, "other", "## Other\n")
    assert other.startswith(second)
    assert with_section(other, "other", "## Other\n") == other


def test_what_cannot_be_written_is_refused(run, run_folder, tmp_path):
    with pytest.raises(InputError, match="wanted a day such as"):
        record(run_folder, tmp_path / "R.md", date="yesterday")
    with pytest.raises(InputError, match="no scores to record"):
        record_section(run._replace(scores=None), "t", "2026-11-26")
    begin = with_section("", "a", "## A\n").replace("<!-- end", "<!-- mid")
    with pytest.raises(InputError, match="1 and 0 times"):
        with_section(begin, "a", "## A\n")
    (tmp_path / "R.md").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        record(run_folder, tmp_path / "R.md")
    assert (tmp_path / "R.md").read_bytes() == b"\xff\xfe"


def test_what_a_run_states_of_a_key_comes_from_its_configuration_then_from_its_cards(run):
    assert stated(run, "seed") == ["7"]
    assert stated(run, "threads") == ["2"]  # on the cards only
    assert stated(run, "pooling") == ["gated_attention"]
    assert stated(run._replace(config={"a": "title: null\nseed: 1", "b": "seed: 2"}), "title") == []
    assert stated(run._replace(config={"a": "seed: 1", "b": "seed: 2"}), "seed") == ["1", "2"]

"""One HTML file from a run's folder: no network, no script, the same bytes for the same run."""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from cellpheno.classes import label_parts
from cellpheno.names import PLATE, WELL, well_order
from cellpheno.plates.commit import commit_file
from cellpheno.report import cells, contestants, sections, summary, verdict
from cellpheno.report.assay import Doses, assay
from cellpheno.report.curves import learning_curves
from cellpheno.report.disagreements import disagreements
from cellpheno.report.matching import matching
from cellpheno.report.mistakes import mistakes
from cellpheno.report.palette import OTHER_SET, OTHER_STATUS, STATUS_STYLES, UNLABELLED
from cellpheno.report.run import Run, one_row_a_well, read_run, records
from cellpheno.report.words import GLOSSARY, contestant_label, number, split_label

FIELDS_PER_CLASS = 3
LIBRARIES = ("cellpheno", "numpy", "pandas", "matplotlib", "scikit-learn", "torch", "pytorch-lightning", "zarr")


def write_report(
    run: Path | str,
    *,
    title: str | None = None,
    plates: Sequence[Path] = (),
    cells_per_class: int = 12,
    doses: Doses | None = None,
    show_cost: bool = False,
    path: Path | None = None,
) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    run : path
        ``runs/<experiment>``; what is missing there is named in the report, with the command that makes it.
    title : str, optional
        By default the name of the run's folder.
    plates : sequence of path
        Plates (``P1.zarr``) whose crops show the cells of high and low attention.
    cells_per_class : int
        Cells of highest and of lowest attention, a class each.
    doses : Doses, optional
        Which columns of wells.csv dose.csv was made from; without it the pictures show means without their wells.
    show_cost : bool
        Show seconds and memory of each contestant; the page is then not the same to the byte.
    path : path, optional
        By default ``report.html`` in the run's folder.

    Returns
    -------
    path of the report

    Raises
    ------
    InputError
        If the run has no wells or no predictions.
    """
    tables = read_run(run)
    shown = [Path(plate) for plate in plates]
    page = render(tables, title or tables.folder.name, shown, cells_per_class, doses, show_cost)
    target = path or tables.folder / "report.html"
    with commit_file(target) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return target


def render(
    run: Run, title: str, plates: Sequence[Path], cells_per_class: int, doses: Doses | None, show_cost: bool = False
) -> str:
    """Write the page of a run as text; see `write_report`."""
    environment = Environment(
        loader=PackageLoader("cellpheno.report"),
        autoescape=select_autoescape(["html.j2"]),  # names of compounds and wells are foreign text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    opened = cells.open_plates(plates)
    content = {
        "title": title,
        "verdicts": verdict.verdicts(run),
        "standing": verdict.standing(run),
        "key_numbers": summary.key_numbers(run),
        "warnings": [*run.both_sides, *summary.warnings_of(run)],
        "compared": sections.compared(run),
        "differences": sections.differences(run),
        "mistakes": mistakes(run),
        "disagreements": disagreements(run, opened),
        "features": contestants.important_features(run),
        "choices": contestants.choices(run),
        "curves": learning_curves(run),
        "costs": cost(run, opened) if show_cost else None,
        "confusions": sections.confusions(run),
        "plates": sections.plate_maps(run),
        "attention": cells.attention(run, opened, cells_per_class),
        "fields": cells.fields(run, opened, FIELDS_PER_CLASS),
        "channels": cells.channel_legend(opened),
        "training": sections.training(run),
        "assay": assay(run, doses),
        "matching": matching(run),
        "new_wells": new_wells(run),
        "status": summary.status_counts(run),
        "left_out": summary.wells_left_out(run),
        "classes": legend(run),
        "multilabel": run.multilabel,
        "unlabelled": UNLABELLED,
        "statuses": {name: STATUS_STYLES.get(name, OTHER_STATUS) for name in run.wells["status"].unique()},
        "made": how_made(run),
        "glossary": GLOSSARY,
        "label": contestant_label,
    }
    return environment.get_template("report.html.j2").render(content)


def cost(run: Run, opened: cells.Opened) -> dict[str, Any]:
    """Collect what the contestants and the steps of the plates cost."""
    folders = {name: plate.folder for name, plate in opened.plates.items()}
    rows = contestants.contestant_costs(run.folder, run.predictions["contestant"], run.networks)
    return {"contestants": rows, "plates": contestants.plate_costs(folders)}


def legend(run: Run) -> dict[str, str]:
    """Name the colours of the plate maps."""
    colours = sections.label_colours(run)
    known = {name: colours[name] for name in run.labels}
    return known | ({"another set of classes": OTHER_SET} if OTHER_SET in colours.values() else {})


def new_wells(run: Run) -> list[dict[str, Any]]:
    """List what the contestants say of wells without a label, a split each."""
    new = one_row_a_well(run.predictions[run.predictions["role"] == "new"], run.classes, run.multilabel)
    tables = []
    for split, part in new.groupby("split", sort=False):
        contestants = summary.in_order(part["contestant"])
        called: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
        for row in records(part):
            sure = [number(row[f"prob_{name}"], 2) for name in label_parts(row["pred"], run.multilabel)]
            call = row["pred"], " ".join(sure)
            called.setdefault((row[PLATE], row[WELL]), {})[row["contestant"]] = call
        rows = [
            {"plate": plate, "well": well, "calls": [called[plate, well].get(name, ("", "")) for name in contestants]}
            for plate, well in sorted(called, key=lambda key: (key[0], well_order(key[1])))
        ]
        tables.append({"split": split_label(str(split)), "contestants": contestants, "rows": rows})
    return tables


def how_made(run: Run) -> dict[str, Any]:
    """Collect the configuration, the models' cards, versions and hashes."""
    keys = list(dict.fromkeys(key for card in run.cards.values() for key in card))
    texts = {key: [_text(card.get(key, "")) for card in run.cards.values()] for key in keys}
    common = {key: values[0] for key, values in texts.items() if len(set(values)) == 1}
    return {
        "config": run.config,
        "common": common,
        "varying": [key for key in keys if key not in common],
        "models": [
            (name, [_text(card.get(key, "")) for key in keys if key not in common]) for name, card in run.cards.items()
        ],
        "versions": [("Python", platform.python_version()), *((name, version(name)) for name in LIBRARIES)],
        "hashes": run.hashes,
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

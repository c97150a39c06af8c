"""What the instances of held-out wells look like: cells of high and low attention, fields with what is seen."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cellpheno.errors import InputError
from cellpheno.names import OBJECT, PLATE, SITE, WELL
from cellpheno.plates.plate import Plate, open_plate
from cellpheno.report.class_maps import are_positions, draw_fields, save_maps, tiles
from cellpheno.report.gallery import choose_cells, pictures, scale_bar_um
from cellpheno.report.palette import channel_colours
from cellpheno.report.run import Run
from cellpheno.report.words import contestant_label, number, split_label

Pictures = dict[tuple[str, str, int, int], tuple[str, int]]  # by cell: data URI and width in pixels


class Opened(NamedTuple):
    """Plates that hold the crops, by name, and what could not be opened."""

    plates: dict[str, Plate]
    faults: list[str]


def open_plates(paths: Sequence[Path]) -> Opened:
    """Open the plates that the report takes cells from; a plate that cannot be opened costs its cells only."""
    plates, faults = {}, []
    for path in paths:
        try:
            plate = open_plate(path)
            plates[plate.name] = plate
        except (InputError, OSError):
            faults.append(f"{Path(path).name} is no plate that can be opened; its cells are not shown")
    return Opened(plates, faults)


def attention(run: Run, opened: Opened, cells_per_class: int) -> list[dict[str, Any]]:
    """Draw the cells of highest and lowest attention in held-out wells, a split and class each."""
    if run.instances is None:
        return []
    if are_positions(run.instances):
        return []
    sections = []
    for (split, name), part in held_out(run, run.instances):
        chosen = choose_cells(part, run.labels, cells_per_class)
        drawn, faults = draw_cells(chosen, opened)
        classes: list[dict[str, Any]] = [
            {"label": c, "rows": _rows_of(chosen[chosen["label"] == c], drawn, opened)} for c in run.labels
        ]
        if chosen.empty:
            faults = ["the pooling of this model gives cells no weights"]
        words = {"split": split_label(str(split)), "contestant": contestant_label(str(name))}
        caption = bar_caption([tile for c in classes for row in c["rows"] for tile in row["tiles"]])
        sections.append(
            {**words, "classes": classes if drawn else [], "faults": [*opened.faults, *faults], "caption": caption}
        )
    return sections


def held_out(run: Run, instances: pd.DataFrame) -> Iterator[tuple[tuple[Any, Any], pd.DataFrame]]:
    """Instances of held-out wells with the label of the well, a split and contestant at a time, the first repeat."""
    labels = run.wells.set_index([PLATE, WELL])["label"]
    held_out = instances[instances["role"] == "out_of_fold"]
    for (split, name), part in held_out.groupby(["split", "contestant"], sort=False):
        part = part[part["repeat"] == part["repeat"].min()]
        yield (split, name), part.assign(label=labels.reindex(pd.MultiIndex.from_frame(part[[PLATE, WELL]])).to_numpy())


def fields(run: Run, opened: Opened, fields_per_class: int) -> list[dict[str, Any]]:
    """Draw where each class is seen in fields of held-out wells, a split each; the files go beside the report."""
    if run.instances is None or not are_positions(run.instances):
        return []
    card = next(iter(run.cards.values()), {})
    level, link = card.get("instances", {}).get("level", 0), card.get("instance_link", "sigmoid")
    sections = []
    for (split, name), part in held_out(run, run.instances):
        maps, faults = draw_fields(part, run.classes, opened.plates, level=level, link=link, n=fields_per_class)
        save_maps(maps, run.folder / "class_maps" / str(split))
        words = {"split": split_label(str(split)), "contestant": contestant_label(str(name))}
        classes = [{"label": c, "tiles": found} for c in run.classes if (found := tiles(maps, c))]
        sections.append({**words, "classes": classes, "faults": [*opened.faults, *faults]})
    return sections


def _rows_of(cells: pd.DataFrame, drawn: Pictures, opened: Opened) -> list[dict[str, Any]]:
    return [
        {"end": end, "tiles": cell_tiles(part, drawn, opened, place=True)}
        for end, part in cells.groupby("end", sort=False)
    ]


def draw_cells(chosen: pd.DataFrame, opened: Opened) -> tuple[Pictures, list[str]]:
    """Draw chosen cells of the plates that were opened; see `cellpheno.report.gallery.pictures`."""
    folders = {name: plate.folder / "crops" for name, plate in opened.plates.items()}
    return pictures(chosen, folders, {name: channel_colours(plate.channels) for name, plate in opened.plates.items()})


def cell_tiles(cells: pd.DataFrame, drawn: Pictures, opened: Opened, *, place: bool) -> list[dict[str, str]]:
    """Pictures of some cells with scale bar and words; those that could not be read are left out."""
    found = []
    for cell in cells.to_dict("records"):
        key = (cell[PLATE], cell[WELL], int(cell[SITE]), int(cell[OBJECT]))
        if key not in drawn:
            continue
        uri, width = drawn[key]
        pixel = opened.plates[cell[PLATE]].pixel_size_um
        bar = scale_bar_um(width * pixel) if pixel else None
        share = 100 * bar / (width * pixel) if bar and pixel else 0.0
        where = f"{cell[WELL]}" if len(opened.plates) == 1 else f"{cell[PLATE]} {cell[WELL]}"
        title = f"plate {key[0]}, well {key[1]}, site {key[2]}, cell {key[3]}"
        tile = {"uri": uri, "place": where if place else "", "title": title, "relative": number(cell["relative"], 2)}
        found.append({**tile, "bar_um": f"{bar:g}" if bar else "", "bar_percent": f"{share:.2f}"})
    return found


def bar_caption(shown: list[dict[str, str]]) -> str:
    """Tell how long the white bars are, and how brightness is set."""
    lengths = sorted({tile["bar_um"] for tile in shown} - {""}, key=float)
    bar = f"White bar: {' or '.join(lengths)} µm. " if lengths else "No bar: the plate does not tell its pixel size. "
    return f"{bar}Brightness is set once a plate and channel, so cells can be compared."


def channel_legend(opened: Opened) -> list[dict[str, str]]:
    """Name the colour of each channel in the pictures of cells."""
    seen = {
        name: colour
        for p in opened.plates.values()
        for name, colour in zip(p.channels, channel_colours(p.channels), strict=True)
    }
    return [{"name": name, "colour": colour} for name, colour in seen.items()]

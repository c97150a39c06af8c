"""A starter experiment for one's own plate: what is in the folder, written down as a configuration to edit."""

import json
import re
from importlib.resources import files
from pathlib import Path

from cellpheno.errors import InputError
from cellpheno.importers.filename import PATTERN
from cellpheno.importers.planes import image_files

STARTER = """\
# @package _global_
# {name}: edit the lines marked with <--, then: cellpheno run --config-dir {config_dir} experiment={name}
defaults:
  - override /importer: filename # or table: a CSV with a row an image set

folder: {folder}
plate: {name}.zarr
output: runs/{name}
label: label # <-- the plate map's column that holds the class

importer:
  # <-- named groups: well (or row and column), channel; plate, field if they are there. A file of yours:
  #     {example}
  pattern: {pattern}

platemap:
  path: {map} # <-- one row a well
  well: well # <-- its column of well names

segmentation:
  nuclei: DNA # <-- channel of the nuclei
  cells: null # <-- channel that fills the cells; null grows them by a distance
"""


def init(folder: Path) -> str:
    """Write a starter experiment for a folder of images and return what to do next.

    Parameters
    ----------
    folder : Path
        The raw images; nothing is written into it.

    Raises
    ------
    InputError
        If the folder is not there, holds no image, or the starter exists already.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    images = image_files(folder)
    if not images:
        raise InputError(f"{folder}: no image (.tif, .tiff, .png, .bmp) in it or below")
    name = re.sub(r"\W+", "_", folder.resolve().name).strip("_").lower() or "my_plate"
    if (files("cellpheno.conf") / "experiment" / f"{name}.yaml").is_file():  # which would be found in its place
        name = f"my_{name}"
    path = Path("conf") / "experiment" / f"{name}.yaml"
    if path.exists():
        raise InputError(f"{path} exists already; edit it, or move it away for a new one")
    maps = sorted([*folder.rglob("*.csv"), *folder.rglob("*.tsv"), *folder.rglob("*.txt")])
    text = STARTER.format(
        name=name,
        config_dir="conf",
        folder=json.dumps(str(folder), ensure_ascii=False),
        example=images[0].relative_to(folder),
        pattern=f"'{PATTERN}'",
        map=json.dumps(str(maps[0] if maps else folder / "platemap.csv"), ensure_ascii=False),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return (
        f"{path} written; {len(images)} images found in {folder}\n"
        f"next: edit the lines marked with <--, then run\n"
        f"  cellpheno run --config-dir conf experiment={name}"
    )

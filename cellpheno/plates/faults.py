"""What is wrong with OME-NGFF metadata: all faults of a plate, a well or an image, one line each."""

import re
from typing import Any

from cellpheno.names import split_well
from cellpheno.plates.ngff import Attributes, axis_letters


def plate_faults(plate: Attributes) -> tuple[str, ...]:
    """All faults of the ``plate`` part of a plate's metadata, one line each.

    Examples
    --------
    >>> plate_faults({"rows": [{"name": "A"}], "columns": [{"name": "1"}], "wells": [{"path": "B/1"}]})
    ("well 'B/1': row 'B' is not listed in rows",)
    """
    faults: list[str] = []
    names: dict[str, list[Any]] = {}
    for key in ("rows", "columns"):
        listed = plate.get(key)
        if not isinstance(listed, list) or not all(isinstance(item, dict) and "name" in item for item in listed):
            faults.append(f"{key}: wanted a list of objects with a name")
            listed = []
        names[key] = [item["name"] for item in listed]
        if len(set(map(str, names[key]))) < len(names[key]):
            faults.append(f"{key}: a name stands there twice")
    wells = plate.get("wells")
    if not isinstance(wells, list) or not all(isinstance(well, dict) and "path" in well for well in wells):
        return (*faults, "wells: wanted a list of objects with a path")
    paths = [str(well["path"]) for well in wells]
    faults += [f"well {path!r}: listed twice" for path in sorted({p for p in paths if paths.count(p) > 1})]
    for well, path in zip(wells, paths, strict=True):
        parts = path.split("/")
        if len(parts) != 2 or not all(part.isascii() and part.isalnum() for part in parts):
            faults.append(f"well {path!r}: wanted a path of row/column, such as 'B/03'")
            continue
        for part, key, index in zip(parts, ("rows", "columns"), ("rowIndex", "columnIndex"), strict=True):
            if part not in names[key]:
                faults.append(f"well {path!r}: {key[:-1]} {part!r} is not listed in {key}")
            elif index in well and well[index] != names[key].index(part):
                faults.append(f"well {path!r}: {index} is {well[index]}, wanted {names[key].index(part)}")
        try:
            split_well("".join(parts))
        except ValueError as error:
            faults.append(f"well {path!r}: {error}")
    return tuple(faults)


def well_faults(well: Attributes) -> tuple[str, ...]:
    """All faults of the ``well`` part of a well's metadata, one line each.

    Examples
    --------
    >>> well_faults({"images": [{"path": "../0"}]})
    ("field '../0': wanted a path of letters and digits",)
    """
    images = well.get("images")
    if not isinstance(images, list) or not all(isinstance(image, dict) and "path" in image for image in images):
        return ("images: wanted a list of objects with a path",)
    paths = [str(image["path"]) for image in images]
    faults = [f"field {path!r}: listed twice" for path in sorted({p for p in paths if paths.count(p) > 1})]
    return (
        *faults,
        *(f"field {p!r}: wanted a path of letters and digits" for p in paths if not re.fullmatch(r"\w+", p)),
    )


def image_faults(ome: Attributes) -> tuple[str, ...]:
    """All faults of an image's or label image's metadata, one line each.

    Examples
    --------
    >>> image_faults({"multiscales": [{"axes": [{"name": "x"}, {"name": "y"}], "datasets": []}]})
    ("axes 'xy': wanted t, c, z, y, x in this order, y and x at least", 'datasets: wanted at least one level')
    """
    multiscales = ome.get("multiscales")
    if not isinstance(multiscales, list) or not multiscales or not isinstance(multiscales[0], dict):
        return ("multiscales: wanted a list with one image",)
    faults: list[str] = []
    letters = axis_letters(multiscales[0])
    if not re.fullmatch("t?c?z?yx", letters):
        faults.append(f"axes {letters!r}: wanted t, c, z, y, x in this order, y and x at least")
    datasets = multiscales[0].get("datasets")
    if not isinstance(datasets, list) or not datasets:
        return (*faults, "datasets: wanted at least one level")
    for dataset in datasets:
        path = str(dataset.get("path")) if isinstance(dataset, dict) else ""
        if not re.fullmatch(r"\w[\w.-]*", path):
            faults.append(f"level {path!r}: wanted a path inside the image")
            continue
        scales = [t.get("scale") for t in dataset.get("coordinateTransformations", []) if t.get("type") == "scale"]
        numbers = [s for s in scales if isinstance(s, list) and all(isinstance(v, int | float) and v > 0 for v in s)]
        # 0.6 names coordinate systems and lets the scale stand elsewhere
        if not str(ome.get("version")).startswith("0.6") and [len(s) for s in numbers] != [len(letters)]:
            faults.append(f"level {path!r}: scale {scales}, wanted one number > 0 an axis of {letters!r}")
    return tuple(faults)

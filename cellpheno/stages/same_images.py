"""Which wells have a picture in common, by the content hashes that the ledger keeps."""

import re
from collections import defaultdict
from pathlib import Path

import pandas as pd

from cellpheno.batch.ledger import read_record
from cellpheno.names import PLATE, WELL
from cellpheno.plates.plate import open_plate

_PIXELS = re.compile(r"(?P<plate>.+)/[A-Z]+/\d+/(?P<field>\d+)/0/c/.+")  # of a field at full size


def shared_images(wells: pd.DataFrame) -> dict[tuple[str, str], set[str]]:
    """Hashes of pictures that stand in more than one well, by well; a picture of one grey level is none.

    Plates that were not imported here have no hashes in their ledger, so that nothing is known of them.

    Parameters
    ----------
    wells : DataFrame, a row a well
        With ``folder``, the folder of the well's plate.
    """
    places: dict[str, list[tuple[Path, str, str, str]]] = defaultdict(list)
    for _, well in wells.iterrows():
        folder, plate_name, well_name = Path(well["folder"]), str(well[PLATE]), str(well[WELL])
        for name, facts in read_record(folder, well_name).get("import_plate", {}).get("files", {}).items():
            if match := _PIXELS.fullmatch(name):
                place = (folder.parent / match["plate"], plate_name, well_name, match["field"])
                places[facts["sha256"]].append(place)
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sha256, same in places.items():
        if len({(plate, well) for _, plate, well, _ in same}) > 1 and not _is_flat(same[0]):
            for _, plate, name, _ in same:
                found[plate, name].add(sha256)
    return dict(found)


def _is_flat(place: tuple[Path, str, str, str]) -> bool:
    """Whether a field has one grey level: nothing was seen there, in whatever well."""
    path, _, well, field = place
    (own,) = (f for f in open_plate(path).well(well).fields if f.path.name == field)
    pixels = own.read()
    return bool(pixels.min() == pixels.max())

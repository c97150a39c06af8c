"""Which wells have a picture in common, by the content hashes that the ledger keeps."""

import re
from pathlib import Path

import pandas as pd

from cellpheno.batch.ledger import read_record
from cellpheno.names import PLATE, WELL
from cellpheno.plates.plate import open_plate

HASH, HASH_DIGITS = "sha256", 16  # a run keeps so many digits, of which a million pictures share none by chance
_PIXELS = re.compile(r"(?P<plate>.+)/[A-Z]+/\d+/(?P<field>\d+)/0/c/.+")  # of a field at full size


def list_pictures(wells: pd.DataFrame) -> pd.DataFrame:
    """Every picture of some wells with the hash of its content.

    Plates that were not imported here have no hashes in their ledger, so that nothing is known of them.

    Parameters
    ----------
    wells : DataFrame, a row a well
        With ``folder``, the folder of the well's plate.

    Returns
    -------
    DataFrame
        ``Metadata_Plate, Metadata_Well, path, field, sha256``, a row a picture: ``path`` is the OME-Zarr plate's.
    """
    rows: list[tuple[str, str, str, str, str]] = []
    for folder, plate, well in wells[["folder", PLATE, WELL]].itertuples(index=False):
        for name, facts in read_record(Path(folder), well).get("import_plate", {}).get("files", {}).items():
            if match := _PIXELS.fullmatch(name):
                path = Path(folder).parent / match["plate"]
                rows.append((plate, well, str(path), match["field"], facts[HASH]))
    return pd.DataFrame(rows, columns=[PLATE, WELL, "path", "field", HASH], dtype=object)


def shared_images(pictures: pd.DataFrame) -> dict[tuple[str, str], set[str]]:
    """Hashes of pictures that stand in more than one well, by well; a picture of one grey level is none.

    Parameters
    ----------
    pictures : DataFrame
        As from `list_pictures`.
    """
    found: dict[tuple[str, str], set[str]] = {}
    places = pictures.drop_duplicates([PLATE, WELL, HASH])
    for _, same in with_content(places[places.duplicated(HASH, keep=False)]).iterrows():
        found.setdefault((same[PLATE], same[WELL]), set()).add(same[HASH])
    return found


def with_content(pictures: pd.DataFrame) -> pd.DataFrame:
    """Leave out pictures of one grey level: nothing was seen there, in whatever well; each content is read once."""
    once = pictures.drop_duplicates(HASH)
    flat = {
        content
        for path, well, name, content in once[["path", WELL, "field", HASH]].itertuples(index=False)
        if _is_flat(Path(path), well, name)
    }
    return pictures[~pictures[HASH].isin(flat)]


def _is_flat(path: Path, well: str, name: str) -> bool:
    (own,) = (f for f in open_plate(path).well(well).fields if f.path.name == name)
    pixels = own.read()
    return bool(pixels.min() == pixels.max())

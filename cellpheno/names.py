"""The vocabulary: well names, ``Metadata_*`` keys, channel tokens, feature names.

In code a field of view is a *field* (OME-NGFF's word). It is ``Metadata_Site`` in table columns only, because
CellProfiler and pycytominer say so: `SITE` is the one place where the two words meet.
"""

import re
import string
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

PLATE = "Metadata_Plate"
WELL = "Metadata_Well"
SITE = "Metadata_Site"  # the vendor's number of a field
ACQUISITION = "Metadata_Acquisition"
OBJECT = "Metadata_ObjectNumber"
CELL_KEYS = (PLATE, WELL, SITE, OBJECT)
COMPARTMENTS = ("Cells", "Nuclei", "Cytoplasm")
PLATE_FORMATS = {
    6: (2, 3),
    24: (4, 6),
    48: (6, 8),
    96: (8, 12),
    384: (16, 24),
    1536: (32, 48),
}  # wells: (rows, columns)

_WELL = re.compile(r"([A-Za-z]{1,2})[-/_ ]?(\d{1,2})")


def row_keys(columns: Iterable[object]) -> list[str]:
    """Columns by which a row of a table is known: of a table of wells plate and well, of one of cells two more.

    Examples
    --------
    >>> row_keys(["Metadata_Well", "Metadata_Plate", "label"])
    ['Metadata_Plate', 'Metadata_Well']
    """
    there = set(columns)
    return [key for key in CELL_KEYS if key in there]


def row_name(index: int) -> str:
    """Letters of a plate row counted from 0, as 1536-well plates count on.

    Examples
    --------
    >>> row_name(1), row_name(26)
    ('B', 'AA')
    """
    if not 0 <= index < 32:
        raise ValueError(f"row index {index}: wanted 0 to 31 (A to AF, a 1536-well plate)")
    return string.ascii_uppercase[index] if index < 26 else "A" + string.ascii_uppercase[index - 26]


def row_index(row: str) -> int:
    """Position of a plate row counted from 0.

    Examples
    --------
    >>> row_index("B"), row_index("AF")
    (1, 31)
    """
    letters = row.upper()
    for index in range(32):
        if row_name(index) == letters:
            return index
    raise ValueError(f"row {row!r}: wanted A to Z or AA to AF")


def well_name(row: str, column: str | int) -> str:
    """Name of a well as it is written everywhere.

    Examples
    --------
    >>> well_name("b", 3)
    'B03'
    """
    return f"{row_name(row_index(row))}{int(column):02d}"


def parse_well(text: str) -> str:
    """Read a well in any spelling and return it as ``B03``.

    Parameters
    ----------
    text : str
        ``b3``, ``B3``, ``B03``, ``B-03``, ``B/3``, ``AA01``.

    Raises
    ------
    ValueError
        If the text is no well of a plate with up to 1536 wells.

    Examples
    --------
    >>> [parse_well(text) for text in ("b3", "B-03", "B/3", "AA01")]
    ['B03', 'B03', 'B03', 'AA01']
    """
    match = _WELL.fullmatch(text.strip())
    if match and 1 <= int(match[2]) <= 48:
        try:
            return well_name(match[1], match[2])
        except ValueError:
            pass
    raise ValueError(f"well {text!r}: wanted a row A to AF and a column 1 to 48, such as B03")


def split_well(well: str) -> tuple[str, str]:
    """Row and column of a well, as OME-NGFF paths have them.

    Examples
    --------
    >>> split_well("B3")
    ('B', '03')
    """
    name = parse_well(well)
    return name[:-2], name[-2:]


def well_order(well: str) -> tuple[int, int]:
    """Sort key of a well: row by row, then column.

    Examples
    --------
    >>> sorted(["AA01", "B10", "B02"], key=well_order)
    ['B02', 'B10', 'AA01']
    """
    row, column = split_well(well)
    return row_index(row), int(column)


def parse_wells(texts: str | Iterable[str]) -> tuple[str, ...]:
    """Read a selection of wells: names and rectangles such as ``B03-D06``.

    Examples
    --------
    >>> parse_wells(["A1", "B03-C04"])
    ('A01', 'B03', 'B04', 'C03', 'C04')
    """
    chosen: set[str] = set()
    for text in [texts] if isinstance(texts, str) else texts:
        corners = re.fullmatch(r"\s*([A-Za-z]{1,2}\d{1,2})\s*[-:]\s*([A-Za-z]{1,2}\d{1,2})\s*", text)
        (top, left), (bottom, right) = (well_order(c) for c in (corners.groups() if corners else (text, text)))
        if bottom < top or right < left:
            raise ValueError(f"wells {text!r}: the first corner must stand above and left of the second")
        rows, columns = range(top, bottom + 1), range(left, right + 1)
        chosen.update(well_name(row_name(r), c) for r in rows for c in columns)
    return tuple(sorted(chosen, key=well_order))


def channel_token(name: str) -> str:
    """Channel as it stands in a column name: letters and digits only.

    Examples
    --------
    >>> channel_token("FKHR-GFP")
    'FKHRGFP'
    """
    token = re.sub(r"[^A-Za-z0-9]", "", name)
    if not token:
        raise ValueError(f"channel {name!r} has no letter or digit, and column names need one")
    return token


def channel_tokens(names: Sequence[str]) -> tuple[str, ...]:
    """Tokens of all channels of a plate; two channels that would share one are refused.

    Examples
    --------
    >>> channel_tokens(["FKHR-GFP", "DNA"])
    ('FKHRGFP', 'DNA')
    """
    tokens = tuple(channel_token(name) for name in names)
    clashes = sorted({a for i, a in enumerate(names) for j, _ in enumerate(names) if i != j and tokens[i] == tokens[j]})
    if clashes:
        raise ValueError(f"channels {clashes} would share a column name; rename one of them")
    return tokens


class FeatureName(NamedTuple):
    """A feature column taken apart: ``Cells_Texture_Contrast_ER_3_00_256``."""

    compartment: str
    category: str
    rest: str

    def __str__(self) -> str:
        return "_".join(self)


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name fits one of some patterns, such as ``Cells_Intensity_*``.

    Examples
    --------
    >>> fits("Cells_AreaShape_Area", ["Nuclei_*", "*_Area"]), fits("cells_area", ["Cells_*"])
    (True, False)
    """
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def parse_feature(column: str) -> FeatureName:
    """Take a feature column apart.

    Examples
    --------
    >>> parse_feature("Cells_Intensity_MeanIntensity_DNA").category
    'Intensity'
    >>> str(parse_feature("Nuclei_AreaShape_Area"))
    'Nuclei_AreaShape_Area'
    """
    parts = column.split("_", 2)
    if len(parts) < 3 or parts[0] not in COMPARTMENTS:
        raise ValueError(f"column {column!r}: wanted Compartment_Category_Feature with one of {COMPARTMENTS}")
    return FeatureName(*parts)


def is_feature(column: str) -> bool:
    """Whether a column holds a feature (pycytominer's rule: a compartment's prefix).

    Examples
    --------
    >>> is_feature("Cells_AreaShape_Area"), is_feature("Metadata_Well")
    (True, False)
    """
    return column.startswith(tuple(f"{c}_" for c in COMPARTMENTS))

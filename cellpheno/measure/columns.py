"""What each feature column means, read from the measurements' docstrings.

A measurement lists its columns in the section ``Features`` of its docstring: the name with its variable parts in angle
brackets, the unit, the definition. `describe_column` finds the entry of a column; ``python -m
cellpheno.measure.columns > docs/features.md`` writes the page of all of them.
"""

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import groupby
from types import ModuleType
from typing import Any, NamedTuple

from cellpheno.names import COMPARTMENTS

_CATEGORIES = {  # in the order of the page
    "AreaShape": "Size and shape of the object's mask, whatever the image shows.",
    "Location": "Where the object is in the field, counted from 0 at the middle of the upper left pixel.",
    "Neighbors": "How close the other objects of the same compartment are.",
    "Intensity": "Grey levels of the object's pixels in one channel.",
    "Texture": "How grey levels stand side by side within the object in one channel.",
    "Granularity": "Sizes of the bright structures in one channel.",
    "RadialDistribution": "How the intensity of one channel is spread from the object's centre to its edge.",
    "Correlation": "How two channels go together within the object.",
    "Parent": "Which cell an object belongs to.",
    "Children": "How many objects belong to a cell.",
    "Distance": "How far an object lies from the middle and from the edge of its cell.",
    "Number": "The label of the object in its label image.",
}
_INTRODUCTION = """\
# Feature columns

This page is made from the docstrings of the measurements; `cellpheno.measure.columns.describe_column` gives the entry
of any column. Names and definitions are CellProfiler 4.2's.

A row of a cell table is a cell. A column is named `<compartment>_<feature>`, such as `Cells_AreaShape_Area`:

- `Cells`: the whole cell;
- `Nuclei`: its nucleus (of several the largest, of none nan);
- `Cytoplasm`: the cell without its nucleus.

The features below are measured in each compartment. Parts in angle brackets vary: `<channel>` stands for the letters
and digits of a channel's name, the others are explained where they occur. Grey levels are on CellProfiler's scale:
uint8 / 255, uint16 / 65535, float as it is. Lengths are in pixels, rows and columns count from 0. What is undefined
is nan. The unit 1 marks a pure number.
"""


class Entry(NamedTuple):
    """A family of columns as its measurement documents it."""

    template: str  # Texture_Contrast_<channel>_<scale>_<direction>_<levels>
    unit: str
    definition: str
    measurement: str  # module and function
    summary: str  # first line of the measurement's docstring
    source: str  # its References


class Column(NamedTuple):
    """What a column means."""

    compartment: str  # empty if the name has none
    template: str
    fields: dict[str, str]  # what stands for each part in angle brackets
    unit: str
    definition: str
    source: str


def describe_column(name: str) -> Column:
    """Say what a feature column means.

    Parameters
    ----------
    name : str
        With or without its compartment.

    Returns
    -------
    Column
        Named tuple of compartment, template, fields, unit, definition and source.

    Raises
    ------
    ValueError
        If no measurement documents such a column.

    Examples
    --------
    >>> column = describe_column("Cells_Texture_Contrast_DNA_3_00_256")
    >>> column.compartment, column.fields["channel"], column.fields["scale"], column.unit
    ('Cells', 'DNA', '3', '1')
    """
    compartment, _, feature = name.partition("_")
    if compartment not in COMPARTMENTS:
        compartment, feature = "", name
    for entry in documented_columns():
        if found := _pattern(entry.template).fullmatch(feature):
            return Column(compartment, entry.template, found.groupdict(), entry.unit, entry.definition, entry.source)
    raise ValueError(f"column {name!r}: no measurement documents it; docs/features.md lists all columns")


@cache
def documented_columns() -> tuple[Entry, ...]:
    """List the entries of all measurements of this package, by module, each in the order of its docstring.

    Examples
    --------
    >>> [entry.unit for entry in documented_columns() if entry.template == "Intensity_MeanIntensity_<channel>"]
    ['grey level']
    """
    return tuple(entry for function in _functions() for entry in read_features(function))


def read_features(function: Callable[..., Any]) -> list[Entry]:
    """Read the ``Features`` section of a docstring; an empty list where there is none.

    Raises
    ------
    ValueError
        If an entry is not of the form ``template : unit`` over an indented definition.
    """
    doc = inspect.getdoc(function) or ""
    source = " ".join(_section(doc, "References").split())
    entries = []
    for block in re.split(r"\n(?=\S)", _section(doc, "Features")):
        if not block:
            continue
        head, _, definition = block.partition("\n")
        template, colon, unit = head.partition(" : ")
        if not (colon and template.strip() and unit.strip() and definition.strip()):
            raise ValueError(f"{function.__qualname__}: Features entry {block!r}; wanted template : unit, definition")
        definition = " ".join(definition.split())
        measurement = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        entries.append(Entry(template, unit, definition, measurement, doc.partition("\n")[0], source))
    return entries


def features_page() -> str:
    """Write the page of all columns in Markdown, a table a measurement, by category."""
    order = {category: place for place, category in enumerate(_CATEGORIES)}
    entries = sorted(documented_columns(), key=lambda entry: (order[_category(entry)], entry.measurement))
    parts = [_INTRODUCTION]
    for category, found in groupby(entries, key=_category):
        parts.append(f"\n## {category}\n\n{_CATEGORIES[category]}\n")
        for (measurement, summary, source), rows in groupby(found, key=lambda e: (e.measurement, e.summary, e.source)):
            parts.append(f"\n`{measurement}`: {summary}\n\n| column | unit | definition |\n|---|---|---|\n")
            parts += [f"| `{row.template}` | {row.unit} | {_cell(row.definition)} |\n" for row in rows]
            parts += [f"\nSource: {source}\n"] if source else []
    return "".join(parts)


def _functions() -> Iterator[Callable[..., Any]]:
    """Walk over the functions that this room defines, module by module."""
    package = importlib.import_module("cellpheno.measure")
    for found in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"cellpheno.measure.{found.name}")
        yield from _public_functions(module)


def _public_functions(module: ModuleType) -> Iterator[Callable[..., Any]]:
    for name, value in vars(module).items():
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
            yield value


def _section(doc: str, title: str) -> str:
    """Text of a section of a numpydoc docstring, up to the next title or the end."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=\n+\S[^\n]*\n---|\Z)", doc, re.MULTILINE | re.DOTALL)
    return found[1].strip("\n") if found else ""


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Regular expression of a template: letters and digits for each part in angle brackets."""
    pieces = re.split(r"<(\w+)>", template)  # fixed text and names of parts in turn
    return re.compile("".join(f"(?P<{p}>[A-Za-z0-9]+)" if i % 2 else re.escape(p) for i, p in enumerate(pieces)))


def _category(entry: Entry) -> str:
    category = entry.template.partition("_")[0]
    if category not in _CATEGORIES:
        raise ValueError(f"column {entry.template}: category {category} has no introduction in {__name__}")
    return category


def _cell(text: str) -> str:
    """Text of a cell of a Markdown table."""
    return text.replace("|", r"\|").replace("``", "`")


if __name__ == "__main__":
    sys.stdout.write(features_page())

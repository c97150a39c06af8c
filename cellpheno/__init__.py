"""cellpheno takes a microscope's plate folder to a verdict that a screening scientist can defend.

The public names load on first use, so that ``import cellpheno`` needs neither torch nor hydra.

Examples
--------
>>> import cellpheno
>>> sorted(cellpheno.__all__)
['Bag', 'Plate', 'load_config', 'load_model', 'measure_field', 'open_cells', 'open_plate', 'read_cells']
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellpheno.config import load_config
    from cellpheno.measure.field import measure_field
    from cellpheno.plates.plate import Plate, open_plate
    from cellpheno.stages.cell_tables import open_cells, read_cells
    from cellpheno.training.bags import Bag
    from cellpheno.training.checkpoint import load_model

_HOMES = {
    "open_plate": "cellpheno.plates.plate",
    "Plate": "cellpheno.plates.plate",
    "Bag": "cellpheno.training.bags",
    "measure_field": "cellpheno.measure.field",
    "open_cells": "cellpheno.stages.cell_tables",
    "read_cells": "cellpheno.stages.cell_tables",
    "load_model": "cellpheno.training.checkpoint",
    "load_config": "cellpheno.config",
}
__all__ = ["Bag", "Plate", "load_config", "load_model", "measure_field", "open_cells", "open_plate", "read_cells"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"cellpheno has no {name!r}; its public names are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]

"""Which wells a run and a table of features made elsewhere have in common."""

import pandas as pd

from cellpheno.errors import InputError
from cellpheno.names import PLATE, WELL

Wells = dict[str, list[str]]  # names of wells by plate


def unmatched(wells: pd.DataFrame, profiles: pd.DataFrame, path: str) -> tuple[Wells, Wells]:
    """Wells of a run that features made elsewhere lack, and wells of theirs that take no part in the run.

    Parameters
    ----------
    wells, profiles : DataFrame, a row a well
        With ``Metadata_Plate`` and ``Metadata_Well``.
    path : str
        Of the features, for the message.

    Raises
    ------
    InputError
        If the run and they have no well in common.

    Examples
    --------
    >>> wells = pd.DataFrame({"Metadata_Plate": ["P1", "P1"], "Metadata_Well": ["B03", "B04"]})
    >>> unmatched(wells, wells.iloc[:1], "cells.csv")
    ({'P1': ['B04']}, {})
    """
    own, theirs = (pd.MultiIndex.from_frame(table[[PLATE, WELL]].astype(str)) for table in (wells, profiles))
    if len(wells) and not own.isin(theirs).any():
        plates = (", ".join(sorted(set(table[PLATE].astype(str)))[:5]) for table in (profiles, wells))
        raise InputError(
            "{} has none of the run's {} wells: its plates are {}, the run's are {}; give plate=COLUMN, well=COLUMN or "
            "one_plate=NAME".format(path, len(wells), *plates)
        )
    return _by_plate(own.difference(theirs)), _by_plate(theirs.difference(own))


def listed(wells: Wells) -> str:
    """Wells in words, a plate after the other.

    Examples
    --------
    >>> listed({"P1": ["B03", "B04"], "P2": ["C01"]})
    'P1 B03, B04; P2 C01'
    """
    return "; ".join(f"{plate} {', '.join(names)}" for plate, names in wells.items())


def _by_plate(keys: pd.MultiIndex) -> Wells:
    found: Wells = {}
    for plate, well in keys:
        found.setdefault(str(plate), []).append(str(well))
    return found

"""What can be simulated: every fault of a request, found before the first cell is drawn."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellpheno.names import PLATE_FORMATS
from cellpheno.simulate.morphology import MORPHOLOGIES
from cellpheno.simulate.optics import Channel
from cellpheno.simulate.patterns import PATTERNS

LAYOUTS = ("random", "columns")
COMPRESSIONS = (None, "zlib")
_ABOVE_0 = math.ulp(0.0)
# name: lowest and highest value, both allowed
_RANGES = {
    "wells_per_class": (1, math.inf),
    "compounds_per_class": (1, math.inf),
    "responders": (0, 1),
    "ec50_um": (_ABOVE_0, math.inf),
    "hill_slope": (_ABOVE_0, math.inf),
    "fields": (1, math.inf),
    "field_px": (32, 8192),
    "pixel_size_um": (0.05, 3.0),
    "expression_cv": (0, 3),
    "workers": (0, math.inf),
    "seed": (0, math.inf),
    "density_per_mm2": (0, 20_000),
    "clustering": (0, 1),
    "touching": (0, 1),
    "nucleus_area_um2": (10, 5_000),
    "cell_area_um2": (20, 50_000),
    "size_cv": (0, 1),
    "irregularity": (0, 0.5),
    "nucleus_gap_um": (0, 100),
    "dim": (0, 1),
    "out_of_focus": (0, 1),
    "na": (0.05, 1.7),
    "sharp_um": (0, 20),
    "defocus_um": (0, 50),
    "haze": (0, 0.9),
    "haze_um": (_ABOVE_0, 200),
    "vignetting": (0, 1),
    "gain_e_per_adu": (_ABOVE_0, math.inf),
    "read_noise_e": (0, math.inf),
    "offset_adu": (0, 65_535),
    "bits": (8, 16),
    "gradient": (-1, 1),
    "edge": (0, 1),
    "batch_brightness": (0, math.inf),
    "wavelength_um": (0.3, 1.2),
    "signal_e": (0, math.inf),
    "background_e": (0, math.inf),
    "well_cv": (0, 3),
}


def range_faults(settings: Mapping[str, Any], owner: str = "") -> list[str]:
    """Numbers outside what makes sense.

    Examples
    --------
    >>> range_faults({"responders": 1.5})
    ['responders=1.5: wanted 0 to 1']
    """
    faults = []
    for name, value in settings.items():
        if name in _RANGES:
            low, high = _RANGES[name]
            if not low <= value <= high:
                wanted = "above 0" if low == _ABOVE_0 else f"at least {low}" if math.isinf(high) else f"{low} to {high}"
                faults.append(f"{owner}{name}={value}: wanted {wanted}")
    return faults


def phenotype_faults(phenotypes: Mapping[str, Mapping[str, Any]], control: str) -> list[str]:
    """Classes without a pattern, and names of patterns and morphologies that are not there.

    Examples
    --------
    >>> phenotype_faults({"control": {"pattern": "cytosolic"}}, "DMSO")
    ["control='DMSO' is no phenotype: wanted one of control"]
    """
    faults = []
    if control not in phenotypes:
        faults.append(f"control={control!r} is no phenotype: wanted one of {', '.join(phenotypes)}")
    for name, phenotype in phenotypes.items():
        if not name:
            faults.append("phenotypes: a class has an empty name; give it one")
        if unknown := sorted(set(phenotype) - {"pattern", "morphology"}):
            faults.append(f"phenotypes.{name}: unknown {unknown}; wanted pattern and, if any, morphology")
        faults += _pattern_faults(f"phenotypes.{name}.pattern", phenotype.get("pattern"))
        if phenotype.get("morphology") and phenotype["morphology"] not in MORPHOLOGIES:
            faults.append(
                f"phenotypes.{name}.morphology={phenotype['morphology']!r}: wanted one of {', '.join(MORPHOLOGIES)}"
            )
    return faults


def _pattern_faults(key: str, pattern: Any) -> list[str]:
    """What is wrong with a phenotype's pattern: a name, a list of different names, or names with their shares."""
    names = [pattern] if isinstance(pattern, str) or pattern is None else list(pattern)
    if not names or any(name not in PATTERNS for name in names):
        return [f"{key}={pattern!r}: wanted one of {', '.join(PATTERNS)}, or several as a list"]
    if len(set(names)) < len(names):
        return [f"{key}={pattern!r}: wanted different patterns; shares are given as {{nuclear: 2, membrane: 1}}"]
    shares = list(pattern.values()) if isinstance(pattern, Mapping) else []
    if wrong := [share for share in shares if not isinstance(share, int | float) or not 0 < share < math.inf]:
        return [f"{key}={pattern!r}: share {wrong[0]!r}, wanted a number above 0"]
    return []


def channel_faults(channels: Sequence[Channel]) -> list[str]:
    """Not three channels, or names that two share or that a file name cannot hold.

    Examples
    --------
    >>> channel_faults([])
    ['channels: 0 given, wanted 3: DNA, cell mask, protein']
    """
    faults = []
    names = [c.name for c in channels]
    if len(names) != 3:
        faults.append(f"channels: {len(names)} given, wanted 3: DNA, cell mask, protein")
    if len(set(names)) < len(names) or not all(re.fullmatch(r"[A-Za-z0-9-]+", n) for n in names):
        faults.append(f"channels {names}: wanted different names of letters, digits and hyphens")
    for channel in channels:
        faults += range_faults(channel._asdict(), f"channels.{channel.name}.")
    return faults


def folder_faults(folder: Path, truth_folder: Path, names: Sequence[str]) -> list[str]:
    """List a truth that the pipeline could read, or images of another plate in the folder.

    Parameters
    ----------
    folder, truth_folder : Path
    names : sequence of str
        Files that this plate writes into ``folder``.
    """
    raw, truth = folder.absolute(), truth_folder.absolute()
    if truth == raw or raw in truth.parents or truth in raw.parents:
        return [f"truth_folder={truth_folder} and folder={folder}: wanted two folders, neither inside the other"]
    left = sorted({p.name for p in folder.glob("*.tif*")} - set(names)) if folder.is_dir() else []
    if left:
        return [f"{folder} holds {len(left)} images of another plate, such as {left[0]}; give an empty folder"]
    return []


def name_faults(plate: str, plate_format: int, layout: str, compression: str | None) -> list[str]:
    """Choices that are not among those offered.

    Examples
    --------
    >>> name_faults("P1", 50, "random", None)
    ['plate_format=50: wanted one of 6, 24, 48, 96, 384, 1536']
    """
    faults = []
    if not re.fullmatch(r"[A-Za-z0-9-]+", plate):
        faults.append(f"plate={plate!r}: wanted letters, digits and hyphens, since file names are built from it")
    if plate_format not in PLATE_FORMATS:
        faults.append(f"plate_format={plate_format}: wanted one of {', '.join(map(str, PLATE_FORMATS))}")
    if layout not in LAYOUTS:
        faults.append(f"layout={layout!r}: wanted one of {', '.join(LAYOUTS)}")
    if compression not in COMPRESSIONS:
        faults.append(f"compression={compression!r}: wanted null or zlib")
    return faults

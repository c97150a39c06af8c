"""What the work cost, in ``timing.json`` beside the ledger: wall seconds and peak memory of each unit of each step.

No result rests on it: with ``log/`` it is the only file of a folder whose bytes differ from run to run. A unit that is
skipped keeps what was measured when it was done; of a training that was resumed only the last part is measured.
"""

import functools
import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cellpheno.batch.locks import unit_lock
from cellpheno.plates.commit import commit_file

TIMING = "timing.json"
Cost = dict[str, float]  # seconds, peak_mb
_open: list[float] = []  # peak so far of each block that is measured now, the outer ones first


@contextmanager
def stopwatch() -> Iterator[Cost]:
    """Measure a block: ``seconds`` of wall clock, and ``peak_mb``, the largest resident memory in 2**20 bytes.

    It is that of the process; of this block where the system lets it begin anew (Linux), else since its start;
    it holds the libraries that are loaded, too. Blocks may be nested.

    Yields
    ------
    dict
        Empty until the block ends.

    Examples
    --------
    >>> with stopwatch() as cost:
    ...     time.sleep(0.01)
    >>> cost["seconds"] >= 0.01, cost["peak_mb"] > 1
    (True, True)
    """
    cost: Cost = {}
    _open[:] = [max(peak, _peak_mb()) for peak in _open]  # before the peak begins anew
    _open.append(0.0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    started = time.perf_counter()
    try:
        yield cost
        cost["seconds"] = round(time.perf_counter() - started, 3)
    finally:
        peak = max(_open.pop(), _peak_mb())
    cost["peak_mb"] = round(peak, 1)


def _peak_mb() -> float:
    with suppress(OSError):  # Linux: what getrusage tells cannot begin anew, and a child has its parent's
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return float(status.partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(contestants: Mapping[str, Callable[..., Any]], costs: dict[str, Cost]) -> dict[str, Callable[..., Any]]:
    """The same callables by name, each of which adds what a call costs to its entry of ``costs``.

    Parameters
    ----------
    contestants : mapping of name to callable
        Their signatures stay as they are.
    costs : dict
        ``seconds`` are summed over the calls, of ``peak_mb`` the largest is kept.

    Examples
    --------
    >>> costs = {}
    >>> double = timed({"double": lambda x: 2 * x}, costs)["double"]
    >>> double(2) + double(3), costs["double"]["seconds"] >= 0
    (10, True)
    """

    def measured(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with stopwatch() as cost:
                result = call(*args, **kwargs)
            before = costs.get(name, {"seconds": 0.0, "peak_mb": 0.0})
            seconds, peak_mb = before["seconds"] + cost["seconds"], max(before["peak_mb"], cost["peak_mb"])
            costs[name] = {"seconds": round(seconds, 3), "peak_mb": peak_mb}
            return result

        return wrapper

    return {name: measured(name, call) for name, call in contestants.items()}


def read_costs(folder: Path) -> dict[str, dict[str, Cost]]:
    """Costs by step and unit; empty where nothing was measured."""
    path = folder / TIMING
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_costs(folder: Path, step: str, costs: Mapping[str, Cost]) -> None:
    """Write the costs of some units of a step beside those that stand there, whole and at once.

    Several processes may do so at the same time.

    Parameters
    ----------
    folder : Path
        Of the ledger.
    step : str
    costs : mapping of unit to dict
    """
    with unit_lock(folder / "ledger" / "timing.lock"):
        known = read_costs(folder)
        known[step] = {**known.get(step, {}), **costs}
        with commit_file(folder / TIMING) as temporary:
            temporary.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")

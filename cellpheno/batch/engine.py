"""Units over workers: skip what is done by its key, do the rest, commit each, go on after a bad one."""

import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cellpheno.batch.ledger import USABLE, commit_step, is_done, manifest, read_record
from cellpheno.batch.locks import unit_lock
from cellpheno.batch.timing import stopwatch, write_costs
from cellpheno.batch.workers import end_workers, worker_pool
from cellpheno.bounds import Range
from cellpheno.errors import DamagedInput, InputError, Stopped
from cellpheno.plates.commit import storage_is_lost

log = logging.getLogger("cellpheno")
_ended = [0]


class Result(NamedTuple):
    """What the work on one unit gives back: status, messages that name files, files written, facts for later steps."""

    status: str
    files: Sequence[Path]
    messages: Sequence[str] = ()
    facts: Mapping[str, Any] = {}


class Job(NamedTuple):
    """One unit to do: its name, its key, and a picklable call that does it."""

    unit: str
    key: str
    work: Callable[[], Result]
    folder: Path | None = None  # its own, where the jobs of a step are of several folders


class Outcome(NamedTuple):
    """How a step ended: where its result stands, what was left out, unexpected errors."""

    path: Path
    left_out: tuple[str, ...] = ()
    bugs: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 done, 3 finished with something left out, 1 a bug."""
        return 1 if self.bugs else 3 if self.left_out else 0


def run_jobs(
    step: str,
    jobs: Sequence[Job],
    *,
    folder: Path,
    root: Path,
    workers: Annotated[int, Range(0)] = 1,
    max_failed: Annotated[int | None, Range(0)] = None,
) -> Outcome:
    """Do the jobs whose key is not in the ledger yet.

    Parameters
    ----------
    step : str
    jobs : sequence of Job
    folder : Path
        Where ``ledger/`` and ``log/`` stand.
    root : Path
        What the manifest's paths are relative to. For a job with a folder of its own that one counts for both.
    workers : int
        Processes; 1 works in this process. The result does not depend on it.
    max_failed : int, optional
        Work stops after more failed units than this; the larger of 5 and a fifth of the jobs by default.

    Raises
    ------
    Stopped
        After too many failures, or when the disk fails; what was committed stays.
    """
    started = time.monotonic()
    pending = [job for job in jobs if not is_done(_entry(step, job, folder), job.key, _place(job, folder, root)[1])]
    _say(step, jobs, pending)
    limit = max(5, len(jobs) // 5) if max_failed is None else max_failed
    bugs: list[str] = []
    failed = 0
    with closing(_each(step, pending, folder, root, workers)) as ended:
        for job, entry in ended:
            _ended[0] += 1
            if "cost" in entry:
                write_costs(job.folder or folder, step, {job.unit: entry["cost"]})
            if entry["status"] not in USABLE:
                failed += 1
                bugs += [f"{job.unit}: {entry['messages'][-1]}"] if entry.get("bug") else []
                log.warning("%s %s: %s: %s", step, job.unit, entry["status"], "; ".join(entry["messages"]))
            if failed > limit:
                raise Stopped(
                    f"{step}: {failed} of {len(jobs)} units failed, more than max_failed={limit}; see {folder}/ledger"
                )
    entries = [(job.unit, _entry(step, job, folder) or {}) for job in jobs]
    if pending:
        counts = Counter(entry.get("status", "failed") for _, entry in entries)
        told = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
        log.info("%s: %s in %.1f s", step, told, time.monotonic() - started)
    left_out = [f"{unit}: {'; '.join(e['messages'])}" for unit, e in entries if e and _lost(e)]
    return Outcome(folder, tuple(left_out), tuple(bugs))


def jobs_ended() -> int:
    """Number of jobs that `run_jobs` has done in this process: whether a step that is refused had done some by then."""
    return _ended[0]


def _entry(step: str, job: Job, folder: Path) -> dict[str, Any] | None:
    """What the ledger says of a job."""
    return read_record(job.folder or folder, job.unit).get(step)


def _place(job: Job, folder: Path, root: Path) -> tuple[Path, Path]:
    """Folder of a job's ledger, and what its manifest's paths are relative to: its own counts for both."""
    return (folder, root) if job.folder is None else (job.folder, job.folder)


def _lost(entry: Mapping[str, Any]) -> bool:
    return entry["status"] not in ("done", "warned")


def _say(step: str, jobs: Sequence[Job], pending: Sequence[Job]) -> None:
    if not pending:
        log.info("%s: done already, all %d keys unchanged", step, len(jobs))
    elif len(pending) < len(jobs):
        log.info("%s: %d of %d done already, %d to do", step, len(jobs) - len(pending), len(jobs), len(pending))
    else:
        log.info("%s: %d to do", step, len(jobs))


def do_job(step: str, job: Job, folder: Path, root: Path) -> dict[str, Any]:
    """Do one unit under its lock and commit it; a damaged input or an unexpected error sets the unit aside.

    Returns
    -------
    dict
        The entry of the ledger, and beside it the ``cost`` of what was done. An unexpected error is marked ``bug`` and
        not committed, so that it is tried again.
    """
    with unit_lock(folder / "ledger" / f"{job.unit}.lock"):
        entry = read_record(folder, job.unit).get(step)
        if entry is not None and is_done(entry, job.key, root):
            return dict(entry)  # another process was faster
        try:
            with stopwatch() as cost:
                result = job.work()
        except DamagedInput as error:
            result = Result("quarantined", (), error.faults)
        except InputError:
            raise  # no fault of this unit: the request is wrong for all
        except OSError as error:
            if storage_is_lost(error):
                raise Stopped(f"{step} {job.unit}: {error.strerror}: {error.filename}") from error
            return _unexpected(step, job, folder, error)
        except Exception as error:
            return _unexpected(step, job, folder, error)
        entry = {
            "key": job.key,
            "status": result.status,
            "messages": list(result.messages),
            "files": manifest(root, list(result.files)),
            "facts": dict(result.facts),
        }
        commit_step(folder, job.unit, step, entry)
        return {**entry, "cost": cost} if cost else entry


def _unexpected(step: str, job: Job, folder: Path, error: Exception) -> dict[str, Any]:
    path = folder / "log" / f"{step}-{job.unit}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return {"status": "quarantined", "messages": [f"{type(error).__name__}: {error} (see {path})"], "bug": True}


def _each(
    step: str, jobs: Sequence[Job], folder: Path, root: Path, workers: int
) -> Generator[tuple[Job, dict[str, Any]]]:
    with _progress(step, len(jobs)) as advance:
        if workers <= 1:
            end_workers()
        if workers <= 1 or len(jobs) <= 1:
            for job in jobs:
                yield job, do_job(step, job, *_place(job, folder, root))
                advance()
            return
        try:
            with worker_pool(workers) as pool:
                futures = {pool.submit(do_job, step, job, *_place(job, folder, root)): job for job in jobs}
                for future in as_completed(futures):
                    yield futures[future], future.result()
                    advance()
        except BrokenProcessPool as error:
            raise Stopped("a worker process died (out of memory?); try fewer workers: engine.workers=1") from error


@contextmanager
def _progress(step: str, total: int) -> Iterator[Callable[[], None]]:
    if not sys.stderr.isatty() or not total:
        yield lambda: None
        return
    columns = (TextColumn(f"{step:>14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(step, total=total)
        yield lambda: bar.advance(task)

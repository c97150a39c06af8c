"""Worker processes: kept within a run, gone with it, and gone with a main process that was killed."""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cellpheno.batch.engine import Job, Result, run_jobs
from cellpheno.batch.workers import kept_workers
from cellpheno.errors import Stopped


def says_who(folder: Path, step: str, unit: str, seconds: float = 0.2) -> Result:
    path = folder / f"{step}-{unit}-{os.getpid()}"
    path.write_text(os.environ["OMP_NUM_THREADS"])
    time.sleep(seconds)
    return Result("done", [path])


def processes(folder: Path, step: str) -> set[int]:
    jobs = [Job(unit, "k", functools.partial(says_who, folder, step, unit)) for unit in ("a", "b", "c", "d")]
    run_jobs(step, jobs, folder=folder, root=folder, workers=2)
    return {int(path.name.split("-")[2]) for path in folder.glob(f"{step}-*")}


def test_steps_of_a_run_share_their_workers_of_one_thread_each(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with kept_workers():
        first, second = processes(tmp_path, "one"), processes(tmp_path, "two")
        assert len(first | second) <= 2  # one may do all before the other has begun
        assert os.getpid() not in first
        kept = multiprocessing.active_children()
        run_jobs("alone", [], folder=tmp_path, root=tmp_path, workers=1)
        assert kept
        assert not multiprocessing.active_children()
        third = processes(tmp_path, "three")
    assert not third & first
    assert not multiprocessing.active_children()
    assert {path.read_text() for path in tmp_path.glob("*-*-*")} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_workers_that_died_while_they_waited_are_replaced(tmp_path):
    with kept_workers():
        first = processes(tmp_path, "one")
        for process in first:
            os.kill(process, signal.SIGKILL)
        assert _wait(lambda: not any(map(_runs, first)))
        assert not processes(tmp_path, "two") & first


def dies(folder: Path) -> Result:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_worker_that_dies_at_work_is_said_and_the_next_step_has_new_ones(tmp_path):
    jobs = [Job(unit, "k", functools.partial(dies, tmp_path)) for unit in ("a", "b")]
    with kept_workers():
        first = processes(tmp_path, "one")
        with pytest.raises(Stopped, match=r"a worker process died .*engine.workers=1"):
            run_jobs("dies", jobs, folder=tmp_path, root=tmp_path, workers=2)
        assert not processes(tmp_path, "two") & first


def test_steps_of_few_and_of_many_units_share_the_same_workers(tmp_path):
    with kept_workers():
        for n in (2, 3, 4, 3):
            jobs = [Job(f"{n}{i}", "k", functools.partial(says_who, tmp_path, f"s{n}", str(i))) for i in range(n)]
            run_jobs(f"s{n}", jobs, folder=tmp_path, root=tmp_path, workers=3)
        assert len(multiprocessing.active_children()) <= 3


def pair(folder: Path) -> list[int]:
    found = [int(path.name.split("-")[2]) for path in folder.glob("slow-*")]
    return found if len(found) == 2 else []


def slow_steps(folder: Path) -> None:
    jobs = [Job(unit, "k", functools.partial(says_who, folder, "slow", unit, 3600)) for unit in ("a", "b")]
    run_jobs("slow", jobs, folder=folder, root=folder, workers=2)


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_workers_end_with_a_main_process_that_was_killed(tmp_path):
    call = f"from tests.batch.test_workers import *; slow_steps(Path({str(tmp_path)!r}))"
    main = subprocess.Popen([sys.executable, "-c", call], cwd=Path(__file__).parents[2])
    workers = _wait(lambda: pair(tmp_path))
    main.kill()
    main.wait()
    assert len(workers) == 2
    assert _wait(lambda: not any(map(_runs, workers)))


def _wait(until, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (found := until()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.is_file() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"

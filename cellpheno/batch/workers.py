"""Worker processes: spawned, with one thread each, kept from step to step of a run, gone with the main process."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar

THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_kept: ContextVar[list[tuple[int, ProcessPoolExecutor]] | None] = ContextVar("kept worker processes", default=None)


@contextmanager
def kept_workers() -> Iterator[None]:
    """Steps within share their workers: to start one and to load the libraries takes seconds."""
    token = _kept.set([])
    try:
        yield
    finally:
        end_workers()
        _kept.reset(token)


def end_workers() -> None:
    """End workers that are kept: a step in the main process may want their memory."""
    kept = _kept.get() or []
    while kept:
        kept.pop()[1].shutdown(cancel_futures=True)


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Spawned workers, for a forked copy of a process that has used Zarr can hang; an error ends them at once.

    They start as jobs come, so that few jobs have few.
    """
    kept = _kept.get()
    if kept and (kept[0][0] != workers or not _lives(kept[0][1])):
        end_workers()
    if kept:
        pool = kept[0][1]
    else:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        with _one_thread_each():
            yield pool
    except BaseException:
        for process in multiprocessing.active_children():  # a fold takes minutes; what was committed stays
            process.kill()  # a training takes SIGTERM for an exception of its own, and its worker would wait for more
        pool.shutdown(cancel_futures=True)
        if kept:
            kept.clear()
        raise
    if kept is None:
        pool.shutdown()
    elif not kept:
        kept.append((workers, pool))


def _lives(pool: ProcessPoolExecutor) -> bool:
    """Whether workers that waited are there still; the system may have ended one for its memory."""
    try:
        return pool.submit(os.getpid).result() > 0
    except BrokenProcessPool:
        return False


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limits of threads that workers inherit when they start, which is at the first job."""
    saved = {name: os.environ.get(name) for name in THREAD_LIMITS}
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A main process that was killed cannot end its workers: they would work on, then wait for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)

"""A lock on one unit: a file with host and process, kept young by a heartbeat."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HEARTBEAT_S = 20.0
STALE_S = 180.0  # nine heartbeats missed: the holder is gone, whatever its host
POLL_S = 0.2


@contextmanager
def unit_lock(path: Path) -> Iterator[None]:
    """Hold ``path`` while a unit is worked on; wait while another process holds it.

    A lock is given up for dead when its process is gone (same host) or its heartbeat is older than `STALE_S`.
    Creation with ``O_EXCL`` is atomic on network disks too, where ``flock`` may not be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while not _take(path):
        if _is_dead(path):
            with suppress(FileNotFoundError):
                path.rename(path.with_suffix(f".dead-{os.getpid()}"))
                path.with_suffix(f".dead-{os.getpid()}").unlink()
        else:
            time.sleep(POLL_S)
    stopped = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stopped), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stopped.set()
        beat.join()
        path.unlink(missing_ok=True)


def _take(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump({"host": socket.gethostname(), "pid": os.getpid()}, stream)
    return True


def _is_dead(path: Path) -> bool:
    try:
        age = time.time() - path.stat().st_mtime
        holder = json.loads(path.read_text(encoding="utf-8") or "{}")
    except (FileNotFoundError, json.JSONDecodeError):
        return False  # released, or not fully written yet
    if age > STALE_S:
        return True
    if holder.get("host") != socket.gethostname() or "pid" not in holder:
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _beat(path: Path, stopped: threading.Event) -> None:
    while not stopped.wait(HEARTBEAT_S):
        with suppress(FileNotFoundError):
            os.utime(path)

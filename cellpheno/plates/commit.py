"""Commits and manifests: a file or folder is whole under its name or absent, and its bytes can be checked later."""

import errno
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_LOST = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EMFILE,
    errno.ENFILE,
}


def storage_is_lost(error: BaseException) -> bool:
    """Whether an error tells of the disk or the mount and not of one file, so that no file may be blamed for it.

    Examples
    --------
    >>> storage_is_lost(OSError(errno.EIO, "I/O error")), storage_is_lost(OSError("image file is truncated"))
    (True, False)
    """
    return isinstance(error, OSError) and error.errno in _LOST


def _sync(path: Path) -> None:
    """Ask the disk to keep a file or a folder's listing."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def commit_file(path: str | os.PathLike[str], *, shared: bool = False) -> Iterator[Path]:
    """Write a file under a temporary name beside it; it takes its own name when the block ends without an error.

    Parameters
    ----------
    path : path of the file; its folder is made where missing
    shared : bool
        Whether several processes may write the file at once: the temporary name is then each process's own. Otherwise
        it is always the same, so that a later run overwrites what a killed one left behind.

    Yields
    ------
    Path
        The temporary name to write to.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with commit_file(target) as temporary:
    ...     _ = temporary.write_text("42")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('42', 1)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = f".{socket.gethostname()}.{os.getpid()}" if shared else ""
    temporary = path.with_name(f".{path.name}{owner}.partial")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def commit_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill ``NAME.partial``; it replaces the folder ``NAME`` when the block ends without an error.

    One process may write a folder at a time. What a killed run left (``NAME.partial``, ``NAME.old``) is removed first.

    Yields
    ------
    Path
        The empty folder to fill.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "0"
    >>> with commit_folder(target) as partial:
    ...     _ = (partial / "pixels").write_bytes(b"1234")
    >>> partial.name, [file.name for file in target.iterdir()]
    ('0.partial', ['pixels'])
    """
    path = Path(path)
    partial, old = path.with_name(path.name + ".partial"), path.with_name(path.name + ".old")
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for folder, _, files in os.walk(partial, topdown=False):
            for name in files:
                _sync(Path(folder, name))
            _sync(Path(folder))
        if path.exists():
            path.rename(old)  # a folder cannot be renamed onto a filled one
        partial.rename(path)
        _sync(path.parent)
    finally:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)


def hash_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "empty"
    >>> _ = file.write_bytes(b"")
    >>> hash_file(file)[:8]
    'e3b0c442'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tree(folder: str | os.PathLike[str]) -> dict[str, dict[str, int | str]]:
    """Manifest of a folder: the size in bytes and the SHA-256 of every file below it, sorted by path.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_bytes(b"abc")
    >>> hash_tree(folder)["a.txt"]["size"]
    3
    """
    folder = Path(folder)
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: {"size": files[name].stat().st_size, "sha256": hash_file(files[name])} for name in sorted(files)}


def verify_tree(folder: str | os.PathLike[str], manifest: Mapping[str, Mapping[str, int | str]]) -> tuple[str, ...]:
    """All differences between a folder and its manifest: files missing, empty, changed or not listed.

    Parameters
    ----------
    folder : path
    manifest : mapping as `hash_tree` made it

    Returns
    -------
    tuple of str
        One line a fault, in order of the files' paths; empty where the folder is as it was.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_bytes(b"abc")
    >>> manifest = hash_tree(folder)
    >>> _ = (folder / "a.txt").write_bytes(b"abd")
    >>> verify_tree(folder, manifest)
    ('a.txt: changed (same size, other SHA-256)',)
    """
    now, faults = hash_tree(folder), []
    for name in sorted({*now, *manifest}):
        if name not in now:
            faults.append(f"{name}: missing")
        elif name not in manifest:
            faults.append(f"{name}: not in the manifest")
        elif now[name]["size"] != manifest[name]["size"]:
            size = f"{now[name]['size']} bytes, {manifest[name]['size']} in the manifest"
            faults.append(f"{name}: {'zero-byte' if now[name]['size'] == 0 else 'changed'} ({size})")
        elif now[name]["sha256"] != manifest[name]["sha256"]:
            faults.append(f"{name}: changed (same size, other SHA-256)")
    return tuple(faults)

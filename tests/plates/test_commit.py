import hashlib
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellpheno.errors import DamagedInput
from cellpheno.plates.commit import commit_file, commit_folder, hash_file, hash_tree, verify_tree


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write_and_fail(commit) -> None:
    with commit as temporary:
        (temporary / "new" if temporary.is_dir() else temporary).write_text("new")
        1 / 0


def test_file_is_the_old_one_until_the_block_ends_and_stays_it_on_an_error(tmp_path):
    target = tmp_path / "sub" / "a.txt"
    with commit_file(target) as temporary:
        temporary.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(commit_file(target, shared=True))
    assert tree(tmp_path) == {"sub/a.txt": b"old"}


def test_folder_replaces_the_old_one_whole_and_stays_it_on_an_error(tmp_path):
    target = tmp_path / "0"
    with commit_folder(target) as partial:
        (partial / "labels").mkdir()
        (partial / "labels" / "old").write_bytes(b"1")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(commit_folder(target))
    assert tree(tmp_path) == {"0/labels/old": b"1"}
    with commit_folder(target) as partial:
        (partial / "new").write_bytes(b"2")
    assert tree(tmp_path) == {"0/new": b"2"}


def write_and_hang(target: Path) -> None:
    with commit_folder(target) as partial:
        (partial / "half").write_bytes(b"1")
        (target.parent / "ready").touch()
        time.sleep(60)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=write_and_hang, args=(tmp_path / "0",))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / "0.partial").exists()
    with commit_folder(tmp_path / "0") as partial:
        (partial / "whole").write_bytes(b"2")
    assert tree(tmp_path) == {"ready": b"", "0/whole": b"2"}


@given(st.dictionaries(st.text("ab/", min_size=1).filter(lambda s: "//" not in s and s.strip("/") == s), st.binary()))
def test_manifest_is_size_and_sha256_of_each_file(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("tree")
    written = {}
    for name, content in files.items():
        path = folder / name
        if any(p.is_file() for p in path.parents) or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = hash_tree(folder)
    assert manifest == written
    assert list(manifest) == sorted(manifest)
    assert verify_tree(folder, manifest) == ()


def test_verify_tells_every_kind_of_fault_at_once(tmp_path):
    for name in ("changed", "flipped", "gone", "same", "zero"):
        (tmp_path / name).write_bytes(b"12345")
    manifest = hash_tree(tmp_path)
    (tmp_path / "changed").write_bytes(b"1234")
    (tmp_path / "flipped").write_bytes(b"12344")
    (tmp_path / "gone").unlink()
    (tmp_path / "zero").write_bytes(b"")
    (tmp_path / "extra").write_bytes(b"1")
    assert verify_tree(tmp_path, manifest) == (
        "changed: changed (4 bytes, 5 in the manifest)",
        "extra: not in the manifest",
        "flipped: changed (same size, other SHA-256)",
        "gone: missing",
        "zero: zero-byte (0 bytes, 5 in the manifest)",
    )


def test_hash_of_a_file_equals_hashlib(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 10**6)
    assert hash_file(tmp_path / "a") == hashlib.sha256(b"abc" * 10**6).hexdigest()


def test_faults_survive_the_way_from_a_worker():
    assert pickle.loads(pickle.dumps(DamagedInput("a", "b"))).faults == ("a", "b")

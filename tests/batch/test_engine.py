import functools
import inspect
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from cellpheno.batch.engine import Job, Outcome, Result, run_jobs
from cellpheno.batch.keys import make_key
from cellpheno.batch.ledger import commit_step, is_done, manifest, read_record, status_table, verify
from cellpheno.batch.locks import unit_lock
from cellpheno.batch.timing import read_costs, timed, write_costs
from cellpheno.errors import DamagedInput, Stopped


def write_square(folder, unit, value):
    path = folder / f"{unit}.txt"
    path.write_text(str(value**2))
    with (folder / "calls.log").open("a") as log:
        log.write(f"{unit}\n")
    return Result("done", [path], (), {"n_cells": value})


def damaged(folder, unit):
    raise DamagedInput(f"{unit}_w1.tif is cut short")


def broken(folder, unit):
    raise ZeroDivisionError("oh")


def full_disk(folder, unit):
    raise OSError(28, "No space left on device", f"{unit}.txt")


def endless(folder, unit):
    signal.signal(signal.SIGTERM, lambda *_: None)  # as Lightning does in a training
    (folder / "endless").write_text("")
    while True:
        time.sleep(3600)


def late_full_disk(folder, unit):
    while not (folder / "endless").exists():
        time.sleep(0.05)
    full_disk(folder, unit)


def jobs_for(folder, values):
    return [Job(u, make_key("square", v=v), functools.partial(write_square, folder, u, v)) for u, v in values.items()]


def run(folder, jobs, **options):
    return run_jobs("square", jobs, folder=folder, root=folder, **options)


def calls(folder):
    return sorted((folder / "calls.log").read_text().split())


@pytest.mark.parametrize("workers", [1, 2])
def test_only_what_changed_is_done_again(tmp_path, workers):
    run(tmp_path, jobs_for(tmp_path, {"A01": 1, "A02": 2}), workers=workers)
    run(tmp_path, jobs_for(tmp_path, {"A01": 1, "A02": 2}), workers=workers)
    assert calls(tmp_path) == ["A01", "A02"]
    run(tmp_path, jobs_for(tmp_path, {"A01": 1, "A02": 5}), workers=workers)
    assert calls(tmp_path) == ["A01", "A02", "A02"]
    assert (tmp_path / "A02.txt").read_text() == "25"


def test_the_ledger_has_the_same_bytes_whatever_the_workers(tmp_path):
    for name, workers in {"one": 1, "two": 2}.items():
        (tmp_path / name).mkdir()
        run(tmp_path / name, jobs_for(tmp_path / name, {"A01": 1, "A02": 2, "A03": 3}), workers=workers)
    for unit in ("A01", "A02", "A03"):
        path = f"ledger/{unit}.json"
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_a_file_that_vanished_is_made_again(tmp_path):
    run(tmp_path, jobs_for(tmp_path, {"A01": 3}))
    (tmp_path / "A01.txt").unlink()
    run(tmp_path, jobs_for(tmp_path, {"A01": 3}))
    assert (tmp_path / "A01.txt").read_text() == "9"


def test_a_damaged_unit_is_set_aside_by_name_and_the_others_go_on(tmp_path):
    jobs = [Job("A09", "k", functools.partial(damaged, tmp_path, "A09")), *jobs_for(tmp_path, {"A01": 1})]
    outcome = run(tmp_path, jobs)
    assert outcome.exit_code == 3
    assert outcome.left_out == ("A09: A09_w1.tif is cut short",)
    assert (tmp_path / "A01.txt").exists()
    table = status_table(tmp_path, "P1", ["A09", "A01", "B05"]).set_index("Metadata_Well")
    assert table["status"].to_dict() == {"A09": "quarantined", "A01": "done", "B05": "missing"}
    assert "A09_w1.tif" in table.loc["A09", "messages"]
    assert run(tmp_path, jobs).left_out == outcome.left_out  # known by its key, and still said


def test_an_unexpected_error_is_kept_apart_logged_and_tried_again(tmp_path):
    outcome = run(
        tmp_path, [Job("A01", "k", functools.partial(broken, tmp_path, "A01")), *jobs_for(tmp_path, {"A02": 1})]
    )
    assert outcome.exit_code == 1
    assert "ZeroDivisionError" in (tmp_path / "log" / "square-A01.txt").read_text()
    assert read_record(tmp_path, "A01") == {}
    assert run(tmp_path, jobs_for(tmp_path, {"A01": 2, "A02": 1})).exit_code == 0


def test_too_many_failures_stop_the_work(tmp_path):
    units = [f"A{i:02d}" for i in range(1, 9)]
    with pytest.raises(Stopped, match="3 of 8 units failed"):
        run(tmp_path, [Job(u, "k", functools.partial(damaged, tmp_path, u)) for u in units], max_failed=2)


def test_a_full_disk_stops_the_work_and_blames_no_well(tmp_path):
    with pytest.raises(Stopped, match="No space left"):
        run(tmp_path, [Job("A01", "k", functools.partial(full_disk, tmp_path, "A01"))])
    assert read_record(tmp_path, "A01") == {}


def test_verify_names_what_changed_and_what_is_lost(tmp_path):
    run(tmp_path, jobs_for(tmp_path, {"A01": 3, "A02": 4}))
    assert verify(tmp_path, tmp_path) == []
    (tmp_path / "A01.txt").write_text("8")
    (tmp_path / "A02.txt").unlink()
    assert verify(tmp_path, tmp_path) == [
        "A01: A01.txt has changed since square wrote it; run square again",
        "A02: A02.txt is missing; run square again",
    ]


def test_a_step_is_not_done_under_another_key(tmp_path):
    (tmp_path / "a").write_text("x")
    entry = {"key": "k", "status": "done", "messages": [], "files": manifest(tmp_path, [tmp_path / "a"]), "facts": {}}
    commit_step(tmp_path, "A01", "s", entry)
    stored = read_record(tmp_path, "A01")["s"]
    assert is_done(stored, "k", tmp_path)
    assert not is_done(stored, "other", tmp_path)
    assert not is_done(None, "k", tmp_path)


def hold(path, seconds):
    with unit_lock(path):
        (path.parent / "held").write_text("")
        time.sleep(seconds)


def test_a_second_process_waits_for_the_lock(tmp_path):
    lock = tmp_path / "A01.lock"
    holder = multiprocessing.get_context("spawn").Process(target=hold, args=(lock, 1.0))
    holder.start()
    while not (tmp_path / "held").exists():
        assert holder.is_alive()
        time.sleep(0.01)
    with unit_lock(lock):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
        holder.join()
    assert holder.exitcode == 0
    assert not lock.exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path):
    lock = tmp_path / "A01.lock"
    dead = multiprocessing.get_context("spawn").Process(target=os.getpid)
    dead.start()
    dead.join()
    lock.write_text(json.dumps({"host": os.uname().nodename, "pid": dead.pid}))
    with unit_lock(lock):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_of_several_folders_are_done_in_one_go(tmp_path, workers):
    places = [tmp_path / name for name in ("one", "two")]
    for place in places:
        place.mkdir()
    jobs = [
        Job(unit, "k", functools.partial(write_square, place, unit, 3), place)
        for place in places
        for unit in ("A01", "A02")
    ]
    run(tmp_path, jobs, workers=workers)
    for place in places:
        assert verify(place, place) == []
        assert set(read_record(place, "A01")["square"]["files"]) == {"A01.txt"}
        assert set(read_costs(place)["square"]) == {"A01", "A02"}
        alone = [job._replace(folder=None) for job in jobs if job.folder == place]
        assert run_jobs("square", alone, folder=place, root=place).left_out == ()
        assert sorted((place / "calls.log").read_text().split()) == ["A01", "A02"]  # each once
    assert not (tmp_path / "ledger").exists()


def test_outcomes_become_exit_codes(tmp_path):
    assert [
        Outcome(tmp_path).exit_code,
        Outcome(tmp_path, ("a",)).exit_code,
        Outcome(tmp_path, ("a",), ("b",)).exit_code,
    ] == [0, 3, 1]


def test_a_stop_does_not_wait_for_what_the_other_workers_are_at(tmp_path):
    jobs = [
        Job(name, "k", functools.partial(work, tmp_path, name))
        for name, work in (("a", endless), ("b", late_full_disk))
    ]
    with pytest.raises(Stopped, match="No space left"):  # an hour otherwise
        run_jobs("square", jobs, folder=tmp_path, root=tmp_path, workers=2)
    assert not multiprocessing.active_children()


def waits(folder, unit, seconds):
    time.sleep(seconds)
    return write_square(folder, unit, 2)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_cost_of_each_unit_is_kept_beside_the_ledger_and_only_there(tmp_path, workers):
    times = {"A01": 0.05, "A02": 0.2}
    jobs = [Job(u, "k", functools.partial(waits, tmp_path, u, s)) for u, s in times.items()]
    run(tmp_path, jobs, workers=workers)
    write_costs(tmp_path, "other", {"x": {"seconds": 1.0, "peak_mb": 2.0}})
    before = (tmp_path / "timing.json").read_bytes()
    found = read_costs(tmp_path)
    assert found["other"] == {"x": {"seconds": 1.0, "peak_mb": 2.0}}
    for unit, seconds in times.items():
        assert seconds <= found["square"][unit]["seconds"] < 10
        assert 5 < found["square"][unit]["peak_mb"] < 10000
        assert set(read_record(tmp_path, unit)["square"]) == {"key", "status", "messages", "files", "facts"}
    run(tmp_path, jobs, workers=workers)
    assert (tmp_path / "timing.json").read_bytes() == before  # what is skipped keeps its cost


MEMORY = """
from cellpheno.batch.timing import stopwatch

with stopwatch() as outer:
    with stopwatch() as large:
        numbers = b"x" * (200 * 2**20)  # written, so that it is there
        del numbers
    with stopwatch() as small:
        pass
print(large["peak_mb"], small["peak_mb"], outer["peak_mb"])
"""


def test_memory_is_that_of_the_block_and_an_outer_block_sees_the_inner_one():
    told = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    large, small, outer = map(float, told.split())
    assert large > small + 20  # Linux, where the peak can begin anew; some kernels take idle pages back at once
    assert outer >= large


def test_the_calls_of_a_contestant_add_up_and_its_signature_stays():
    costs = {}
    made = timed({"wait": functools.partial(lambda seconds, grid=(): time.sleep(seconds), grid=[1, 2])}, costs)["wait"]
    made(0.02)
    made(0.03)
    assert 0.05 <= costs["wait"]["seconds"] < 5
    assert inspect.signature(made).parameters["grid"].default == [1, 2]


def test_what_was_set_aside_is_tried_again_though_its_key_is_the_same(tmp_path):
    """Crops that were cut again are the same bytes, under the same key."""
    run(tmp_path, [Job("A01", "k", functools.partial(damaged, tmp_path, "A01"))])
    (repaired,) = jobs_for(tmp_path, {"A01": 3})
    assert run(tmp_path, [repaired._replace(key="k")]).exit_code == 0
    assert (tmp_path / "A01.txt").read_text() == "9"

"""One process at a time has the right to run a queue, and the others can tell who."""

import fcntl
import os
import sys
from contextlib import contextmanager

import pytest

from oq.errors import StoreInUse, StoreUnavailable
from oq.store.lmdb.runlock import FILE, RunLock


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """Makes locks as different processes would: the kernel goes by the open file."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/oq", "run", "--queue", "here"])
    locks = []

    def make():
        locks.append(RunLock(tmp_path, "here"))
        return locks[-1]

    yield make
    for lock in locks:
        lock.release()


@contextmanager
def somebody_looking(directory):
    """Hold the file as `holder` does for a moment."""
    descriptor = os.open(directory / FILE, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def test_at_first_nobody_has_it(lock):
    assert lock().holder() is None


def test_who_has_it_can_be_told_by_process_host_and_command(lock):
    lock().acquire()
    assert lock().holder().startswith(f"process {os.getpid()} on {os.uname().nodename} (oq run --queue here), since 20")


def test_a_module_that_was_started_is_called_by_its_package(lock, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/lib/oq/__main__.py", "run"])
    lock().acquire()
    assert "(oq run)" in lock().holder()


def test_a_second_one_is_refused_with_who_has_it(lock):
    lock().acquire()
    with pytest.raises(StoreInUse, match=f"the queue in here is run by process {os.getpid()} on "):
        lock().acquire()


def test_so_is_the_same_one_again(lock):
    first = lock()
    first.acquire()
    assert first.holder() == "this process"
    with pytest.raises(StoreInUse, match="another queue of this process"):
        first.acquire()


def test_given_back_it_is_free(lock):
    first = lock()
    first.acquire()
    first.release()
    first.release()
    assert lock().holder() is None
    lock().acquire()


def test_a_holder_that_has_not_signed_yet_is_some_process(lock, tmp_path):
    lock().acquire()
    (tmp_path / FILE).write_bytes(b"")
    assert lock().holder() == "another process"


def test_one_that_looks_does_not_have_it(lock, tmp_path):
    (tmp_path / FILE).touch()
    with somebody_looking(tmp_path):
        assert lock().holder() is None


def test_one_that_looks_only_delays_whoever_wants_it(lock, tmp_path, monkeypatch):
    (tmp_path / FILE).touch()
    looking = somebody_looking(tmp_path)
    looking.__enter__()
    monkeypatch.setattr(os, "sched_yield", lambda: looking.__exit__(None, None, None))
    lock().acquire()
    assert lock().holder() is not None


def test_one_that_never_ends_to_look_is_taken_for_the_holder(lock, tmp_path, monkeypatch):
    monkeypatch.setattr("oq.store.lmdb.runlock._TRIES", 10)
    (tmp_path / FILE).touch()
    with somebody_looking(tmp_path), pytest.raises(StoreInUse, match="another process"):
        lock().acquire()


def test_a_file_that_cannot_be_written_is_told(lock, tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(StoreUnavailable, match="the store in here cannot write: "):
        lock().acquire()

"""Whoever changes a directory rings at every other process that uses it."""

import logging
import os
import resource
import select
import socket

import pytest

from oq.store.lmdb.doorbell import DIRECTORY, Doorbell


@pytest.fixture
def hang(tmp_path):
    """Makes bells in one directory."""
    bells = []

    def make(directory=tmp_path):
        bells.append(Doorbell(directory))
        return bells[-1]

    yield make
    for bell in bells:
        bell.close()


def rang(bell):
    return bool(select.select([bell.fileno()], [], [], 0)[0])


def test_a_ring_is_heard_by_all_others_and_not_by_oneself(hang):
    bells = [hang() for _ in range(3)]
    bells[0].ring()
    assert [rang(bell) for bell in bells] == [False, True, True]


def test_once_taken_note_of_it_is_over(hang):
    one, other = hang(), hang()
    one.ring()
    one.ring()
    other.drain()
    assert not rang(other)


def test_there_may_be_more_rings_than_anybody_takes_note_of(hang):
    one, other = hang(), hang()
    for _ in range(10_000):
        one.ring()
    assert rang(other)


def test_one_that_is_taken_down_leaves_nothing(hang, tmp_path):
    bell = hang()
    assert os.listdir(tmp_path / DIRECTORY)  # noqa: PTH208
    bell.close()
    bell.close()
    assert os.listdir(tmp_path / DIRECTORY) == []  # noqa: PTH208


def test_that_of_a_killed_process_is_cleared_away(hang, tmp_path):
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    (tmp_path / DIRECTORY).mkdir()
    dead.bind(str(tmp_path / DIRECTORY / "dead"))
    dead.close()
    hang().ring()
    assert "dead" not in os.listdir(tmp_path / DIRECTORY)  # noqa: PTH208


def test_what_is_no_socket_is_left_alone(hang, tmp_path):
    one, other = hang(), hang()
    (tmp_path / DIRECTORY / "subdirectory").mkdir()
    one.ring()
    assert rang(other)


def test_the_directory_may_have_a_long_name(hang, tmp_path):
    deep = tmp_path / ("d" * 150)
    deep.mkdir()
    one, other = hang(deep), hang(deep)
    one.ring()
    assert rang(other)


def test_where_there_can_be_none_a_warning_says_so_and_all_goes_on(hang, tmp_path, caplog):
    (tmp_path / DIRECTORY).write_text("in the way")
    with caplog.at_level(logging.WARNING):
        bell = hang()
    assert "are noticed late" in caplog.text
    assert bell.fileno() is None
    bell.ring()
    bell.drain()


def test_a_process_with_too_many_files_open_rings_at_nobody_and_goes_on(hang, caplog):
    one, other = hang(), hang()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (one.fileno(), hard))
    try:
        one.ring()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "notice a change" in caplog.text
    assert not rang(other)

"""The crash campaign in its short form (`make torture` is the long one), and what full disks and damage must not do."""

import json
import random
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package

from torture.flips import RECORDS, flip_record, populate, set_number, wrong_answers, wrong_runs
from torture.scribe import Scribe
from torture.torn import cut_power
from torture.trace import reason_to_skip
from torture.work import Work, Worker

import oq
from oq.choose import Offer
from oq.config import SchedulerSettings, Settings
from oq.errors import QueueFull, StoreUnavailable
from oq.plugins import built_in_plugins
from oq.store.base import Added, AddMany, Advance, Claim, Claimed, Finish, Finished, PutValue, Succeeded
from oq.store.lmdb import LmdbStore
from oq.store.lmdb import environment as environment_module
from oq.store.lmdb import ops as ops_module
from oq.store.lmdb import store as store_module
from oq.store.lmdb.layout import TABLES
from oq.task import Status, TaskSpec

TESTS = Path(__file__).parent

needs_strace = pytest.mark.skipif(reason_to_skip() is not None, reason=str(reason_to_skip()))


def module(name, *arguments, **options):
    """Run a module of the campaign in a process of its own."""
    command = [*options.pop("under", ()), sys.executable, "-m", f"torture.{name}", *map(str, arguments)]
    return subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False, **options)


# Processes killed


def test_processes_killed_in_the_middle_of_any_op_lose_nothing_and_double_nothing():
    ran = module("__main__", "kills", "--each", 2, "--seconds", 15, "--seed", random.randrange(10**6))
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("plant", ["index", "two-transactions"])
def test_the_campaign_finds_a_planted_bug(plant):
    ran = module("__main__", "kills", "--each", 200, "--seconds", 40, "--plant", plant, "--kind", "claim")
    assert ran.returncode == 1, ran.stdout + ran.stderr


# Power cut


@needs_strace
@pytest.mark.parametrize("durability", ["strict", "relaxed"])
def test_whatever_a_power_cut_leaves_on_the_disk_is_a_sound_store_with_all_that_was_acknowledged(durability):
    report = cut_power(50, seed=random.randrange(10**6), steps=30, durability=durability)
    assert report.broken == []


@needs_strace
def test_a_store_that_does_not_sync_is_found_out_by_the_power_cut():
    assert cut_power(15, seed=1, steps=20, plant="no-sync").broken


# Disks that refuse


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two mebibytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(place):
    """Leave no room; gives the file to delete for having it again."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


@pytest.fixture
def journal():
    """What the worker did, in memory."""

    class Entries(list):
        def write(self, *entry):
            self.append(entry)

    return Entries()


def queue_in(place, journal, **options):
    return oq.open_queue(
        place,
        executors=[Worker(journal)],
        plugins=built_in_plugins(),
        settings=Settings(scheduler=SchedulerSettings(grace=1.0)),
        **options,
    )


def work(label, **options):
    return TaskSpec(executor="torture", action="work", payload=Work(label=label, **options))


async def until(condition):
    """Return when it holds; the disk, not a clock, decides when."""
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  # the disk tells nobody
            await trio.sleep(0.002)


async def submit_much(queue):
    for number in range(1_000):
        await queue.submit(work(f"{number}", padding="x" * 5_000))


async def test_a_full_disk_refuses_a_submit_and_says_so(small_disk, journal):
    async with queue_in(small_disk / "queue", journal, workers=0) as queue:
        fill(small_disk)
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await submit_much(queue)
        assert queue._store.check() == []


async def test_submits_are_taken_again_when_a_full_disk_has_room(small_disk, journal):
    async with queue_in(small_disk / "queue", journal, workers=0) as queue:
        ballast = fill(small_disk)
        with pytest.raises(StoreUnavailable):
            await submit_much(queue)
        ballast.unlink()
        handle = await queue.submit(work("late"))
        assert (await queue.get(handle.id)).status is Status.PENDING


async def test_ends_that_a_full_disk_refused_are_recorded_when_there_is_room_again(small_disk, journal):
    async with queue_in(small_disk / "queue", journal, workers=2) as queue:
        handles = [await queue.submit(work(f"{number}", result=400_000, takes=0.2)) for number in range(2)]
        await until(lambda: len(journal) == 2)
        ballast = fill(small_disk)
        await until(lambda: queue._committer.failing)
        assert {(await queue.get(handle.id)).status for handle in handles} != {Status.COMPLETED}
        ballast.unlink()
        with trio.fail_after(20):
            for handle in handles:
                assert (await handle.wait()).status is Status.COMPLETED
        assert queue._store.check() == []


async def test_nothing_is_claimed_while_the_disk_refuses(small_disk, journal):
    async with queue_in(small_disk / "queue", journal, workers=1) as queue:
        for number in range(3):
            await queue.submit(work(f"{number}", result=300_000, takes=0.2))
        await until(lambda: len(journal) == 1)
        ballast = fill(small_disk)
        await until(lambda: queue._committer.failing)
        await trio.sleep(0.5)  # several tries of the committer
        assert [entry[0] for entry in journal] == ["start", "end"]
        ballast.unlink()
        await until(lambda: len(journal) >= 4)


def test_a_store_cannot_be_opened_on_a_full_disk_and_says_so(small_disk):
    fill(small_disk)
    with pytest.raises(StoreUnavailable, match="No space left"):
        LmdbStore(small_disk)


def test_a_store_without_its_lock_file_on_a_full_disk_does_not_kill_the_process(small_disk):
    LmdbStore(small_disk / "queue").close()
    (small_disk / "queue" / "lock.mdb").unlink()
    fill(small_disk)
    ran = module("readers", small_disk / "queue")  # it would be a bus error
    assert "StoreUnavailable" in ran.stderr, ran


@needs_strace
@pytest.mark.parametrize(
    "errors",
    ["pwrite64:error=ENOSPC:when=8+17", "pwrite64:error=EIO:when=10+13", "fdatasync:error=EIO:when=3+3"],
    ids=["full", "broken", "sync"],
)
def test_a_commit_whose_write_fails_is_refused_whole_and_the_store_goes_on(tmp_path, errors):
    strace = ["strace", "-f", "-o", tmp_path / "log", "-e", "trace=pwrite64,fdatasync", "-e", f"inject={errors}"]
    ran = module("refusing", tmp_path, under=strace)
    told = json.loads(ran.stdout)
    assert told.pop("refused") > 3
    assert told == {"wrong after a refusal": 0, "wrong at the end": False, "problems": []}


# The limit of the store's size


NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Small:
    """A store that holds little, and the ops of a test that fills it."""

    def __init__(self, path):
        self.store = LmdbStore(path, max_bytes=2**20, initial_bytes=2**18)
        self._scribe = Scribe(random.Random(3))
        self.claims = 0

    def add(self, *, size=10, ttl=None):
        task = self._scribe.new_task()
        head = task.head.__class__(
            id=task.head.id, executor="x", action="a", queue="q", lane="x", submitted_at=NOW, result_ttl=ttl
        )
        return self.apply(AddMany(tasks=(task.__class__(head=head, priority=5, payload=bytes(size)),), now=NOW))

    def apply(self, op):
        return self.store.apply([op])[0]

    def claim(self, limit=1):
        self.claims += 1
        offer = Offer(queue="q", executor="x", lane="x", needs=("all",), choices=())
        claim = Claim(
            token=f"{self.claims}", worker="w", offers=(offer,), free={"all": limit}, limit=limit, idle=False, now=NOW
        )
        return self.apply(claim)

    def finish(self, run, size):
        return self.apply(Finish(seq=run.seq, epoch=run.state.epoch, ending=Succeeded(bytes(size)), now=NOW))

    def fill(self):
        """Add tasks until one is refused; gives that refusal."""
        while isinstance(reply := self.add(size=3_000), Added):
            pass
        return reply


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "RESERVE", 2**20)
    monkeypatch.setattr(ops_module, "RESERVE", 2**20)
    small = Small(tmp_path / "queue")
    yield small
    assert small.store.check() == []
    small.store.close()


def test_at_its_limit_the_store_answers_queue_full(small):
    assert isinstance(small.fill().error, QueueFull)


def test_what_runs_can_be_finished_beyond_the_limit(small):
    small.add()
    run = small.claim().runs[0]
    small.fill()
    assert isinstance(small.finish(run, 300_000), Finished)


def test_adds_are_refused_beyond_the_limit_until_room_was_made(small):
    small.add(ttl=1.0)
    run = small.claim().runs[0]
    small.fill()
    small.finish(run, 300_000)
    assert isinstance(small.add().error, QueueFull)
    small.apply(Advance(now=NOW + timedelta(seconds=2)))
    for run in small.claim(10).runs:
        small.finish(run, 0)
    assert isinstance(small.add(), Added)


def test_claims_leave_half_of_the_reserve_to_what_runs(small):
    small.fill()
    finished = 0
    while isinstance(claimed := small.claim(), Claimed):
        assert isinstance(small.finish(claimed.runs[0], 100_000), Finished)
        finished += 1
    assert isinstance(claimed.error, QueueFull)
    assert finished > 3


# Damage


@pytest.fixture(scope="module")
def populated(tmp_path_factory):
    """A sound store with everything in it, and what it says."""
    place = tmp_path_factory.mktemp("populated") / "queue"
    return place, populate(place, seed=1)


@pytest.fixture
def damaged(populated, tmp_path):
    """Makes a copy of it with a flipped bit in a record of a table."""

    def damage(table, seed=1):
        copy = tmp_path / f"{table.decode()}-{seed}"
        shutil.copytree(populated[0], copy, ignore=shutil.ignore_patterns("bells", "lock.mdb"))
        return copy, flip_record(copy, table, random.Random(seed))

    return damage


WITHOUT_VALUES = {
    *(b"status", b"ready", b"timers", b"followers", b"references", b"settling", b"stops", b"damaged"),
    *(b"idempotent", b"idempotent_since", b"meta"),
}
"""Tables of keys alone, and those in which the workload writes nothing or what has no checksum."""
WITH_VALUES = [table for table in TABLES if table not in WITHOUT_VALUES]


@pytest.mark.parametrize("table", WITH_VALUES, ids=bytes.decode)
def test_a_record_with_a_flipped_bit_is_never_served(damaged, populated, table):
    for seed in range(3):
        store = LmdbStore(damaged(table, seed)[0])
        assert list(wrong_answers(store, populated[1])) == []
        store.close()


@pytest.mark.parametrize("table", WITH_VALUES, ids=bytes.decode)
def test_a_record_with_a_flipped_bit_stops_nothing_else(damaged, populated, table):
    store = LmdbStore(damaged(table)[0])
    assert list(wrong_runs(store, populated[1])) == []
    added = store.apply([AddMany(tasks=(Scribe(random.Random()).new_task("new"),), now=NOW)])[0]
    assert isinstance(added, Added)
    assert store.get("new").head.id == "new"
    store.close()


@pytest.mark.parametrize("name", [b"next_seq", b"next_lane", b"lanes_version"], ids=bytes.decode)
def test_a_number_that_fell_behind_is_not_given_out_again(damaged, populated, name):
    path, _ = damaged(b"payloads")
    set_number(path, name, 1)
    store = LmdbStore(path)
    store.apply([AddMany(tasks=(Scribe(random.Random()).new_task("new"),), now=NOW)])
    assert store.get("new").seq > max(populated[1].by_seq)
    assert list(wrong_answers(store, populated[1], {"new"})) == []
    store.close()


@pytest.mark.parametrize("table", [*RECORDS[:7], b"counts", b"lanes", b"ids"], ids=bytes.decode)
def test_check_names_a_record_with_a_flipped_bit(damaged, table):
    store = LmdbStore(damaged(table)[0])
    assert any(table.decode() in problem for problem in store.check())
    store.close()


def test_flipped_bytes_of_the_data_file_give_no_wrong_answers():
    ran = module("__main__", "flips", "--number", 60, "--seed", random.randrange(10**6))
    assert ran.returncode == 0, ran.stdout + ran.stderr


# oq check


def oq_check(path):
    command = [sys.executable, "-m", "oq", "check", "--queue", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_check_of_a_sound_store_says_so(populated):
    assert oq_check(populated[0]).returncode == 0


def test_check_of_a_store_whose_process_was_killed_finds_nothing(tmp_path):
    LmdbStore(tmp_path / "queue").close()
    assert module("readers", tmp_path / "queue").returncode == -signal.SIGKILL
    assert oq_check(tmp_path / "queue").returncode == 0


def test_check_of_a_damaged_store_fails_and_names_the_record(damaged):
    path, _ = damaged(b"states")
    ran = oq_check(path)
    assert (ran.returncode, "the states record" in ran.stdout) == (1, True)


def test_check_survives_a_data_file_that_kills_whoever_reads_it(populated, tmp_path):
    shutil.copytree(populated[0], tmp_path / "cut", ignore=shutil.ignore_patterns("bells", "lock.mdb"))
    with (tmp_path / "cut" / "data.mdb").open("r+b") as file:
        file.truncate(5 * 4096)
    ran = oq_check(tmp_path / "cut")
    assert (ran.returncode, "kills the process" in ran.stdout) == (1, True)


# Clocks


@pytest.mark.parametrize("step", [-1.0, 1.0], ids=["back", "forward"])
def test_a_clock_stepped_by_an_hour_loses_nothing_and_due_tasks_start_when_due(tmp_path, journal, step):
    stepped = timedelta(0)

    def clock():
        return NOW + timedelta(seconds=trio.current_time() - start) + stepped

    async def main():
        nonlocal stepped, start
        start = trio.current_time()
        async with queue_in(tmp_path / "queue", journal, workers=2, clock=clock, inline_commits=True) as queue:
            soon = await queue.submit(oq_spec("soon", delay=60.0))
            later = await queue.submit(oq_spec("later", delay=5_000.0))
            stepped = timedelta(hours=step)
            fresh = await queue.submit(work("fresh"))
            assert (await fresh.wait()).status is Status.COMPLETED
            for handle in (soon, later):
                done = await handle.wait()
                late = (done.started_at - done.run_at).total_seconds()
                assert done.status is Status.COMPLETED
                assert late >= 0
                assert late < 3_600 + 31 if step > 0 else late < 31
            assert queue._store.check() == []

    start = 0.0
    trio.run(main, clock=MockClock(autojump_threshold=0))


def oq_spec(label, delay):
    return TaskSpec(executor="torture", action="work", payload=Work(label=label), delay=delay)


# Readers


def test_a_reader_that_died_does_not_make_the_file_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "READER_CHECK_EVERY", 20)
    store = LmdbStore(tmp_path / "queue")
    module("readers", tmp_path / "queue")
    before = store.size()
    for number in range(1_000):
        store.apply([PutValue(namespace="n", key="k", value=bytes(number))])
    store.close()
    assert store_bytes(tmp_path) < before + 40 * 10 * 4096


def store_bytes(tmp_path):
    return (tmp_path / "queue" / environment_module.DATA_FILE).stat().st_size

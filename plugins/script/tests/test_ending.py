"""However an attempt ends, nothing of it is left behind, and nothing holds it up."""

import os
import select
import signal
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from oq_script import ScriptSettings, command, group, script
from oq_script.plan import Plan
from oq_script.process import _Output, run

PATIENT = 1000.0
"""Seconds; a grace or linger that no test waits for."""

DAEMON = """
import os, time
ready, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), flush=True)
    os.close(tell)
    time.sleep(1000)
os.close(tell)
os.read(ready, 1)
print("left", flush=True)
"""
"""Starts a process that leaves the group and holds the output for ever."""

TIDY = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("ready", flush=True)
signal.sigwait({signal.SIGTERM})
pass
open("state", "w").write("tidy")
"""
"""Ends in good order when it is asked to."""

PYTHON = {".py": [sys.executable]}


class Watched:
    """Knows whether a living process has ended by now, even if somebody else is given its id."""

    def __init__(self, pid):
        self.pid = int(pid)
        self._fd = os.pidfd_open(self.pid)

    @property
    def ended(self):
        return bool(select.select([self._fd], [], [], 0)[0])

    async def wait(self):
        await trio.lowlevel.wait_readable(self._fd)

    def close(self):
        os.close(self._fd)


@pytest.fixture
def watch():
    """Watches the process whose id a chunk tells; it is ended after the test if it still lives."""
    watched = []

    def watch(chunk):
        watched.append(Watched(chunk.text))
        return watched[-1]

    yield watch
    for one in watched:
        if not one.ended:
            os.kill(one.pid, signal.SIGKILL)
        one.close()


@pytest.fixture
def write(directory):
    """Writes a shell script, or one for Python, and gives its task."""

    def write(text, name="job.sh", **options):
        (directory / name).write_text(text)
        return script(name, **options)

    return write


async def test_a_cancel_ends_the_process(registry, write, watch):
    async with registry.stream(write("echo $$; exec sleep 1000")) as chunks:
        process = watch(await anext(chunks))
        assert not process.ended
    assert process.ended


async def test_a_cancel_ends_the_children_of_children(registry, write, watch):
    spec = write("sh -c 'sleep 1000 & echo $!; wait' & echo $!; echo $$; wait")
    async with registry.stream(spec) as chunks:
        family = [watch(await anext(chunks)) for _ in range(3)]
    assert all(member.ended for member in family)


async def test_a_time_out_ends_the_children_of_children(registry, write, directory):
    fifo = directory / "alive"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    spec = write("sh -c 'sleep 1000 >alive & echo; wait' & wait", timeout=0.5)
    try:
        with pytest.raises(trio.TooSlowError):
            await registry.execute(spec)
        assert os.read(reader, 1) == b""  # the end of the file: nobody has it open for writing any more
    finally:
        os.close(reader)


async def test_a_process_that_ends_in_good_order_is_given_the_time(registry_with, write, directory):
    async with registry_with(kill_grace=PATIENT, interpreters=PYTHON).stream(write(TIDY, "job.py")) as chunks:
        await anext(chunks)
    assert (directory / "state").read_text() == "tidy"


async def test_a_background_process_is_given_the_time_as_well_when_the_first_one_is_quick(
    registry_with, write, directory
):
    write("gate = open('gate')\n" + TIDY.replace("pass", "gate.read()"), "child.py")
    # the child reads the gate's end when the shell is gone, as only that one has it open for writing
    spec = write(f"mkfifo gate; exec 3<>gate; {sys.executable} child.py 3>&- & wait")
    async with registry_with(kill_grace=PATIENT).stream(spec) as chunks:
        await anext(chunks)
    assert (directory / "state").read_text() == "tidy"


async def test_a_process_may_write_more_than_a_pipe_holds_while_it_ends(registry_with, write, directory):
    spec = write(TIDY.replace("pass", "print('x' * 1_000_000)"), "job.py")
    async with registry_with(kill_grace=PATIENT, interpreters=PYTHON).stream(spec) as chunks:
        await anext(chunks)
    assert (directory / "state").read_text() == "tidy"


async def test_a_process_that_ignores_the_request_to_end_is_killed_after_the_grace(registry_with, write, watch):
    spec = write("trap '' TERM; echo $$; exec sleep 1000")
    async with registry_with(kill_grace=0.2).stream(spec) as chunks:
        process = watch(await anext(chunks))
        left = trio.current_time()
    assert process.ended
    assert trio.current_time() - left >= 0.2


async def test_a_child_that_ignores_the_request_to_end_is_killed_after_the_grace(registry_with, write, watch):
    spec = write("""sh -c 'trap "" TERM; echo $$; exec sleep 1000' & wait""")
    async with registry_with(kill_grace=0.1).stream(spec) as chunks:
        child = watch(await anext(chunks))
    assert child.ended


async def test_a_stopped_process_is_ended(registry_with, write, watch):
    async with registry_with(kill_grace=0.1).stream(write("echo $$; kill -STOP $$")) as chunks:
        process = watch(await anext(chunks))
    assert process.ended


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_zombie_is_left(registry, write):
    pid = (await registry.execute(write("echo $$"))).stdout.strip()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


async def test_no_file_is_left_open(registry, write):
    await registry.execute(write("echo", stdin="x"))
    before = open_files()
    for _ in range(10):
        await registry.execute(write("echo", stdin="x"))
        async with registry.stream(write("echo; exec sleep 1000", stdin="x" * 1_000_000)) as chunks:
            await anext(chunks)
    assert open_files() == before


async def test_what_is_left_in_the_background_is_ended_after_a_while(registry_with, write, watch):
    spec = write("sleep 1000 & echo $!; echo done")
    async with registry_with(linger=0.1).stream(spec) as chunks:
        child = watch(await anext(chunks))
        assert [chunk.text async for chunk in chunks] == ["done\n"]
    assert child.ended


async def test_the_last_words_of_what_is_left_in_the_background_are_kept(registry_with, write):
    last_words = TIDY.replace('print("ready", flush=True)', 'open("ready", "w").write("yes")')
    write(last_words.replace("pass", "print('bye')"), "child.py")
    spec = write(f"mkfifo ready; {sys.executable} child.py & read line <ready; echo done")
    result = await registry_with(linger=0.0, kill_grace=PATIENT).execute(spec)
    assert result.stdout == "done\nbye\n"


async def test_zombies_that_nobody_reaps_do_not_hold_the_task(registry_with, write, watch):
    neglect = """
    child = os.fork()
    if child == 0: os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    os.setsid()
"""
    spec = write(DAEMON.replace("    os.setsid()\n", neglect[1:]), "job.py")
    async with registry_with(linger=0.0, kill_grace=PATIENT, interpreters=PYTHON).stream(spec) as chunks:
        watch(await anext(chunks))
        assert [chunk.text async for chunk in chunks] == ["left\n"]


async def test_what_is_left_in_the_background_does_not_change_the_outcome(registry_with, write):
    result = await registry_with(linger=0.0).execute(write("sleep 1000 & echo done"))
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert result.duration < 60


async def test_the_duration_is_that_of_the_first_process(registry_with, write):
    result = await registry_with(linger=0.5).execute(write("sleep 1000 & echo done"))
    assert result.duration < 0.5


async def test_what_is_left_without_output_is_ended_at_once(registry_with, write, watch):
    spec = write("sleep 1000 >/dev/null 2>&1 & echo $!; read line", stdin="go\n")
    async with registry_with(linger=PATIENT).stream(spec) as chunks:
        child = watch(await anext(chunks))
        assert [chunk async for chunk in chunks] == []
    assert child.ended


async def test_what_is_left_in_the_background_may_finish_writing(registry_with, write, watch, directory):
    spec = write("mkfifo go; (read line <go; echo late) & echo $$")
    async with registry_with(linger=PATIENT).stream(spec) as chunks:
        leader = watch(await anext(chunks))
        await leader.wait()
        await trio.to_thread.run_sync((directory / "go").write_text, "now")
        assert [chunk.text async for chunk in chunks] == ["late\n"]


async def test_a_daemon_that_holds_the_output_does_not_hold_the_task(registry_with, write, watch):
    registry = registry_with(linger=0.0, interpreters=PYTHON)
    async with registry.stream(write(DAEMON, "job.py", stdin="x" * 1_000_000)) as chunks:
        daemon = watch(await anext(chunks))
        assert [chunk.text async for chunk in chunks] == ["left\n"]
    assert not daemon.ended  # it chose to live on its own


async def test_a_daemon_that_never_stops_writing_does_not_hold_the_task(registry_with, write):
    flood = DAEMON.replace("time.sleep(1000)", "\n    while True: os.write(1, b'x' * 1000)")
    registry = registry_with(linger=0.0, interpreters=PYTHON, max_output=100, max_streamed=1000)
    assert (await registry.execute(write(flood, "job.py"))).exit_code == 0


async def test_a_daemon_may_write_while_the_last_of_the_output_is_read():
    async def emit(chunk):
        pass

    ours, daemons = os.pipe()
    output = _Output("stdout", trio.lowlevel.FdStream(ours), ScriptSettings(), emit)
    async with trio.open_nursery() as nursery, trio.lowlevel.FdStream(daemons):
        nursery.start_soon(output.pass_on)
        await wait_all_tasks_blocked()
        os.write(daemons, b"last words\n")
        output.expect_no_more()
        os.write(daemons, b"something else\n")
        await output.ended.wait()
    assert output.kept.text(100)[0].startswith("last words\n")


async def test_output_is_not_lost_to_a_slow_watcher_when_a_daemon_holds_it(registry_with, write, watch):
    lines = [f"{number}\n" for number in range(1000)]
    spec = write(f"{DAEMON}\nprint(os.getpid(), flush=True)\nfor i in range(1000): print(i, flush=True)", "job.py")
    registry = registry_with(linger=0.0, kill_grace=0.0, interpreters=PYTHON)
    async with registry.stream(spec) as chunks:
        watch(await anext(chunks))
        await anext(chunks)
        leader = watch(await anext(chunks))
        await leader.wait()
        await wait_all_tasks_blocked(0.1)  # the attempt has given up on the output, but for what we have not taken yet
        assert [chunk.text async for chunk in chunks] == lines


async def test_a_watcher_that_fails_ends_the_process(directory, watch):
    seen = []

    async def emit(chunk):
        seen.append(watch(chunk))
        raise ConnectionError("nobody listens")

    plan = Plan(title="job", argv=("sh", "-c", "echo $$; exec sleep 1000"), cwd=directory, env={}, stdin=None)
    with pytest.raises(ExceptionGroup) as caught:
        await run(plan, ScriptSettings(), emit)
    assert caught.group_contains(ConnectionError)
    assert seen[0].ended


async def test_without_pidfd_everything_is_ended_as_well(registry_with, write, watch, monkeypatch):
    monkeypatch.setattr(group, "_open_pidfd", lambda _: None)
    registry = registry_with(linger=0.0)
    async with registry.stream(write("sleep 1000 & echo $!; echo done")) as chunks:
        left = watch(await anext(chunks))
        assert [chunk.text async for chunk in chunks] == ["done\n"]
    assert left.ended
    async with registry.stream(write("echo $$; exec sleep 1000")) as chunks:
        process = watch(await anext(chunks))
    assert process.ended


async def test_orphans_are_reaped_where_they_become_children_of_oq(directory):
    code = f"""
import ctypes, os, trio, oq, oq_script
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER, which is what process 1 is to all
registry = oq.Registry([oq_script.ScriptExecutor(oq_script.ScriptSettings(directory={str(directory)!r}, linger=0.0))])
trio.run(registry.execute, oq_script.command("sh -c 'sleep 1000 & sleep 1000 & true'"))
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no children")
"""
    done = await trio.run_process([sys.executable, "-c", code], capture_stdout=True)
    assert done.stdout == b"no children\n"


async def test_attempts_run_side_by_side(registry):
    await registry.execute(command("mkfifo a b"))
    async with trio.open_nursery() as nursery:  # each waits for the other
        nursery.start_soon(registry.execute, command("sh -c 'echo >a; read line <b'"))
        nursery.start_soon(registry.execute, command("sh -c 'read line <a; echo >b'"))

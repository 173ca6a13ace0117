"""Two terminals: what one process does, the other one notices at once, and signals lose nothing."""

import fcntl
import json
import os
import signal
import sys
import time

import pytest

pytestmark = pytest.mark.timeout(60)

AT_ONCE = 10.0
"""Seconds; a third of the time after which a queue looks around without having heard anything."""

STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def runner(start):
    """`oq run` in a process of its own."""
    process = start("run")
    process.until("running ./oq-data with 4 workers")
    return process


@pytest.fixture
def task(oq):
    """A task as it stands."""
    return lambda task_id: oq("status", task_id, "--output", "json").json


@pytest.fixture
def submit(oq):
    def submit(command, *options):
        return oq("submit", "script", "--command", command, *options, "--output", "json").json["id"]

    return submit


@pytest.fixture
def settings(home):
    (home / "oq.toml").write_text("[scheduler]\ngrace = 0\n[script]\nkill_grace = 1\n")


@pytest.fixture(autouse=True)
def at_once():
    """No test may take as long as it takes to notice something by chance."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < AT_ONCE


class TestARunnerElsewhere:
    def test_a_submitted_task_starts_at_once(self, runner, submit, oq):
        task_id = submit("true")
        runner.until(f"started           {task_id}")
        runner.until(f"completed         {task_id}")

    def test_whoever_submits_hears_nothing_of_nobody_running_the_queue(self, runner, oq):
        assert oq("submit", "script", "--command", "true").err == ""

    def test_list_and_status_see_it_run(self, runner, submit, oq, gate):
        submit(gate.command)
        runner.until("started")
        assert [t["status"] for t in oq("list", "--output", "json").json["tasks"]] == ["running"]
        assert oq("status", "--output", "json").json["run_by"].startswith(f"process {runner.pid} on ")
        gate.open()

    def test_a_cancel_ends_the_process_of_the_task(self, runner, submit, oq, gate, wait_for_end, start, task):
        watcher = start("submit", "script", "--command", gate.command, "--stream", "--id", "mine")
        watcher.until("ready")
        [(task_id, _, child)] = gate.runs
        assert oq("cancel", "mine").out == "cancelled mine\n"
        assert watcher.end() == 1
        wait_for_end(child)
        assert "- mine" in watcher.printed
        assert task(task_id)["attempts"][0]["outcome"] == "cancelled"

    def test_a_pending_task_is_cancelled_too(self, runner, submit, oq, start, task):
        task_id = submit("true", "--delay", "1h")
        watcher = start("submit", "script", "--command", "true", "--after", task_id, "--wait")
        watcher.until("runs this queue; waiting for it")
        oq("cancel", task_id)
        assert watcher.end() == 1
        assert "ParentFailed" in watcher.printed

    def test_waiting_shows_the_result(self, runner, oq):
        answer = oq("submit", "script", "--command", "echo hi", "--wait", "--output", "json")
        assert (answer.code, answer.json["result"]["stdout"]) == (0, "hi\n")
        assert answer.err.startswith(f"process {runner.pid} on ")
        assert answer.err.endswith(" runs this queue; waiting for it\n")

    def test_waiting_tells_failure_by_the_exit_code(self, runner, oq):
        assert oq("submit", "script", "--command", "false", "--wait", "--attempts", "1").code == 1

    def test_a_batch_is_waited_for(self, runner, oq, home):
        tasks = [{"type": "script", "command": "true", "id": f"t{number}"} for number in range(70)]
        (home / "tasks.json").write_text(json.dumps(tasks))
        answer = oq("submit", "batch", "--file", "tasks.json", "--sync")
        assert (answer.code, answer.out.splitlines()[-1]) == (0, "70 tasks: 70 completed")

    def test_output_streams_while_the_task_runs(self, runner, start, gate):
        watcher = start("submit", "script", "--command", gate.command, "--stream")
        watcher.until("ready")
        gate.open()
        watcher.until("done")
        assert watcher.end() == 0

    def test_a_second_runner_is_refused_and_told_who_the_first_is(self, runner, oq):
        answer = oq("run")
        assert (answer.code, answer.out) == (3, "")
        [line] = answer.said
        assert line.startswith(f"oq: the queue in ./oq-data is run by process {runner.pid} on ")
        assert "(oq run)" in line

    def test_looking_who_runs_it_does_not_keep_anybody_from_running_it(self, oq, start, submit):
        submit("true")
        lookers = [start("status") for _ in range(4)]
        assert oq("run", "--until-idle").code == 0
        assert [looker.end() for looker in lookers] == [0] * 4

    def test_it_works_in_a_directory_whose_name_is_longer_than_a_sockets_may_be(self, start, oq, submit):
        deep = "d" * 150
        runner = start("run", "--queue", deep)
        runner.until("running")
        submit("true", "--queue", deep)
        runner.until("completed")

    def test_a_terminal_that_takes_no_output_does_not_hold_up_the_queue(self, start, oq, home):
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        runner = start(
            "run", program=("sh", "-c", f'exec {sys.executable} -m oq "$@" >/dev/fd/{writer}', "-"), pass_fds=[writer]
        )
        try:
            runner.until("running")
            tasks = [{"type": "script", "command": "true"}] * 60
            (home / "tasks.json").write_text(json.dumps(tasks))
            assert oq("submit", "batch", "--file", "tasks.json", "--sync").code == 0
            runner.signal(signal.SIGTERM)
            assert runner.end() == 0
        finally:
            os.close(reader)
            os.close(writer)


class TestNobodyElseRunsIt:
    def test_waiting_runs_it_in_that_very_process(self, start, oq, gate):
        waiting = start("submit", "script", "--command", gate.command, "--stream")
        waiting.until("ready")
        assert oq("status", "--output", "json").json["run_by"].startswith(f"process {waiting.pid} on ")
        gate.open()
        assert waiting.end() == 0
        assert oq("status", "--output", "json").json["run_by"] is None

    def test_when_the_runner_is_killed_whoever_waits_takes_over(self, runner, start, gate, task):
        waiting = start("submit", "script", "--command", gate.command, "--stream")
        waiting.until("ready")
        runner.kill()
        waiting.until("the task runs again; its output begins anew")
        waiting.until("ready")
        gate.open()
        assert waiting.end() == 0
        (task_id, *_), (again, *_) = gate.runs
        assert task_id == again
        assert [attempt["outcome"] for attempt in task(task_id)["attempts"]] == ["lost", "completed"]

    def test_when_the_runner_stops_whoever_waits_takes_over(self, settings, runner, start, gate):
        waiting = start("submit", "script", "--command", gate.command, "--stream")
        waiting.until("ready")
        runner.signal(signal.SIGTERM)
        assert runner.end() == 0
        waiting.until("ready")
        gate.open()
        assert waiting.end() == 0
        assert [attempt for _, attempt, _ in gate.runs] == [1, 1]

    def test_what_runs_besides_is_let_finish(self, start, submit, oq, gate, task):
        other = submit(gate.command)
        waiting = start("submit", "script", "--command", "true", "--wait")
        waiting.until("finishing 1 task besides; Ctrl-C gives back at once")
        gate.open()
        assert waiting.end() == 0
        assert task(other)["status"] == "completed"

    def test_or_given_back_when_asked(self, start, submit, oq, gate, task):
        other = submit(gate.command)
        waiting = start("submit", "script", "--command", "true", "--wait")
        waiting.until("finishing 1 task besides; Ctrl-C gives back at once")
        waiting.signal(signal.SIGINT)
        assert waiting.end() == 0
        assert (task(other)["status"], task(other)["attempt"]) == ("pending", 0)


class TestStoppingAWait:
    @pytest.mark.parametrize("number", STOP_SIGNALS)
    def test_the_task_is_given_back_and_the_way_to_go_on_is_told(
        self, start, gate, wait_for_end, task, oq, number, settings
    ):
        waiting = start("submit", "script", "--command", gate.command, "--stream", "--queue", "my queue")
        waiting.until("ready")
        waiting.signal(number)
        assert waiting.end() == 130
        [(task_id, _, child)] = gate.runs
        assert waiting.printed.splitlines()[-2:] == [
            f"interrupted; given back to the queue: {task_id}",
            f"`oq run --queue 'my queue'` goes on, `oq status --queue 'my queue' {task_id}` shows how it stands",
        ]
        wait_for_end(child)
        stands = oq("status", task_id, "--queue", "my queue", "--output", "json").json
        assert (stands["status"], stands["attempt"]) == ("pending", 0)
        assert [attempt["outcome"] for attempt in stands["attempts"]] == ["released"]
        assert oq("check", "--queue", "my queue").code == 0

    def test_a_program_gets_the_task_as_it_stands(self, start, gate, settings):
        waiting = start("submit", "script", "--command", gate.command, "--wait", "--output", "json", "--id", "mine")
        gate.wait()
        waiting.signal(signal.SIGTERM)
        assert waiting.end() == 130
        output, _, _ = waiting.printed.partition("interrupted; given back to the queue: mine\n")
        assert json.loads(output)["status"] == "pending"

    def test_a_task_that_runs_elsewhere_goes_on(self, runner, start, gate, task):
        waiting = start("submit", "script", "--command", gate.command, "--stream", "--id", "mine")
        waiting.until("ready")
        waiting.signal(signal.SIGINT)
        assert waiting.end() == 130
        told, how = waiting.printed.splitlines()[-2:]
        assert told.startswith(f"interrupted; left to process {runner.pid} on ")
        assert told.endswith(": mine")
        assert how == "`oq status mine` shows how it stands, `oq cancel mine` ends it"
        assert task("mine")["status"] == "running"
        gate.open()
        runner.until("completed         mine")

    def test_whoever_reads_the_output_may_have_enough(self, start, gate, task, settings):
        waiting = start(
            program=(
                "sh",
                "-c",
                f"{sys.executable} -m oq submit script --command '{gate.command} yes' --stream | head -n 1",
            )
        )
        waiting.until("ready")
        gate.open()
        waiting.until("interrupted; given back to the queue: ")
        [(task_id, _, _)] = gate.runs
        assert waiting.end() == 0
        assert task(task_id)["status"] == "pending"


class TestStoppingARunner:
    def test_the_first_signal_lets_running_tasks_finish(self, runner, submit, gate, task):
        task_id = submit(gate.command)
        gate.wait()
        late = None
        runner.signal(signal.SIGINT)
        runner.until("finishing 1 task; once more to give back at once")
        late = submit("true")
        gate.open()
        assert runner.end() == 0
        assert (task(task_id)["status"], task(late)["status"]) == ("completed", "pending")

    def test_the_second_gives_them_back_at_once(self, runner, submit, gate, task, wait_for_end):
        task_id = submit(gate.command)
        gate.wait()
        runner.signal(signal.SIGINT)
        runner.until("finishing 1 task; once more to give back at once")
        runner.signal(signal.SIGINT)
        assert runner.end() == 130
        assert "gave back 1 task; what was begun does not count as an attempt" in runner.printed
        wait_for_end(gate.runs[0][2])
        assert (task(task_id)["status"], task(task_id)["attempt"]) == ("pending", 0)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_past_the_grace_they_are_given_back(self, settings, runner, submit, gate, task, wait_for_end, oq, number):
        task_id = submit(gate.command)
        gate.wait()
        runner.signal(number)
        assert runner.end() == 0
        wait_for_end(gate.runs[0][2])
        assert (task(task_id)["status"], task(task_id)["attempt"]) == ("pending", 0)
        assert oq("check").code == 0

    def test_a_signal_that_was_ignored_from_the_start_stays_ignored(self, start, submit, gate, task):
        runner = start("run", program=("nohup", sys.executable, "-m", "oq"))
        runner.until("running")
        task_id = submit(gate.command)
        gate.wait()
        runner.signal(signal.SIGHUP)
        gate.open()
        runner.until(f"completed         {task_id}")
        runner.signal(signal.SIGTERM)
        assert runner.end() == 0

    def test_an_idle_one_ends_at_once(self, runner):
        runner.signal(signal.SIGTERM)
        assert runner.end() == 0
        assert runner.printed == "running ./oq-data with 4 workers; Ctrl-C stops\n"

"""What tests of the command line share: `oq` in this process, `oq` in processes of its own, and scripts that wait."""

import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import define, frozen

from oq.cli.main import run

PATIENCE = 20
"""Seconds that a test waits for what should come at once."""

OQ = (sys.executable, "-m", "oq")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty directory to work in, and nothing of the settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("OQ_", "QUEUE_", "RETRY_", "LOG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setattr("oq.config.files.SYSTEM_DIRECTORY", "/nowhere")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@frozen
class Answer:
    """What a command that has ended left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """What a program reads; there must be nothing else."""
        return json.loads(self.out)

    @property
    def said(self):
        """The lines on standard error."""
        return self.err.splitlines()


@pytest.fixture
def oq(capsys, monkeypatch):
    """Run `oq` with these arguments in this process, up to its end."""
    monkeypatch.setattr(sys, "argv", ["oq"])
    monkeypatch.setattr("oq.cli.running.tune_process", lambda: None)  # it is not ours alone

    def call(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Answer(ended.value.code, out, err)

    return call


@define
class Process:
    """`oq` in a process of its own, its two outputs read as one."""

    _process: subprocess.Popen
    printed: str = ""

    @property
    def pid(self):
        return self._process.pid

    def until(self, text):
        """The next line that contains `text`, once it is printed."""
        for line in self._process.stdout:
            self.printed += line
            if text in line:
                return line.rstrip("\n")
        pytest.fail(f"it ended without {text!r} and printed:\n{self.printed}")

    def signal(self, number):
        self._process.send_signal(number)

    def end(self):
        """Its exit code, once it has ended by itself."""
        self.printed += self._process.stdout.read()
        return self._process.wait()

    def kill(self):
        """End it as the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait()

    def close(self):
        self.kill()
        self._process.stdout.close()


@pytest.fixture
def start(monkeypatch):
    """Start `oq` with these arguments in a process of its own; what still runs at the end is killed."""
    processes = []

    def start(*arguments, program=OQ, **options):
        process = Process(
            subprocess.Popen(
                [*program, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                preexec_fn=_like_a_terminal,  # noqa: PLW1509  # no threads here
                **options,
            )
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.close()


def _like_a_terminal():
    """Whoever runs the tests may ignore signals, as a shell does for what runs in its background."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@frozen
class Gate:
    """A command for tasks that prints `ready`, waits until the test lets it go on, and prints `done`.

    Its argument is what prints that instead of `echo`.
    """

    command: str
    _path: Path
    _began: int
    _gate: int

    @property
    def runs(self):
        """The runs so far: task, attempt and process of each."""
        runs = [line.split() for line in (self._path / "runs").read_text().splitlines()]
        return [(task_id, int(attempt), int(pid)) for task_id, attempt, pid in runs]

    def wait(self):
        """Return when one more run has begun."""
        assert select.select([self._began], [], [], PATIENCE)[0], "no run begins"
        os.read(self._began, 1)

    def open(self):
        """Let all go on that wait, now or later."""
        os.write(self._gate, b"\n" * 100)


@pytest.fixture
def gate(tmp_path):
    """See Gate. Whatever of it is left at the end is ended."""
    path = tmp_path / "gate"
    path.mkdir()
    (path / "runs").touch()
    os.mkfifo(path / "gate")
    os.mkfifo(path / "began")
    began, held = (os.open(path / name, os.O_RDWR) for name in ("began", "gate"))
    script = path / "wait.sh"
    script.write_text(f"""
echo "$OQ_TASK_ID $OQ_ATTEMPT $$" >> {path}/runs
echo ready
printf . > {path}/began
read line < {path}/gate
"${{1:-echo}}" done
""")
    gate = Gate(f"sh {script}", path, began, held)
    yield gate
    os.close(began)
    os.close(held)
    for _, _, pid in gate.runs:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def wait_for_end():
    """Return when the process is gone, if it is not yet."""

    def wait(pid):
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                assert select.select([descriptor], [], [], PATIENCE)[0], f"process {pid} still runs"
            finally:
                os.close(descriptor)

    return wait

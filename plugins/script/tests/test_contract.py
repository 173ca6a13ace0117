"""The executor passes the contract of executors, with real processes."""

import oq
from oq.testing import ExecutorContract, ExecutorExamples
from oq_script import ScriptExecutor, ScriptSettings, command, script

FAMILY = """\
sh -c 'trap "" HUP; sleep 1000' &
echo ready
wait
"""
"""Has a child that would live on."""


class TestScriptExecutor(ExecutorContract):
    entry_point = "script"

    def make_executor(self, directory):
        (directory / "lines.sh").write_text("for n in 1 2 3; do echo line $n; done; printf end")
        (directory / "broken.sh").write_text("echo half >&2; echo the disk is on fire >&2; exit 3")
        (directory / "family.sh").write_text(FAMILY)
        return ScriptExecutor(ScriptSettings(directory=str(directory), allow_shell=True))

    def examples(self, directory):
        return ExecutorExamples(
            quick=command("echo", args=["hi", "it's me"]),
            others=[
                command("cat", stdin="by hand", env={"LEVEL": "2"}),
                command("exit 0 | true", shell=True),
                script("lines.sh", cwd="."),
            ],
            streaming=script("lines.sh"),
            failing=script("broken.sh"),
            endless=script("family.sh"),
            bad_payloads=[
                ("run", {}, "payload"),
                ("run", {"command": "echo 'open"}, "payload.command"),
                ("run", {"command": "echo", "args": ["a\0"]}, "payload.args[0]"),
                ("run", {"command": "echo", "args": "a"}, "payload.args"),
                ("run", {"command": "env", "env": {"LD_PRELOAD": "x"}}, "payload.env.LD_PRELOAD"),
                ("run", {"script": "../lines.sh"}, "payload.script"),
                ("run", {"script": "lines.sh", "cwd": "/"}, "payload.cwd"),
                ("run", {"script": "lines.sh", "shell": True}, "payload.shell"),
            ],
        )


class TestWhereItsProcessesEndOnlyByForce(ExecutorContract):
    """The same, where processes take no notice of being asked to end."""

    def make_executor(self, directory):
        (directory / "stubborn.sh").write_text("trap '' TERM; echo ready; while :; do sleep 1000; done")
        return ScriptExecutor(ScriptSettings(directory=str(directory), kill_grace=0.1))

    def examples(self, directory):
        return ExecutorExamples(
            quick=command("true"),
            streaming=command("echo hi"),
            failing=command("no-such-program"),
            endless=script("stubborn.sh", retry=oq.NO_RETRY),
        )

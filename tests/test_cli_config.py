"""`oq config` shows every setting and where it comes from; `[logging]` says what the command line logs, and where."""

import json
import logging
import os
import re
import sys

import pytest

from oq.cli.logs import start_logging, stop_logging
from oq.cli.session import Session
from oq.config import LoggingSettings

WARNS = """
import logging

import oq


@oq.hookimpl
def oq_executors(settings):
    log = logging.getLogger("oq.test")
    log.debug("a detail")
    log.info("some news")
    log.warning("a warning\\nof two lines \\x1b[31m")
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("a failure")
    logging.getLogger("elsewhere").info("their news")
    logging.getLogger("elsewhere").warning("their warning")
    return []
"""
"""A plugin that logs when a queue is opened."""


MUCH = """
import logging, sys
from oq.cli.logs import start_logging
from oq.config import LoggingSettings

start_logging(LoggingSettings(file="oq.log"), ["oq"])
for _ in range(50):
    logging.getLogger("oq").warning(sys.argv[1] * 100_000)
"""
"""A program that logs fifty long lines of its argument."""


@pytest.fixture
def warns(tmp_path, monkeypatch):
    """Install a plugin that logs when a queue is opened; it is the only one."""
    site = tmp_path / "site"
    (site / "oq_warns-1.dist-info").mkdir(parents=True)
    (site / "oq_warns.py").write_text(WARNS)
    (site / "oq_warns-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: oq-warns\nVersion: 1\n")
    (site / "oq_warns-1.dist-info" / "entry_points.txt").write_text("[oq]\nwarns = oq_warns\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OQ_DISABLED_PLUGINS", "http,ollama,openai,script,server")
    yield
    for name in ("oq", "oq_warns"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def settings(home):
    """Write `oq.toml`."""

    def write(text, name="oq.toml"):
        (home / name).write_text(text)

    return write


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")


def rows(answer):
    """The table, cell by cell."""
    return [re.split(r" {2,}", line.strip()) for line in answer.out.splitlines()]


class TestConfig:
    def test_every_setting_is_shown_with_its_source(self, oq, settings, monkeypatch):
        settings("[scheduler]\nworkers = 7\n")
        monkeypatch.setenv("OQ_SCHEDULER_GRACE", "1m")
        answer = oq("config", "--queue", "there")
        assert (answer.code, answer.err) == (0, "read oq.toml\n")
        assert ["workers", "7", "oq.toml:2"] in rows(answer)
        assert ["grace", "60", "OQ_SCHEDULER_GRACE"] in rows(answer)
        assert ["path", "there", "argument"] in rows(answer)
        assert ["timeout", "3600", "default"] in rows(answer)
        assert ["kill_grace", "5", "default"] in rows(answer)  # of the plugin oq-script

    def test_it_fits_a_narrow_terminal(self, oq, settings, narrow):
        settings('[queue]\npath = "' + "x" * 200 + '"\n')
        lines = oq("config", "queue", "script").out.splitlines()
        assert max(map(len, lines)) <= 80
        assert "…" in lines[2]
        assert lines[2].endswith("oq.toml:2")

    def test_the_directory_of_the_file_is_told_once(self, oq, home, narrow):
        place = home / ("deep/" * 20)
        place.mkdir(parents=True)
        (place / "mine.toml").write_text("[scheduler]\nworkers = 7\n")
        answer = oq("config", "--config", place / "mine.toml")
        assert ["workers", "7", "mine.toml:2"] in rows(answer)
        assert answer.err == f"read {place / 'mine.toml'}\n"

    def test_without_a_file_it_is_told_where_one_was_looked_for(self, oq, home):
        assert oq("config").said == [
            "there is no settings file; looked for",
            "  oq.toml, oq.yaml, oq.yml, oq.json in the working directory",
            f"  oq.toml, oq.yaml, oq.yml, oq.json in {home / 'nowhere' / 'oq'}",
            "  oq.toml, oq.yaml, oq.yml, oq.json in /nowhere",
        ]

    def test_some_tables_may_be_asked_for(self, oq):
        assert [row[0] for row in rows(oq("config", "plugins", "logging"))] == [
            *["SETTING", "[logging]", "level", "format", "file"],
            *["[plugins]", "disabled"],
        ]

    def test_a_table_that_there_is_not_is_told(self, oq):
        answer = oq("config", "loging")
        assert (answer.code, answer.out) == (2, "")
        assert "there is no table 'loging' (there are: queue, scheduler," in answer.err

    def test_a_program_gets_all_of_it(self, oq, settings, home):
        settings("max_workers = 7\nscheduling_interval = 1\n")
        told = oq("config", "scheduler", "--output", "json").json
        assert told["file"] == "oq.toml"
        assert told["searched"][:2] == ["oq.toml", "oq.yaml"]
        assert [note.partition(" ")[0] for note in told["notes"]] == ["oq.toml:2:"]
        assert told["settings"][0] == {
            "table": "scheduler",
            "key": "workers",
            "value": 7,
            "source": "oq.toml:1",
            "secret": False,
        }

    @pytest.mark.parametrize("output", ["table", "json"])
    def test_secrets_are_hidden(self, oq, settings, monkeypatch, output):
        monkeypatch.setenv("KEY", "sesame")
        settings('[queue]\npath = "${KEY}"\n[server]\ntoken = "sesame"\n')
        answer = oq("config", "--output", output)
        assert answer.code == 0
        assert "***" in answer.out
        assert "sesame" not in answer.out + answer.err

    def test_what_a_terminal_would_obey_is_escaped(self, oq, settings):
        settings('[queue]\npath = "\\u001b[31m"\n')
        assert "\x1b" not in oq("config").out

    def test_settings_that_are_wrong_are_told_instead(self, oq, settings):
        settings("[script]\nlinger = 'x'\n")
        answer = oq("config")
        assert (answer.code, answer.out) == (3, "")
        assert answer.said == ["oq: oq.toml:2: script.linger: 'x' is not a duration; write 90, 1.5s, 5m, 2h or 1h30m"]


class TestSession:
    def test_an_option_that_comes_late_counts_all_the_same(self):
        session = Session()
        assert session.settings.queue.path == "./oq-data"
        session.choose("queue", "there")
        assert session.settings.queue.path == "there"


class TestNotes:
    def test_a_key_without_meaning_is_noted_once_by_each_command(self, oq, settings):
        settings("scheduling_interval = 1\n")
        answer = oq("--queue", "there", "submit", "script", "--command", "true", "--queue", "there")
        assert answer.code == 0
        assert answer.said[0] == (
            "oq: oq.toml:1: scheduling_interval has no meaning any more: "
            "a task starts when it becomes ready, without looking in intervals"
        )
        assert answer.err.count("scheduling_interval") == 1


class TestFiles:
    @pytest.mark.parametrize("name", ["mine.yaml", "mine.json"])
    def test_the_file_that_is_named_may_have_any_format(self, oq, settings, name):
        settings('{"queue": {"path": "there"}}', name)
        assert oq("list", "--config", name).err.startswith("oq: cannot open there: there is no queue")

    def test_a_file_that_is_missing_is_told(self, oq):
        answer = oq("list", "--config", "nosuch")
        assert (answer.code, answer.said) == (3, ["oq: nosuch does not exist"])

    def test_a_directory_is_told(self, oq, home):
        (home / "oq.toml").mkdir()
        answer = oq("list")
        assert (answer.code, answer.said) == (3, ["oq: oq.toml cannot be read: Is a directory"])

    def test_that_a_secret_came_by_reference_does_not_show_in_the_output_of_other_commands(
        self, oq, settings, monkeypatch
    ):
        monkeypatch.setenv("WHERE", "there")
        settings('[queue]\npath = "${WHERE}"\n')
        oq("submit", "script", "--command", "true")
        assert oq("status", "--output", "json").json["location"] == "there"


class TestLogging:
    def test_warnings_and_news_come_as_lines_on_standard_error(self, oq, warns):
        answer = oq("run", "--until-idle", "--quiet")
        assert answer.out == ""
        first, second, more, failure, *trace, theirs = answer.said[:-1]
        moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        assert re.fullmatch(rf"{moment}  info      oq\.test: some news", first)
        assert re.fullmatch(rf"{moment}  warning   oq\.test: a warning", second)
        assert more == r"    of two lines \x1b[31m"
        assert re.fullmatch(rf"{moment}  error     oq\.test: a failure", failure)
        assert trace[0] == "    Traceback (most recent call last):"
        assert trace[-1] == "    ZeroDivisionError: division by zero"
        assert theirs.endswith("elsewhere: their warning")

    @pytest.mark.parametrize(
        ("level", "told"),
        [
            ("debug", {"debug", "info", "warning", "error"}),
            ("warning", {"warning", "error"}),
            ("critical", set()),
        ],
    )
    def test_the_level_says_how_much(self, oq, warns, monkeypatch, level, told):
        monkeypatch.setenv("OQ_LOGGING_LEVEL", level)
        answer = oq("run", "--until-idle", "--quiet")
        assert set(re.findall(r"^.{19}  (\w+) +oq\.test: ", answer.err, re.MULTILINE)) == told
        assert ("elsewhere" in answer.err) == ("warning" in told)

    def test_json_is_one_object_a_line(self, oq, warns, monkeypatch):
        monkeypatch.setenv("OQ_LOGGING_FORMAT", "json")
        answer = oq("run", "--until-idle", "--quiet")
        logged = [json.loads(line) for line in answer.said if line.startswith("{")]
        assert [(one["level"], one["logger"], one["message"]) for one in logged] == [
            ("info", "oq.test", "some news"),
            ("warning", "oq.test", "a warning\nof two lines \x1b[31m"),
            ("error", "oq.test", "a failure"),
            ("warning", "elsewhere", "their warning"),
        ]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["time"]) for one in logged)
        assert [one["exception"].splitlines()[-1] for one in logged if "exception" in one] == [
            "ZeroDivisionError: division by zero"
        ]

    def test_a_file_is_added_to(self, oq, warns, settings, home):
        settings('[logging]\nfile = "oq.log"\nlevel = "info"\n')
        (home / "oq.log").write_text("what was there\n")
        answer = oq("run", "--until-idle", "--quiet")
        assert answer.said == ["running ./oq-data with 4 workers; Ctrl-C stops"]
        assert (home / "oq.log").read_text().startswith("what was there\n")
        assert "oq.test: some news" in (home / "oq.log").read_text()

    def test_processes_share_a_file(self, warns, start, settings, home):
        settings('[logging]\nfile = "oq.log"\nformat = "json"\n')
        processes = [start("run", "--until-idle", "--queue", f"queue-{number}") for number in range(3)]
        assert [process.end() for process in processes] == [0, 0, 0]
        logged = [json.loads(line) for line in (home / "oq.log").read_text().splitlines()]
        assert {one["process"] for one in logged} == {process.pid for process in processes}
        assert len(logged) == 12

    def test_long_lines_of_several_processes_do_not_mix(self, start, home):
        (home / "program.py").write_text(MUCH)
        processes = [start(home / "program.py", number, program=(sys.executable,)) for number in range(3)]
        assert [process.end() for process in processes] == [0, 0, 0]
        messages = [line.rpartition(": ")[2] for line in (home / "oq.log").read_text().splitlines()]
        assert sorted(messages) == sorted(str(number) * 100_000 for number in range(3) for _ in range(50))

    def test_a_file_that_was_moved_away_is_made_anew(self, home):
        handler = start_logging(LoggingSettings(file="oq.log"), ["oq"])
        try:
            logging.getLogger("oq.test").warning("before")
            (home / "oq.log").rename(home / "oq.log.1")
            logging.getLogger("oq.test").warning("after")
        finally:
            stop_logging(handler)
        assert (home / "oq.log.1").read_text().endswith("before\n")
        assert (home / "oq.log").read_text().endswith("after\n")

    def test_what_a_file_does_not_take_goes_to_standard_error(self, capsys):
        handler = start_logging(LoggingSettings(file="/dev/full"), ["oq"])
        try:
            logging.getLogger("oq.test").warning("no space")
        finally:
            stop_logging(handler)
        assert capsys.readouterr().err.endswith("no space\n")

    @pytest.mark.parametrize(
        ("file", "why"), [("nowhere/oq.log", "No such file or directory"), (".", "Is a directory")]
    )
    def test_one_that_cannot_be_written_is_told(self, oq, settings, file, why):
        settings(f'[logging]\nfile = "{file}"\n')
        answer = oq("submit", "script", "--command", "true")
        assert (answer.code, answer.out) == (3, "")
        assert answer.said == [f"oq: oq.toml:2: logging.file: cannot write to {file}: {why}"]

    def test_a_command_that_opens_no_queue_needs_no_log(self, oq, settings):
        settings('[logging]\nfile = "nowhere/oq.log"\n')
        assert oq("config").code == 0

    def test_a_library_logs_nowhere_by_itself(self, start, home):
        (home / "program.py").write_text(
            "import logging, oq, trio\n"
            "async def main():\n"
            "    async with oq.open_queue('data'):\n"
            "        pass\n"
            "trio.run(main)\n"
            "print(logging.getLogger().handlers, logging.getLogger('oq').handlers, logging.getLogger('oq').level)\n"
        )
        process = start(home / "program.py", program=(sys.executable,))
        assert process.end() == 0
        assert process.printed == "[] [] 0\n"

    def test_nothing_is_left_of_it_after_a_command(self, oq, settings, home):
        settings('[logging]\nfile = "oq.log"\n')
        before = list(logging.getLogger().handlers)
        oq("submit", "script", "--command", "true")
        assert logging.getLogger().handlers == before

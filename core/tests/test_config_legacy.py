"""The settings of Ollama Queue are understood; what has no meaning any more says so."""

import json

import pytest

from oq.config import LoggingSettings, QueueSettings, RetentionSettings, SchedulerSettings, Settings, load_settings
from oq.errors import InvalidSettings
from oq.retry import RetryPolicy

FLAT = """\
ollama_host: "http://gpu:11434"
ollama_timeout: "5m"
max_workers: 6
storage_path: "./data"
cleanup_interval: "1h"
max_completed_tasks: 1000
scheduling_interval: "1s"
batch_size: 10
retry_config:
  max_retries: 3
  initial_delay: "2s"
  max_delay: "30s"
  backoff_factor: 3.0
log_level: "info"
log_file: ""
listen_addr: "localhost:7125"
"""

NESTED = """\
ollama:
  host: "http://gpu:11434"
  timeout: "5m"
queue:
  max_workers: 6
  storage_path: "./data"
  cleanup_interval: "1h"
  max_completed_tasks: 1000
scheduler:
  batch_size: 10
  scheduling_interval: "1s"
retry_config:
  max_retries: 3
  initial_delay: "2s"
  max_delay: "30s"
  backoff_factor: 3.0
logging:
  level: "info"
  file: ""
"""


@pytest.fixture
def load(tmp_path):
    def load(text, name="config.yaml", **environ):
        path = tmp_path / name
        path.write_text(text)
        return load_settings(path, environ)

    return load


def refused(load, text, **environ):
    with pytest.raises(InvalidSettings) as caught:
        load(text, **environ)
    return [str(problem).partition("config.yaml")[2] or str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("text", [FLAT, NESTED], ids=["flat", "nested"])
class TestItsFiles:
    def test_every_key_means_what_it_meant(self, load, text):
        settings = load(text)
        assert settings.queue == QueueSettings(path="./data")
        assert settings.scheduler == SchedulerSettings(workers=6)
        assert settings.retention == RetentionSettings(cleanup_interval=3600.0, max_completed_tasks=1000)
        assert settings.retry == RetryPolicy(max_attempts=4, delay=2.0, factor=3.0, max_delay=30.0)
        assert settings.logging == LoggingSettings()
        assert settings.sections["ollama"] == {"host": "http://gpu:11434"}

    def test_a_key_without_meaning_is_noted_with_its_line_and_the_reason(self, load, text):
        notes = [note.partition("config.yaml:")[2] for note in load(text).notes]
        lines = {note.partition(": ")[2].split()[0]: int(note.partition(":")[0]) for note in notes}
        assert {name.rpartition(".")[2] for name in lines} == (
            {"scheduling_interval", "batch_size", "ollama_timeout" if text == FLAT else "timeout"}
        )
        for name, line in lines.items():
            assert name.rpartition(".")[2] in text.splitlines()[line - 1]
        assert all("has no meaning any more: " in note for note in notes)


class TestKeys:
    def test_no_other_file_has_notes(self, load):
        assert load("queue: {path: x}").notes == ()

    def test_toml_may_have_them_too(self, load):
        assert load("max_workers = 3", "oq.toml").scheduler.workers == 3

    def test_go_writes_durations_in_json_as_nanoseconds(self, load):
        text = json.dumps({"cleanup_interval": 3_600_000_000_000, "retry_config": {"initial_delay": 1_000_000}})
        settings = load(text, "config.json")
        assert (settings.retention.cleanup_interval, settings.retry.delay) == (3600.0, 0.001)

    def test_a_small_number_is_one_of_seconds(self, load):
        assert load("cleanup_interval: 60").retention.cleanup_interval == 60

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("max_workers: none", ":1: max_workers: expected a whole number, got 'none'"),
            (
                "retry_config:\n  max_retries: -1",
                ":2: retry_config.max_retries: 'max_attempts' must be 1 or more, and finite, not 0",
            ),
            (
                "retry_config: {initial_delay: soon}",
                ":1: retry_config.initial_delay: 'soon' is not a duration; write 90, 1.5s, 5m, 2h or 1h30m",
            ),
        ],
    )
    def test_a_wrong_value_is_told_by_the_name_that_it_has_there(self, load, text, told):
        assert refused(load, text) == [told]

    def test_a_misspelt_one_is_told_the_nearest(self, load):
        assert refused(load, "max_worker: 3") == [":1: max_worker: there is no such key; did you mean 'max_workers'?"]

    def test_a_key_of_the_table_that_is_no_more_is_told_those_there_were(self, load):
        [told] = refused(load, "retry_config:\n  tries: 3")
        known = "max_retries, initial_delay, max_delay, backoff_factor"
        assert told == f":2: retry_config.tries: there is no such key (known: {known})"

    def test_that_table_must_be_one(self, load):
        assert refused(load, "retry_config: 3") == [":1: retry_config: must be a table: [retry_config]"]

    def test_the_old_name_beside_the_new_one_is_refused(self, load):
        assert refused(load, "max_workers: 3\nscheduler:\n  workers: 4\nqueue:\n  max_workers: 5\n") == [
            ":1: max_workers: means the same as scheduler.workers; keep one",
            ":5: queue.max_workers: means the same as scheduler.workers; keep one",
        ]

    def test_so_are_two_old_ones(self, load):
        assert refused(load, "max_workers: 3\nqueue:\n  max_workers: 5\n") == [
            ":3: queue.max_workers: means the same as max_workers; keep one"
        ]

    def test_what_has_moved_says_where_to(self, load):
        [told] = refused(load, "remote_scheduling:\n  enabled: true\n")
        assert told.startswith(":1: remote_scheduling: is written in two tables now: ")

    def test_a_variable_in_a_file_is_read_for_the_new_name(self, load):
        settings = load("max_workers: ${N}\nretry_config: {initial_delay: '${N}s'}", N="7")
        assert (settings.scheduler.workers, settings.retry.delay) == (7, 7)

    def test_but_not_where_it_would_count_something_else(self, load):
        [told] = refused(load, "retry_config: {max_retries: '${N}'}", N="7")
        assert told.startswith(":1: retry_config.max_retries: counts retries; write retry.max_attempts, which counts")


class TestVariables:
    @pytest.mark.parametrize(
        ("variable", "text", "changed"),
        [
            ("QUEUE_MAX_WORKERS", "6", Settings(scheduler=SchedulerSettings(workers=6))),
            ("QUEUE_STORAGE_PATH", "./data", Settings(queue=QueueSettings(path="./data"))),
            ("QUEUE_CLEANUP_INTERVAL", "1h", Settings(retention=RetentionSettings(cleanup_interval=3600.0))),
            ("QUEUE_MAX_COMPLETED_TASKS", "9", Settings(retention=RetentionSettings(max_completed_tasks=9))),
            ("RETRY_MAX_RETRIES", "3", Settings(retry=RetryPolicy(max_attempts=4))),
            ("RETRY_INITIAL_DELAY", "2s", Settings(retry=RetryPolicy(delay=2.0))),
            ("RETRY_MAX_DELAY", "30s", Settings(retry=RetryPolicy(max_delay=30.0))),
            ("RETRY_BACKOFF_FACTOR", "3", Settings(retry=RetryPolicy(factor=3.0))),
            ("LOG_LEVEL", "DEBUG", Settings(logging=LoggingSettings(level="debug"))),
        ],
    )
    def test_each_means_what_it_meant(self, load, variable, text, changed):
        settings = load("", **{variable: text})
        for table in ("queue", "scheduler", "retention", "retry", "logging"):
            assert getattr(settings, table) == getattr(changed, table)

    def test_a_bad_one_is_named(self, load):
        assert refused(load, "", RETRY_MAX_RETRIES="x") == ["RETRY_MAX_RETRIES: expected a whole number, got 'x'"]

    def test_one_of_oqs_own_wins(self, load):
        assert load("", QUEUE_MAX_WORKERS="2", OQ_WORKERS="3").scheduler.workers == 3

    def test_the_log_file_of_another_program_is_not_written_to(self, load):
        assert load("", LOG_FILE="theirs.log").logging.file is None

"""Settings come from a file and the environment; what is wrong in them is named with where to mend it."""

import math

import pytest
from attrs import field, frozen
from attrs.validators import ge
from hypothesis import given
from hypothesis import strategies as st

from oq.config import QueueSettings, SchedulerSettings, Settings, load_settings
from oq.errors import InvalidSettings
from oq.retry import RetryPolicy


@frozen(kw_only=True)
class EchoSettings:
    voice: str = "low"
    times: int = field(default=1, validator=ge(1))


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Write the file that the settings come from; the working directory is an empty one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def write(text, name="settings.toml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(*args, **options):
    with pytest.raises(InvalidSettings) as caught:
        load_settings(*args, **options)
    return [str(problem) for problem in caught.value.problems]


class TestSources:
    def test_without_file_and_environment_there_are_defaults(self, file):
        assert load_settings(environ={}) == Settings(source="environment")

    def test_a_file_changes_what_it_names_and_nothing_else(self, file):
        path = file('[queue]\npath = "./mine"\n[scheduler]\nworkers = 9\nlimits = {ollama = 1}\n[retry]\ndelay = 5\n')
        settings = load_settings(path, {})
        assert settings.queue == QueueSettings(path="./mine")
        assert settings.scheduler == SchedulerSettings(workers=9, limits={"ollama": 1})
        assert settings.retry == RetryPolicy(delay=5.0)
        assert settings.source == str(path)

    def test_an_oq_toml_in_the_working_directory_is_read_unasked(self, file, tmp_path):
        (tmp_path / "here" / "oq.toml").write_text("[scheduler]\nworkers = 7\n")
        assert load_settings(environ={}).scheduler.workers == 7

    def test_a_file_that_is_named_is_read_in_its_place(self, file, tmp_path):
        (tmp_path / "here" / "oq.toml").write_text("[scheduler]\nworkers = 7\n")
        assert load_settings(file("[scheduler]\nworkers = 8\n"), {}).scheduler.workers == 8

    def test_the_environment_may_name_the_file_and_an_argument_wins_over_it(self, file):
        one, two = file("[scheduler]\nworkers = 1\n", "1.toml"), file("[scheduler]\nworkers = 2\n", "2.toml")
        assert load_settings(environ={"OQ_CONFIG": str(one)}).scheduler.workers == 1
        assert load_settings(two, {"OQ_CONFIG": str(one)}).scheduler.workers == 2

    def test_the_environment_wins_over_the_file(self, file):
        path = file(
            '[queue]\npath = "a"\ndurability = "relaxed"\n[scheduler]\nworkers = 1\n[plugins]\ndisabled = ["x"]\n'
        )
        environ = {"OQ_QUEUE": "redis://b", "OQ_WORKERS": "2", "OQ_DISABLED_PLUGINS": "y, z,"}
        settings = load_settings(path, environ)
        assert settings.queue == QueueSettings(path="redis://b", durability="relaxed")
        assert settings.scheduler.workers == 2
        assert settings.plugins.disabled == ("y", "z")

    def test_an_empty_variable_says_nothing(self, file):
        empty = {"OQ_QUEUE": "", "OQ_WORKERS": "", "OQ_DISABLED_PLUGINS": "", "OQ_CONFIG": ""}
        assert load_settings(environ=empty) == load_settings(environ={})

    def test_the_environment_of_the_process_is_the_one_that_is_meant(self, file, monkeypatch):
        monkeypatch.setenv("OQ_WORKERS", "3")
        assert load_settings().scheduler.workers == 3

    @given(st.integers(1, 10**6))
    def test_any_number_of_workers_can_be_set_by_the_environment(self, workers):
        assert load_settings(environ={"OQ_WORKERS": str(workers)}).scheduler.workers == workers

    def test_no_time_limit_is_written_inf(self, file):
        assert load_settings(file("[scheduler]\ntimeout = inf\n"), {}).scheduler.timeout == math.inf


class TestMistakes:
    def test_an_unknown_table_is_named_with_the_nearest(self, file):
        path = file("[sheduler]\nworkers = 1\n")
        assert problems(path, {}) == [f"{path}: sheduler: unknown field 'sheduler'; did you mean 'scheduler'?"]

    def test_an_unknown_key_is_named_with_the_nearest(self, file):
        path = file("[scheduler]\nworker = 1\n")
        assert problems(path, {}) == [f"{path}: scheduler: unknown field 'worker'; did you mean 'workers'?"]

    def test_every_mistake_is_told_at_once_with_its_path(self, file):
        path = file(
            '[queue]\ndurability = "none"\nmax_bytes = "many"\n[scheduler]\nworkers = true\nlimits = {ollama = "2"}\n'
            '[plugins]\ndisabled = "x"\n[retry]\njitter = 2\n[quue]\n'
        )
        assert problems(path, {}) == [
            f"{path}: queue.durability: expected 'strict' or 'relaxed', got 'none'",
            f"{path}: queue.max_bytes: expected a whole number, got 'many'",
            f"{path}: scheduler.workers: expected a whole number, got True",
            f"{path}: scheduler.limits['ollama']: expected a whole number, got '2'",
            f"{path}: plugins.disabled: expected a list, got 'x'",
            f"{path}: retry.jitter: 'jitter' must be between 0 and 1, not 2.0",
            f"{path}: quue: unknown field 'quue'; did you mean 'queue'?",
        ]

    def test_a_value_that_is_out_of_range_is_named(self, file):
        path = file("[scheduler]\nworkers = 0\n")
        assert problems(path, {}) == [f"{path}: scheduler.workers: 'workers' must be >= 1: 0"]

    def test_a_mistake_in_a_variable_is_not_blamed_on_the_file(self, file):
        path = file('[scheduler]\nworkers = 1\ngrace = "long"\n')
        assert problems(path, {"OQ_WORKERS": "many"}) == ["OQ_WORKERS: expected a whole number, got 'many'"]
        assert problems(environ={"OQ_WORKERS": "0"}) == ["OQ_WORKERS: 'workers' must be >= 1: 0"]
        assert problems(path, {"OQ_WORKERS": "2"}) == [f"{path}: scheduler.grace: expected a number, got 'long'"]

    def test_a_table_that_is_none_is_told_even_where_a_variable_would_add_to_it(self, file):
        path = file('queue = "./data"\nscript = 7\n')
        assert problems(path, {"OQ_QUEUE": "./mine"}) == [
            f"{path}: queue: expected an object with the fields of QueueSettings, got './data'",
            f"{path}: script: must be a table: [script]",
        ]

    def test_a_file_that_was_named_must_exist(self, file, tmp_path):
        missing = tmp_path / "missing.toml"
        assert problems(missing, {}) == [f"{missing} does not exist"]
        assert problems(environ={"OQ_CONFIG": str(missing)}) == [f"{missing} does not exist"]

    def test_a_file_that_cannot_be_read_is_told(self, file, tmp_path):
        (told,) = problems(tmp_path, {})
        assert told.startswith(f"{tmp_path} cannot be read: ")
        (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
        (told,) = problems(tmp_path / "binary.toml", {})
        assert told.startswith(f"{tmp_path / 'binary.toml'} cannot be read: ")

    def test_a_mistake_of_syntax_is_told_with_its_line(self, file):
        path = file("[queue]\npath = \n")
        (told,) = problems(path, {})
        assert told.startswith(f"{path}: ")
        assert "line 2" in told


class TestSections:
    def test_the_table_of_a_plugin_waits_until_the_plugin_asks(self, file):
        settings = load_settings(file('[script]\nvoice = "high"\n'), {})
        assert settings.section("script", EchoSettings) == EchoSettings(voice="high")

    def test_a_plugin_whose_table_is_not_there_gets_its_defaults(self, file):
        assert load_settings(environ={}).section("script", EchoSettings) == EchoSettings()

    def test_the_table_of_a_plugin_must_belong_to_one_that_is_known(self, file):
        path = file("[echo]\n")
        assert problems(path, {})[0].startswith(f"{path}: echo: unknown field 'echo'")
        assert load_settings(path, {}, extra_tables=("echo",)).section("echo", EchoSettings) == EchoSettings()

    def test_the_tables_of_oqs_own_plugins_may_stay_where_they_are_not_installed(self, file):
        path = file("".join(f"[{name}]\n" for name in ("script", "ollama", "openai", "http", "server")))
        assert set(load_settings(path, {}).sections) == {"script", "ollama", "openai", "http", "server"}

    def test_every_mistake_in_the_table_of_a_plugin_is_told_with_its_path(self, file):
        path = file('[script]\nvoice = 7\ntimes = "two"\nvoices = 1\n')
        with pytest.raises(InvalidSettings) as caught:
            load_settings(path, {}).section("script", EchoSettings)
        assert [str(problem) for problem in caught.value.problems] == [
            f"{path}: script.voice: expected a string, got 7",
            f"{path}: script.times: expected a whole number, got 'two'",
            f"{path}: script: unknown field 'voices'; did you mean 'voice'?",
        ]

    def test_the_settings_cannot_be_changed(self, file):
        with pytest.raises(AttributeError):
            load_settings(environ={}).queue.path = "./other"  # type: ignore[misc]

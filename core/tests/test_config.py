"""Settings come from a file and the environment; what is wrong in them is named with where to mend it."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.metadata import EntryPoint, EntryPoints

import attrs
import pytest
from attrs import field, frozen
from attrs.validators import ge
from hypothesis import given
from hypothesis import strategies as st

from oq.config import QueueSettings, RetentionSettings, SchedulerSettings, Settings, load_settings
from oq.config.tables import TABLES
from oq.errors import InvalidSettings
from oq.retry import RetryPolicy


@frozen(kw_only=True)
class EchoSettings:
    voice: str = "low"
    times: int = field(default=1, validator=ge(1))


@frozen(kw_only=True)
class Speaker:
    name: str
    pause: float = 1.0


@frozen(kw_only=True)
class ChoirSettings:
    """Of everything that a plugin's table may have."""

    loud: bool = False
    speakers: tuple[Speaker, ...] = ()
    tags: tuple[str, ...] = ()
    pauses: Mapping[str, float] = field(factory=dict)
    pause: float | None = 1.0
    share: float = field(default=0.5, metadata={"duration": False})
    host: str = field(default="nowhere", metadata={"variable": "CHOIR_HOST", "unless": ("speakers",)})
    port: int = 80


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


class TestArguments:
    def test_an_argument_wins_over_everything(self, file):
        path = file("[scheduler]\nworkers = 1\n")
        settings = load_settings(path, {"OQ_WORKERS": "2"}, arguments={"scheduler.workers": 3})
        assert settings.scheduler.workers == 3

    def test_what_it_replaces_need_not_be_right(self, file):
        assert load_settings(environ={"OQ_WORKERS": "x"}, arguments={"scheduler.workers": 3}).scheduler.workers == 3

    def test_a_wrong_one_is_told(self, file):
        assert problems(environ={}, arguments={"scheduler.workers": 0}) == [
            "argument: scheduler.workers: 'workers' must be >= 1: 0"
        ]

    def test_one_that_names_no_table_is_told(self, file):
        assert problems(environ={}, arguments={"workers": 1}) == [
            "argument workers: must name table and key, such as scheduler.workers"
        ]


OTHERS = {
    "queue.path": ("elsewhere", "elsewhere"),
    "queue.durability": ("relaxed", "relaxed"),
    "scheduler.limits": ("script=2, ollama=1", {"script": 2, "ollama": 1}),
    "logging.level": ("DEBUG", "debug"),
    "logging.format": ("json", "json"),
    "logging.file": ("oq.log", "oq.log"),
    "plugins.disabled": ("a, b", ("a", "b")),
}
"""Texts and values of what is not a number."""


class TestVariables:
    @pytest.mark.parametrize(
        "key", [f"{table}.{attribute.name}" for table, cls in TABLES.items() for attribute in attrs.fields(cls)]
    )
    def test_every_setting_of_the_core_has_one(self, file, key):
        table, name = key.split(".")
        default = getattr(getattr(Settings(), table), name)
        number = 1 if table == "retry" and name == "jitter" else 2**21
        text, value = OTHERS.get(key, (str(number), number))
        changed = getattr(getattr(load_settings(environ={f"OQ_{table}_{name}".upper(): text}), table), name)
        assert changed == value
        assert changed != default

    def test_the_long_name_wins_over_the_short_one(self, file):
        environ = {"OQ_WORKERS": "2", "OQ_SCHEDULER_WORKERS": "3"}
        assert load_settings(environ=environ).scheduler.workers == 3

    @pytest.mark.parametrize("text", ["true", "Yes", "ON", "1"])
    def test_yes_has_several_words(self, text):
        assert load_settings(environ={"OQ_CHOIR_LOUD": text}).section("choir", ChoirSettings).loud is True

    @pytest.mark.parametrize("text", ["false", "No", "OFF", "0"])
    def test_no_has_several_words(self, text):
        settings = Settings(sections={"choir": {"loud": True}})
        settings = attrs.evolve(load_settings(environ={"OQ_CHOIR_LOUD": text}), sections=settings.sections)
        assert settings.section("choir", ChoirSettings).loud is False

    def test_what_may_be_nothing_is_made_that_by_none(self, file):
        path = file("[scheduler]\ntimeout = 5\n")
        assert load_settings(path, {"OQ_SCHEDULER_TIMEOUT": "none"}).scheduler.timeout is None

    @pytest.mark.parametrize(
        ("variable", "text", "told"),
        [
            ("OQ_SCHEDULER_WORKERS", "many", "expected a whole number, got 'many'"),
            ("OQ_SCHEDULER_WORKERS", "0", "'workers' must be >= 1: 0"),
            ("OQ_SCHEDULER_GRACE", "soon", "'soon' is not a duration; write 90, 1.5s, 5m, 2h or 1h30m"),
            ("OQ_SCHEDULER_LIMITS", "script", "expected names and values such as a=1,b=2, got 'script'"),
            ("OQ_SCHEDULER_LIMITS", "script=x", "expected a whole number, got 'x'"),
            ("OQ_RETRY_FACTOR", "5m", "expected a number, got '5m'"),
            ("OQ_QUEUE_DURABILITY", "none", "expected 'strict' or 'relaxed', got 'none'"),
            ("OQ_LOGGING_LEVEL", "loud", "'level' must be one of debug, info, warning, error, critical, not 'loud'"),
        ],
    )
    def test_a_bad_one_is_named_once(self, file, variable, text, told):
        assert problems(environ={variable: text}) == [f"{variable}: {told}"]

    @pytest.mark.parametrize(
        ("variable", "meant"),
        [
            ("OQ_SCHEDULER_WORKRS", "OQ_SCHEDULER_WORKERS"),
            ("OQ_SHEDULER_WORKERS", "OQ_SCHEDULER_WORKERS"),
            ("OQ_WORKER", "OQ_WORKERS"),
            ("OQ_CONFG", "OQ_CONFIG"),
        ],
    )
    def test_a_misspelt_one_is_named_with_the_nearest(self, file, variable, meant):
        assert problems(environ={variable: "1"}) == [f"{variable}: there is no such setting; did you mean {meant}?"]

    def test_one_of_a_key_like_no_other_is_told_those_that_there_are(self, file):
        assert problems(environ={"OQ_PLUGINS_ZZZ": "1"}) == [
            "OQ_PLUGINS_ZZZ: there is no such setting (known: OQ_PLUGINS_DISABLED)"
        ]

    @pytest.mark.parametrize("variable", ["OQ_TASK_ID", "OQ_ATTEMPT", "OQ_MEMORY_TASKS", "OQ_SERVICE_HOST", "OQ_PORT"])
    def test_one_that_is_like_none_of_oqs_is_somebody_elses(self, file, variable):
        assert load_settings(environ={variable: "1"}) == load_settings(environ={})

    @pytest.mark.parametrize(
        "variable",
        ["OQ_QUEUE_SERVICE_HOST", "OQ_QUEUE_SERVICE_PORT_WEB", "OQ_QUEUE_PORT", "OQ_QUEUE_PORT_80_TCP_ADDR"],
    )
    def test_what_kubernetes_sets_for_a_service_is_no_setting(self, file, variable):
        assert load_settings(environ={variable: "10.0.0.1"}) == load_settings(environ={})


class TestDurations:
    @pytest.mark.parametrize(
        ("written", "seconds"), [("30", 30), ('"30"', 30), ('"1.5s"', 1.5), ('"5m"', 300), ('"1h30m"', 5400)]
    )
    def test_they_are_numbers_of_seconds_or_have_units(self, file, written, seconds):
        assert load_settings(file(f"[scheduler]\ngrace = {written}\n"), {}).scheduler.grace == seconds

    def test_a_variable_has_them_too(self):
        assert load_settings(environ={"OQ_SCHEDULER_TIMEOUT": "2h"}).scheduler.timeout == 7200

    def test_no_end_is_written_inf(self, file):
        assert load_settings(file('[scheduler]\ntimeout = "inf"\n'), {}).scheduler.timeout == math.inf

    def test_nothing_is_written_none_where_the_format_has_no_word_for_it(self, file):
        path = file('[retention]\ncompleted = "7d"\nfailed = "none"\nmax_completed_tasks = "none"\n')
        assert load_settings(path, {}).retention == RetentionSettings(completed=7 * 86400.0)

    def test_a_text_that_is_none_is_told(self, file):
        path = file('[scheduler]\ngrace = "soon"\n')
        assert problems(path, {}) == [
            f"{path}:2: scheduler.grace: 'soon' is not a duration; write 90, 1.5s, 5m, 2h or 1h30m"
        ]

    @pytest.mark.parametrize("key", ["factor", "jitter"])
    def test_a_number_that_is_no_duration_has_no_units(self, file, key):
        path = file(f'[retry]\n{key} = "1s"\n')
        assert problems(path, {}) == [f"{path}:2: retry.{key}: expected a number, got '1s'"]


class TestMistakes:
    def test_an_unknown_table_is_named_with_the_nearest(self, file):
        path = file("[sheduler]\nworkers = 1\n")
        assert problems(path, {}) == [f"{path}:1: sheduler: there is no such table; did you mean 'scheduler'?"]

    def test_an_unknown_key_is_named_with_the_nearest(self, file):
        path = file("[scheduler]\nworker = 1\n")
        assert problems(path, {}) == [f"{path}:2: scheduler.worker: there is no such key; did you mean 'workers'?"]

    def test_a_key_in_the_wrong_table_is_told_the_right_one(self, file):
        path = file("workers = 1\n[queue]\nworkers = 1\n")
        assert problems(path, {}) == [
            f"{path}:1: workers: there is no such key; [scheduler] has one of this name",
            f"{path}:3: queue.workers: there is no such key; [scheduler] has one of this name",
        ]

    def test_a_key_like_no_other_is_told_those_that_there_are(self, file):
        path = file("[plugins]\nzzz = 1\n")
        assert problems(path, {}) == [f"{path}:2: plugins.zzz: there is no such key (known: disabled)"]

    def test_every_mistake_is_told_at_once_with_its_path(self, file):
        path = file(
            '[queue]\ndurability = "none"\nmax_bytes = "many"\n[scheduler]\nworkers = true\nlimits = {ollama = "2"}\n'
            '[plugins]\ndisabled = "x"\n[retry]\njitter = 2\n[quue]\n'
        )
        assert problems(path, {}) == [
            f"{path}:2: queue.durability: expected 'strict' or 'relaxed', got 'none'",
            f"{path}:3: queue.max_bytes: expected a whole number, got 'many'",
            f"{path}:5: scheduler.workers: expected a whole number, got True",
            f"{path}:6: scheduler.limits['ollama']: expected a whole number, got '2'",
            f"{path}:8: plugins.disabled: expected a list, got 'x'",
            f"{path}:10: retry.jitter: 'jitter' must be between 0 and 1, not 2.0",
            f"{path}:11: quue: there is no such table; did you mean 'queue'?",
        ]

    def test_a_value_that_is_out_of_range_is_named(self, file):
        path = file("[scheduler]\nworkers = 0\n")
        assert problems(path, {}) == [f"{path}:2: scheduler.workers: 'workers' must be >= 1: 0"]

    def test_a_mistake_in_a_variable_is_not_blamed_on_the_file(self, file):
        path = file("[scheduler]\nworkers = 1\ngrace = true\n")
        assert problems(environ={"OQ_WORKERS": "many"}) == ["OQ_WORKERS: expected a whole number, got 'many'"]
        assert problems(environ={"OQ_WORKERS": "0"}) == ["OQ_WORKERS: 'workers' must be >= 1: 0"]
        assert problems(path, {"OQ_WORKERS": "2"}) == [f"{path}:3: scheduler.grace: expected a number, got True"]

    def test_a_table_that_is_none_is_told_even_where_a_variable_would_add_to_it(self, file):
        path = file('queue = "./data"\nscript = 7\n')
        assert problems(path, {"OQ_QUEUE": "./mine"}) == [
            f"{path}:1: queue: must be a table: [queue]",
            f"{path}:2: script: must be a table: [script]",
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

    @pytest.mark.parametrize("table", [{"OQ_PAIR_ONE": "1"}, {}])
    def test_a_class_that_wants_to_be_told_something_says_so(self, table):
        @frozen(kw_only=True)
        class Pair:
            one: int
            two: int = 0

        with pytest.raises(InvalidSettings, match=r"^pair\.one: is required$") if not table else nullcontext():
            load_settings(environ=table).section("pair", Pair)

    def test_the_table_of_a_plugin_must_belong_to_one_that_is_known(self, file):
        path = file("[echo]\n")
        assert problems(path, {})[0].startswith(f"{path}:1: echo: there is no such table")
        assert load_settings(path, {}, extra_tables=("echo",)).section("echo", EchoSettings) == EchoSettings()

    def test_the_tables_of_oqs_own_plugins_may_stay_where_they_are_not_installed(self, file):
        path = file("".join(f"[{name}]\n" for name in ("script", "ollama", "openai", "http", "server")))
        assert set(load_settings(path, {}).sections) == {"script", "ollama", "openai", "http", "server"}

    def test_every_mistake_in_the_table_of_a_plugin_is_told_with_its_path(self, file):
        path = file('[script]\nvoice = 7\ntimes = "two"\nvoices = 1\n')
        with pytest.raises(InvalidSettings) as caught:
            load_settings(path, {}).section("script", EchoSettings)
        assert [str(problem) for problem in caught.value.problems] == [
            f"{path}:2: script.voice: expected a string, got 7",
            f"{path}:3: script.times: expected a whole number, got 'two'",
            f"{path}:4: script.voices: there is no such key; did you mean 'voice'?",
        ]

    def test_the_name_of_an_installed_plugin_is_a_table(self, file, monkeypatch):
        path = file('[echo]\nvoice = "high"\n')
        installed = EntryPoints([EntryPoint("echo", "oq_echo", "oq")])
        monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: installed)
        assert load_settings(path, {}).section("echo", EchoSettings).voice == "high"

    def test_its_scalars_and_lists_have_variables(self):
        environ = {
            "OQ_CHOIR_LOUD": "yes",
            "OQ_CHOIR_TAGS": "a,b",
            "OQ_CHOIR_PAUSES": "verse=1m",
            "OQ_CHOIR_PAUSE": "none",
            "OQ_CHOIR_SHARE": "0.25",
        }
        assert load_settings(environ=environ).section("choir", ChoirSettings) == ChoirSettings(
            loud=True, tags=("a", "b"), pauses={"verse": 60.0}, pause=None, share=0.25
        )

    def test_what_has_parts_can_only_be_set_in_a_file(self):
        with pytest.raises(InvalidSettings, match=r"^OQ_CHOIR_SPEAKERS: cannot be set by a variable; write it in the"):
            load_settings(environ={"OQ_CHOIR_SPEAKERS": "x"}).section("choir", ChoirSettings)

    def test_a_misspelt_variable_of_it_is_told_when_it_asks(self):
        with pytest.raises(InvalidSettings, match=r"^OQ_CHOIR_LOUDD: there is no such .* did you mean OQ_CHOIR_LOUD\?"):
            load_settings(environ={"OQ_CHOIR_LOUDD": "x"}).section("choir", ChoirSettings)

    def test_durations_are_read_however_deep_they_are(self, file):
        path = file('[[script.speakers]]\nname = "a"\npause = "2m"\n[script.pauses]\nverse = "3m"\n')
        choir = load_settings(path, {}).section("script", ChoirSettings)
        assert (choir.speakers[0].pause, choir.pauses["verse"]) == (120, 180)

    def test_mistakes_are_told_with_their_line_however_deep_they_are(self, file):
        path = file(
            '[[script.speakers]]\nname = "a"\n\n[[script.speakers]]\npause = 1\n\n[[script.speakers]]\n'
            'name = "c"\npouse = 1\npause = "x"\n'
        )
        with pytest.raises(InvalidSettings) as caught:
            load_settings(path, {}).section("script", ChoirSettings)
        assert [str(problem) for problem in caught.value.problems] == [
            f"{path}:4: script.speakers[1].name: is required",
            f"{path}:9: script.speakers[2].pouse: there is no such key; did you mean 'pause'?",
            f"{path}:10: script.speakers[2].pause: 'x' is not a duration; write 90, 1.5s, 5m, 2h or 1h30m",
        ]

    def test_where_a_key_is_wrong_the_class_is_not_asked_for_its_opinion(self, file):
        @frozen
        class Pair:
            one: int = 0

            def __attrs_post_init__(self):
                raise ValueError("give one or two")

        path = file("[script]\nwon = 1\n")
        with pytest.raises(InvalidSettings) as caught:
            load_settings(path, {}).section("script", Pair)
        assert str(caught.value) == f"{path}:2: script.won: there is no such key; did you mean 'one'?"

    def test_a_field_may_name_a_variable_that_sets_it_too(self):
        assert load_settings(environ={"CHOIR_HOST": "here"}).section("script", ChoirSettings).host == "here"

    def test_which_may_be_without_meaning_beside_some_key(self, file):
        path = file('[[script.speakers]]\nname = "a"\n')
        settings = load_settings(path, {"CHOIR_HOST": "here"})
        assert settings.section("script", ChoirSettings).host == "nowhere"

    def test_the_address_that_kubernetes_sets_is_no_port(self):
        environ = {"OQ_CHOIR_PORT": "tcp://10.0.0.1:80"}
        assert load_settings(environ=environ).section("choir", ChoirSettings).port == 80

    def test_a_value_that_fails_in_use_is_told_with_its_place(self, file):
        path = file('[script]\nvoice = "high"\n')
        assert str(load_settings(path, {}).error("script.voice", "is too high")) == (
            f"{path}:2: script.voice: is too high"
        )

    def test_the_settings_cannot_be_changed(self, file):
        with pytest.raises(AttributeError):
            load_settings(environ={}).queue.path = "./other"  # type: ignore[misc]

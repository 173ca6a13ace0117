"""Secrets come from the environment into a file by `${NAME}`; neither they nor other secrets are ever shown."""

from collections.abc import Mapping

import attrs
import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from oq.config import Secret, Setting, Settings, load_settings
from oq.config.secrets import expanded
from oq.errors import InvalidSettings


@frozen(kw_only=True)
class Account:
    user: str = "me"
    password: str = field(default="", repr=False)


@frozen(kw_only=True)
class CloudSettings:
    url: str = "http://cloud"
    key: str | None = field(default=None, metadata={"secret": True})
    port: int = 80
    timeout: float = 1.0
    loud: bool = False
    account: Account = field(factory=Account)
    accounts: tuple[Account, ...] = ()
    headers: Mapping[str, str] = field(factory=dict)
    tokens: tuple[str, ...] = field(default=(), metadata={"secret": True})
    named_token: str = ""
    template: str = field(default="", metadata={"expand": False})


@pytest.fixture
def load(tmp_path):
    def load(text, **environ):
        path = tmp_path / "oq.toml"
        path.write_text(text)
        return load_settings(path, environ, extra_tables=("cloud",))

    return load


def cloud(settings):
    return settings.section("cloud", CloudSettings)


def refused(settings):
    with pytest.raises(InvalidSettings) as caught:
        cloud(settings)
    return [str(problem).partition("oq.toml")[2] or str(problem) for problem in caught.value.problems]


def shown(settings, key):
    settings = settings.explain({"cloud": CloudSettings})
    return next(setting for setting in settings if f"{setting.table}.{setting.key}" == key)


class TestReferences:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("${A}", "one"),
            ("http://${A}:${B}/x", "http://one:two/x"),
            ("${NO:-three}", "three"),
            ("${NO:-}", ""),
            ("${EMPTY:-three}", "three"),
            ("${A:-three}", "one"),
            ("$A $ $$ {A}", "$A $ $$ {A}"),
            ("$${A}", "${A}"),
        ],
    )
    def test_they_stand_for_variables(self, load, written, meant):
        assert cloud(load(f'[cloud]\nurl = "{written}"', A="one", B="two", EMPTY="")).url == meant

    @given(st.text("${}AB:- "))
    def test_any_text_can_be_written(self, text):
        assert expanded(text.replace("${", "$${"), {}) == text

    def test_they_stand_wherever_a_text_does(self, load):
        settings = cloud(
            load(
                '[cloud]\naccount.password = "${A}"\nheaders = {x = "${A}"}\ntokens = ["${A}"]\n'
                '[[cloud.accounts]]\nuser = "${A}"',
                A="one",
            )
        )
        assert (settings.account.password, settings.headers, settings.tokens) == ("one", {"x": "one"}, ("one",))
        assert settings.accounts[0].user == "one"

    def test_they_become_what_the_field_holds(self, load):
        text = '[cloud]\nport = "${PORT}"\ntimeout = "${TIME}"\nloud = "${LOUD}"\n[scheduler]\nworkers = "${N}"'
        settings = load(text, PORT="81", TIME="2m", LOUD="yes", N="7")
        assert (cloud(settings).port, cloud(settings).timeout, cloud(settings).loud) == (81, 120, True)
        assert settings.scheduler.workers == 7

    def test_what_they_bring_is_not_looked_at_for_more(self, load):
        assert cloud(load('[cloud]\nurl = "${A}"', A="${B}", B="two")).url == "${B}"

    @pytest.mark.parametrize("environ", [{}, {"KEY": ""}])
    def test_one_that_is_not_set_is_named_with_the_key(self, load, environ):
        assert refused(load('[cloud]\n\nkey = "${KEY}"', **environ)) == [
            ":3: cloud.key: the environment variable KEY is not set; set it, or write ${KEY:-default}"
        ]

    def test_so_it_is_in_the_tables_of_the_core(self, load):
        with pytest.raises(
            InvalidSettings, match=r"oq\.toml:2: queue\.path: the environment variable WHERE is not set"
        ):
            load('[queue]\npath = "${WHERE}"')

    def test_and_where_a_number_is_wanted(self, load):
        assert refused(load('[cloud]\nport = "${PORT}"')) == [
            ":2: cloud.port: the environment variable PORT is not set; set it, or write ${PORT:-default}"
        ]

    def test_it_does_not_matter_where_the_plugin_is_not_installed(self, load):
        assert load('[cloud]\nkey = "${KEY}"').scheduler.workers == 4

    def test_nor_where_something_else_wins(self, load):
        assert load('[queue]\npath = "${WHERE}"', OQ_QUEUE="here").queue.path == "here"

    @pytest.mark.parametrize("written", ["${}", "${1A}", "${A-B}", "${A", "x ${A b} y"])
    def test_one_that_is_none_is_told(self, load, written):
        [told] = refused(load(f'[cloud]\nurl = "{written}"', A="one"))
        assert told.startswith(":2: cloud.url: ${")
        assert "is no variable; write ${NAME} or ${NAME:-default}" in told

    def test_a_field_may_do_without_them(self, load):
        assert cloud(load('[cloud]\ntemplate = "${A} ${"', A="one")).template == "${A} ${"

    def test_variables_have_no_references(self, load):
        assert cloud(load("", OQ_CLOUD_URL="${A}", A="one")).url == "${A}"

    def test_nor_have_arguments(self):
        assert load_settings(environ={"A": "one"}, arguments={"queue.path": "${A}"}).queue.path == "${A}"


class TestHiding:
    def test_a_secret_is_a_text_whose_repr_is_hidden(self):
        secret = Secret("sesame")
        assert (secret, f"{secret}", repr(secret), f"{secret!r}") == ("sesame", "sesame", "'***'", "'***'")

    def test_what_came_by_reference_is_in_no_repr(self, load):
        settings = load(
            '[queue]\npath = "redis://${KEY}"\n[cloud]\nurl = "${KEY}"\nheaders = {a = "${KEY}"}', KEY="sesame"
        )
        assert "sesame" not in repr(settings)
        assert "sesame" not in repr(cloud(settings))

    def test_nor_is_what_the_class_marks_as_secret(self, load):
        settings = load('[cloud]\nkey = "sesame"\ntokens = ["sesame"]\naccount.password = "sesame"')
        assert "sesame" not in repr(settings)
        assert "sesame" not in repr(cloud(settings))

    @pytest.mark.parametrize(
        "text",
        [
            'port = "${KEY}"',
            'timeout = "${KEY}"',
            'loud = "x${KEY}"',
            'account = "${KEY}"',
            'headers = "${KEY}"',
            'tokens = {a = "${KEY}"}',
            'accounts = ["${KEY}"]',
        ],
    )
    def test_no_message_quotes_one(self, load, text):
        told = refused(load(f"[cloud]\n{text}", KEY="sesame"))
        assert told
        assert "sesame" not in "".join(told)

    def test_nor_one_that_a_variable_has(self, load):
        assert "sesame" not in "".join(refused(load("", OQ_CLOUD_TOKENS="sesame", OQ_CLOUD_PORT="x")))

    def test_not_even_one_of_a_class_that_quotes_values_itself(self, load):
        @frozen
        class Strict:
            url: str = field()

            @url.validator
            def _check(self, _, value):
                raise ValueError(f"'url' must not be {value}")

        with pytest.raises(InvalidSettings, match=r"'url' must not be \*\*\*$"):
            load('[cloud]\nurl = "${KEY}"', KEY="sesame").section("cloud", Strict)


class TestExplaining:
    def test_every_value_of_the_core_is_there_in_order(self):
        tables = list(dict.fromkeys(setting.table for setting in Settings().explain()))
        assert tables == ["queue", "scheduler", "retry", "retention", "limits", "logging", "plugins"]
        assert len(Settings().explain()) == sum(len(attrs.fields(type(getattr(Settings(), name)))) for name in tables)

    def test_what_nobody_set_is_the_default(self):
        assert shown(load_settings(environ={}), "scheduler.workers") == Setting(
            table="scheduler", key="workers", value=4, source="default"
        )

    def test_each_source_is_named(self, load, tmp_path):
        path = tmp_path / "oq.toml"
        path.write_text("max_workers = 2\n[scheduler]\ngrace = 3\n")
        settings = load_settings(path, {"OQ_SCHEDULER_TIMEOUT": "4"}, arguments={"queue.path": "there"})
        assert [shown(settings, key).source for key in ("scheduler.workers", "scheduler.grace")] == [
            f"{path}:1",
            f"{path}:3",
        ]
        assert shown(settings, "scheduler.timeout").source == "OQ_SCHEDULER_TIMEOUT"
        assert shown(settings, "queue.path").source == "argument"

    def test_that_of_a_short_variable_is_the_short_one(self):
        assert shown(load_settings(environ={"OQ_WORKERS": "3"}), "scheduler.workers").source == "OQ_WORKERS"

    def test_tables_of_plugins_are_there_down_to_each_key(self, load):
        settings = load('[cloud]\nport = 3\naccount.user = "you"', OQ_CLOUD_LOUD="yes")
        assert [shown(settings, f"cloud.{key}").value for key in ("port", "account.user", "loud")] == [3, "you", True]
        assert shown(settings, "cloud.account.user").source.endswith("oq.toml:3")
        assert shown(settings, "cloud.loud").source == "OQ_CLOUD_LOUD"

    def test_that_of_a_plugin_that_is_not_installed_is_there_as_in_the_file(self, load):
        settings = load('[cloud]\nport = 3\nwhat = {ever = 1, api_key = "sesame"}\ntoken = "sesame"').explain()
        assert [(one.key, one.value, one.secret) for one in settings if one.table == "cloud"] == [
            ("port", 3, False),
            ("what", {"ever": 1, "api_key": "***"}, True),
            ("token", "***", True),
        ]

    @pytest.mark.parametrize(
        ("text", "key", "value"),
        [
            ('url = "${KEY}"', "url", "***"),
            ('port = "${PORT}"', "port", "***"),
            ('key = "sesame"', "key", "***"),
            ('account.password = "sesame"', "account.password", "***"),
            ('named_token = "sesame"', "named_token", "***"),
            ('tokens = ["sesame", "open"]', "tokens", ["***", "***"]),
            ('headers = {Authorization = "sesame", Accept = "x"}', "headers", {"Authorization": "***", "Accept": "x"}),
            ('headers = {x = "${KEY}", y = "z"}', "headers", {"x": "***", "y": "z"}),
            ('accounts = [{password = "sesame"}]', "accounts", [{"user": "me", "password": "***"}]),
            ('url = "redis://me:sesame@host/0"', "url", "redis://me:***@host/0"),
        ],
    )
    def test_what_is_secret_is_hidden(self, load, text, key, value):
        setting = shown(load(f"[cloud]\n{text}", KEY="sesame", PORT="81"), f"cloud.{key}")
        assert (setting.value, setting.secret) == (value, True)

    def test_a_secret_that_is_not_set_is_shown_as_such(self, load):
        setting = shown(load(""), "cloud.key")
        assert (setting.value, setting.secret) == (None, False)

    def test_one_that_a_variable_replaced_is_none_any_more(self, load):
        setting = shown(load('[cloud]\nport = "${PORT}"', PORT="81", OQ_CLOUD_PORT="82"), "cloud.port")
        assert (setting.value, setting.secret, setting.source) == (82, False, "OQ_CLOUD_PORT")

    def test_what_json_has_no_number_for_is_a_text(self, load):
        assert shown(load("[scheduler]\ntimeout = inf"), "scheduler.timeout").value == "inf"

"""Plugins are found through entry points; one that is at fault is named, with how to go on without it."""

import sys
from importlib.metadata import EntryPoint
from types import MappingProxyType, ModuleType

import pytest

from oq import hookspecs
from oq import plugins as oq_plugins
from oq._version import __version__
from oq.config import Settings, load_settings
from oq.errors import DuplicateExecutor, InvalidSettings, PluginLoadError
from oq.hookspecs import CliCommand, hookimpl
from oq.plugins import PluginInfo, Plugins, built_in_plugins, load_plugins


class Distribution:
    """As much of an installed package as anybody looks at."""

    def __init__(self, name, version="1.2"):
        self.name = name
        self.version = version


class Executor:
    version = "1.2"
    description = "Does nothing"
    actions = MappingProxyType({})

    def __init__(self, name):
        self.name = name

    async def execute(self, task, ctx): ...


class Boom(Exception):
    pass


def open_nothing(location, settings): ...


@pytest.fixture
def entry(monkeypatch):
    """Install a plugin whose module has these functions, and give its entry point."""

    def install(name, *functions, package=None):
        module = ModuleType(f"plugin_{name}")
        for function in functions:
            setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return EntryPoint(name, module.__name__, "oq")._for(Distribution(package or f"oq-{name}"))

    return install


def executors(*names):
    @hookimpl
    def oq_executors(settings):
        return [Executor(name) for name in names]

    return oq_executors


def stores(*schemes):
    @hookimpl
    def oq_stores():
        return dict.fromkeys(schemes, open_nothing)

    return oq_stores


def commands(*paths):
    @hookimpl
    def oq_cli_commands():
        return [CliCommand(path=path, summary="Do it", load="m:f") for path in paths]

    return oq_cli_commands


def loaded(*entries, disabled=()):
    plugins = Plugins()
    plugins.load(entries, disabled)
    return plugins


def fault(*entries):
    with pytest.raises(PluginLoadError) as caught:
        loaded(*entries)
    return caught.value


class TestLoading:
    def test_a_plugin_is_known_by_its_name_and_its_package(self, entry):
        assert loaded(entry("echo", executors("echo"))).infos() == [
            PluginInfo(name="echo", distribution="oq-echo", version="1.2")
        ]

    def test_plugins_are_loaded_in_the_order_of_their_names(self, entry):
        plugins = loaded(entry("zeta", executors("a")), entry("alpha", executors("z")))
        assert [info.name for info in plugins.infos()] == ["alpha", "zeta"]
        assert [executor.name for executor in plugins.executors(Settings())] == ["z", "a"]

    def test_a_plugin_may_be_an_object(self, entry, monkeypatch):
        entry("echo")

        class Plugin:
            @hookimpl
            def oq_stores(self):
                return {"echo": open_nothing}

        sys.modules["plugin_echo"].plugin = Plugin()
        found = EntryPoint("echo", "plugin_echo:plugin", "oq")._for(Distribution("oq-echo"))
        assert list(loaded(found).stores()) == ["echo"]

    def test_an_entry_point_of_no_package_is_loaded_all_the_same(self, entry):
        entry("echo", stores("echo"))
        plugins = loaded(EntryPoint("echo", "plugin_echo", "oq"))
        assert plugins.infos() == [PluginInfo(name="echo", distribution="unknown", version="?")]


class TestFaults:
    def test_a_plugin_that_cannot_be_imported_is_named_with_how_to_go_on_without_it(self):
        error = fault(EntryPoint("echo", "no_such_module", "oq")._for(Distribution("oq-echo")))
        assert (error.plugin, error.distribution, error.version) == ("echo", "oq-echo", "1.2")
        assert str(error) == (
            "plugin 'echo' (oq-echo 1.2) cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'; "
            "repair it, uninstall oq-echo, or disable it with OQ_DISABLED_PLUGINS=echo"
        )
        assert isinstance(error.__cause__, ModuleNotFoundError)

    def test_whatever_an_import_raises_is_told_on_one_line(self, monkeypatch, tmp_path):
        (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('one\\ntwo')")
        monkeypatch.syspath_prepend(tmp_path)
        error = fault(EntryPoint("broken", "broken_plugin", "oq")._for(Distribution("oq-broken")))
        assert "RuntimeError: one two;" in str(error)

    def test_a_misspelt_hook_is_found(self, entry):
        @hookimpl
        def oq_executor(settings):
            return []

        error = fault(entry("echo", oq_executor))
        assert error.plugin == "echo"
        assert "unknown hook 'oq_executor'" in error.reason

    def test_a_misspelt_hook_is_found_beside_a_right_one(self, entry):
        @hookimpl
        def oq_store():
            return {}

        assert "unknown hook 'oq_store'" in fault(entry("echo", executors("echo"), oq_store)).reason

    def test_a_hook_that_asks_for_an_argument_it_will_not_get_is_found(self, entry):
        @hookimpl
        def oq_stores(settings, queue):
            return {}

        assert "queue" in fault(entry("echo", oq_stores)).reason

    def test_an_async_hook_is_found(self, entry):
        @hookimpl
        async def oq_stores():
            return {}

        assert fault(entry("echo", oq_stores)).reason == "its oq_stores is async, so nobody would await it"

    def test_a_plugin_without_a_hook_is_none(self, entry):
        def oq_executors(settings):
            return []

        assert fault(entry("echo", oq_executors)).reason == "it implements no hook of oq"

    def test_a_name_can_be_taken_once(self, entry):
        one, two = entry("echo", executors("a")), entry("echo", executors("b"), package="oq-other")
        error = fault(one, two)
        assert error.distribution == "oq-other"
        assert error.reason == "a plugin of this name comes from oq-echo as well"

    @pytest.mark.parametrize(
        ("hook", "ask"),
        [
            ("oq_executors", lambda plugins: plugins.executors(Settings())),
            ("oq_stores", lambda plugins: plugins.stores()),
            ("oq_cli_commands", lambda plugins: plugins.cli_commands()),
        ],
    )
    def test_a_hook_that_raises_is_named_with_its_plugin(self, entry, hook, ask):
        def fail():
            raise Boom("no\nluck")

        fail.__name__ = hook
        plugins = loaded(entry("alpha", executors("a"), stores("a"), commands(("a",))), entry("echo", hookimpl(fail)))
        with pytest.raises(PluginLoadError) as caught:
            ask(plugins)
        assert caught.value.plugin == "echo"
        assert caught.value.reason == f"{hook}: Boom: no luck"
        assert isinstance(caught.value.__cause__, Boom)

    @pytest.mark.parametrize(
        ("hook", "answer", "ask"),
        [
            ("oq_executors", Executor("echo"), lambda plugins: plugins.executors(Settings())),
            ("oq_executors", [object()], lambda plugins: plugins.executors(Settings())),
            ("oq_stores", ["redis"], lambda plugins: plugins.stores()),
            ("oq_cli_commands", ["submit"], lambda plugins: plugins.cli_commands()),
        ],
    )
    def test_a_hook_that_answers_with_something_else_is_named_too(self, entry, hook, answer, ask):
        def wrong():
            return answer

        wrong.__name__ = hook
        with pytest.raises(PluginLoadError, match=hook) as caught:
            ask(loaded(entry("echo", hookimpl(wrong))))
        assert caught.value.plugin == "echo"

    def test_wrong_settings_are_told_as_such(self, entry):
        @hookimpl
        def oq_executors(settings):
            raise InvalidSettings("is required", "echo.voice")

        with pytest.raises(InvalidSettings, match=r"echo\.voice: is required"):
            loaded(entry("echo", oq_executors)).executors(Settings())


class TestDisabling:
    def test_a_plugin_that_is_disabled_is_listed_but_not_even_imported(self):
        found = EntryPoint("echo", "no_such_module", "oq")._for(Distribution("oq-echo"))
        plugins = loaded(found, disabled=["echo"])
        assert plugins.infos() == [PluginInfo(name="echo", distribution="oq-echo", version="1.2", enabled=False)]
        assert plugins.executors(Settings()) == []

    def test_the_others_are_loaded(self, entry):
        plugins = loaded(entry("alpha", executors("a")), entry("beta", executors("b")), disabled={"alpha"})
        assert [executor.name for executor in plugins.executors(Settings())] == ["b"]

    def test_disabling_one_that_took_a_name_of_oqs_own_leaves_oqs_own(self, entry, monkeypatch):
        monkeypatch.setattr(oq_plugins, "entry_points", lambda **_: [entry("memory", stores("mine"))])
        plugins = load_plugins(disabled=["memory"])
        assert {"lmdb", "memory"} == set(plugins.stores())


class TestConflicts:
    def test_two_executors_of_one_name_are_an_error(self, entry):
        plugins = loaded(entry("one", executors("echo")), entry("two", executors("echo")))
        with pytest.raises(DuplicateExecutor, match="named 'echo'"):
            plugins.executors(Settings())

    def test_so_are_two_of_one_plugin(self, entry):
        with pytest.raises(DuplicateExecutor, match="named 'echo'"):
            loaded(entry("one", executors("echo", "echo"))).executors(Settings())

    def test_two_stores_of_one_scheme_are_an_error(self, entry):
        plugins = loaded(entry("one", stores("redis")), entry("two", stores("nats", "redis")))
        with pytest.raises(PluginLoadError, match="the store scheme 'redis' is taken already") as caught:
            plugins.stores()
        assert caught.value.plugin == "two"

    @pytest.mark.parametrize("by", [[["one"], ["two"]], [["one", "one"]]])
    def test_two_commands_of_one_path_are_an_error_be_they_of_one_plugin_or_of_two(self, entry, by):
        path = ("submit", "echo")
        entries = [entry(names[0], commands(*[path for _ in names])) for names in by]
        with pytest.raises(PluginLoadError, match="the command 'submit echo' is taken already") as caught:
            loaded(*entries).cli_commands()
        assert caught.value.plugin == by[-1][0]


class TestAnswers:
    def test_executors_are_made_with_the_settings(self, entry):
        @hookimpl
        def oq_executors(settings):
            return [Executor(settings.queue.path)]

        settings = load_settings(environ={"OQ_QUEUE": "here"})
        assert [made.name for made in loaded(entry("echo", oq_executors)).executors(settings)] == ["here"]

    def test_a_hook_may_do_without_the_settings(self, entry):
        @hookimpl
        def oq_executors():
            return [Executor("echo")]

        assert [made.name for made in loaded(entry("echo", oq_executors)).executors(Settings())] == ["echo"]

    def test_what_plugins_bring_is_put_together(self, entry):
        plugins = loaded(
            entry("one", stores("redis"), commands(("submit", "one"))),
            entry("two", stores("nats"), commands(("submit", "two"), ("two",))),
        )
        assert set(plugins.stores()) == {"redis", "nats"}
        assert set(plugins.cli_commands()) == {("submit", "one"), ("submit", "two"), ("two",)}

    def test_a_plugin_that_answers_nothing_brings_nothing(self, entry):
        @hookimpl
        def oq_executors(settings):
            return None

        assert loaded(entry("echo", oq_executors)).executors(Settings()) == []

    def test_executors_are_made_anew_each_time_they_are_asked_for(self, entry):
        plugins = loaded(entry("echo", executors("echo")))
        (one,), (two,) = plugins.executors(Settings()), plugins.executors(Settings())
        assert one is not two


class TestBuiltIn:
    def test_oqs_own_stores_come_through_the_same_hooks(self):
        plugins = built_in_plugins()
        assert set(plugins.stores()) == {"lmdb", "memory"}
        assert plugins.infos() == [
            PluginInfo(name=name, distribution="oq-core", version=__version__) for name in ("lmdb", "memory")
        ]

    def test_installed_plugins_are_found_by_their_entry_points(self, entry, monkeypatch):
        asked = []

        def entry_points(group):
            asked.append(group)
            return [entry("echo", executors("echo"))]

        monkeypatch.setattr(oq_plugins, "entry_points", entry_points)
        assert [info.name for info in load_plugins().infos()] == ["lmdb", "memory", "echo"]
        assert asked == ["oq"]

    def test_a_scheme_of_oqs_own_cannot_be_taken(self, entry, monkeypatch):
        monkeypatch.setattr(oq_plugins, "entry_points", lambda **_: [entry("mine", stores("memory"))])
        with pytest.raises(PluginLoadError, match="the store scheme 'memory' is taken already"):
            load_plugins().stores()

    def test_the_memory_store_opens(self):
        store = built_in_plugins().stores()["memory"]("memory://", Settings())
        assert store.counts() == []
        store.close()


HOOKS = sorted(name for name, value in vars(hookspecs).items() if hasattr(value, "oq_spec"))


class TestHooks:
    def test_there_are_few_and_all_have_the_prefix(self):
        assert HOOKS == ["oq_cli_commands", "oq_executors", "oq_stores"]

    @pytest.mark.parametrize("hook", HOOKS)
    def test_its_docstring_says_what_it_is_for_how_it_looks_and_what_happens_in_a_conflict(self, hook):
        first, *rest = [line.strip() for line in getattr(hookspecs, hook).__doc__.strip().splitlines()]
        assert first.endswith((".", "…`."))
        assert [line.partition(":")[0] for line in rest if line.startswith(("Example:", "Conflict:"))] == [
            "Example",
            "Conflict",
        ]

    @pytest.mark.parametrize("hook", HOOKS)
    def test_it_is_typed(self, hook):
        assert "return" in getattr(hookspecs, hook).__annotations__

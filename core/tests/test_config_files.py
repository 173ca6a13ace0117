"""A settings file is found where people look for one, is TOML, YAML or JSON, and its mistakes have lines."""

import json
import sys
import tomllib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from oq.config import Settings, load_settings, searched_files
from oq.config.lines import json_lines, toml_lines
from oq.errors import InvalidSettings


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def users(tmp_path):
    """The user's directory for settings of oq."""
    directory = tmp_path / "home" / ".config" / "oq"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def machines(tmp_path, monkeypatch):
    """The machine's directory for settings of oq."""
    directory = tmp_path / "etc"
    directory.mkdir()
    monkeypatch.setattr("oq.config.files.SYSTEM_DIRECTORY", str(directory))
    return directory


@pytest.fixture
def environ(tmp_path):
    return {"HOME": str(tmp_path / "home")}


def workers(number):
    return f"[scheduler]\nworkers = {number}\n"


def refused(path):
    with pytest.raises(InvalidSettings) as caught:
        load_settings(path, {})
    return [str(problem) for problem in caught.value.problems]


class TestSearch:
    def test_the_one_in_the_working_directory_comes_first(self, here, users, machines, environ):
        for number, directory in enumerate((here, users, machines), 1):
            (directory / "oq.toml").write_text(workers(number))
        settings = load_settings(environ=environ)
        assert (settings.scheduler.workers, settings.file) == (1, "oq.toml")

    def test_then_comes_that_of_the_user(self, here, users, machines, environ):
        for number, directory in enumerate((users, machines), 2):
            (directory / "oq.toml").write_text(workers(number))
        settings = load_settings(environ=environ)
        assert (settings.scheduler.workers, settings.file) == (2, str(users / "oq.toml"))

    def test_which_may_be_elsewhere(self, here, users, tmp_path, environ):
        (users / "oq.toml").write_text(workers(2))
        (tmp_path / "mine" / "oq").mkdir(parents=True)
        (tmp_path / "mine" / "oq" / "oq.toml").write_text(workers(5))
        elsewhere = environ | {"XDG_CONFIG_HOME": str(tmp_path / "mine")}
        assert load_settings(environ=elsewhere).scheduler.workers == 5

    def test_then_comes_that_of_the_machine(self, here, machines, environ):
        (machines / "oq.toml").write_text(workers(3))
        assert load_settings(environ=environ).scheduler.workers == 3

    def test_one_file_is_read_and_no_other(self, here, users, environ):
        (here / "oq.toml").write_text("[scheduler]\ngrace = 1\n")
        (users / "oq.toml").write_text(workers(2))
        assert load_settings(environ=environ).scheduler.workers == Settings().scheduler.workers

    @pytest.mark.parametrize("name", ["oq.toml", "oq.yaml", "oq.yml", "oq.json"])
    def test_it_has_one_of_four_names(self, here, name):
        (here / name).write_text(workers(7) if name == "oq.toml" else '{"scheduler": {"workers": 7}}')
        assert load_settings(environ={}).scheduler.workers == 7

    def test_two_side_by_side_are_refused_rather_than_one_ignored(self, here):
        (here / "oq.toml").touch()
        (here / "oq.json").touch()
        with pytest.raises(InvalidSettings, match=r"^oq\.toml and oq\.json are both there; remove one, or name one"):
            load_settings(environ={})

    def test_a_link_that_leads_nowhere_is_told(self, here):
        (here / "oq.toml").symlink_to("nowhere")
        with pytest.raises(InvalidSettings, match=r"^oq\.toml does not exist$"):
            load_settings(environ={})

    def test_without_a_home_only_the_others_are_searched(self, machines):
        assert searched_files({}) == tuple(
            [*(f"oq.{kind}" for kind in ("toml", "yaml", "yml", "json"))]
            + [str(machines / f"oq.{kind}") for kind in ("toml", "yaml", "yml", "json")]
        )


CONTENT = {
    "queue": {"path": "x"},
    "scheduler": {"workers": 9, "limits": {"a": 1}},
    "plugins": {"disabled": ["b"]},
    "script": {"directory": "c"},
}

SAME = {
    "settings.toml": '[queue]\npath = "x"\n[scheduler]\nworkers = 9\nlimits = {a = 1}\n[plugins]\ndisabled = ["b"]\n'
    '[script]\ndirectory = "c"\n',
    "settings.yaml": yaml.safe_dump(CONTENT),
    "settings.json": json.dumps(CONTENT),
}


class TestFormats:
    @pytest.mark.parametrize("name", SAME)
    def test_all_say_the_same(self, tmp_path, name):
        path = tmp_path / name
        path.write_text(SAME[name])
        settings = load_settings(path, {})
        assert (settings.queue.path, settings.scheduler.workers, settings.scheduler.limits) == ("x", 9, {"a": 1})
        assert (settings.plugins.disabled, settings.sections) == (("b",), {"script": {"directory": "c"}})

    @pytest.mark.parametrize("name", ["settings.toml", "settings.yaml", "settings.json"])
    def test_a_mark_of_the_byte_order_does_not_matter(self, tmp_path, name):
        path = tmp_path / name
        path.write_text("\ufeff" + SAME[name])
        assert load_settings(path, {}).scheduler.workers == 9

    def test_another_name_means_toml(self, tmp_path):
        path = tmp_path / "settings.conf"
        path.write_text(workers(8))
        assert load_settings(path, {}).scheduler.workers == 8

    @pytest.mark.parametrize(
        ("name", "text"), [("s.toml", "# nothing"), ("s.yaml", ""), ("s.yaml", "# nothing"), ("s.json", "{}")]
    )
    def test_a_file_may_say_nothing(self, tmp_path, name, text):
        path = tmp_path / name
        path.write_text(text)
        assert load_settings(path, {}) == Settings(source=str(path))

    @pytest.mark.parametrize(("name", "text"), [("s.yaml", "queue:\nscript:\n"), ("s.json", '{"queue": null}')])
    def test_a_table_whose_keys_are_all_commented_out_is_an_empty_one(self, tmp_path, name, text):
        path = tmp_path / name
        path.write_text(text)
        assert load_settings(path, {}).queue == Settings().queue

    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            ("s.toml", "[queue]\npath =\n", ": Invalid value (at line 2, column 7)"),
            ("s.yaml", "queue:\n\tpath: x\n", ":2: is not YAML: found character '\\t' that cannot start any token"),
            ("s.yaml", "queue: 2026-99-99\n", ": is not YAML: month must be in 1..12"),
            ("s.yaml", "a: !!python/object:os.system x\n", ":1: is not YAML: could not determine a constructor"),
            ("s.json", '{\n"queue": }', ":2: is not JSON: Expecting value"),
            ("s.json", "", ":1: is not JSON: Expecting value"),
        ],
    )
    def test_a_mistake_of_syntax_is_told_with_its_line(self, tmp_path, name, text, told):
        path = tmp_path / name
        path.write_text(text)
        [line] = refused(path)
        assert line.startswith(f"{path}{told}")

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("s.toml", "[scheduler]\n\nworkers = 0\n"),
            ("s.yaml", "scheduler:\n\n  workers: 0\n"),
            ("s.json", '{"scheduler":\n\n{"workers": 0}}'),
        ],
    )
    def test_a_wrong_value_is_told_with_its_line(self, tmp_path, name, text):
        path = tmp_path / name
        path.write_text(text)
        assert refused(path) == [f"{path}:3: scheduler.workers: 'workers' must be >= 1: 0"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("s.yaml", "queue:\n  path: x\n  path: y\n"),
            ("s.json", '{"queue": {\n"path": "x",\n"path": "y"}}'),
        ],
    )
    def test_a_key_that_is_given_twice_is_refused(self, tmp_path, name, text):
        path = tmp_path / name
        path.write_text(text)
        assert refused(path) == [f"{path}:3: queue.path: is given twice"]

    @pytest.mark.parametrize(("name", "text"), [("s.yaml", "- 1"), ("s.yaml", "word"), ("s.json", "[1]")])
    def test_what_is_not_made_of_tables_is_refused(self, tmp_path, name, text):
        path = tmp_path / name
        path.write_text(text)
        assert refused(path) == [f"{path}: must have tables such as `queue` and `scheduler`, each with keys and values"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("s.toml", "a = " + "[" * 100_000 + "]" * 100_000),
            ("s.json", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"),
            ("s.yaml", "a: &a [*a]"),
        ],
    )
    def test_what_is_nested_too_deeply_is_refused(self, tmp_path, name, text):
        path = tmp_path / name
        path.write_text(text)
        assert refused(path) == [f"{path}: is nested too deeply"]

    def test_yaml_may_share_its_parts(self, tmp_path):
        path = tmp_path / "s.yaml"
        path.write_text("script: &base\n  workers: 3\nscheduler:\n  <<: *base\n  grace: 1m\n")
        settings = load_settings(path, {})
        assert (settings.scheduler.workers, settings.scheduler.grace) == (3, 60)
        shown = {setting.key: setting.source for setting in settings.explain() if setting.table == "scheduler"}
        assert (shown["workers"], shown["grace"]) == (f"{path}:2", f"{path}:5")

    def test_a_key_that_yaml_takes_for_something_else_is_told(self, tmp_path):
        path = tmp_path / "s.yaml"
        path.write_text("queue:\n  on: 1\n")
        assert refused(path) == [f"{path}: the key True is no text; put it in quotes"]

    def test_without_pyyaml_it_is_told_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "yaml", None)
        path = tmp_path / "s.yaml"
        path.write_text("queue:\n")
        assert refused(path) == [f"{path}: to read YAML, run `pip install 'oq-core[yaml]'`; TOML and JSON need nothing"]


def paths_in(data, path=()):
    """Every way into nested tables and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for step, inner in items:
        yield (*path, step)
        yield from paths_in(inner, (*path, step))


TOML = r'''
top = 1
"quoted key" = "a # b" # = c
'literal.key' = 'x = y'
"" = "empty"
"\u00e9" = 1
a.b.c = 1
a.b."d.e" = 2
text = """
[no.table]
key = "no key" \" """ # and more
raw = ~~~
no = 'key'
~~~
quotes = """a""""
raws = ~~~a~~~'
list = [
  1, # one = 1
  "two = ]", 'three',
  [4, [5]],
  {six = 6, seven.eight = [9]},
]
empty = []
nothing = {}
day = 2026-01-01 10:00:00
inline = { a = "}", b = { c = 1.5 } }
[table]
key = true
[table . "sub table"]
key = 1
[[many]]
key = 1
[many.sub]
key = 2
[[many.deeper]]
x = 1
[[many.deeper]]
x = 2
y.z = 3
[[many]]
key = 3
[many.sub]
key = 4
last = 1'''.replace("~~~", "'''")


class TestLines:
    def test_every_key_and_item_of_toml_has_one(self):
        assert set(toml_lines(TOML)) == set(paths_in(tomllib.loads(TOML)))

    def test_they_are_the_lines_that_the_keys_are_in(self):
        lines = toml_lines(TOML)
        text = dict(enumerate(TOML.split("\n"), 1))
        assert text[lines["many", 0, "deeper", 1, "y", "z"]] == "y.z = 3"
        assert text[lines["list", 1]] == text[lines["list", 2]] == """  "two = ]", 'three',"""
        assert text[lines["many", 1, "sub", "last"]] == "last = 1"
        named = [path for path in lines if isinstance(path[-1], str) and path[-1].isascii()]
        assert all(path[-1] in text[lines[path]] for path in named)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=20,
        ).map(lambda inner: {"top": inner}),
        st.sampled_from([None, 0, 3]),
    )
    def test_every_key_and_item_of_json_has_one(self, data, indent):
        lines, twice = json_lines(json.dumps(data, indent=indent))
        assert set(lines) == set(paths_in(data))
        assert twice == []

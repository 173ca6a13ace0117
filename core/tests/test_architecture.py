"""The architecture of the core, as a table that is held against the imports of every module.

Imports point one way: a module may import its own layer and those above it in `LAYERS`, which lists them from the
inside out. What holds besides is in the tables that follow. A module that is new gets its place here first.
"""

import ast
import importlib
import subprocess
import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
from attrs import field, frozen

import oq

SOURCE = Path(oq.__file__).parent


@frozen
class Layer:
    name: str
    sentence: str
    modules: str
    """Names below `oq`, or patterns of them."""


LAYERS = (
    Layer(
        "rules",
        "Pure values and rules: no trio, no files, no threads, no chance and no clock, for time is an argument.",
        "_version errors task lifecycle retry choose cron cron.* templates events query stats executor codec batch "
        "durations limits breaker routing endpoint_fields models http_status",
    ),
    Layer(
        "parts",
        "What keeps tasks, what runs them, and what is plugged in; each is of use without a queue.",
        "clock ids config config.* hookspecs plugins registry functions pacing endpoints store store.*",
    ),
    Layer(
        "engine",
        "What makes the parts work together: one writer, what starts next, attempts, and those who watch.",
        "admission committer offers scheduler runner failures hub streams rate views bulk retention",
    ),
    Layer(
        "queue",
        "What a program embeds, and what one that does nothing else may set for itself.",
        "queue handle opening tuning",
    ),
    Layer(
        "cli",
        "What people type: a thin layer over the queue.",
        "cli cli.* __main__",
    ),
    Layer(
        "testing",
        "Kits for the authors of plugins and stores; they may look at everything, and nothing of oq looks at them.",
        "testing testing.*",
    ),
)

FACE = ""
"""The package itself re-exports names and does nothing else; no module of it imports them from there."""


@frozen
class Library:
    name: str
    modules: str
    reason: str


LIBRARIES = (
    Library("attrs", "*", "the values that people write and read"),
    Library("msgspec", "*", "the values that are stored"),
    Library("cattrs", "codec", "one place turns input into values"),
    Library("croniter", "cron.moments", "one place knows cron expressions"),
    Library("pluggy", "hookspecs plugins", "one place declares hooks, and one calls them with types"),
    Library("lmdb", "store.lmdb.*", "a store's database is its own business"),
    Library(
        "trio",
        "registry pacing endpoints committer scheduler runner failures hub streams rate bulk retention queue handle "
        "opening cli.* testing.*",
        "the rest is synchronous",
    ),
    Library("outcome", "committer scheduler runner", "trio's way to hand on a result or an error"),
    Library("yaml", "config.files", "an extra: one place reads what people write in YAML"),
    Library("click", "cli cli.*", "only the command line has commands"),
    Library("rich", "cli.*", "only the command line has tables for people"),
    Library("pytest", "testing testing.*", "contracts are tests that ship"),
    Library("hypothesis", "testing.*", "and so are state machines"),
    Library("h11", "testing.http testing.http_wire", "a server that breaks on purpose knows what it breaks"),
)
"""Who may import what is not oq's own; the libraries that are not here, nobody."""

OUTSIDE_WORLD = (
    "asyncio fcntl glob http importlib io logging mmap multiprocessing os pathlib queue random secrets select "
    "selectors shutil signal socket sqlite3 ssl subprocess tempfile threading time urllib uuid"
)
"""Modules of the standard library that mean files, processes, threads, chance or a clock."""

READS_THE_WALL_CLOCK = {
    "clock": "the one place that does, so that tests and stores can be told the time",
    "store.lmdb.runlock": "notes for people since when the lock is held; nothing is decided by it",
}

STORES_MAY_IMPORT = "hookspecs store store.*"
"""Besides the rules. They are told the time, have no trio, and know the settings by type alone."""

STORES_KNOW_BY_TYPE = "config"


@frozen
class Import:
    module: str
    """Below `oq` where it is oq's own (so `` is the package itself), else the library's top-level name."""
    own: bool
    typing_only: bool
    """Whether it stands under `if TYPE_CHECKING`."""
    at_import: bool = field(kw_only=True)
    """Whether it happens when the module is imported, rather than when a function is called."""


@cache
def modules() -> tuple[str, ...]:
    """Every module of oq by its name below `oq`."""
    return tuple(sorted(module_name(path) for path in SOURCE.rglob("*.py")))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def tree_of(module: str) -> ast.Module:
    path = SOURCE.joinpath(*module.split(".")) if module else SOURCE
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    return tuple(imports_in(tree_of(module)))


def imports_in(tree: ast.Module) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, *, typing_only: bool, at_import: bool) -> None:
        for child in ast.iter_child_nodes(node):
            typed = typing_only or (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"))
            now = at_import and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"line {child.lineno}: say where from, starting with `oq.`"
                names = [f"{child.module}.{alias.name}" for alias in child.names]
            else:
                names = []
            for name in names:
                top, _, below = name.partition(".")
                target = nearest_module(below) if top == "oq" else top
                found.append(Import(target, top == "oq", typed, at_import=now))
            visit(child, typing_only=typed, at_import=now)

    visit(tree, typing_only=False, at_import=True)
    return found


def nearest_module(name: str) -> str:
    """The module that `name` is, or is in: `task.Status` is in `task`."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


def among(module: str, patterns: str) -> bool:
    return any(fnmatchcase(module, pattern) for pattern in patterns.split())


def layer_of(module: str) -> int:
    places = [index for index, layer in enumerate(LAYERS) if among(module, layer.modules)]
    assert places, (
        f"oq.{module} is in no layer. Add it in {__file__} to the layer of LAYERS whose sentence is true of it: "
        + "; ".join(f"{layer.name} ({layer.sentence})" for layer in LAYERS)
    )
    assert len(places) == 1, f"oq.{module} is in several layers: {', '.join(LAYERS[place].name for place in places)}"
    return places[0]


INSIDE = [module for module in modules() if module != FACE]
each_module = pytest.mark.parametrize("module", INSIDE)


@each_module
def test_every_module_is_in_one_layer(module):
    layer_of(module)


@each_module
def test_imports_point_one_way(module):
    upwards = [
        f"oq.{module} ({LAYERS[layer_of(module)].name}) imports oq.{imported.module} "
        f"({LAYERS[layer_of(imported.module)].name})"
        for imported in imports_of(module)
        if imported.own and imported.module != FACE and layer_of(imported.module) > layer_of(module)
    ]
    assert not upwards


@each_module
def test_no_module_imports_what_the_package_re_exports(module):
    assert FACE not in [imported.module for imported in imports_of(module) if imported.own]


@each_module
def test_nothing_in_oq_imports_its_testing_kits(module):
    if not among(module, "testing testing.*"):
        assert not [imported.module for imported in imports_of(module) if among(imported.module, "testing testing.*")]


@each_module
def test_libraries_are_imported_where_they_belong(module):
    for imported in imports_of(module):
        if imported.own or imported.module in sys.stdlib_module_names:
            continue
        library = next((library for library in LIBRARIES if library.name == imported.module), None)
        assert library, f"oq.{module} imports {imported.module}, which is not in LIBRARIES of {__file__}"
        assert among(module, library.modules), (
            f"oq.{module} imports {library.name}, which only {library.modules} may: {library.reason}"
        )


@pytest.mark.parametrize("module", [module for module in INSIDE if among(module, LAYERS[0].modules)])
def test_the_rules_have_nothing_to_do_with_the_outside_world(module):
    assert not [
        imported.module for imported in imports_of(module) if not imported.own and among(imported.module, OUTSIDE_WORLD)
    ]
    calls = {
        node.func.id
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input"}


@each_module
def test_the_wall_clock_is_read_in_one_place(module):
    reads = [
        ast.unparse(node)
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute)
        and node.attr in {"now", "utcnow", "today", "time", "time_ns"}
        and isinstance(node.value, ast.Name)
        and node.value.id in {"datetime", "date", "time"}
    ]
    if module not in READS_THE_WALL_CLOCK:
        assert not reads, f"oq.{module} reads the clock itself; it should be given an oq.clock.Clock, or the moment"


@pytest.mark.parametrize("module", [module for module in INSIDE if among(module, "store store.*")])
def test_a_store_needs_the_rules_and_is_told_the_rest(module):
    for imported in imports_of(module):
        if not imported.own:
            assert imported.module not in {"trio", "time", "random"}
        elif not among(imported.module, LAYERS[0].modules):
            allowed = STORES_MAY_IMPORT + (f" {STORES_KNOW_BY_TYPE}" if imported.typing_only else "")
            assert among(imported.module, allowed), f"oq.{module} imports oq.{imported.module}"


@pytest.mark.parametrize("module", [module for module in INSIDE if among(module, "store store.*")])
def test_no_store_knows_another_one(module):
    kinds = {"memory": "store.memory", "lmdb": "store.lmdb store.lmdb.*"}
    own = [kind for kind, patterns in kinds.items() if among(module, patterns)]
    for kind, patterns in kinds.items():
        if kind not in own:
            assert not [imported.module for imported in imports_of(module) if among(imported.module, patterns)]


def test_no_two_modules_need_each_other_to_be_imported():
    needs = {
        module: {
            imported.module
            for imported in imports_of(module)
            if imported.own and imported.at_import and not imported.typing_only and imported.module != module
        }
        for module in modules()
    }
    while loose := {module for module, needed in needs.items() if not needed & set(needs)} | (
        set(needs) - set().union(*needs.values())
    ):
        needs = {module: needed for module, needed in needs.items() if module not in loose}
    assert not needs, f"these import each other in a circle: {', '.join(sorted(needs))}"


class TestPublicNames:
    """The package finds them when they are used; a stub tells type checkers what they are."""

    @staticmethod
    def stub():
        return ast.parse((SOURCE / "__init__.pyi").read_text(encoding="utf-8")).body

    def test_they_are_sorted_constants_first_then_classes_then_the_rest(self):
        def rank(name):
            return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)

        [told] = [ast.literal_eval(node.value) for node in self.stub() if isinstance(node, ast.Assign)]
        assert told == sorted(set(told), key=rank)
        assert sorted(told) == sorted(oq.__all__) == dir(oq)

    @pytest.mark.parametrize("name", oq.__all__)
    def test_each_can_be_imported(self, name):
        assert hasattr(oq, name)

    def test_each_comes_from_where_the_stub_says(self):
        for node in self.stub():
            if isinstance(node, ast.ImportFrom):
                home = importlib.import_module(node.module)
                for alias in node.names:
                    assert getattr(oq, alias.name) is getattr(home, alias.name)

    def test_another_name_is_none_of_them(self):
        with pytest.raises(AttributeError, match=r"^module 'oq' has no attribute 'Quee'$"):
            _ = oq.Quee

    def test_to_import_the_package_imports_nothing_that_takes_long(self):
        code = "import sys, oq; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert not {"trio", "attrs", "cattrs", "msgspec", "lmdb", "click", "rich"} & set(shown.split())


class TestTheseTests:
    """They would be worth nothing if they overlooked an import."""

    def test_an_import_is_seen_wherever_it_stands(self):
        source = """
import trio.testing
from oq.task import Status
from oq.store.lmdb import layout
from oq import errors, Queue
if TYPE_CHECKING:
    from oq.config import Settings
def later():
    from oq.registry import Registry
"""
        seen = {(found.module, found.typing_only, found.at_import) for found in imports_in(ast.parse(source))}
        assert seen == {
            ("trio", False, True),
            ("task", False, True),
            ("store.lmdb.layout", False, True),
            ("errors", False, True),
            (FACE, False, True),
            ("config", True, True),
            ("registry", False, False),
        }

    def test_every_module_is_looked_at(self):
        assert {"task", "store", "store.lmdb.layout", "testing.builders", FACE} <= set(modules())

    def test_a_module_without_a_place_is_told_where_to_get_one(self):
        with pytest.raises(
            AssertionError, match=r"oq\.novelty is in no layer\. Add it in .*test_architecture\.py.*rules"
        ):
            layer_of("novelty")

    def test_the_layers_are_from_the_inside_out(self):
        assert [layer.name for layer in LAYERS] == ["rules", "parts", "engine", "queue", "cli", "testing"]

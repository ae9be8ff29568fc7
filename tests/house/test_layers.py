"""The layers hold: a package imports itself and the rows below it, and no modules import each other in a circle."""

import ast
import gc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[2]

# Lowest first. Packages of one row do not import each other.
LAYERS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"stores"},
            {"errors", "clock", "policy", "reducers"},
            {"kernel", "codec"},
            {"events", "topics", "trace"},
            {"plan", "models"},
            {"execution", "draw"},
            {"storage"},
            {"runtime", "inspection"},
            {"engine", "bus"},
            {"flows"},
            {"agents"},
            {"testing", "temporal", "telemetry", "server", "demo"},
            {"cli"},
        ),
    )
)
LEVEL = {name: level for level, row in enumerate(LAYERS) for name in row}
ENTRY_POINTS = LAYERS[-2] | LAYERS[-1]

# Imports that are not allowed although they point down, each with its reason.
FORBIDDEN = {
    "kernel": {"stores", "errors", "clock", "policy", "reducers"},  # it runs in the sandbox of a Temporal workflow
    "execution": {"stores"},  # a Temporal activity runs it without a store
    "flows": {"storage", "runtime"},
    "agents": {"storage", "runtime"},
    "temporal": {"storage", "runtime", "engine", "bus"},
    "server": {"storage", "runtime"},
    "cli": {"storage", "runtime", "execution"},
}
ROOT_MODULES = {"__init__", "__main__", "errors", "events", "clock", "policy", "reducers", "topics"}
LONGEST_CHAIN_MAX = 15  # of imports that a module makes when it is loaded


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): path for top in ("beluga_graph", "stores") for path in sorted((ROOT / top).rglob("*.py"))}


def package_of(module: str) -> str:
    """Return the package or root module that a module belongs to; the empty string is the public face."""
    top, _, rest = module.partition(".")
    return "stores" if top == "stores" else rest.partition(".")[0]


def imported_by(module: str, *, at_load: bool = False) -> Iterator[str]:
    """Yield the modules of the project that a module imports: all of them, or those at the time it is loaded.

    Imports within functions and for type checkers count among all: readers follow them.
    """
    gc.disable()  # CPython 3.11 miscounts its recursion if the collector runs in the parser
    try:
        tree = ast.parse(FILES[module].read_text())
    finally:
        gc.enable()
    for node in tree.body if at_load else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("beluga_graph", "stores"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in FILES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in ("beluga_graph", "stores"))


def import_graph(*, at_load: bool = False) -> "nx.DiGraph[str]":
    edges = ((here, there) for here in FILES for there in imported_by(here, at_load=at_load) if there != here)
    return nx.DiGraph(edges)


@pytest.mark.parametrize("module", FILES)
def test_a_package_imports_only_packages_below_it(module: str) -> None:
    here = package_of(module)
    if module in ("beluga_graph", "beluga_graph.__main__"):
        return
    for target in imported_by(module):
        there = package_of(target)
        if there == here:
            continue
        if there == "":
            assert here in ENTRY_POINTS, f"{module}: only entry points import the public face"
        else:
            assert LEVEL[there] < LEVEL[here], f"{module} must not import {target}"
            assert there not in FORBIDDEN.get(here, ()), f"{module} must not import {target}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert [sorted(group) for group in nx.strongly_connected_components(import_graph()) if len(group) > 1] == []


def test_the_longest_chain_of_imports_is_short() -> None:
    chain = nx.dag_longest_path(import_graph(at_load=True))
    assert len(chain) <= LONGEST_CHAIN_MAX


def test_the_package_root_holds_packages_and_six_modules() -> None:
    assert {path.stem for path in (ROOT / "beluga_graph").glob("*.py")} <= ROOT_MODULES


def test_no_two_test_modules_have_one_name() -> None:
    """Tests are not a package: a second module of a name could not be imported."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py"))
    assert [name for name, count in names.items() if count > 1 and name != "conftest.py"] == []

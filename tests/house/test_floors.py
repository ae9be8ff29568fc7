"""The house holds: an arrow may only point down."""

import ast
import gc
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

import beluga_graph

ROOT = Path(__file__).parents[2]

# The floor of a module is that of the longest prefix listed here.
FLOORS = {
    "stores": 0,
    "beluga_graph.root": 1,
    "beluga_graph.reducers": 1,
    "beluga_graph.policy": 1,
    "beluga_graph.clock": 1,
    "beluga_graph.names": 1,
    "beluga_graph.graph": 1,
    "beluga_graph.codec": 2,
    "beluga_graph.topics": 2,
    "beluga_graph.errors": 2,
    "beluga_graph.kernel": 2,
    "beluga_graph.events": 2,
    "beluga_graph.models": 3,
    "beluga_graph.plan": 2,
    "beluga_graph.draw": 3,
    "beluga_graph.context": 4,
    "beluga_graph.threads": 4,
    "beluga_graph.attempt": 4,
    "beluga_graph.state": 4,
    "beluga_graph.items": 4,
    "beluga_graph.executor": 4,
    "beluga_graph.forms": 4,
    "beluga_graph.disk": 4,
    "beluga_graph.history": 4,
    "beluga_graph.lease": 4,
    "beluga_graph.committer": 4,
    "beluga_graph.trial": 4,
    "beluga_graph.adoption": 4,
    "beluga_graph.past": 4,
    "beluga_graph.pace": 4,
    "beluga_graph.recent": 4,
    "beluga_graph.published": 4,
    "beluga_graph.live": 5,
    "beluga_graph.watch": 5,
    "beluga_graph.forgetting": 5,
    "beluga_graph.outbox": 5,
    "beluga_graph.scheduler": 5,
    "beluga_graph.admission": 5,
    "beluga_graph.takeover": 5,
    "beluga_graph.inbox": 5,
    "beluga_graph.run": 5,
    "beluga_graph.fork": 5,
    "beluga_graph.inspection": 5,
    "beluga_graph.walk": 5,
    "beluga_graph.comparison": 5,
    "beluga_graph.post": 5,
    "beluga_graph.given": 5,
    "beluga_graph.inspector": 5,
    "beluga_graph.agenda": 5,
    "beluga_graph.note": 5,
    "beluga_graph.notebook": 5,
    "beluga_graph.parking": 5,
    "beluga_graph.seat": 5,
    "beluga_graph.serving": 5,
    "beluga_graph.recovery": 5,
    "beluga_graph.answers": 4,
    "beluga_graph.questions": 5,
    "beluga_graph.pruning": 5,
    "beluga_graph.engine": 5,
    "beluga_graph.sync": 5,
    "beluga_graph.session": 4,
    "beluga_graph.flows": 6,
    "beluga_graph.agents": 6,
    "beluga_graph": 7,
    "beluga_graph.testing": 7,
    "beluga_graph.demo": 7,
    "beluga_graph.bus": 7,
    "beluga_graph.cli": 8,
    "beluga_graph.__main__": 9,
}

# Who alone may import a library, and whether it has to wait for the first use.
HOMES = {
    "msgpack": ("beluga_graph.codec",),
    "lmdb": ("stores",),
    "fcntl": ("stores.lock_file",),
    "networkx": ("beluga_graph.draw",),
    "typer": ("beluga_graph.cli",),
    "rich": ("beluga_graph.cli", "beluga_graph.demo"),
    "openai": ("beluga_graph.models.openai",),
    "anthropic": ("beluga_graph.models.anthropic",),
    "asyncio": (
        "beluga_graph.models.loops",
        "beluga_graph.models.pace",
        "beluga_graph.attempt",
        "beluga_graph.clock",
        "beluga_graph.executor",
        "beluga_graph.threads",
        "beluga_graph.committer",
        "beluga_graph.trial",
        "beluga_graph.live",
        "beluga_graph.watch",
        "beluga_graph.forgetting",
        "beluga_graph.scheduler",
        "beluga_graph.admission",
        "beluga_graph.takeover",
        "beluga_graph.inbox",
        "beluga_graph.pace",
        "beluga_graph.parking",
        "beluga_graph.outbox",
        "beluga_graph.bus",
        "beluga_graph.post",
        "beluga_graph.seat",
        "beluga_graph.serving",
        "beluga_graph.run",
        "beluga_graph.sync",
        "beluga_graph.testing",
        "beluga_graph.demo",
        "beluga_graph.cli",
    ),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor(name: str) -> int:
    while name not in FLOORS:
        name, dot, _ = name.rpartition(".")
        assert dot, "every module has a floor"
    return FLOORS[name]


def parsed(path: Path) -> ast.Module:
    """Parse a file with the collector off: what it runs meanwhile makes CPython 3.11 miscount its recursion."""
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


def imports(path: Path) -> set[str]:
    """Return what a module imports at run time, also within functions, but not for type checkers only."""
    found: set[str] = set()
    todo: list[ast.AST] = [parsed(path)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        todo.extend(ast.iter_child_nodes(node))
    return found


MODULES = sorted(path for top in ("beluga_graph", "stores") for path in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_an_import_never_points_up(path: Path) -> None:
    here = module_name(path)
    for name in imports(path):
        if name.split(".")[0] in ("beluga_graph", "stores"):
            assert floor(name) <= floor(here), f"{here} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_library_is_imported_only_where_it_is_at_home(path: Path) -> None:
    here = module_name(path)
    for name in imports(path):
        home = HOMES.get(name.split(".")[0])
        assert home is None or here.startswith(home), f"{here} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_tasks_are_created_where_they_are_kept_track_of(path: Path) -> None:
    creates = any(word in path.read_text() for word in ("create_task(", "ensure_future(", "TaskGroup("))
    allowed = (
        "beluga_graph.scheduler",
        "beluga_graph.parking",
        "beluga_graph.forgetting",
        "beluga_graph.outbox",
        "beluga_graph.bus",
        "beluga_graph.committer",
        "beluga_graph.cli",
        "beluga_graph.demo",
    )
    assert not creates or module_name(path).startswith(allowed)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_that_could_run_stored_data_is_used(path: Path) -> None:
    assert not imports(path) & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "__import__"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_file_stays_under_four_hundred_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400, "split it by noun"


def test_the_top_level_holds_nothing_else() -> None:
    allowed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    allowed |= {"beluga_graph", "stores", "tests", "benchmarks", "examples"}
    tracked = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    built = {"build", "dist", "benchmark-results", "report.md"}
    assert {name for name in tracked if not name.endswith(".egg-info")} - built <= allowed


def test_no_property_depends_on_how_busy_the_machine_is() -> None:
    assert hypothesis.settings().deadline is None


def test_importing_the_package_loads_no_provider_and_no_slow_library() -> None:
    slow = "networkx", "pydantic", "lmdb", "openai", "anthropic", "temporalio", "typer", "rich", "asyncio"
    code = f"import sys, beluga_graph; print([name for name in {slow!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "needing",
    ["from beluga_graph import Engine", "from beluga_graph import run_sync", "from stores import LMDBStore"]
    + [f"import {module_name(path)}" for path in MODULES if "fcntl" in path.read_text()],
)
def test_where_files_cannot_be_locked_an_import_names_the_platforms(needing: str) -> None:
    code = f"import sys; sys.modules['fcntl'] = None; {needing}"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert shown.stderr.splitlines()[-1].startswith("ImportError: engines and stores run on Linux and macOS: ")


def test_where_files_cannot_be_locked_a_graph_can_still_be_drawn() -> None:
    code = """
import sys
sys.modules["fcntl"] = None
from beluga_graph import Workflow
print(Workflow("w", len).mermaid())
"""
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "len" in shown.stdout


def test_every_public_name_is_there_and_in_the_list() -> None:
    stub = parsed(ROOT / "beluga_graph/__init__.pyi")
    listed = {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert listed <= set(beluga_graph.__all__)
    for name in sorted(listed):
        assert getattr(beluga_graph, name) is not None

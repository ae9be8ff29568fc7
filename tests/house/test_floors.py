"""The limits of modules: which imports, tasks and sizes are allowed."""

import ast
import gc
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest

import beluga_graph

ROOT = Path(__file__).parents[2]

# The modules that may import a library, and whether the import must wait for the first use.
HOMES = {
    "msgpack": ("beluga_graph.codec", "beluga_graph.temporal.workflow.wire"),
    "temporalio": ("beluga_graph.temporal",),
    "lmdb": ("stores",),
    "fcntl": ("stores.lock_file",),
    "networkx": ("beluga_graph.draw",),
    "typer": ("beluga_graph.cli",),
    "rich": ("beluga_graph.cli", "beluga_graph.demo"),
    "openai": ("beluga_graph.models.openai",),
    "anthropic": ("beluga_graph.models.anthropic",),
    "cronsim": ("beluga_graph.execution.cron",),
    "botocore": ("beluga_graph.temporal.claims.backends",),
    "asyncio": (
        "beluga_graph.models.clients",
        "beluga_graph.models.pace",
        "beluga_graph.clock",
        "beluga_graph.execution",
        "beluga_graph.storage.committer",
        "beluga_graph.storage.pace",
        "beluga_graph.runtime",
        "beluga_graph.engine",
        "beluga_graph.bus",
        "beluga_graph.testing",
        "beluga_graph.demo",
        "beluga_graph.temporal",
        "beluga_graph.cli",
    ),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def parsed(path: Path) -> ast.Module:
    """Parse a file with the collector off: CPython 3.11 miscounts its recursion if finalizers run in the parser."""
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()


def imports(path: Path) -> set[str]:
    """Return the imports of a module at run time, also within functions, but not those for type checkers only."""
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
def test_a_library_is_imported_only_by_the_modules_that_own_it(path: Path) -> None:
    here = module_name(path)
    for name in imports(path):
        home = HOMES.get(name.split(".")[0])
        assert home is None or here.startswith(home), f"{here} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_tasks_are_created_only_where_they_are_tracked(path: Path) -> None:
    creates = any(word in path.read_text() for word in ("create_task(", "ensure_future(", "TaskGroup("))
    allowed = (
        "beluga_graph.runtime.scheduler",
        "beluga_graph.engine.waking",
        "beluga_graph.engine.schedule_firing",
        "beluga_graph.engine.retention",
        "beluga_graph.runtime.outbox_relay",
        "beluga_graph.temporal",
        "beluga_graph.bus",
        "beluga_graph.storage.committer",
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


BLOCKS = ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith


def nesting(node: ast.AST, depth: int = 0) -> int:
    """Return how deep the blocks of a function nest. An `elif` is as deep as its `if`; inner functions do not count."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and child in node.orelse
        deepest = max(deepest, nesting(child, depth + (isinstance(child, BLOCKS) and not is_elif)))
    return deepest


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_function_fits_a_screen_and_nests_four_blocks_at_most(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 70, node.name
            assert nesting(node) <= 4, node.name


def test_the_top_level_contains_only_known_files() -> None:
    allowed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    allowed |= {"beluga_graph", "stores", "tests", "benchmarks", "examples"}
    tracked = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    built = {"build", "dist", "benchmark-results", "report.md"}
    assert {name for name in tracked if not name.endswith(".egg-info")} - built <= allowed


def test_no_property_depends_on_how_busy_the_machine_is() -> None:
    assert hypothesis.settings().deadline is None


def test_importing_the_package_loads_no_provider_and_no_slow_library() -> None:
    slow = "networkx", "pydantic", "lmdb", "openai", "anthropic", "botocore", "temporalio", "typer", "rich", "asyncio"
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


def test_every_public_name_exists_and_is_listed() -> None:
    stub = parsed(ROOT / "beluga_graph/__init__.pyi")
    listed = {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert listed <= set(beluga_graph.__all__)
    for name in sorted(listed):
        assert getattr(beluga_graph, name) is not None

"""The kernel is pure: checked in its source, and by running it in the strictest sandbox that it must support."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.worker.workflow_sandbox import RestrictedWorkflowAccessError, SandboxRestrictions
from temporalio.worker.workflow_sandbox._importer import Importer
from temporalio.worker.workflow_sandbox._restrictions import RestrictionContext

import beluga_graph.kernel
from beluga_graph.kernel import transition

KERNEL = Path(beluga_graph.kernel.__file__).parent
MODULES = sorted(path for path in KERNEL.glob("*.py"))

# Modules that a pure function does not need: clocks, randomness, I/O, event loops and threads.
IMPURE = {
    "asyncio", "concurrent", "contextvars", "ctypes", "datetime", "io", "logging", "multiprocessing", "os",
    "pathlib", "pickle", "random", "secrets", "signal", "socket", "subprocess", "sys", "tempfile", "threading",
    "time", "uuid", "warnings", "weakref",
}  # fmt: skip
IMPURE_CALLS = {"hash", "id", "open", "input", "print", "eval", "exec", "globals", "vars", "setattr", "__import__"}


@pytest.fixture(params=MODULES, ids=lambda path: path.name)
def tree(request: pytest.FixtureRequest) -> ast.Module:
    return ast.parse(request.param.read_text())


def test_the_kernel_has_modules_to_check() -> None:
    assert {"patch_builder.py", "shape.py", "snapshot.py", "transition.py", "triggers.py"} <= {m.name for m in MODULES}


def test_the_kernel_imports_the_standard_library_and_itself(tree: ast.Module) -> None:
    for name in _imported(tree):
        top = name.partition(".")[0]
        assert name.startswith("beluga_graph.kernel") or top in sys.stdlib_module_names, name
        assert top not in IMPURE, name


def test_the_kernel_calls_only_functions_of_their_arguments(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            allowed = {"setattr"} if _is_rebuilding(tree) else set()  # a record is filled slot by slot
            assert node.func.id not in IMPURE_CALLS - allowed, ast.unparse(node)


def test_the_kernel_never_iterates_over_a_set(tree: ast.Module) -> None:
    sets = _names_of_sets(tree)
    for iterated in _iterated(tree):
        assert not _is_set(iterated, sets), ast.unparse(iterated)


def test_the_kernel_keeps_nothing_between_calls(tree: ast.Module) -> None:
    kept = {
        target.id
        for node in tree.body
        for target in _targets(node)
        if isinstance(target, ast.Name) and target.id != "__all__"
    }
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Global | ast.Nonlocal), ast.unparse(node)
        if isinstance(node, ast.FunctionDef):
            cached = {ast.unparse(decorator) for decorator in node.decorator_list}
            assert cached <= {"property", "classmethod"}, cached
            for default in (*node.args.defaults, *node.args.kw_defaults):
                assert not isinstance(default, ast.List | ast.Dict | ast.Set | ast.Call)
        for changed in _changed(node):
            assert changed not in kept, f"{changed} is changed"


def test_the_kernel_runs_unmodified_in_a_workflow_sandbox() -> None:
    context = RestrictionContext()
    importer = Importer(SandboxRestrictions.default, context)
    with importer.applied():
        # A worker loads a workflow's file first, and turns the full restrictions on when it runs.
        steps = {"__builtins__": __builtins__}
        exec(LOADED, steps)
        context.is_runtime = True
        exec(STEPS, steps)
        loaded = {name for name in sys.modules if name.partition(".")[0] == "beluga_graph"}
        kernel = sys.modules["beluga_graph.kernel.transition"]
    assert steps["walked"] == ["f#1", "f#1[0]/a#1", "f#1[1]/a#1", "j#1", "completed"]
    assert kernel is not transition, "it was loaded again, inside"
    kernel_modules = {f"beluga_graph.kernel.{path.stem}" for path in MODULES if path.stem != "__init__"}
    assert loaded - kernel_modules <= {"beluga_graph", "beluga_graph.kernel"}, "nothing else came with it"


def test_the_sandbox_refuses_impure_code() -> None:
    context = RestrictionContext()
    with Importer(SandboxRestrictions.default, context).applied():
        context.is_runtime = True
        with pytest.raises(RestrictedWorkflowAccessError):
            exec("import time\ntime.time()", {"__builtins__": __builtins__})


LOADED = """
from beluga_graph.kernel.shape import END, FAN_OUT, FUNCTION, JOIN, NodeShape, RetryShape, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.work import diff_work, list_work
from beluga_graph.kernel.triggers import NodeFailed, NodeFinished, RunNode, RunStarted, TimerFired
from beluga_graph.kernel.walker import Walker
"""

STEPS = """
retry = RetryShape(attempts=2, initial_ms=100, factor=2.0, maximum_ms=1000, jitter=0.5)
nodes = (
    NodeShape(name="f", local="f", kind=FAN_OUT, branches=("a",), join="j", over=True),
    NodeShape(name="a", local="a", kind=FUNCTION, target="j", retry=retry),
    NodeShape(name="j", local="j", kind=JOIN, target=END),
)
limits = {"max_visits": 10, "max_steps": 100, "max_width": 10, "max_interruptions": 5}
shape = Shape(name="s", fingerprint="f", entry="f", nodes={n.name: n for n in nodes}, limits=limits)
shape = Shape.from_plain(shape.to_plain())
run = Snapshot(run_id="r", plan="f", started_ms=0, value=b"in")
walked = []

def decide(trigger):
    patch = advance(shape, run, trigger)
    run.apply(patch)
    return diff_work(shape, run, patch)

decide(RunStarted(0))
failed = False
while run.status in ("running", "waiting"):
    if run.timers:
        ((timer, due),) = run.timers.items()
        decide(TimerFired(timer, due, due))
    item = list_work(shape, run)[0]
    if not failed and item.token != "f#1":
        failed = True
        decide(NodeFailed(item.token, item.attempt, 5, "Boom", "", True))
        continue
    walked.append(item.token)
    branches = ((0, 0), (0, 0)) if item.token == "f#1" else ()
    decide(NodeFinished(item.token, item.attempt, 9, (b"out",), branches=branches))
run = Snapshot.from_plain(run.to_plain())
walked.append(run.status)
walked[1:3] = sorted(walked[1:3])
"""


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield node.module or ""


def _is_rebuilding(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "_rebuild" for node in tree.body)


def _iterated(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield the expressions that are iterated in order: by loops, comprehensions, and calls that keep the order."""
    ordered = ("list", "tuple", "iter", "next", "enumerate", "map", "filter", "zip", "reversed", "dict")
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension):
            yield node.iter
        elif isinstance(node, ast.Starred):
            yield node.value
        elif isinstance(node, ast.Call) and (_called(node) in ordered or _called(node).endswith(".extend")):
            yield from node.args


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def _names_of_sets(tree: ast.Module) -> set[str]:
    """Return the names and attributes that a set is assigned to."""
    found: set[str] = set()
    for node in ast.walk(tree):
        value = getattr(node, "value", None)
        for target in _targets(node):
            annotated = isinstance(node, ast.AnnAssign) and "set[" in ast.unparse(node.annotation)
            if annotated or (isinstance(value, ast.expr) and _is_set(value, found)):
                found.add(ast.unparse(target))
    return found


def _is_set(value: ast.expr, names: set[str]) -> bool:
    if isinstance(value, ast.Set | ast.SetComp):
        return True
    if isinstance(value, ast.Call):
        return _called(value) in ("set", "frozenset")
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr | ast.BitAnd | ast.BitXor | ast.Sub):
        return any(_is_set(side, names) or ".keys()" in ast.unparse(side) for side in (value.left, value.right))
    return ast.unparse(value) in names


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def _changed(node: ast.AST) -> Iterator[str]:
    """Yield the names of variables whose content a statement changes."""
    changing = ("append", "add", "update", "setdefault", "pop", "clear", "extend", "remove", "insert", "discard")
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.Delete):
        targets = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
    elif isinstance(node, ast.AugAssign):
        targets = [node.target]
    for target in targets:
        if isinstance(target, ast.Subscript | ast.Attribute) and isinstance(target.value, ast.Name):
            yield target.value.id
    if isinstance(node, ast.Call):
        owner, _, method = _called(node).rpartition(".")
        if method in changing:
            yield owner

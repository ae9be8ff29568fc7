"""The table of operations agrees with the functions that apply them and with the forms that are checked on disk."""

from __future__ import annotations

import pytest
from stepping import Walk, fan_out, frame, function, join

from beluga_graph.kernel import ops, snapshot
from beluga_graph.kernel.shape import END
from beluga_graph.storage import step_forms

SAMPLES = {"kind": "after", "is_frame": True, "succeeded": True, "state": "run", "status": "running"}
TEXTS = ("place", "node", "local", "token", "scope", "field", "timer", "signal", "fingerprint", "name", "reason")
TUPLES = ("tokens", "scopes", "visits", "queue")


def sample(operand: str) -> object:
    """Return a value that an operand of this name may have."""
    return SAMPLES.get(operand, "x" if operand in TEXTS else () if operand in TUPLES else 0)


def test_every_kind_has_operands_a_function_and_a_form() -> None:
    kinds = {value for name, value in vars(ops).items() if name in ops.__all__ and isinstance(value, str)}
    assert kinds == ops.OPERANDS.keys() == snapshot._APPLY.keys() == step_forms._OPS.keys()


@pytest.mark.parametrize("kind", ops.OPERANDS)
def test_a_form_has_a_part_for_each_operand(kind: str) -> None:
    op = (kind, *map(sample, ops.OPERANDS[kind]))
    assert step_forms._op(op, 1)
    assert not step_forms._op((*op, 0), 1)


def test_operations_have_the_operands_of_the_table() -> None:
    walk = Walk(
        fan_out("f", "a", "b", join="j", max_concurrency=1),
        function("a", "j"),
        frame("b", "b/inner", "j"),
        function("b/inner", END),
        join("j", END),
    )
    patches = [
        walk.spread("f#1", 0, 1),
        walk.finish("f#1[0]/a#1", sets=(("total", 0),), appends=(("trail", 2),), usage=(("tokens", 3),)),
        walk.finish("f#1[1]/b#1[0]/inner#1"),
        walk.finish("j#1", reason="limit"),
    ]
    seen = [op for patch in patches for op in patch.ops]
    assert {ops.OPEN_SCOPE, ops.PUT_TOKEN, ops.END_BRANCH, ops.CLOSE_SCOPE, ops.SET_OUTPUT} <= {op[0] for op in seen}
    for kind, *operands in seen:
        assert len(operands) == len(ops.OPERANDS[kind])


def test_a_put_token_and_an_opened_scope_are_named_alike() -> None:
    walk = Walk(fan_out("f", "a", join="j"), function("a", "j"), join("j", END))
    patch = walk.spread("f#1", 0)
    named = [ops.token_name(op) for op in patch.ops if op[0] in (ops.OPEN_SCOPE, ops.PUT_TOKEN)]
    assert named == ["f#1", "f#1[0]/a#1"]


def test_only_an_error_without_a_value_clears_the_error() -> None:
    assert ops.clears_error((ops.SET_ERROR, None))
    assert not ops.clears_error((ops.SET_ERROR, 0))
    assert not ops.clears_error((ops.SET_OUTPUT, None))

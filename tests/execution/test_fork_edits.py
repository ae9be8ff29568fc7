"""The edited state of a fork is a patch, items and large values, and needs no store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from beluga_graph import END, START, Graph, NotData, RunConflict, StateError, add, append
from beluga_graph.execution.forks import StateEdit, check_forkable, edit_state
from beluga_graph.execution.items import KnownItems
from beluga_graph.kernel.ops import APPEND_ITEMS, SET_FIELD
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, RUN, Snapshot, Token
from beluga_graph.plan.compile import compile_graph

LARGE = "x" * 100


class Kept(BaseModel):
    log: Annotated[list[str], append] = ["default"]
    total: Annotated[int, add] = 5
    plain: str = ""


def flow(state: type[BaseModel] | None = Kept) -> Graph:
    graph = Graph("kept", state=state)
    graph.node(name="only")(lambda ctx, value: value)
    graph.edge(START, "only")
    graph.edge("only", END)
    return graph


PLAN = compile_graph(flow().declare())


class Items:
    """Holds the items of field `log`. A value of over 50 bytes is large."""

    def __init__(self, *log: str) -> None:
        self.decoded_cache: dict[Any, Any] = {}
        self.known_items = KnownItems()
        self.log = [PLAN.encode(item) for item in log]

    def load(self, value: bytes) -> bytes:
        return value

    def to_reference(self, encoded: bytes) -> bytes:
        return encoded if len(encoded) <= 50 else b"large"

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        assert (place, field) == ("", "log")
        yield from self.log[start:stop]

    def read_session_items(self, run: Snapshot, start: int = 0) -> Iterator[bytes]:
        raise AssertionError("a state has no session")


def begun(*log: str, **fields: Any) -> tuple[Snapshot, Items]:
    """Return a run with one token, and the items of its state."""
    run = Snapshot(run_id="r", plan=PLAN.fingerprint, started_ms=0, value=b"in")
    run.tokens["only#1"] = Token("only#1", "only", b"in", "", RUN)
    run.places[""].fields.update({name: PLAN.encode(value) for name, value in fields.items()})
    if log:
        run.places[""].lengths["log"] = len(log)
    return run, Items(*log)


def edited(run: Snapshot, items: Items, *, replace: Any = None, update: Any = None) -> StateEdit:
    return edit_state(run, PLAN, items, replace=replace or {}, update=update or {})


def state_of(edit: StateEdit) -> dict[str, Any]:
    """Return the new values of fields and the new items of append fields."""
    values = {op[2]: PLAN.codec.decode(edit.patch.values[op[3]]) for op in edit.patch.ops if op[0] == SET_FIELD}
    return values | {items.field: [PLAN.codec.decode(item) for item in items.items] for items in edit.items}


def test_a_run_that_has_not_begun_or_has_ended_is_not_forked() -> None:
    run, _ = begun()
    for status in ("running", "waiting", FAILED):
        run.status = status
        check_forkable(run)
    for status in (COMPLETED, CANCELLED):
        run.status = status
        with pytest.raises(RunConflict, match=f"after step 0 it is {status}: fork it from an earlier step"):
            check_forkable(run)
    with pytest.raises(RunConflict, match="before step 1 it has not begun"):
        check_forkable(Snapshot(run_id="r", plan="p", started_ms=0, value=b"in"))


def test_an_update_goes_through_the_reducer_and_a_replaced_value_does_not() -> None:
    assert state_of(edited(*begun(total=7), update={"total": 2})) == {"total": 9}
    assert state_of(edited(*begun(total=7), replace={"total": 2})) == {"total": 2}
    assert state_of(edited(*begun(total=7), replace={"total": 2}, update={"total": 3})) == {"total": 5}


def test_items_are_appended_behind_those_of_the_source_or_in_their_place() -> None:
    run, items = begun("a", "b")
    edit = edited(run, items, update={"log": ["c", "d"]})
    assert (state_of(edit), run.places[""].lengths) == ({"log": ["c", "d"]}, {"log": 2})
    assert (APPEND_ITEMS, "", "log", 2) in edit.patch.ops
    edit = edited(run, items, replace={"log": ["z"]}, update={"log": "y"})
    assert (state_of(edit), run.places[""].lengths.get("log", 0)) == ({"log": ["z", "y"]}, 0)


def test_large_values_and_items_are_references_to_blobs() -> None:
    edit = edited(*begun("a"), replace={"plain": LARGE}, update={"log": ["b", LARGE]})
    assert edit.patch.values == (b"large",)
    assert [list(items.items) for items in edit.items] == [[PLAN.encode("b"), b"large"]]
    assert edit.blobs == ((b"large", PLAN.encode(LARGE)),) * 2


def test_a_bad_edit_is_refused() -> None:
    for replace, error in (({"nope": 1}, StateError), ({"total": "many"}, StateError), ({"log": "text"}, StateError)):
        with pytest.raises(error):
            edited(*begun("a"), replace=replace)
    with pytest.raises((NotData, StateError)):
        edited(*begun("a"), update={"log": [object()]})
    with pytest.raises(StateError, match="graph 'kept' has no state to update"):
        edit_state(begun()[0], compile_graph(flow(None).declare()), Items(), replace={"total": 1}, update={})

"""The state of one attempt: reads of committed layers, own updates, and the changes to commit."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from beluga_graph.codec import Codec
from beluga_graph.errors import NotData, StateConflict, StateError
from beluga_graph.execution.items import KnownItems
from beluga_graph.execution.state_view import AttemptState, StateView
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.plan.channels import bind_state
from beluga_graph.reducers import add, append

CODEC = Codec()


class Notes(BaseModel):
    title: str
    total: Annotated[int, add] = 0
    log: Annotated[list[Any], append] = ["first"]


class Reader:
    """Encoded items in a dict; counts the decoded values."""

    def __init__(self, **items: list[Any]) -> None:
        self.items_of = {("", field): [CODEC.encode(item) for item in held] for field, held in items.items()}
        self.decoded = 0

    def decode(self, value: Any) -> Any:
        self.decoded += 1
        return CODEC.decode(value)

    def encode(self, value: Any) -> bytes:
        return CODEC.encode(value)

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        yield from self.items_of[place, field][start:stop]


def state_of(reader: Reader, known: KnownItems | None = None, **fields: Any) -> AttemptState:
    """Return the state of an attempt in a run whose own layer holds these fields, and the reader's items."""
    run = Snapshot(run_id="r", plan="p", started_ms=0, value=b"")
    place = run.places[""]
    place.fields.update({field: CODEC.encode(value) for field, value in fields.items()})
    place.lengths.update({field: len(items) for (_, field), items in reader.items_of.items()})
    return AttemptState(bind_state("g", Notes), run, "", reader, known or KnownItems(), node="n")


def stored(encoded: bytes) -> bytes:
    return b"<" + encoded


def test_a_field_is_its_committed_value_and_else_its_default() -> None:
    view = StateView(state_of(Reader(), title="a"))
    assert (view.title, view.total, view.log) == ("a", 0, ["first"])


def test_a_field_without_a_value_is_an_error_until_it_is_set() -> None:
    state = state_of(Reader())
    with pytest.raises(StateError, match=r"state field Notes\.title has no value yet"):
        state.read("title")
    state.update({"title": "b"})
    assert state.read("title") == "b"


def test_a_read_sees_the_attempt_s_own_updates_through_the_reducer() -> None:
    state = state_of(Reader(), total=5)
    state.update({"total": 2})
    assert state.read("total") == 7
    state.update({"total": 1})
    assert state.read("total") == 8


def test_own_items_follow_the_committed_items_in_order() -> None:
    state = state_of(Reader(log=["a", "b"]))
    state.update({"log": ["c"]})
    state.update({"log": "d"})
    assert state.read("log") == ["first", "a", "b", "c", "d"]
    assert state.read_own_items("log") == ["c", "d"]


def test_a_list_that_was_read_is_not_changed_by_a_later_update() -> None:
    state = state_of(Reader(log=["a"]))
    before = state.read("log")
    state.update({"log": "b"})
    assert before == ["first", "a"]
    assert state.read("log") == ["first", "a", "b"]


def test_attempts_that_share_known_items_decode_each_immutable_item_once() -> None:
    reader, known = Reader(log=["a", "b"]), KnownItems()
    for _ in range(3):
        assert state_of(reader, known).read("log") == ["first", "a", "b"]
    assert reader.decoded == 2


def test_the_owner_commits_absolute_values_and_new_items() -> None:
    state = state_of(Reader(log=["a"]), total=5)
    state.update({"total": 2, "log": ["b"], "title": "t"})
    changes = state.changes(stored, first=3)
    named = {field: changes.values[number - 3] for field, number in changes.sets}
    assert named == {"total": stored(CODEC.encode(7)), "title": stored(CODEC.encode("t"))}
    assert changes.appends == (("log", 1),)
    assert changes.items == (("log", [stored(CODEC.encode("b"))]),)


def test_a_state_that_was_only_read_has_no_changes() -> None:
    state = state_of(Reader(log=["a"]), title="t")
    state.build_model()
    assert not any(state.changes(stored))


@pytest.mark.parametrize(
    ("update", "error", "text"),
    [
        ({"other": 1}, StateError, "state Notes has no field 'other': it has title, total, log"),
        ({"title": 5}, StateError, r"state field Notes\.title: "),
        ({"log": [object()]}, NotData, r"the value at state\.log is not data"),
    ],
)
def test_a_refused_update_changes_nothing(update: dict[str, Any], error: type[Exception], text: str) -> None:
    state = state_of(Reader(), title="t")
    with pytest.raises(error, match=text):
        state.update({"total": 1, **update})
    assert not any(state.changes(stored))


def test_a_replaced_list_drops_the_committed_items() -> None:
    state = state_of(Reader(log=["a", "b"]))
    state.replace({"log": ["x"]})
    assert state.read("log") == ["x"]


def test_branches_that_set_one_field_without_a_reducer_conflict() -> None:
    reader = Reader()
    state = state_of(reader)
    branches = []
    for number, title in enumerate("ab"):
        other = Snapshot(run_id="r", plan="p", started_ms=0, value=b"").places[""]
        other.fields["title"] = CODEC.encode(title)
        branches.append((number, "", other))
    with pytest.raises(StateConflict, match=r"\(branch 0\) and .*\(branch 1\) both set state field 'title'"):
        state.fold(branches)


def test_the_view_cannot_be_written() -> None:
    view = StateView(state_of(Reader()))
    with pytest.raises(StateError, match=r"state is read-only: write ctx\.update\(title=…\)"):
        view.title = "x"

"""Reading a run: its values and items, and the errors for records that are missing or contradict each other."""

import pytest

from beluga_graph import Engine, Graph
from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.codec.references import INLINE_BYTES, digest_of
from beluga_graph.errors import RunNotFound
from beluga_graph.plan.declared import END, START
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.loading import (
    RunReader,
    detect_contradictions,
    detect_deletion,
    load_run,
    read_last_seq,
    read_run_record,
    read_steps,
    rebuild,
)
from stores import Delete, MemoryStore, Put


def chain(length: int = 3) -> Graph:
    graph = Graph("chain")
    names = [f"n{index}" for index in range(length)]
    for name in names:
        graph.node(name=name)(lambda value: value + 1)
    for source, target in zip([START, *names], [*names, END], strict=True):
        graph.edge(source, target)
    return graph


async def run_chain(store: MemoryStore, run_id: str = "r") -> None:
    async with Engine(store) as engine:
        await engine.execute(chain(), 0, run_id=run_id)


@pytest.mark.parametrize("size", [0, INLINE_BYTES, INLINE_BYTES + 1])
def test_a_value_and_its_reference_have_one_digest(size: int) -> None:
    encoded = b"x" * size
    reference = RunReader(MemoryStore(), "r").to_reference(encoded)
    assert (reference is encoded) == (size <= INLINE_BYTES)
    assert digest_of(reference) == digest_of(encoded)


def test_a_missing_value_of_an_unknown_run_was_deleted() -> None:
    reader = RunReader(MemoryStore(), "r")
    with pytest.raises(RunNotFound, match="run 'r': it was deleted while it was read"):
        reader.load(reader.to_reference(b"x" * (INLINE_BYTES + 1)))


async def test_a_missing_value_of_a_known_run_is_damage() -> None:
    store = MemoryStore()
    await run_chain(store)
    reader = RunReader(store, "r")
    with pytest.raises(DamagedRecord, match=r"the value .* of run 'r' is missing"):
        reader.load(reader.to_reference(b"x" * (INLINE_BYTES + 1)))
    with pytest.raises(DamagedRecord, match="the item 0 of field 'f' of run 'r' is missing"):
        list(reader.read_items("", "f", 0, 1))


async def test_steps_are_read_in_order_within_bounds() -> None:
    store = MemoryStore()
    await run_chain(store)
    last = read_last_seq(store, "r")
    assert [step.seq for step in read_steps(store, "r")] == list(range(1, last + 1))
    assert [step.seq for step in read_steps(store, "r", after=1, until=3)] == [2, 3]


async def test_a_missing_step_is_damage() -> None:
    store = MemoryStore()
    await run_chain(store)
    store.commit(Delete(Keys("r").step(2)))
    with pytest.raises(DamagedRecord, match="the step 2 of run 'r' is missing"):
        list(read_steps(store, "r"))


async def test_a_run_is_rebuilt_as_of_any_of_its_steps() -> None:
    store = MemoryStore()
    await run_chain(store)
    last = read_last_seq(store, "r")
    assert [rebuild(store, "r", seq).seq for seq in range(last + 1)] == list(range(last + 1))
    assert rebuild(store, "r").ended
    assert load_run(store, "r").steps_since == last
    with pytest.raises(RunNotFound, match=rf"it has no step {last + 1}: its last is {last}"):
        rebuild(store, "r", last + 1)
    with pytest.raises(RunNotFound, match=r"it has no step -1: steps are counted from 1"):
        rebuild(store, "r", -1)


def test_an_unknown_run_is_not_found() -> None:
    for read in (rebuild, read_run_record):
        with pytest.raises(RunNotFound, match="no such run in this store"):
            read(MemoryStore(), "r")


async def test_a_run_that_is_deleted_meanwhile_is_reported_instead_of_damage() -> None:
    store = MemoryStore()
    await run_chain(store)

    def read_while_it_is_deleted() -> None:
        with detect_deletion(store, "r"):
            store.commit(Delete(Keys("r").first_snapshot), Delete(Keys("r").step(1)))
            list(read_steps(store, "r"))

    with pytest.raises(RunNotFound, match="it was deleted while it was read"):
        read_while_it_is_deleted()


async def test_a_run_that_is_replaced_meanwhile_is_reported_too() -> None:
    store, other = MemoryStore(), MemoryStore()
    await run_chain(store)
    await run_chain(other)
    key = Keys("r").first_snapshot
    with pytest.raises(RunNotFound, match="it was deleted while it was read"), detect_deletion(store, "r"):
        store.commit(Put(key, (other.get(key) or b"") + b"later"))


async def test_damage_of_an_existing_run_is_reported_as_damage() -> None:
    store = MemoryStore()
    await run_chain(store)
    store.commit(Delete(Keys("r").step(1)))
    with pytest.raises(DamagedRecord), detect_deletion(store, "r"):
        list(read_steps(store, "r"))


def test_sound_records_that_contradict_each_other_are_damage() -> None:
    with (
        pytest.raises(DamagedRecord, match="the history of run 'r' contradicts itself: KeyError: 'token'"),
        detect_contradictions("r"),
    ):
        raise KeyError("token")

"""The log of a run: writes of large values, and the time for the next full snapshot."""

from beluga_graph.codec.references import INLINE_BYTES
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.run_log import SNAPSHOT_STEPS, RunLog, reference_ops, unmark
from stores import MemoryStore, Put

LARGE = b"x" * (INLINE_BYTES + 1)


def a_run() -> Snapshot:
    return Snapshot(run_id="r", plan="p", started_ms=0, value=b"\xc0")


def test_a_large_value_can_be_read_before_and_after_its_commit() -> None:
    store = MemoryStore()
    log = RunLog(store, "r")
    reference = log.reader.to_reference(LARGE)
    ops = log.blob_ops([(reference, LARGE)])
    assert log.reader.load(reference) == LARGE
    assert log.reader.uncommitted
    store.commit(*ops)
    log.on_committed(ops)
    assert not log.reader.uncommitted
    assert log.reader.load(reference) == LARGE


def test_a_large_value_is_written_once_by_a_run() -> None:
    store = MemoryStore()
    log = RunLog(store, "r")
    blob = (log.reader.to_reference(LARGE), LARGE)
    first = log.blob_ops([blob, blob])
    assert sum(isinstance(op, Put) and op.key[:1] == Prefix.VALUE for op in first) == 1
    assert log.blob_ops([blob]) == []
    store.commit(*first)
    assert RunLog(store, "r").blob_ops([blob]) == [], "a later process finds the mark of the run"


def test_each_reference_to_a_large_value_lifts_its_garbage_mark() -> None:
    log = RunLog(MemoryStore(), "r")
    reference = log.reader.to_reference(LARGE)
    assert unmark(reference[1:]) in log.blob_ops([(reference, LARGE)])
    assert unmark(reference[1:]) in reference_ops(reference, b"owner")
    assert reference_ops(b"\x01", b"owner") == []


def test_a_full_snapshot_is_written_once_enough_steps_outweigh_the_last_one() -> None:
    run = a_run()
    assert RunLog(MemoryStore(), "r", snapshot_bytes=10, steps_since=SNAPSHOT_STEPS - 1).snapshot_ops(run) == []
    log = RunLog(MemoryStore(), "r", snapshot_bytes=10, steps_since=SNAPSHOT_STEPS)
    assert [op.key for op in log.snapshot_ops(run)] == [Keys("r").snapshot(run.seq)]
    assert log.snapshot_ops(run) == [], "the count begins again"


def test_the_first_snapshot_is_forced() -> None:
    assert len(RunLog(MemoryStore(), "r").snapshot_ops(a_run(), force=True)) == 1

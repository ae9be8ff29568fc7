"""The stores agree: the same operations, at random, on both, and on a model that is plainly right."""

import shutil
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from stores import Check, Conflict, Delete, LMDBStore, MemoryStore, Op, Put

# Few and close keys, so that they meet; the edges of the order among them.
KEYS = st.one_of(
    st.text(alphabet="ab\xff", min_size=1, max_size=4).map(lambda text: text.encode("latin-1")),
    st.integers(0, 400).map(lambda number: b"n%03d" % number),
)
BOUNDS = st.one_of(st.just(b""), KEYS)
VALUES = st.binary(max_size=5)
WRITES = st.one_of(st.builds(Put, KEYS, VALUES), st.builds(Delete, KEYS))


class Agreement(RuleBasedStateMachine):
    """Drives both stores; the model is a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="stores-agree-")
        self.memory = MemoryStore()
        self.lmdb = self.open()
        self.model: dict[bytes, bytes] = {}

    def open(self) -> LMDBStore:
        # The smallest map, so that it grows now and then.
        return LMDBStore(self.folder, durability="none", map_size=1 << 16)

    def teardown(self) -> None:
        self.memory.close()
        self.lmdb.close()
        shutil.rmtree(self.folder)

    @rule(writes=st.lists(WRITES, max_size=6), checked=st.lists(KEYS, max_size=3), data=st.data())
    def commit(self, writes: list[Op], checked: list[bytes], data: st.DataObject) -> None:
        checks: list[Op] = [
            Check(key, self.model.get(key) if data.draw(st.integers(0, 9)) else data.draw(VALUES)) for key in checked
        ]
        ops = data.draw(st.permutations(writes + checks))
        failing = [op.key for op in ops if type(op) is Check and self.model.get(op.key) != op.expected]
        for store in (self.memory, self.lmdb):
            if not failing:
                store.commit(*ops)
                continue
            with pytest.raises(Conflict) as caught:
                store.commit(*ops)
            assert caught.value.key == failing[0]
        if not failing:
            self.apply(ops)

    @rule(first=st.integers(0, 400), count=st.integers(1, 400), size=st.integers(0, 300))
    def put_many(self, first: int, count: int, size: int) -> None:
        ops = [Put(b"n%03d" % number, b"v" * size) for number in range(first, first + count)]
        self.memory.commit(*ops)
        self.lmdb.commit(*ops)
        self.apply(ops)

    @rule(prefix=BOUNDS)
    def delete_all(self, prefix: bytes) -> None:
        ops = [Delete(key) for key in self.model if key.startswith(prefix)]
        self.memory.commit(*ops)
        self.lmdb.commit(*ops)
        self.apply(ops)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.memory.get(key) == self.lmdb.get(key) == self.model.get(key)

    @rule(
        prefix=BOUNDS,
        start=st.none() | BOUNDS,
        reverse=st.booleans(),
        limit=st.none() | st.integers(0, 600),
    )
    def scan(self, prefix: bytes, start: bytes | None, reverse: bool, limit: int | None) -> None:
        expected = [
            (key, self.model[key])
            for key in sorted(self.model, reverse=reverse)
            if key.startswith(prefix) and (start is None or (key <= start if reverse else key >= start))
        ][:limit]
        assert list(self.memory.scan(prefix, start=start, reverse=reverse, limit=limit)) == expected
        assert list(self.lmdb.scan(prefix, start=start, reverse=reverse, limit=limit)) == expected

    @rule()
    def reopen(self) -> None:
        self.lmdb.close()
        self.lmdb = self.open()

    @rule()
    def open_beside(self) -> None:
        beside = self.open()
        self.lmdb.close()
        self.lmdb = beside

    def apply(self, ops: list[Op]) -> None:
        for op in ops:
            if type(op) is Put:
                self.model[op.key] = op.value
            elif type(op) is Delete:
                self.model.pop(op.key, None)


TestAgreement = Agreement.TestCase
TestAgreement.settings = settings(max_examples=60, stateful_step_count=30, deadline=None, print_blob=True)

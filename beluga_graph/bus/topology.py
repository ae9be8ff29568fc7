"""The observed topology: no orchestrator knows which publishers reach which subscriptions, so the bus records it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from beluga_graph.bus.event import ObservedEdge
from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.draw.formats.mermaid import escape_label
from beluga_graph.storage.keys import Prefix, hash16
from beluga_graph.storage.records import decode_record, encode_record
from stores.base import Op, Put, Store, StoreError

__all__ = ["Topology", "draw_topology"]

EDGES_MAX = 10_000  # a topic per run must not make the graph, and this memory, grow without end


class Topology:
    """The edges that this process and others with the same store have seen."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: set[ObservedEdge] = set()
        self._knows_store = False

    def ops(self, edge: ObservedEdge) -> list[Op]:
        """Return the write of an edge that was not seen before; none beyond a limit."""
        if edge in self._seen:
            return []
        if not self._knows_store:  # otherwise each process could write as many edges again
            self._knows_store = True
            with suppress(
                DamagedRecord, StoreError
            ):  # `edges()` reports the damage; publishing must not fail because of it
                self._seen |= self._stored()
        if edge in self._seen or len(self._seen) >= EDGES_MAX:
            return []
        self._seen.add(edge)
        # Neither a topic nor a subscription's name holds a line break, so these are never another edge's bytes.
        key = Prefix.EDGE + hash16(f"{edge.topic}\n{edge.subscriber}\n{edge.publisher}")
        return [Put(key, encode_record(key, tuple(edge)))]

    def edges(self) -> list[ObservedEdge]:
        """Return all edges, sorted. One without a subscriber is left out if another has its publisher and topic.

        Raises `DamagedRecord`.
        """
        found = self._seen | self._stored()
        heard = {edge[:2] for edge in found if edge.subscriber}
        return sorted(edge for edge in found if edge.subscriber or edge[:2] not in heard)

    def _stored(self) -> set[ObservedEdge]:
        found = set()
        for key, blob in self._store.scan(Prefix.EDGE, limit=EDGES_MAX):
            found.add(ObservedEdge(*decode_record(key, blob)))
        return found


def draw_topology(edges: Iterable[ObservedEdge]) -> str:
    """Return edges as a Mermaid flowchart; equal edges give equal text. Labels are untrusted, so all are escaped."""
    publishers: dict[str, str] = {}
    topics: dict[str, str] = {}
    subscribers: dict[str, str] = {}
    arrows: dict[str, None] = {}
    for publisher, topic, subscriber in edges:
        source = publishers.setdefault(publisher, f"p{len(publishers)}")
        middle = topics.setdefault(topic, f"t{len(topics)}")
        arrows[f"    {source} --> {middle}"] = None
        if subscriber:
            arrows[f"    {middle} --> {subscribers.setdefault(subscriber, f's{len(subscribers)}')}"] = None
    lines = ["flowchart LR"]
    lines += [f'    {name}["{escape_label(label or "(no name)")}"]' for label, name in publishers.items()]
    lines += [f'    {name}(["{escape_label(label)}"])' for label, name in topics.items()]
    lines += [f'    {name}["{escape_label(label)}"]' for label, name in subscribers.items()]
    return "\n".join([*lines, *arrows]) + "\n"

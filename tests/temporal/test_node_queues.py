"""Nodes with a task queue of their own: other workers get one call at a time, and may return anything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

import pytest
from servers import Server
from temporalio import activity
from temporalio.worker import Worker

from beluga_graph import END, START, Graph, RunFailed, UnknownNode
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.workflow.wire import ACTIVITY, pack, unpack

WITHIN_S = 240.0
DONE = pack("done")


ITEMS = 40  # in batches, if the node had no queue of its own


def reply(fields: dict[str, Any] | None = None, kind: str = "finished", **more: Any) -> dict[str, Any]:
    """Return a good reply to the one call of a run of `flow`, but for the given fields."""
    needed = {
        "finished": {"values": [DONE]},
        "failed": {"type": "Error", "message": "no", "retryable": False},
    }.get(kind, {})
    return {"kind": kind, "fields": {"token": "foreign#1", "attempt": 1, **needed, **(fields or {})}, **more}


def result(*replies: Any, **more: Any) -> bytes:
    return pack({"format": 1, "replies": replies, **more})


PIECE = {"place": "", "field": "log", "length": 1, "data": pack([DONE])}

# By name: the result of the activity, and a part of the message.
BAD = {
    "text": ("done", "returned str; return bytes"),
    "nothing": (None, "returned NoneType; return bytes"),
    "no msgpack": (b"\xc1", "cannot be read"),
    "more than msgpack": (result(reply()) + b"\x00", "cannot be read"),
    "a list": (pack([1]), "TypeError"),
    "no format": (pack({"replies": [reply()]}), "KeyError: 'format'"),
    "another format": (result(reply(), format=2), "the result has format 2; this release reads 1"),
    "no replies": (pack({"format": 1}), "KeyError: 'replies'"),
    "empty replies": (result(), "replies is empty"),
    "replies as a number": (result(replies=7), "TypeError"),
    "a reply as text": (result("done"), "TypeError"),
    "an unknown kind": (result(reply(kind="done")), "KeyError: 'done'"),
    "an unknown field": (result(reply({"output": DONE})), "unexpected keyword argument 'output'"),
    "no values": (result({"kind": "finished", "fields": {"token": "foreign#1", "attempt": 1}}), "'values'"),
    "no output": (result(reply({"values": []})), "values is empty; its first one is the output"),
    "values as text": (result(reply({"values": "done"})), "values must be a list of bytes"),
    "a value as text": (result(reply({"values": ["done"]})), "values must be a list of bytes"),
    "an empty value": (result(reply({"values": [b""]})), "values must be a list of bytes"),
    "a token of another type": (result(reply({"token": 1})), "token must be text, not 1"),
    "another token": (result(reply({"token": "b#1"})), "attempt 1 of token 'b#1'; the calls are for attempt 1 of"),
    "another attempt": (result(reply({"attempt": 2})), "it is for attempt 2 of token 'foreign#1'"),
    "an attempt as a float": (result(reply({"attempt": 1.0})), "attempt must be a whole number, not 1.0"),
    "a route that is a list": (result(reply({"route": ["a"]})), "route must be nil, text, a whole number or a bool"),
    "sets beyond the values": (result(reply({"sets": [["a", 1]]})), "sets must be indexes of values"),
    "sets as a map": (result(reply({"sets": {"a": 0}})), "sets must be pairs"),
    "events beyond the values": (result(reply({"events": [["tool_call", "a", "b", {}, 3]]})), "events must be indexes"),
    "events of three parts": (result(reply({"events": [["tool_call", "a", "b"]]})), "events must be lists of type"),
    "usage as a float": (result(reply({"usage": [["tokens", 1.5]]})), "usage must be pairs of a name"),
    "text as bytes": (result(reply({"text": b"done"})), "text must be text"),
    "a message that is null": (result(reply({"message": None}, "failed")), "message must be text, not None"),
    "retryable as text": (result(reply({"retryable": "no"}, "failed")), "retryable must be a bool, not 'no'"),
    "a negative pause": (result(reply({"retry_after_ms": -1}, "failed")), "retry_after_ms must be nil or a whole"),
    "a failed input as text": (result(reply({"input": "a"}, "failed")), "input must be nil or an encoded value"),
    "an item without data": (result(reply(items=[{**PIECE, "data": None}])), "items must be maps of place, field"),
    "an item with a count": (result(reply(items=[{**PIECE, "count": 1}])), "unexpected keyword argument 'count'"),
    "a short message": (result(reply(messages=[["topic", DONE]])), "messages must be lists of topic"),
    "ms as a float": (result(reply(ms=0.5)), "ms must be a whole number of milliseconds, not 0.5"),
}


@activity.defn(name=ACTIVITY)
async def attempt(packed: bytes) -> Any:
    """Return the result that the input names, or else the input in capitals."""
    given = unpack(packed)
    (call,) = given["calls"]
    (token,) = call["run"]["tokens"]
    name, _, _, value, _, number, *_ = token
    text = unpack(value)
    if text in BAD:
        return BAD[text][0]
    assert (call["token"], given["ahead_ms"], given["is_whole"], given["timeout_ms"]) == (name, 0, False, 7_000)
    return result(reply({"token": name, "attempt": number, "values": [pack(text.upper())]}))


@asynccontextmanager
async def served(server: Server, flow: Graph, durability: Any = "batch") -> AsyncIterator[TemporalEngine]:
    """Serve the node `foreign` of a flow by `attempt`, and the other nodes by an engine's worker."""
    queue = token_hex(4)
    options = {"task_queue": token_hex(4), "node_queues": {"foreign": queue}, "durability": durability}
    async with (
        asyncio.timeout(WITHIN_S),
        Worker(await server.connect(), task_queue=queue, activities=[attempt]),
        TemporalEngine(server.address, **options) as engine,
        engine.worker([flow]),
    ):
        yield engine


def not_here(value: Any) -> Any:
    raise NotImplementedError


def flow_of(name: str) -> Graph:
    """Return a flow without edges that has the node `foreign`."""
    flow = Graph(name)
    flow.node(name="foreign", timeout=7)(not_here)
    return flow


async def test_a_queue_for_a_node_that_no_flow_has_is_refused() -> None:
    flow = flow_of("typo")
    flow.edge(START, "foreign")
    flow.edge("foreign", END)
    engine = TemporalEngine("127.0.0.1", node_queues={"foriegn": "q"})
    refused = (
        r"graph 'typo', node_queues of 'foriegn': no node has this path; correct the path \(the nearest are 'foreign'"
    )
    with pytest.raises(UnknownNode, match=refused):
        await engine.start(flow, "a")
    with pytest.raises(UnknownNode, match=refused):
        engine.worker([flow])
    other = flow_of("other")
    other.edge(START, "foreign")
    other.node(name="foriegn")(not_here)
    other.edge("foreign", "foriegn")
    other.edge("foriegn", END)
    engine.worker([flow, other])


@pytest.mark.parametrize("durability", ["commit", "batch"])
async def test_a_reply_that_cannot_be_read_fails_its_node(temporal_server: Server, durability: Any) -> None:
    flow = flow_of("replied")
    flow.edge(START, "foreign")
    flow.edge("foreign", END)
    async with served(temporal_server, flow, durability) as engine:
        assert await engine.execute(flow, "good") == "GOOD"
        found = await asyncio.gather(*(engine.execute(flow, name) for name in BAD), return_exceptions=True)
    for name, error in zip(BAD, found, strict=True):
        assert isinstance(error, RunFailed), name
        assert error.cause.type == "BadReply", name
        assert BAD[name][1] in error.cause.message, name


async def test_a_worker_does_not_go_ahead_to_a_node_of_another_queue(temporal_server: Server) -> None:
    flow = flow_of("between")
    flow.node(name="before")(lambda text: f"{text} ")
    flow.node(name="after")(lambda text: f"{text}!")
    for source, target in ((START, "before"), ("before", "foreign"), ("foreign", "after"), ("after", END)):
        flow.edge(source, target)
    async with served(temporal_server, flow) as engine:
        assert await engine.execute(flow, "a") == "A !"


async def test_a_node_of_another_queue_gets_one_call_at_a_time(temporal_server: Server) -> None:
    flow = flow_of("many")
    flow.fan_out("each", to="foreign", over=lambda text: [f"{text}{index}" for index in range(ITEMS)], join="all")
    flow.join("all")
    flow.edge(START, "each")
    flow.edge("all", END)
    async with served(temporal_server, flow) as engine:
        assert await engine.execute(flow, "a") == [f"A{index}" for index in range(ITEMS)]

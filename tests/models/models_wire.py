"""A server on loopback that sends the exact bytes of a test, for answers that llmock cannot give."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from beluga_graph.models import AnthropicModel, Model, OpenAIModel


def sse(*events: Any, done: bool = True) -> bytes:
    """Return one event for each value. The type of a dict is the name of its event, as at OpenAI and Anthropic."""
    lines = []
    for event in events:
        if isinstance(event, dict) and "type" in event:
            lines.append(f"event: {event['type']}\n")
        lines.append(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n")
    return "".join([*lines, "data: [DONE]\n\n" if done else ""]).encode()


@dataclass
class Wire:
    """Answers each request with the next response, and records the requests."""

    responses: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    connections: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    port: int = 0

    @property
    def open_connections(self) -> int:
        return len(self.writers)

    def say(self, body: bytes, status: int = 200, **headers: str) -> None:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.responses.append((status, {"content-type": "text/event-stream"} | fields, body))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                text = head.decode()
                length = int(text.lower().partition("content-length: ")[2].split("\r\n")[0])
                self.headers.append(text)
                self.bodies.append(json.loads(await reader.readexactly(length)))
                status, fields, body = self.responses.pop(0)
                fields["content-length"] = str(len(body))
                lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()


@asynccontextmanager
async def wire_server() -> AsyncIterator[Wire]:
    wire = Wire()
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0, limit=2**26)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        for writer in wire.writers:  # a client may keep its connection, and Python 3.12 and later wait for its end
            writer.transport.abort()
        await server.wait_closed()


APIS = ("chat", "responses", "anthropic")


def model_of(api: str, base_url: str, *, key: str = "sk-test", timeout: float = 60.0) -> Model:
    if api == "anthropic":
        return AnthropicModel("m", base_url=base_url, api_key=key, timeout=timeout)
    return OpenAIModel("m", base_url=base_url, api_key=key, api=api, timeout=timeout)  # type: ignore[arg-type]


def chat(*deltas: dict[str, Any], finish: str | None = "stop", usage: dict[str, Any] | None = None) -> bytes:
    """Return the stream of a chat completion with these deltas."""
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
    choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices += [[{"index": 0, "delta": {}, "finish_reason": finish}]] if finish else []
    events = [base | {"choices": each} for each in choices]
    return sse(*events, *([base | {"choices": [], "usage": usage}] if usage else []))


def responses(*items: dict[str, Any], status: str = "completed", deltas: bool = True, **more: Any) -> bytes:
    """Return the stream of a response with these output items."""
    events: list[dict[str, Any]] = []
    for index, item in enumerate(items):
        if deltas:
            for part in item.get("content") or ():
                kind = "output_text" if part["type"] == "output_text" else "refusal"
                piece = part.get("text") or part.get("refusal")
                events.append(
                    {"type": f"response.{kind}.delta", "output_index": index, "content_index": 0, "delta": piece}
                )
            events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    final = {"id": "r", "object": "response", "model": "m-1", "output": items, "status": status} | more
    events.append({"type": f"response.{status}", "response": final})
    return sse(*events, done=False)


def text_item(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def anthropic(
    *blocks: tuple[dict[str, Any], list[dict[str, Any]]],
    stop: str | None = "end_turn",
    usage: dict[str, Any] | None = None,
) -> bytes:
    """Return the stream of a message with these blocks: the start of each, and its deltas."""
    counts = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m-1"}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"stop_reason": None, "usage": counts | (usage or {})}}
    ]
    for index, (start, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    if stop:
        events.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 7}})
        events.append({"type": "message_stop"})
    return sse(*events, done=False)


def text_block(*pieces: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]


def call_block(name: str, *pieces: str, call_id: str = "toolu_1") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    start = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
    return start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def say_text(api: str, *pieces: str) -> bytes:
    """Return an API's stream of a text in these pieces."""
    if api == "chat":
        return chat(*({"content": piece} for piece in pieces))
    if api == "anthropic":
        return anthropic(text_block(*pieces))
    item = text_item("".join(pieces))
    deltas = [
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": piece}
        for piece in pieces
    ]
    final = {"id": "r", "object": "response", "model": "m-1", "output": [item], "status": "completed"}
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    return sse(*deltas, done, {"type": "response.completed", "response": final}, done=False)

"""Normalize a request so that every API accepts it, before it is converted to a wire format.

Hostile text must not stop a run. Text of models, tools and users is changed until it can be sent. Only mistakes of the
program itself are refused: the name of an offered tool, a conversation without results.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NoReturn

from beluga_graph.errors import ModelError
from beluga_graph.models.conversation import check_conversation
from beluga_graph.models.messages import Echo, Message, NativePart, Part, Request, ToolCall, ToolSpec
from beluga_graph.models.unicode_text import mend, mend_all

__all__ = ["BROKEN", "arguments_of", "body_with_settings", "normalize_request"]

BROKEN = "_broken_arguments"
"""The key under which arguments that are not a JSON object are sent back to the model, as text."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_ID_LENGTH = 40  # the limit of OpenAI; ids of OpenAI and Anthropic are shorter


def normalize_request(request: Request) -> Request:
    """Return the request with text, names, ids and arguments that every API accepts. Raises `ModelError`.

    Lone surrogates become U+FFFD. In names of called tools and in call ids, characters that are not allowed become `_`;
    a repeated id gets a number. Arguments that are not a JSON object become an object that contains them as text (see
    `BROKEN`). Each message depends on earlier ones only, so a longer conversation is sent with the same beginning.
    """
    check_conversation(request.messages)
    tools = tuple(_tool(tool) for tool in request.tools)
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(f"two tools are called {name!r}: rename one")
    return replace(
        request,
        messages=tuple(_messages(request.messages)),
        system=mend(request.system),
        tools=tools,
        output_schema=mend_all(request.output_schema),
        settings=mend_all(request.settings),
    )


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """Return the parsed arguments of a call, or `{BROKEN: text}` if they are not a JSON object. No text gives `{}`."""
    if not call.arguments.strip():
        return {}
    try:
        parsed = _DECODER.decode(call.arguments)
    except (ValueError, RecursionError):
        return {BROKEN: call.arguments}
    return parsed if isinstance(parsed, dict) else {BROKEN: call.arguments}


def body_with_settings(body: dict[str, Any], settings: dict[str, Any], *, merged: str = "") -> dict[str, Any]:
    """Return the body of a request with the user's settings; a setting named `merged` is added field by field.

    Raises `ModelError` for a setting that would replace a part that is made from the request.
    """
    for key, value in settings.items():
        if key in ("extra_headers", "extra_query"):
            continue
        if key == merged and isinstance(value, dict):
            body[key] = {**body.get(key, {}), **value}
        elif key in ("model", "messages", "input", "tools", "system", "instructions", "stream", "stream_options"):
            raise ModelError(f"the setting {key!r} cannot be set: it is made from the request")
        else:
            body[key] = value
    return body


def _tool(tool: ToolSpec) -> ToolSpec:
    if not _NAME.fullmatch(tool.name):
        raise ModelError(f"a tool is called {tool.name!r}, which providers refuse: use [A-Za-z0-9_-]{{1,64}}")
    return ToolSpec(tool.name, mend(tool.description), mend_all(tool.parameters))


def _messages(messages: tuple[Message, ...]) -> Iterator[Message]:
    used: dict[str, int] = {}
    ids: dict[str, str] = {}  # of the open turn: the stored id -> the sent id
    for message in messages:
        content = _content(message.content)
        if message.role != "assistant":
            yield replace(message, content=content, call_id=ids.get(message.call_id, ""), echo=None)
            continue
        ids = {call.id: _fresh_id(call.id, used) for call in message.tool_calls}
        calls = tuple(_call(call, ids[call.id]) for call in message.tool_calls)
        yield replace(message, content=content, tool_calls=calls, echo=_echo(message.echo))


def _content(content: str | tuple[str | Part, ...]) -> str | tuple[str | Part, ...]:
    if isinstance(content, str):
        return mend(content)
    return tuple(_part(part) for part in content if part)


def _part(part: str | Part) -> str | Part:
    if isinstance(part, str):
        return mend(part)
    if isinstance(part, NativePart):
        return NativePart(part.api, mend_all(part.content))
    return replace(part, url=mend(part.url), media_type=mend(part.media_type))


def _echo(echo: Echo | None) -> Echo | None:
    return echo and replace(echo, items=tuple(mend_all(item) for item in echo.items))


def _call(call: ToolCall, sent_id: str) -> ToolCall:
    name = _NOT_IN_NAMES.sub("_", call.name)[:64] or "unnamed"
    arguments = mend(call.arguments)
    parsed = arguments_of(ToolCall(call.id, name, arguments))
    if not parsed or BROKEN in parsed:
        arguments = json.dumps(parsed)
    return ToolCall(sent_id, name, arguments)


def _fresh_id(stored: str, used: dict[str, int]) -> str:
    """Return the id to send, which depends on the stored id and on earlier ids only. `used` counts each id."""
    clean = fresh = _NOT_IN_NAMES.sub("_", stored)[:_ID_LENGTH]
    while fresh in used:
        # Some servers repeat the same few ids in every turn, so the search starts at the last number.
        used[clean] += 1
        fresh = f"{clean[: _ID_LENGTH - 8]}_{used[clean]}"
    used[fresh] = 1
    return fresh


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large for a float")
    return number


# Python's decoder accepts NaN, and reads 1e999 as infinity. Neither can be sent.
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)

"""Requests to models and their replies: plain data, the same for every provider.

Messages are stored with a run, so they consist of values that the codec accepts: str, bytes, int, tuple, list, dict,
None, and each other. `conversation` checks them; `chat`, `responses` and `anthropic_wire` are the wire formats.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = [
    "Api",
    "Echo",
    "Image",
    "Message",
    "NativePart",
    "Part",
    "Reply",
    "Request",
    "Role",
    "StopReason",
    "ToolCall",
    "ToolSpec",
    "Usage",
]

Role: TypeAlias = Literal["user", "assistant", "tool"]
Api: TypeAlias = Literal["chat", "responses", "anthropic"]
StopReason: TypeAlias = Literal["end", "tool_calls", "length", "refusal", "pause", "other"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call that a model requests.

    Attributes:
        id: The id that the result refers to; unique within the message of the call.
        name: The name as the model wrote it; there may be no such tool.
        arguments: The JSON text as the model sent it; it may be broken and is never repaired.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture, by URL or as bytes. Raises `ValueError` unless exactly one of the two is given.

    Attributes:
        url: The address of the picture.
        data: The bytes of the picture.
        media_type: A type such as `image/png`; required with `data`.
    """

    url: str = ""
    data: bytes = b""
    media_type: str = ""

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.data):
            raise ValueError("an Image has either a url or data: give one of them")
        if self.data and not self.media_type:
            raise ValueError("an Image of bytes needs its media_type, for example 'image/png'")


@dataclass(frozen=True, slots=True)
class NativePart:
    """A content part in the form of one API. It is sent to that API unchanged and refused for any other.

    Attributes:
        api: The API.
        content: The part, as JSON data.
    """

    api: Api
    content: dict[str, Any]


Part: TypeAlias = Image | NativePart


@dataclass(frozen=True, slots=True)
class Echo:
    """The content of an answer in the form of its API, if it has more than text and tool calls.

    An example is signed or encrypted reasoning that a provider requires in the next request. It is sent back to the
    same API and model, if the message still has the same text and the same number of calls. The item of a tool call
    omits id, name and arguments, which are in the message.

    Attributes:
        api: The API that gave the answer.
        model: The model that gave it.
        items: The items or blocks of the answer, as JSON data.
    """

    api: Api
    model: str
    items: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. The system prompt is not a message; it belongs to the `Request`.

    Attributes:
        role: `user`, `assistant` or `tool`.
        content: Text, or a tuple of texts, images and native parts.
        tool_calls: The calls of an assistant's message, in the order of the model.
        call_id: The call that a tool's message answers.
        is_error: Whether the call of a tool's message failed; `content` is the reason. Anthropic receives this flag,
            OpenAI's APIs only the text.
        name: The tool of a tool's message.
        agent: The agent that wrote the message; not sent to providers.
        echo: The content in the form of its API, if it has more than text and tool calls.
    """

    role: Role
    content: str | tuple[str | Part, ...] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    is_error: bool = False
    name: str = ""
    agent: str = ""
    echo: Echo | None = None

    @property
    def text(self) -> str:
        """The text of the content, without other parts."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as it is offered to a model.

    Attributes:
        name: `[A-Za-z0-9_-]{1,64}`, which every provider accepts.
        description: A text for the model.
        parameters: The JSON schema of an object.
    """

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts, in the same way for every provider. A count that a server does not report is 0.

    Attributes:
        input_tokens: All tokens read, including those from and to the provider's cache.
        output_tokens: All tokens written, including reasoning.
        cached_tokens: The part of the input that came from the provider's cache.
        reasoning_tokens: The part of the output that is reasoning.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One complete request to a model. Providers keep no state between requests.

    Attributes:
        messages: The conversation.
        system: The system prompt.
        tools: The tools that the model may call.
        output_schema: The JSON schema of an object that the answer should contain as JSON. The caller must validate.
        settings: More fields of the provider's request (`temperature`, `max_tokens`, …), sent unchanged. They cannot
            replace fields made from the other attributes. `extra_headers` and `extra_query` go to the HTTP request.
    """

    messages: tuple[Message, ...]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    output_schema: dict[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The complete answer of a model.

    Attributes:
        message: The assistant's message; its text equals the joined pieces of the stream.
        usage: The token counts.
        stop_reason: `end`: complete. `tool_calls`: results are needed. `length`: cut off at a token limit, so the last
            call may be broken. `refusal`: declined, or cut by a content filter. `pause`: send the message back to
            continue. `other`: a reason that this version does not know.
        model: The server's name of the model that answered.
    """

    message: Message
    usage: Usage = Usage()
    stop_reason: StopReason = "end"
    model: str = ""

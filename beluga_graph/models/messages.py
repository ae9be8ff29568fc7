"""What is said to a model and what it says: plain data, the same for every provider.

`Message` and what it holds are stored with a run, so they consist of what the codec takes: str, bytes, int,
tuple, list, dict, None, and each other. Nothing here checks a conversation (see `conversation`) or knows a wire
format (see `chat`, `responses`, `anthropic_wire`).
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
    """A model's wish to have a tool called."""

    id: str
    """What the result names; unique within the message that holds the call."""
    name: str
    """As the model wrote it: perhaps no tool's name."""
    arguments: str
    """The JSON text as the model sent it, perhaps broken, never repaired."""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture, by URL or as bytes. Raises `ValueError` unless exactly one of the two is given."""

    url: str = ""
    data: bytes = b""
    media_type: str = ""
    """`image/png` and the like; needed with `data`."""

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.data):
            raise ValueError("an Image has either a url or data: give one of them")
        if self.data and not self.media_type:
            raise ValueError("an Image of bytes needs its media_type, for example 'image/png'")


@dataclass(frozen=True, slots=True)
class NativePart:
    """A content part in one API's own form, sent to it as it is and refused for every other."""

    api: Api
    content: dict[str, Any]


Part: TypeAlias = Image | NativePart


@dataclass(frozen=True, slots=True)
class Echo:
    """An answer's content in the form of the API that gave it, where that says more than text and tool calls.

    Reasoning that a provider wants to see again, signed or encrypted, is such content. It is sent back to the
    same API and model, as long as the message still has the text and as many calls as it was made with. An item
    that stands for a tool call lacks the call's id, name and arguments: they are the message's.
    """

    api: Api
    model: str
    items: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. The system prompt is none: it belongs to the `Request`."""

    role: Role
    content: str | tuple[str | Part, ...] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's message, in the order in which the model made them."""
    call_id: str = ""
    """Of a tool's message: the call that it answers."""
    is_error: bool = False
    """Of a tool's message: the call failed, and `content` says why. Anthropic is told; the text is all that
    OpenAI's APIs have for it."""
    name: str = ""
    """Of a tool's message: the tool."""
    agent: str = ""
    """Who said it, for those who read along; not sent."""
    echo: Echo | None = None

    @property
    def text(self) -> str:
        """The content's text, without its other parts."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model is told of it."""

    name: str
    """`[A-Za-z0-9_-]{1,64}`, which every provider can carry."""
    description: str
    parameters: dict[str, Any]
    """JSON schema of an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens, counted alike for every provider. What a server does not tell is 0."""

    input_tokens: int = 0
    """All that was read, what came from the provider's cache or went into it included."""
    output_tokens: int = 0
    """All that was written, reasoning included."""
    cached_tokens: int = 0
    """The part of the input that came from the provider's cache."""
    reasoning_tokens: int = 0
    """The part of the output that is reasoning."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a model, whole: providers remember nothing."""

    messages: tuple[Message, ...]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    output_schema: dict[str, Any] | None = None
    """JSON schema of an object that the answer's text should hold as JSON. Whoever asked still has to check."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Further fields of the provider's request (`temperature`, `max_tokens`, …), sent under these names as they
    are; they may not replace what is made from the other fields. `extra_headers` and `extra_query` are the HTTP
    request's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A model's whole answer."""

    message: Message
    """The assistant's message; its text is all the pieces that were streamed, joined."""
    usage: Usage = Usage()
    stop_reason: StopReason = "end"
    """`end`: said all. `tool_calls`: wants results. `length`: cut off at a token limit, so the last call may be
    broken. `refusal`: declined, or cut by a content filter. `pause`: send the message back to let it go on.
    `other`: a reason this version does not know."""
    model: str = ""
    """As the server names the model that answered."""

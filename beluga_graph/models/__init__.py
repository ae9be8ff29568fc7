"""Models: what is said to them, what they say, and the adapters for OpenAI and Anthropic.

    openai  anthropic           OpenAIModel, AnthropicModel: they import the SDKs in a thread, on first use
    talk  loops  faults         one exchange; one client per event loop; one error, retryable or not
    pace                        the event loop turns while a burst is read
    chat  responses  anthropic_wire     pure: a request to a body, events to a reply, one file per wire format
    sendable  schemas  text     pure: what every API can carry
    base                        Model, resolve, ask
    conversation                check_conversation: each tool call has exactly one result, next
    messages                    Message and the rest: plain data

Importing this package loads no SDK.
"""

from beluga_graph.models.anthropic import AnthropicModel
from beluga_graph.models.base import Model, ask, resolve
from beluga_graph.models.conversation import check_conversation
from beluga_graph.models.messages import (
    Echo,
    Image,
    Message,
    NativePart,
    Part,
    Reply,
    Request,
    ToolCall,
    ToolSpec,
    Usage,
)
from beluga_graph.models.openai import OpenAIModel

__all__ = [
    "AnthropicModel",
    "Echo",
    "Image",
    "Message",
    "Model",
    "NativePart",
    "OpenAIModel",
    "Part",
    "Reply",
    "Request",
    "ToolCall",
    "ToolSpec",
    "Usage",
    "ask",
    "check_conversation",
    "resolve",
]

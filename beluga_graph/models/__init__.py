"""Models: requests and replies as plain data, and the adapters for OpenAI and Anthropic.

    openai  anthropic                   OpenAIModel, AnthropicModel; the SDKs are imported in a thread, on first use
    exchange  clients  provider_errors  one request and its stream; one client per event loop; one kind of error
    pace                                lets the event loop turn while a burst is read
    chat  responses  anthropic_wire     pure: a request to a body, events to a reply; one file per wire format
    normalize  strict_schema  unicode_text  wire_common     pure: the parts that all wire formats share
    base                                Model, resolve, ask
    conversation                        check_conversation: each tool call has exactly one result, next
    messages                            Message and its parts: plain data

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

"""`Model`: a language model as the engine uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol, runtime_checkable

from beluga_graph.errors import ModelError
from beluga_graph.models.anthropic import AnthropicModel
from beluga_graph.models.messages import Reply, Request
from beluga_graph.models.openai import OpenAIModel
from beluga_graph.models.pace import Pace

__all__ = ["Model", "ask", "resolve"]


@runtime_checkable
class Model(Protocol):
    """An object that answers requests. One instance may serve many requests at once, in several event loops."""

    @property
    def name(self) -> str:
        """The name of the model, for people who watch a run."""
        ...

    def stream(self, request: Request, /) -> AsyncIterator[str | Reply]:
        """Yield pieces of text as they arrive and then, last, exactly one `Reply`.

        The text of the reply equals the joined pieces. Raises only `ModelError`, which says whether to retry. The model
        itself never retries. Closing the iterator early releases all resources.
        """
        ...


def resolve(model: str | Model) -> Model:
    """Return the model for `"openai:NAME"` or `"anthropic:NAME"`; a model is returned unchanged.

    Keys and addresses are read from the environment (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`, …) at the first request.
    Each call makes a new model with its own connections. Raises `ModelError` for any other text.
    """
    if not isinstance(model, str):
        return model
    provider, _, name = model.partition(":")
    if name and provider == "openai":
        return OpenAIModel(name)
    if name and provider == "anthropic":
        return AnthropicModel(name)
    raise ModelError(f"no model is called {model!r}: use 'openai:NAME', 'anthropic:NAME' or an object with stream()")


async def ask(model: Model, request: Request, on_text: Callable[[str], None] | None = None) -> Reply:
    """Send one request, pass each piece of text to `on_text`, and return the reply. The stream is always closed.

    The event loop turns after the first piece, so that watchers see it at once, and then every 2 ms, even if the model
    yields without a pause. Raises `ModelError`, also if the model yields no reply.
    """
    answer = model.stream(request)
    reply: Reply | None = None
    pace, is_first = Pace(), True
    try:
        async for piece in answer:
            if isinstance(piece, Reply):
                reply = piece
                continue
            if on_text is not None:
                on_text(piece)
            if is_first or pace.is_due:
                is_first = False
                await pace.turn()
    finally:
        close = getattr(answer, "aclose", None)
        if close is not None:
            await close()
    if reply is None:
        raise ModelError(f"model {model.name!r} ended its stream without a Reply")
    return reply

"""Models behind Anthropic's messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from beluga_graph.errors import ModelError
from beluga_graph.models.anthropic_wire import AnthropicAnswer, to_anthropic
from beluga_graph.models.clients import LoopClients
from beluga_graph.models.exchange import Phase, converse, usable_key
from beluga_graph.models.messages import Reply, Request
from beluga_graph.models.provider_errors import as_model_error

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

__all__ = ["AnthropicModel"]


class AnthropicModel:
    """A model of Anthropic, or of a compatible server at `base_url`, through the `anthropic` package.

    `max_tokens` bounds each answer, for the API demands a bound; the setting of that name wins. Without `api_key`
    and `base_url` the SDK's environment variables hold, read when the model is first asked; then too the package
    is imported, in a thread. `timeout`: seconds of silence, not of the whole answer. A `client` of your own is used
    as it is (in the event loop you made it for, with its own key and timeout), only without its retries, and is yours
    to close.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        client: AsyncAnthropic | None = None,
        max_tokens: int = 4096,
        timeout: float = 600.0,
    ) -> None:
        self.name = name
        self.max_tokens = max_tokens
        self._base_url, self._api_key, self._timeout = base_url, api_key, timeout
        self._given = client
        self._secrets: tuple[str | None, ...] = ()
        self._clients = LoopClients(self._make)

    def __repr__(self) -> str:
        return f"AnthropicModel({self.name!r}, max_tokens={self.max_tokens})"

    async def stream(self, request: Request, /) -> AsyncGenerator[str | Reply, None]:
        """See `Model.stream`."""
        body = to_anthropic(request, self.name, self.max_tokens)
        talk = converse(lambda: self._begin(body, request.settings), AnthropicAnswer(self.name), self._fault)
        try:
            async for piece in talk:
                yield piece
        finally:
            await talk.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running event loop. Asking again opens new ones."""
        await self._clients.aclose()

    async def _begin(self, body: dict[str, Any], settings: dict[str, Any]) -> Any:
        client = await self._client()
        # The body is ours, whole. As an extra it may hold what the SDK has no argument for, like `temperature`.
        return await client.messages.create(
            model=self.name,
            max_tokens=body["max_tokens"],
            messages=(),
            stream=True,
            extra_body=body,
            extra_headers=settings.get("extra_headers"),
            extra_query=settings.get("extra_query"),
        )

    async def _client(self) -> AsyncAnthropic:
        return self._given.with_options(max_retries=0) if self._given else await self._clients.get()

    def _make(self) -> AsyncAnthropic:
        """Return a new client. Slow at first: runs in a thread."""
        try:
            import anthropic  # noqa: PLC0415 - costs half a second or more, so only who asks pays
        except ImportError as error:
            raise ModelError(
                "AnthropicModel needs the anthropic package: pip install 'beluga-graph[anthropic]'"
            ) from error
        except Exception as error:
            raise ModelError(f"the anthropic package cannot be imported: {type(error).__name__}: {error}") from error
        # The engine retries: it counts, waits as asked and survives a crash meanwhile.
        client = anthropic.AsyncAnthropic(
            api_key=self._api_key, base_url=self._base_url, timeout=self._timeout, max_retries=0
        )
        usable_key(client.api_key, "ANTHROPIC_API_KEY")
        usable_key(client.auth_token, "ANTHROPIC_AUTH_TOKEN")
        self._secrets = (client.api_key, client.auth_token)
        return client

    def _fault(self, error: Exception, phase: Phase) -> ModelError:
        import anthropic  # noqa: PLC0415 - costs half a second or more, so only who asks pays

        client = self._given
        secrets = (client.api_key, client.auth_token) if client else self._secrets
        return as_model_error(f"anthropic model {self.name!r}", error, anthropic, secrets, phase)

"""Models of Anthropic, through its messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from beluga_graph.errors import ModelError
from beluga_graph.models.anthropic_wire import AnthropicAnswer, to_anthropic
from beluga_graph.models.clients import LoopClients
from beluga_graph.models.exchange import Phase, check_key, converse
from beluga_graph.models.messages import Reply, Request
from beluga_graph.models.provider_errors import to_model_error

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

__all__ = ["AnthropicModel"]


class AnthropicModel:
    """A model of Anthropic, or of a compatible server at `base_url`, through the `anthropic` package.

    The package is imported in a thread, at the first request.

    Attributes:
        name: The name of the model for the API.
        base_url: The address of a compatible server; by default the SDK's environment variable or Anthropic's address.
        api_key: The key; by default the SDK's environment variable, read at the first request.
        client: A client of your own. It is used unchanged, in its event loop, with its key and timeout, but without its
            retries. You close it.
        max_tokens: The limit of each answer, which the API requires. The setting `max_tokens` overrides it.
        timeout: The limit of silence in seconds, not of the whole answer.
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
        """Close the connections of the running event loop. The next request opens new ones."""
        await self._clients.aclose()

    async def _begin(self, body: dict[str, Any], settings: dict[str, Any]) -> Any:
        client = await self._client()
        # The body is complete. As an extra it can contain fields for which the SDK has no argument, like `temperature`.
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
        """Return a new client. The first call is slow, so it runs in a thread."""
        try:
            import anthropic  # noqa: PLC0415 - costs half a second or more
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
        check_key(client.api_key, "ANTHROPIC_API_KEY")
        check_key(client.auth_token, "ANTHROPIC_AUTH_TOKEN")
        self._secrets = (client.api_key, client.auth_token)
        return client

    def _fault(self, error: Exception, phase: Phase) -> ModelError:
        import anthropic  # noqa: PLC0415 - costs half a second or more

        client = self._given
        secrets = (client.api_key, client.auth_token) if client else self._secrets
        return to_model_error(f"anthropic model {self.name!r}", error, anthropic, secrets, phase)

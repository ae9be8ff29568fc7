"""Models of OpenAI, through its two APIs, and of the many servers that are compatible with the older one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Literal, get_args

from beluga_graph.errors import ModelError
from beluga_graph.models.chat import ChatAnswer, to_chat
from beluga_graph.models.clients import LoopClients
from beluga_graph.models.exchange import Phase, check_key, converse
from beluga_graph.models.messages import Reply, Request
from beluga_graph.models.provider_errors import to_model_error
from beluga_graph.models.responses import ResponsesAnswer, to_responses

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["OpenAIModel"]


class OpenAIModel:
    """A model of OpenAI, or of a compatible server at `base_url`, through the `openai` package.

    The package is imported in a thread, at the first request. Raises `ModelError` for an unknown `api`.

    Attributes:
        name: The name of the model for the API.
        base_url: The address of a compatible server; by default the SDK's environment variable or OpenAI's address.
        api_key: The key; by default the SDK's environment variable, read at the first request.
        client: A client of your own. It is used unchanged, in its event loop, with its key and timeout, but without its
            retries. You close it.
        api: `"chat"` (chat completions) or `"responses"`.
        timeout: The limit of silence in seconds, not of the whole answer.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        client: AsyncOpenAI | None = None,
        api: Literal["chat", "responses"] = "chat",
        timeout: float = 600.0,
    ) -> None:
        if api not in ("chat", "responses"):
            raise ModelError(f"OpenAIModel has no api {api!r}: use 'chat' or 'responses'")
        self.name = name
        self.api = api
        self._base_url, self._api_key, self._timeout = base_url, api_key, timeout
        self._given = client
        self._secret: str | None = None
        self._clients = LoopClients(self._make)

    def __repr__(self) -> str:
        return f"OpenAIModel({self.name!r}, api={self.api!r})"

    async def stream(self, request: Request, /) -> AsyncGenerator[str | Reply, None]:
        """See `Model.stream`."""
        talk = self._chat(request) if self.api == "chat" else self._responses(request)
        try:
            async for piece in talk:
                yield piece
        finally:
            await talk.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running event loop. The next request opens new ones."""
        await self._clients.aclose()

    def _chat(self, request: Request) -> AsyncGenerator[str | Reply, None]:
        body = to_chat(request, self.name)
        return converse(lambda: self._begin_chat(body, request.settings), ChatAnswer(self.name), self._fault)

    async def _begin_chat(self, body: dict[str, Any], settings: dict[str, Any]) -> Any:
        client = await self._client()
        # The body is complete. As an extra it is sent unchanged; for arguments the SDK would walk each message.
        return await client.chat.completions.create(
            model=self.name,
            messages=(),
            stream=True,
            extra_body=body,
            extra_headers=settings.get("extra_headers"),
            extra_query=settings.get("extra_query"),
        )

    def _responses(self, request: Request) -> AsyncGenerator[str | Reply, None]:
        body = to_responses(request, self.name)
        return converse(lambda: self._begin_response(body, request.settings), ResponsesAnswer(self.name), self._fault)

    async def _begin_response(self, body: dict[str, Any], settings: dict[str, Any]) -> Any:
        client = await self._client()
        return await client.responses.create(
            stream=True,
            extra_body=body,
            extra_headers=settings.get("extra_headers"),
            extra_query=settings.get("extra_query"),
        )

    async def _client(self) -> AsyncOpenAI:
        return self._given.with_options(max_retries=0) if self._given else await self._clients.get()

    def _make(self) -> AsyncOpenAI:
        """Return a new client. The first call is slow, so it runs in a thread."""
        try:
            import openai  # noqa: PLC0415 - costs half a second or more
        except ImportError as error:
            raise ModelError("OpenAIModel needs the openai package: pip install 'beluga-graph[openai]'") from error
        except Exception as error:
            raise ModelError(f"the openai package cannot be imported: {type(error).__name__}: {error}") from error
        # The engine retries: it counts attempts, waits as requested, and survives a crash meanwhile.
        client = openai.AsyncOpenAI(
            api_key=self._api_key, base_url=self._base_url, timeout=self._timeout, max_retries=0
        )
        check_key(client.api_key, "OPENAI_API_KEY")
        self._secret = client.api_key
        self._load_resource(client)
        return client

    def _load_resource(self, client: AsyncOpenAI) -> None:
        """Import a resource and build the types of its events, in the thread, so that the loop does not wait."""
        if self.api == "chat":
            _ = client.chat.completions
            return
        _ = client.responses
        from openai.types.responses import ResponseStreamEvent  # noqa: PLC0415 - see `_make`

        union = get_args(ResponseStreamEvent)[0]
        for event in get_args(union):
            event.model_rebuild()

    def _fault(self, error: Exception, phase: Phase) -> ModelError:
        import openai  # noqa: PLC0415 - costs half a second or more

        key = self._given.api_key if self._given else self._secret
        return to_model_error(f"openai model {self.name!r}", error, openai, [key], phase)

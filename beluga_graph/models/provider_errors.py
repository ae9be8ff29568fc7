"""What went wrong with a provider, as one error: `ModelError`, which says whether to ask again, and when.

Ask again: connection errors, timeouts, broken or truncated streams, and the statuses 408, 409, 429 and 5xx (529
included). Never: the rest of 4xx, which the same request would meet again. A server that says `x-should-retry`
is believed. A quota that is used up comes as 429, but no wait mends it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from beluga_graph.errors import ModelError
from beluga_graph.models.exchange import Phase
from beluga_graph.models.unicode_text import mend
from beluga_graph.models.wire_common import FailedAnswer, Truncated

__all__ = ["as_model_error", "retry_after"]

# By name, for it is the SDK that imports its transport, and users may hand it one of another make.
_TRANSPORTS = ("httpx2", "httpx", "httpcore2", "httpcore", "h11", "h2", "anyio")
_KEY_LENGTH = 8  # characters: what is shorter protects nothing
_LONG_KEY_LENGTH = 16
_SHOWN = 1000  # characters of a server's message: some send a whole page
_FINAL = re.compile(
    r"invalid|authentication|permission|not_found|billing|too_large|too_small|insufficient_quota|polic|context_length"
    r"|unsupported|mismatch|image_"
)


def as_model_error(
    who: str, error: Exception, sdk: ModuleType, secrets: Iterable[str | None], phase: Phase
) -> ModelError:
    """Return what to raise from an error of a provider's SDK, of its transport, or of our reading of its stream.

    `who` opens the message. What is not known is a request that cannot be sent or, once the answer had begun, a
    broken answer. The error is the cause, unless it or what caused it holds one of the secrets that can be a key.
    """
    keys = [re.compile(pattern) for secret in secrets if (pattern := _key_pattern(secret))]
    text, retryable, after = _judge(error, sdk, phase)
    for key in keys:
        text = key.sub("***", text)
    made = ModelError(f"{who}: {text}", retryable=retryable, retry_after=after)
    told = "\n".join(f"{link} {link.args}" for link in _chain(error))
    made.__cause__ = None if any(key.search(told) for key in keys) else error
    return made


def _key_pattern(secret: str | None) -> str:
    """Return what finds a secret in a text; nothing for one that is too short to be a key.

    Servers without keys are given words such as `x`, `none` or `ollama`, which their messages hold by chance: a word of
    some length counts only where it is one, and a long one, which no message holds by chance, wherever it is.
    """
    if not secret or len(secret) < _KEY_LENGTH:
        return ""
    return re.escape(secret) if len(secret) >= _LONG_KEY_LENGTH else rf"(?<![\w-]){re.escape(secret)}(?![\w-])"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the server wants to be left alone: 0 or more, None if it does not say."""
    milliseconds, seconds = headers.get("retry-after-ms"), headers.get("retry-after")
    told = _number(milliseconds)
    if told is not None:
        return told / 1000
    if seconds is None or (told := _number(seconds)) is not None:
        return told
    import email.utils  # noqa: PLC0415 - slow to import, and a date is rare

    try:
        due = email.utils.parsedate_to_datetime(seconds).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, due - time.time())


def _judge(error: Exception, sdk: ModuleType, phase: Phase) -> tuple[str, bool, float | None]:
    """Return the error's text, whether to ask again, and after how many seconds."""
    if isinstance(error, sdk.APIStatusError):
        return _status(error)
    if isinstance(error, sdk.APITimeoutError):
        return "no answer in time", True, None
    if isinstance(error, sdk.APIConnectionError):
        return f"connection failed: {_shown(error.__cause__ or error)}", True, None
    if isinstance(error, sdk.APIError):
        code, message = _body(error.body)
        return _in_stream(code, message or _shown(error))
    if isinstance(error, FailedAnswer):
        return _in_stream(error.code, error.message)
    if isinstance(error, Truncated):
        return f"truncated answer: {error}", True, None
    if "Timeout" in type(error).__name__:
        return f"the answer stalled: {_shown(error)}", True, None
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _TRANSPORTS:
        return f"connection broken: {_shown(error)}", True, None
    if phase == "asking":
        return f"the request cannot be sent: {_shown(error)}", False, None
    return f"malformed answer: {_shown(error)}", True, None


def _status(error: Any) -> tuple[str, bool, float | None]:
    status = error.status_code
    code, message = _body(error.body)
    if status < 400:  # the answer began well, and its stream reports an error
        return _in_stream(code, message or _shown(error))
    headers = error.response.headers
    retryable = status in (408, 409, 429) or status >= 500
    if status == 429 and "insufficient_quota" in code:
        retryable = False
    if headers.get("x-should-retry") in ("true", "false"):
        retryable = headers["x-should-retry"] == "true"
    # Not every server says what is wrong in the form that the SDK knows; and some say nothing.
    text = message or _page(error) or "no reason given"
    return f"status {status}: {text}", retryable, retry_after(headers)


def _page(error: Any) -> str:
    try:
        return _cut(error.response.text)
    except RuntimeError:  # the connection broke before the body was there
        return ""


def _in_stream(code: str, message: str) -> tuple[str, bool, float | None]:
    told = ": ".join(part for part in (_cut(code), _cut(message)) if part)
    return f"the stream reports an error: {told}", not _is_final(code), None


def _body(body: object) -> tuple[str, str]:
    """Return the code and the message in an error's body, both perhaps empty, whatever was sent."""
    if not isinstance(body, Mapping):
        return "", ""
    inner = body.get("error")
    if isinstance(inner, Mapping):
        body = inner
    told = [str(body[key]) for key in ("code", "type") if body.get(key)]
    message = body.get("message")
    return _cut(" ".join(told)), _cut(message) if isinstance(message, str) else ""


def _is_final(code: str) -> bool:
    """Tell from a code in a stream, which comes without a status, that asking again is no use."""
    statuses = [int(part) for part in code.split() if part.isascii() and part.isdigit() and len(part) == 3]
    if statuses:
        return 400 <= statuses[0] < 500 and statuses[0] not in (408, 409, 429)
    return bool(_FINAL.search(code))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _shown(error: BaseException) -> str:
    return _cut(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _cut(text: str) -> str:
    text = mend(" ".join(text.split()))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

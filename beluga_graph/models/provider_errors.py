"""Errors of providers, converted to `ModelError`, which says whether and when to retry.

Retried: connection errors, timeouts, broken or truncated streams, and the statuses 408, 409, 429 and 5xx (529
included). Not retried: all other 4xx, which the same request would get again. The header `x-should-retry` decides if it
is present. An exhausted quota has status 429, but waiting does not help.
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

__all__ = ["retry_after", "to_model_error"]

# By name: the SDK imports its transport, and users may pass another one.
_TRANSPORTS = ("httpx2", "httpx", "httpcore2", "httpcore", "h11", "h2", "anyio")
_KEY_LENGTH = 8  # characters; a shorter text is not a key
_LONG_KEY_LENGTH = 16
_SHOWN = 1000  # characters of a server's message: some send a whole page
_FINAL = re.compile(
    r"invalid|authentication|permission|not_found|billing|too_large|too_small|insufficient_quota|polic|context_length"
    r"|unsupported|mismatch|image_"
)


def to_model_error(
    who: str, error: Exception, sdk: ModuleType, secrets: Iterable[str | None], phase: Phase
) -> ModelError:
    """Return the `ModelError` for an error of a provider's SDK, of its transport, or of reading its stream.

    The message begins with `who`. An unknown error means that the request cannot be sent or, if the answer had begun,
    that the answer is broken. The error becomes the cause, unless its chain contains a secret that can be a key.
    """
    keys = [re.compile(pattern) for secret in secrets if (pattern := _key_pattern(secret))]
    text, retryable, after = _judge(error, sdk, phase)
    for key in keys:
        text = key.sub("***", text)
    made = ModelError(f"{who}: {text}", retryable=retryable, retry_after=after)
    reported = "\n".join(f"{link} {link.args}" for link in _chain(error))
    made.__cause__ = None if any(key.search(reported) for key in keys) else error
    return made


def _key_pattern(secret: str | None) -> str:
    """Return the pattern that finds a secret in a text, or an empty text if the secret is too short to be a key.

    Users of servers without keys pass words such as `x`, `none` or `ollama`, which messages contain by chance. So a
    secret of medium length is matched as a whole word only, and a long one anywhere.
    """
    if not secret or len(secret) < _KEY_LENGTH:
        return ""
    return re.escape(secret) if len(secret) >= _LONG_KEY_LENGTH else rf"(?<![\w-]){re.escape(secret)}(?![\w-])"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that the server requests, 0 or more, or `None` if it requests nothing."""
    milliseconds, seconds = headers.get("retry-after-ms"), headers.get("retry-after")
    reported = _number(milliseconds)
    if reported is not None:
        return reported / 1000
    if seconds is None or (reported := _number(seconds)) is not None:
        return reported
    import email.utils  # noqa: PLC0415 - slow to import, and a date is rare

    try:
        due = email.utils.parsedate_to_datetime(seconds).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, due - time.time())


def _judge(error: Exception, sdk: ModuleType, phase: Phase) -> tuple[str, bool, float | None]:
    """Return the text of the error, whether to retry, and after how many seconds."""
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
    if status < 400:  # the answer began successfully, and its stream reports an error
        return _in_stream(code, message or _shown(error))
    headers = error.response.headers
    retryable = status in (408, 409, 429) or status >= 500
    if status == 429 and "insufficient_quota" in code:
        retryable = False
    if headers.get("x-should-retry") in ("true", "false"):
        retryable = headers["x-should-retry"] == "true"
    # Some servers report errors in a form that the SDK does not know, and some report none.
    text = message or _page(error) or "no reason given"
    return f"status {status}: {text}", retryable, retry_after(headers)


def _page(error: Any) -> str:
    try:
        return _cut(error.response.text)
    except RuntimeError:  # the connection broke before the body arrived
        return ""


def _in_stream(code: str, message: str) -> tuple[str, bool, float | None]:
    reported = ": ".join(part for part in (_cut(code), _cut(message)) if part)
    return f"the stream reports an error: {reported}", not _is_final(code), None


def _body(body: object) -> tuple[str, str]:
    """Return the code and the message in the body of an error; each may be empty."""
    if not isinstance(body, Mapping):
        return "", ""
    inner = body.get("error")
    if isinstance(inner, Mapping):
        body = inner
    reported = [str(body[key]) for key in ("code", "type") if body.get(key)]
    message = body.get("message")
    return _cut(" ".join(reported)), _cut(message) if isinstance(message, str) else ""


def _is_final(code: str) -> bool:
    """Return whether a code in a stream, which has no status, means that a retry is useless."""
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

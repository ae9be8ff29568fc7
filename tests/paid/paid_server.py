"""A provider on loopback with three APIs. Its answers depend only on the request, and it books every request.

Each answer contains the digest of its question, in its text or in the ids of its calls. So the records of a run show
which answers it has, and the book shows how often each was requested.
"""

import json
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import models_wire as wire

__all__ = ["Account", "Ask", "Fault", "PaidServer", "Said"]

Calls = tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True)
class Ask:
    """One request, the same in every API."""

    agent: str
    """Name of the model: each agent has one of its own here."""
    turn: int
    """The number of answers in the conversation."""
    heard: tuple[str, ...]
    """The texts since the last answer: the user's text, or the results of the calls."""
    digest: str
    """The digest of the whole body: equal digests mean equal requests."""


@dataclass(frozen=True)
class Said:
    """The server's answer."""

    text: str = ""
    calls: Calls = ()


@dataclass(frozen=True)
class Fault:
    """A fault in place of an answer. A status of 200 breaks the stream after its first words."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Account:
    """The book of one customer, who has a separate URL."""

    url: str
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """API and body of every request, in the order of arrival."""
    asked: list[str] = field(default_factory=list)
    """The agent and the digest of each request."""
    by_url: Counter[str] = field(default_factory=Counter)
    """The number of requests that came by each URL of the account."""
    input_tokens: int = 0
    output_tokens: int = 0
    faults: deque[Fault] = field(default_factory=deque)
    """The faults of the next requests."""
    stumbles: tuple[Fault, ...] = ()
    """The faults of requests that arrive for the first time, in turn."""
    answered_max: int = sys.maxsize
    """Requests after this many get no answer until `released`."""
    released: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def book(self, api: str, body: dict[str, Any], ask: Ask) -> Fault | None:
        """Record a request; return its fault, if it has one."""
        known, asked = set(self.asked), f"{ask.agent} {ask.digest}"
        self.bodies.append((api, body))
        self.asked.append(asked)
        if self.stumbles and asked not in known:
            return self.stumbles[len(known) % len(self.stumbles)]
        return self.faults.popleft() if self.faults else None

    def wait_for(self, requests: int) -> None:
        """Return when this many requests have arrived."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= requests, timeout=60)

    @property
    def times_asked(self) -> Counter[str]:
        """Return how often each request arrived."""
        return Counter(self.asked)


# --- the answers of the agents' models ---


def clerk(ask: Ask) -> Said:
    if ask.turn == 0:
        return Said("Let me look.", (("price_of", {"item": "tea"}), ("price_of", {"item": "milk"})))
    if ask.turn == 1:
        return Said(calls=(("sum_of", {"numbers": [int(price) for price in ask.heard]}),))
    if ask.turn == 2:
        return Said("And cake?", (("price_of", {"item": "cake"}),))
    return Said(f"In all {ask.heard[0]} more.")


def triage(ask: Ask) -> Said:
    return Said("One moment.", (("transfer_to_billing", {"message": ask.heard[0][:20]}),))


def billing(ask: Ask) -> Said:
    if ask.turn == 1:  # after the agent that handed over
        return Said(calls=(("price_of", {"item": "refund"}),))
    return Said(f"You get back {ask.heard[0]}.")


def supervisor(ask: Ask) -> Said:
    if ask.turn == 0:
        tasks = ("transfer_to_collector", {"message": "costs"}), ("transfer_to_analyst", {"message": "trends"})
        return Said("I split this.", tasks)
    return Said("Together: " + " and ".join(ask.heard))


def collector(ask: Ask) -> Said:
    if ask.turn == 0:
        return Said(calls=(("price_of", {"item": ask.heard[0]}),))
    return Said(f"collected {ask.heard[0]}")


MINDS: dict[str, Callable[[Ask], Said]] = {
    made.__name__: made for made in (clerk, triage, billing, supervisor, collector)
}


def answer_to(ask: Ask) -> Said:
    """Return the scripted answer of the agent's model, or one that repeats the last text."""
    mind = MINDS.get(ask.agent)
    said = mind(ask) if mind is not None else Said(f"{ask.agent} on {ask.heard[-1][:60]}")
    return said if said.calls and not said.text else Said(f"{said.text} #{ask.digest}", said.calls)


# --- the three APIs ---

PATHS = {"/chat/completions": "chat", "/responses": "responses", "/v1/messages": "anthropic"}


def read(api: str, body: dict[str, Any]) -> Ask:
    """Return the question of a request."""
    turn, heard = 0, list[str]()
    said_before = False
    for message in body["input" if api == "responses" else "messages"]:
        if message.get("role") == "system":
            continue
        by_model = message.get("role") == "assistant" or message.get("type") == "function_call"
        if by_model:
            turn += not said_before
            heard = []
        else:
            heard += texts_of(message)
        said_before = by_model
    digest = sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]
    return Ask(body["model"], turn, tuple(heard), digest)


def texts_of(message: dict[str, Any]) -> list[str]:
    content = message.get("content", message.get("output", ""))
    if isinstance(content, str):
        return [content]
    return [str(block.get("text", block.get("content"))) for block in content]


def stream(api: str, ask: Ask, said: Said, usage: tuple[int, int]) -> bytes:
    """Return the answer as the API streams it."""
    pieces = [word + " " for word in said.text.split(" ")[:-1]] + [said.text.split(" ")[-1]] if said.text else []
    calls = [(f"call_{ask.digest}_{place}", *call) for place, call in enumerate(said.calls)]
    deltas: list[dict[str, Any]]
    wire_usage: dict[str, Any] = {"input_tokens": usage[0], "output_tokens": usage[1], "total_tokens": sum(usage)}
    if api == "anthropic":
        blocks = [wire.text_block(*pieces)] if pieces else []
        blocks += [wire.call_block(name, json.dumps(given), call_id=own) for own, name, given in calls]
        return wire.anthropic(*blocks, stop="tool_use" if calls else "end_turn", usage={"input_tokens": usage[0]})
    if api == "responses":
        items = [wire.text_item(said.text)] if pieces else []
        items += [
            {
                "type": "function_call",
                "id": f"fc_{own}",
                "call_id": own,
                "name": name,
                "arguments": json.dumps(given),
                "status": "completed",
            }
            for own, name, given in calls
        ]
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        kind = "response.output_text.delta"
        deltas = [{"type": kind, "output_index": 0, "content_index": 0, "delta": piece} for piece in pieces]
        return wire.sse(*deltas, done=False) + wire.responses(*items, deltas=False, usage=wire_usage | details)
    deltas = [{"content": piece} for piece in pieces]
    for place, (own, name, given) in enumerate(calls):
        function = {"name": name, "arguments": json.dumps(given)}
        deltas.append({"tool_calls": [{"index": place, "id": own, "type": "function", "function": function}]})
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return wire.chat(*deltas, finish="tool_calls" if calls else "stop", usage=counts)


class PaidServer:
    """Serves in its own threads inside of `with`. `open_account` returns a URL and its book."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.paid = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def open_account(self) -> Account:
        """Return an account with nothing in its book."""
        name = f"/{len(self.accounts)}"
        self.accounts[name] = account = Account(f"http://127.0.0.1:{self._http.server_port}{name}")
        return account

    def readdress(self, account: Account) -> None:
        """Give an account a new URL. Requests of a killed process that arrive late still come by the earlier one."""
        name = f"/{len(self.accounts)}"
        self.accounts[name] = account
        account.url = f"http://127.0.0.1:{self._http.server_port}{name}"

    def serve(self, path: str, body: dict[str, Any]) -> tuple[Fault | None, bytes]:
        """Book a request; return its fault and its answer."""
        name = f"/{path.split('/')[1]}"
        account, api = self.accounts[name], PATHS[path.removeprefix(name)]
        ask = read(api, body)
        said = answer_to(ask)
        usage = len(json.dumps(body)), 7 if api == "anthropic" else len(said.text) + len(said.calls)
        with account.changed:
            fault = account.book(api, body, ask)
            account.by_url[f"http://127.0.0.1:{self._http.server_port}{name}"] += 1
            account.changed.notify_all()
            held = len(account.asked) > account.answered_max
            if fault is None:
                account.input_tokens += usage[0]
                account.output_tokens += usage[1]
        if held:
            account.released.wait(60)
        return fault, stream(api, ask, said, usage)


class _Http(ThreadingHTTPServer):
    daemon_threads = True  # a test that failed may have left a connection open
    request_queue_size = 64
    paid: PaidServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that were killed while they listened."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fault, answer = self.server.paid.serve(self.path, body)
        status = fault.status if fault is not None else 200
        if status != 200:
            answer = json.dumps({"type": "error", "error": {"type": "some_error", "message": "not like this"}}).encode()
        self.send_response(status)
        kind = "text/event-stream" if status == 200 else "application/json"
        for name, value in {"content-type": kind, "content-length": str(len(answer)), **_headers(fault)}.items():
            self.send_header(name, value)
        self.end_headers()
        if status == 200 and fault is not None:
            self.wfile.write(answer[: answer.index(b"#")].rpartition(b"\n\n")[0] + b"\n\n")
            self.close_connection = True
        else:
            self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's word
        """Write nothing."""


def _headers(fault: Fault | None) -> dict[str, str]:
    return fault.headers if fault is not None else {}

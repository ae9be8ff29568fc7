"""The side channel takes records from workers with the secret only, and no node waits for it or fails with it."""

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgpack
import pytest

from beluga_graph.kernel.snapshot import RUN, Token
from beluga_graph.temporal.live.listener import Listener
from beluga_graph.temporal.live.protocol import (
    FRAME_BYTES,
    authenticate_as_listener,
    authenticate_as_worker,
    pack_frame,
    read_frame,
)
from beluga_graph.temporal.live.record import LiveRecord
from beluga_graph.temporal.live.sender import LiveSender, LiveSenders
from beluga_graph.temporal.live.subscriptions import LiveSubscriptions
from beluga_graph.temporal.live.text import LiveText

RECORD = LiveRecord("run", "node", "node#1", 1, 1, 0, ("hello",))
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Listening:
    """A listener, and the records that it has taken."""

    def __init__(self) -> None:
        self.records: list[LiveRecord] = []
        self.listener = Listener("127.0.0.1", 0, self.records.append)
        self.address = ""
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> Connection:
        """Connect to it, without authentication."""
        host, _, port = self.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self._writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        """Close it, and all connections that were made here."""
        await self.listener.close()
        for writer in self._writers:
            await close(writer)

    async def expect_alive(self) -> None:
        """Expect that a worker with the secret gets through, and that no other record did."""
        reader, writer = await self.connect()
        await authenticate_as_worker(reader, writer, self.listener.secret)
        before = len(self.records)
        writer.write(pack_frame([RECORD]))
        await until(lambda: len(self.records) > before)
        assert self.records == [RECORD]


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    found = Listening()
    found.address = await found.listener.open()
    yield found
    await found.close()


async def until(is_so: Any) -> None:
    while not is_so():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.01)


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def is_disconnected(reader: asyncio.StreamReader) -> bool:
    """Read until the other side closes."""
    try:
        while await reader.read(1024):
            pass
    except OSError:
        pass
    return True


def text_of(name: str, on_changed: Any, tries: int = 1) -> LiveText:
    return LiveText("run", Token(name, "node", "", b"", RUN), tries, on_changed)


async def test_a_client_without_the_secret_is_disconnected(listening: Listening) -> None:
    reader, writer = await listening.connect()
    challenge = await read_frame(reader)
    own = secrets.token_bytes(16)
    response = hmac.digest(b"a guess", b"worker" + challenge + own, "sha256")
    writer.write(pack_frame((own, response)) + pack_frame([RECORD]))
    assert await is_disconnected(reader)
    await listening.expect_alive()


async def test_a_response_that_was_overheard_is_refused(listening: Listening) -> None:
    reader, writer = await listening.connect()
    challenge = await read_frame(reader)
    own = secrets.token_bytes(16)
    frame = pack_frame((own, hmac.digest(listening.listener.secret, b"worker" + challenge + own, "sha256")))
    writer.write(frame)
    await read_frame(reader)
    await close(writer)
    reader, writer = await listening.connect()
    writer.write(frame + pack_frame([RECORD]))
    assert await is_disconnected(reader)
    await listening.expect_alive()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\xff\xff\xff",
        (1 << 30).to_bytes(4, "big") + b"x" * 100_000,
        pack_frame(None),
        pack_frame(("short", "response")),
        pack_frame((b"x" * 16, b"y" * 32)),
        (3).to_bytes(4, "big") + b"\xc1\xc1\xc1",
        (3).to_bytes(4, "big") + b"\x81\x90\x01",
    ],
)
async def test_a_client_that_sends_anything_else_is_disconnected(listening: Listening, sent: bytes) -> None:
    reader, writer = await listening.connect()
    writer.write(sent)
    assert await is_disconnected(reader)
    await listening.expect_alive()


@pytest.mark.parametrize(
    "sent",
    [
        (FRAME_BYTES + 1).to_bytes(4, "big") + b"x" * 1000,
        (100).to_bytes(4, "big") + b"\x91" * 100,
        pack_frame(7),
        pack_frame([7]),
        pack_frame([(*RECORD[:6], ("text", 7), False)]),
        pack_frame([(*RECORD[:3], -1, *RECORD[4:])]),
        pack_frame([(*RECORD[:3], True, *RECORD[4:])]),
        pack_frame([(b"run", *RECORD[1:])]),
        pack_frame([(*RECORD, 1)]),
        (2).to_bytes(4, "big") + msgpack.packb(msgpack.ExtType(5, b""))[:2],
    ],
)
async def test_a_worker_that_breaks_the_protocol_is_disconnected(listening: Listening, sent: bytes) -> None:
    reader, writer = await listening.connect()
    await authenticate_as_worker(reader, writer, listening.listener.secret)
    writer.write(sent)
    assert await is_disconnected(reader)
    await listening.expect_alive()


async def test_silent_clients_do_not_keep_workers_out_for_ever(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beluga_graph.temporal.live.protocol._AUTHENTICATION_S", 0.5)
    silent = [await listening.connect() for _ in range(70)]
    await asyncio.gather(*(is_disconnected(reader) for reader, _ in silent))
    await listening.expect_alive()


async def test_a_worker_sends_nothing_to_a_listener_without_the_secret() -> None:
    received: list[bytes] = []

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(pack_frame(b"c" * 16))
        received.append(await reader.read(1024))  # the response of the worker
        writer.write(pack_frame(b"p" * 32))
        received.append(await reader.read(1024))
        await close(writer)

    async with await asyncio.start_server(pretend, "127.0.0.1", 0) as server:
        sender = LiveSender(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", b"secret")
        text = text_of("node#1", sender.on_changed)
        text.add(None, "hidden")  # type: ignore[arg-type]  # the token is not used
        await until(lambda: len(received) == 2)
        assert received[1] == b""
        assert not sender.is_ready
        await sender.close()


async def test_pieces_from_before_the_connection_arrive_in_order(listening: Listening) -> None:
    sender = LiveSenders().get(listening.address, listening.listener.secret)
    begun, ended = text_of("a#1", sender.on_changed), text_of("b#1", sender.on_changed)
    for text in (begun, ended):
        text.add(None, "one")  # type: ignore[arg-type]  # the token is not used
    ended.end()
    await until(lambda: sender.is_ready)
    begun.add(None, "two")  # type: ignore[arg-type]  # the token is not used
    await until(lambda: len(listening.records) == 3)
    assert [(record.token, record.first, record.pieces, record.is_over) for record in listening.records] == [
        ("a#1", 0, ("one",), False),
        ("b#1", 0, ("one",), True),
        ("a#1", 1, ("two",), False),
    ]
    await sender.close()


async def test_long_texts_are_split_and_a_piece_that_is_too_long_is_kept_back(listening: Listening) -> None:
    sender = LiveSender(listening.address, listening.listener.secret)
    text = text_of("a#1", sender.on_changed)
    pieces = ["\U0001f40b" * 9_000 for _ in range(12)]
    for piece in pieces:
        text.add(None, piece)  # type: ignore[arg-type]  # the token is not used
    await until(lambda: sum(len(record.pieces) for record in listening.records) == len(pieces))
    text.add(None, "x" * FRAME_BYTES)  # type: ignore[arg-type]  # the token is not used
    text.end()
    other = text_of("b#1", sender.on_changed)
    await until(lambda: listening.records[-1].token == "b#1")
    assert [piece for record in listening.records for piece in record.pieces] == pieces
    assert not other.is_over
    await sender.close()


async def test_a_worker_outlives_its_listener(listening: Listening) -> None:
    sender = LiveSender(listening.address, listening.listener.secret)
    text = text_of("a#1", sender.on_changed)
    await until(lambda: sender.is_ready)
    await listening.listener.close()
    await until(lambda: not sender.is_ready)
    for number in range(1000):
        text.add(None, f"{number}")  # type: ignore[arg-type]  # the token is not used
    text.end()
    await sender.close()
    assert sender.is_idle


@asynccontextmanager
async def slow_reader(secret: bytes) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Listen, authenticate and then read nothing until the event is set."""
    may_read = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await authenticate_as_listener(reader, writer, secret)
        await may_read.wait()
        await close(writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", may_read


async def test_a_slow_listener_costs_a_bounded_buffer() -> None:
    async with slow_reader(b"s") as (address, may_read):
        sender = LiveSender(address, b"s")
        text = text_of("a#1", sender.on_changed)
        await until(lambda: sender.is_ready)
        for _ in range(1000):
            text.add(None, "x" * 20_000)  # type: ignore[arg-type]  # the token is not used
        assert sender._writer is not None
        assert sender._writer.transport.get_write_buffer_size() < 2 << 20
        may_read.set()
        await sender.close()


async def test_an_address_that_is_taken_is_an_error_only_if_it_was_given() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ValueError, match="live="):
            await LiveSubscriptions(f"127.0.0.1:{port}").prepare("r")
    with pytest.raises(ValueError, match="host:port"):
        LiveSubscriptions("127.0.0.1:http")
    subscriptions = LiveSubscriptions("heartbeats")
    assert await subscriptions.prepare("r") == ("", b"", True)
    subscriptions = LiveSubscriptions(None)
    assert (await subscriptions.prepare("r")).in_heartbeats is False
    with subscriptions.watch("r"):
        assert (await subscriptions.prepare("r")).in_heartbeats is True
    await subscriptions.close()
    await subscriptions.close()

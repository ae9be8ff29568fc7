"""A program that runs flows against the paid server in child processes, which may kill themselves.

It reads a line of JSON for each job and prints one line. Each job runs in a fork of this process, which has imported
everything and opened nothing. The first line of input is a URL to ask once in each API: the SDKs build many objects at
their first answer, and no fork should have to do that.
"""

import asyncio
import gc
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anthropic import AsyncAnthropic
from models_rules import CONVERTERS
from openai import AsyncOpenAI
from paid_flows import FLOWS, INPUT, RUN_ID

import stores.environment
from beluga_graph import Engine
from beluga_graph.models import AnthropicModel, Message, Model, OpenAIModel, Reply, Request, ask
from stores import LMDBStore
from stores.base import Op, Put
from stores.transactions import apply

OF_ANSWER = re.compile(rb"(?:#|call_)([0-9a-f]{12})")


class Death:
    """Kills the process when the `count`-th answer reaches a point."""

    def __init__(self, point: str, count: int) -> None:
        self._point, self._count = point, count
        self._passed: set[object] = set()

    def comes(self, point: str, answers: Iterable[object]) -> None:
        if point == self._point and not self._passed.issuperset(answers):
            self._passed.update(answers)
            if len(self._passed) >= self._count:
                os.kill(os.getpid(), signal.SIGKILL)

    def writes(self, point: str, ops: Iterable[Op]) -> None:
        self.comes(point, {digest for op in ops if isinstance(op, Put) for digest in OF_ANSWER.findall(op.value)})


class MortalModel:
    """A model whose process may die in the middle or at the end of an answer."""

    def __init__(self, inner: Model, death: Death) -> None:
        self.name = inner.name
        self._inner, self._death = inner, death

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        for convert, check, _ in CONVERTERS.values():
            check(convert(request))
        heard = False
        async for piece in self._inner.stream(request):
            if isinstance(piece, Reply):
                self._death.comes("answered", [object()])
            elif not heard:
                heard = True
                self._death.comes("heard", [object()])
            yield piece


class MortalStore:
    """A store whose process may die before, inside or after the commit of an answer."""

    def __init__(self, inner: LMDBStore, death: Death) -> None:
        self._inner, self._death = inner, death
        vars(stores.environment)["apply"] = self._apply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self, *ops: Op) -> None:
        self._death.writes("before_commit", ops)
        self._inner.commit(*ops)
        self._death.writes("after_commit", ops)

    def _apply(self, txn: Any, ops: Iterable[Op]) -> None:
        mortal: Any = MortalTransaction(txn, self._death, ops)
        apply(mortal, ops)


class MortalTransaction:
    """An LMDB transaction in which everything is written when the process dies."""

    def __init__(self, inner: Any, death: Death, ops: Iterable[Op]) -> None:
        self._inner, self._death, self._ops = inner, death, ops

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self) -> None:
        self._death.writes("inside_commit", self._ops)
        self._inner.commit()


# One client each, which every fork inherits: making one reads all the certificates of the machine.
OPENAI = AsyncOpenAI(api_key="sk", base_url="http://127.0.0.1:9")
ANTHROPIC = AsyncAnthropic(api_key="sk", base_url="http://127.0.0.1:9")


def model_of(api: Any, url: str, name: str) -> Model:
    if api == "anthropic":
        return AnthropicModel(name, client=ANTHROPIC.with_options(base_url=url))
    return OpenAIModel(name, client=OPENAI.with_options(base_url=url), api=api)


async def warm_up(url: str) -> None:
    async with AsyncOpenAI(api_key="sk", base_url=url) as one, AsyncAnthropic(api_key="sk", base_url=url) as other:
        chat, responses = OpenAIModel("clerk", client=one), OpenAIModel("clerk", client=one, api="responses")
        models: tuple[Model, ...] = (chat, responses, AnthropicModel("clerk", client=other))
        for model in models:
            await ask(model, Request(messages=(Message("user", "hello"),)))


async def walk(job: dict[str, Any]) -> dict[str, Any]:
    folder = Path(job["folder"])
    death = Death(job["point"], job["count"])
    file = os.open(folder / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def happen(what: str) -> None:
        os.write(file, f"{what}\n".encode())

    def model(name: str) -> Model:
        return MortalModel(model_of(job["api"], job["url"], name), death)

    store = LMDBStore(folder / "store", durability=job["durability"])
    async with Engine(MortalStore(store, death), durability=job["durability"], deps=happen) as engine:
        run = await engine.start(FLOWS[job["flow"]](model), INPUT, run_id=RUN_ID)
        outcome = await run.outcome(timeout=60)
    await OPENAI.close()
    await ANTHROPIC.close()
    store.close()
    return asdict(outcome)


def answer(job: dict[str, Any]) -> None:
    try:
        said = {"outcome": asyncio.run(walk(job))}
    except BaseException:  # noqa: BLE001 - the parent gets every error
        said = {"error": {"text": traceback.format_exc()}}
    Path(job["folder"], "said").write_text(json.dumps(said))


def main() -> None:
    asyncio.run(warm_up(json.loads(sys.stdin.readline())))
    gc.collect()
    gc.freeze()  # a fork that looks for garbage here would copy every page
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            answer(json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"killed": os.WIFSIGNALED(status)}), flush=True)


if __name__ == "__main__":
    main()

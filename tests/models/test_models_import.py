"""The first request imports a provider's SDK in a thread, so that the event loop keeps running."""

import subprocess
import sys
from pathlib import Path

import pytest

import beluga_graph.models

ROOT = Path(beluga_graph.models.__file__).parents[2]

# An SDK whose import ends only when the event loop has turned a hundred times since it began.
SDK = """
import types
import handshake

handshake.begun.set()
if not handshake.may_end.wait(60):
    raise RuntimeError("the event loop did not turn while it was imported")
handshake.imports += 1


class Client:
    def __init__(self, **options):
        if not handshake.made:
            handshake.made.append(self)
        else:
            raise RuntimeError("a second client for one event loop")
        self.api_key = self.auth_token = "a-key-of-the-test"
        self.chat = types.SimpleNamespace(completions=self)
        self.responses = self.messages = self

    async def create(self, **body):
        raise ValueError("asked")

    def is_closed(self):
        return False

    async def close(self):
        pass


class APIError(Exception):
    pass


class APIStatusError(APIError):
    pass


class APIConnectionError(APIError):
    pass


class APITimeoutError(APIConnectionError):
    pass


AsyncOpenAI = AsyncAnthropic = Client
"""
HANDSHAKE = "import threading\nbegun, may_end, made, imports = threading.Event(), threading.Event(), [], 0\n"
TYPES = """
from typing import Annotated
from pydantic import BaseModel


class Text(BaseModel):
    text: str


class End(BaseModel):
    pass


ResponseStreamEvent = Annotated[Text | End, "an event"]
"""

PROGRAM = """
import asyncio
import handshake
from beluga_graph import ModelError
from beluga_graph.models import Message, OpenAIModel, AnthropicModel, Request, ask

async def heart():
    while not handshake.begun.is_set():
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    handshake.may_end.set()

async def fails(model):
    try:
        await ask(model, Request(messages=(Message("user", "Hi"),)))
    except ModelError as error:
        return str(error)

async def main():
    model = {model}
    beating = asyncio.create_task(heart())
    print(*await asyncio.gather(*(fails(model) for _ in range(3))), sep="\\n")
    await beating
    print("imports:", handshake.imports)

asyncio.run(main())
"""


def run(folder: Path, program: str) -> list[str]:
    script = folder / "program.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": f"{folder}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def install(folder: Path, package: str, source: str) -> None:
    (folder / package / "types").mkdir(parents=True)
    (folder / package / "__init__.py").write_text(source)
    (folder / package / "types" / "__init__.py").write_text("")
    (folder / package / "types" / "responses.py").write_text(TYPES)
    (folder / "handshake.py").write_text(HANDSHAKE)


MODELS = [
    ("openai", "OpenAIModel('m')"),
    ("openai", "OpenAIModel('m', api='responses')"),
    ("anthropic", "AnthropicModel('m')"),
]


@pytest.mark.parametrize(("package", "model"), MODELS, ids=["chat", "responses", "anthropic"])
def test_the_loop_turns_while_the_first_question_imports_the_sdk(package: str, model: str, tmp_path: Path) -> None:
    install(tmp_path, package, SDK)
    *answers, imports = run(tmp_path, PROGRAM.replace("{model}", model))
    assert imports == "imports: 1"
    asked = f"{package} model 'm': the request cannot be sent: ValueError: asked"
    assert answers == [asked] * 3, "one client serves all that ask at once"


@pytest.mark.parametrize(("package", "model"), MODELS, ids=["chat", "responses", "anthropic"])
def test_an_sdk_that_cannot_be_imported_is_one_clear_error(package: str, model: str, tmp_path: Path) -> None:
    install(tmp_path, package, "import handshake\nhandshake.begun.set()\nraise RuntimeError('half installed')\n")
    *answers, _ = run(tmp_path, PROGRAM.replace("{model}", model))
    assert answers == [f"the {package} package cannot be imported: RuntimeError: half installed"] * 3

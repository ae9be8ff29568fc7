"""The package's own dataclasses come back unchanged by construction, so the codec need not decode them to check."""

import dataclasses
import dis
import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any

import pytest

import beluga_graph
from beluga_graph.agents.conversation import FilteredHistory, Outcome, Pending
from beluga_graph.codec import Codec, NotData, Registry
from beluga_graph.events import Failure
from beluga_graph.models.messages import Echo, Image, Message, NativePart, ToolCall, Usage

CALL = ToolCall("1", "look", "{}")
PARTS = ("see", Image(data=b"\x00", media_type="image/png"), NativePart("chat", {"n": [1, 2.0]}))
MESSAGE = Message("assistant", PARTS, (CALL,), echo=Echo("anthropic", "m", ({"type": "thinking"},)))
OWN = [
    CALL,
    MESSAGE,
    Usage(input_tokens=3),
    Outcome("no", is_error=True),
    Pending((CALL,), {0: Outcome("late")}, (1,)),
    FilteredHistory((MESSAGE, Message("user", "hi")), 4),
    Failure("n", "ValueError", "bad", 2, {"given": (1, 2)}),
]


@dataclass
class Doubling:
    n: int

    def __post_init__(self) -> None:
        self.n *= 2


def own_dataclasses() -> list[type]:
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(beluga_graph.__path__, "beluga_graph."):
        if module.name.endswith("__main__"):
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__.startswith("beluga_graph"):
                found[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return [found[name] for name in sorted(found)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    seen: list[bytes] = []
    decode = Codec.decode

    def watched(self: Codec, blob: bytes, **options: Any) -> Any:
        seen.append(blob)
        return decode(self, blob, **options)

    monkeypatch.setattr(Codec, "decode", watched)
    return seen


@pytest.mark.parametrize("cls", own_dataclasses(), ids=lambda cls: cls.__qualname__)
def test_no_constructor_of_an_own_dataclass_changes_its_arguments(cls: type) -> None:
    assert all(field.init for field in dataclasses.fields(cls))
    assert cls.__init__.__code__.co_filename == "<string>", "it is the one that `dataclass` writes"
    assert "__new__" not in vars(cls)
    after = getattr(cls, "__post_init__", None)
    if after is not None:
        steps = list(dis.get_instructions(after))
        assert not [step for step in steps if step.opname == "STORE_ATTR" or step.argval in ("setattr", "__setattr__")]


@pytest.mark.parametrize("value", OWN, ids=lambda value: type(value).__name__)
def test_an_own_instance_is_encoded_without_being_decoded_and_comes_back(value: Any, decoded: list[bytes]) -> None:
    codec = Codec(Registry.of(type(value)))
    blob = codec.encode([value])
    assert decoded == []
    assert codec.decode(blob) == [value]


def test_an_instance_of_a_program_s_class_within_an_own_one_is_still_checked(decoded: list[bytes]) -> None:
    codec = Codec(Registry.of(Failure, Doubling))
    with pytest.raises(NotData, match=r"\[0\]\.input.*a field changed on the way"):
        codec.encode([Failure("n", "ValueError", "bad", 1, Doubling(1))])
    assert decoded

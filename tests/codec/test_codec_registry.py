"""A registry registers every class that an annotation names, each under one name."""

import enum
import importlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Generic,
    Literal,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
)

import pytest
from pydantic import BaseModel, SecretStr
from typing_extensions import TypeAliasType

from beluga_graph.codec import NameTaken, Registry, SnapshotError
from beluga_graph.codec.entry import class_name
from beluga_graph.codec.former_names import FORMER_FIELDS, FORMER_NAMES
from beluga_graph.codec.instances import build

ROOT = Path(__file__).parents[2]


class Mood(enum.Enum):
    GOOD = 1


@dataclass
class Leaf:
    mood: "Mood"


@dataclass
class Tree:
    children: "list[Tree]"
    leaf: "Leaf | None"
    lost: "Nowhere"  # type: ignore[name-defined]  # noqa: F821 - resolves in no module, on purpose


class Inner(BaseModel):
    n: int


class Outer(BaseModel):
    by_name: dict[str, list[Inner]]
    again: "Outer | None" = None
    secret: SecretStr = SecretStr("")
    base: BaseModel | None = None


class Row(TypedDict):
    inner: NotRequired[Inner]


T = TypeVar("T", bound=Inner)


@dataclass
class Box(Generic[T]):
    content: T


class Plain:
    inner: Inner


def names(*annotations: Any) -> set[str]:
    return {name.partition(":")[2] for name in Registry.of(*annotations).names()}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (None, set()),
        (Any, set()),
        (int | str | None, set()),
        ("Inner", set()),
        (ForwardRef("Inner"), set()),
        (Plain, set()),
        (BaseModel, set()),
        (Inner, {"Inner"}),
        (Inner | None, {"Inner"}),
        (Optional[Inner], {"Inner"}),  # noqa: UP045 - the old spelling is another class
        (dict[str, tuple[Inner, ...]], {"Inner"}),
        (Annotated[list[Inner], Leaf], {"Inner"}),
        (Callable[[Inner], Mood], {"Inner", "Mood"}),
        (Literal[Mood.GOOD, "a"], {"Mood"}),
        (NewType("Special", Inner), {"Inner"}),
        (TypeAliasType("Alias", list[Inner]), {"Inner"}),
        (type[Mood], {"Mood"}),
        (Row, {"Inner"}),
        (T, {"Inner"}),
        (Box[Any], {"Box", "Inner"}),
        (Leaf, {"Leaf", "Mood"}),
        (Tree, {"Tree", "Leaf", "Mood"}),
        (Outer, {"Outer", "Inner"}),
    ],
    ids=lambda value: (
        "+".join(sorted(value)) or "nothing" if isinstance(value, set) else None
    ),  # the same in every worker
)
def test_an_annotation_registers_the_classes_that_it_names(annotation: Any, expected: set[str]) -> None:
    assert names(annotation) == expected


def twin(module: str = "app") -> type[Any]:
    made = type("Twin", (), {"__annotations__": {"x": int}, "__module__": module})
    return dataclass(made)


def test_two_classes_of_one_name_are_refused_and_nothing_is_registered() -> None:
    first, second = twin(), twin()
    registry = Registry.of(first)
    with pytest.raises(NameTaken) as caught:
        registry.add(Inner | second)
    assert str(caught.value) == (
        f"two classes are called 'app:Twin' in stored bytes (app.Twin at {id(first):#x} and app.Twin at "
        f"{id(second):#x}): rename one; or, if they are one class loaded twice (run as a program and also "
        "imported, or a cell run again), load it once"
    )
    assert registry.names() == ("app:Twin",)
    with pytest.raises(NameTaken):
        registry.merge(Registry.of(Inner, second))
    assert Inner not in registry


def test_merging_adds_the_new_classes() -> None:
    registry = Registry.of(Inner)
    registry.merge(Registry.of(Inner, Mood))
    assert registry.names() == (f"{__name__}:Inner", f"{__name__}:Mood")
    assert (Inner in registry, Leaf in registry, len(registry)) == (True, False, 2)


def test_a_dataclass_that_is_also_a_list_is_not_registered() -> None:
    @dataclass
    class Odd(list[int]):
        x: int

    assert names(Odd) == set()


def test_the_name_is_the_same_run_as_a_program_and_imported(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import dataclasses\n"
        "from beluga_graph.codec import Registry\n"
        "@dataclasses.dataclass\n"
        "class Doc: x: int\n"
        "print(*Registry.of(Doc).names())\n"
    )
    for command in (["app.py"], ["-m", "app"], ["-c", "import app"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout == "app:Doc\n", command
    assert class_name(Inner) == f"{__name__}:Inner"


def test_name_taken_is_an_error_of_the_codec() -> None:
    assert issubclass(NameTaken, SnapshotError)


@pytest.mark.parametrize("former", FORMER_NAMES)
def test_a_moved_class_is_found_by_its_former_name(former: str) -> None:
    module, _, name = FORMER_NAMES[former].partition(":")
    cls = getattr(importlib.import_module(module), name)
    assert class_name(cls) == FORMER_NAMES[former]
    entry = Registry.of(cls).entry_named(former)
    assert entry is not None
    assert entry.cls is cls


@pytest.mark.parametrize("name", FORMER_FIELDS)
def test_an_instance_is_built_from_the_former_names_of_its_fields(name: str) -> None:
    module, _, cls_name = name.partition(":")
    entry = Registry.of(getattr(importlib.import_module(module), cls_name)).entry_named(name)
    assert entry is not None
    former = {today: before for before, today in FORMER_FIELDS[name].items()}
    built = build(entry, [{former.get(field, field): field for field in entry.fields}])
    assert [getattr(built, field) for field in entry.fields] == list(entry.fields)

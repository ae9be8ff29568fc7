"""Every public name says what it promises where `help()` and an editor show it, and so does each of its fields."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pydantic
import pytest

import beluga_graph
import beluga_graph.temporal
import stores

ROOT = Path(__file__).parents[2]


def public_names() -> dict[str, Any]:
    found = {name: getattr(beluga_graph, name) for name in stub_names("beluga_graph")}
    found |= {f"temporal.{name}": getattr(beluga_graph.temporal, name) for name in stub_names("beluga_graph/temporal")}
    return found | {f"stores.{name}": getattr(stores, name) for name in stores.__all__}


def stub_names(package: str) -> list[str]:
    stub = ast.parse((ROOT / package / "__init__.pyi").read_text())
    return [alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]


PUBLIC = public_names()
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
CALLABLES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value) or inspect.isfunction(value)}


def own_members(cls: type) -> dict[str, Any]:
    return {
        f"{base.__qualname__}.{name}": value
        for base in cls.__mro__
        if base.__module__.split(".")[0] in ("beluga_graph", "stores")
        for name, value in vars(base).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property | classmethod))
    }


def field_names(cls: type) -> list[str]:
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls) if not field.name.startswith("_")]
    if issubclass(cls, pydantic.BaseModel):
        return list(cls.model_fields)
    return [name for name in getattr(cls, "_fields", ()) if not name.startswith("_")]


@pytest.mark.parametrize("name", CALLABLES)
def test_a_public_name_has_a_docstring(name: str) -> None:
    text = CALLABLES[name].__doc__ or ""
    assert len(text.split()) >= 3
    assert not text.startswith(f"{name}(")  # which is what a dataclass makes by itself


@pytest.mark.parametrize("name", CLASSES)
def test_each_public_method_and_property_has_a_docstring(name: str) -> None:
    members = own_members(CLASSES[name])
    assert [member for member, value in members.items() if not inspect.getdoc(value)] == []


@pytest.mark.parametrize("name", [name for name, cls in CLASSES.items() if field_names(cls)])
def test_each_public_field_is_described_in_the_docstring_of_its_class(name: str) -> None:
    _, _, listed = (inspect.getdoc(CLASSES[name]) or "").partition("Attributes:")
    described = set(re.findall(r"^    `?(\w+)`?:\s\S", listed, re.MULTILINE))
    assert set(field_names(CLASSES[name])) - described == set()

"""Types that fit each other and types that do not; in doubt they do."""

from collections.abc import Awaitable, Sequence
from typing import Annotated, Any, Literal, NewType, Optional, Union

import pytest
from pydantic import BaseModel

from beluga_graph import Context
from beluga_graph.plan.type_check import input_type, is_assignable, output_type


class Base(BaseModel):
    pass


class Derived(Base):
    pass


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (int, int),
        (bool, int),
        (int, float),
        (Derived, Base),
        (int, int | None),
        (int, Optional[int]),  # noqa: UP045 - both spellings
        (Union[int, str], int | str),  # noqa: UP007 - both spellings
        (list[int], list),
        (list, list[int]),
        (list[int], Sequence[int]),
        (dict[str, int], dict[str, Any]),
        (Any, int),
        (int, Any),
        (int, object),
        (UserId, int),
        (Annotated[int, "x"], int),
        (Literal["a"], str),
        (None, None),
        ("Unresolved", int),
    ],
)
def test_these_fit(given: Any, taken: Any) -> None:
    assert is_assignable(given, taken)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (str, int),
        (float, int),
        (Base, Derived),
        (int | str, int),
        (int | None, int),
        (list[str], list[int]),
        (dict[str, str], dict[str, int]),
        (list[int], dict),
        (Literal["a"], int),
        (None, int),
    ],
)
def test_these_do_not(given: Any, taken: Any) -> None:
    assert not is_assignable(given, taken)


def test_types_are_read_past_the_context_and_the_awaitable() -> None:
    async def asynchronous(ctx: Context, value: int) -> str:
        return str(value)

    def promising(value: "list[int]") -> Awaitable[str]:
        raise NotImplementedError

    assert (input_type(asynchronous), output_type(asynchronous)) == (int, str)
    assert (input_type(promising), output_type(promising)) == (list[int], str)
    assert (input_type(len), output_type(print)) == (Any, Any)

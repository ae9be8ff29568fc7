"""Tools: functions that a model may call. The schema comes from the signature and the docstring."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Annotated, Any, get_type_hints, overload

from pydantic import ValidationError

from beluga_graph.agents.docstring_params import parameter_texts
from beluga_graph.agents.output_type import describe_problems
from beluga_graph.errors import ToolError
from beluga_graph.flows.checks import check_approval
from beluga_graph.models.messages import ToolSpec
from beluga_graph.plan.declared import Approval
from beluga_graph.plan.plan import Body
from beluga_graph.policy import Retry

__all__ = ["Tool", "as_tool", "check_tool_name", "tool"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Tool:
    """A function with the name, description and schema that a model uses to call it. `@tool` makes one.

    Attributes:
        function: The function itself; calling the tool calls it.
        name: The name for the model; by default that of the function.
        description: The description for the model; by default the docstring.
        retry: The policy for attempts that fail.
        timeout: The limit of one attempt, in seconds.
        requires_approval: Whether a person must approve a call, or a function that decides it.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        requires_approval: Approval = False,
    ) -> None:
        self.function = function
        self.name = check_tool_name(name if name is not None else str(getattr(function, "__name__", "")))
        self.description = description if description is not None else inspect.getdoc(function) or ""
        self.retry = retry
        self.timeout = timeout
        check_approval(f"tool {self.name!r}", requires_approval)
        self.requires_approval = requires_approval
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, outside of any agent."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.name!r}>"

    @cached_property
    def body(self) -> Body:
        """The way the function is called: sync or async, with or without the context."""
        return Body.of(self.function)

    @cached_property
    def arguments(self) -> Any:
        """The pydantic model of the arguments. Raises `ToolError` for a signature that has no schema."""
        from pydantic import ConfigDict, Field, create_model  # noqa: PLC0415 - loaded when an agent is compiled
        from pydantic.errors import PydanticUserError  # noqa: PLC0415

        fields: dict[str, Any] = {}
        parameters = self._parameters()
        hints = _hints(self.name, self.function, [parameter.name for parameter in parameters])
        for index, parameter in enumerate(parameters):
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
                raise ToolError(
                    f"tool {self.name!r}: parameter {parameter} cannot be passed by name: use a plain parameter"
                )
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                raise ToolError(f"tool {self.name!r}: {parameter} has no schema: name its parameters")
            name, default = parameter.name, parameter.default
            hint = hints.get(name, Any)
            # Pydantic forbids some names that parameters can have, such as `schema` and `_x`.
            hint = Annotated[hints.get(name, Any), Field(alias=name)]
            fields[f"argument_{index}"] = (hint, ... if default is inspect.Parameter.empty else default)
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
        try:
            return create_model(f"{self.name}_arguments", __config__=config, **fields)
        except (PydanticUserError, TypeError, NameError) as error:
            raise ToolError(f"tool {self.name!r} has no schema: {error}") from error

    @cached_property
    def spec(self) -> ToolSpec:
        """The tool as it is offered to the model."""
        schema = self.arguments.model_json_schema(schema_generator=_quiet_schema())
        schema.pop("title", None)
        described = parameter_texts(inspect.getdoc(self.function) or "")
        for name, part in schema.setdefault("properties", {}).items():
            part.pop("title", None)
            if name in described:
                part.setdefault("description", described[name])
        return ToolSpec(name=self.name, description=self.description, parameters=schema)

    def parse(self, arguments: str) -> dict[str, Any]:
        """Return validated arguments from the JSON text that a model sent. Raises `ToolError`."""
        parsed = parse_arguments(self.name, arguments)
        try:
            checked = self.arguments.model_validate(parsed)
        except ValidationError as error:
            raise ToolError(f"bad arguments for {self.name}: {describe_problems(error)}") from error
        return {field.alias: getattr(checked, name) for name, field in type(checked).model_fields.items()}

    def _parameters(self) -> list[inspect.Parameter]:
        parameters = list(inspect.signature(self.function).parameters.values())
        return parameters[1:] if self.body.takes_context else parameters


def parse_arguments(name: str, arguments: str) -> dict[str, Any]:
    """Return the JSON object that a model sent. Raises `ToolError`; broken JSON never counts as `{}`."""
    try:
        parsed = json.loads(arguments if arguments.strip() else "{}")
    except (ValueError, RecursionError) as error:
        raise ToolError(f"the arguments of {name} are not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ToolError(f"the arguments of {name} are not a JSON object but {type(parsed).__name__}")
    return parsed


def check_tool_name(name: str) -> str:
    """Return a name that every provider accepts. Raises `ToolError` for any other."""
    if not _NAME.fullmatch(name):
        raise ToolError(f"{name!r:.100} is not a tool name: use 1 to 64 letters, digits, _ or -")
    return name


def _hints(name: str, function: Callable[..., Any], parameters: list[str]) -> dict[str, Any]:
    """Return the annotations of these parameters only: that of the context may be imported for type checkers only."""
    target = inspect.unwrap(function)
    if isinstance(target, functools.partial):
        target = target.func
    if not inspect.isroutine(target):  # a callable object
        target = type(target).__call__
    target = getattr(target, "__func__", target)
    stated = {key: hint for key, hint in getattr(target, "__annotations__", {}).items() if key in parameters}
    try:
        return get_type_hints(
            SimpleNamespace(__annotations__=stated), getattr(target, "__globals__", {}), include_extras=True
        )
    except (NameError, TypeError) as error:
        raise ToolError(f"tool {name!r}: an annotation is unknown: {error}") from error


def _quiet_schema() -> Any:
    from pydantic.json_schema import GenerateJsonSchema  # noqa: PLC0415 - loaded when an agent is compiled

    class Quiet(GenerateJsonSchema):
        ignored_warning_kinds = {"non-serializable-default", "skipped-choice"}  # noqa: RUF012 - as in pydantic

    return Quiet


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    requires_approval: Approval = False,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    requires_approval: Approval = False,
) -> Any:
    """Make a function a tool. The parameters become the schema, the docstring becomes the description.

    A first parameter annotated `Context` or named `ctx` receives the context. Sync functions run in a thread. An
    exception, after `retry`, becomes an error result that the model sees; `timeout` limits one attempt, in seconds.

    With `requires_approval` a call waits until a person decides with `Engine.answer`. A function `(arguments)` or
    `(ctx, arguments)` that returns a bool decides whether approval is needed. The model sees a rejection as the
    result of the call. A call with bad arguments is refused without asking.

    ```python
    @tool(retry=Retry(attempts=3), requires_approval=lambda arguments: arguments["amount"] > 100)
    def refund(order: int, amount: float) -> str:
        '''Pay money back.

        Args:
            order: The number of the order.
            amount: Euros.
        '''
        return bank.pay(order, amount)
    ```
    """

    def make(function: Callable[..., Any]) -> Tool:
        return Tool(
            function,
            name=name,
            description=description,
            retry=retry,
            timeout=timeout,
            requires_approval=requires_approval,
        )

    return make if function is None else make(function)


def as_tool(given: Tool | Callable[..., Any]) -> Tool:
    """Return the tool itself, or a tool made from a function."""
    return given if isinstance(given, Tool) else Tool(given)

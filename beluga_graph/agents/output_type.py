"""The output type of an agent: a schema for the model, and the validation of its answer."""

from __future__ import annotations

from typing import Any

from beluga_graph.errors import ModelError

__all__ = ["OutputType", "describe_problems"]


class OutputType:
    """A type that answers are validated against.

    Providers require a JSON object. Any other type is requested as the field `answer` of an object.
    """

    def __init__(self, annotation: Any) -> None:
        from pydantic import TypeAdapter, create_model  # noqa: PLC0415 - only agents with an output type need it

        self._bare: Any = TypeAdapter(annotation)
        self._wrapped: Any = None
        self.schema: dict[str, Any] = self._bare.json_schema()
        if not _is_object(self.schema):
            self._wrapped = create_model("Answer", answer=(annotation, ...))
            self.schema = self._wrapped.model_json_schema()

    def parse(self, text: str) -> Any:
        """Return the validated output. Raises `ModelError`, which lists the problems."""
        stripped = text.strip()
        if stripped.startswith("```"):  # models often wrap JSON in a code fence
            stripped = stripped.strip("`").removeprefix("json").strip()
        try:
            if self._wrapped is not None:
                try:
                    return self._wrapped.model_validate_json(stripped).answer
                except ValueError:
                    return self._bare.validate_json(stripped)
            return self._bare.validate_json(stripped)
        except ValueError as error:
            raise ModelError(describe_problems(error)) from error


def describe_problems(error: ValueError) -> str:
    """Return the problems that a validation found, in one line, without the values."""
    listed = getattr(error, "errors", None)
    if not callable(listed):
        return str(error)
    found = listed(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in found)


def _is_object(schema: dict[str, Any]) -> bool:
    if "$ref" in schema:
        schema = schema.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {})
    return schema.get("type") == "object"

"""What an agent's answer must be: a type, told to the model as a schema and held against what it says."""

from __future__ import annotations

from typing import Any

from beluga_graph.errors import ModelError

__all__ = ["Output", "problems"]


class Output:
    """An output type. One that is no JSON object is asked for as the field `answer` of one: providers want objects."""

    def __init__(self, annotation: Any) -> None:
        from pydantic import TypeAdapter, create_model  # noqa: PLC0415 - only agents with an output type need it

        self._bare: Any = TypeAdapter(annotation)
        self._wrapped: Any = None
        self.schema: dict[str, Any] = self._bare.json_schema()
        if not _is_object(self.schema):
            self._wrapped = create_model("Answer", answer=(annotation, ...))
            self.schema = self._wrapped.model_json_schema()

    def parse(self, text: str) -> Any:
        """Return the validated output. Raises `ModelError` that says what does not fit."""
        stripped = text.strip()
        if stripped.startswith("```"):  # models like to fence what they were asked to give bare
            stripped = stripped.strip("`").removeprefix("json").strip()
        try:
            if self._wrapped is not None:
                try:
                    return self._wrapped.model_validate_json(stripped).answer
                except ValueError:
                    return self._bare.validate_json(stripped)
            return self._bare.validate_json(stripped)
        except ValueError as error:
            raise ModelError(problems(error)) from error


def problems(error: ValueError) -> str:
    """Return what a validation has found, in one line, without the values."""
    listed = getattr(error, "errors", None)
    if not callable(listed):
        return str(error)
    found = listed(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in found)


def _is_object(schema: dict[str, Any]) -> bool:
    if "$ref" in schema:
        schema = schema.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {})
    return schema.get("type") == "object"

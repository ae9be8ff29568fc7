"""JSON schemas in the strict form that structured outputs demand."""

from __future__ import annotations

from typing import Any

__all__ = ["closed"]

# What Anthropic's structured outputs refuse; the others' ignore some of it. The asker checks the answer anyway.
_UNSUPPORTED = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "default",
    "examples",
)


def closed(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema with each object closed and each of its fields required; limits become description.

    So a field with a default is asked for as well. None: the schema has an object of free keys (a `dict`), or is
    not of an object, and strict mode cannot express that. The schema itself is not changed.
    """
    if schema.get("type") != "object" and "$ref" not in schema:
        return None
    try:
        return _closed(schema)
    except _Open:
        return None


class _Open(Exception):
    """Somewhere in the schema is an object of free keys."""


def _closed(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):  # `true`: anything
        raise _Open
    limits = {key: schema[key] for key in _UNSUPPORTED if key in schema}
    out = {key: part for key, part in schema.items() if key not in limits}
    limits.pop("default", None)
    if limits:
        told = ", ".join(f"{key}: {limit}" for key, limit in limits.items())
        out["description"] = f"{out['description']} ({told})" if out.get("description") else told
    if "properties" in out:
        out["properties"] = {name: _closed(part) for name, part in out["properties"].items()}
        out["required"] = list(out["properties"])
    if out.get("type") == "object":
        if out.get("additionalProperties") or "properties" not in out:
            raise _Open
        out["additionalProperties"] = False
    if "oneOf" in out:
        out["anyOf"] = out.pop("oneOf")
        out.pop("discriminator", None)
    for key in ("$defs",):
        if key in out:
            out[key] = {name: _closed(part) for name, part in out[key].items()}
    for key in ("anyOf", "allOf", "prefixItems"):
        if key in out:
            out[key] = [_closed(part) for part in out[key]]
    if "items" in out:
        out["items"] = _closed(out["items"])
    if not out.keys() & {"type", "$ref", "anyOf", "allOf", "enum", "const"}:
        raise _Open
    return out

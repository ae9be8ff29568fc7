"""JSON schemas in the strict form that structured outputs require."""

from __future__ import annotations

from typing import Any

__all__ = ["close_schema"]

# Keys that Anthropic refuses in structured outputs and other providers partly ignore. The caller validates anyway.
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


def close_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return a copy of the schema with each object closed and each field required; limits become descriptions.

    So a field with a default is required, too. Returns `None` if strict mode cannot express the schema: it has an
    object of free keys (a `dict`), or it is not of an object.
    """
    if schema.get("type") != "object" and "$ref" not in schema:
        return None
    try:
        return _close(schema)
    except _Open:
        return None


class _Open(Exception):
    """A part of the schema is an object of free keys."""


def _close(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):  # `true`: anything
        raise _Open
    limits = {key: schema[key] for key in _UNSUPPORTED if key in schema}
    out = {key: part for key, part in schema.items() if key not in limits}
    limits.pop("default", None)
    if limits:
        described = ", ".join(f"{key}: {limit}" for key, limit in limits.items())
        out["description"] = f"{out['description']} ({described})" if out.get("description") else described
    if "properties" in out:
        out["properties"] = {name: _close(part) for name, part in out["properties"].items()}
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
            out[key] = {name: _close(part) for name, part in out[key].items()}
    for key in ("anyOf", "allOf", "prefixItems"):
        if key in out:
            out[key] = [_close(part) for part in out[key]]
    if "items" in out:
        out["items"] = _close(out["items"])
    if not out.keys() & {"type", "$ref", "anyOf", "allOf", "enum", "const"}:
        raise _Open
    return out

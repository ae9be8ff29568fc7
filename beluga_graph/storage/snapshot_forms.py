"""The form of a full snapshot, and the references inside of it."""

from __future__ import annotations

from typing import Any

from beluga_graph.kernel.structural_names import branch_place
from beluga_graph.kernel.tokens import Place, Scope
from beluga_graph.storage.forms import (
    Form,
    both,
    bound,
    count,
    few,
    fields_of,
    flag,
    integer,
    many,
    maybe,
    row,
    session,
    status,
    table,
    text,
    time_kind,
    token_state,
    value,
)

__all__ = ["is_snapshot"]

_TOKEN = row(text, text, text, value, token_state, few, few, few, maybe(value), row(time_kind, count), optional=5)
_PARTS: dict[str, Form] = {
    # Of a scope.
    "failures": table(few, value),
    "frame": flag,
    "node": text,
    "place": text,
    "queue": table(few, row(few, value)),
    "results": table(few, value),
    "attempt": few,
    "value": value,
    "width": few,
    # Of a place.
    "branch": few,
    "fields": table(text, value),
    "item": maybe(value),
    "lengths": table(text, count),
    "opened": maybe(text),
    "scope": maybe(text),
    "token": maybe(text),
    "visits": table(text, count),
}
_SNAPSHOT = fields_of(
    {
        "active": integer,
        "context": maybe(value),
        "error": maybe(value),
        "inbox": table(text, count),
        "input": value,
        "limits": table(text, bound),
        "output": maybe(value),
        "places": table(text, row(*(_PARTS[name] for name in Place.__slots__), optional=1)),  # older: no item
        "plan": text,
        "reason": text,
        "rules": count,
        "run_id": text,
        "scopes": table(text, row(*(_PARTS[name] for name in Scope.__slots__))),
        "seq": count,
        "session": maybe(session),
        "started_ms": integer,
        "status": status,
        "steps": count,
        "timers": table(text, count),
        "tokens": many(_TOKEN),
        "usage": table(text, integer),
        "waits": table(text, many(text)),
    }
)


def _holds_together(plain: dict[str, Any]) -> bool:
    """Return whether a snapshot contains all that it refers to. Names nest, so no place is inside itself."""
    places_of = {token[0]: token[2] for token in plain["tokens"]}
    scopes = {name: dict(zip(Scope.__slots__, parts, strict=True)) for name, parts in plain["scopes"].items()}
    places = {name: dict(zip(Place.__slots__, parts, strict=False)) for name, parts in plain["places"].items()}
    return (
        places.get("", {"scope": ""})["scope"] is None
        and all(place in places and name.startswith(place) for name, place in places_of.items())
        and all(scope["place"] in places and name.startswith(scope["place"]) for name, scope in scopes.items())
        and all(_has_last_branches(scope["queue"], scope["width"]) for scope in scopes.values())
        and all(
            (place["token"] is None or place["token"] in places_of)
            and (place["opened"] is None or place["opened"] in scopes)
            and (not name or (place["scope"] in scopes and name == branch_place(place["scope"], place["branch"])))
            for name, place in places.items()
        )
        and all(
            name in places_of or name in scopes or name in places
            for waiting in plain["waits"].values()
            for name in waiting
        )
    )


def _has_last_branches(queue: dict[int, Any], width: int) -> bool:
    return all(map(int.__eq__, queue, range(width - len(queue), width)))


is_snapshot = both(_SNAPSHOT, _holds_together)

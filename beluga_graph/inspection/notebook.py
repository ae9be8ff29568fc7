"""What a notebook shows of a run: a drawing of a handle, a table of an info and of a snapshot.

IPython calls these without awaiting, and shows a traceback for what they raise. So they read the store at once, a
bounded part of it, and say within the display what went wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from beluga_graph.codec.safe_repr import plain
from beluga_graph.draw.display import bundle, fault_of, table
from beluga_graph.draw.overlay import overlay_of
from beluga_graph.draw.page.values import shown_value
from beluga_graph.draw.picture import picture
from beluga_graph.draw.text import clipped
from beluga_graph.draw.theme import STATUS_SIGNS
from beluga_graph.engine.run import RunInfo, RunSnapshot
from beluga_graph.inspection.reading import info_of, stored_plan, trail_of
from beluga_graph.storage.keys import RunRecord
from beluga_graph.storage.run_log import read_head, rebuild
from stores.base import Store

__all__ = ["info_html", "run_bundle", "snapshot_html"]

STEPS_MAX = 500  # of a run that is drawn: its steps are read while the event loop waits
ROWS_MAX = 50
_VALUE_SIGNS = 400
_SIGN_OF = {"completed": STATUS_SIGNS["done"], "cancelled": STATUS_SIGNS["dropped"]}


def run_bundle(store: Store, run_id: str, known: str) -> dict[str, str]:
    """Return a run as of its last committed step, by media type; a long one as a table about it.

    `known` is its status where the store does not say it any more.
    """
    try:
        head = read_head(store, run_id)
        steps = rebuild(store, run_id)[0].seq
        if steps > STEPS_MAX:
            why = f"{steps:,} steps are too many to draw while the event loop waits: await run.svg()"
            return _told([*_rows_of(info_of(head)), ("drawing", why)])
        return _drawn(store, head)
    except Exception as fault:  # noqa: BLE001 - the display says what is wrong
        return _told([("run", run_id), ("status", _status(known)), ("!", fault_of(fault))])


def _drawn(store: Store, head: RunRecord) -> dict[str, str]:
    trail = trail_of(store, head, stored_plan(store, head).shape, None, keep=False)
    shown = picture(trail.shape)
    return bundle(shown, overlay_of(trail, shown))


def _told(rows: list[tuple[str, str]]) -> dict[str, str]:
    return {"text/html": table(rows), "text/plain": "\n".join(f"{name}: {plain(text)}" for name, text in rows)}


def info_html(info: RunInfo) -> str:
    """Return a line about a run as a table in HTML."""
    return table(_rows_of(info))


def _rows_of(info: RunInfo) -> list[tuple[str, str]]:
    return [
        ("run", info.run_id),
        ("flow", info.flow),
        ("status", _status(info.status)),
        ("created", _time(info.created_ms)),
        ("updated", _time(info.updated_ms)),
    ]


def snapshot_html(snapshot: RunSnapshot) -> str:
    """Return a run as of one step as a table in HTML: values are cut, and of many tokens the first are shown."""
    return table(_some(snapshot))


def _some(snapshot: RunSnapshot) -> Iterator[tuple[str, str]]:
    yield "run", snapshot.run_id
    yield "status", _status(snapshot.status)
    yield "step", f"{snapshot.seq:,}, {snapshot.steps:,} nodes finished"
    yield "input", _value(snapshot.input)
    if snapshot.output is not None:
        yield "output", _value(snapshot.output)
    if snapshot.failure is not None:
        yield "failure", _value(snapshot.failure)
    for field, value in snapshot.state.items():
        yield f"state.{field}", _value(value)
    for token in snapshot.tokens[:ROWS_MAX]:
        attempt = f", attempt {token.attempt}" if token.attempt > 1 else ""
        yield token.name, f"{token.state}{attempt}: {_value(token.value)}"
    if len(snapshot.tokens) > ROWS_MAX:
        yield "…", f"{len(snapshot.tokens) - ROWS_MAX:,} more tokens"
    for timer, due_ms in list(snapshot.timers.items())[:ROWS_MAX]:
        yield f"timer {timer}", _time(due_ms)


def _status(status: str) -> str:
    return f"{_SIGN_OF.get(status) or STATUS_SIGNS[status]} {status}"


def _value(value: Any) -> str:
    return clipped(shown_value(value), _VALUE_SIGNS)


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"

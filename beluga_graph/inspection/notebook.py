"""Notebook display of a run's handle: a drawing of its last committed step.

IPython calls a display without awaiting it, and shows a traceback for any error. So the store is read at once and only
up to a bound, and the display itself reports an error.
"""

from __future__ import annotations

from beluga_graph.codec.safe_repr import to_printable
from beluga_graph.draw.display import format_fault, format_status, render_bundle, render_table
from beluga_graph.draw.overlay import build_overlay
from beluga_graph.draw.picture import build_picture
from beluga_graph.inspection.reading import info_of, read_plan, read_trace
from beluga_graph.inspection.views import info_rows
from beluga_graph.storage.loading import read_run_record, rebuild
from beluga_graph.storage.records import RunRecord
from stores.base import Store

__all__ = ["run_bundle"]

STEPS_MAX = 500  # a longer run is not drawn: its steps are read while the event loop waits


def run_bundle(store: Store, run_id: str, known: str) -> dict[str, str]:
    """Return a display of a run as of its last committed step, by media type; a table if the run is long.

    `known` is the status to show if the store does not hold the run any more.
    """
    try:
        head = read_run_record(store, run_id)
        steps = rebuild(store, run_id).seq
        if steps > STEPS_MAX:
            why = f"{steps:,} steps are too many to draw while the event loop waits: await run.svg()"
            return _table_bundle([*info_rows(info_of(head)), ("drawing", why)])
        return _drawing_bundle(store, head)
    except Exception as fault:  # noqa: BLE001 - the display reports it
        return _table_bundle([("run", run_id), ("status", format_status(known)), ("!", format_fault(fault))])


def _drawing_bundle(store: Store, head: RunRecord) -> dict[str, str]:
    trail = read_trace(store, head, read_plan(store, head).shape, None, keep=False)
    picture = build_picture(trail.shape)
    return render_bundle(picture, build_overlay(trail, picture))


def _table_bundle(rows: list[tuple[str, str]]) -> dict[str, str]:
    return {
        "text/html": render_table(rows),
        "text/plain": "\n".join(f"{name}: {to_printable(text)}" for name, text in rows),
    }

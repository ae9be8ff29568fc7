"""The kernel's calendar, which writes points in time without `datetime`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from beluga_graph.kernel.times import _format_due

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.integers(0, 253_402_300_799_999))
def test_a_point_in_time_is_written_as_the_calendar_has_it(due: int) -> None:
    assert _format_due(due) == (EPOCH + timedelta(milliseconds=due)).strftime("%Y-%m-%d %H:%M:%S UTC")

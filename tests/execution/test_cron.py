"""Cron expressions follow the wall clock of their zone, also where it is set forward or back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beluga_graph.execution.cron import Cron, load_zone

MINUTE_MS, DAY_MS = 60_000, 86_400_000
BERLIN, NEW_YORK, LORD_HOWE = map(ZoneInfo, ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe"))
# Zones with gaps and folds of an hour, of half an hour, of two hours, at midnight, and of a whole day.
ZONES = (
    BERLIN,
    NEW_YORK,
    LORD_HOWE,
    *map(ZoneInfo, ("Antarctica/Troll", "Africa/Cairo", "America/St_Johns", "Pacific/Apia", "America/Havana", "UTC")),
)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def due(expression: str, zone: ZoneInfo, first: datetime, last: datetime) -> list[str]:
    """Return the moments of an expression between two times, in the clock of its zone."""
    return [
        datetime.fromtimestamp(at / 1000, zone).isoformat(timespec="minutes")
        for at in moments(Cron(expression, zone), ms(first), ms(last))
    ]


def moments(cron: Cron, first_ms: int, last_ms: int) -> Iterator[int]:
    at_ms = cron.find_next(first_ms)
    while at_ms is not None and at_ms <= last_ms:
        yield at_ms
        at_ms = cron.find_next(at_ms)


def day(zone: ZoneInfo, year: int, month: int, number: int) -> tuple[datetime, datetime]:
    first = datetime(year, month, number, tzinfo=zone) - timedelta(seconds=1)
    return first, datetime(year, month, number + 1, tzinfo=zone) - timedelta(seconds=1)


SPRING, AUTUMN = day(BERLIN, 2026, 3, 29), day(BERLIN, 2026, 10, 25)


@pytest.mark.parametrize(
    ("expression", "zone", "days", "expected"),
    [
        ("30 2 * * *", BERLIN, SPRING, ["2026-03-29T03:00+02:00"]),
        ("0,30 2 * * *", BERLIN, SPRING, ["2026-03-29T03:00+02:00"]),
        ("0 2,3 * * *", BERLIN, SPRING, ["2026-03-29T03:00+02:00"]),
        ("*/30 2 * * *", BERLIN, SPRING, []),
        ("0 1-4 * * *", BERLIN, SPRING, [f"2026-03-29T0{at}" for at in ("1:00+01:00", "3:00+02:00", "4:00+02:00")]),
        ("30 2 * * *", BERLIN, AUTUMN, ["2026-10-25T02:30+02:00"]),
        ("*/30 2 * * *", BERLIN, AUTUMN, [f"2026-10-25T02:{m}+0{h}:00" for h in (2, 1) for m in ("00", "30")]),
        ("30 2 * * *", NEW_YORK, day(NEW_YORK, 2026, 3, 8), ["2026-03-08T03:00-04:00"]),
        ("30 1 * * *", NEW_YORK, day(NEW_YORK, 2026, 11, 1), ["2026-11-01T01:30-04:00"]),
        ("15 2 * * *", LORD_HOWE, day(LORD_HOWE, 2026, 10, 4), ["2026-10-04T02:30+11:00"]),
        ("45 1 * * *", LORD_HOWE, day(LORD_HOWE, 2026, 4, 5), ["2026-04-05T01:45+11:00"]),
    ],
)
def test_a_fixed_time_is_due_once_on_a_day_whose_clock_is_set(
    expression: str, zone: ZoneInfo, days: tuple[datetime, datetime], expected: list[str]
) -> None:
    assert due(expression, zone, *days) == expected


def test_a_time_on_a_date_that_a_zone_has_left_out_is_due_when_the_next_day_begins() -> None:
    apia = ZoneInfo("Pacific/Apia")
    days = datetime(2011, 12, 29, 12, tzinfo=apia), datetime(2011, 12, 31, 12, tzinfo=apia)
    assert due("0 12 * * *", apia, *days) == ["2011-12-31T00:00+14:00", "2011-12-31T12:00+14:00"]


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
def test_an_hourly_expression_follows_real_time_for_ten_years(zone: ZoneInfo) -> None:
    first = datetime(2020, 1, 1, tzinfo=UTC)
    found = list(moments(Cron("0 * * * *", zone), ms(first), ms(first.replace(year=2030))))
    assert found == list(range(ms(first) + 60 * MINUTE_MS, ms(first.replace(year=2030)) + 1, 60 * MINUTE_MS))


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, LORD_HOWE])
def test_a_daily_expression_is_due_once_a_day_for_ten_years(zone: ZoneInfo) -> None:
    for expression in ("30 2 * * *", "30 1 * * *", "0 0 * * *", "15 2 * * *"):
        first, last = datetime(2020, 1, 1, tzinfo=zone), datetime(2030, 1, 1, tzinfo=zone)
        found = list(moments(Cron(expression, zone), ms(first) - 1, ms(last) - 1))
        days = [datetime.fromtimestamp(at / 1000, zone).date() for at in found]
        assert days == [first.date() + timedelta(days=number) for number in range((last.date() - first.date()).days)]


FIELDS = st.tuples(
    st.sampled_from(["0", "30", "*/20", "15,45", "*", "10-50/20"]),
    st.sampled_from(["2", "*", "*/3", "0-4", "1,23", "0"]),
    st.sampled_from(["*", "*", "1", "L", "25-31"]),
    st.sampled_from(["*", "*", "3,4,10,11"]),
    st.sampled_from(["*", "*", "SUN", "MON-FRI", "SUN#1"]),
)


@settings(max_examples=60)
@given(
    FIELDS.map(" ".join),
    st.sampled_from(ZONES),
    st.integers(ms(datetime(2008, 1, 1, tzinfo=UTC)), ms(datetime(2035, 1, 1, tzinfo=UTC))),
)
def test_an_expression_is_due_when_the_clock_fits_and_both_searches_agree(
    expression: str, zone: ZoneInfo, first_ms: int
) -> None:
    cron = Cron(expression, zone)
    last_ms = first_ms + 40 * DAY_MS
    found = list(moments(cron, first_ms, last_ms))
    assert found == sorted(set(found))
    back, at_ms = [], cron.find_latest(last_ms)
    while at_ms is not None and at_ms > first_ms:
        back.append(at_ms)
        at_ms = cron.find_latest(at_ms - 1)
    assert back[::-1] == found
    minute, hour, *_ = expression.split()
    if minute.startswith("*") or hour.startswith("*"):
        assert found == [at_ms for at_ms in _minutes(first_ms, last_ms) if _fits(cron, zone, at_ms)]


def _minutes(first_ms: int, last_ms: int) -> range:
    return range(first_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS, last_ms + 1, MINUTE_MS)


def _fits(cron: Cron, zone: ZoneInfo, at_ms: int) -> bool:
    local = datetime.fromtimestamp(at_ms / 1000, zone)
    fields = cron._fields
    return (
        local.minute in fields.minutes
        and local.hour in fields.hours
        and local.month in fields.months
        and fields.match_day(local.date())
    )


def test_a_rare_date_is_found_years_ahead() -> None:
    assert due("0 0 29 2 *", BERLIN, datetime(2097, 1, 1, tzinfo=UTC), datetime(2105, 1, 1, tzinfo=UTC)) == [
        "2104-02-29T00:00+01:00"
    ]


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("61 * * * *", "the minute '61' is wrong"),
        ("0 24 * * *", "the hour '24' is wrong"),
        ("0 0 32 * *", "the day of the month '32' is wrong"),
        ("0 0 * 13 *", "the month '13' is wrong"),
        ("0 0 * * 8", "the day of the week '8' is wrong"),
        ("0 0 * * MON#6", "the day of the week 'MON#6' is wrong"),
        ("*/0 * * * *", "the minute '\\*/0' is wrong"),
        ("0 9 * *", "give five fields"),
        ("0 0 9 * * *", "give five fields"),
        ("@daily", "give five fields"),
        ("", "give five fields"),
        ("0," * 200 + "0 * * * *", "give five fields"),
        ("0 0 30 2 *", "is never due"),
        ("0 0 31 2,4,6 *", "is never due"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_name_of_its_field(expression: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Cron(expression, UTC)


@settings(max_examples=300)
@given(st.text(alphabet="0123456789*,-/L#W MONJAN²", max_size=30))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        cron = Cron(text, UTC)
    except ValueError:
        return
    assert (cron.find_next(0) or 1) > 0


@pytest.mark.parametrize("name", ["Mars/Base", "", "../etc/passwd", "Europe", "Europe/Berlin\n", "x" * 300, "\0"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="there is no such time zone"):
        load_zone(name)


@pytest.mark.parametrize(
    ("hidden", "needing", "package"),
    [
        ("import sys; sys.modules['cronsim'] = None", "Cron('* * * * *', None)", "needs the package cronsim"),
        (
            "import sys, zoneinfo; sys.modules['tzdata'] = None; zoneinfo.reset_tzpath([])",
            "load_zone('Europe/Berlin')",
            "needs a database, which this system lacks",
        ),
    ],
    ids=["cronsim", "tzdata"],
)
def test_a_missing_package_is_reported_with_the_extra_that_has_it(hidden: str, needing: str, package: str) -> None:
    code = f"{hidden}\nfrom beluga_graph.execution.cron import Cron, load_zone\nload_zone('UTC')\n{needing}"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = shown.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert package in last
    assert last.endswith("pip install 'beluga-graph[schedule]'")

"""When cron timers are due, held against a scan of every minute: what clocks show is looked up, nothing is computed."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from power_loop.contracts.cron import next_cron_ms

MINUTE = timedelta(minutes=1)
# Days at which clocks move, or nothing does: by an hour, by half an hour, at midnight, by a whole day; and Ramadan.
CHANGES = [
    ("Europe/Berlin", 2025, 3, 29),
    ("Europe/Berlin", 2025, 10, 25),
    ("America/New_York", 2025, 3, 8),
    ("America/New_York", 2025, 11, 1),
    ("Australia/Lord_Howe", 2025, 4, 5),
    ("Australia/Lord_Howe", 2025, 10, 4),
    ("America/Sao_Paulo", 2018, 11, 3),
    ("America/Sao_Paulo", 2018, 2, 17),
    ("Pacific/Apia", 2011, 12, 28),
    ("Africa/Casablanca", 2025, 2, 22),
    ("Africa/Casablanca", 2025, 4, 5),
    ("Asia/Kathmandu", 2025, 5, 5),
    ("UTC", 2024, 2, 28),
]
MINUTES = ["*", "*/7", "*/15", "0", "30", "15,45", "0-20/5", "59", "3"]
HOURS = ["*", "*/2", "0", "1", "2", "3", "1-3", "0,2", "23", "1,2,3"]
DAYS, WEEKDAYS = ["*", "*", "*", "1", "*/2", "29"], ["*", "*", "*", "1-5", "0", "6,7"]


@cache
def shown(tz: str, year: int, month: int, day: int) -> list[tuple[datetime, datetime]]:
    """(UTC, what clocks in ``tz`` show) for every minute of four days, from a day before."""
    zone, first = ZoneInfo(tz), datetime(year, month, day, tzinfo=UTC) - timedelta(days=1)
    return [(at, at.astimezone(zone).replace(tzinfo=None)) for at in (first + n * MINUTE for n in range(5 * 24 * 60))]


def numbers(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-") if span != "*" else (low, "", high)
        end = int(last) if last else (high if step else int(first))
        found |= set(range(int(first), end + 1, int(step or 1)))
    return found


def scanned(cron: str, minutes: list[tuple[datetime, datetime]]) -> Iterator[datetime]:
    """Every minute at which the job is due, as Debian's cron would run it."""
    minute, hour, day, month, weekday = cron.split()
    fields = numbers(minute, 0, 59), numbers(hour, 0, 23), numbers(day, 1, 31), numbers(month, 1, 12)
    weekdays = {number % 7 for number in numbers(weekday, 0, 7)}
    both = "*" in (day[0], weekday[0])

    def named(local: datetime) -> bool:
        of_day, of_week = local.day in fields[2], (local.weekday() + 1) % 7 in weekdays
        fits = (of_day and of_week) if both else (of_day or of_week)
        return local.minute in fields[0] and local.hour in fields[1] and local.month in fields[3] and fits

    by_the_clock = "*" not in (minute[0], hour[0])
    furthest = minutes[0][1]
    for at, local in minutes[1:]:
        if not by_the_clock and named(local):
            yield at
        passed = False
        while by_the_clock and furthest < local:  # never back: an hour that is shown twice counts once
            furthest += MINUTE
            passed = passed or named(furthest)
        if passed:
            yield at


def computed(cron: str, tz: str, first: datetime, last: datetime) -> Iterator[datetime]:
    at = first
    while (at := datetime.fromtimestamp(next_cron_ms(cron, tz, int(at.timestamp()) * 1000) / 1000, UTC)) <= last:
        yield at


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[0]} {change[1]}-{change[2]}")
def test_no_time_is_left_out_or_doubled_where_clocks_move(change: tuple[str, int, int, int]) -> None:
    tz, minutes, chance = change[0], shown(*change), random.Random(str(change))
    crons = {f"{chance.choice(MINUTES)} {chance.choice(HOURS)} {chance.choice(DAYS)} * {chance.choice(WEEKDAYS)}" for _ in range(25)}
    for cron in sorted(crons | {"* * * * *", "30 2 * * *", "0 0 * * *", "30 * * * *", "*/15 2 * * *", "15 1,2 * * *"}):
        first, last = minutes[24 * 60][0] + chance.randrange(600) * MINUTE, minutes[-1][0]
        expected = [at for at in scanned(cron, minutes) if at > first]
        assert list(computed(cron, tz, first, last)) == expected, f"{cron} in {tz} behind {first}"


@pytest.mark.parametrize(
    ("cron", "tz", "after", "due"),
    [
        ("30 2 * * *", "Europe/Berlin", "2025-03-29T23:00+00:00", "2025-03-30T01:00+00:00"),  # 02:30 is never shown: 03:00
        ("30 2 * * *", "Europe/Berlin", "2025-10-25T23:00+00:00", "2025-10-26T00:30+00:00"),  # shown twice: the first
        ("30 2 * * *", "Europe/Berlin", "2025-10-26T00:30+00:00", "2025-10-27T01:30+00:00"),  # and not the second
        ("0 * * * *", "Europe/Berlin", "2025-10-26T00:00+00:00", "2025-10-26T01:00+00:00"),  # every hour means every hour
        ("0 9 1 * 1", "UTC", "2025-01-01T09:00+00:00", "2025-01-06T09:00+00:00"),  # the first of the month, or a Monday
        ("0 0 29 2 *", "Asia/Tokyo", "2025-01-01T00:00+00:00", "2028-02-28T15:00+00:00"),
        ("0 0 * * 5L", "UTC", "2025-01-01T00:00+00:00", "2025-01-31T00:00+00:00"),  # the last Friday
    ],
)
def test_times_as_people_expect_them(cron: str, tz: str, after: str, due: str) -> None:
    at = next_cron_ms(cron, tz, int(datetime.fromisoformat(after).timestamp()) * 1000 + 999)
    assert datetime.fromtimestamp(at / 1000, UTC) == datetime.fromisoformat(due)


async def test_without_the_extra_the_error_names_it_and_other_processes_fire_the_timer(stand, monkeypatch) -> None:
    loop = stand.loop()
    session = await loop.new_session()
    await loop.schedule_timer(session, cron="* * * * *", note="by cron")
    plain = await loop.schedule_timer(session, delay_s=1, note="plain")
    await stand.time.advance(120)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "cronsim", None)
        with pytest.raises(ImportError, match=r"power-loop\[cron\]"):
            await loop.schedule_timer(session, cron="* * * * *", note="x")
        assert await stand.fire_due() == 1
        assert await stand.notes(session) == [f"<timer id={plain.timer_id}>plain</timer>"]
    assert await stand.fire_due() == 1

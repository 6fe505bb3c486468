"""Times of a cron expression in a time zone. Extra ``cron``, loaded when the first such timer is made or fires.

Five fields, as Debian's cron reads them. Where clocks are put forward, a job of a fixed time inside the gap is due right
behind it; where they are put back, it is due at the first of the two times. Jobs whose minute or hour begins with ``*`` go
by real time. So none is left out, and none happens twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from cronsim import CronSim

DAY = timedelta(days=1)
# An expression for the 29th of February that falls on a certain day of the week comes at least so often.
HORIZON_DAYS = 50 * 366


def next_cron_ms(cron: str, tz: str, after_ms: int) -> int:
    """The first time (ms, UTC) behind ``after_ms`` that ``cron`` names in the zone ``tz``.

    Raises `ValueError` for an expression or a zone that there is not, and for one that never comes; `ImportError` without
    the extra.
    """
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise ImportError("timers with cron= need the extra: pip install 'power-loop[cron]'") from error

    if len(cron.split()) != 5:
        raise ValueError(f"cron {cron!r}: five fields are needed: minute, hour, day of month, month, day of week")
    local = datetime.fromtimestamp(after_ms // 1000, UTC).astimezone(zone(tz))
    try:
        times = CronSim(cron, local)
        found = next(times)
    except CronSimError as error:
        raise ValueError(f"cron {cron!r}: {error}") from error
    except StopIteration:
        raise ValueError(f"cron {cron!r} names no time of the next 50 years") from None
    # The library goes by whole hours from one time to the next, and passes over some where clocks move by half an hour.
    if found.utcoffset() != local.utcoffset() or found.astimezone(UTC) - local.astimezone(UTC) > DAY:
        found = _across_a_change(CronSim(cron, local), local)
    return int(found.timestamp()) * 1000


def _across_a_change(job: CronSim, after: datetime) -> datetime:
    """The same, day by day: whatever the clocks do in between."""
    day = after.astimezone(UTC).date() - DAY
    for _ in range(HORIZON_DAYS):
        if day.month in job.months and job.match_day(day):
            times = [at for at in _times_of(job, day, after.tzinfo) if at > after.astimezone(UTC)]
            if times:
                return min(times)
        day += DAY
    raise ValueError("this cron expression names no time of the next 50 years")


def _times_of(job: CronSim, day: date, tz: object) -> Iterator[datetime]:
    """When the job is due on a day, as times in UTC, in no order."""
    by_the_clock = not (job.parts[1].startswith("*") or job.parts[2].startswith("*"))
    for hour in job.hours:
        for minute in job.minutes:
            at = datetime.combine(day, time(hour, minute), tzinfo=tz)  # pyright: ignore[reportArgumentType]  # a tzinfo, from datetime
            if by_the_clock:
                yield _behind_the_gap(at)
            else:
                yield from {once for once in (at.astimezone(UTC), at.replace(fold=1).astimezone(UTC)) if _shows(once, at)}


def _behind_the_gap(at: datetime) -> datetime:
    """``at``; where clocks never show that, the first minute that they show after it."""
    while not _shows(at.astimezone(UTC), at):
        at += timedelta(minutes=1)
    return at.astimezone(UTC)


def _shows(once: datetime, at: datetime) -> bool:
    return once.astimezone(at.tzinfo).replace(tzinfo=None) == at.replace(tzinfo=None)


def can_read_cron() -> bool:
    """The extra is there."""
    try:
        import_module("cronsim")
    except ImportError:
        return False
    return True


def zone(tz: str) -> ZoneInfo:
    """Raises `ValueError` for a time zone that this machine does not know."""
    from zoneinfo import ZoneInfo  # extra: cron

    try:
        return ZoneInfo(tz)
    except (KeyError, ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError; a folder's name is an OSError
        raise ValueError(f"there is no time zone {tz!r} on this machine: use a name such as Europe/Berlin") from error

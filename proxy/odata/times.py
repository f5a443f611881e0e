"""Dates, instants and durations as text: XML Schema's spellings and verbose JSON's `/Date(ms)/`.

All parsers raise ValueError or OverflowError; `primitives` turns both into the protocol's error. An
Edm.DateTime counts seven fraction digits and Python six: the seventh is dropped. No function here goes
through a platform time stamp, because those end long before the years 1 and 9999 do.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import dateutil.parser

_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,7}))?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_JSON_DATE = re.compile(r"/Date\((-?[0-9]{1,18})([+-][0-9]{4})?\)/")
_MONTH_DAY_YEAR = re.compile(r"\d{1,2}/\d{1,2}/\d{4}(?: [0-9:. APMapm]{1,20})?")
_DURATION = re.compile(
    r"(-)?P(?=[0-9T])(?:([0-9]{1,9})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})(?:\.([0-9]{1,7}))?S)?)?"
)
_EPOCH = datetime(1970, 1, 1)
_MIDNIGHT = datetime(2000, 1, 1)
_MILLISECOND = timedelta(milliseconds=1)
_NO_OFFSET = timedelta(0)


def _instant(text: str) -> tuple[datetime, str | None]:
    """The clock reading, and the zone as written."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError(text)
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    microsecond = int(fraction[:6].ljust(6, "0")) if fraction else 0
    clock = datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), microsecond
    )
    return clock, zone


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone == "Z":
        return _NO_OFFSET
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 14 or minutes > 59:
        raise ValueError(zone)
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if zone[0] == "-" else offset


def parse_datetime(text: str) -> datetime:
    """Naive UTC. A reading without a zone is UTC; one with an offset is turned to UTC."""
    clock, zone = _instant(text)
    return clock - _offset(zone)


def parse_unzoned_datetime(text: str) -> datetime:
    """As URI literals have it: nothing or `Z` after the clock (field manual 2.4)."""
    clock, zone = _instant(text)
    if zone not in (None, "Z"):
        raise ValueError(text)
    return clock


def parse_offset_datetime(text: str) -> datetime:
    """Aware. The zone is required."""
    clock, zone = _instant(text)
    if zone is None:
        raise ValueError(text)
    offset = _offset(zone)
    return clock.replace(tzinfo=timezone(offset) if offset else UTC)


def parse_posted_datetime(text: str) -> datetime:
    """Naive UTC from what clients post (field manual 6.5): `/Date(ms)/`, ISO 8601, month/day/year with
    or without a time.

    The milliseconds of `/Date(ms+hhmm)/` are UTC; the offset behind them only names the writer's zone.
    """
    match = _JSON_DATE.fullmatch(text)
    if match:
        return _EPOCH + timedelta(milliseconds=int(match[1]))
    if _MONTH_DAY_YEAR.fullmatch(text):
        return dateutil.parser.parse(text, dayfirst=False, default=_MIDNIGHT)
    return parse_datetime(text)


def parse_posted_offset_datetime(text: str) -> datetime:
    """Aware. `/Date(ms+minutes)/` counts the writer's clock, not UTC ([MS-ODATA] 2.2.6.3.1)."""
    match = _JSON_DATE.fullmatch(text)
    if match is None:
        return parse_offset_datetime(text)
    offset = timedelta(minutes=int(match[2] or 0))
    clock = _EPOCH + timedelta(milliseconds=int(match[1]))
    return clock.replace(tzinfo=timezone(offset) if offset else UTC)


def datetime_literal_text(value: datetime) -> str:
    """`2016-08-25T16:00:00`, with the fraction only where there is one."""
    text = value.isoformat()
    return text.rstrip("0") if value.microsecond else text


def datetime_text(value: datetime) -> str:
    """The same with the trailing `Z` that CDMS writes in Atom (field manual 5.3)."""
    return datetime_literal_text(value) + "Z"


def offset_datetime_text(value: datetime) -> str:
    clock = datetime_literal_text(value.replace(tzinfo=None))
    minutes = _offset_minutes(value)
    if minutes == 0:
        return clock + "Z"
    hours, rest = divmod(abs(minutes), 60)
    return f"{clock}{'+' if minutes > 0 else '-'}{hours:02}:{rest:02}"


def datetime_json_text(value: datetime) -> str:
    """`"\\/Date(1472140800000)\\/"`, the solidus escaped as the stack does."""
    return f'"\\/Date({_milliseconds(value)})\\/"'


def offset_datetime_json_text(value: datetime) -> str:
    clock = value.replace(tzinfo=None)
    return f'"\\/Date({_milliseconds(clock)}{_offset_minutes(value):+05})\\/"'


def _milliseconds(value: datetime) -> int:
    # Towards zero, as .NET divides its ticks; `//` alone would round down before 1970.
    elapsed = value - _EPOCH
    return elapsed // _MILLISECOND if elapsed >= _NO_OFFSET else -(-elapsed // _MILLISECOND)


def _offset_minutes(value: datetime) -> int:
    return (value.utcoffset() or _NO_OFFSET) // timedelta(minutes=1)


def parse_duration(text: str) -> timedelta:
    """`PT13H20M`; days at most, since a month has no length."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    sign, days, hours, minutes, seconds, fraction = match.groups()
    value = timedelta(
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=int(seconds or 0),
        microseconds=int(fraction[:6].ljust(6, "0")) if fraction else 0,
    )
    return -value if sign else value


def duration_text(value: timedelta) -> str:
    """As XmlConvert writes a TimeSpan: `PT0S`, `P1DT2H`, `-PT0.5S`."""
    sign, value = ("-", -value) if value < _NO_OFFSET else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days = f"{value.days}D" if value.days else ""
    clock = f"{hours}H" if hours else ""
    clock += f"{minutes}M" if minutes else ""
    if value.microseconds:
        clock += f"{seconds}.{value.microseconds:06}".rstrip("0") + "S"
    elif seconds or not (days or clock):
        clock += f"{seconds}S"
    return f"{sign}P{days}{'T' + clock if clock else ''}"

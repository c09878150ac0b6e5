"""HTTP dates (RFC 9110 section 5.6.7), read strictly and written in one form.

Rules of this file: a date is a number of whole seconds since 1970 in UTC;
what is not a date is ``None``, never a guess, because every field that holds
one (If-Modified-Since, If-Range, Retry-After) is ignored when it is invalid.
"""

from __future__ import annotations

import re
from datetime import date

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH = date(1970, 1, 1).toordinal()
_DAY_SECONDS = 86400
_LATEST = (date.max.toordinal() - _EPOCH) * _DAY_SECONDS + _DAY_SECONDS - 1
_EARLIEST = (date.min.toordinal() - _EPOCH) * _DAY_SECONDS

_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_SHORT = f"(?:{'|'.join(_DAYS)})"
_LONG = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_FORMS = (
    # IMF-fixdate: Sun, 06 Nov 1994 08:49:37 GMT
    re.compile(f"{_SHORT}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    # RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
    re.compile(f"{_LONG}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    # asctime: Sun Nov  6 08:49:37 1994
    re.compile(f"{_SHORT} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
# RFC 9110 wants a two-digit year that seems more than 50 years ahead read as
# past. This module has no clock, so the century turns at a fixed year: Unix
# time starts there, and dates of the 2070s are nobody's validators yet.
_PIVOT = 70


def parse_http_date(value: str) -> int | None:
    """Read a date in any of the three forms a recipient must accept.

    The name of the weekday must be one, but need not be the right one: no
    client was ever helped by checking it. Second 60 is a leap second and counts
    as the next minute's first.

    Returns:
        Seconds since 1970, UTC; None if ``value`` is no valid HTTP-date.
    """
    for form in _FORMS:
        match = form.fullmatch(value)
        if match:
            break
    else:
        return None
    year = int(match["year"])
    if len(match["year"]) == len("94"):
        year += 1900 if year >= _PIVOT else 2000
    hour, minute, second = int(match["hour"]), int(match["minute"]), int(match["second"])
    if hour > 23 or minute > 59 or second > 60:
        return None
    try:
        day = date(year, _MONTHS.index(match["month"]) + 1, int(match["day"]))
    except ValueError:
        return None
    return (day.toordinal() - _EPOCH) * _DAY_SECONDS + hour * 3600 + minute * 60 + second


def http_date(seconds: int) -> str:
    """Write an IMF-fixdate, the only form that may be sent.

    Args:
        seconds: since 1970, UTC; a time outside the years 1 to 9999 (a broken
            clock's modification time) is written as the nearest one inside.
    """
    days, rest = divmod(min(max(seconds, _EARLIEST), _LATEST), _DAY_SECONDS)
    day = date.fromordinal(_EPOCH + days)
    name, month = _DAYS[day.weekday()], _MONTHS[day.month - 1]
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{name}, {day.day:02} {month} {day.year:04} {clock} GMT"

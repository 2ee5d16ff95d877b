"""Numbers, shares and instants as people read them; all times are UTC."""

import re
from datetime import UTC, datetime, timedelta

from monitor.domain.scores import Score

NONE = "–"
SAME = "no change"
INTERVAL = "95% interval"
FEW = 30
"""A proportion of fewer labels than this gets no verdict, only its numbers."""

MOST_CHARACTERS = 200
"""Of a name or a note; the history has all of it."""

_SECOND_MS, _MINUTE_MS, _HOUR_MS, _DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000


def instant(at_ms: int) -> datetime:
    """The instant as an aware datetime in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def iso(at_ms: int) -> str:
    """``2026-11-22T14:05:07Z``."""
    return instant(at_ms).strftime("%Y-%m-%dT%H:%M:%SZ")


def link(at_ms: int) -> str:
    """``2026-11-22T14:05Z``, as it stands in an address; with seconds where there are any."""
    return instant(at_ms).strftime(
        "%Y-%m-%dT%H:%MZ" if at_ms % _MINUTE_MS == 0 else "%Y-%m-%dT%H:%M:%SZ"
    )


def instant_of(text: str) -> int | None:
    """Milliseconds of an ISO 8601 time, UTC where it names no zone; None for anything else.

    >>> instant_of("1970-01-01T00:01Z"), instant_of("1970-01-01 01:01+01:00"), instant_of("now")
    (60000, 60000, None)
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (aware - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def moment(at_ms: int) -> str:
    """``2026-11-22 14:05 UTC``."""
    return instant(at_ms).strftime("%Y-%m-%d %H:%M UTC")


def clock(at_ms: int, *, near_ms: int | None = None) -> str:
    """``14:05 UTC``; with the date in front when it is another day than that of ``near_ms``."""
    other_day = near_ms is not None and at_ms // _DAY_MS != near_ms // _DAY_MS
    return instant(at_ms).strftime("%Y-%m-%d %H:%M UTC" if other_day else "%H:%M UTC")


def clock_seconds(at_ms: int, *, near_ms: int | None = None) -> str:
    """``14:05:07 UTC``; with the date in front when it is another day than that of ``near_ms``."""
    other_day = near_ms is not None and at_ms // _DAY_MS != near_ms // _DAY_MS
    return instant(at_ms).strftime("%Y-%m-%d %H:%M:%S UTC" if other_day else "%H:%M:%S UTC")


def duration(length_ms: float) -> str:
    """A length of time in its two largest units, rounded down.

    >>> duration(45_000), duration(1_140_000), duration(11_100_000), duration(187_200_000)
    ('45 s', '19 min', '3 h 5 min', '2 d 4 h')
    >>> duration(740)
    '740 ms'
    """
    if length_ms < _SECOND_MS:
        return f"{length_ms:.0f} ms"
    if length_ms < _MINUTE_MS:
        return f"{length_ms // _SECOND_MS:.0f} s"
    if length_ms < _HOUR_MS:
        return f"{length_ms // _MINUTE_MS:.0f} min"
    if length_ms < _DAY_MS:
        return _two(length_ms // _HOUR_MS, "h", length_ms % _HOUR_MS // _MINUTE_MS, "min")
    return _two(length_ms // _DAY_MS, "d", length_ms % _DAY_MS // _HOUR_MS, "h")


def span(length_ms: float) -> str:
    """A measured length of time in its largest unit, one decimal below ten.

    >>> span(151_800), span(1_035_500), span(740), span(8_640_000)
    ('2.5 min', '17 min', '740 ms', '2.4 h')
    """
    for unit_ms, unit in ((_DAY_MS, "d"), (_HOUR_MS, "h"), (_MINUTE_MS, "min"), (_SECOND_MS, "s")):
        if length_ms >= unit_ms:
            amount = length_ms / unit_ms
            return f"{amount:.0f} {unit}" if amount >= 9.95 else f"{amount:.1f} {unit}"  # noqa: PLR2004 - where one decimal would round to ten
    return f"{length_ms:.0f} ms"


def size(n: float) -> str:
    """A number of bytes in its largest decimal unit, one decimal below ten.

    >>> size(812), size(1_460_000), size(230_000_000)
    ('812 B', '1.5 MB', '230 MB')
    """
    for unit, letters in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= unit:
            amount = n / unit
            return f"{amount:.0f} {letters}" if amount >= 9.95 else f"{amount:.1f} {letters}"  # noqa: PLR2004 - where one decimal would round to ten
    return f"{n:.0f} B"


def count(n: int) -> str:
    """A whole number with narrow spaces between thousands."""
    return f"{n:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def counted(n: int, one: str, many: str = "") -> str:
    """A whole number with its noun, the plural where there is more or less than one.

    >>> counted(1, "worker"), counted(0, "worker"), counted(2, "reply", "replies")
    ('1 worker', '0 workers', '2 replies')
    """
    return f"{count(n)} {one if n == 1 else many or f'{one}s'}"


def brief(n: int) -> str:
    """A whole number in at most four characters, up to a million.

    >>> brief(999), brief(1_072), brief(9_960), brief(12_345), brief(999_999), brief(2_300_000)
    ('999', '1.1k', '10k', '12k', '1M', '2.3M')
    """
    for unit, letter in ((1_000_000, "M"), (1_000, "k")):
        if n >= unit - unit // 2000:
            amount = f"{n / unit:.1f}" if n / unit < 9.95 else f"{n / unit:.0f}"  # noqa: PLR2004 - where one decimal would round to ten
            return f"{amount.removesuffix('.0')}{letter}"
    return str(n)


def percent(share: float | None, digits: int = 1) -> str:
    """A share 0..1 as a percentage; a dash for None."""
    return NONE if share is None else f"{100 * share:.{digits}f}%"


def points(change: float) -> str:
    """A change of a share in percentage points, with its sign; in words where it rounds to none.

    >>> points(-0.305), points(0.00009), points(-0.00009)
    ('-30.5 pt', 'no change', 'no change')
    """
    rounded = round(100 * change, 1)
    return f"{rounded:+.1f} pt" if rounded else SAME


def change(n: int) -> str:
    """A change of a whole number, with its sign; in words where there is none.

    >>> change(-3), change(1_072) == f"+{count(1_072)}", change(0)
    ('-3', True, 'no change')
    """
    return f"{'+' if n > 0 else '-'}{count(abs(n))}" if n else SAME


def limit(share: float) -> str:
    """A declared share as a percentage with no more digits than it has.

    >>> limit(0.8), limit(0.925)
    ('80%', '92.5%')
    """
    return f"{100 * share:.6g}%"


def interval(score: Score) -> str:
    """``95% interval 84–94%, n = 158``: what a proportion must never be shown without."""
    if score.interval is None:
        return "n = 0"
    return f"{bounds(score)}, n = {count(score.support)}"


def bounds(score: Score) -> str:
    """``95% interval 84–94%``, where the number of labels is said in words; a dash without one."""
    if score.interval is None:
        return NONE
    return f"{INTERVAL} {ends(score)}"


def ends(score: Score) -> str:
    """``84–94%``, below a head that says what it is; a dash without a label."""
    if score.interval is None:
        return NONE
    low, high = score.interval
    return f"{100 * low:.0f}–{100 * high:.0f}%"


def one_line(text: str) -> str:
    r"""What somebody has written, as one line without control characters, cut where it is long.

    >>> one_line("rolling back\n# now\u202e")
    'rolling back # now'
    """
    shown = _printable(text)
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[: MOST_CHARACTERS - 1]}…"


def told(reason: str) -> str:
    """A reason of the monitor in one line, its percentages written as they are everywhere here.

    >>> told("95 % were answered within 2 s")
    '95% were answered within 2 s'
    """
    return re.sub(r"(?<=\d) %", "%", one_line(reason))


def in_full(reason: str) -> str:
    """The same of evidence that must not be cut."""
    return re.sub(r"(?<=\d) %", "%", _printable(reason))


def too_few(n: int) -> str:
    """Why there is no verdict."""
    return f"too few labels (n={count(n)})"


def _printable(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _two(first: float, first_unit: str, second: float, second_unit: str) -> str:
    text = f"{first:.0f} {first_unit}"
    return f"{text} {second:.0f} {second_unit}" if second else text

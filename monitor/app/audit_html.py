"""The report as one HTML file: a function of what stands in ``report.json``, and of nothing else.

Every number of a table is looked up in that document by the place that its cell names, so that the
two cannot differ. Names come from messages: all text is escaped, and control characters and marks
that turn the direction of writing are written out.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monitor.app.audit_chart import NARROW, WIDE, chart_of
from monitor.app.console import dump
from monitor.app.settings import format_duration
from monitor.app.telemetry import printable
from monitor.domain.sampling import in_words

MOST_ROWS = 400
"""Rows of one table; the other files hold the rest."""

MOST_DESTINATIONS, MOST_ACTUALS = 6, 16
"""Columns and rows of a confusion matrix that are not summed up as others."""

UNKNOWN = "unknown"


def render(document: Mapping[str, Any]) -> str:
    """The page for a document as read back from ``report.json``."""
    environment = Environment(
        loader=PackageLoader("monitor.app"),
        autoescape=True,
        finalize=_finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(share=share, instant=instant, soft=soft, sampled=in_words)
    template = environment.get_template("report.html.j2")
    findings = document["audit"]["rules"]
    return template.render(
        report=document,
        audit=document["audit"],
        at=_Lookup(document),
        charts=[[chart_of(finding, size) for size in (WIDE, NARROW)] for finding in findings],
        matrices=[matrices_of(finding) for finding in findings],
        most_rows=MOST_ROWS,
        settings_lines=dump(document["audit"]["settings"]).splitlines(),
    )


def soft(name: str) -> Markup:
    """A name that may break where its words do.

    >>> print(soft("lost_<card>"))
    lost_<wbr>&lt;card&gt;
    """
    parts = re.split(r"(?<=[_/.=-])(?=.)", printable(name))
    return Markup("<wbr>").join(parts)


def share(value: float) -> str:
    """A proportion for people.

    >>> share(0.7275)
    '72.8 %'
    """
    return f"{value * 100:.1f} %"


def instant(text: str) -> str:
    """An instant of the document, to the second.

    >>> instant("2026-03-03T12:02:30.183Z")
    '2026-03-03 12:02:30'
    """
    return text[:19].replace("T", " ")


def duration(length_ms: int) -> str:
    """A length of time.

    >>> duration(21_600_000)
    '6h'
    """
    return format_duration(timedelta(milliseconds=length_ms)) if length_ms else "none"


def figure(value: float) -> str:
    """Any other number.

    >>> figure(70699.6), figure(0.8)
    ('70,700', '0.8')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def count(value: int) -> str:
    """A number of things.

    >>> count(9074)
    '9,074'
    """
    return f"{value:,}"


def interval(bounds: tuple[float, float]) -> str:
    """Both bounds of a proportion.

    >>> interval((0.694, 0.758))
    '69.4 % to 75.8 %'
    """
    return f"{share(bounds[0])} to {share(bounds[1])}"


FORMS: Mapping[str, Callable[[Any], str]] = {
    "share": share,
    "count": count,
    "figure": figure,
    "instant": instant,
    "duration": duration,
    "interval": interval,
}
"""How a cell writes its value; its ``data-as`` says which one it took."""


_Place = str | int | list[str | int]


class _Lookup:
    """``at("share", "variants", "prompt", "coverage")``: the value there, and where it stands.

    A list among the steps stands for its members.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def __call__(self, form: str, *place: _Place, unknown: str = UNKNOWN) -> Markup:
        value: Any = self._document
        steps = [step for part in place for step in (part if isinstance(part, list) else [part])]
        for step in steps:
            value = value[step]
        pointer = "".join(f"/{_escaped(str(step))}" for step in steps)
        text = unknown if value is None else FORMS[form](value)
        klass = Markup(' class="unknown"' if value is None else "")
        return Markup('<span{} data-at="{}" data-as="{}">{}</span>').format(
            klass, printable(pointer), form, _dated(text) if form == "instant" else _text(text)
        )


def _dated(text: str) -> Markup:
    """Date and time, each in one piece."""
    return Markup(" ").join(
        Markup('<span class="nowrap">{}</span>').format(p) for p in text.split()
    )


def _text(text: str) -> str:
    """Harmless, and with each percent sign kept beside its number."""
    return printable(text).replace(" %", "\N{NO-BREAK SPACE}%")


def _escaped(step: str) -> str:
    """One step of a JSON pointer, RFC 6901."""
    return step.replace("~", "~0").replace("/", "~1")


def _finalized(value: object) -> object:
    """What a template prints; markup as it is, everything else made harmless."""
    return value if isinstance(value, Markup) else _text(str(value))


def matrices_of(finding: Mapping[str, Any]) -> dict[str, Any] | None:
    """Before and during as two tables with the same rows and columns; None without a firing.

    Columns: the very intent, another one that is a hit as well, the destinations of most misses,
    other misses, all.
    """
    episode = finding["episode"]
    if episode is None:
        return None
    missed: dict[str, int] = {}
    failed: dict[str, int] = {}
    for route in episode["routes"]:
        n = route["before"] + route["during"]
        missed[route["predicted"]] = missed.get(route["predicted"], 0) + n
        failed[route["actual"]] = failed.get(route["actual"], 0) + route["during"]
    destinations = sorted(missed, key=lambda name: (-missed[name], name))[:MOST_DESTINATIONS]
    actuals = {*episode["before"]["confusion"], *episode["during"]["confusion"]}
    rows = sorted(actuals, key=lambda name: (-failed.get(name, 0), name))
    misses = {(route["actual"], route["predicted"]) for route in episode["routes"]}
    return {
        "destinations": destinations,
        "has_others": len(missed) > len(destinations),
        "is_group": any(
            (actual, predicted) not in misses and actual != predicted
            for part in ("before", "during")
            for actual, row in episode[part]["confusion"].items()
            for predicted in row
        ),
        "rows": rows[:MOST_ACTUALS],
        "left_out": len(rows[MOST_ACTUALS:]),
        **{
            part: {
                actual: _row(
                    actual, episode[part]["confusion"].get(actual, {}), misses, destinations
                )
                for actual in rows[:MOST_ACTUALS]
            }
            for part in ("before", "during")
        },
    }


def _row(
    actual: str, row: Mapping[str, int], misses: set[tuple[str, str]], destinations: list[str]
) -> dict[str, Any]:
    hits = {name: n for name, n in row.items() if (actual, name) not in misses}
    lost = {name: n for name, n in row.items() if (actual, name) in misses}
    return {
        "exact": hits.get(actual, 0),
        "near": sum(n for name, n in hits.items() if name != actual),
        "to": {name: lost.get(name, 0) for name in destinations},
        "others": sum(n for name, n in lost.items() if name not in destinations),
        "all": sum(row.values()),
    }

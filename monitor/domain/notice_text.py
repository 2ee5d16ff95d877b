"""Notices in words: what, how sure, since when, how many missed, where to look.

Names in them come from messages, so they are made harmless: no control characters, nothing that a
chat takes for markup or for calling somebody, and not long. Texts of users never stand in notices.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum

from monitor.domain.alerts import AlertKey, Missed, Status, Transition, fingerprint
from monitor.domain.detectors import Evidence
from monitor.domain.rules import AlertRule, SignalRule
from monitor.domain.slices import ALL

MOST_CHARACTERS = 120
"""Of one name."""

MOST_LINES = 20
"""Items told in full; more of them are counted."""

_HARMLESS = str.maketrans({"<": "‹", ">": "›", "@": "＠", "&": "＆", "`": "'", "*": "∗"})


class News(StrEnum):
    """What a notice says of a transition."""

    RAISED = "raised"
    REMINDER = "reminder"
    RESOLVED = "resolved"
    STALLED = "stalled"
    RESUMED = "resumed"
    RETRACTED = "retracted"
    RAISED_LATE = "raised_in_hindsight"
    RECORD = "record"


def plain(name: str) -> str:
    r"""A name that is safe to show.

    >>> plain("<!channel>\x1b[1m")
    '‹!channel›�[1m'
    """
    text = "".join(c if c.isprintable() else "\ufffd" for c in name).translate(_HARMLESS)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def title_of(told: Sequence[tuple[News, Transition]], *, is_page: bool) -> str:
    """One line: of the only alert, or how many there are of each kind."""
    severity = "page" if is_page else "warning"
    if len(told) == 1:
        news, transition = told[0]
        return f"[{severity}] {_what(news, transition)}"
    kinds = [_word(news, transition) for news, transition in told]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    rules = ", ".join(dict.fromkeys(plain(transition.rule) for _, transition in told))
    return f"[{severity}] {counts}: {rules}"


def link_of(dashboard_url: str, alerts: Sequence[AlertKey]) -> str:
    """Where these alerts are handled: the page of the only one, or of all; "" without a dashboard.

    >>> link_of("https://monitor.example/", [])
    'https://monitor.example/alerts'
    """
    if not dashboard_url:
        return ""
    page = f"{dashboard_url.rstrip('/')}/alerts"
    names = {fingerprint(alert) for alert in alerts}
    return f"{page}?alert={names.pop()}" if len(names) == 1 else page


def body_of(texts: Sequence[str], link: str, runbooks: Sequence[str]) -> str:
    """All items, one after the other, and where to look."""
    parts = list(texts[:MOST_LINES])
    if len(texts) > MOST_LINES:
        parts.append(f"And {len(texts) - MOST_LINES} more: see the dashboard.")
    links = [f"Dashboard: {link}"] if link else []
    links += [f"Runbook: {runbook}" for runbook in runbooks]
    return "\n\n".join([*parts, "\n".join(links)] if links else parts)


def text_of(news: News, transition: Transition, rule: AlertRule | SignalRule | None) -> str:
    """One item in some lines."""
    evidence = transition.evidence
    share = f" ({evidence.hits / evidence.n:.0%})" if evidence and _counts(rule, evidence) else ""
    lines = [f"{_what(news, transition)}.", f"What: {plain(transition.reason)}{share}."]
    if news in {News.RAISED, News.REMINDER} and evidence is not None:
        lines += _how_sure(transition, evidence, rule)
        lines.append(f"Since: about {_when(evidence.since_ms)}; noticed {_when(transition.at_ms)}.")
        if isinstance(rule, AlertRule):
            lines += _missed(transition, evidence)
    elif news is News.RAISED_LATE and evidence is not None:
        lines.append(f"Since: about {_when(evidence.since_ms)}.")
    elif news is News.RETRACTED:
        lines.append(f"This takes back {transition.judges}: the drop it told of was not real.")
    else:
        lines.append(f"At: {_when(transition.at_ms)}.")
    lines.append(f"Id: {transition.id}")
    return "\n".join(lines)


def _counts(rule: AlertRule | SignalRule | None, evidence: Evidence) -> bool:
    """Whether the evidence is hits of votes, and not the value of a signal."""
    return isinstance(rule, AlertRule) and evidence.n > 0


def _what(news: News, transition: Transition) -> str:
    key, version = transition.key, transition.version
    whose = ["all variants" if key.variant == ALL else plain(key.variant)]
    if key.slice != ALL:
        whose.append(plain(key.slice))
    if version:
        whose.append(f"version {plain(version)}")
    return f"{plain(transition.rule)} {_word(news, transition)}: {', '.join(whose)}"


def _word(news: News, transition: Transition) -> str:
    if news is News.RAISED:
        return transition.moved_to.value
    if news is News.REMINDER:
        return f"still {transition.moved_to}"
    return "ended" if transition.moved_to is Status.NO_DATA else news.value.replace("_", " ")


def _how_sure(
    transition: Transition, evidence: Evidence, rule: AlertRule | SignalRule | None
) -> list[str]:
    if not isinstance(rule, AlertRule):
        return []
    is_warning = transition.moved_to is Status.WARNING
    least = rule.floor if is_warning and rule.floor is not None else rule.objective
    if rule.is_glance:
        return [
            f"How sure: at most {evidence.value:.1%} by Wilson's bound; the objective is "
            f"{least:.0%}."
        ]
    return [
        f"How sure: if {rule.metric} were {least:.0%} or better, evidence this strong would take "
        f"{evidence.bar:,.0f} labels on average to turn up by chance."
    ]


def _missed(transition: Transition, evidence: Evidence) -> list[str]:
    lines = [f"Missed: {evidence.n - evidence.hits} of these {evidence.n}."]
    if transition.missed:
        lines.append("Latest: " + "; ".join(map(_example, reversed(transition.missed))) + ".")
    if transition.corrected:
        lines.append(f"Corrected since they counted: {transition.corrected} of them.")
    return lines


def _example(missed: Missed) -> str:
    return f"{plain(missed.prediction_id)} ({plain(missed.actual)} → {plain(missed.predicted)})"


def _when(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"

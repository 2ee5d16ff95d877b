"""Who is told what, and when: transitions become notices, for each receiver on its own.

A receiver's ``Route`` says in which of three ways:

``TELL``
    grouped notices for people. Alerts of one group (what the rule is of, version, severity) that
    move together are told together: the first after ``group_wait_ms``, the next at the earliest
    ``group_interval_ms`` later. A page never waits for a warning, whose group is another one. A
    muted alert is held back, and told once the mute ends if it is still so. What fires and is not
    acknowledged is told again every ``repeat_ms``.
``LEVEL``
    for a system that groups and mutes by itself: all that is raised, once a minute, and at once
    when that changes. A muted alert is not begun there.
``RECORD``
    every transition once, in order: a record for machines, which no mute leaves gaps in.

``Told`` is what has come of it so far, saved after each notice: a notice whose sending ended in a
crash is planned again. Its transitions bear the same ids, by which a receiver knows them.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from monitor.domain import notice_text
from monitor.domain.alerts import AlertKey, Event, Status, Transition, fingerprint
from monitor.domain.notice_text import News
from monitor.domain.overlays import Overlays
from monitor.domain.rules import AlertRule, Severity, SignalRule

MINUTE_MS = 60_000
LEVEL_EVERY_MS = MINUTE_MS
"""How often a receiver of levels is told what is raised."""

MOST_RECORDS = 500
"""Transitions in one notice to a receiver of records."""

Rules = Mapping[str, AlertRule | SignalRule]
"""The rules by name."""

_ENDS = frozenset({News.RESOLVED, News.RESUMED})
_LOOKS_BACK = frozenset({News.RETRACTED, News.RAISED_LATE})
_STALL = "/stalled"
_ALL = ""


class Mode(StrEnum):
    """In which way a receiver is told."""

    TELL = "tell"
    LEVEL = "level"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class Route:
    """What the receiver ``name`` is told, and how often at most."""

    name: str
    severities: frozenset[Severity] = frozenset(Severity)
    mode: Mode = Mode.TELL
    group_wait_ms: int = MINUTE_MS // 2
    group_interval_ms: int = 5 * MINUTE_MS
    repeat_ms: int = 240 * MINUTE_MS
    dashboard_url: str = ""


class Item(NamedTuple):
    """One transition as a notice tells it.

    ``began`` is the one that raised what this one ends, None for what ends nothing. ``text`` is
    for people.
    """

    news: News
    transition: Transition
    severity: Severity
    began: Transition | None
    text: str
    runbook: str

    @property
    def is_end(self) -> bool:
        """Whether it says that something is over."""
        return self.news in _ENDS


@dataclass(frozen=True, slots=True)
class Notice:
    """What is sent at ``at_ms``, wall time.

    Sent again after a failure it has the same ``id``, unless more has happened meanwhile; the ids
    of its transitions stay the same in any case.
    """

    id: str
    receiver: str
    at_ms: int
    severity: Severity
    title: str
    text: str
    items: tuple[Item, ...]
    dashboard_url: str = ""

    @property
    def transition_ids(self) -> tuple[str, ...]:
        """What it tells."""
        return tuple(item.transition.id for item in self.items)


class Standing(NamedTuple):
    """Something that is raised, by which transition."""

    transition: Transition
    severity: Severity
    is_recovering: bool = False


class Pending(NamedTuple):
    """A transition that has yet to be told; ``since_ms`` is the wall time of its being noticed."""

    subject: str
    news: News
    transition: Transition
    severity: Severity
    since_ms: int
    began: Transition | None = None


class Last(NamedTuple):
    """With which transition the receiver was last told that something is raised, and when."""

    transition: Transition
    severity: Severity
    at_ms: int


@dataclass(frozen=True, slots=True)
class Told:
    """What one receiver knows. ``cursor`` transitions are taken in, the last being ``last_id``.

    ``standing``, what is raised, and ``told``, what the receiver believes to be, go by subject: an
    alert's fingerprint, with ``/stalled`` for its stall. ``groups`` says when each was last told.
    """

    cursor: int = 0
    last_id: str = ""
    standing: Mapping[str, Standing] = field(default_factory=dict)
    told: Mapping[str, Last] = field(default_factory=dict)
    pending: tuple[Pending, ...] = ()
    groups: Mapping[str, int] = field(default_factory=dict)


def plan(
    route: Route,
    rules: Rules,
    transitions: Sequence[Transition],
    told: Told | None,
    overlay_of: Callable[[AlertKey], Overlays],
    now_ms: int,
) -> tuple[Notice | None, Told]:
    """The notice that is due, None if none is, and what the receiver knows once it is sent.

    To be asked again after each notice, until there is none. ``transitions`` are all there are,
    oldest first. ``told`` None is a receiver that is new: of what was before it is told what still
    stands. So is one whose transitions are not those that it was told of (a store went back).
    """
    if route.mode is Mode.RECORD:
        return _record(route, rules, transitions, told or Told(), now_ms)
    desk = _Desk(route, rules, told or Told(), overlay_of, now_ms)
    desk.take_all(transitions, is_new=told is None)
    items, group = desk.level() if route.mode is Mode.LEVEL else desk.tell()
    if not items:
        return None, desk.known()
    told_now = tuple(map(desk.item, items))
    notice = _notice(route, told_now, now_ms, salt=desk.salt(items))
    desk.enter(items, group)
    return notice, desk.known()


def severity_of(rules: Rules, transition: Transition) -> Severity:
    """A rule that pages does so when it fires; all else is a warning."""
    rule = rules.get(transition.rule)
    is_firing = transition.event is Event.MOVED and transition.moved_to is Status.FIRING
    return rule.severity if is_firing and isinstance(rule, AlertRule) else Severity.WARNING


def _record(
    route: Route, rules: Rules, transitions: Sequence[Transition], told: Told, now_ms: int
) -> tuple[Notice | None, Told]:
    first = 0 if _has_gone_back(told, transitions) else told.cursor
    taken = transitions[first : first + MOST_RECORDS]
    if not taken:
        return None, told
    after = Told(first + len(taken), taken[-1].id)
    items = tuple(
        Item(News.RECORD, each, severity, None, each.reason, _runbook(rules, each))
        for each in taken
        if (severity := severity_of(rules, each)) in route.severities
    )
    return (_notice(route, items, now_ms, salt="") if items else None), after


def _has_gone_back(told: Told, transitions: Sequence[Transition]) -> bool:
    if not told.cursor:
        return False
    return told.cursor > len(transitions) or transitions[told.cursor - 1].id != told.last_id


class _Desk:
    """One call of ``plan``: takes in what happened, then looks what is due."""

    def __init__(
        self,
        route: Route,
        rules: Rules,
        told: Told,
        overlay_of: Callable[[AlertKey], Overlays],
        now_ms: int,
    ) -> None:
        self._route, self._rules, self._before = route, rules, told
        self._overlay_of, self._now_ms = overlay_of, now_ms
        self._standing, self._told = dict(told.standing), dict(told.told)
        self._pending, self._groups = list(told.pending), dict(told.groups)
        self._cursor, self._last_id = told.cursor, told.last_id

    def known(self) -> Told:
        """What is known now; groups that nothing waits for any more are forgotten."""
        oldest_ms = self._now_ms - max(self._route.group_interval_ms, LEVEL_EVERY_MS)
        return Told(
            self._cursor,
            self._last_id,
            self._standing,
            self._told,
            tuple(self._pending),
            {group: ms for group, ms in self._groups.items() if ms > oldest_ms},
        )

    def take_all(self, transitions: Sequence[Transition], *, is_new: bool) -> None:
        """Take in what has happened since; of what a new receiver missed, what still stands."""
        if _has_gone_back(self._before, transitions):
            self._standing, self._pending, self._cursor = {}, [], 0
            is_new = True
        for transition in transitions[self._cursor :]:
            self._take(transition)
        if transitions:
            self._cursor, self._last_id = len(transitions), transitions[-1].id
        if is_new:
            self._pending = [each for each in self._pending if each.news not in _LOOKS_BACK]
            for subject in {each.subject for each in self._pending}:
                self._collapse(subject)
        for subject in [s for s, last in self._told.items() if self._is_gone(last.transition)]:
            # Nothing of it will come any more: no end, and no reason to remind.
            if self._route.mode is Mode.TELL:
                del self._told[subject]

    def _is_gone(self, transition: Transition) -> bool:
        return transition.rule not in self._rules

    def _take(self, transition: Transition) -> None:
        subject, event = fingerprint(transition.alert), transition.event
        if event is Event.MOVED:
            self._take_move(subject, transition)
        elif event is Event.STALLED:
            self._raise(subject + _STALL, News.STALLED, transition)
        elif event is Event.RESUMED:
            self._end(subject + _STALL, News.RESUMED, transition)
        elif event is Event.RETRACTED:
            self._wait(transition.id, News.RETRACTED, transition)
        elif event is Event.RAISED:
            self._wait(transition.id, News.RAISED_LATE, transition)

    def _take_move(self, subject: str, transition: Transition) -> None:
        standing, target = self._standing.get(subject), transition.moved_to
        is_relapse = transition.moved_from is Status.RECOVERING and target is Status.FIRING
        if standing and (is_relapse or target is Status.RECOVERING):
            self._standing[subject] = standing._replace(is_recovering=not is_relapse)
        elif target in {Status.WARNING, Status.FIRING}:
            self._raise(subject, News.RAISED, transition)
        elif target in {Status.OK, Status.NO_DATA}:
            self._end(subject, News.RESOLVED, transition)
            if target is Status.NO_DATA:
                self._end(subject + _STALL, News.RESUMED, transition)

    def _raise(self, subject: str, news: News, transition: Transition) -> None:
        self._standing[subject] = Standing(transition, severity_of(self._rules, transition))
        self._wait(subject, news, transition)

    def _wait(self, subject: str, news: News, transition: Transition) -> None:
        severity = severity_of(self._rules, transition)
        if severity in self._route.severities and self._route.mode is Mode.TELL:
            self._pending.append(Pending(subject, news, transition, severity, self._now_ms))

    def _end(self, subject: str, news: News, transition: Transition) -> None:
        """Over: worth telling if its beginning was told, or is about to be."""
        self._standing.pop(subject, None)
        if self._route.mode is not Mode.TELL:
            return
        begun: list[Last | Pending] = [each for each in self._pending if each.subject == subject]
        if subject in self._told:
            begun.insert(0, self._told[subject])
        if begun:
            is_page = any(each.severity is Severity.PAGE for each in begun)
            severity = Severity.PAGE if is_page else Severity.WARNING
            began = begun[-1].transition
            self._pending.append(Pending(subject, news, transition, severity, self._now_ms, began))

    def _collapse(self, subject: str) -> None:
        """Of what waits about ``subject`` keep the last, if the receiver does not know it."""
        mine = [each for each in self._pending if each.subject == subject]
        last, believed = mine[-1], self._told.get(subject)
        if last.news in _ENDS:
            is_news = believed is not None
        else:
            is_news = believed is None or believed.transition.id != last.transition.id
        kept = last if is_news else None
        self._pending = [each for each in self._pending if each.subject != subject or each is kept]

    def tell(self) -> tuple[list[Pending], str]:
        """What is due of the first group of which something is, pages first."""
        waiting = self._by_group(self._unmuted())
        reminders = self._by_group(self._reminders())
        for group in sorted(waiting.keys() | reminders.keys()):
            due = waiting.get(group, [])
            if due and not self._is_due(group, due):
                due = []
            if found := due + reminders.get(group, []):
                return found, group
        return [], ""

    def _unmuted(self) -> list[Pending]:
        muted = {p.subject for p in self._pending if self._overlay_of(p.transition.alert).is_muted}
        for subject in muted:
            self._collapse(subject)
        return [each for each in self._pending if each.subject not in muted]

    def _reminders(self) -> list[Pending]:
        return [
            Pending(subject, News.REMINDER, last.transition, last.severity, last.at_ms)
            for subject, last in self._told.items()
            if self._now_ms >= last.at_ms + self._route.repeat_ms
            and self._wants_reminder(subject, last.transition)
        ]

    def _wants_reminder(self, subject: str, transition: Transition) -> bool:
        standing = self._standing.get(subject)
        if standing is None or standing.transition.id != transition.id or standing.is_recovering:
            return False
        if transition.event is not Event.MOVED or transition.moved_to is not Status.FIRING:
            return False
        overlays = self._overlay_of(transition.alert)
        return not overlays.is_muted and overlays.acknowledged is None

    def _by_group(self, waiting: Iterable[Pending]) -> dict[str, list[Pending]]:
        groups: dict[str, list[Pending]] = {}
        for each in waiting:
            groups.setdefault(self._group_of(each), []).append(each)
        return groups

    def _group_of(self, each: Pending) -> str:
        """Begins with the severity, so that pages sort first."""
        rule = self._rules.get(each.transition.rule)
        of = each.transition.rule if rule is None else rule.of
        return "\x1f".join((each.severity, of, each.transition.version))

    def _is_due(self, group: str, waiting: Iterable[Pending]) -> bool:
        due_ms = min(each.since_ms for each in waiting) + self._route.group_wait_ms
        if group in self._groups:
            due_ms = max(due_ms, self._groups[group] + self._route.group_interval_ms)
        return self._now_ms >= due_ms

    def level(self) -> tuple[list[Pending], str]:
        """All that is raised, and what is not any more; [] when the receiver was just told so."""
        wanted = {s: each for s in self._standing if (each := self._wanted(s)) is not None}
        ended = [
            Pending(
                subject,
                News.RESUMED if subject.endswith(_STALL) else News.RESOLVED,
                last.transition,
                last.severity,
                last.at_ms,
                last.transition,
            )
            for subject, last in self._told.items()
            if subject not in wanted or _face(last) != _face(wanted[subject])
        ]
        is_changed = ended or any(
            subject not in self._told or self._told[subject].transition.id != each.transition.id
            for subject, each in wanted.items()
        )
        if not is_changed and self._now_ms < self._groups.get(_ALL, 0) + LEVEL_EVERY_MS:
            return [], _ALL
        raised = [
            Pending(subject, _news_of(each.transition), *each[:2], self._now_ms)
            for subject, each in wanted.items()
        ]
        return ended + raised, _ALL

    def _wanted(self, subject: str) -> Standing | Last | None:
        """What the receiver should hold of ``subject``; a mute leaves it with what it has."""
        standing = self._standing[subject]
        if self._is_gone(standing.transition) or standing.severity not in self._route.severities:
            return None
        if self._overlay_of(standing.transition.alert).is_muted:
            return self._told.get(subject)
        return standing

    def salt(self, items: Iterable[Pending]) -> str:
        """Tells a reminder from the one before."""
        return ",".join(str(each.since_ms) for each in items if each.news is News.REMINDER)

    def enter(self, items: Iterable[Pending], group: str) -> None:
        """The receiver has been told ``items``."""
        gone = set(items)
        self._pending = [each for each in self._pending if each not in gone]
        for each in items:
            if each.news in _ENDS:
                self._told.pop(each.subject, None)
            elif each.news not in _LOOKS_BACK:
                self._told[each.subject] = Last(each.transition, each.severity, self._now_ms)
        self._groups[group] = self._now_ms

    def item(self, each: Pending) -> Item:
        """As the notice tells it."""
        rule = self._rules.get(each.transition.rule)
        text = notice_text.text_of(each.news, each.transition, rule)
        runbook = _runbook(self._rules, each.transition)
        return Item(each.news, each.transition, each.severity, each.began, text, runbook)


def _face(each: Standing | Last) -> tuple[Severity, Status, Event]:
    """What another system knows an alert by, beside whose it is."""
    return each.severity, each.transition.moved_to, each.transition.event


def _news_of(transition: Transition) -> News:
    return News.STALLED if transition.event is Event.STALLED else News.RAISED


def _runbook(rules: Rules, transition: Transition) -> str:
    rule = rules.get(transition.rule)
    return rule.runbook if rule else ""


def _notice(route: Route, items: Sequence[Item], now_ms: int, *, salt: str) -> Notice:
    names = sorted(f"{item.news}:{item.transition.id}" for item in items)
    digest = hashlib.sha256("\x1f".join((route.name, salt, *names)).encode()).hexdigest()
    is_page = any(item.severity is Severity.PAGE for item in items)
    runbooks = sorted({item.runbook for item in items} - {""})
    link = notice_text.link_of(route.dashboard_url, [item.transition.alert for item in items])
    return Notice(
        id=digest[:16],
        receiver=route.name,
        at_ms=now_ms,
        severity=Severity.PAGE if is_page else Severity.WARNING,
        title=notice_text.title_of([(i.news, i.transition) for i in items], is_page=is_page),
        text=notice_text.body_of([i.text for i in items], link, runbooks),
        items=tuple(items),
        dashboard_url=route.dashboard_url,
    )

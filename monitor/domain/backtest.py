"""Back-tests: what other rules would have raised over the same history, beside what was raised.

An **episode** is one alert from its page to its end. Each candidate rule is compared on its own, as
if it were the only one: with the live rule of its name if there is one, else with all live alerts
about the same. Two episodes are held to be the same trouble when they speak of the same variant and
slice, and overlap in time: then one is earlier, later, or neither. What has no partner was gained
or lost.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from monitor.domain.alerts import AlertKey, Event, Status, Transition, fingerprint, hindsight_of
from monitor.domain.events import Intent
from monitor.domain.rules import Metric
from monitor.domain.slices import ALL, SliceKey


class Watched(NamedTuple):
    """What a rule is about: its metric, the intents as they are declared, and whose they are."""

    metric: Metric
    of: str
    where: tuple[tuple[str, str], ...] = ()
    per: tuple[str, ...] = ("variant",)

    def is_like(self, other: "Watched") -> bool:
        """Whether alerts of one key say the same of both: what the key hides is the same."""
        mine = self.metric, self.of, self._hidden()
        return mine == (other.metric, other.of, other._hidden())

    def may_raise(self, key: SliceKey) -> bool:
        """Whether an alert of this key can come of it."""
        others = [name for name in self.per if name != "variant"]
        starts = f"{others[0]}=" if others else ALL
        has_values = all(
            f",{name}={value}," in f",{key.slice}," for name, value in self.where if name in others
        )
        wanted = dict(self.where).get("variant", key.variant) if "variant" in self.per else ALL
        return key.slice.startswith(starts) and has_values and key.variant == wanted

    def _hidden(self) -> frozenset[tuple[str, str]]:
        return frozenset(pair for pair in self.where if pair[0] not in self.per)


class Episode(NamedTuple):
    """One alert, under the id of the transition that raised it.

    ``since_ms`` is the event time from which on its evidence speaks, None for a rule that does not
    know (it looks at a window, whatever lies in it); ``fired_ms`` and ``ended_ms`` are log times;
    ``ended_ms`` is None while it is up. ``judged`` is what complete labels say of it, None while
    they are not.
    """

    id: str
    rule: str
    key: SliceKey
    version: str
    since_ms: int | None
    fired_ms: int
    ended_ms: int | None = None
    judged: Event | None = None

    @property
    def delay_ms(self) -> int | None:
        """Time to detect: from the first evidence to the page; 0 at least, None if unknown."""
        return None if self.since_ms is None else max(0, self.fired_ms - self.since_ms)

    @property
    def start_ms(self) -> int:
        """From when on it lasts: its first evidence, or the page where that is unknown."""
        return self.fired_ms if self.since_ms is None else self.since_ms


def episodes_of(transitions: Iterable[Transition]) -> list[Episode]:
    """The alerts that fired, oldest first. A relapse while recovering goes on with the same one."""
    transitions = list(transitions)
    judged = hindsight_of(transitions)
    done: list[Episode] = []
    up: dict[object, Episode] = {}
    for each in transitions:
        if each.event is not Event.MOVED:
            continue
        known = up.get(each.alert)
        if each.moved_to is Status.FIRING and known is None:
            since_ms = each.evidence.since_ms if each.evidence else None
            verdict = judged.get(each.id)
            place = each.id, each.rule, each.key, each.version
            up[each.alert] = Episode(*place, since_ms, each.at_ms, judged=verdict)
        elif known is not None and each.moved_to not in {Status.FIRING, Status.RECOVERING}:
            done.append(known._replace(ended_ms=each.at_ms))
            del up[each.alert]
    return sorted([*done, *up.values()], key=lambda e: (e.fired_ms, e.rule, e.key, e.version))


class Change(StrEnum):
    """What other rules change about one alert."""

    GAINED = "gained"
    LOST = "lost"
    EARLIER = "earlier"
    LATER = "later"
    SAME = "same"


class Compared(NamedTuple):
    """One alert of either side, or of both, as far as the candidate ``rule`` is concerned."""

    rule: str
    live: Episode | None
    candidate: Episode | None

    @property
    def change(self) -> Change:
        """What the candidate makes of it."""
        if self.live is None:
            return Change.GAINED
        if self.candidate is None:
            return Change.LOST
        by_ms = self.candidate.fired_ms - self.live.fired_ms
        return Change.SAME if not by_ms else Change.EARLIER if by_ms < 0 else Change.LATER

    @property
    def by_ms(self) -> int | None:
        """How much later the candidate fires, negative for earlier; None without a partner."""
        if self.live is None or self.candidate is None:
            return None
        return self.candidate.fired_ms - self.live.fired_ms

    @property
    def began_ms(self) -> int:
        """When the first of the two fired."""
        return min(e.fired_ms for e in (self.live, self.candidate) if e is not None)


def compare(
    live: Iterable[Episode],
    candidate: Iterable[Episode],
    watched: Mapping[str, Watched],
    tried: Mapping[str, Watched],
) -> list[Compared]:
    """Rule by rule of ``tried``, oldest first: what else is tried changes nothing.

    ``watched`` and ``tried`` say what the rules of either side are about. A candidate about the
    metric and intents of the live rule of its name is compared with that one, another with every
    live rule about the same. Live alerts that no candidate is about do not come up.
    """
    live, candidate = list(live), list(candidate)
    found: list[Compared] = []
    for name, about in tried.items():
        theirs = [each for each in candidate if each.rule == name]
        of_rule = _of_rule(name, theirs, _rivals(name, about, live, watched))
        found += sorted(of_rule, key=lambda c: c.began_ms)
    return found


def _rivals(
    name: str, about: Watched, live: Iterable[Episode], watched: Mapping[str, Watched]
) -> dict[str, list[Episode]]:
    """The live alerts that a candidate is compared with, by their rules."""
    known = watched.get(name)
    is_own = known is not None and known[:2] == about[:2]
    found: dict[str, list[Episode]] = {}
    for each in live:
        is_about = watched[each.rule].is_like(about) and about.may_raise(each.key)
        if each.rule == name if is_own else is_about:
            found.setdefault(each.rule, []).append(each)
    return found


def _of_rule(
    name: str, theirs: Sequence[Episode], rivals: Mapping[str, Sequence[Episode]]
) -> Iterator[Compared]:
    """Every alert at least once. A live one takes the earliest that its rule's have left.

    One of its version is taken first; versions may differ, for not every rule tells them apart.
    """
    partners: set[str] = set()
    for episodes in rivals.values():
        left = list(theirs)
        for each in episodes:
            fits = [other for other in left if _is_same(each, other)]
            alike = [other for other in fits if other.version == each.version]
            partner = next(iter(alike or fits), None)
            if partner is not None:
                left.remove(partner)
                partners.add(partner.id)
            yield Compared(name, each, partner)
    yield from (Compared(name, None, each) for each in theirs if each.id not in partners)


def _is_same(a: Episode, b: Episode) -> bool:
    return a.key == b.key and (_starts_within(a, b) or _starts_within(b, a))


def _starts_within(a: Episode, b: Episode) -> bool:
    """Whether ``b`` started while ``a`` had evidence or was up."""
    return a.start_ms <= b.start_ms and (a.ended_ms is None or b.start_ms < a.ended_ms)


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """What most monitors do, to compare with; not for live use.

    Breached when recall over ``window_ms`` by event time is below ``objective`` with at least
    ``support`` labels, looked at every ``every_ms``. The more often it looks, the more often it
    fires by chance.
    """

    name: str
    of: str
    group: frozenset[Intent]
    objective: float
    where: tuple[tuple[str, str], ...] = ()
    per: tuple[str, ...] = ()
    window_ms: int = 3_600_000
    support: int = 20
    every_ms: int = 300_000


@dataclass(slots=True)
class ThresholdWatch:
    """Follows one threshold rule; ``transitions`` are its moves between ok and firing.

    They carry no evidence: a window says nothing of since when it has been so.
    """

    rule: ThresholdRule
    transitions: list[Transition] = field(default_factory=list)
    _firing: set[SliceKey] = field(default_factory=set)

    def observe(self, key: SliceKey, at_ms: int, hits: int, support: int) -> None:
        """What the window that ends at ``at_ms`` shows, exclusive; ticks must come in order."""
        rule = self.rule
        share = hits / support if support else 0.0
        is_breach = support >= max(1, rule.support) and share < rule.objective
        if is_breach == (key in self._firing):
            return
        self._firing.symmetric_difference_update({key})
        moves = Status.OK, Status.FIRING
        source, target = moves if is_breach else moves[::-1]
        number = 1 + sum(each.key == key for each in self.transitions)
        self.transitions.append(
            Transition(
                id=f"{fingerprint(AlertKey(rule.name, key))}-{number}",
                rule=rule.name,
                key=key,
                moved_from=source,
                moved_to=target,
                at_ms=at_ms,
                evidence=None,
                reason=f"{hits} of {support} {rule.of} labels in the window were hits",
            )
        )

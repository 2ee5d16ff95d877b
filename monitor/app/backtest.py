"""Back-tests: other rules over the same history, in one pass, beside what was live."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from monitor.app.console import share
from monitor.app.replay import History, OnProgress, Replay
from monitor.app.report import iso
from monitor.app.settings import Settings
from monitor.app.settings.candidates import Candidates, ThresholdSettings
from monitor.app.wiring import in_ms, spec_of
from monitor.domain.alerts import Event, Transition
from monitor.domain.backtest import (
    Change,
    Compared,
    Episode,
    ThresholdRule,
    ThresholdWatch,
    compare,
    episodes_of,
)
from monitor.domain.engine import Spec
from monitor.domain.errors import RecallwatchError
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import Clock, PaneKey
from monitor.ports import StateReader

CANDIDATE = "candidate:"
"""Begins the names of rules that are tried; no name in the settings has a colon."""


class NotTriable(RecallwatchError):  # noqa: N818 - an answer rather than a fault
    """A naive rule that the panes cannot answer."""


@dataclass(frozen=True)
class Backtest:
    """What came of it.

    ``live`` are the alerts that were raised, ``candidate`` those of the rules that were tried,
    ``source`` says where the live ones are from.
    """

    live: Sequence[Episode]
    candidate: Sequence[Episode]
    compared: Sequence[Compared]
    source: str


def backtest(
    log: History,
    settings: Settings,
    candidates: Candidates,
    *,
    live: Iterable[Transition] | None = None,
    on_progress: OnProgress = lambda _done, _left: None,
) -> Backtest:
    """Replay the log under both rule sets.

    ``live`` are the transitions of the store, if there is one: without it, what the rules of
    ``settings`` give is taken for what was live. NotTriable for a naive rule that the panes of the
    settings cannot answer.
    """
    own, tried = spec_of(settings), spec_of(candidates.settings)
    named = tuple(replace(rule, name=CANDIDATE + rule.name) for rule in tried.rules)
    spec = replace(own, rules=(*own.rules, *named), signals=())
    watches = [ThresholdWatch(_naive(rule, own)) for rule in candidates.thresholds]
    replay = Replay(log, settings, spec=spec)
    moved = _stepped(replay, log, spec, watches, on_progress)
    theirs = [_unnamed(each) for each in moved if each.rule.startswith(CANDIDATE)]
    theirs += [each for watch in watches for each in watch.transitions]
    ours = [each for each in moved if not each.rule.startswith(CANDIDATE)]
    of = {rule.name: rule.of for rule in (*own.rules, *tried.rules)}
    of |= {watch.rule.name: watch.rule.of for watch in watches}
    alerts = {rule.name for rule in own.rules}
    was = ours if live is None else [each for each in live if each.rule in alerts]
    before, after = episodes_of(was), episodes_of(theirs)
    source = "replayed under the settings" if live is None else "from the store"
    return Backtest(before, after, compare(before, after, of), source)


def _stepped(
    replay: Replay,
    log: History,
    spec: Spec,
    watches: Sequence[ThresholdWatch],
    on_progress: OnProgress,
) -> list[Transition]:
    """Read to the end; naive rules are looked at on the way, at the instants that they ask for."""
    moved: list[Transition] = []
    ticks = sorted({watch.rule.every_ms for watch in watches})
    next_ms = log.next_ms()
    while ticks and next_ms is not None:
        at_ms = min(next_ms // every * every + every for every in ticks)
        log.bound_ms(at_ms)
        moved += replay.run(on_progress)
        for watch in watches:
            if at_ms % watch.rule.every_ms == 0:
                _look(watch, replay.store, spec, at_ms)
        next_ms = _following(log.next_ms(), at_ms, watches, ticks)
    log.bound_ms(None)
    moved += replay.run(on_progress)
    return moved + replay.finish()


def _following(
    next_ms: int | None, at_ms: int, watches: Sequence[ThresholdWatch], ticks: Sequence[int]
) -> int | None:
    """The instant up to which nothing is to be seen: silence is skipped once windows are empty."""
    if next_ms is None:
        return None
    longest_ms = max(watch.rule.window_ms for watch in watches) + ticks[-1]
    return at_ms if next_ms - at_ms <= longest_ms else next_ms


def _look(watch: ThresholdWatch, reader: StateReader, spec: Spec, at_ms: int) -> None:
    rule = watch.rule
    spans = _cover(at_ms - rule.window_ms, at_ms, sorted(spec.windows.keep_ms, reverse=True))
    counts: dict[SliceKey, list[int]] = {}
    for stored, key in _keys(rule, reader.slice_keys()):
        panes = [PaneKey(Clock.EVENT, *span, stored) for span in spans]
        held = counts.setdefault(key, [0, 0])
        for pane in reader.panes(panes):
            hits, support = pane.hits_and_support(rule.group)
            held[0] += hits
            held[1] += support
    for key, (hits, support) in sorted(counts.items()):
        watch.observe(key, at_ms, hits, support)


def _cover(start_ms: int, end_ms: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """The fewest panes that make up the span, as size and start; ``sizes`` from the greatest.

    >>> _cover(50, 130, [100, 10])
    [(10, 50), (10, 60), (10, 70), (10, 80), (10, 90), (10, 100), (10, 110), (10, 120)]
    """
    panes = []
    while start_ms < end_ms:
        size_ms = next(size for size in sizes if not start_ms % size and start_ms + size <= end_ms)
        panes.append((size_ms, start_ms))
        start_ms += size_ms
    return panes


def _keys(rule: ThresholdRule, stored: Iterable[SliceKey]) -> Iterator[tuple[SliceKey, SliceKey]]:
    """What is stored of what the rule watches, each with the key of the alert that it is for."""
    where = dict(rule.where)
    other = next((name for name in (*where, *rule.per) if name != "variant"), None)
    for key in stored:
        name, _, value = key.slice.partition("=")
        is_slice = key.slice == ALL if other is None else name == other
        fits_value = other is None or where.get(other, value) == value
        if is_slice and fits_value and where.get("variant", key.variant) == key.variant:
            variant = key.variant if "variant" in rule.per else ALL
            yield key, SliceKey(variant, key.slice if other in rule.per else ALL)


def _naive(rule: ThresholdSettings, spec: Spec) -> ThresholdRule:
    pane_ms = spec.windows.pane_ms
    for name, length in (("window", rule.window), ("every", rule.every)):
        if in_ms(length) % pane_ms or in_ms(length) <= 0:
            raise NotTriable(f"rule {rule.name}: {name} must be a multiple of windows.pane")
    if len({name for name in (*rule.where, *rule.per) if name != "variant"}) > 1:
        raise NotTriable(f"rule {rule.name}: where and per may name one slice beside variant")
    return ThresholdRule(
        name=rule.name,
        of=rule.of,
        group=spec.groups.of(rule.of),
        objective=rule.objective,
        where=tuple(sorted(rule.where.items())),
        per=rule.per,
        window_ms=in_ms(rule.window),
        support=rule.support,
        every_ms=in_ms(rule.every),
    )


def _unnamed(transition: Transition) -> Transition:
    return replace(transition, rule=transition.rule.removeprefix(CANDIDATE))


def document_of(result: Backtest) -> dict[str, Any]:
    """The back-test as JSON."""
    return {
        "live_from": result.source,
        "summary": {side: _summary(episodes) for side, episodes in _sides(result).items()},
        "changes": {
            change: sum(each.change is change for each in result.compared) for change in Change
        },
        "alerts": [
            {
                "change": each.change,
                "by_s": None if each.by_ms is None else each.by_ms / 1000,
                "live": _row(each.live),
                "candidate": _row(each.candidate),
            }
            for each in result.compared
        ],
    }


def _sides(result: Backtest) -> dict[str, Sequence[Episode]]:
    return {"live": result.live, "candidate": result.candidate}


def _summary(episodes: Sequence[Episode]) -> dict[str, object]:
    delays = [each.delay_ms / 1000 for each in episodes]
    judged = [each.judged for each in episodes]
    return {
        "alerts": len(episodes),
        "median_time_to_detect_s": median(delays) if delays else None,
        "confirmed": judged.count(Event.CONFIRMED),
        "false_alarms": judged.count(Event.RETRACTED),
        "not_judged": judged.count(None),
    }


def _row(episode: Episode | None) -> dict[str, object] | None:
    if episode is None:
        return None
    return {
        "id": episode.id,
        "rule": episode.rule,
        "variant": episode.key.variant,
        "slice": episode.key.slice,
        "version": episode.version,
        "since": iso(episode.since_ms),
        "fired": iso(episode.fired_ms),
        "ended": iso(episode.ended_ms),
        "time_to_detect_s": episode.delay_ms / 1000,
        "hindsight": episode.judged,
    }


def lines_of(document: Mapping[str, Any]) -> Iterator[str]:
    """The back-test in words."""
    yield f"Live alerts are {document['live_from']}."
    for side, found in document["summary"].items():
        wait = found["median_time_to_detect_s"]
        yield (
            f"{side:9}  {found['alerts']} alerts; to detect (median): {_length(wait)}; in "
            f"hindsight {found['confirmed']} confirmed, {found['false_alarms']} false alarms "
            f"({_false_share(found)}), {found['not_judged']} not judged"
        )
    yield "  ".join(f"{name} {count}" for name, count in document["changes"].items())
    for row in document["alerts"]:
        one = row["candidate"] or row["live"]
        whose = " ".join(
            dict.fromkeys(n for n in (one["variant"], one["slice"], one["version"]) if n)
        )
        by = "" if not row["by_s"] else f" by {_length(abs(row['by_s']))}"
        yield f"{row['change']}{by}: {whose}"
        for side in ("live", "candidate"):
            if row[side]:
                yield f"    {side:9}  {_told(row[side])}"


def _told(row: Mapping[str, Any]) -> str:
    ended = f"ended {row['ended']}" if row["ended"] else "still up"
    judged = row["hindsight"] or "not judged"
    return (
        f"{row['rule']}: fired {row['fired']}, {_length(row['time_to_detect_s'])} after its first "
        f"evidence; {ended}; in hindsight {judged}"
    )


def _false_share(found: Mapping[str, Any]) -> str:
    judged = found["confirmed"] + found["false_alarms"]
    return share(found["false_alarms"] / judged if judged else None)


def _length(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"

"""Back-tests: other rules over the same history, in one pass, beside what was live."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from monitor.app.console import share
from monitor.app.history import completed
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
    Watched,
    compare,
    episodes_of,
)
from monitor.domain.engine import Spec
from monitor.domain.errors import RecallwatchError
from monitor.domain.rules import AlertRule, Metric
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import HOUR_MS, Clock, PaneKey, WindowSpec
from monitor.ports import StateReader

CANDIDATE = "candidate:"
"""Begins the names of rules that are tried; no name in the settings has a colon."""

EARLY = "before its window was full"

MINUTE_S = 60

UNJUDGED = "not judged: naive rules keep no hindsight"


class NotTriable(RecallwatchError):  # noqa: N818 - an answer rather than a fault
    """A naive rule that the panes cannot answer."""


@dataclass(frozen=True)
class Backtest:
    """What came of it.

    ``live`` are the alerts that were raised, ``candidate`` those of the rules that were tried, of
    which ``naive`` names those that are never judged; ``source`` says where the live ones are from.
    ``range_ms`` is from the first record to the instant up to which the rules were evaluated, both
    inclusive; None where there is nothing. Of what was live ``outside`` alerts fired beyond it, and
    within it ``gone`` counts those of rules that the settings do not hold, and ``unmet`` those that
    no candidate is about, by rule. ``rules`` are the names of all candidates. ``full_ms`` says, of
    rules whose window reaches back before the beginning of what is read, when it no longer does.
    """

    live: Sequence[Episode]
    candidate: Sequence[Episode]
    compared: Sequence[Compared]
    source: str
    range_ms: tuple[int, int] | None = None
    outside: int = 0
    gone: Mapping[str, int] = field(default_factory=dict)
    unmet: Mapping[str, int] = field(default_factory=dict)
    rules: Sequence[str] = ()
    full_ms: Mapping[str, int] = field(default_factory=dict)
    naive: frozenset[str] = frozenset()

    def is_early(self, episode: Episode | None) -> bool:
        """Whether a candidate's alert was raised before the window of its rule was full."""
        return episode is not None and episode.fired_ms < self.full_ms.get(episode.rule, 0)


def backtest(
    log: History,
    settings: Settings,
    candidates: Candidates,
    *,
    live: Iterable[Transition] | None = None,
    end_ms: int | None = None,
    on_progress: OnProgress = lambda _done, _left: None,
) -> Backtest:
    """Replay the log, up to ``end_ms`` by log time or to its end, under both rule sets.

    ``live`` are the transitions of the store, if there is one: without it, what the rules of
    ``settings`` give is taken for what was live. NotTriable for a naive rule that the panes of the
    settings cannot answer.
    """
    own, tried = spec_of(settings), spec_of(candidates.settings)
    naive = [_naive(rule, own) for rule in candidates.thresholds]
    watches = [ThresholdWatch(rule) for rule in naive]
    replay = Replay(log, settings, spec=_both(own, tried.rules, naive))
    sizes = sorted(own.windows.keep_ms, reverse=True)
    first_ms, cut_off_ms = log.next_ms(), log.cut_off_ms()
    moved = _stepped(replay, log, watches, sizes, end_ms, on_progress)
    theirs = [_unnamed(each) for each in moved if each.rule.startswith(CANDIDATE)]
    theirs += [each for watch in watches for each in watch.transitions]
    ours = [each for each in moved if not each.rule.startswith(CANDIDATE)]
    until_ms = replay.store.evaluation().watermark_ms
    range_ms = None if first_ms is None or until_ms is None else (first_ms, until_ms)
    watched = _watched(own.rules, ())
    was = episodes_of(ours if live is None else live)
    within = [e for e in was if range_ms and range_ms[0] <= e.fired_ms <= range_ms[1]]
    before = [each for each in within if each.rule in watched]
    after = episodes_of(theirs)
    about = _watched(tried.rules, naive)
    compared = compare(before, after, watched, about)
    met = {each.live.id for each in compared if each.live is not None}
    return Backtest(
        before,
        after,
        compared,
        "replayed under the settings" if live is None else "from the store",
        range_ms,
        outside=len(was) - len(within),
        gone=Counter(each.rule for each in within if each.rule not in watched),
        unmet=Counter(each.rule for each in before if each.id not in met),
        rules=tuple(about),
        full_ms={r.name: cut_off_ms + r.window_ms for r in naive} if cut_off_ms is not None else {},
        naive=frozenset(rule.name for rule in naive),
    )


def _both(own: Spec, tried: Sequence[AlertRule], naive: Sequence[ThresholdRule]) -> Spec:
    """What evaluates both rule sets, and keeps panes for as long as the naive rules look back."""
    named = tuple(replace(rule, name=CANDIDATE + rule.name) for rule in tried)
    least_ms = max((rule.window_ms + rule.every_ms + HOUR_MS for rule in naive), default=0)
    windows = own.windows
    keep_ms = {size_ms: max(keep_ms, least_ms) for size_ms, keep_ms in windows.keep_ms.items()}
    kept = WindowSpec(windows.pane_ms, windows.horizon_ms, keep_ms)
    return replace(own, rules=(*own.rules, *named), signals=(), windows=kept)


def _watched(rules: Iterable[AlertRule], naive: Iterable[ThresholdRule]) -> dict[str, Watched]:
    about = {rule.name: Watched(rule.metric, rule.of, rule.where, rule.per) for rule in rules}
    return about | {r.name: Watched(Metric.RECALL, r.of, r.where, r.per) for r in naive}


def _stepped(
    replay: Replay,
    log: History,
    watches: Sequence[ThresholdWatch],
    sizes: Sequence[int],
    end_ms: int | None,
    on_progress: OnProgress,
) -> list[Transition]:
    """Read to the end; naive rules are looked at on the way, at the instants that they ask for."""
    moved: list[Transition] = []
    ticks = sorted({watch.rule.every_ms for watch in watches})
    longest_ms = max((watch.rule.window_ms for watch in watches), default=0) + max(ticks, default=0)
    at_ms = read_ms = log.next_ms() or 0
    while ticks and (next_ms := log.next_ms()) is not None:
        # Silence is skipped once every rule has looked at an empty window.
        from_ms = next_ms if at_ms - read_ms > longest_ms else at_ms
        at_ms = min(from_ms // every * every + every for every in ticks)
        if end_ms is not None and at_ms > end_ms:
            break
        log.bound_ms(at_ms)
        moved += replay.run(on_progress)
        read_ms = at_ms if next_ms < at_ms else read_ms
        for watch in watches:
            if at_ms % watch.rule.every_ms == 0:
                _look(watch, replay.store, sizes, at_ms)
    log.bound_ms(end_ms)
    moved += replay.run(on_progress)
    return moved + completed(replay, log, end_ms)


def _look(watch: ThresholdWatch, reader: StateReader, sizes: Sequence[int], at_ms: int) -> None:
    """Show a naive rule its window; ``sizes`` are those of the panes, from the greatest."""
    rule = watch.rule
    spans = _cover(at_ms - rule.window_ms, at_ms, sizes)
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
    start_ms, end_ms = result.range_ms or (None, None)
    unjudged = sum(each.rule in result.naive for each in result.candidate)
    return {
        "live_from": result.source,
        "range": {"from": iso(start_ms), "to": iso(end_ms)},
        "left_out": {
            "outside_the_range": result.outside,
            "of_rules_not_in_the_settings": dict(sorted(result.gone.items())),
            "no_candidate_is_about": dict(sorted(result.unmet.items())),
        },
        "summary": {
            "live": _summary(result.live, 0),
            "candidate": _summary(result.candidate, unjudged),
        },
        "windows_full_from": {rule: iso(at_ms) for rule, at_ms in result.full_ms.items()},
        "changes": _changes(result.compared),
        "candidates": [_candidate(name, result) for name in result.rules],
        "alerts": [
            {
                "rule": each.rule,
                "change": each.change,
                "by_s": None if each.by_ms is None else each.by_ms / 1000,
                "live": _row(each.live, frozenset()),
                "candidate": _row(each.candidate, result.naive),
                "is_before_window_was_full": result.is_early(each.candidate),
            }
            for each in result.compared
        ],
    }


def _changes(compared: Iterable[Compared]) -> dict[str, int]:
    found = Counter(each.change for each in compared)
    return {change: found[change] for change in Change}


def _candidate(name: str, result: Backtest) -> dict[str, object]:
    return {
        "rule": name,
        "is_naive": name in result.naive,
        "alerts": sum(each.rule == name for each in result.candidate),
        "changes": _changes(each for each in result.compared if each.rule == name),
        "before_window_was_full": sum(
            each.rule == name and result.is_early(each) for each in result.candidate
        ),
    }


def _summary(episodes: Sequence[Episode], unjudged: int) -> dict[str, object]:
    """``unjudged`` of them are of naive rules."""
    delays = [each.delay_ms / 1000 for each in episodes if each.delay_ms is not None]
    judged = [each.judged for each in episodes]
    return {
        "alerts": len(episodes),
        "median_time_to_detect_s": median(delays) if delays else None,
        "confirmed": judged.count(Event.CONFIRMED),
        "false_alarms": judged.count(Event.RETRACTED),
        "not_judged": judged.count(None) - unjudged,
        "of_naive_rules": unjudged,
    }


def _row(episode: Episode | None, naive: frozenset[str]) -> dict[str, object] | None:
    if episode is None:
        return None
    return {
        "id": episode.id,
        "rule": episode.rule,
        "is_naive": episode.rule in naive,
        "variant": episode.key.variant,
        "slice": episode.key.slice,
        "version": episode.version,
        "since": iso(episode.since_ms),
        "fired": iso(episode.fired_ms),
        "ended": iso(episode.ended_ms),
        "time_to_detect_s": None if episode.delay_ms is None else episode.delay_ms / 1000,
        "hindsight": episode.judged,
    }


def lines_of(document: Mapping[str, Any]) -> Iterator[str]:
    """The back-test in words."""
    yield f"Live alerts are {document['live_from']}."
    yield from _left_out(document)
    if partial := document["windows_full_from"]:
        until = ", ".join(f"{rule} until {at}" for rule, at in partial.items())
        yield f"Windows that reach back before the beginning are not full: {until}."
    for side, found in document["summary"].items():
        wait = found["median_time_to_detect_s"]
        yield (
            f"{side:9}  {found['alerts']} alerts; to detect (median): {_length(wait)}; in "
            f"hindsight {found['confirmed']} confirmed, {found['false_alarms']} false alarms "
            f"({_false_share(found)}), {found['not_judged']} not judged"
        )
        if found["of_naive_rules"]:
            yield f"{'':9}  {found['of_naive_rules']} {UNJUDGED}"
    for candidate in document["candidates"]:
        yield from _compared_lines(candidate, document["alerts"])


def _compared_lines(
    candidate: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """One candidate and what it changes."""
    count = candidate["alerts"]
    changes = ", ".join(f"{n} {name}" for name, n in candidate["changes"].items() if n)
    alerts = f"{count} alert{'s' if count > 1 else ''}" if count else "no alert"
    if early := candidate["before_window_was_full"]:
        alerts += f" ({early} {EARLY})"
    yield f"{candidate['rule']}: {alerts}{f'; {changes}' if changes else ''}"
    for row in rows:
        if row["rule"] != candidate["rule"]:
            continue
        one = row["candidate"] or row["live"]
        whose = " ".join(
            dict.fromkeys(n for n in (one["variant"], one["slice"], one["version"]) if n)
        )
        by = "" if not row["by_s"] else f" by {_length(abs(row['by_s']))}"
        mark = f", {EARLY}" if row["is_before_window_was_full"] else ""
        yield f"  {row['change']}{by}: {whose}{mark}"
        for side in ("live", "candidate"):
            if row[side]:
                yield f"    {side:9}  {_told(row[side])}"


def _left_out(document: Mapping[str, Any]) -> Iterator[str]:
    span, left_out = document["range"], document["left_out"]
    if outside := left_out["outside_the_range"]:
        where = f"{span['from']} to {span['to']}" if span["from"] else "it holds no records"
        yield f"Left out: {outside} live alerts outside of what was replayed ({where})."
    for rule, count in left_out["of_rules_not_in_the_settings"].items():
        yield f"Left out: {count} live alerts of {rule}, a rule that is not in the settings."
    for rule, count in left_out["no_candidate_is_about"].items():
        yield f"Left out: {count} live alerts of {rule}, which no candidate is about."


def _told(row: Mapping[str, Any]) -> str:
    wait = _length(row["time_to_detect_s"])
    detected = "to detect: -" if row["since"] is None else f"{wait} after its first evidence"
    ended = f"ended {row['ended']}" if row["ended"] else "still up"
    judged = UNJUDGED if row["is_naive"] else f"in hindsight {row['hindsight'] or 'not judged'}"
    return f"{row['rule']}: fired {row['fired']}, {detected}; {ended}; {judged}"


def _false_share(found: Mapping[str, Any]) -> str:
    judged = found["confirmed"] + found["false_alarms"]
    return share(found["false_alarms"] / judged if judged else None)


def _length(seconds: float | None) -> str:
    """In the unit that fits.

    >>> _length(None), _length(2.1), _length(0.25), _length(90.0), _length(7_260.0)
    ('-', '2.1 s', '0.25 s', '2 min', '2 h 1 min')
    """
    if seconds is None:
        return "-"
    if seconds < MINUTE_S:
        return f"{seconds:.2g} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"

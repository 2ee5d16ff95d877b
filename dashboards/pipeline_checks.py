"""What must hold for the numbers to be right, each as one line, and what follows from all of it."""

from collections.abc import Iterable, Sequence

from dashboards import words
from dashboards.banner import LOST_MS, STALE_MS, Notice
from dashboards.models import Books
from dashboards.pipeline_models import Check, PipelineView, Reach
from dashboards.theme import Tone
from monitor.app.vitals import StoreVitals
from monitor.domain.ledger import Balance
from monitor.domain.windows import MINUTE_MS

BEHIND_MS = MINUTE_MS
"""How old the newest complete log time may be while records wait to be read."""

SLOW_MS = 100.0
"""A read that takes longer keeps workers and viewers waiting."""

FULL = 0.9
"""Share of its memory limit from which on a server will soon refuse writes."""

REJECTED = 0.01
"""Share of rejected records that a person should look at."""

MOST_UNPUBLISHED = 60
"""Journal entries that may wait for their topic: about a minute's worth."""

ABOUT = (
    "They are about the plumbing: that what came is read, counted, kept and handed on. Whether "
    "enough labels are in is told on the page Labels."
)
KEEPS_ALL = "noeviction"
MOST_NAMED = 3

_SIDES = ("predictions", "labels")
_ORDER = (Tone.CRITICAL, Tone.WARNING, None, Tone.NEUTRAL, Tone.OK)


def checks(view: PipelineView) -> tuple[Check, ...]:
    """All checks, always the same ones in the same order."""
    return (
        _workers(view),
        _read(view),
        _complete(view),
        _lost(view),
        _balanced(view.books),
        _rejected(view),
        _asked(view),
        _told(view),
        _journal(view),
        _answers(view.vitals),
        _keeps(view.vitals),
        _room(view.vitals),
    )


def verdict(found: Sequence[Check]) -> Notice:
    """The answer to the question of the page; never yes while something is not known."""
    wrong = [check for check in found if check.tone in {Tone.CRITICAL, Tone.WARNING}]
    unknown = [check.name for check in found if check.tone is None]
    faults = [check for check in wrong if check.tone is Tone.CRITICAL]
    said = " · ".join(f"{check.name}: {check.said}" for check in worst_first(wrong)[:MOST_NAMED])
    if faults:
        return Notice(Tone.CRITICAL, f"No: {len(faults)} of {len(found)} checks fail.", said)
    if wrong:
        title = f"With care: {len(wrong)} of {len(found)} checks want a look."
        return Notice(Tone.WARNING, title, said)
    if unknown:
        body = f"Not known: {'; '.join(unknown)}."
        return Notice(Tone.NEUTRAL, "As far as can be told, yes.", body)
    return Notice(Tone.OK, f"Yes: all {len(found)} checks hold.", ABOUT)


def worst_first(found: Iterable[Check]) -> list[Check]:
    """The checks with what is wrong on top."""
    return sorted(found, key=lambda check: _ORDER.index(check.tone))


def _workers(view: PipelineView) -> Check:
    name, fresh = "Signs of life", view.freshness
    if fresh.age_ms is None:
        return Check(name, Tone.WARNING, "no worker has reported yet")
    silent = words.duration(max(1000, fresh.age_ms))
    if fresh.age_ms > LOST_MS:
        return Check(name, Tone.CRITICAL, f"no worker has reported for {silent}")
    if fresh.age_ms > STALE_MS:
        return Check(name, Tone.WARNING, f"no worker has reported for {silent}")
    alive, all_of_them = len(view.alive), len(view.workers)
    return Check(name, Tone.OK, f"{alive} of {all_of_them} alive, last {silent} ago")


def _read(view: PipelineView) -> Check:
    """Whether somebody reads each partition; a worker that is gone reads nothing."""
    name = "Readers"
    if _is_silent(view) or any(worker.partitions is None for worker in view.alive):
        return Check(name, None, "the workers do not say what they read")
    if not view.partitions:
        return Check(name, None, "no partition is known yet")
    idle = [str(row.partition) for row in view.partitions if not row.worker]
    if idle:
        return Check(name, Tone.WARNING, f"no live worker reads {_named(idle)}")
    partitions = words.counted(len(view.partitions), "partition")
    return Check(name, Tone.OK, f"a live worker reads each of {partitions}")


def _complete(view: PipelineView) -> Check:
    """Whether what is counted reaches to the present; no records waiting counts as the present."""
    name, reached_ms = "Input", view.watermark_ms
    unread = [str(row.partition) for row in view.partitions if row.reach is Reach.UNREAD]
    if unread:
        return Check(name, Tone.WARNING, f"not read yet: {_named(unread)}")
    if _is_silent(view) or reached_ms is None:
        return Check(name, None, "not known while no worker reports")
    now_ms, lag = view.freshness.now_ms or 0, view.freshness.lag
    complete = f"complete up to {words.clock_seconds(reached_ms, near_ms=now_ms)}"
    if not lag:
        return Check(name, Tone.OK, complete)
    said = f"{words.counted(lag, 'record')} waiting, {complete}"
    is_behind = now_ms - reached_ms > BEHIND_MS
    return Check(name, Tone.WARNING if is_behind else Tone.OK, said)


def _lost(view: PipelineView) -> Check:
    name, gaps = "Losses", view.books.gaps
    if gaps:
        named = _named([str(gap) for gap in gaps])
        return Check(name, Tone.CRITICAL, f"dropped by the log before it was counted: {named}")
    return Check(name, Tone.OK, "the log dropped nothing that was not counted")


def _balanced(books: Books) -> Check:
    name = "Books"
    sides = zip(_SIDES, (books.predictions, books.labels), strict=True)
    off = [
        f"{words.count(abs(side.difference))} {kind} {_amiss(side)}"
        for kind, side in sides
        if side.difference
    ]
    if off:
        return Check(name, Tone.CRITICAL, ", ".join(off))
    received = books.predictions.received + books.labels.received
    return Check(name, Tone.OK, f"{words.count(received)} records accounted for")


def _amiss(side: Balance) -> str:
    return "missing" if side.difference > 0 else "too many"


def _rejected(view: PipelineView) -> Check:
    name = "Rejected records"
    shares = {
        kind: sum(side.rejected.values()) / side.received
        for kind, side in zip(_SIDES, (view.books.predictions, view.books.labels), strict=True)
        if side.received
    }
    if not shares:
        return Check(name, None, "no record has come yet")
    said = ", ".join(f"{words.percent(share, 2)} of {kind}" for kind, share in shares.items())
    tone = Tone.WARNING if max(shares.values()) > REJECTED else Tone.OK
    return Check(name, tone, f"rejected: {said}")


def _asked(view: PipelineView) -> Check:
    """Whether the rules are asked, and know of all that was read."""
    name, age_ms, tick_ms = "Rules", view.evaluated_age_ms, view.journal.tick_ms
    if age_ms is None:
        said = "never yet" if tick_ms is None else "no worker says when it last did"
        return Check(name, None, said)
    said = f"{words.duration(max(1000, age_ms))} ago"
    if age_ms > STALE_MS:
        return Check(name, Tone.CRITICAL if age_ms > LOST_MS else Tone.WARNING, f"last {said}")
    late_ms = (view.watermark_ms or 0) - (tick_ms or 0)
    if tick_ms is not None and late_ms > BEHIND_MS:
        behind = f"{words.duration(late_ms)} behind what was read"
        return Check(name, Tone.WARNING, f"{said}, {behind}")
    return Check(name, Tone.OK, said)


def _told(view: PipelineView) -> Check:
    name = "Notices"
    if view.undelivered:
        return Check(
            name,
            Tone.WARNING,
            f"{words.counted(view.undelivered, 'transition')} waiting to go to the log",
        )
    behind = [f"{r.name}: {words.count(r.behind)}" for r in view.receivers if r.behind]
    if behind:
        return Check(name, Tone.WARNING, f"not taken yet by {_named(behind)}")
    if not view.receivers:
        said = "nobody is told of alerts: no receiver is set under notify, they go to the log alone"
        return Check(name, Tone.WARNING, said)
    return Check(
        name, Tone.OK, f"{words.counted(len(view.receivers), 'receiver')} told of everything"
    )


def _journal(view: PipelineView) -> Check:
    name, journal = "Journal", view.journal
    if not journal.head:
        return Check(name, None, "no evaluation yet")
    if not journal.hash:
        return Check(name, None, f"evaluation {words.count(journal.head)} has no entry")
    if journal.unpublished > MOST_UNPUBLISHED:
        waiting = f"{words.count(journal.unpublished)} entries wait for {journal.topic}"
        return Check(name, Tone.WARNING, waiting)
    return Check(name, Tone.OK, f"up to entry {words.count(journal.head)}")


def _answers(vitals: StoreVitals | None) -> Check:
    name = "Redis, answer"
    if vitals is None:
        return Check(name, None, "the numbers come from no server")
    tone = Tone.WARNING if vitals.answer_ms > SLOW_MS else Tone.OK
    return Check(name, tone, f"in {vitals.answer_ms:.1f} ms")


def _keeps(vitals: StoreVitals | None) -> Check:
    name = "Redis, evictions"
    if vitals is None or vitals.server.policy is None or vitals.server.evicted is None:
        return Check(name, None, "the server does not tell")
    server = vitals.server
    if server.evicted:
        dropped = f"{words.count(server.evicted)} keys dropped since its start"
        return Check(name, Tone.CRITICAL, f"{dropped}, maxmemory-policy {server.policy}")
    tone = Tone.OK if server.policy == KEEPS_ALL else Tone.CRITICAL
    return Check(name, tone, f"maxmemory-policy {server.policy}")


def _room(vitals: StoreVitals | None) -> Check:
    name = "Redis, memory"
    if vitals is None or vitals.server.used_bytes is None:
        return Check(name, None, "the server does not tell")
    used = words.size(vitals.server.used_bytes)
    if vitals.server.fullest is None:
        return Check(name, Tone.OK, f"{used} used, no limit set")
    tone = Tone.WARNING if vitals.server.fullest > FULL else Tone.OK
    return Check(name, tone, f"{used} used, {words.percent(vitals.server.fullest, 0)} of the limit")


def _is_silent(view: PipelineView) -> bool:
    return view.freshness.age_ms is None or view.freshness.age_ms > STALE_MS


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")

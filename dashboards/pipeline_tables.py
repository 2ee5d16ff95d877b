"""View model of the Pipeline page -> table rows and one JSON document."""

from collections.abc import Sequence
from typing import Any

from dashboards import words
from dashboards.pipeline_models import Check, PartitionRow, PipelineView, Reach, ReceiverRow
from dashboards.tables import Row
from dashboards.theme import Tone
from monitor.app.report import iso
from monitor.domain.ledger import Balance

STATES = {
    Tone.CRITICAL: "Fault",
    Tone.WARNING: "Look",
    Tone.OK: "OK",
    Tone.NEUTRAL: "Unknown",
}
"""What a check's tone is called; the words stand beside their sign, never a colour alone."""

SIGNS = {Tone.CRITICAL: "✕", Tone.WARNING: "▲", Tone.OK: "✓", Tone.NEUTRAL: "?"}


def checks(found: Sequence[Check]) -> list[Row]:
    """One row for each check."""
    return [
        {"State": STATES[check.tone or Tone.NEUTRAL], "Check": check.name, "Found": check.said}
        for check in found
    ]


def workers(view: PipelineView) -> list[Row]:
    """One row for each worker, by name."""
    return [
        {
            "Worker": worker.name,
            "State": "gone" if worker.is_gone else "alive",
            "Last sign of life": f"{words.duration(max(1000, worker.age_ms))} ago",
            "Partitions": words.NONE if worker.partitions is None else worker.partitions,
            "Records behind": words.count(worker.lag),
            "Records read": words.count(worker.records),
            "Rules asked": _ago(worker.evaluated_age_ms),
        }
        for worker in view.workers
    ]


def partitions(view: PipelineView) -> list[Row]:
    """One row for each partition, sorted."""
    near_ms = view.freshness.now_ms
    return [
        {
            "Partition": str(row.partition),
            "State": _state(row),
            "Worker": row.worker or words.NONE,
            "Records behind": words.NONE if row.lag is None else words.count(row.lag),
            "Next offset": words.count(row.next_offset),
            "Newest record": _clock(row.newest_ms, near_ms),
            "Complete up to": _clock(row.frontier_ms, near_ms),
        }
        for row in view.partitions
    ]


def _state(row: PartitionRow) -> str:
    if row.reach is Reach.IDLE:
        return "idle: read to its end"
    said = "not read yet" if row.reach is Reach.UNREAD else "read"
    return f"{said}, sets the watermark" if row.holds_back else said


def handing_on(view: PipelineView) -> list[Row]:
    """What leaves the store: to whom, how much waits, and up to where it has gone."""
    journal = view.journal
    head = f"entry {words.count(journal.head)} {journal.hash[:16]}".strip()
    rows: list[Row] = [
        _handed(
            "Transitions, to the log", view.undelivered, f"{words.count(view.transitions)} ever"
        ),
        _handed(f"Journal, to {journal.topic}", journal.unpublished, head),
        _handed(
            f"Dead letters, to {view.dead_letter_topic}",
            0,
            f"{words.count(view.dead_letters)} records, before they were counted",
        ),
    ]
    rows += [
        _handed(
            f"Notices, to {receiver.name}",
            receiver.behind,
            _held_back(receiver) if receiver.is_told else "never told",
        )
        for receiver in view.receivers
    ]
    return rows


def _held_back(receiver: ReceiverRow) -> str:
    if not receiver.waiting:
        return "nothing held back"
    return f"{words.count(receiver.waiting)} held back for their group"


def _handed(what: str, waiting: int, reached: str) -> Row:
    return {"What": what, "Waiting": words.count(waiting), "So far": reached}


def document(view: PipelineView, found: Sequence[Check]) -> dict[str, Any]:
    """The whole page for a machine: instants in ISO 8601, ages in milliseconds."""
    vitals = view.vitals
    return {
        "as_of": _iso(view.freshness.as_of_ms),
        "worker_age_ms": view.freshness.age_ms,
        "watermark": _iso(view.watermark_ms),
        "checks": [
            {"check": check.name, "state": STATES[check.tone or Tone.NEUTRAL], "found": check.said}
            for check in found
        ],
        "workers": [
            {
                "worker": worker.name,
                "alive": not worker.is_gone,
                "age_ms": worker.age_ms,
                "lag": worker.lag,
                "records": worker.records,
                "evaluated_age_ms": worker.evaluated_age_ms,
            }
            for worker in view.workers
        ],
        "partitions": [
            {
                "partition": str(row.partition),
                "state": str(row.reach),
                "worker": row.worker or None,
                "lag": row.lag,
                "next_offset": row.next_offset,
                "newest": _iso(row.newest_ms),
                "complete_up_to": _iso(row.frontier_ms),
            }
            for row in view.partitions
        ],
        "ledger": {
            "predictions": _balance(view.books.predictions),
            "labels": _balance(view.books.labels),
            "gaps": [str(gap) for gap in view.books.gaps],
        },
        "journal": {
            "head": view.journal.head,
            "hash": view.journal.hash,
            "tick": _iso(view.journal.tick_ms),
            "unpublished": view.journal.unpublished,
        },
        "undelivered_transitions": view.undelivered,
        "receivers": [
            {"receiver": each.name, "behind": each.behind, "waiting": each.waiting}
            for each in view.receivers
        ],
        "dead_letters": view.dead_letters,
        "redis": None
        if vitals is None
        else {
            "answer_ms": round(vitals.answer_ms, 3),
            "used_bytes": vitals.server.used_bytes,
            "limit_bytes": vitals.server.limit_bytes,
            "evicted_keys": vitals.server.evicted,
            "maxmemory_policy": vitals.server.policy,
        },
    }


def _balance(side: Balance) -> dict[str, Any]:
    return {
        "received": side.received,
        **side.parts,
        "expired": side.expired,
        "duplicate": side.duplicate,
        "rejected": dict(side.rejected),
        "passed_over": side.passed_over,
        "difference": side.difference,
    }


def _ago(age_ms: int | None) -> str:
    return words.NONE if age_ms is None else f"{words.duration(max(1000, age_ms))} ago"


def _clock(at_ms: int | None, near_ms: int | None) -> str:
    return words.NONE if at_ms is None else words.clock_seconds(at_ms, near_ms=near_ms)


def _iso(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso(at_ms)

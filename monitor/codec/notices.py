"""Notices and transitions as JSON for other systems, and what a receiver was told as text."""

from collections.abc import Mapping

import msgspec

from monitor.codec.snapshots import canonical
from monitor.domain.alerts import Missed, Transition, fingerprint
from monitor.domain.notices import Item, Notice, Told

NOTICE_VERSION = 1
"""Version of the JSON that receivers get; grows with every change that could break one."""


def pack_told(told: Told) -> str:
    """What a receiver was told, as JSON."""
    return msgspec.json.encode(told).decode()


def unpack_told(text: str) -> Told | None:
    """What ``pack_told`` packed; None for "", a receiver that was never told anything."""
    return msgspec.json.decode(text, type=Told) if text else None


def notice_document(notice: Notice) -> bytes:
    """A notice as canonical JSON: instants in milliseconds since the epoch, UTC."""
    return canonical(
        {
            "notice_version": NOTICE_VERSION,
            "id": notice.id,
            "sent_ms": notice.at_ms,
            "severity": notice.severity,
            "title": notice.title,
            "text": notice.text,
            "dashboard_url": notice.dashboard_url,
            "alerts": [_item(item) for item in notice.items],
        }
    )


def transition_document(item: Item) -> bytes:
    """One transition as canonical JSON."""
    return canonical({"notice_version": NOTICE_VERSION, **_transition(item)})


def _item(item: Item) -> Mapping[str, object]:
    began = item.began.id if item.began else None
    return {"news": item.news, "began": began, "text": item.text, **_transition(item)}


def _transition(item: Item) -> Mapping[str, object]:
    transition = item.transition
    return {
        "transition_id": transition.id,
        "fingerprint": fingerprint(transition.alert),
        "severity": item.severity,
        "rule": transition.rule,
        "variant": transition.key.variant,
        "slice": transition.key.slice,
        "version": transition.version,
        "event": transition.event,
        "from": transition.moved_from,
        "to": transition.moved_to,
        "at_ms": transition.at_ms,
        "reason": transition.reason,
        "evidence": _evidence(transition),
        "missed": [_missed(missed) for missed in transition.missed],
        "corrected": transition.corrected,
        "judges": transition.judges or None,
        "runbook": item.runbook,
    }


def _evidence(transition: Transition) -> Mapping[str, object] | None:
    return transition.evidence._asdict() if transition.evidence else None


def _missed(missed: Missed) -> Mapping[str, object]:
    return {
        "prediction_id": missed.prediction_id,
        "event_ms": missed.event_ms,
        "predicted_intent": missed.predicted,
        "true_intent": missed.actual,
    }

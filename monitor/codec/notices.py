"""Notices and transitions as JSON for other systems, and what a receiver was told as text."""

from collections.abc import Collection, Mapping

import msgspec

from monitor.codec.snapshots import canonical
from monitor.domain.alerts import Missed, Transition, fingerprint
from monitor.domain.forgetting import masked, retold
from monitor.domain.notices import Item, Notice, Told

NOTICE_VERSION = 1
"""Version of the JSON that receivers get; grows with every change that could break one."""


def pack_told(told: Told) -> str:
    """What a receiver was told, as JSON."""
    return msgspec.json.encode(told).decode()


def unpack_told(text: str) -> Told | None:
    """What ``pack_told`` packed; None for "", a receiver that was never told anything."""
    return msgspec.json.decode(text, type=Told) if text else None


def without_ids(text: str, ids: Collection[str]) -> str:
    """What ``pack_told`` packed, without these prediction ids; as it was when it has none of them.

    "" stays "". A text that was saved by somebody else, and is nothing of the kind, stays too.
    """
    if not any(key in text for key in map(_as_told, ids)):
        return text
    try:
        told = msgspec.json.decode(text, type=Told)
    except msgspec.MsgspecError:
        return text
    return pack_told(retold(told, lambda each: masked(each, ids.__contains__)))


def _as_told(prediction_id: str) -> str:
    return msgspec.json.encode(prediction_id).decode()


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

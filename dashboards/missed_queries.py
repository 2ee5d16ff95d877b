"""From the store to the page "Missed urgent". No Streamlit, no clock."""

from collections.abc import Iterable, Sequence

from dashboards import history, words
from dashboards.missed_models import Missed, OfAlert
from dashboards.models import Choice
from dashboards.queries import freshness_of, variants_of
from monitor.domain.alerts import AlertKey, Event, Status, Transition, fingerprint
from monitor.domain.engine import Spec
from monitor.domain.events import Intent
from monitor.domain.misses import Miss, cases_of
from monitor.domain.rules import Metric
from monitor.domain.slices import ALL
from monitor.ports import MISSES_KEPT, StateReader


def missed(
    reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int
) -> Missed:
    """What the page shows. Raises StoreError when the store is gone."""
    del recent_ms
    transitions = reader.transitions()
    found, group = reader.misses(), spec.groups.of(choice.of)
    return Missed(
        freshness=freshness_of(reader, now_ms),
        variants=variants_of(reader),
        of=choice.of,
        now_ms=now_ms,
        labelled=reader.ledger().get("predictions.labelled", 0),
        cases=tuple(
            cases_of(
                [miss for miss in found if _concerns(miss, group, choice.variant)],
                reader.actions(),
            )
        ),
        is_full=len(found) >= MISSES_KEPT,
        is_listed=choice.of in spec.groups.members,
        alerts=tuple(_alerts(transitions, spec, choice.of)),
    )


def _alerts(transitions: Sequence[Transition], spec: Spec, of: str) -> list[OfAlert]:
    rules = {rule.name for rule in spec.rules if rule.of == of and rule.metric is Metric.RECALL}
    then, over = history.of(transitions), _over(transitions)
    up = then.up
    found = [
        (alert in up, raised.at_ms, _of_alert(raised, None if alert in up else over.get(alert)))
        for alert, raised in then.raised.items()
        if alert.rule in rules and raised.evidence is not None
    ]
    found.sort(key=lambda each: (each[0], each[1], each[2].id), reverse=True)
    return [alert for _, _, alert in found]


def _over(transitions: Iterable[Transition]) -> dict[AlertKey, int]:
    """When each alert was last over, log time."""
    ends = {Status.OK, Status.NO_DATA}
    return {t.alert: t.at_ms for t in transitions if t.event is Event.MOVED and t.moved_to in ends}


def _of_alert(raised: Transition, until_ms: int | None) -> OfAlert:
    alert, evidence = raised.alert, raised.evidence
    named = [words.one_line(name) for name in alert.key if name != ALL]
    version = [f"version {words.one_line(alert.version)}"] if alert.version else []
    return OfAlert(
        fingerprint(alert),
        ", ".join([*named, *version]) or "all variants",
        alert.key.variant,
        evidence.since_ms if evidence else raised.at_ms,
        until_ms,
    )


def _concerns(miss: Miss, group: frozenset[Intent], variant: str) -> bool:
    is_lost = miss.actual in group and miss.predicted not in group
    return is_lost and variant in {ALL, miss.variant}

"""From the store to the page "Missed urgent". No Streamlit, no clock."""

from dashboards.missed_models import Missed
from dashboards.models import Choice
from dashboards.queries import freshness_of, variants_of
from monitor.domain.engine import Spec
from monitor.domain.events import Intent
from monitor.domain.misses import Miss, cases_of
from monitor.domain.slices import ALL
from monitor.ports import MISSES_KEPT, StateReader


def missed(
    reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int
) -> Missed:
    """What the page shows. Raises StoreError when the store is gone."""
    del recent_ms
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
    )


def _concerns(miss: Miss, group: frozenset[Intent], variant: str) -> bool:
    is_lost = miss.actual in group and miss.predicted not in group
    return is_lost and variant in {ALL, miss.variant}

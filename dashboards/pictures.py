"""What was last read from the store: shared by all viewers, and kept while the store is away.

Reads are cached for all sessions and refreshed behind their backs, so that nobody waits for the
store after the first picture. Banner and cards alone are read while somebody waits: that takes some
hundredths of a second, and a look behind would show them as old as the look before. A failure is an
answer too: it is cached like one, which makes a dead store be asked once in a while and not once
for each viewer.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

import streamlit as st

from dashboards import (
    alerts_queries,
    confusion_queries,
    missed_queries,
    pipeline_queries,
    queries,
    replay_queries,
    source,
    variants_queries,
)
from dashboards.alerts_models import AlertsView
from dashboards.banner import Freshness
from dashboards.confusion_models import Asked, Confused
from dashboards.missed_models import Missed
from dashboards.models import Choice, LabelsView, LiveNow, Trend
from dashboards.pipeline_models import PipelineView
from dashboards.replay_models import Ask, Moments, Replayed
from dashboards.variants_models import Asked as AskedVariants
from dashboards.variants_models import Compared, Judged
from monitor.domain.engine import Spec
from monitor.domain.errors import StoreError
from monitor.domain.slices import ALL
from monitor.domain.windows import DAY_MS
from monitor.ports import StateReader

NOW_S, CHARTS_S, LONG_S, JUDGED_S = 1.5, 4, 20, 60
"""Seconds for which a picture is fresh; Streamlit hands it out for at most as long again.

That is longer than pages wait between two looks, so that no look waits for the store. Long ranges
are read rarely: their points are minutes apart, and a day of panes takes most of a second. So are
verdicts, for which all hours of a month are read.
"""

MOST_KEPT = 64
"""Pictures kept: a variant can be anything that stands in an address."""

MOST_JUDGED = 4
"""Verdicts kept: there is one at a time, and another one while alerts begin or cease to fire."""

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


class Query(Protocol[V_co]):
    """What ``dashboards.queries`` offers."""

    def __call__(
        self, reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int
    ) -> V_co:
        """The view model; raises StoreError when the store is gone."""


@dataclass(frozen=True, slots=True)
class Picture(Generic[V]):
    """The last good view, when it was read (wall time), and why there is no newer one, if so.

    ``asked_ms`` is when a newer one was last asked for, in vain.
    """

    view: V | None = None
    read_ms: int | None = None
    fault: str | None = None
    asked_ms: int | None = None


class _Read(Protocol[V]):
    """A cached look at the store, which can be told to look again."""

    def __call__(self, serial: int, /, *asked: Any) -> Picture[V]:  # noqa: ANN401 - any question
        """The picture for a source and a question."""

    def clear(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the same, or nothing
        """Forget what was read for it."""


def _seen(read: _Read[V], *asked: Hashable) -> Picture[V]:
    """A picture that knows that the store has gone, or come back, since it was read.

    Pictures are read seconds apart, some of them rarely; the pulse is felt every moment.
    """
    serial = source.serial()
    picture, pulse = read(serial, *asked), _pulse(serial)
    if pulse.fault is not None and picture.fault is None:
        return replace(picture, fault=pulse.fault, asked_ms=pulse.asked_ms)
    if pulse.fault is None and picture.fault is not None and _is_old(picture):
        read.clear(serial, *asked)
        return read(serial, *asked)
    return picture


def _is_old(failure: Picture[V]) -> bool:
    """Whether the store came back after this look at it had failed."""
    return (failure.asked_ms or 0) <= _album().back_ms


def now(choice: Choice) -> Picture[LiveNow]:
    """Banner and cards."""
    return _now(source.serial(), replace(choice, span="1h"))


def trend(choice: Choice) -> Picture[Trend]:
    """The charts of the Live page."""
    read = _long_trend if queries.RANGES[choice.span] >= DAY_MS else _trend
    return _seen(read, choice)


def labels(choice: Choice) -> Picture[LabelsView]:
    """The Labels page."""
    read = _long_labels if queries.RANGES[choice.span] >= DAY_MS else _labels
    return _seen(read, choice)


def alerts() -> Picture[AlertsView]:
    """The page "Alerts"."""
    return _seen(_alerts)


def is_down() -> bool:
    """Whether the store did not answer a moment ago; known long before a picture is read again."""
    return _pulse(source.serial()).fault is not None


def forget_alerts() -> None:
    """Read the page "Alerts" anew: somebody has acted."""
    _alerts.clear()


def missed(choice: Choice) -> Picture[Missed]:
    """The page "Missed urgent"; whatever the range."""
    return _seen(_missed, replace(choice, span="3h"))


def missed_anew() -> None:
    """Read the store at the next look: somebody has done something."""
    _missed.clear()


def confused(choice: Choice, asked: Asked) -> Picture[Confused]:
    """The page "Confusion"."""
    read = _long_confused if queries.RANGES[choice.span] >= DAY_MS else _confused
    return _seen(read, choice, asked)


def compared(choice: Choice, asked: AskedVariants) -> Picture[Compared]:
    """The page "Variants"; whatever variant is chosen."""
    read = _long_compared if queries.RANGES[choice.span] >= DAY_MS else _compared
    return _seen(read, replace(choice, variant=ALL), asked)


def moments() -> Picture[Moments]:
    """The instants that can be replayed."""
    return _seen(_moments)


def replayed(choice: Choice, ask: Ask) -> Picture[Replayed]:
    """The page "Replay and audit"."""
    return _seen(_replayed, choice, ask)


def pipeline() -> Picture[PipelineView]:
    """The Pipeline page; it is about all variants."""
    return _pipeline(source.serial())


def variants() -> tuple[str, ...]:
    """The variants seen so far, by whomever of this process's viewers."""
    return _album().variants.get(source.serial(), ())


def note_variants(found: tuple[str, ...]) -> bool:
    """Remember the variants of a picture; whether that changed anything."""
    changed = variants() != found
    _album().variants = {source.serial(): found}
    return changed


@st.cache_data(ttl=NOW_S, show_spinner=False, max_entries=MOST_KEPT)
def _pulse(serial: int) -> Picture[Freshness]:
    """Whether the store answers, by one small read."""
    picture = _take(("pulse", serial), queries.pulse, Choice())
    album = _album()
    if picture.fault is None and album.is_down:
        album.back_ms = picture.read_ms or 0
    album.is_down = picture.fault is not None
    return picture


@st.cache_data(ttl=NOW_S, show_spinner=False, max_entries=MOST_KEPT)
def _now(serial: int, choice: Choice) -> Picture[LiveNow]:
    return _take(("now", serial, choice), queries.live_now, choice)


@st.cache_data(ttl=CHARTS_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _trend(serial: int, choice: Choice) -> Picture[Trend]:
    return _take(("trend", serial, choice), queries.trend, choice)


@st.cache_data(ttl=LONG_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _long_trend(serial: int, choice: Choice) -> Picture[Trend]:
    return _take(("trend", serial, choice), queries.trend, choice)


@st.cache_data(ttl=CHARTS_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _labels(serial: int, choice: Choice) -> Picture[LabelsView]:
    return _take(("labels", serial, choice), queries.labels, choice)


@st.cache_data(ttl=LONG_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _long_labels(serial: int, choice: Choice) -> Picture[LabelsView]:
    return _take(("labels", serial, choice), queries.labels, choice)


@st.cache_data(ttl=NOW_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _alerts(serial: int) -> Picture[AlertsView]:
    return _take(("alerts", serial), alerts_queries.alerts, Choice())


@st.cache_data(ttl=CHARTS_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _missed(serial: int, choice: Choice) -> Picture[Missed]:
    return _take(("missed", serial, choice), missed_queries.missed, choice)


@st.cache_data(ttl=CHARTS_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _confused(serial: int, choice: Choice, asked: Asked) -> Picture[Confused]:
    query = partial(confusion_queries.confused, asked=asked)
    return _take(("confused", serial, choice, asked), query, choice)


@st.cache_data(ttl=LONG_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _long_confused(serial: int, choice: Choice, asked: Asked) -> Picture[Confused]:
    query = partial(confusion_queries.confused, asked=asked)
    return _take(("confused", serial, choice, asked), query, choice)


@st.cache_data(ttl=CHARTS_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _compared(serial: int, choice: Choice, asked: AskedVariants) -> Picture[Compared]:
    return _take(("compared", serial, choice, asked), _variants_query(asked), choice)


@st.cache_data(ttl=LONG_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _long_compared(serial: int, choice: Choice, asked: AskedVariants) -> Picture[Compared]:
    return _take(("compared", serial, choice, asked), _variants_query(asked), choice)


def _variants_query(asked: AskedVariants) -> Query[Compared]:
    def query(
        reader: StateReader, spec: Spec, choice: Choice, *, recent_ms: int, now_ms: int
    ) -> Compared:
        judged = _judged(source.serial(), variants_queries.firing(reader))
        return variants_queries.compared(
            reader, spec, choice, recent_ms=recent_ms, now_ms=now_ms, asked=asked, judged=judged
        )

    return query


@st.cache_data(ttl=JUDGED_S, refresh_mode="background", show_spinner=False, max_entries=MOST_JUDGED)
def _judged(serial: int, firing: tuple[str, ...]) -> Judged:
    """Read anew at once when other alerts fire.

    Raises StoreError when the store is gone: whoever asks caches that, and not for so long.
    """
    del serial, firing
    found = source.current()
    return variants_queries.judged(found.connect(), found.settings)


@st.cache_data(ttl=LONG_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _moments(serial: int) -> Picture[Moments]:
    return _take(("moments", serial), replay_queries.moments, Choice())


@st.cache_data(ttl=LONG_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _replayed(serial: int, choice: Choice, ask: Ask) -> Picture[Replayed]:
    query = partial(replay_queries.replayed, ask=ask, settings=source.current().settings)
    return _take(("replayed", serial, choice, ask), query, choice)


@st.cache_data(ttl=NOW_S, refresh_mode="background", show_spinner=False, max_entries=MOST_KEPT)
def _pipeline(serial: int) -> Picture[PipelineView]:
    found = source.current()
    query = partial(pipeline_queries.pipeline, settings=found.settings, vitals=found.vitals)
    return _take(("pipeline", serial), query, Choice())


@dataclass
class _Album:
    """The last good view and its wall time for each question, the least recently asked first.

    ``is_down`` is whether the store was away at the last pulse; it came back at ``back_ms``.
    """

    pictures: dict[Hashable, tuple[object, int]] = field(default_factory=dict)
    variants: dict[int, tuple[str, ...]] = field(default_factory=dict)
    is_down: bool = False
    back_ms: int = 0


@st.cache_resource
def _album() -> _Album:
    return _Album()


def _take(key: Hashable, query: Query[V], choice: Choice) -> Picture[V]:
    found = source.current()
    now_ms = found.now_ms()
    kept: dict[Hashable, tuple[V, int]] = cast("dict[Hashable, tuple[V, int]]", _album().pictures)
    try:
        reader = found.connect()
        view = query(reader, found.spec, choice, recent_ms=found.recent_ms, now_ms=now_ms)
    except StoreError as error:
        last, read_ms = kept.get(key, (None, None))
        return Picture(last, read_ms, str(error), now_ms)
    kept.pop(key, None)
    kept[key] = (view, now_ms)
    while len(kept) > MOST_KEPT:
        kept.pop(next(iter(kept)), None)
    return Picture(view, now_ms)

"""Opens the store: the only file of the dashboard that does. It is read, but for people's acts.

``current()`` opens what the settings name and keeps it; whoever has a store already, as tests and
replays do, hands it over with ``use()`` before the first page is drawn.
"""

import functools
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from monitor.app.audit import Verification
from monitor.app.replay import OnProgress
from monitor.app.settings import Settings, chosen_file, load_settings
from monitor.app.vitals import StoreVitals, vitals_of
from monitor.app.wiring import in_ms, open_reader, open_store, spec_of
from monitor.domain.engine import Spec
from monitor.domain.misses import Miss
from monitor.domain.overlays import Action
from monitor.domain.windows import MINUTE_MS
from monitor.ports import StateReader


@dataclass(frozen=True, slots=True)
class Source:
    """A store with what is needed to read its numbers. ``recent_ms`` is what "now" spans.

    ``connect`` gives the same reader each time, or raises StoreError. ``now_ms`` is wall time: it
    tells how old the data is, and nothing else. ``settings`` are what the settings of the journal
    are laid over. ``verify`` replays the history of an alert, or of one of its transitions, from
    the log, as ``audit_run.verified`` does; None where there is a store and no log. ``act`` enters
    what a person did, once for each id, or raises StoreError; None where pages only read.
    ``text_of`` reads what somebody wrote, as ``revealing.text_of`` does. ``vitals`` asks how the
    store's server is, or raises StoreError; None where there is no server. ``config`` is the file
    of the settings, None where the environment has them all.
    """

    connect: Callable[[], StateReader]
    spec: Spec
    now_ms: Callable[[], int]
    recent_ms: int = 15 * MINUTE_MS
    settings: Settings = field(default_factory=Settings)
    verify: Callable[[str, OnProgress], Verification] | None = None
    act: Callable[[Action], None] | None = None
    text_of: Callable[[Miss], str | None] | None = None
    vitals: Callable[[], StoreVitals] | None = None
    config: Path | None = None


class _Opened:
    """The one source of this process, with a number that no other source of it ever had."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serials = count(1)
        self._source: Source | None = None
        self._serial = 0

    def put(self, source: Source) -> None:
        with self._lock:
            self._source, self._serial = source, next(self._serials)

    def get(self) -> Source:
        with self._lock:
            if self._source is None:
                self._source, self._serial = _open(), next(self._serials)
            return self._source

    @property
    def serial(self) -> int:
        return self._serial


_opened = _Opened()


def use(source: Source) -> None:
    """Show this source from now on; nothing read from an earlier one is shown any more."""
    _opened.put(source)


def current() -> Source:
    """The source in use; opened from file and environment when there is none.

    Raises SettingsError when the settings are wrong; the next call reads them again.
    """
    return _opened.get()


def serial() -> int:
    """Number of the source in use, 0 before the first; part of every cache key."""
    return _opened.serial


def _open() -> Source:
    settings = load_settings()
    # A cache forgets failures: while the store is away, each call tries again.
    connect = functools.cache(functools.partial(open_reader, settings))
    return Source(
        connect=connect,
        spec=spec_of(settings),
        now_ms=_wall_ms,
        recent_ms=in_ms(settings.windows.recent),
        settings=settings,
        verify=functools.partial(_verified, settings),
        act=functools.partial(_act, settings) if settings.dashboard.identity.is_asked else None,
        text_of=functools.partial(_text_of, settings),
        vitals=lambda: vitals_of(connect()),
        config=chosen_file(),
    )


def _act(settings: Settings, action: Action) -> None:
    # Opened for each act: these are rare, and a store that writes has more rights.
    with closing(open_store(settings)) as store:
        store.act(action)


def _verified(settings: Settings, alert: str, on_progress: OnProgress) -> Verification:
    # Imported by those who prove something alone: archives take long to import.
    from monitor.app.audit_run import Scope, verified  # noqa: PLC0415 - see above

    return verified(settings, Scope(settings.dashboard.archive, alert=alert), on_progress)


def _text_of(settings: Settings, miss: Miss) -> str | None:
    # Imported by those who look at a text alone: archives take long to import.
    from monitor.app.revealing import text_of  # noqa: PLC0415 - see above

    return text_of(settings, miss)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000  # noqa: TID251 - a viewer's clock: how old is what I see?

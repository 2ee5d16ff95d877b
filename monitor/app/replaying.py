"""What ``recallwatch replay`` does: a history through the engine, and what came of it."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from monitor.adapters.checkpoint import load_checkpoint, save_checkpoint, try_checkpoint
from monitor.adapters.files import FilesLog
from monitor.app.audit_report import AsKnown, held_still, write_report
from monitor.app.backtest import NotTriable, backtest, document_of
from monitor.app.flow import uncollected
from monitor.app.history import Place, Where, completed, opened_history, place_of
from monitor.app.replay import History, OnProgress, Replay, replay_to
from monitor.app.report import iso, present_report
from monitor.app.settings import Settings, SettingsError
from monitor.app.settings.candidates import load_candidates
from monitor.app.telemetry import SystemClock
from monitor.app.wiring import open_reader, provenance_of, topics_of
from monitor.domain.alerts import Transition
from monitor.domain.errors import RecallwatchError, StoreError

SAVE_EVERY_MS = 60_000
"""How much work a crash may cost."""

PRESENT = "Are urgent requests being caught?"


class Asked(NamedTuple):
    """Which history, from the command line; places are texts that ``place_of`` reads."""

    files: Path | None = None
    archive: str | None = None
    is_offline: bool = False
    start: str | None = None
    end: str | None = None
    as_of: str | None = None


class Broken(RecallwatchError):  # noqa: N818 - says what happened
    """Somebody broke a replay off."""


class Checkpoint:
    """Saves a replay now and then, and when it is broken off; goes on from what was saved."""

    def __init__(self, path: Path | None, stop: threading.Event) -> None:
        self._path, self._stop = path, stop
        self._clock = SystemClock()
        self._saved_ms = self._clock.now_ms()

    def try_out(self) -> None:
        """CheckpointError when nothing could be saved: better known before the work than after."""
        if self._path is not None:
            try_checkpoint(self._path)

    def attach(self, replay: Replay, purpose: str) -> None:
        """Take over what was saved for the same purpose, and save what comes."""
        path = self._path
        if path is not None and path.exists():
            replay.records = load_checkpoint(path, replay.store, purpose=purpose)
            replay.reopen()

        def look() -> None:
            is_due = self._clock.now_ms() - self._saved_ms >= SAVE_EVERY_MS
            if path is not None and (is_due or self._stop.is_set()):
                save_checkpoint(path, replay.store, purpose=purpose, records=replay.records)
                self._saved_ms = self._clock.now_ms()
            if self._stop.is_set():
                where = "run it again to go on from here" if path else "--checkpoint keeps the work"
                raise Broken(f"stopped after {replay.records:,} records: {where}")

        replay.after_turn = look


def replayed(
    settings: Settings,
    asked: Asked,
    out: Path | None,
    on_progress: OnProgress,
    checkpoint: Checkpoint | None = None,
) -> dict[str, Any]:
    """The report of a history; files are written to ``out`` if it is given.

    With ``asked.as_of`` the report of then stands under ``known_then``. Broken when it was broken
    off, CheckpointError, before anything is read, when nothing could be saved.
    """
    end = _place("--to", asked.end)
    as_of = _known_at(asked.as_of, end)
    if checkpoint is not None:
        checkpoint.try_out()
    then: dict[str, Any] | None = None
    # What waits in the store at the end takes seconds to search for garbage, and there is none.
    with uncollected(), opened(settings, asked, end) as log:
        replay = Replay(log, settings)
        if checkpoint is not None:
            checkpoint.attach(replay, _purpose(settings, asked))
        if as_of.instant_ms is not None:
            log.bound_ms(as_of.instant_ms)
            replay.run(on_progress)
            completed(replay, log, as_of.instant_ms)
            then = present_report(replay.store, settings)
            log.bound_ms(end.instant_ms)
        _read_to(end, log, replay, on_progress)
        now = present_report(replay.store, settings)
        if out is not None:
            known = None if then is None else AsKnown(as_of.instant_ms or 0, then)
            question = _question(settings, now)
            write_report(out, replay.store, settings, question=question, as_known=known)
    if then is not None:
        now["known_then"] = then
    return now


def _read_to(end: Place, log: History, replay: Replay, on_progress: OnProgress) -> None:
    if end.as_of_ms is not None:
        replay_to(end.as_of_ms, log, replay, on_progress)
        return
    replay.run(on_progress)
    completed(replay, log, end.instant_ms)


def _known_at(text: str | None, end: Place) -> Place:
    """What ``--as-of`` names: an instant no later than the end of what is read."""
    as_of = _place("--as-of", text)
    if text is not None and as_of.instant_ms is None:
        raise SettingsError("--as-of: must be a time, such as 2026-11-22T13:00:00Z")
    latest_ms = end.evaluated_ms
    if as_of.instant_ms is not None and latest_ms is not None and as_of.instant_ms > latest_ms:
        raise SettingsError(f"--as-of: {text} is later than --to ({iso(latest_ms)})")
    return as_of


def _purpose(settings: Settings, asked: Asked) -> str:
    """What a checkpoint may be used for: the same settings over the same history."""
    history = repr((provenance_of(settings).document, asked))
    return hashlib.sha256(history.encode()).hexdigest()


def tried(settings: Settings, asked: Asked, rules: Path, on_progress: OnProgress) -> dict[str, Any]:
    """The back-test of a file of rules over a history, beside what was live."""
    candidates = load_candidates(rules, settings)
    live = None if asked.files is not None or asked.is_offline else _live(settings)
    try:
        end = _place("--to", asked.end)
        with opened(settings, asked, end) as log:
            return document_of(
                backtest(
                    log,
                    settings,
                    candidates,
                    live=live,
                    end_ms=end.evaluated_ms,
                    on_progress=on_progress,
                )
            )
    except NotTriable as error:
        raise SettingsError(f"{rules}: {error}") from None


def write_present(settings: Settings, out: Path) -> dict[str, Any]:
    """The three files of the present numbers; the report, of the same moment, is returned."""
    with closing(open_reader(settings)) as reader:
        still = held_still(reader, settings)
        report = present_report(still, settings)
        write_report(out, still, settings, question=_question(settings, report))
    return report


def _live(settings: Settings) -> list[Transition] | None:
    """What was raised, if there is a store that knows."""
    try:
        with closing(open_reader(settings)) as reader:
            return reader.transitions()
    except StoreError:
        return None


@contextmanager
def opened(settings: Settings, asked: Asked, end: Place) -> Iterator[History]:
    """The history that was asked for, up to ``end``; SettingsError for a place it does not have."""
    if asked.files is not None:
        with closing(FilesLog(asked.files, topics_of(settings))) as files:
            if end.offsets is not None:
                raise SettingsError("--to: captured records are read up to a time, not an offset")
            files.bound_ms(end.instant_ms)
            yield files
        return
    start = _place("--from", asked.start)
    with opened_history(settings, Where(asked.archive, asked.is_offline, start, end)) as log:
        yield log


def _place(option: str, text: str | None) -> Place:
    if text is None:
        return Place()
    try:
        return place_of(text)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from None


def _question(settings: Settings, numbers: Mapping[str, Any]) -> str:
    watched = ", ".join(dict.fromkeys(rule.of for rule in settings.rules if rule.of))
    until = numbers["as_of"] or iso(0)
    return f"Were {watched} requests caught, up to {until}?" if watched else PRESENT

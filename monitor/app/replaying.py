"""What ``recallwatch replay`` does: a history through the engine, and what came of it."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from monitor.adapters.files import FilesLog
from monitor.app.audit_report import AsKnown, write_report
from monitor.app.backtest import NotTriable, backtest, document_of
from monitor.app.flow import uncollected
from monitor.app.history import Place, Where, opened_history, place_of
from monitor.app.replay import History, OnProgress, Replay
from monitor.app.report import iso, present_report
from monitor.app.settings import Settings, SettingsError
from monitor.app.settings.candidates import load_candidates
from monitor.app.wiring import open_reader, topics_of
from monitor.domain.alerts import Transition
from monitor.domain.errors import StoreError

PRESENT = "Are urgent requests being caught?"


class Asked(NamedTuple):
    """Which history, from the command line; places are texts that ``place_of`` reads."""

    files: Path | None = None
    archive: str | None = None
    is_offline: bool = False
    start: str | None = None
    end: str | None = None
    as_of: str | None = None


def replayed(
    settings: Settings, asked: Asked, out: Path | None, on_progress: OnProgress
) -> dict[str, Any]:
    """The report of a history; files are written to ``out`` if it is given.

    With ``asked.as_of`` the report of then stands under ``known_then``.
    """
    end, as_of = _place("--to", asked.end), _place("--as-of", asked.as_of)
    if asked.as_of is not None and as_of.instant_ms is None:
        raise SettingsError("--as-of: must be a time, such as 2026-11-22T13:00:00Z")
    then: dict[str, Any] | None = None
    # What waits in the store at the end takes seconds to search for garbage, and there is none.
    with uncollected(), _opened(settings, asked, end) as log:
        replay = Replay(log, settings)
        if as_of.instant_ms is not None:
            log.bound_ms(as_of.instant_ms)
            replay.run(on_progress)
            replay.flow.evaluate(as_of.instant_ms)
            then = present_report(replay.store, settings)
            log.bound_ms(end.instant_ms)
        replay.run(on_progress)
        if end.instant_ms is None:
            replay.finish()
        else:
            replay.flow.evaluate(end.instant_ms)
        now = present_report(replay.store, settings)
        if out is not None:
            known = None if then is None else AsKnown(as_of.instant_ms or 0, then)
            question = _question(settings, now)
            write_report(out, replay.store, settings, question=question, as_known=known)
    if then is not None:
        now["known_then"] = then
    return now


def tried(settings: Settings, asked: Asked, rules: Path, on_progress: OnProgress) -> dict[str, Any]:
    """The back-test of a file of rules over a history, beside what was live."""
    candidates = load_candidates(rules, settings)
    live = None if asked.files is not None or asked.is_offline else _live(settings)
    try:
        with _opened(settings, asked, _place("--to", asked.end)) as log:
            return document_of(
                backtest(log, settings, candidates, live=live, on_progress=on_progress)
            )
    except NotTriable as error:
        raise SettingsError(f"{rules}: {error}") from None


def write_present(settings: Settings, out: Path) -> None:
    """The three files of the present numbers."""
    with closing(open_reader(settings)) as reader:
        question = _question(settings, present_report(reader, settings))
        write_report(out, reader, settings, question=question)


def _live(settings: Settings) -> list[Transition] | None:
    """What was raised, if there is a store that knows."""
    try:
        with closing(open_reader(settings)) as reader:
            return reader.transitions()
    except StoreError:
        return None


@contextmanager
def _opened(settings: Settings, asked: Asked, end: Place) -> Iterator[History]:
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

"""What people see on the terminal: progress of long work, and the report as text.

Standard output carries the answer (text or JSON), standard error everything else.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from monitor.app.telemetry import SystemClock, printable
from monitor.domain.events import Kind
from monitor.domain.sampling import in_words

PLAIN_EVERY_MS = 5_000
"""Off a terminal one line of progress in this many milliseconds, so that logs stay short."""

WIDE = 160
"""Columns of a report that does not go to a terminal."""


class Meter(Protocol):
    """Told how much is done; ``left`` records are still to come, None when unknown."""

    def __call__(self, done: int, left: int | None = None) -> None:
        """Show it."""


@contextmanager
def progress_of(what: str) -> Iterator[Meter]:
    """A progress bar on a terminal, a plain line now and then elsewhere; a last line at the end."""
    console = Console(stderr=True)
    clock = SystemClock()
    started = clock.now_ms()
    done_last = 0

    def per_second(done: int) -> float:
        return done / max(0.001, (clock.now_ms() - started) / 1000)

    def rate(done: int) -> str:
        return f"{done:,} records, {per_second(done):,.0f}/s"

    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=None)

            def draw(done: int, left: int | None = None) -> None:
                nonlocal done_last
                done_last = done
                total = None if left is None else done + left
                bar.update(task, description=f"{what}: {rate(done)}", completed=done, total=total)

            yield draw
    else:
        shown_ms = started

        def write(done: int, left: int | None = None) -> None:
            nonlocal shown_ms, done_last
            done_last = done
            if clock.now_ms() - shown_ms >= PLAIN_EVERY_MS:
                shown_ms = clock.now_ms()
                rest = "" if left is None else f", {left:,} to go{_in(left, per_second(done))}"
                print(f"{what}: {rate(done)}{rest}", file=sys.stderr, flush=True)

        yield write
    print(f"{what}: {rate(done_last)}, done", file=sys.stderr, flush=True)


def _in(left: int, per_second: float) -> str:
    """How long the rest will take at this rate, in whole minutes and seconds.

    >>> _in(90_000, 1_000.0), _in(500, 1_000.0), _in(1, 0.0)
    (', about 1 min 30 s', ', about 1 s', '')
    """
    if not left or not per_second:
        return ""
    minutes, seconds = divmod(math.ceil(left / per_second), 60)
    return f", about {minutes} min {seconds} s" if minutes else f", about {seconds} s"


def note(text: str) -> None:
    """One line for the person at the terminal, on standard error."""
    print(text, file=sys.stderr, flush=True)


def dump(value: object) -> str:
    """Indented JSON; NaN is an error."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def print_json(value: object) -> None:
    """The answer as JSON on standard output."""
    print(dump(value), flush=True)


def print_report(report: Mapping[str, Any], *, width: int | None = None) -> None:
    """The report as tables: ledger with what was lost, variants, urgent groups, alerts.

    Names come from messages: they are shown as they are, and folded rather than cut.
    """
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    if width is None and not console.is_terminal:
        console.width = WIDE
    console.print(f"As of {report['as_of'] or 'no record yet'}   {report['digest']}")
    if sampled := in_words(report["sampling"]):
        console.print(sampled)
    for line in _standing(report["transitions"]):
        console.print(printable(line))
    verdicts, judged = _judged(report)
    console.print(f"All numbers are since the namespace was created; the verdict {judged}.")
    console.print(_ledger_table(report["ledger"]))
    for gap in report["ledger"]["gaps"]:
        console.print(printable(_lost(gap)), style="bold red")
    console.print(_variants_table(report["variants"], verdicts))
    console.print(_groups_table(report["variants"]))
    console.print(_reasons_table(verdicts))
    if report["comparisons"]["variants"]:
        console.print(_comparisons_table(report["comparisons"]))
        for watched in report["comparisons"]["watched"]:
            console.print(printable(_watched(watched)))
    console.print(_alerts_table(report["transitions"]))
    if "known_then" in report:
        _print_then(console, report["known_then"], report)


def _print_then(console: Console, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """What was known at an earlier instant beside what is known now, and the alerts of then."""
    console.print(f"Known then, as of {then['as_of'] or 'no record yet'}   {then['digest']}")
    console.print(_compared_table(then["variants"], now["variants"]))
    console.print(_rules_table(then["transitions"], now["transitions"]))
    lines = list(_standing(then["transitions"]))
    for line in lines or ["No alert stood then."]:
        console.print(printable(f"then: {line}" if lines else line))


def share(value: float | None) -> str:
    """A proportion for people; a dash where it is unknown.

    >>> share(0.12), share(None)
    ('12.0 %', '-')
    """
    return "-" if value is None else f"{value * 100:.1f} %"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*map(printable, cells))


def _ledger_table(ledger: Mapping[str, Any]) -> Table:
    table = _table("Ledger", "", "received", "=")
    for kind in Kind:
        side = ledger[kind]
        waiting = (
            ("labelled", "pending")
            if kind is Kind.PREDICTIONS
            else ("applied", "superseded", "orphan")
        )
        parts = {name: side[name] for name in (*waiting, "expired", "duplicate")}
        parts["rejected"] = sum(side["rejected"].values())
        if side["passed_over"]:
            parts["passed over"] = side["passed_over"]
        equation = " + ".join(f"{count} {name}" for name, count in parts.items())
        _add(table, kind, str(side["received"]), equation)
        for reason, count in side["rejected"].items():
            _add(table, "", "", f"rejected {reason}: {count}")
    return table


def _lost(gap: Mapping[str, Any]) -> str:
    offsets = f"{gap['partition']}@{gap['from']}-{gap['to'] - 1}"
    return f"records lost: {offsets}, dropped by the log before they were counted"


def _judged(report: Mapping[str, Any]) -> tuple[dict[str, Mapping[str, Any]], str]:
    """Variant -> its verdict, and what that is on.

    It is that of the window, in which alerts that fire count; a report of one moment, such as that
    of a replay, may have none, and judges all. All variants together are judged by neither.
    """
    if "verdicts" not in report:
        every = {name: section["verdict"] for name, section in report["variants"].items()}
        return every, "is on all of them"
    window = report["verdicts"]["window"]
    found = dict(report["verdicts"]["variants"])
    said = f"is on {window['from']} to {window['to']}, as that of recallwatch verdict, which says"
    return found, f"{said} more"


def _variants_table(
    variants: Mapping[str, Mapping[str, Any]], verdicts: Mapping[str, Mapping[str, Any]]
) -> Table:
    table = _table(
        "Variants",
        "variant",
        "predictions",
        "labelled",
        "coverage",
        "accuracy",
        "balanced",
        "macro F1",
        "latency p95",
        "verdict",
    )
    for name, section in variants.items():
        latency = section["latency_ms"]["p95"]
        _add(
            table,
            name,
            str(section["predictions"]),
            str(section["labelled"]),
            share(section["coverage"]),
            share(section["accuracy"]),
            share(section["balanced_accuracy"]),
            share(section["macro_f1"]),
            "-" if latency is None else f"{latency:.0f} ms",
            verdicts[name]["answer"].replace("_", " ") if name in verdicts else "-",
        )
    return table


def _groups_table(variants: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table(
        "Groups",
        "variant",
        "group",
        "recall",
        "95 % interval",
        "hits of",
        "precision",
        "exact recall",
    )
    for name, section in variants.items():
        for group, scores in section["groups"].items():
            bounds = scores["interval"]
            _add(
                table,
                name,
                group,
                share(scores["recall"]),
                "-" if bounds is None else f"{share(bounds[0])} to {share(bounds[1])}",
                f"{scores['hits']} of {scores['support']}",
                share(scores["precision"]),
                share(scores["exact_recall"]),
            )
    return table


def _comparisons_table(comparisons: Mapping[str, Any]) -> Table:
    table = _table(
        "Comparisons",
        "variants",
        "measure",
        "difference",
        "95 % interval",
        "n",
        "method",
        "finding",
    )
    for pair in comparisons["variants"]:
        for row in pair["measures"]:
            told, bounds = difference_of(row["name"]), row["interval"]
            n = str(row["n"]) if row["method"] == "paired" else f"{row['n']} and {row['other_n']}"
            since = f", claimed {row['claimed']}" if row["claimed"] else ""
            _add(
                table,
                f"{pair['one']} minus {pair['other']}",
                row["name"],
                "-" if row["difference"] is None else told(row["difference"]),
                "-" if bounds is None else f"{told(bounds[0])} to {told(bounds[1])}",
                n,
                f"{row['method']}, {row['holds_at']}{_versions(row['versions'])}",
                f"{row['finding']}{since}",
            )
    return table


def _versions(versions: list[str | None] | None) -> str:
    named = [version for version in versions or () if version]
    return f" ({' and '.join(named)})" if named else ""


def difference_of(measure: str) -> Callable[[float], str]:
    """How a difference in a measure is written: in points of percent, ms, or as it is.

    >>> difference_of("accuracy")(0.1234), difference_of("latency p95")(-12.3)
    ('+12.3 points', '-12 ms')
    """
    if measure.startswith("latency "):
        return "{:+.0f} ms".format
    if measure == "relevance":
        return "{:+.3f}".format
    return lambda value: f"{value * 100:+.1f} points"


def _watched(watched: Mapping[str, Any]) -> str:
    """One line on what a comparison has counted."""
    pairs = sum(pair["n"] for pair in watched["pairs"])
    rest = ", ".join(
        f"{watched[name]} {name}"
        for name in ("waiting", "unpaired", "repeated", "related", "corrected")
    )
    return f"Comparison {watched['name']}: {pairs} pairs; of the other answers {rest}."


def _standing(transitions: list[Mapping[str, Any]]) -> Iterator[str]:
    """One line for each alert that warns, fires or recovers now."""
    moves = [row for row in transitions if row["event"] == "moved"]
    last = {(row["rule"], row["variant"], row["slice"], row["version"]): row for row in moves}
    for row in last.values():
        if row["to"] in {"warning", "firing", "recovering"}:
            names = [row["variant"], row["slice"], row["version"]]
            whose = " ".join([names[0], *(name for name in names[1:] if name not in {"", "ALL"})])
            said = f"{row['to'].upper()} {row['rule']} for {whose}"
            yield f"{said} since {row['at']}: {row['reason']}"


def _compared_table(
    then: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> Table:
    """A variant that was not known then has dashes there."""
    table = _table("Then beside now", "variant", "what", "then", "now")
    for name in {**now, **then}:
        was, is_now = _measures(then.get(name)), _measures(now.get(name))
        for what in {**was, **is_now}:
            _add(table, name, what, was.get(what, "-"), is_now.get(what, "-"))
    return table


def _measures(section: Mapping[str, Any] | None) -> dict[str, str]:
    if section is None:
        return {}
    recalls = {
        f"recall of {group}": f"{share(scores['recall'])} ({scores['hits']} of {scores['support']})"
        for group, scores in section["groups"].items()
    }
    return {
        "predictions": str(section["predictions"]),
        "labelled": str(section["labelled"]),
        "coverage": share(section["coverage"]),
        "accuracy": share(section["accuracy"]),
        **recalls,
    }


def _rules_table(then: list[Mapping[str, Any]], now: list[Mapping[str, Any]]) -> Table:
    table = _table("Rules, then beside now", "rule", "variant", "slice", "version", "then", "now")
    was, is_now = _states(then), _states(now)
    for key in {**was, **is_now}:
        _add(table, *key, was.get(key, "-"), is_now.get(key, "-"))
    return table


def _states(transitions: list[Mapping[str, Any]]) -> dict[tuple[str, ...], str]:
    """Where each alert stood at the end."""
    return {
        (
            row["rule"],
            row["variant"],
            row["slice"],
            row["version"],
        ): f"{row['to']} since {row['at']}"
        for row in transitions
        if row["event"] == "moved"
    }


def _reasons_table(verdicts: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("Verdict: what is not met", "variant", "verdict", "why")
    for name, verdict in verdicts.items():
        for reason in verdict["reasons"]:
            if reason["finding"] != "met":
                _add(table, name, verdict["answer"].replace("_", " "), reason["text"])
    return table


def _alerts_table(transitions: list[Mapping[str, Any]]) -> Table:
    table = _table(
        "Alerts",
        "at (UTC)",
        "rule",
        "variant",
        "slice",
        "version",
        "from",
        "to",
        "why",
    )
    for row in transitions:
        to = row["to"] if row["event"] == "moved" else row["event"]
        names = ("at", "rule", "variant", "slice", "version", "from")
        _add(table, *(str(row[name]) for name in names), str(to), str(row["reason"]))
    return table

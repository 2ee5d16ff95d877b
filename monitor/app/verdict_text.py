"""The verdict for people: on the terminal, and as a model card in Markdown.

Both are written from the JSON of ``verdict_document``, so they say nothing that does not stand in
it. Names come from messages: on the terminal they are made printable, in Markdown escaped.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from monitor import __version__
from monitor.domain.sampling import in_words

Document = Mapping[str, Any]

ANSWERS = {
    "fit": "FIT",
    "not_fit": "NOT FIT",
    "not_enough_evidence": "NOT ENOUGH EVIDENCE",
}
HOURS_A_DAY = 24
_MARKS = {"met": "ok  ", "missed": "FAIL", "open": "?   "}
_BINARY = ("true_positives", "false_negatives", "false_positives", "true_negatives")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


def lines_of(document: Document, variants: list[str]) -> Iterator[str]:
    """The answer as text: verdict, reasons, since when and traps of each variant, then advice."""
    window = document["window"]
    yield f"Judged: {_span(window)}. As of {document['as_of'] or 'no record yet'}."
    if sampled := in_words(document["sampling"]):
        yield sampled
    for name in variants:
        yield ""
        yield from _variant_lines(name, document["variants"][name])
    if binary := document.get("binary"):
        yield ""
        yield from _binary_lines(binary, variants)
    yield ""
    yield f"Advice: {document['advice']['text']}"
    yield from (f"  - {step['text']}" for step in document["advice"]["steps"])


def _span(window: Document) -> str:
    """The window in words.

    >>> _span({"from": "2026-03-02T00:00:00.000Z", "to": "2026-03-02T05:00:00.000Z", "hours": 5})
    '5 hours, 2026-03-02T00:00Z to 2026-03-02T05:00Z'
    """
    hours = window["hours"]
    bounds = f"{_minute(window['from'])} to {_minute(window['to'])}"
    if hours is None:
        return f"every hour that is kept, {bounds}"
    days = hours // HOURS_A_DAY
    length = f"{days} days" if days > 1 and not hours % HOURS_A_DAY else f"{hours} hours"
    return f"{length}, {bounds}"


def _minute(instant: str | None) -> str:
    return "-" if instant is None else f"{instant[:16]}Z"


def _variant_lines(name: str, section: Document) -> Iterator[str]:
    yield f"{name}: {ANSWERS[section['answer']]}{_since(section)}"
    if not section["is_present"]:
        yield "  It answered nothing in this window."
        return
    yield f"  {_made(section)}"
    traps = {trap["name"] for trap in section["traps"]}
    for reason in section["reasons"]:
        if reason["name"] not in traps:
            yield f"  {_MARKS[reason['finding']]}  {reason['text']}"
    for trap in section["traps"]:
        sign = (
            "FAIL" if trap["sign"] == "found" else "ok  " if trap["sign"] != "unknown" else "?   "
        )
        yield f"  {sign}  trap {trap['name']}: {trap['text']}"
    if len(section["history"]) > 1:
        yield "  History, by full hours, with the labels known now:"
        for change in section["history"]:
            yield f"    {_minute(change['at'])}  {_changed(change)}"


def _since(section: Document) -> str:
    history = section["history"]
    if not history or history[-1]["answer"] != section["answer"]:
        return ""
    since = f" since {_minute(history[-1]['at'])}"
    before = [change for change in history[:-1] if change["answer"] == "fit"]
    if section["answer"] == "fit" or not before:
        return since
    after = history[history.index(before[-1]) + 1]
    return f"{since}; last fit {_minute(before[-1]['at'])} to {_minute(after['at'])}"


def _changed(change: Document) -> str:
    deciding = "missed" if change["answer"] == "not_fit" else "open"
    reasons = [reason["text"] for reason in change["reasons"] if reason["finding"] == deciding]
    said = ANSWERS[change["answer"]].lower()
    return f"{said}: {reasons[0]}" if reasons else said


def _made(section: Document) -> str:
    approach = section["approach"]
    told = "" if section["approach_is_declared"] or approach is None else " (by its name)"
    made = "approach not declared" if approach is None else f"{approach.replace('_', '-')}{told}"
    cost = section["cost_per_1000"]
    price = "cost not declared" if cost is None else f"{cost:g} for 1,000 answers"
    coverage = section["coverage"]
    known = "" if coverage is None else f" ({coverage:.1%})"
    return (
        f"{made}, {price}; {section['labelled']:,} labels of {section['predictions']:,} "
        f"predictions{known}"
    )


def _binary_lines(binary: Document, variants: list[str]) -> Iterator[str]:
    yield f"{binary['of']} against the rest:"
    for name in variants:
        row = binary["variants"][name]
        matrix = ", ".join(f"{_initials(part)} {row[part]:,}" for part in _BINARY)
        scores = ", ".join(
            f"{part} {_share(row[part], 4)}" for part in ("accuracy", "precision", "recall", "f1")
        )
        yield f"  {name}: {matrix}; {scores}"


def _initials(name: str) -> str:
    """The letters by which a cell is known.

    >>> _initials("true_positives")
    'TP'
    """
    return "".join(part[0] for part in name.split("_")).upper()


def _share(value: float | None, digits: int = 3) -> str:
    return "unknown" if value is None else f"{value:.{digits}f}"


def card_of(document: Document, variants: list[str]) -> str:
    """The model card: what it is, where its numbers come from, what they say and do not say."""
    parts = [*_head(document)]
    for name in variants:
        parts += _card_of_variant(name, document["variants"][name])
    if binary := document.get("binary"):
        parts += _binary_card(binary, variants)
    parts += _tail(document)
    return "\n".join(parts) + "\n"


def _head(document: Document) -> Iterator[str]:
    yield "# Model card: chatbot intent classification"
    yield ""
    yield f"Written by Recallwatch {__version__} from live predictions and the labels that came."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| Judged | {_span(document['window'])} |"
    yield f"| As of | {document['as_of'] or 'no record yet'} |"
    yield f"| Digest | `{document['digest'] or 'none: the store changed all the time'}` |"
    if sampled := in_words(document["sampling"]):
        yield f"| Sampling | {sampled} |"
    cut = ", ".join(f"{name}@{offset}" for name, offset in document["cut"].items())
    yield f"| Cut: next offsets | {_md(cut) or 'nothing was read'} |"
    yield f"| Settings | `{document['settings']}` |"
    yield f"| Overall | **{ANSWERS[document['answer']].lower()}** |"
    yield f"| Advice | {_md(document['advice']['text'])} |"


def _card_of_variant(name: str, section: Document) -> Iterator[str]:
    yield ""
    yield f"## {_md(name)}: {ANSWERS[section['answer']].lower()}{_since(section)}"
    yield ""
    yield f"{_md(_made(section))}."
    for kind in ("model_version", "prompt_version"):
        names = [s.removeprefix(f"{kind}=") for s in section["slices"] if s.startswith(f"{kind}=")]
        said = ", ".join(map(_md, names)) or f"unknown: add {_md(kind)} to the slices"
        yield f"{_md(kind)}: {said}."
    yield from _table("Verdict", ("limit", "stands", "why"), _reason_rows(section))
    yield from _table("Traps", ("trap", "", "why"), _trap_rows(section))
    yield from _table("Metrics", ("metric", "value", "95 % interval", "n"), _metric_rows(section))
    yield from _table(
        "Slices", ("slice", "predictions", "accuracy", "recall of", "verdict"), _slices(section)
    )
    yield from _table("History", ("from", "verdict"), _history(section))


def _reason_rows(section: Document) -> Iterator[tuple[str, ...]]:
    for reason in section["reasons"]:
        yield reason["name"], reason["finding"], reason["text"]


def _trap_rows(section: Document) -> Iterator[tuple[str, ...]]:
    for trap in section["traps"]:
        yield trap["name"], trap["sign"], trap["text"]


def _metric_rows(section: Document) -> Iterator[tuple[str, ...]]:
    for row in section["metrics"]:
        name = f"{row['name']} of {row['of']}" if row["of"] else row["name"]
        is_ms = row["unit"] == "ms"
        value = _number(row["value"], is_ms)
        bounds = row["interval"]
        interval = " to ".join(_number(b, is_ms) for b in bounds) if bounds else "unknown"
        yield name, value, interval, f"{row['n']:,}"


def _number(value: float | None, is_ms: bool) -> str:
    if value is None:
        return "unknown"
    return f"{value:.0f} ms" if is_ms else f"{value:.3f}"


def _slices(section: Document) -> Iterator[tuple[str, ...]]:
    for name, row in section["slices"].items():
        recalls = [f"{group} {_scored(score)}" for group, score in row["recall"].items()]
        answer = ANSWERS[row["answer"]].lower()
        scores = _scored(row["accuracy"]), ", ".join(recalls)
        yield name, f"{row['predictions']:,}", *scores, answer


def _scored(score: Document) -> str:
    if score["interval"] is None:
        return "unknown (n=0)"
    low, high = score["interval"]
    return f"{score['value']:.3f} ({low:.3f} to {high:.3f}, n={score['support']:,})"


def _history(section: Document) -> Iterator[tuple[str, ...]]:
    for change in section["history"]:
        yield _minute(change["at"]), _changed(change)


def _binary_card(binary: Document, variants: list[str]) -> Iterator[str]:
    rows = [(name, *(str(binary["variants"][name][part]) for part in _BINARY)) for name in variants]
    title = f"{binary['of']} against the rest"
    yield from _table(title, ("variant", *map(_initials, _BINARY)), rows)


def _tail(document: Document) -> Iterator[str]:
    yield ""
    yield "## What to do next"
    yield ""
    steps = document["advice"]["steps"]
    yield from (f"- {_md(step['text'])}" for step in steps)
    if not steps:
        yield "- Nothing is known yet."
    yield ""
    yield "## What these numbers do not say"
    yield ""
    yield "- Recall is recall among *labelled* messages: misses that nobody labels are not in it."
    yield "- Labels that are still to come are taken to be like those that are in."
    yield "- Messages of one conversation count as independent: the true intervals may be wider."
    yield "- Every interval is one at 95 % by itself, for one look at a moment chosen beforehand."
    unknown = [
        f"{_md(name)}: {trap['name']} ({_md(trap['text'])})"
        for name, section in document["variants"].items()
        for trap in section["traps"]
        if trap["sign"] == "unknown"
    ]
    yield from (f"- Unknown of {line}" for line in unknown)
    yield ""
    yield "## How to prove them"
    yield ""
    yield (
        "`recallwatch replay` of the same records, up to the cut above and with the same settings, "
        "gives the same digest."
    )


def _table(title: str, columns: tuple[str, ...], rows: object) -> Iterator[str]:
    yield ""
    yield f"### {_md(title)}"
    yield ""
    found = [*rows] if isinstance(rows, Iterator | list) else []
    if not found:
        yield "None."
        return
    yield _row(columns)
    yield _row(("---",) * len(columns), escape=False)
    yield from (_row(row) for row in found)


def _row(cells: tuple[str, ...], *, escape: bool = True) -> str:
    return f"| {' | '.join(_md(cell) if escape else cell for cell in cells)} |"


def _md(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> _md("a|b\n_c_")
    'a\\|b \\_c\\_'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))

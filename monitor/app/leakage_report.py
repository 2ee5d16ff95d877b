"""What was found of data leakage: as JSON, back from JSON, and as text.

The JSON is what ``recallwatch verdict`` reads. A value without data is null, never 0; group metrics
count outcomes by their actual intent.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monitor.app.console import share
from monitor.app.leakage import Example, Leakage, Live
from monitor.app.settings import SettingsError
from monitor.domain.leakage import Finding, LeakageCheck, LeakedShare, Metrics
from monitor.domain.likeness import SHINGLE_CHARS
from monitor.domain.scores import ClassScores, Score, proportion

LEAKAGE_VERSION = 1

_HEADLINES = {
    Finding.ABOVE: "LEAKED: the share of known texts is above the limit",
    Finding.WITHIN: "Within the limit",
    Finding.OPEN: "Not enough evidence",
}


def document_of(found: Leakage) -> dict[str, object]:
    """The answer as JSON has it."""
    library, training = found.library, found.library.training
    near = library.near
    return {
        "version": LEAKAGE_VERSION,
        "answer": found.answer,
        "limit": found.asked.limit,
        "training": {
            "files": [path.name for path in training.files],
            "texts": library.read,
            "distinct": len(library),
            "too_short": library.too_short,
            "digest": library.digest,
        },
        "method": {
            "hash": training.hashing.scheme,
            "hashed": training.hashing.form,
            "least_words": training.least_words,
            "near": near
            and {
                "shingle_chars": SHINGLE_CHARS,
                "threshold": near.threshold,
                "bands": near.bands,
                "rows": near.rows,
            },
        },
        "live": {
            "with_text": found.live.with_text,
            "hash_only": found.live.hash_only,
            "neither": found.live.neither,
            "unusable_hash": found.live.unusable,
            "disagreeing_hash": found.live.disagreeing,
        },
        "variants": {check.variant: _section(check) for check in found.checks},
        "examples": [_example(example) for example in found.examples],
    }


def load_checks(path: Path) -> dict[str, LeakageCheck]:
    """Variant -> its check, ALL among them, from a file that ``recallwatch leakage`` wrote.

    SettingsError when it is none, or one of another version.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
        version = document["version"]
        if version != LEAKAGE_VERSION:
            raise SettingsError(
                f"{path}: version {version}, this release reads {LEAKAGE_VERSION}; write it anew "
                "with recallwatch leakage --out"
            )
        sections = document["variants"].items()
        return {variant: _check_in(variant, section) for variant, section in sections}
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path}: not written by recallwatch leakage --out ({type(error).__name__}: {error})"
        ) from None


def lines_of(found: Leakage) -> Iterator[str]:
    """The answer as text."""
    library, training = found.library, found.library.training
    yield f"{_HEADLINES[found.answer]} ({share(found.asked.limit)})."
    yield (
        f"Training: {library.read:,} texts, {len(library):,} different, {library.too_short:,} left "
        f"out (fewer than {training.least_words} words)."
    )
    yield (
        f"Exact: {training.hashing.scheme} of the {training.hashing.form} text. Near: "
        + ("not looked for." if library.near is None else f"from {library.near.threshold} on.")
    )
    yield from _live_lines(found.live)
    for check in found.checks:
        yield ""
        yield from _check_lines(check)
    if found.examples:
        yield ""
        yield "Examples, the earliest first:"
        for example in found.examples:
            yield from _example_lines(example)


def _section(check: LeakageCheck) -> dict[str, object]:
    return {
        "finding": check.finding,
        "text": check.text,
        "limit": check.limit,
        "leaked": _leaked(check.share),
        "groups": {name: _leaked(of_group) for name, of_group in check.groups.items()},
        "metrics": {
            "all": _scores(check.all),
            "leaked": _scores(check.leaked),
            "without_leaked": _scores(check.without),
        },
    }


def _leaked(found: LeakedShare) -> dict[str, object]:
    return {
        "exact": found.copies,
        "near": found.near,
        "open": found.open,
        "n": found.n,
        "share": found.value,
        "interval": found.interval,
    }


def _scores(metrics: Metrics) -> dict[str, object]:
    return {
        "accuracy": _score(metrics.accuracy),
        "groups": {
            name: {
                "hits": scores.hits,
                "recall": _score(scores.recall),
                "precision": _score(scores.precision),
                "f1": scores.f1,
            }
            for name, scores in metrics.groups.items()
        },
    }


def _score(score: Score) -> dict[str, object]:
    return {"value": score.value, "n": score.support, "interval": score.interval}


def _example(example: Example) -> dict[str, object]:
    row: dict[str, object] = {
        "prediction_id": example.prediction_id,
        "position": example.position,
        "variant": example.variant,
        "kind": example.kinship,
        "similarity": round(example.similarity, 4),
        "training": example.training,
    }
    texts = {"text": example.text, "training_text": example.training_text}
    return {**row, **{name: text for name, text in texts.items() if text is not None}}


def _check_in(variant: str, section: Mapping[str, Any]) -> LeakageCheck:
    metrics = section["metrics"]
    return LeakageCheck(
        variant=variant,
        finding=Finding(section["finding"]),
        text=str(section["text"]),
        limit=float(section["limit"]),
        share=_leaked_in(section["leaked"]),
        groups={name: _leaked_in(row) for name, row in section["groups"].items()},
        all=_metrics_in(metrics["all"]),
        leaked=_metrics_in(metrics["leaked"]),
        without=_metrics_in(metrics["without_leaked"]),
    )


def _leaked_in(row: Mapping[str, Any]) -> LeakedShare:
    return LeakedShare(
        int(row["exact"]),
        None if row["near"] is None else int(row["near"]),
        int(row["open"]),
        int(row["n"]),
        None if row["share"] is None else float(row["share"]),
        _interval_in(row),
    )


def _metrics_in(row: Mapping[str, Any]) -> Metrics:
    return Metrics(
        _score_in(row["accuracy"]),
        {
            name: ClassScores(
                int(scores["hits"]),
                _score_in(scores["recall"]),
                _score_in(scores["precision"]),
                None if scores["f1"] is None else float(scores["f1"]),
            )
            for name, scores in row["groups"].items()
        },
    )


def _score_in(row: Mapping[str, Any]) -> Score:
    value = row["value"]
    return (
        proportion(0, 0) if value is None else Score(float(value), int(row["n"]), _interval_in(row))
    )


def _interval_in(row: Mapping[str, Any]) -> tuple[float, float] | None:
    bounds = row["interval"]
    if bounds is None:
        return None
    low, high = bounds
    return float(low), float(high)


def _live_lines(live: Live) -> Iterator[str]:
    yield (
        f"Live: {live.with_text:,} messages with text, {live.hash_only:,} with a hash alone, "
        f"{live.neither:,} with neither."
    )
    if live.disagreeing:
        yield (
            f"The text_hash of {live.disagreeing:,} is not the hash of their text, which was "
            "used: --hash and --hashed name how it was made."
        )
    if live.unusable:
        yield f"The text_hash of {live.unusable:,} cannot be of this kind: see --hash."
    if live.hash_only and not live.with_text:
        yield "Near duplicates: unknown, live messages carry no text. See --exact-only."


def _check_lines(check: LeakageCheck) -> Iterator[str]:
    yield f"{check.variant}: {check.text}"
    yield f"  predictions: {_leaked_words(check.share)}"
    for name, of_group in check.groups.items():
        yield f"  outcomes of {name}: {_leaked_words(of_group)}"
    rows = {"all": check.all, "leaked": check.leaked, "without leaked": check.without}
    for what, metrics in rows.items():
        yield f"  {what:>14}: accuracy {_words(metrics.accuracy)}"
        for name, scores in metrics.groups.items():
            yield f"{'':18}recall of {name} {_words(scores.recall)}"
            yield f"{'':18}precision of {name} {_words(scores.precision)}"


def _leaked_words(found: LeakedShare) -> str:
    near = "near unknown" if found.near is None else f"{found.near:,} near"
    bounds = "" if found.interval is None else f", {_bounds(found.interval)}"
    least = "at least " if found.open else ""
    open_ones = f", {found.open:,} open" if found.open else ""
    return (
        f"{found.copies:,} exact, {near} of {found.n:,}{open_ones}: "
        f"{least}{share(found.value)}{bounds}"
    )


def _words(score: Score) -> str:
    if score.interval is None:
        return "unknown (no labels)"
    return f"{share(score.value)} ({_bounds(score.interval)}, n={score.support:,})"


def _bounds(interval: tuple[float, float]) -> str:
    return f"95 % interval {share(interval[0])} to {share(interval[1])}"


def _example_lines(example: Example) -> Iterator[str]:
    yield (
        f"  {example.kinship} {example.similarity:.2f}  {example.prediction_id}  "
        f"{example.position}  {example.variant}  {example.training}"
    )
    if example.text is not None:
        yield f"      live:     {example.text}"
    if example.training_text is not None:
        yield f"      training: {example.training_text}"

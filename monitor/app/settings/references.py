"""What must fit across groups: topics, and the names of intents, slices and record fields."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from monitor.app.settings.values import DEFAULT_TOPICS, Loc, split_commas

LIKENESS = 0.75
"""How alike two names are, 0..1, when the one is taken for a slip of the pen of the other."""

_RECORD_FIELDS = {
    "predictions": (
        "prediction_id",
        "event_time",
        "predicted_intent",
        "variant",
        "request_id",
        "conversation_id",
        "model_version",
        "prompt_version",
        "confidence",
        "scores",
        "latency_ms",
        "relevance",
        "channel",
        "attributes",
        "text",
        "text_hash",
    ),
    "labels": (
        "prediction_id",
        "true_intent",
        "label_time",
        "label_id",
        "revision",
        "supersedes",
        "annotator",
        "source",
        "relevance",
        "sampling_rate",
        "withdrawn",
    ),
}


def reference_faults(data: Mapping[str, object]) -> Iterator[tuple[Loc, str]]:
    """Topics that clash, and names used in one group and not declared in the other.

    Reads plain data and passes over what has the wrong shape, so that it can also look at
    settings that have faults of another kind: the operator then sees both at once.
    """
    groups = tuple(_mapping_in(data, "intents", "groups"))
    slices = tuple(dict.fromkeys(("variant", *_names_in(data.get("slices")))))
    yield from _topic_faults(data)
    yield from _rule_faults(data, groups, slices)
    yield from _signal_faults(data, groups)
    yield from _comparison_faults(data, groups)
    for limit in ("recall", "precision"):
        for name in _mapping_in(data, "verdict", limit):
            if name not in groups:
                yield ("verdict", limit, name), _undeclared("is not a group", groups)
    yield from _variant_faults(data, groups)
    for kind, fields in _RECORD_FIELDS.items():
        known = tuple(dict.fromkeys((*fields, *slices))) if kind == "predictions" else fields
        for name in _mapping_in(data, "mapping", kind, "fields"):
            if name not in known:
                loc = ("mapping", kind, "fields", name)
                yield loc, _undeclared("is not a field of such a record", known)


def _variant_faults(
    data: Mapping[str, object], groups: tuple[str, ...]
) -> Iterator[tuple[Loc, str]]:
    """Limits of single variants, and their offline scores, are of declared groups."""
    for variant, node in _mapping_in(data, "verdict", "variants").items():
        place = ("verdict", "variants", variant)
        for limit in ("recall", "precision"):
            for name in _mapping_in(node, limit):
                if name not in groups:
                    yield (*place, limit, name), _undeclared("is not a group", groups)
        offline = _mapping_in(node).get("offline")
        for index, score in enumerate(offline if isinstance(offline, list | tuple) else ()):
            of = _mapping_in(score).get("of")
            if isinstance(of, str) and of not in groups:
                yield (*place, "offline", index, "of"), _undeclared("is not a group", groups)


def _topic_faults(data: Mapping[str, object]) -> Iterator[tuple[Loc, str]]:
    roles: dict[object, str] = {}
    for role, default in DEFAULT_TOPICS.items():
        topic = _mapping_in(data, "kafka", role).get("topic") or default
        first = roles.setdefault(str(topic), role)
        if first != role:
            yield ("kafka", role, "topic"), f"is also the topic of {first}"
    receivers = data.get("notify")
    for index, receiver in enumerate(receivers if isinstance(receivers, list | tuple) else ()):
        topic = _mapping_in(receiver).get("topic")
        if topic is not None and (taken := roles.get(str(topic))):
            yield ("notify", index, "topic"), f"is also the topic of {taken}"


def _rule_faults(
    data: Mapping[str, object], groups: tuple[str, ...], slices: tuple[str, ...]
) -> Iterator[tuple[Loc, str]]:
    rules = data.get("rules")
    intents = _mapping_in(data, "intents")
    closed = str(intents.get("closed", False)).lower() in ("true", "yes", "on", "1")
    targets = (*groups, *_names_in(intents.get("known")))
    names: set[object] = set()
    for index, rule in enumerate(rules if isinstance(rules, list | tuple) else ()):
        of, name = _mapping_in(rule).get("of"), _mapping_in(rule).get("name")
        if closed and isinstance(of, str) and of not in targets:
            yield ("rules", index, "of"), _undeclared("is neither a group nor an intent", targets)
        elif isinstance(of, str) and of not in targets:
            for meant in get_close_matches(of, targets, n=1, cutoff=LIKENESS):
                yield ("rules", index, "of"), f"is no group; did you mean {meant}?"
        if isinstance(name, str) and name in names:
            yield ("rules", index, "name"), "is the name of an earlier rule"
        names.add(name if isinstance(name, str) else None)
        attributes = [("where", key) for key in _mapping_in(rule, "where")]
        attributes += [("per", key) for key in _names_in(_mapping_in(rule).get("per"))]
        for part, key in attributes:
            if key not in slices:
                yield ("rules", index, part), f"{key} is not one of slices ({', '.join(slices)})"


def _signal_faults(
    data: Mapping[str, object], groups: tuple[str, ...]
) -> Iterator[tuple[Loc, str]]:
    """Signals share their names with rules, and speak of groups alone."""
    rules, signals = data.get("rules"), data.get("signals")
    named = rules if isinstance(rules, list | tuple) else ()
    names = {_mapping_in(rule).get("name") for rule in named}
    for index, signal in enumerate(signals if isinstance(signals, list | tuple) else ()):
        of, name = _mapping_in(signal).get("of"), _mapping_in(signal).get("name")
        if isinstance(of, str) and of not in groups:
            yield ("signals", index, "of"), _undeclared("is not a group", groups)
        if isinstance(name, str) and name in names:
            yield ("signals", index, "name"), "is the name of an earlier rule or signal"
        names.add(name)


def _comparison_faults(
    data: Mapping[str, object], groups: tuple[str, ...]
) -> Iterator[tuple[Loc, str]]:
    """Comparisons share their names with rules and signals."""
    rules, signals, comparisons = (data.get(n) for n in ("rules", "signals", "comparisons"))
    names: set[object] = set()
    for named in (rules, signals):
        names |= {
            _mapping_in(each).get("name")
            for each in (named if isinstance(named, list | tuple) else ())
        }
    intents = _mapping_in(data, "intents")
    closed = str(intents.get("closed", False)).lower() in ("true", "yes", "on", "1")
    targets = (*groups, *_names_in(intents.get("known")))
    for index, each in enumerate(comparisons if isinstance(comparisons, list | tuple) else ()):
        of, name = _mapping_in(each).get("of"), _mapping_in(each).get("name")
        if closed and isinstance(of, str) and of not in targets:
            problem = _undeclared("is neither a group nor an intent", targets)
            yield ("comparisons", index, "of"), problem
        elif isinstance(of, str) and of not in targets:
            for meant in get_close_matches(of, targets, n=1, cutoff=LIKENESS):
                yield ("comparisons", index, "of"), f"is no group; did you mean {meant}?"
        if isinstance(name, str) and name in names:
            problem = "is the name of an earlier rule, signal or comparison"
            yield ("comparisons", index, "name"), problem
        names.add(name)


def _mapping_in(node: object, *path: str) -> Mapping[str, object]:
    """The mapping at this path, empty when there is none or when it is something else."""
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}


def _names_in(node: object) -> tuple[str, ...]:
    names = split_commas(node)
    if not isinstance(names, list | tuple):
        return ()
    return tuple(name for name in names if isinstance(name, str))


def _undeclared(words: str, known: Iterable[str]) -> str:
    return f"{words} ({', '.join(known) or 'none is declared'})"

"""``recallwatch check``: would it work? Settings, connections, topics, and what would be read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from monitor.adapters.kafka import KafkaTopics
from monitor.app.settings import Settings
from monitor.app.wiring import codec_of, connection_of, open_log, open_reader, topics_of
from monitor.domain.errors import WorldError
from monitor.domain.events import Kind, Label, Prediction, Record, Rejected

SAMPLE = 200
"""Records read from each topic for the dry run."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``is_ok`` None: worth knowing, but neither right nor wrong."""

    what: str
    is_ok: bool | None
    found: str


def checks_of(settings: Settings) -> Iterator[Check]:
    """Every check in turn; WorldError when broker or store cannot be asked at all."""
    yield Check("settings", True, settings.digest())
    yield from _groups(settings)
    yield from _store(settings)
    yield from _topics(settings)
    yield from _samples(settings)


def _groups(settings: Settings) -> Iterator[Check]:
    if not settings.intents.groups:
        yield Check(
            "intents.groups",
            False,
            "no group is declared: nothing is urgent; add e.g. urgent: [...]",
        )
    if not settings.rules:
        yield Check("rules", False, "no rule is declared: nothing can fire")


def _store(settings: Settings) -> Iterator[Check]:
    with closing(open_reader(settings)) as reader:
        watermark_ms = reader.evaluation().watermark_ms
        state = "new" if watermark_ms is None else f"complete up to log time {watermark_ms} ms"
        yield Check("redis", True, f"reachable; namespace {settings.redis.namespace}: {state}")


def _topics(settings: Settings) -> Iterator[Check]:
    topics = topics_of(settings)
    names = [*(topics[kind] for kind in Kind), settings.kafka.dead_letters.topic]
    with KafkaTopics(connection_of(settings)) as admin:
        found = admin.describe(names)
    yield Check("kafka", True, f"reachable at {connection_of(settings)}")
    for name in names:
        topic = found.get(name)
        if topic is None:
            is_ours = name not in topics.values()
            found_text = "does not exist yet: `recallwatch run` creates it"
            missing = "does not exist: create it, or name another one"
            yield Check(
                f"topic {name}", None if is_ours else False, found_text if is_ours else missing
            )
            continue
        text = f"{topic.partitions} partitions, {topic.timestamp_type}, {topic.cleanup_policy}"
        yield Check(f"topic {name}", True, text)
        if "compact" in (topic.cleanup_policy or "") and name in topics.values():
            yield Check(
                f"topic {name}",
                False,
                "compaction removes labels and corrections of the same key before they are read; "
                "set cleanup.policy=delete",
            )
        if topic.timestamp_type == "CreateTime" and name in topics.values():
            yield Check(
                f"topic {name}",
                None,
                "LogAppendTime is recommended: with CreateTime the producers' clocks decide what "
                "was known when",
            )


def _samples(settings: Settings) -> Iterator[Check]:
    codec, topics = codec_of(settings), topics_of(settings)
    try:
        log = open_log(settings, in_group=False)
    except WorldError as error:
        yield Check("sample", False, str(error))
        return
    with closing(log):
        records = _sampled(log.poll, at_end=lambda: log.assigned() <= log.at_end())
    for kind in Kind:
        mine = [record for record in records if record.topic == topics[kind]]
        yield from _dry_run(kind, mine, codec.decode_all(mine))


def _sampled(poll: Callable[[int], list[Record]], *, at_end: Callable[[], bool]) -> list[Record]:
    taken: list[Record] = []
    seen: Counter[str] = Counter()
    while len(taken) < SAMPLE * 20:
        batch = poll(SAMPLE)
        if not batch and at_end():
            break
        taken += batch
        seen.update(record.topic for record in batch)
        if len(seen) == len(Kind) and min(seen.values()) >= SAMPLE:
            break
    return taken


def _dry_run(kind: Kind, records: list[Record], envelopes: Iterable[object]) -> Iterator[Check]:
    facts = [getattr(envelope, "fact", None) for envelope in envelopes]
    rejected = Counter(str(fact.reason) for fact in facts if isinstance(fact, Rejected))
    good = [fact for fact in facts if isinstance(fact, Prediction | Label)]
    skipped = len(records) - len(facts)
    if not records:
        yield Check(f"sample of {kind}", None, "the topic is empty: nothing to try the mapping on")
        return
    text = f"{len(good)} of {len(records)} records can be read"
    if skipped:
        text += f", {skipped} do not concern us"
    if rejected:
        text += "; rejected: " + ", ".join(f"{n} {r}" for r, n in sorted(rejected.items()))
    yield Check(f"sample of {kind}", len(good) > sum(rejected.values()), text)
    if good:
        yield Check(f"first of {kind}", None, _described(good[0]))


def _described(fact: Prediction | Label) -> str:
    pairs = zip(fact._fields, fact, strict=True)
    return ", ".join(f"{name}={value!r}" for name, value in pairs if value not in (None, (), ""))

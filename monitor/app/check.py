"""``recallwatch check``: would it work? Settings, connections, topics, and what would be read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from monitor.adapters.kafka import KafkaTopics, TopicInfo
from monitor.adapters.redis_client import KEEPS_ALL
from monitor.app.brokers import connection_of, open_log
from monitor.app.receivers import receivers_of
from monitor.app.settings import Settings, SettingsError
from monitor.app.wiring import codec_of, open_reader, topics_of
from monitor.domain.errors import WorldError
from monitor.domain.events import Kind, Label, Prediction, Record, Rejected
from monitor.domain.ledger import gaps_of
from monitor.domain.sampling import EVERY, in_words

SAMPLE = 200
"""Records of each topic that the dry run looks at."""

POLLED = 4_000

Fact = Prediction | Label | Rejected


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``is_ok`` None: worth knowing, but neither right nor wrong.

    ``is_world`` when broker or store could not even be asked.
    """

    what: str
    is_ok: bool | None
    found: str
    is_world: bool = False


def checks_of(settings: Settings) -> Iterator[Check]:
    """Every check in turn; one that cannot be made does not keep the others from being made."""
    yield Check("settings", True, settings.digest())
    yield from _groups(settings)
    yield from _sample(settings)
    yield from _receivers(settings)
    for what, look in (("redis", _store), ("kafka", _topics)):
        try:
            yield from look(settings)
        except WorldError as error:
            yield Check(what, False, str(error), is_world=True)


def _groups(settings: Settings) -> Iterator[Check]:
    if not settings.intents.groups:
        yield Check(
            "intents.groups",
            False,
            "no group is declared: nothing is urgent; add e.g. urgent: [...]",
        )
    if not settings.rules:
        yield Check("rules", False, "no rule is declared: nothing can fire")


def _sample(settings: Settings) -> Iterator[Check]:
    """Two answers to one request have ids of their own: each is kept or passed over by itself."""
    share = settings.sampling
    if share < EVERY:
        text = in_words(share)
        if settings.comparisons:
            text += f" Comparisons see {share * share * 100:g} % of the pairs"
        yield Check("sampling", None if settings.comparisons else True, text)


def _receivers(settings: Settings) -> Iterator[Check]:
    """Whether their addresses can be used at all; nobody is called."""
    try:
        known = [route.name for route, _ in receivers_of(settings)]
    except SettingsError as error:
        yield Check("notify", False, str(error))
        return
    if known:
        yield Check("notify", True, f"{', '.join(known)} (not called)")


def _store(settings: Settings) -> Iterator[Check]:
    with closing(open_reader(settings)) as reader:
        watermark_ms = reader.evaluation().watermark_ms
        state = "new" if watermark_ms is None else f"complete up to log time {watermark_ms} ms"
        yield Check("redis", True, f"reachable; namespace {settings.redis.namespace}: {state}")
        yield _eviction(reader.eviction_policy())
        if gaps := gaps_of(reader.ledger()):
            lost = ", ".join(map(str, gaps))
            yield Check("ledger", False, f"{lost} were dropped by the log before they were counted")


def _eviction(policy: str | None) -> Check:
    if policy is None:
        unknown = "unknown: the user of redis.url may ask neither CONFIG nor INFO"
        return Check("redis maxmemory-policy", None, f"{unknown}; see docs/redis.md")
    text = policy if policy == KEEPS_ALL else f"{policy}: a worker refuses it; set {KEEPS_ALL}"
    return Check("redis maxmemory-policy", policy == KEEPS_ALL, text)


def _topics(settings: Settings) -> Iterator[Check]:
    topics = topics_of(settings)
    journal = settings.kafka.journal.topic
    names = [*(topics[kind] for kind in Kind), settings.kafka.dead_letters.topic, journal]
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
        if name == journal:
            yield from _journal(name, topic)
        if topic.timestamp_type == "CreateTime" and name in topics.values():
            yield Check(
                f"topic {name}",
                None,
                "LogAppendTime is recommended: with CreateTime the producers' clocks decide what "
                "was known when",
            )
    yield from _samples(settings)


def _journal(name: str, topic: TopicInfo) -> Iterator[Check]:
    """Its entries have one key and are a chain: none may go."""
    if "compact" in (topic.cleanup_policy or ""):
        loses = "compaction removes all entries but the last; set cleanup.policy=delete"
        yield Check(f"topic {name}", False, loses)
    if topic.retention_ms not in (None, -1):
        ends = f"entries are dropped after {topic.retention_ms} ms, and cannot be audited then"
        yield Check(f"topic {name}", None, f"{ends}; set retention.ms=-1")


def _samples(settings: Settings) -> Iterator[Check]:
    codec, topics = codec_of(settings), topics_of(settings)
    try:
        log = open_log(settings)
    except WorldError as error:
        yield Check("sample", False, str(error))
        return
    with closing(log):
        log.seek(log.oldest(log.assigned()))
        records = _sampled(log.poll, topics.values(), at_end=lambda: log.assigned() <= log.at_end())
    seen: set[str] = set()
    for kind in Kind:
        facts = [envelope.fact for envelope in codec.decode_all(records[topics[kind]])]
        seen.update(f.predicted if isinstance(f, Prediction) else f.actual for f in _good(facts))
        yield from _dry_run(kind, len(records[topics[kind]]), facts)
    if seen:
        yield from _unseen(settings, seen)


def _sampled(
    poll: Callable[[int], list[Record]], topics: Iterable[str], *, at_end: Callable[[], bool]
) -> dict[str, list[Record]]:
    """The first ``SAMPLE`` records of each topic; reads on until every topic has them or ends."""
    taken: dict[str, list[Record]] = {topic: [] for topic in topics}
    while any(len(records) < SAMPLE for records in taken.values()):
        batch = poll(POLLED)
        if not batch and at_end():
            break
        for record in batch:
            if len(taken[record.topic]) < SAMPLE:
                taken[record.topic].append(record)
    return taken


def _dry_run(kind: Kind, records: int, facts: list[Fact]) -> Iterator[Check]:
    rejected = Counter(str(fact.reason) for fact in facts if isinstance(fact, Rejected))
    good = _good(facts)
    skipped = records - len(facts)
    if not records:
        yield Check(f"sample of {kind}", None, "the topic is empty: nothing to try the mapping on")
        return
    text = f"{len(good)} of {records} records can be read"
    if skipped:
        text += f", {skipped} do not concern us"
    if rejected:
        text += "; rejected: " + ", ".join(f"{n} {r}" for r, n in sorted(rejected.items()))
    yield Check(f"sample of {kind}", len(good) > sum(rejected.values()), text)
    if good:
        yield Check(f"first of {kind}", None, _described(good[0]))


def _unseen(settings: Settings, seen: set[str]) -> Iterator[Check]:
    """Intents that are watched, but stand in no sampled record: rare, or spelled wrongly."""
    for name, members in settings.intents.groups.items():
        unseen = [intent for intent in members if intent not in seen]
        if unseen:
            text = f"{', '.join(unseen)} occurs in no sampled record: rare, or spelled otherwise?"
            yield Check(f"intents.groups.{name}", None, text)


def _good(facts: Iterable[Fact]) -> list[Prediction | Label]:
    return [fact for fact in facts if isinstance(fact, Prediction | Label)]


def _described(fact: Prediction | Label) -> str:
    pairs = zip(fact._fields, fact, strict=True)
    return ", ".join(f"{name}={value!r}" for name, value in pairs if value not in (None, (), ""))

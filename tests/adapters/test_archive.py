"""An archive holds what the log held, says when it does not, and lets go of what it must."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from monitor.adapters import archive_copy
from monitor.adapters.archive import (
    Archive,
    ArchiveError,
    ArchiveWriter,
    Checks,
    Folder,
    Kept,
    Verification,
    copy_topics,
    open_archive,
)
from monitor.adapters.archive_files import MANIFEST, FileEntry, Manifest, crc_of
from monitor.adapters.archive_verify import ArchiveFault, Flaw
from monitor.adapters.history import HistoryLog
from monitor.adapters.history_sources import joined
from monitor.codec.journal import pack_journal_entry, sealed
from monitor.domain.events import Kind, Partition, Record
from monitor.domain.journal import JournalEntry
from tests.adapters.histories import (
    LABELS,
    LOG_MS,
    OTHERS,
    PREDICTIONS,
    ListSource,
    record,
    records,
    sources,
)
from tests.contracts.record_log import by_partition, offsets

TOPICS = {"predictions": "predictions", "labels": "labels", "journal": "recallwatch.journal"}
JOURNAL = Partition("recallwatch.journal", 0)
DAY_MS = 24 * 3_600_000
UNTIL_MIDNIGHT_MS = DAY_MS - LOG_MS % DAY_MS
DAY = "2023-11-14"
NOW_MS = LOG_MS + 10 * DAY_MS

Found = Mapping[Partition, Sequence[Record]]


def archived(
    place: Path, found: Found, *, until_ms: int | None = None, ends: Mapping[Partition, int] = {}
) -> Archive:
    made = {p: ListSource(its, end=ends.get(p)) for p, its in found.items()}
    folder = Folder.at(str(place))
    copy_topics(folder, TOPICS, made, now_ms=NOW_MS, until_ms=until_ms)
    return open_archive(folder)


def drained(log: HistoryLog, max_records: int = 1_000) -> list[Record]:
    polled: list[Record] = []
    while batch := log.poll(max_records):
        polled += batch
    log.close()
    return polled


def read(archive: Archive) -> dict[Partition, list[Record]]:
    return by_partition(drained(HistoryLog(archive.sources())))


def faults(place: Path | Archive, checks: Checks | None = None) -> list[ArchiveFault]:
    archive = place if isinstance(place, Archive) else open_archive(str(place))
    return list(archive.verify(checks))


def flaws(place: Path, checks: Checks | None = None) -> set[tuple[Flaw, str]]:
    return {(fault.flaw, fault.where.removeprefix(f"{place}/")) for fault in faults(place, checks)}


def entry(sequence: int, before: JournalEntry | None = None) -> JournalEntry:
    previous = before.hash if before else ""
    return sealed(JournalEntry(sequence, LOG_MS + sequence, (), "s", "1", "", "", (), "", previous))


def journal(entries: Iterable[JournalEntry], key: bytes = b"prod") -> list[Record]:
    return [record(JOURNAL, n, n, pack_journal_entry(each), key) for n, each in enumerate(entries)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "archive"


STORY = {
    PREDICTIONS: records(PREDICTIONS, range(10)),
    OTHERS: records(OTHERS, range(4)),
    LABELS: records(LABELS, range(7)),
}
A_FILE = f"predictions/date={DAY}/part-0-0.parquet"


# Copying

contents = st.one_of(
    st.none(), st.binary(max_size=40), st.just(b"\xff\xfe"), st.just(b"x" * 70_000)
)


@settings(deadline=None)
@given(st.lists(st.tuples(contents, contents, st.integers(-5, DAY_MS), st.booleans()), max_size=12))
def test_records_come_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory,
    written: list[tuple[bytes | None, bytes | None, int, bool]],
) -> None:
    found = [
        record(LABELS, n, ms, value, key)._replace(log_append_time=is_brokers)
        for n, (key, value, ms, is_brokers) in enumerate(written)
    ]
    archive = archived(tmp_path_factory.mktemp("archive"), {LABELS: found})
    assert read(archive).get(LABELS, []) == found
    assert faults(archive) == []


def test_a_file_is_named_by_day_partition_and_first_offset(place: Path) -> None:
    after = [0, 1, UNTIL_MIDNIGHT_MS, 2, UNTIL_MIDNIGHT_MS + 1]
    archive = archived(place, {LABELS: records(LABELS, after), OTHERS: STORY[OTHERS]})
    assert [entry.path for entry in archive.manifest.files] == [
        "labels/date=2023-11-14/part-0-0.parquet",
        # A clock that goes back moves no record out of its file.
        "labels/date=2023-11-15/part-0-2.parquet",
        "predictions/date=2023-11-14/part-1-0.parquet",
    ]


def test_the_manifest_says_what_there_is(place: Path) -> None:
    archive = archived(place, STORY)
    entry = next(each for each in archive.manifest.files if each.of == LABELS)
    path = place / entry.path
    assert entry == FileEntry(
        path=f"labels/date={DAY}/part-0-0.parquet",
        topic="labels",
        partition=0,
        first=0,
        past=7,
        rows=7,
        first_ms=LOG_MS,
        last_ms=LOG_MS + 6,
        bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    assert archive.manifest.archived_to_ms == LOG_MS + 9
    assert archive.manifest.records == 21
    assert archive.digest == hashlib.sha256((place / MANIFEST).read_bytes()).hexdigest()


def test_any_reader_of_parquet_can_read_the_files(place: Path) -> None:
    archived(place, STORY)
    table = pq.ParquetFile(place / A_FILE).read()
    assert table.schema.names == [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "key",
        "value",
        "log_append_time",
        "crc",
        "redacted",
    ]
    assert table.column("crc").to_pylist() == [crc_of(each) for each in STORY[PREDICTIONS]]


def test_a_copy_goes_on_where_the_archive_ends(place: Path) -> None:
    first = archived(place, {LABELS: STORY[LABELS][:3]})
    second = archived(place, {LABELS: STORY[LABELS][2:]})
    assert read(second) == {LABELS: STORY[LABELS]}
    assert [entry.first for entry in second.manifest.files] == [0, 3]
    assert second.manifest.previous == first.digest
    assert faults(second) == []


def test_a_copy_of_nothing_new_changes_nothing(place: Path) -> None:
    first = archived(place, STORY)
    assert archived(place, STORY).digest == first.digest


def test_a_copy_stops_before_the_instant_that_it_is_given_and_goes_on_from_there(
    place: Path,
) -> None:
    archive = archived(place, STORY, until_ms=LOG_MS + 5)
    assert {p: len(its) for p, its in read(archive).items()} == {
        PREDICTIONS: 5,
        OTHERS: 4,
        LABELS: 5,
    }
    assert read(archived(place, STORY)) == STORY


@pytest.mark.parametrize("killed_after", range(6))
def test_a_copy_that_is_killed_leaves_the_archive_as_it_was(
    place: Path, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = archived(place, {p: its[:3] for p, its in STORY.items()})
    writes = 0

    class Killed(BaseException):
        pass

    def write(self: Folder, path: str, content: bytes) -> None:
        raise Killed

    class Dying(ListSource):
        def read(self) -> list[Record]:
            nonlocal writes
            writes += 1
            if writes > killed_after:
                raise Killed
            return super().read()

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", write)
        with pytest.raises(Killed):
            copy_topics(
                Folder.at(str(place)),
                TOPICS,
                {p: Dying(its) for p, its in STORY.items()},
                now_ms=NOW_MS,
            )
    assert read(open_archive(str(place))) == read(before)
    assert faults(place) == []
    after = archived(place, STORY)
    assert read(after) == STORY
    assert faults(after) == []
    assert sorted(path.name for path in place.rglob("*.unfinished")) == []


def test_a_long_copy_saves_how_far_it_has_come(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_copy, "SAVE_EVERY_FILES", 2)
    folder = Folder.at(str(place))
    writer = ArchiveWriter(folder, TOPICS, NOW_MS, file_records=2)

    class Dying(ListSource):
        def read(self) -> list[Record]:
            if self.handed_out >= 9:
                raise BrokenPipeError
            return super().read()

    with pytest.raises(ArchiveError):
        writer.copy({PREDICTIONS: Dying(STORY[PREDICTIONS])})
    assert len(read(open_archive(folder))[PREDICTIONS]) in (4, 8)
    assert read(archived(place, STORY)) == STORY


def test_another_process_that_writes_meanwhile_is_noticed(place: Path) -> None:
    writer = ArchiveWriter(Folder.at(str(place)), TOPICS, NOW_MS)
    archived(place, STORY)
    with pytest.raises(ArchiveError, match="was changed by another process"):
        writer.copy(sources(STORY))


def test_files_without_a_manifest_are_not_replaced(place: Path) -> None:
    archived(place, STORY)
    (place / MANIFEST).unlink()
    with pytest.raises(ArchiveError, match=r"there is no manifest\.json that lists it"):
        archived(place, STORY)


def test_an_archive_of_other_topics_is_not_gone_on_with(place: Path) -> None:
    archived(place, STORY)
    with pytest.raises(ArchiveError, match="archives topic predictions under predictions, not p2"):
        ArchiveWriter(Folder.at(str(place)), {**TOPICS, "predictions": "p2"}, NOW_MS)


def test_a_log_that_has_dropped_what_was_not_archived_is_refused_by_name(place: Path) -> None:
    archived(place, {LABELS: STORY[LABELS][:2]})
    with pytest.raises(ArchiveError, match=r"labels\[0\]@2-3: the log dropped them"):
        archived(place, {LABELS: STORY[LABELS][4:]})


def test_what_the_log_dropped_is_entered_as_lost_when_that_is_accepted(place: Path) -> None:
    archived(place, {LABELS: STORY[LABELS][:2]})
    writer = ArchiveWriter(Folder.at(str(place)), TOPICS, NOW_MS, accept_gaps=True)
    writer.copy({LABELS: ListSource(STORY[LABELS][4:])})
    archive = open_archive(str(place))
    assert offsets(read(archive)[LABELS]) == [0, 1, 4, 5, 6]
    assert [each.lost for each in archive.manifest.partitions] == [((2, 4),)]
    assert faults(archive) == []


def test_a_log_that_is_shorter_than_its_archive_is_another_one(place: Path) -> None:
    archived(place, STORY)
    with pytest.raises(ArchiveError, match=r"labels\[0\]@7: the archive ends here, but the log"):
        archived(place, {LABELS: STORY[LABELS][:3]})


def test_settings_are_kept_by_their_digest(place: Path) -> None:
    folder = Folder.at(str(place))
    for digest in ("d1", "d2"):
        copy_topics(folder, TOPICS, {}, now_ms=NOW_MS, documents={digest: "{}"})
    assert open_archive(folder).manifest.documents == {"d1": "{}", "d2": "{}"}


@pytest.mark.parametrize("kind", ["a file URI", "a subtree"])
def test_an_archive_may_be_anywhere_that_pyarrow_reaches(place: Path, kind: str) -> None:
    place.mkdir()
    folder = (
        Folder.at(place.as_uri())
        if kind == "a file URI"
        else Folder(fs.SubTreeFileSystem(str(place), fs.LocalFileSystem()), "below", "here")
    )
    copy_topics(folder, TOPICS, sources(STORY), now_ms=NOW_MS)
    copy_topics(folder, TOPICS, sources(STORY), now_ms=NOW_MS)
    archive = open_archive(folder)
    assert read(archive) == STORY
    assert faults(archive) == []


@pytest.mark.parametrize("where", ["", "nowhere://bucket/archive", "file:///proc/no/such/place"])
def test_a_place_without_an_archive_is_named(place: Path, where: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        open_archive(where or str(place))
    assert (where or str(place)) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "not the manifest of an archive"),
        ("[", "not the manifest of an archive"),
        ('{"topics":{},"created_ms":0,"updated_ms":0,"version":9}', "has version 9, this release"),
    ],
)
def test_what_is_no_manifest_is_refused(place: Path, content: str, says: str) -> None:
    place.mkdir()
    (place / MANIFEST).write_text(content)
    with pytest.raises(ArchiveError, match=says):
        open_archive(str(place))


# Holes


HOLED = [record(LABELS, offset, offset) for offset in (2, 3, 6, 7, 8)]


def test_holes_of_the_log_are_known_and_no_fault(place: Path) -> None:
    #  log       . . 2 3 . . 6 7 8 . | end 10      begin 0
    made = {LABELS: ListSource(HOLED, begin=0, end=10)}
    folder = Folder.at(str(place))
    copy_topics(folder, TOPICS, made, now_ms=NOW_MS)
    archive = open_archive(folder)
    (stretch,) = archive.manifest.partitions
    assert (stretch.first, stretch.past) == (0, 10)
    assert stretch.holes == ((0, 2), (4, 6), (9, 10))
    assert read(archive) == {LABELS: HOLED}
    assert faults(archive) == []


def test_a_hole_at_the_end_is_no_gap_when_the_log_begins_behind_it(place: Path) -> None:
    archive = archived(place, {LABELS: HOLED}, ends={LABELS: 10})
    live = ListSource([record(LABELS, 10)], begin=10)
    log = HistoryLog(joined(archive.sources(), {LABELS: live}))
    assert offsets(drained(log)) == [2, 3, 6, 7, 8, 10]


# Reading


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 30), st.integers(1, 9))
def test_a_source_reads_on_from_any_place(
    tmp_path_factory: pytest.TempPathFactory, place: int, file_records: int
) -> None:
    whole = records(LABELS, range(30))
    folder = Folder.at(str(tmp_path_factory.mktemp("archive")))
    ArchiveWriter(folder, TOPICS, NOW_MS, file_records=file_records).copy(
        {LABELS: ListSource(whole)}
    )
    log = HistoryLog(open_archive(folder).sources())
    log.poll(7)
    log.seek({LABELS: place})
    assert drained(log, 8) == whole[place:]


def test_archive_and_log_read_as_the_log_alone(place: Path) -> None:
    archive = archived(place, {p: its[:3] for p, its in STORY.items()})
    live = {p: ListSource(its[2:]) for p, its in STORY.items()}
    log = HistoryLog(joined(archive.sources(), dict(live)))
    assert by_partition(drained(log, 5)) == STORY


def test_journal_lines_are_those_of_the_namespace(place: Path) -> None:
    one, other = entry(1), entry(2)
    its = [*journal([one]), journal([one, other], b"test")[1]]
    archive = archived(place, {JOURNAL: its})
    assert list(archive.journal_lines("prod")) == [pack_journal_entry(one)]
    assert len(list(archive.journal_lines())) == 2
    assert archive.sources() == {}


# Verifying


def test_a_whole_archive_has_no_fault_and_says_what_was_looked_at(place: Path) -> None:
    one = entry(1)
    archive = archived(place, {**STORY, JOURNAL: journal([one, entry(2, one)])})
    look = Verification(archive.folder, archive.manifest, archive.digest, Checks())
    assert list(look.faults()) == []
    assert (look.records, look.journal_entries, look.redacted) == (23, 2, 0)


def test_a_removed_file_is_named_with_the_records_that_stood_in_it(place: Path) -> None:
    archived(place, STORY)
    (place / A_FILE).unlink()
    (fault,) = faults(place)
    assert str(fault) == (
        f"{place}/{A_FILE}: file_missing: expected 10 records, found no file; "
        "predictions[0]@0-9 stood in it"
    )


def test_a_changed_byte_is_found_wherever_it_is(place: Path) -> None:
    archived(place, STORY)
    path = place / A_FILE
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert (Flaw.FILE_ALTERED, A_FILE) in flaws(place, Checks(is_deep=False))


def test_a_changed_byte_of_a_value_names_the_record(place: Path) -> None:
    noisy = [
        each._replace(value=hashlib.sha512(b"%d" % each.offset).digest())
        for each in STORY[PREDICTIONS]
    ]
    archived(place, {PREDICTIONS: noisy})
    path = place / A_FILE
    whole = path.read_bytes()
    at = whole.index(noisy[4].value or b"")
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert flaws(place) == {
        (Flaw.FILE_ALTERED, A_FILE),
        (Flaw.RECORD_ALTERED, "predictions[0]@4"),
    }


def forged(place: Path, change: Callable[[pa.Table], pa.Table], **more: object) -> None:
    """Change a file, and make the manifest agree with it."""
    path = place / A_FILE
    table = change(pq.ParquetFile(path).read())
    pq.write_table(table, path)
    manifest = msgspec.json.decode((place / MANIFEST).read_bytes(), type=Manifest)
    fresh = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        **more,
    }
    files = tuple(
        msgspec.structs.replace(each, **fresh) if each.path == A_FILE else each
        for each in manifest.files
    )
    (place / MANIFEST).write_bytes(msgspec.structs.replace(manifest, files=files).packed())


@pytest.mark.parametrize("dropped", [0, 4, 9])
def test_a_dropped_record_is_named_though_the_manifest_agrees_with_the_file(
    place: Path, dropped: int
) -> None:
    archived(place, STORY)
    forged(place, lambda t: pa.concat_tables([t.slice(0, dropped), t.slice(dropped + 1)]), rows=9)
    assert flaws(place) == {(Flaw.RECORD_MISSING, f"predictions[0]@{dropped}")}


def test_a_record_that_stands_twice_is_named(place: Path) -> None:
    archived(place, STORY)
    forged(place, lambda t: pa.concat_tables([t.slice(0, 5), t.slice(4)]))
    assert flaws(place) == {(Flaw.RECORD_TWICE, "predictions[0]@4"), (Flaw.ROWS, A_FILE)}


def test_a_file_that_is_taken_out_of_the_manifest_leaves_offsets_uncovered(place: Path) -> None:
    archive = archived(place, STORY)
    files = tuple(each for each in archive.manifest.files if each.path != A_FILE)
    packed = msgspec.structs.replace(archive.manifest, files=files).packed()
    (place / MANIFEST).write_bytes(packed)
    assert flaws(place) == {(Flaw.RECORD_MISSING, "predictions[0]@0-9")}


def test_a_manifest_that_was_exchanged_is_found_by_the_digest_that_was_kept(place: Path) -> None:
    kept = archived(place, {LABELS: STORY[LABELS][:3]}).digest
    assert flaws(place, Checks(digest=kept)) == set()
    archived(place, STORY)
    assert flaws(place, Checks(digest=kept)) == {(Flaw.MANIFEST, MANIFEST)}


def test_a_manifest_that_was_edited_by_hand_is_found(place: Path) -> None:
    archived(place, STORY)
    path = place / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert flaws(place) == {(Flaw.MANIFEST, MANIFEST)}


def test_a_file_that_is_no_parquet_is_named_with_what_cannot_be_read(place: Path) -> None:
    archived(place, STORY)
    (place / A_FILE).write_bytes(b"nothing of use")
    assert flaws(place) == {(Flaw.FILE_ALTERED, A_FILE), (Flaw.UNREADABLE, A_FILE)}


@pytest.mark.parametrize(("order", "says"), [([0, 2, 1], "reordered"), ([0, 2], "missing")])
def test_a_journal_whose_chain_is_broken_is_a_fault(
    place: Path, order: list[int], says: str
) -> None:
    one = entry(1)
    two = entry(2, one)
    entries = [one, two, entry(3, two)]
    archived(place, {JOURNAL: journal(entries[n] for n in order)})
    (fault, *_) = faults(place)
    assert (fault.flaw, fault.where) == (Flaw.JOURNAL, "journal of namespace prod")
    assert fault.found.startswith(says)


def test_an_archive_that_differs_from_what_the_log_still_holds_is_named(place: Path) -> None:
    archived(place, STORY)
    log = [*STORY[PREDICTIONS][3:], record(PREDICTIONS, 10)]
    assert flaws(place, Checks(live={PREDICTIONS: ListSource(log)})) == set()
    log[1] = log[1]._replace(key=b"another")
    del log[4]
    found = faults(place, Checks(live={PREDICTIONS: ListSource(log)}))
    assert [(fault.flaw, fault.where) for fault in found] == [
        (Flaw.NOT_THE_LOG, "predictions[0]@4"),
        (Flaw.NOT_THE_LOG, "predictions[0]@7"),
    ]
    assert "key of 7 bytes" in found[0].expected
    assert found[1].expected == "no record"
    assert "value" not in found[0].found


def test_a_log_that_ends_before_its_archive_is_named(place: Path) -> None:
    archived(place, STORY)
    log = ListSource(STORY[LABELS][:4])
    assert (Flaw.NOT_THE_LOG, "labels[0]@4-6") in flaws(place, Checks(live={LABELS: log}))


def test_a_manifest_with_a_topic_that_it_does_not_name_is_refused(place: Path) -> None:
    archive = archived(place, STORY)
    topics = {"predictions": "predictions"}
    packed = msgspec.structs.replace(archive.manifest, topics=topics).packed()
    (place / MANIFEST).write_bytes(packed)
    with pytest.raises(ArchiveError, match="has partitions of topic labels"):
        open_archive(str(place)).sources()


def test_records_are_taken_for_those_of_the_topics_that_are_given(place: Path) -> None:
    found = archived(place, STORY).sources({Kind.PREDICTIONS: "p2", Kind.LABELS: "l2"})
    polled = by_partition(drained(HistoryLog(found)))
    assert {p: len(its) for p, its in polled.items()} == {
        Partition("p2", 0): 10,
        Partition("p2", 1): 4,
        Partition("l2", 0): 7,
    }


# Redacting


PREDICTION_KEPT = Kept("prediction_id", frozenset({"predicted_intent", "scores"}), 1_000)
LABEL_KEPT = Kept("prediction_id", frozenset({"true_intent"}), 1_000)
KEPT = {"predictions": PREDICTION_KEPT, "labels": LABEL_KEPT}


def said(partition: Partition, offset: int, prediction_id: str, key: bytes = b"p1") -> Record:
    intent = "predicted_intent" if partition.topic == "predictions" else "true_intent"
    value = (
        f'{{"prediction_id": "{prediction_id}", "{intent}": "lost_card", "name": "Ada",'
        f' "text": "my card {offset}", "scores": {{"lost_card": 1.50}}}}'
    )
    return record(partition, offset, offset, value.encode(), key)


TALK = {
    PREDICTIONS: [said(PREDICTIONS, 0, "p1"), said(PREDICTIONS, 1, "p2", b"ada@home")],
    OTHERS: [
        said(OTHERS, 0, "p3"),
        record(OTHERS, 1, 1, b'{"p2": not JSON'),
        said(OTHERS, 2, "p4"),
    ],
    LABELS: [said(LABELS, 0, "p2", b"p2"), record(LABELS, 1, 2, None), said(LABELS, 2, "p2", b"")],
}


def test_what_was_said_goes_and_what_is_counted_stays(place: Path) -> None:
    archive = archived(place, TALK)
    done = archive.redact({"p2"}, KEPT, now_ms=NOW_MS)
    assert [str(each) for each in done.positions] == [
        "labels[0]@0",
        "labels[0]@2",
        "predictions[0]@1",
    ]
    found = read(open_archive(str(place)))
    assert found[PREDICTIONS] == [
        TALK[PREDICTIONS][0],
        TALK[PREDICTIONS][1]._replace(
            key=None,
            value=b'{"prediction_id":"p2","predicted_intent":"lost_card",'
            b'"scores":{"lost_card": 1.50}}',
        ),
    ]
    assert found[LABELS][0].key == b"p2"
    assert found[LABELS][0].value == b'{"prediction_id":"p2","true_intent":"lost_card"}'
    assert found[OTHERS] == TALK[OTHERS]


def test_a_record_that_is_no_text_is_told_if_it_mentions_an_id_and_keeps_nobody_up(
    place: Path,
) -> None:
    broken = b'{"prediction_id": "p2", "text": "caf\xe9"}'
    told = records(OTHERS, range(2))
    told[1] = told[1]._replace(value=broken)
    done = archived(place, {OTHERS: told}).redact({"p2"}, KEPT, now_ms=NOW_MS)
    assert [str(each) for each in done.unreadable] == ["predictions[1]@1"]
    assert read(open_archive(str(place)))[OTHERS] == told


def test_a_record_that_cannot_be_read_but_mentions_an_id_is_told(place: Path) -> None:
    done = archived(place, TALK).redact({"p2"}, KEPT, now_ms=NOW_MS)
    assert [str(each) for each in done.unreadable] == ["predictions[1]@1"]


def test_nothing_of_what_went_is_left_in_any_file(place: Path) -> None:
    archived(place, TALK).redact({"p1", "p2", "p3", "p4"}, KEPT, now_ms=NOW_MS)
    files = [path for path in place.rglob("*") if path.suffix == ".parquet"]
    assert len(files) == 3
    values = [v for path in files for v in pq.ParquetFile(path).read().column("value").to_pylist()]
    assert not [value for value in values if value and (b"Ada" in value or b"my card" in value)]


def test_a_redacted_archive_is_whole_and_says_how_many(place: Path) -> None:
    archived(place, TALK).redact({"p2"}, KEPT, now_ms=NOW_MS)
    archive = open_archive(str(place))
    look = Verification(archive.folder, archive.manifest, archive.digest, Checks())
    assert list(look.faults()) == []
    assert look.redacted == 3
    originals = [each for its in TALK.values() for each in its]
    assert archive.redacted() == {
        each.position: crc_of(each) for each in originals if b'"p2",' in (each.value or b"")
    }
    live = {p: ListSource(its) for p, its in TALK.items()}
    assert faults(archive, Checks(live=live)) == []


def test_redactions_add_up_and_a_copy_goes_on_after_them(place: Path) -> None:
    archived(place, TALK).redact({"p1"}, KEPT, now_ms=NOW_MS)
    open_archive(str(place)).redact({"p2"}, KEPT, now_ms=NOW_MS + 1)
    again = open_archive(str(place)).redact({"p2"}, KEPT, now_ms=NOW_MS + 2)
    assert again.positions == ()
    more = {**TALK, LABELS: [*TALK[LABELS], said(LABELS, 3, "p9")]}
    archive = archived(place, more)
    assert len(read(archive)[LABELS]) == 4
    assert len(archive.redacted()) == 4
    assert faults(archive) == []


def test_a_redaction_that_was_broken_off_is_finished_by_the_next(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archived(place, TALK)

    def delete(self: Folder, path: str) -> None:
        raise ArchiveError("broken off")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "delete", delete)
        with pytest.raises(ArchiveError, match="broken off"):
            archive.redact({"p2"}, KEPT, now_ms=NOW_MS)
    assert len(list(place.rglob("*.parquet"))) == 5
    open_archive(str(place)).redact({"p2"}, KEPT, now_ms=NOW_MS)
    assert len(list(place.rglob("*.parquet"))) == 3
    assert faults(place) == []


def test_a_redaction_that_the_manifest_does_not_know_is_a_fault(place: Path) -> None:
    archived(place, TALK)
    forged(
        place,
        lambda t: t.set_column(8, t.schema.field(8), pa.array([True, False])),
    )
    assert flaws(place) == {(Flaw.REDACTION, "predictions[0]@0")}


@pytest.mark.parametrize(
    ("value", "paths", "left"),
    [
        (b'{"id":"1","a":{"b":1e400,"c":2}}', {"a.b"}, b'{"id":"1","a":{"b":1e400}}'),
        (b'{"id":"1","a":[1,{"b":2,"c":3}]}', {"a.1.b"}, b'{"id":"1","a":[null,{"b":2}]}'),
        (b'{"id":"1","a":"{\\"b\\":2,\\"c\\":3}"}', {"a.b"}, b'{"id":"1","a":"{\\"b\\":2}"}'),
        (b'{"id":"1","a":"my words"}', {"a.b"}, b'{"id":"1","a":""}'),
        (b'{"id":"1","a":7}', {"a.b"}, b'{"id":"1","a":7}'),
        (b' {"id" : "1"}', {"a.b"}, b'{"id":"1"}'),
    ],
)
def test_paths_lead_into_objects_lists_and_texts(
    value: bytes, paths: set[str], left: bytes
) -> None:
    assert Kept("id", frozenset(paths), 1_000).of(value) == left


def test_a_record_that_is_too_large_stays_too_large() -> None:
    value = json.dumps({"id": "1", "text": "x" * 90}).encode()
    assert Kept("id", frozenset(), 50).of(value) == b'{"id":"1"}'.ljust(51)

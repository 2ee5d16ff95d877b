"""Replay of captured files: the numbers of the flow, and a plain word about a damaged file."""

import gzip
from pathlib import Path

import pytest

from monitor.adapters.files import CaptureError
from monitor.adapters.memory import MemoryStore
from monitor.app.replay import replay_files
from monitor.app.report import present_report
from monitor.app.settings import Settings
from tests.app.captures import captured, captured_story
from tests.app.doubles import Trap, TrappedSink
from tests.app.story import SETTINGS, UNREADABLE, history, numbers
from tests.app.test_flow import undisturbed

SHOWN = Settings.model_validate(SETTINGS)


def test_files_give_the_numbers_of_the_log(tmp_path: Path) -> None:
    store = replay_files(captured_story(tmp_path), SHOWN)
    assert isinstance(store, MemoryStore)
    assert numbers(store) == numbers(undisturbed())
    report, reference = present_report(store, SHOWN), present_report(undisturbed(), SHOWN)
    assert report["digest"] == reference["digest"]


def test_gzipped_files_are_read_like_plain_ones(tmp_path: Path) -> None:
    folder = captured_story(tmp_path)
    for path in list(folder.iterdir()):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    store = replay_files(folder, SHOWN)
    assert isinstance(store, MemoryStore)
    assert numbers(store) == numbers(undisturbed())


def test_progress_is_told_and_dead_letters_are_handed_on(tmp_path: Path) -> None:
    seen: list[int] = []
    sink = TrappedSink(Trap())
    replay_files(captured_story(tmp_path), SHOWN, dead_letters=sink, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == len(history())
    assert len(sink.published) == sum(map(len, UNREADABLE.values()))


def test_empty_files_are_a_log_without_records(tmp_path: Path) -> None:
    assert replay_files(captured(tmp_path, []), SHOWN).ledger() == {}


@pytest.mark.parametrize("missing", ["predictions", "labels"])
def test_a_folder_that_lacks_a_file_is_named_with_the_file(tmp_path: Path, missing: str) -> None:
    folder = captured(tmp_path, [])
    (folder / f"{missing}.jsonl").unlink()
    with pytest.raises(CaptureError, match=rf"^{folder}: neither {missing}.jsonl nor "):
        replay_files(folder, SHOWN)


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"17",
        b"null",
        b"\xff",
        b"{}",
        b'{"topic": "predictions", "partition": 0, "offset": 0, "timestamp": "soon"}',
        b'{"topic": "p", "partition": Infinity, "offset": 0, "timestamp": 0, "value": ""}',
        b'{"topic": "p", "partition": 0, "offset": 0, "timestamp": 0, "value": {}}',
        b'{"topic": "p", "partition": 0, "offset": 0, "timestamp": 0, "value_b64": "a"}',
    ],
    ids=repr,
)
def test_a_damaged_line_is_named_with_file_and_number(tmp_path: Path, line: bytes) -> None:
    folder = captured_story(tmp_path)
    path = folder / "labels.jsonl"
    whole = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*whole[:4], b"", line, *whole[4:]]))
    with pytest.raises(CaptureError) as caught:
        replay_files(folder, SHOWN)
    assert str(caught.value).startswith(f"{path}:6: not a captured record")


def halved(packed: bytes) -> bytes:
    return packed[: len(packed) // 2]


def flipped(packed: bytes) -> bytes:
    middle = len(packed) // 2
    return packed[:middle] + bytes(b ^ 0xFF for b in packed[middle : middle + 40]) + packed[-300:]


def not_packed(_: bytes) -> bytes:
    return b"plain text"


@pytest.mark.parametrize("damage", [halved, flipped, not_packed])
def test_a_damaged_gzip_file_is_named(tmp_path: Path, damage: object) -> None:
    folder = captured_story(tmp_path)
    plain = folder / "labels.jsonl"
    packed = gzip.compress(plain.read_bytes(), mtime=0)
    plain.unlink()
    assert callable(damage)
    (folder / "labels.jsonl.gz").write_bytes(damage(packed))
    with pytest.raises(CaptureError, match=r"labels\.jsonl\.gz: damaged gzip file"):
        replay_files(folder, SHOWN)

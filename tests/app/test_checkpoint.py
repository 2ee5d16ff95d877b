"""A replay that was broken off goes on where it stood, and comes to the same numbers."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from monitor.adapters.checkpoint import load_checkpoint, save_checkpoint, try_checkpoint
from monitor.adapters.files import FilesLog
from monitor.adapters.memory import MemoryStore
from monitor.app import replaying
from monitor.app.replay import Replay
from monitor.app.replaying import Asked, Broken, Checkpoint
from monitor.app.wiring import topics_of
from monitor.domain.errors import CheckpointError
from tests.app.captures import captured
from tests.replay.streams import SCENARIO, SETTINGS, T0_MS, by_key, digest_of, simulated

BATCH = 97
SMALL = SETTINGS.model_copy(
    update={"worker": SETTINGS.worker.model_copy(update={"batch_records": BATCH})}
)
FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = by_key(simulated(SCENARIO, end_ms=T0_MS), 3)
    return captured(tmp_path_factory.mktemp("captured"), records)


@contextmanager
def opened(folder: Path) -> Iterator[Replay]:
    with closing(FilesLog(folder, topics_of(SMALL))) as log:
        yield Replay(log, SMALL)


@pytest.mark.parametrize("turns", [1, 4, 11])
def test_a_replay_goes_on_where_it_was_saved(folder: Path, tmp_path: Path, turns: int) -> None:
    with opened(folder) as whole:
        whole.run()
        whole.finish()
    path = tmp_path / "replay.checkpoint"
    with opened(folder) as broken:
        for _ in range(turns):
            broken.flow.turn()
            broken.flow.evaluate()
            broken.flow.sweep()
        save_checkpoint(path, broken.store, purpose="test", records=turns * BATCH)
    with opened(folder) as again:
        again.records = load_checkpoint(path, again.store, purpose="test")
        again.reopen()
        again.run()
        again.finish()
    assert again.records == whole.records
    assert digest_of(again.store) == digest_of(whole.store)
    assert again.store.misses() == whole.store.misses() != []


def test_the_command_saves_when_it_is_stopped_and_goes_on(folder: Path, tmp_path: Path) -> None:
    settings, asked = SMALL, Asked(files=folder)
    path, stop = tmp_path / "replay.checkpoint", threading.Event()
    stop.set()
    with pytest.raises(Broken, match=rf"stopped after {BATCH} records: run it again to go on"):
        replaying.replayed(settings, asked, None, lambda _done, _left: None, Checkpoint(path, stop))
    seen: list[int] = []
    resumed = replaying.replayed(
        settings,
        asked,
        None,
        lambda done, _: seen.append(done),
        Checkpoint(path, threading.Event()),
    )
    whole = replaying.replayed(settings, asked, None, lambda _done, _left: None)
    assert resumed == whole
    assert seen[0] == 2 * BATCH


def test_a_checkpoint_of_other_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    path, stop = tmp_path / "replay.checkpoint", threading.Event()
    stop.set()
    asked = Asked(files=folder)
    with pytest.raises(Broken):
        replaying.replayed(SETTINGS, asked, None, lambda _d, _l: None, Checkpoint(path, stop))
    other = SETTINGS.model_copy(update={"rules": ()})
    with pytest.raises(CheckpointError, match=rf"^{path}: was written by another release, or for"):
        replaying.replayed(
            other, asked, None, lambda _d, _l: None, Checkpoint(path, threading.Event())
        )


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "replay.checkpoint"
    save_checkpoint(path, MemoryStore(), purpose="test", records=0)
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(bytes(data) if damage is None else damage)
    with pytest.raises(CheckpointError, match=rf"^{path}: cannot be used"):
        load_checkpoint(path, MemoryStore(), purpose="test")


def test_a_checkpoint_that_cannot_be_saved_is_told_before_anything_is_read(
    folder: Path, tmp_path: Path
) -> None:
    seen: list[int] = []
    for path in (tmp_path / "missing" / "replay.checkpoint", tmp_path):
        saved = Checkpoint(path, threading.Event())
        with pytest.raises(CheckpointError, match=rf"^{path}: cannot be written .*; name a file"):
            replaying.replayed(
                SETTINGS, Asked(files=folder), None, lambda done, _: seen.append(done), saved
            )
    assert not seen


def test_trying_leaves_no_file_and_what_was_saved_alone(tmp_path: Path) -> None:
    path = tmp_path / "replay.checkpoint"
    try_checkpoint(path)
    assert not list(tmp_path.iterdir())
    save_checkpoint(path, MemoryStore(), purpose="test", records=0)
    saved = path.read_bytes()
    try_checkpoint(path)
    assert path.read_bytes() == saved
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")
def test_a_full_disk_leaves_the_checkpoint_of_before(tmp_path: Path) -> None:
    path = tmp_path / "replay.checkpoint"
    save_checkpoint(path, MemoryStore(), purpose="test", records=0)
    saved = path.read_bytes()
    (tmp_path / "replay.checkpoint.partial").symlink_to(FULL)
    with pytest.raises(CheckpointError, match=rf"^{path}: cannot be written \(No space left"):
        save_checkpoint(path, MemoryStore(), purpose="test", records=1)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == saved


def test_a_folder_that_went_away_is_told_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "replay.checkpoint"
    with pytest.raises(CheckpointError, match=r"cannot be written \(No such file"):
        save_checkpoint(path, MemoryStore(), purpose="test", records=0)

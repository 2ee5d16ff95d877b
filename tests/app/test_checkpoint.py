"""A replay that was broken off goes on where it stood, and comes to the same numbers."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from monitor.adapters.checkpoint import load_checkpoint, save_checkpoint
from monitor.adapters.files import FilesLog
from monitor.adapters.memory import MemoryStore
from monitor.app import replaying
from monitor.app.replay import Replay
from monitor.app.replaying import Asked, Broken, Checkpoint
from monitor.app.settings import Settings
from monitor.app.wiring import topics_of
from monitor.domain.errors import CheckpointError
from tests.app.captures import captured
from tests.replay.streams import SCENARIO, SETTINGS, T0_MS, by_key, digest_of, simulated

BATCH = 97


def settings_of_small_batches() -> Settings:
    worker = SETTINGS.worker.model_copy(update={"batch_records": BATCH})
    return SETTINGS.model_copy(update={"worker": worker})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records = by_key(simulated(SCENARIO, end_ms=T0_MS), 3)
    return captured(tmp_path_factory.mktemp("captured"), records)


@contextmanager
def opened(folder: Path) -> Iterator[Replay]:
    settings = settings_of_small_batches()
    with closing(FilesLog(folder, topics_of(settings))) as log:
        yield Replay(log, settings)


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


def test_the_command_saves_when_it_is_stopped_and_goes_on(folder: Path, tmp_path: Path) -> None:
    settings, asked = settings_of_small_batches(), Asked(files=folder)
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
        replaying.replayed(
            settings_of_small_batches(), asked, None, lambda _d, _l: None, Checkpoint(path, stop)
        )
    other = settings_of_small_batches().model_copy(update={"rules": ()})
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

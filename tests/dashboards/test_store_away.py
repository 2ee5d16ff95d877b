"""Every page while the store is away, when it is back, and when no worker writes to it."""

from typing import NamedTuple

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import pictures
from dashboards.source import Source
from dashboards.theme import Tone
from monitor.adapters.memory import MemoryStore
from monitor.domain import engine
from monitor.domain.cut import Progress
from monitor.domain.events import Batch, Kind, Partition
from monitor.ports import Heartbeat
from tests.dashboards import piped, replayed, scenes
from tests.dashboards.test_pages import forget_what_was_read, notices, run

PAGES = (
    "live", "alerts", "missed", "confusion", "labels", "variants", "replay", "pipeline"
)  # fmt: skip
PAST = "replay"
"""The page about an instant that is over, which no silence of a worker makes older."""


class Seen(NamedTuple):
    """A page, and the switch of its store."""

    app: AppTest
    down: list[bool]

    def a_moment_later(self) -> AppTest:
        """Drawn again when nothing but the pulse of the store is due."""
        pictures._pulse.clear()
        pictures._now.clear()
        pictures._pipeline.clear()
        return self.app.run()


def of_page(page: str, down: list[bool]) -> Source:
    if page == "replay":
        return replayed.source(scenes.flaky(replayed.store(), lambda: bool(down)))
    if page == "pipeline":
        return piped.source_of(scenes.flaky(piped.healthy(), lambda: bool(down)))
    return scenes.source_of(scenes.flaky(scenes.store_of("firing"), lambda: bool(down)))


def seen(page: str) -> Seen:
    down: list[bool] = []
    return Seen(run(of_page(page, down), page), down)


def tones(app: AppTest) -> list[Tone]:
    return [tone for tone, _ in notices(app)]


def away(app: AppTest) -> list[str]:
    return [text for _, text in notices(app) if text.startswith("Redis is unreachable")]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_at_once_that_the_store_is_away_and_shows_what_it_knew(page: str) -> None:
    look = seen(page)
    before = [card.value for card in look.app.metric]
    assert away(look.app) == []
    look.down.append(True)
    app = look.a_moment_later()
    assert not app.exception
    [said] = away(app)
    assert said.startswith("Redis is unreachable — last known values of 12:00:02 UTC.")
    assert said.endswith("retrying every 2 s")
    assert len(app.metric) == len(before)
    assert {card.value for card in app.metric} <= {"–"}
    assert "last known 12:00:02 UTC" in [text.value for text in app.caption]


def test_what_fired_is_told_as_last_known_while_the_store_is_away() -> None:
    look = seen("live")
    look.down.append(True)
    [fired] = [text for _, text in notices(look.a_moment_later()) if "fine_tuned firing" in text]
    assert fired.startswith("Last known state: fine_tuned firing: urgent recall ")
    look = seen("alerts")
    look.down.append(True)
    app = look.a_moment_later()
    cards = "".join(element.proto.body for element in app.get("html"))
    assert "Last known state: fine_tuned firing: urgent recall " in cards
    assert any("Firing, last known" in mark.value for mark in app.markdown)


@pytest.mark.parametrize("page", ["labels", "pipeline"])
def test_books_are_green_only_while_the_store_answers(page: str) -> None:
    look = seen(page)
    [well] = [mark.value for mark in look.app.markdown if "The books balance" in mark.value]
    assert well.startswith(":green-badge[")
    look.down.append(True)
    forget_what_was_read()
    [known] = [mark.value for mark in look.app.run().markdown if "The books balance" in mark.value]
    assert known.startswith(":gray-badge[")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_as_before_at_once_when_the_store_is_back(page: str) -> None:
    look = seen(page)
    before = [card.value for card in look.app.metric]
    look.down.append(True)
    forget_what_was_read()
    assert away(look.app.run())
    look.down.clear()
    app = look.a_moment_later()
    assert not app.exception
    assert away(app) == []
    assert [card.value for card in app.metric] == before


@pytest.mark.parametrize("page", [page for page in PAGES if page != PAST])
def test_a_page_says_that_it_is_stale_and_is_green_nowhere(page: str) -> None:
    for scene in ("ok", "caught"):
        app = run(scenes.source_of(scenes.store_of(scene), age_ms=240_000), page)
        told = [text for _, text in notices(app)]
        assert any(text.startswith("Stale — no new window for 4 min.") for text in told)
        assert Tone.OK not in tones(app), (scene, told)


def counted_only(*unread: Partition) -> MemoryStore:
    """A store whose records are counted, and whose rules were never asked."""
    store = MemoryStore()
    past = sorted(scenes.caught().envelopes, key=scenes.log_ms)
    reached = Progress(len(past), scenes.NOON_MS, scenes.NOON_MS)
    progress = {
        each: Progress(0) if each in unread else reached
        for each in (Partition(kind, 0) for kind in Kind)
    }
    changes = engine.step(
        scenes.SPEC, {}, Batch.of(past), progress=progress, watermark_ms=None
    )  # fmt: skip
    store.commit(0, {}, changes)
    store.beat(Heartbeat("worker-1", scenes.NOON_MS, lag=0, records=len(past)))
    return store


@pytest.mark.parametrize("page", ["live", "alerts", "labels"])
def test_nothing_is_said_to_be_well_before_a_rule_was_evaluated(page: str) -> None:
    labels = Partition(Kind.LABELS, 0)
    app = run(scenes.source_of(counted_only(labels)), page)
    told = [text for _, text in notices(app)]
    assert [text for text in told if "Nothing is" in text] == []
    [said] = [text for text in told if text.startswith("No rule was evaluated yet.")]
    if page != "labels":
        assert "Nothing has been read yet of labels[0], without which no rule" in said
        assert said.endswith("Records are counted up to 12:00:00 UTC.")
    assert Tone.OK not in tones(app)


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_store_is_told_in_one_notice(page: str) -> None:
    app = run(scenes.source_of(scenes.store_of("empty")), page)
    assert notices(app) == [(Tone.NEUTRAL, scenes.NOTHING_YET)]
    assert not app.metric

"""Every page while the store is away, when it is back, and when no worker writes to it."""

from typing import NamedTuple

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import pictures
from dashboards.source import Source
from dashboards.theme import Tone
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
    known = [text.value for text in app.caption if text.value.startswith("last known 12")]
    assert known == (["last known 12:00:02 UTC"] if page != "pipeline" else known)


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
        assert told[0].startswith("Stale — no new window for 4 min."), (scene, told)
        assert Tone.OK not in tones(app), (scene, told)


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_store_is_told_in_one_notice(page: str) -> None:
    app = run(scenes.source_of(scenes.store_of("empty")), page)
    assert notices(app) == [(Tone.NEUTRAL, scenes.NOTHING_YET)]
    assert not app.metric

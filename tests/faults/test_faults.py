"""Whatever breaks, nothing is lost, nothing counted twice, and all that was journaled is true.

A short run of the fault rig, in which every run ends with an audit of everything.

The long run, its table and the takeover times are in docs/guarantees.md.
"""

from collections.abc import Iterator

import pytest

from tests.faults.rig import Rig
from tests.faults.schedule import Blow, Does, Schedule, TimedBlow, Trap, schedule
from tests.servers.artifacts import ArtifactsError
from tests.servers.processes import ServerError
from tests.servers.redis import program_path

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.system_redis,
    pytest.mark.usefixtures("refused_connections"),
]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    try:
        program_path("redis-server")
        rig = Rig(predictions=1_500, pace_s=4.0)
    except (ArtifactsError, ServerError) as missing:
        pytest.skip(str(missing))
    with rig:
        yield rig


def two_workers(*traps: Trap, blows: tuple[TimedBlow, ...] = (), shards: int = 8) -> Schedule:
    return Schedule(99, 2, shards, "range", is_static=False, traps=traps, blows=blows)


KILLED_BETWEEN = two_workers(
    Trap("before store.commit", 9, Does.KILL), Trap("before store.commit", 30, Does.KILL)
)
KILLED_WITH_A_TRANSITION = two_workers(Trap("after store.commit_evaluation", 1, Does.KILL))
FROZEN_BETWEEN = [
    two_workers(
        Trap("before store.commit", commits, Does.FREEZE),
        blows=(TimedBlow(0.3, Blow.WORKER_ADDED, 0),),
    )
    for commits in (20, 12, 28, 16)
]
"""Whether others count meanwhile what the frozen worker holds is chance: so there are several."""


@pytest.mark.parametrize("seed", [2, 10, 18])
def test_nothing_is_lost_or_doubled_under_a_schedule_of_faults(rig: Rig, seed: int) -> None:
    outcome = rig.run(schedule(seed))
    assert outcome.problems == (), str(outcome.schedule)
    assert (outcome.lost, outcome.doubled, outcome.is_equal) == (0, 0, True)
    assert outcome.faults
    assert outcome.digests > 1


def test_nothing_is_lost_or_doubled_with_the_other_client(rig: Rig) -> None:
    rig.client = "confluent-kafka"
    try:
        outcome = rig.run(schedule(2))
    finally:
        rig.client = "kafka-python"
    assert outcome.problems == (), str(outcome.schedule)
    assert (outcome.lost, outcome.doubled, outcome.is_equal) == (0, 0, True)
    assert outcome.faults


def test_offsets_that_are_committed_early_do_no_harm_since_reading_follows_the_cut(
    rig: Rig,
) -> None:
    assert rig.run(KILLED_BETWEEN, broken="offsets-early").problems == ()


def test_the_rig_finds_lost_records_when_reading_follows_offsets_committed_first(rig: Rig) -> None:
    assert rig.run(KILLED_BETWEEN, broken="offsets-first").lost > 0


def test_the_rig_finds_wrong_numbers_when_the_store_does_not_compare(rig: Rig) -> None:
    outcomes = (rig.run(each, broken="skip-compare") for each in FROZEN_BETWEEN)
    outcome = next((each for each in outcomes if not each.is_equal), None)
    assert outcome is not None
    assert [problem for problem in outcome.problems if not problem.startswith("audit: ")]
    assert [problem for problem in outcome.problems if problem.startswith("audit: ")]


def test_the_rig_finds_an_alert_that_nobody_was_told_of_when_there_is_no_outbox(rig: Rig) -> None:
    outcome = rig.run(KILLED_WITH_A_TRANSITION, broken="no-outbox")
    assert any("never announced" in problem for problem in outcome.problems)


def test_a_worker_killed_with_a_transition_in_hand_has_it_announced_by_another(rig: Rig) -> None:
    outcome = rig.run(KILLED_WITH_A_TRANSITION)
    assert "kill after store.commit_evaluation" in outcome.faults
    assert outcome.problems == ()

"""A schedule is drawn from its seed, and a hundred of them leave nothing out."""

from collections import Counter
from itertools import pairwise

from monitor.domain.events import Kind
from tests.faults.schedule import STEPS, Blow, Does, schedule
from tests.faults.stream import END_MS, PARTITIONS, Stream

TOPICS = {kind: str(kind) for kind in Kind}
HUNDRED = [schedule(seed) for seed in range(102)]


def test_the_same_seed_gives_the_same_schedule_and_the_same_stream() -> None:
    assert schedule(7) == schedule(7)
    assert schedule(7) != schedule(8)
    assert Stream(TOPICS, 7).records(50) == Stream(TOPICS, 7).records(50)


def test_a_hundred_schedules_kill_at_every_step_and_strike_every_blow() -> None:
    traps = {(trap.step, trap.does) for each in HUNDRED for trap in each.traps}
    blows = {timed.blow for each in HUNDRED for timed in each.blows}
    assert {(step, Does.KILL) for step in STEPS} <= traps
    assert blows == set(Blow)


def test_a_hundred_schedules_try_every_setting_alike() -> None:
    settings = Counter((each.workers, each.shards) for each in HUNDRED)
    assert settings == {(w, s): 17 for w in (1, 2, 4) for s in (1, 8)}
    groups = {(each.workers, each.assignor, each.is_static) for each in HUNDRED}
    assert len(groups) == 3 * 2 * 2


def test_log_times_rise_over_the_whole_stream_and_every_partition_ends_closed() -> None:
    records = Stream(TOPICS, 1).records(200)
    times = [record.log_ms or 0 for record in records if record.log_ms != END_MS]
    assert all(before < after for before, after in pairwise(times))
    closing = records[-sum(PARTITIONS.values()) :]
    assert {(r.topic, r.partition) for r in closing if r.log_ms == END_MS} == {
        (str(kind), number) for kind, count in PARTITIONS.items() for number in range(count)
    }

"""What goes wrong in one run, and when: drawn from a seed, the same every time.

Two kinds of faults. A **trap** is set in one worker: it kills or freezes itself the nth time that
it passes a step of the order of effects. A **blow** comes from outside at an instant of the feed:
to a worker, the broker, the store, or the connections between.
"""

import random
from dataclasses import dataclass
from enum import StrEnum

STEPS = (
    "before log.poll",
    "after log.poll",
    "before dead_letters.publish",
    "after dead_letters.publish",
    "before store.load",
    "before store.commit",
    "after store.commit",
    "before log.commit",
    "after log.commit",
    "before store.lead",
    "before store.forget",
    "before store.commit_evaluation",
    "after store.commit_evaluation",
    "before announcing",
    "after announcing",
    "after store.delivered",
    "before journal.publish",
    "after journal.publish",
    "before store.published",
    "before store.sweep",
    "during store.load",
    "after store.load",
    "during store.commit",
)
"""Every arrow of the order of effects in monitor/app/flow.py."""

RARE_STEPS = frozenset(STEPS[2:4] + STEPS[11:16])
"""Passed only now and then: by few batches, or only with a transition in hand."""


class Does(StrEnum):
    """What a trap does to its worker."""

    KILL = "kill"
    FREEZE = "freeze"


class Blow(StrEnum):
    """What comes from outside."""

    WORKER_KILLED = "worker killed"
    WORKER_FROZEN = "worker frozen"
    WORKER_STOPPED = "worker restarted in good order"
    WORKER_ADDED = "worker added for a while"
    BROKER_KILLED = "broker killed"
    BROKER_STOPPED = "broker restarted"
    BROKER_FROZEN = "broker frozen"
    STORE_KILLED = "store killed"
    STORE_FROZEN = "store frozen"
    STORE_FORGETS = "store loses its last writes"
    STORE_PROMOTED = "store replaced by a replica that lags"
    STORE_REPLY_LOST = "reply of a commit lost"
    STORE_REQUEST_LOST = "request of a commit lost"
    STORE_CUT = "connections to the store broken"
    BROKER_CUT = "connections to the broker broken"
    STORE_STALLED = "connections to the store stall"
    BROKER_STALLED = "connections to the broker stall"


@dataclass(frozen=True)
class Trap:
    """``nth`` counts the passings of ``step`` by one process."""

    step: str
    nth: int
    does: Does


@dataclass(frozen=True)
class TimedBlow:
    """``at`` is the share of the feed that has been written; ``target`` picks the worker."""

    at: float
    blow: Blow
    target: int


@dataclass(frozen=True)
class Schedule:
    """One run. For whom the ``traps`` are set, ``crew.Crew`` says."""

    seed: int
    workers: int
    shards: int
    assignor: str
    is_static: bool
    traps: tuple[Trap, ...]
    blows: tuple[TimedBlow, ...]

    def __str__(self) -> str:
        """One line: the setting, then what went wrong."""
        group = f"{self.assignor}{', static' if self.is_static else ''}"
        traps = [f"{trap.does} {trap.step} #{trap.nth}" for trap in self.traps]
        blows = [f"{timed.blow} at {timed.at:.0%}" for timed in self.blows]
        return f"{self.workers} workers, {self.shards} shards, {group}: " + "; ".join(traps + blows)


def schedule(seed: int) -> Schedule:
    """The schedule of a seed. Consecutive seeds go through all settings and all steps."""
    chance = random.Random(f"schedule {seed}")
    return Schedule(
        seed,
        workers=(1, 2, 4)[seed % 3],
        shards=(1, 8)[seed // 3 % 2],
        assignor=("range", "cooperative-sticky")[seed // 6 % 2],
        is_static=seed // 12 % 2 == 1,
        traps=(
            _trap(chance, STEPS[seed % len(STEPS)]),
            *(_trap(chance, chance.choice(STEPS)) for _ in range(chance.randrange(3))),
        ),
        blows=tuple(
            sorted(
                (
                    TimedBlow(round(chance.uniform(0.05, 0.95), 2), blow, chance.randrange(8))
                    for blow in chance.sample(tuple(Blow), chance.randrange(1, 4))
                ),
                key=lambda timed: timed.at,
            )
        ),
    )


def _trap(chance: random.Random, step: str) -> Trap:
    nth = chance.randrange(1, 4) if step in RARE_STEPS else chance.randrange(1, 40)
    does = Does.FREEZE if chance.random() < 0.25 else Does.KILL
    return Trap(step, nth, does)

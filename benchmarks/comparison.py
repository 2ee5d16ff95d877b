"""Paired comparison while it is watched: how often nothing is taken for something, and its power.

Each run is a stream of requests that two variants answered. It is looked at after every pair, which
is as often as one can look, and stops at the first claim.
"""

import argparse
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.domain.pairs import ALPHA, bar_of, mcnemar
from monitor.domain.sequential import log_evidence

RUNS, LOOKS, SEED = 1_000, 10_000, 2024
AT_ONCE = 100
"""Runs that are worked out together: 10,000 looks of each are 8 MB an array."""

DISCORDANT = (0.02, 0.05, 0.10, 0.20, 0.40, 1.00)
DIFFERENCES = (0.01, 0.02, 0.05, 0.10, 0.20)
Floats = NDArray[np.float64]


class Found(NamedTuple):
    """Of some runs: the share that ever claimed, the share that claimed the wrong one, and when."""

    claimed: float
    wrong: float
    pairs: list[float]
    """Quantiles 50, 80 and 95 % of the pairs until the claim; infinity where fewer claimed."""

    repeated: float
    """Share of runs in which the exact test had P below ``ALPHA`` at any look."""


def table_of(looks: int) -> tuple[Floats, Floats]:
    """Log Gamma at k + 1/2 and at k + 1 for k up to ``looks``."""
    ks = range(looks + 1)
    return np.array([math.lgamma(k + 0.5) for k in ks]), np.array([math.lgamma(k + 1) for k in ks])


def claims(
    dice: np.random.Generator,
    tables: tuple[Floats, Floats],
    *,
    runs: int,
    looks: int,
    shares: tuple[float, float],
    bar: float,
) -> Found:
    """``shares`` of pairs on which only the one is right, and only the other."""
    halves, wholes = tables
    first, for_one, naive, most = [], [], [], most_for_less(looks)
    for start in range(0, runs, AT_ONCE):
        size = min(AT_ONCE, runs - start), looks
        drawn = dice.random(size)
        ones = np.cumsum(drawn < shares[0], axis=1)
        others = np.cumsum(drawn >= 1 - shares[1], axis=1)
        n = ones + others
        evidence = (
            halves[ones] + halves[others] - wholes[n] - math.log(math.pi) + n * math.log(2)
        )  # fmt: skip
        is_claimed = evidence >= bar
        at = np.where(is_claimed.any(axis=1), is_claimed.argmax(axis=1), looks)
        first.append(at)
        naive.append((np.minimum(ones, others) <= most[n]).any(axis=1))
        last = np.minimum(at, looks - 1)[:, None]
        leads = np.take_along_axis(ones, last, 1) > np.take_along_axis(others, last, 1)
        for_one.append(leads[:, 0])
    at, leads_one = np.concatenate(first), np.concatenate(for_one)
    until = np.sort(np.where(at < looks, at + 1.0, np.inf))
    is_found = at < looks
    return Found(
        float(is_found.mean()),
        float((is_found & ~leads_one).mean()),
        [float(until[math.ceil(share * runs) - 1]) for share in (0.5, 0.8, 0.95)],
        float(np.concatenate(naive).mean()),
    )


def most_for_less(looks: int) -> NDArray[np.int64]:
    """The most for the lesser one with P below ALPHA, by the pairs that differ; -1 for none."""
    found, most = [], -1
    for n in range(looks + 1):
        while mcnemar(most + 1, n - most - 1) < ALPHA:
            most += 1
        found.append(most)
    return np.array(found)


def rows_of_null(runs: int, looks: int, discordant: Sequence[float]) -> list[tuple[str, ...]]:
    """No difference: share of runs that ever claim one, at the bar of one pair and at 1 / ALPHA."""
    tables, rows = table_of(looks), []
    for share in discordant:
        found = [
            claims(
                np.random.default_rng([SEED, round(share * 1000)]),
                tables,
                runs=runs,
                looks=looks,
                shares=(share / 2, share / 2),
                bar=bar,
            )
            for bar in (bar_of(1, 1), -math.log(ALPHA))
        ]
        told = (found[0].claimed, found[1].claimed, found[0].repeated)
        rows.append((f"{share:.0%}", *(f"{each:.1%}" for each in told)))
    return rows


def rows_of_power(runs: int, looks: int) -> list[tuple[str, ...]]:
    """A true difference: share of runs that claim it, and after how many pairs."""
    tables, rows = table_of(looks), []
    for difference in DIFFERENCES:
        for discordant in DISCORDANT[:-1]:
            if discordant < difference:
                continue
            shares = (discordant + difference) / 2, (discordant - difference) / 2
            dice = np.random.default_rng([SEED, round(difference * 1e4), round(discordant * 1e4)])
            found = claims(dice, tables, runs=runs, looks=looks, shares=shares, bar=bar_of(1, 1))
            rows.append((
                f"{100 * difference:.0f}", f"{discordant:.0%}", f"{found.claimed:.1%}",
                f"{found.wrong:.1%}", *(_pairs(each, looks) for each in found.pairs),
            ))  # fmt: skip
    return rows


def _pairs(pairs: float, looks: int) -> str:
    return f"over {looks:,}" if math.isinf(pairs) else f"{pairs:,.0f}"


def _print(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def main(options: list[str]) -> None:
    """Both tables of docs/comparison.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks comparison", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--looks", type=int, default=LOOKS)
    asked = parser.parse_args(options)
    assert math.isclose(log_evidence(3, 1, 0.5), _evidence(3, 1)), "the table is not the evidence"
    print(f"{asked.runs:,} runs, looked at after each of {asked.looks:,} pairs\n")
    print("No difference: runs in which one is ever claimed\n")
    _print(
        (
            "variants differ on", "at the bar of 40 (one comparison, two variants)",
            "at a bar of 20", "P below 5% in an exact test at every look",
        ),
        rows_of_null(asked.runs, asked.looks, DISCORDANT),
    )  # fmt: skip
    print("A true difference: runs in which it is claimed, and after how many pairs\n")
    _print(
        (
            "difference, points", "variants differ on", "claimed", "of these for the worse one",
            "pairs, half the runs", "80% of runs", "95% of runs",
        ),
        rows_of_power(asked.runs, asked.looks),
    )  # fmt: skip


def _evidence(one: int, other: int) -> float:
    halves, wholes = table_of(one + other)
    n = one + other
    return float(halves[one] + halves[other] - wholes[n] - math.log(math.pi) + n * math.log(2))

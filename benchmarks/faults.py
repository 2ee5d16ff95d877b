"""The fault rig, run long: schedules of kills, freezes and lost connections, and takeover times.

Not a benchmark of speed: it fails when a single record was lost or counted twice, or when an audit
of all that was journaled meets a digest that does not come about again. Takes about half
a minute a schedule. Needs Java 17, Maven and redis-server.
"""

import argparse
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tests.faults.broken import BREAKS
from tests.faults.rig import SESSION_S, Outcome, Rig
from tests.faults.schedule import schedule


def main(argv: list[str]) -> None:
    """Run, print a line for each schedule as it ends, then the tables."""
    options = _options(argv)
    outcomes: list[Outcome] = []
    with Rig(predictions=options.predictions) as rig:
        for seed in range(options.first, options.first + options.schedules):
            outcomes.append(rig.run(schedule(seed), options.broken))
            print(_line(outcomes[-1]), flush=True)
        takeovers = {
            workers: rig.takeovers(workers, options.kills) for workers in (2, 4) if options.kills
        }
    print("\n".join(["", *_table(outcomes), "", *_takeover_table(takeovers)]))
    print("\n".join(["", *_fault_table(outcomes)]))
    if any(outcome.problems for outcome in outcomes):
        raise SystemExit(1)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks faults", description=__doc__)
    parser.add_argument("--schedules", type=int, default=120, help="how many (default 120)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first (default 0)")
    parser.add_argument("--predictions", type=int, default=3_000, help="in each (default 3000)")
    parser.add_argument("--kills", type=int, default=20, help="takeovers to time (default 20)")
    parser.add_argument("--broken", choices=sorted(BREAKS), help="take a guarantee away first")
    return parser.parse_args(argv)


def _line(outcome: Outcome) -> str:
    verdict = "ok" if not outcome.problems else "FAILED: " + "; ".join(outcome.problems)
    return (
        f"{outcome.schedule.seed:>4} {outcome.seconds:5.1f} s  {outcome.records} records, "
        f"{outcome.starts} starts, {len(outcome.faults)} faults, "
        f"lost {outcome.lost}, doubled {outcome.doubled}, {outcome.digests} digests: {verdict}\n"
        f"       {outcome.schedule}"
    )


def _table(outcomes: Sequence[Outcome]) -> Iterable[str]:
    """Markdown, one row for each number of workers and shards."""
    rows: defaultdict[tuple[int, int], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        rows[outcome.schedule.workers, outcome.schedule.shards].append(outcome)
    heads = (
        "workers",
        "shards",
        "schedules",
        "records",
        "starts",
        "faults",
        "lost",
        "doubled",
        "right",
        "digests",
        "peak MB",
    )
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---:|' * len(heads)}"
    for (workers, shards), found in sorted(rows.items()):
        yield f"| {workers} | {shards} | {_totals(found)} |"
    yield f"| | **all** | {_totals(outcomes)} |"


def _totals(outcomes: Sequence[Outcome]) -> str:
    equal = sum(outcome.is_equal and not outcome.problems for outcome in outcomes)
    figures = (
        len(outcomes),
        sum(outcome.records for outcome in outcomes),
        sum(outcome.starts for outcome in outcomes),
        sum(len(outcome.faults) for outcome in outcomes),
        sum(outcome.lost for outcome in outcomes),
        sum(outcome.doubled for outcome in outcomes),
        f"{equal} of {len(outcomes)}",
        sum(outcome.digests for outcome in outcomes),
        max((outcome.peak_mb for outcome in outcomes), default=0),
    )
    return " | ".join(map(str, figures))


def _fault_table(outcomes: Sequence[Outcome]) -> Iterable[str]:
    """Markdown: how often each trap sprang, and each blow struck."""
    faults = Counter(what for outcome in outcomes for what in outcome.faults)
    yield "| fault | times |"
    yield "|---|---:|"
    for what, times in sorted(faults.items()):
        yield f"| {what} | {times} |"


def _takeover_table(takeovers: dict[int, list[float]]) -> Iterable[str]:
    if not takeovers:
        return
    yield f"Takeover after SIGKILL, session timeout {SESSION_S} s:"
    yield ""
    yield "| workers | kills | median | p95 | longest |"
    yield "|---:|---:|---:|---:|---:|"
    for workers, seconds in takeovers.items():
        p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
        median = statistics.median(seconds)
        yield (
            f"| {workers} | {len(seconds)} | {median:.1f} s | {p95:.1f} s | {max(seconds):.1f} s |"
        )

"""``python -m benchmarks NAME``: measure, and print the table that the documents quote."""

import argparse
from collections.abc import Callable

from benchmarks import (
    alerts,
    comparison,
    dashboard,
    faults,
    leakage,
    live,
    memory,
    replay,
    sampled,
    sizes,
)

BENCHMARKS: dict[str, Callable[[list[str]], None]] = {
    "alerts": alerts.main,
    "comparison": comparison.main,
    "dashboard": dashboard.main,
    "faults": faults.main,
    "leakage": leakage.main,
    "live": live.main,
    "memory": memory.main,
    "replay": replay.main,
    "sampled": sampled.main,
    "sizes": sizes.main,
}


def main() -> None:
    """Run one benchmark with its own options; memory by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = sorted(BENCHMARKS)
    parser.add_argument("name", nargs="?", choices=names, help="default: memory")
    chosen, options = parser.parse_known_args()
    for name in [chosen.name] if chosen.name else ["memory"]:
        print(f"== {name}", flush=True)
        BENCHMARKS[name](options)


if __name__ == "__main__":
    main()

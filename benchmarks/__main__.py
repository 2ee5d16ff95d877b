"""``python -m benchmarks NAME``: measure, and print the table that the documents quote."""

import argparse
import sys
from importlib import import_module

BENCHMARKS = (
    "alerts",
    "comparison",
    "dashboard",
    "evaluation",
    "faults",
    "leakage",
    "live",
    "memory",
    "replay",
    "sampled",
    "sizes",
)
"""Modules, each with a ``main`` that takes its own options; only the one asked for is loaded."""


def main() -> None:
    """Run one benchmark with its own options; the live worker by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=BENCHMARKS, default="live", help="(live)")
    asked = sys.argv[1:]
    is_named = bool(asked) and (asked[0] in {"-h", "--help"} or not asked[0].startswith("-"))
    chosen = parser.parse_args(asked[:is_named])
    print(f"== {chosen.name}", flush=True)
    import_module(f"benchmarks.{chosen.name}").main(asked[is_named:])


if __name__ == "__main__":
    main()

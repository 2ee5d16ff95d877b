"""The performance table of the README: `python -m benchmarks`."""

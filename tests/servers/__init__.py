"""Real servers on loopback: Apache Kafka, Redis and Valkey, and a TCP proxy that breaks on demand.

For the tests and for the benchmarks. Whatever is started here ends with this process, even when
that is killed with SIGKILL, and leaves no folder behind.
"""

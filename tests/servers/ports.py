"""Loopback ports for servers that are stopped and started again."""

import random
import socket

HOST = "127.0.0.1"

LOWEST, HIGHEST = 10_000, 22_767
"""Below what Linux and macOS give to outgoing connections: one of those could take the port of a
server while it is down, and a client that tries again and again could even connect to itself."""

BUS_OFFSET = 10_000
"""A node of a Redis Cluster also listens on its port plus this number."""

ATTEMPTS = 1_000

_given: set[int] = set()
_choice = random.SystemRandom()


def free_port(*, with_bus: bool = False) -> int:
    """A port on which nothing listens, and which was not given to anyone in this process yet.

    With `with_bus` the port of a Redis Cluster bus that belongs to it is free, too.
    """
    for _ in range(ATTEMPTS):
        port = _choice.randint(LOWEST, HIGHEST)
        wanted = {port, port + BUS_OFFSET} if with_bus else {port}
        if not wanted & _given and all(map(_is_free, wanted)):
            _given.update(wanted)
            return port
    raise OSError(f"no free port from {LOWEST} to {HIGHEST} in {ATTEMPTS} attempts")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True

"""Connections whose next request has not come whole: half a head, half a body, or nothing yet."""

from __future__ import annotations

import ipaddress
import resource
from collections.abc import Callable


class Unsent:
    """How long a head may take, and how many such connections an address may hold.

    Beyond that number the one that has kept the server waiting longest is closed: nobody can take all places, and
    people behind the same address still get in.
    """

    def __init__(self, *, head_timeout_s: float, most_per_address: int) -> None:
        self.head_timeout_s = head_timeout_s
        self._most = max(1, min(most_per_address, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._open: dict[str, dict[object, Callable[[], None]]] = {}

    def add(self, address: str, connection: object, close: Callable[[], None]) -> None:
        """`connection` waits from now on; `close` ends it."""
        waiting = self._open.setdefault(_network(address), {})
        waiting.pop(connection, None)
        waiting[connection] = close
        if len(waiting) > self._most:
            oldest = next(iter(waiting))
            waiting.pop(oldest)()

    def remove(self, address: str, connection: object) -> None:
        """Its request is here, or it is gone."""
        network = _network(address)
        waiting = self._open.get(network, {})
        waiting.pop(connection, None)
        if not waiting:
            self._open.pop(network, None)


def _network(address: str) -> str:
    """The address; of IPv6 the /64, which one machine has to itself."""
    if ":" not in address:
        return address
    long = ipaddress.IPv6Address(address.partition("%")[0])
    return str(long.ipv4_mapped or int(long) >> 64)

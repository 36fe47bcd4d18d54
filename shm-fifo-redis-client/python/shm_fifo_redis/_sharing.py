"""What both kinds of connections have: the wish to move, and why they did not."""

from __future__ import annotations

import logging
import os
import socket
from typing import Any, Mapping

from . import _native

logger = logging.getLogger("shm_fifo_redis")

# A connection is not inherited: its child's copy fails, and redis-py connects again.
os.register_at_fork(after_in_child=_native.forked)

NOT_CONNECTED = "it is not connected"
UNREAD = "its parser may have read something of what the server has sent"


class Sharing:
    """A connection of redis-py's that moves to shared memory once it has logged in.

    ``shm="prefer"``, the default, goes on over the socket where it cannot; ``shm="require"``
    makes that an error.
    """

    shm = "prefer"
    _not_moved: str | None = NOT_CONNECTED

    def __init__(self, *args: Any, shm: str | None = None, **kwargs: Any) -> None:
        if shm is not None:
            self.shm = wish(shm)
        super().__init__(*args, **kwargs)
        # The first, so that nothing is outstanding: the next ones may subscribe.
        self.register_connect_callback(self._move)  # type: ignore[attr-defined]

    @property
    def not_moved(self) -> str | None:
        """Why the connection is not in shared memory; ``None`` if it is."""
        return self._not_moved if self.is_connected else NOT_CONNECTED  # type: ignore[attr-defined]

    def _is_refused(self, reason: str | None) -> bool:
        """Notes how it ended; whether that is an error."""
        self._not_moved = reason
        if reason is None:
            logger.info("%r moved to shared memory", self)
        else:
            logger.info("%r is still on a socket: %s", self, reason)
        return reason is not None and self.shm == "require"


def wish(shm: str) -> str:
    if shm not in ("prefer", "require"):
        raise ValueError(f"shm={shm} is unknown; shm=require and shm=prefer are known")
    return shm


def kind(family: int) -> str:
    """How a socket that did not move is called."""
    return "unix" if family == socket.AF_UNIX else "tcp"


def plain_url(url: str) -> tuple[str, str | None]:
    """The address as redis-py knows it, and its scheme if it asks for shared memory by ``+shm``."""
    scheme, separator, rest = url.partition("://")
    plain = {"redis+shm": "redis", "redis+shm+unix": "unix"}.get(scheme.lower())
    return (url if plain is None else plain + separator + rest), plain


def share(pool: Any, classes: Mapping[str, type], shm: str | None) -> None:
    """Gives a pool that has no connection yet the classes that move. TLS has none."""
    for sharing in classes.values():
        if pool.connection_class is sharing.__bases__[1]:
            pool.connection_class = sharing
            if shm is not None:
                pool.connection_kwargs["shm"] = wish(shm)

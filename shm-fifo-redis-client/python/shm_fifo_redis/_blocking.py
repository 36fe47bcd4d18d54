"""Connections that block, and release the interpreter while they wait."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import TYPE_CHECKING, Any

import redis
import redis.connection
import redis.sentinel
from redis._parsers import _HiredisParser, _RESP2Parser, _RESP3Parser
from redis.cluster import ClusterNode

from . import _native
from ._sharing import UNREAD, Sharing, kind, plain_url, share


class Socket(_native.Stream):
    """A connection that has moved, in the place of its socket."""

    def getpeername(self) -> Any:
        with self._socket() as doorbell:
            return doorbell.getpeername()

    def getsockname(self) -> Any:
        with self._socket() as doorbell:
            return doorbell.getsockname()

    def _socket(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self.fileno()))


if TYPE_CHECKING:
    _Base = redis.connection.AbstractConnection
else:
    _Base = object


class _Moving(Sharing, _Base):
    _sock: Any

    @property
    def transport(self) -> str | None:
        """What carries the connection: ``shm``, ``unix`` or ``tcp``; ``None`` without one."""
        sock = self._sock
        if sock is None:
            return None
        return sock.transport if isinstance(sock, Socket) else kind(sock.family)

    def can_read(self, timeout: float = 0) -> bool:
        if self._sock is None:
            self.connect()
        sock = self._sock
        # A parser would poll for a doorbell that nobody has been asked for.
        if isinstance(sock, Socket) and not has_unread(self._parser) and not sock.wait(timeout):
            return False
        # Here, or on a socket, the parser tells a reply from the end.
        return super().can_read(timeout)

    def _move(self, _connection: Any) -> None:
        try:
            refused = self._is_refused(self._try_to_move())
        except BaseException as error:
            # Half a move is none that a pool may give to others.
            self.disconnect()
            if isinstance(error, socket.timeout):
                raise redis.TimeoutError("Timeout moving to shared memory") from error
            if isinstance(error, OSError):
                raise redis.ConnectionError(f"Error moving to shared memory: {error}") from error
            raise
        if refused:
            reason = self._not_moved
            self.disconnect()
            raise redis.ConnectionError(f"Not in shared memory: {reason}")

    def _try_to_move(self) -> str | None:
        """Why it has not."""
        sock = self._sock
        patched = type(sock).__module__
        if patched != "socket":
            return f"waiting is left to {patched}, which knows nothing of shared memory"
        if has_unread(self._parser):
            return UNREAD
        moved = move(sock, self.socket_connect_timeout)
        # What came meanwhile is to be read first, also where it stays.
        if moved.not_moved is None or moved.pending():
            moved.settimeout(sock.gettimeout())
            self._sock = moved
            self._parser.on_connect(self)
            sock.close()
        return moved.not_moved


def move(sock: socket.socket, timeout: float | None) -> Socket:
    """Asks the server to go on in shared memory."""
    moving = _native.Moving(sock.fileno())
    poller = select.poll()
    deadline = None if timeout is None else time.monotonic() + timeout
    while events := moving.advance():
        left = None if deadline is None else max(0, deadline - time.monotonic()) * 1000
        poller.register(moving.fileno(), events)
        if not poller.poll(left):
            raise socket.timeout("timed out")
    return Socket(moving)


def has_unread(parser: Any) -> bool:
    """Whether a parser has bytes that it has not parsed; one that is not redis-py's may."""
    if isinstance(parser, _HiredisParser):
        return parser._reader is not None and parser._reader.has_data()
    if isinstance(parser, (_RESP2Parser, _RESP3Parser)):
        return parser._buffer is not None and parser._buffer.unread_bytes() > 0
    return True


class Connection(_Moving, redis.Connection):
    """``redis.Connection``, by TCP, that moves to shared memory."""


class UnixDomainSocketConnection(_Moving, redis.UnixDomainSocketConnection):
    """``redis.UnixDomainSocketConnection`` that moves to shared memory."""


class SentinelManagedConnection(_Moving, redis.sentinel.SentinelManagedConnection):
    """``redis.sentinel.SentinelManagedConnection`` that moves to shared memory."""


CLASSES = {"redis": Connection, "unix": UnixDomainSocketConnection}


class Redis(redis.Redis):
    """``redis.Redis`` whose connections move to shared memory.

    ``from_url`` takes ``redis+shm://host:port/db`` and ``redis+shm+unix:///path`` as well;
    connections to addresses without ``+shm`` stay on their sockets.
    """

    def __init__(
        self,
        *args: Any,
        connection_pool: redis.ConnectionPool | None = None,
        single_connection_client: bool = False,
        shm: str | None = None,
        **kwargs: Any,
    ) -> None:
        owns_pool = connection_pool is None
        if connection_pool is None:
            # What the arguments mean is redis-py's business: a client that never connects.
            connection_pool = redis.Redis(*args, **kwargs).connection_pool
            share(connection_pool, CLASSES, shm)
        elif shm is not None:
            raise ValueError("shm is for the connections of a pool: give it to that")
        super().__init__(
            connection_pool=connection_pool,
            single_connection_client=single_connection_client,
            event_dispatcher=kwargs.get("event_dispatcher"),
        )
        self.auto_close_connection_pool = owns_pool

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Any:
        url, asks = plain_url(url)
        if asks:
            kwargs.setdefault("connection_class", CLASSES[asks])
        return super().from_url(url, **kwargs)


class RedisCluster(redis.RedisCluster):
    """``redis.RedisCluster``, each of whose nodes is reached as well as can be."""

    def __init__(
        self,
        host: str | None = None,
        port: int = 6379,
        startup_nodes: list[ClusterNode] | None = None,
        *,
        url: str | None = None,
        **kwargs: Any,
    ) -> None:
        # Only with an address does redis-py let one choose the class of connections.
        first = startup_nodes[0] if startup_nodes else ClusterNode(host or "localhost", port)
        url, _ = plain_url(url or f"redis://{first.name}")
        kwargs.setdefault("connection_class", Connection)
        super().__init__(startup_nodes=startup_nodes, url=url, **kwargs)

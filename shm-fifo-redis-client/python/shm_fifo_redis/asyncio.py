"""Connections for asyncio's event loops, uvloop's as well: the twins of ``redis.asyncio``'s."""

from __future__ import annotations

import asyncio
import math
import select
from time import monotonic  # some loops' own clock stands while a task runs
from typing import TYPE_CHECKING, Any, Iterable

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.exceptions

from . import _native
from ._sharing import UNREAD, Sharing, kind, plain_url, share

__all__ = [
    "Connection",
    "Redis",
    "RedisCluster",
    "SentinelManagedConnection",
    "UnixDomainSocketConnection",
]

# Where redis-py takes an infinite timeout for none.
KNOWS_NO_TIMEOUT = int(redis.__version__.split(".")[0]) >= 8
# For so many seconds a task may find each reply at once, before it lets others run.
TURN = 100e-6


class Link:
    """A connection in shared memory, and the event loop that hears its doorbell."""

    def __init__(self, stream: _native.Stream, loop: asyncio.AbstractEventLoop) -> None:
        self.stream = stream
        self.loop = loop
        self.reader = Reader(self)
        self._sleepers: set[asyncio.Future[None]] = set()
        self._turn_ends: float | None = None
        self._fd = stream.fileno()
        stream.join_loop()
        loop.add_reader(self._fd, self._rung)

    async def sleep(self, writable: bool, deadline: float | None = None) -> None:
        """Until something may have come, or there may be space."""
        sleeper = self.loop.create_future()
        # Also while others have a turn: what comes then is for this one, and `_rung` leaves it.
        self._sleepers.add(sleeper)
        timer = None
        try:
            if not self.stream.park(writable):
                await asyncio.sleep(0)
                return
            if deadline is not None:
                timer = self.loop.call_later(deadline - monotonic(), expire, sleeper)
            await sleeper
        finally:
            self._sleepers.discard(sleeper)
            if timer:
                timer.cancel()

    async def pass_on(self) -> None:
        """Lets others run, if this one has had its turn."""
        now = monotonic()
        if self._turn_ends is None:
            self._turn_ends = now + TURN
            self.loop.call_soon(self._begin_turn)
        elif now > self._turn_ends:
            await asyncio.sleep(0)

    def _begin_turn(self) -> None:
        self._turn_ends = None

    def _rung(self) -> None:
        self.stream.listen()
        if self._sleepers:
            self._wake()
        else:
            # A push, or the end: of those that nobody waits for the next command is to know.
            self.reader.fill()

    def _wake(self) -> None:
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    def end(self) -> None:
        """The socket has ended, and would be readable for ever."""
        if self._fd >= 0 and not self.loop.is_closed():
            self.loop.remove_reader(self._fd)
        self._fd = -1

    def close(self) -> None:
        self.end()
        self.stream.close()
        self._wake()


def expire(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_exception(asyncio.TimeoutError())


class Reader(asyncio.StreamReader):
    """What redis-py's parsers read: from shared memory."""

    def __init__(self, link: Link) -> None:
        super().__init__(loop=link.loop)
        self._link = link
        self._timeout: float | None = None
        self._deadline: float | None = None
        self.is_late = False

    def allow(self, timeout: float | None) -> None:
        """For so many seconds the next reply may be waited for. A timer is set only where it is."""
        self._timeout, self._deadline, self.is_late = timeout, None, False

    def fill(self) -> bool:
        """Takes what has come; whether there was something, or the end."""
        if self._eof:  # type: ignore[attr-defined]
            return True
        try:
            data = self._link.stream.take()
        except OSError as error:
            self.set_exception(error)
            data = b""
        if data is None:
            return False
        if data:
            self.feed_data(data)
        else:
            self.feed_eof()
            self._link.end()
        return True

    # What `StreamReader` waits by, whatever is read.
    async def _wait_for_data(self, _what: str) -> None:
        if self.fill() or self._link.stream.spin() and self.fill():
            await self._link.pass_on()
            return
        if self._timeout is not None and self._deadline is None:
            self._deadline = monotonic() + self._timeout
        try:
            while not self.fill():
                await self._link.sleep(writable=False, deadline=self._deadline)
        except asyncio.TimeoutError:
            self.is_late = True
            raise


class Writer:
    """What redis-py writes to: into shared memory. As much of a ``StreamWriter`` as it calls."""

    def __init__(self, link: Link, names: dict[str, Any]) -> None:
        self._link = link
        self._names = names
        self._unsent: list[bytes] = []
        self._sent_of_first = 0

    def write(self, data: bytes | memoryview) -> None:
        self.writelines([data])

    def writelines(self, pieces: Iterable[bytes | memoryview]) -> None:
        # What is no `bytes` becomes that here, once, and not for each part that finds space.
        self._unsent.extend(map(bytes, pieces))
        self._send()

    def sends_at_once(self, pieces: Iterable[bytes | memoryview]) -> bool:
        """Whether all of it is sent; if not, `writelines` of nothing goes on, or fails as well."""
        try:
            self.writelines(pieces)
        except OSError:
            return False
        return self.is_drained()

    async def drain(self) -> None:
        """Waits until all of it is in shared memory."""
        while not self.is_drained():
            await self._link.sleep(writable=True)
            self._send()

    def is_drained(self) -> bool:
        return not self._unsent

    def _send(self) -> None:
        sent = 0
        for piece in self._unsent:
            self._sent_of_first += self._link.stream.put(piece, self._sent_of_first)
            if self._sent_of_first < len(piece):
                break
            self._sent_of_first = 0
            sent += 1
        del self._unsent[:sent]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._names.get(name, default)

    def is_closing(self) -> bool:
        return self._link.stream.fileno() < 0

    def close(self) -> None:
        self._link.close()

    async def wait_closed(self) -> None:
        pass


if TYPE_CHECKING:
    _Base = redis.asyncio.connection.AbstractConnection
else:
    _Base = object


class _Moving(Sharing, _Base):
    _reader: Any
    _writer: Any

    @property
    def transport(self) -> str | None:
        """What carries the connection: ``shm``, ``unix`` or ``tcp``; ``None`` without one."""
        if self._writer is None:
            return None
        if isinstance(self._writer, Writer):
            return "shm"
        return kind(self._writer.get_extra_info("socket").family)

    async def can_read(self) -> bool:
        if isinstance(self._reader, Reader):
            self._reader.fill()
        return await super().can_read()

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        writer = self._writer
        if not isinstance(writer, Writer) or (check_health and self.health_check_interval):
            return await super().send_packed_command(command, check_health)
        if isinstance(command, str):
            command = command.encode()
        if writer.sends_at_once([command] if isinstance(command, bytes) else command):
            return None
        # The rest, or the error again: with redis-py's timeout, which takes a task.
        return await super().send_packed_command([], check_health=False)

    async def read_response(
        self, disable_decoding: bool = False, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        reader = self._reader
        if not isinstance(reader, Reader) or timeout is not None or not KNOWS_NO_TIMEOUT:
            return await super().read_response(disable_decoding, timeout, **kwargs)
        reader.allow(self.socket_timeout)
        try:
            response = await super().read_response(disable_decoding, math.inf, **kwargs)
        finally:
            is_late = reader.is_late
            reader.allow(None)
        if not is_late:
            return response
        if kwargs.get("disconnect_on_error", True):
            await self.disconnect(nowait=True)
        raise redis.TimeoutError(f"Timeout reading from {self._host_error()}")

    def _reschedule_active_read_timeout(self, timeout: float | None) -> None:
        if isinstance(self._reader, Reader):
            self._reader.allow(timeout)
        super()._reschedule_active_read_timeout(timeout)

    async def _move(self, _connection: Any) -> None:
        try:
            moving = self._try_to_move()
            refused = self._is_refused(await asyncio.wait_for(moving, self.socket_connect_timeout))
        except BaseException as error:
            # Half a move, one that was cancelled too, is none that a pool may give to others.
            await self.disconnect(nowait=True)
            if isinstance(error, asyncio.TimeoutError):
                raise redis.TimeoutError("Timeout moving to shared memory") from error
            if isinstance(error, OSError):
                raise redis.ConnectionError(f"Error moving to shared memory: {error}") from error
            raise
        if refused:
            reason = self._not_moved
            await self.disconnect()
            raise redis.ConnectionError(f"Not in shared memory: {reason}")

    async def _try_to_move(self) -> str | None:
        """Why it has not."""
        if self._reader._buffer or await super().can_read():
            return UNREAD
        transport = self._writer.transport
        loop = asyncio.get_running_loop()
        transport.pause_reading()
        stream = await move(loop, transport.get_extra_info("socket").fileno())
        if stream.not_moved is not None:
            while stream.pending():
                self._reader.feed_data(stream.take())
            transport.resume_reading()
            return stream.not_moved
        names = {name: transport.get_extra_info(name) for name in ("peername", "sockname")}
        transport.abort()
        link = Link(stream, loop)
        self._reader, self._writer = link.reader, Writer(link, names)
        self._parser.on_connect(self)
        return None


async def move(loop: asyncio.AbstractEventLoop, socket: int) -> _native.Stream:
    """Asks the server to go on in shared memory."""
    moving = _native.Moving(socket)
    while events := moving.advance():
        await ready(loop, moving.fileno(), events)
    return _native.Stream(moving)


async def ready(loop: asyncio.AbstractEventLoop, fd: int, events: int) -> None:
    """Until the descriptor is ready for that, as `select.poll` has it."""
    is_ready = loop.create_future()

    def wake() -> None:
        if not is_ready.done():
            is_ready.set_result(None)

    if events & select.POLLIN:
        loop.add_reader(fd, wake)
    if events & select.POLLOUT:
        loop.add_writer(fd, wake)
    try:
        await is_ready
    finally:
        loop.remove_reader(fd)
        loop.remove_writer(fd)


class Connection(_Moving, redis.asyncio.Connection):
    """``redis.asyncio.Connection``, by TCP, that moves to shared memory."""


class UnixDomainSocketConnection(_Moving, redis.asyncio.UnixDomainSocketConnection):
    """``redis.asyncio.UnixDomainSocketConnection`` that moves to shared memory."""


class SentinelManagedConnection(_Moving, redis.asyncio.sentinel.SentinelManagedConnection):
    """``redis.asyncio.sentinel.SentinelManagedConnection`` that moves to shared memory."""


CLASSES = {"redis": Connection, "unix": UnixDomainSocketConnection}


class Redis(redis.asyncio.Redis):
    """``redis.asyncio.Redis`` whose connections move to shared memory.

    ``from_url`` takes ``redis+shm://host:port/db`` and ``redis+shm+unix:///path`` as well;
    connections to addresses without ``+shm`` stay on their sockets.
    """

    def __init__(
        self,
        *args: Any,
        connection_pool: redis.asyncio.ConnectionPool | None = None,
        single_connection_client: bool = False,
        shm: str | None = None,
        **kwargs: Any,
    ) -> None:
        owns_pool = connection_pool is None
        if connection_pool is None:
            # What the arguments mean is redis-py's business: a client that never connects.
            connection_pool = redis.asyncio.Redis(*args, **kwargs).connection_pool
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
    def from_url(cls, url: str, *args: Any, **kwargs: Any) -> Any:
        url, asks = plain_url(url)
        client = super().from_url(url, *args, **kwargs)
        if asks:
            # Here the address chooses, whatever class is asked for.
            share(client.connection_pool, CLASSES, None)
        return client


class RedisCluster(redis.asyncio.RedisCluster):
    """``redis.asyncio.RedisCluster``, each of whose nodes is reached as well as can be."""

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Any:
        return super().from_url(plain_url(url)[0], **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # redis-py takes no class of connections here. Nobody has connected yet.
        if self.connection_kwargs["connection_class"] is redis.asyncio.Connection:
            self.connection_kwargs["connection_class"] = Connection
            for node in self.startup_nodes:
                node.connection_class = Connection

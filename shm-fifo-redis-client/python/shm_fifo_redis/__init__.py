"""Redis at memory speed for programs on the server's machine: redis-py's clients, whose
connections move to shared memory where the server has the module, and stay on their sockets where
it has not.

``shm_fifo_redis.asyncio`` has the same for asyncio.
"""

from ._blocking import (
    Connection,
    Redis,
    RedisCluster,
    SentinelManagedConnection,
    UnixDomainSocketConnection,
)

__all__ = [
    "Connection",
    "Redis",
    "RedisCluster",
    "SentinelManagedConnection",
    "UnixDomainSocketConnection",
    "from_url",
]

from_url = Redis.from_url

"""A plugin of pytest's: redis-py's pools take the classes that move, and tell how many did."""

import redis
import redis.asyncio

import shm_fifo_redis._blocking
import shm_fifo_redis._sharing
import shm_fifo_redis.asyncio

moved = 0


def pools_share(pool_class, classes):
    """Before the first connection, and no sooner: some tests only look what a pool would make."""
    make = pool_class.make_connection

    def make_connection(self):
        shm_fifo_redis._sharing.share(self, classes, None)
        return make(self)

    pool_class.make_connection = make_connection


def count(is_refused):
    def counting(self, reason):
        global moved
        moved += reason is None
        return is_refused(self, reason)

    return counting


for pool in (redis.ConnectionPool, redis.BlockingConnectionPool):
    pools_share(pool, shm_fifo_redis._blocking.CLASSES)
pools_share(redis.asyncio.ConnectionPool, shm_fifo_redis.asyncio.CLASSES)
Sharing = shm_fifo_redis._sharing.Sharing
Sharing._is_refused = count(Sharing._is_refused)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"connections that moved: {moved}")

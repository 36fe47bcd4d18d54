"""The program that `redis-shm conformance` runs to look at this client: docs/conformance.md.

`redis-shm conformance -- python3 conformance.py blocking`, or `asyncio`, or `uvloop`.
"""

import asyncio
import os
import sys

import uvloop
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

import shm_fifo_redis
import shm_fifo_redis.asyncio

PLACE = os.environ["SHM_FIFO_CONFORMANCE"]
URL = f"redis+shm+unix://{PLACE}" if PLACE.startswith("/") else f"redis+shm://{PLACE}"
# With RESP3 the server may push. A pool would take a push that is there for a lost reply, and
# connect again: so a connection of its own, which does not come back.
OPTIONS = {"protocol": 3}


def blocking():
    pool = shm_fifo_redis.Redis.from_url(URL, retry=Retry(NoBackoff(), 0), **OPTIONS).connection_pool
    connection = pool.make_connection()

    def ask(*command):
        connection.send_command(*command)
        return connection.read_response()

    connection.connect()
    while (value := ask("GET", "next")) is not None:
        assert ask("ECHO", value) == value


async def on_a_loop():
    retry = AsyncRetry(NoBackoff(), 0)
    pool = shm_fifo_redis.asyncio.Redis.from_url(URL, retry=retry, **OPTIONS).connection_pool
    connection = pool.make_connection()

    async def ask(*command):
        await connection.send_command(*command)
        return await connection.read_response()

    await connection.connect()
    while (value := await ask("GET", "next")) is not None:
        assert await ask("ECHO", value) == value
    await connection.disconnect()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["blocking"]:
            blocking()
        case ["asyncio"]:
            asyncio.run(on_a_loop())
        case ["uvloop"]:
            uvloop.run(on_a_loop())
        case _:
            sys.exit("usage: conformance.py blocking|asyncio|uvloop")

"""How long a PING takes with redis-py, unmodified; or, by streams, with no client library.

Usage: ping_loop.py blocking|asyncio|uvloop|uvloop-streams SOCKET COUNT [no-timeout] [shm].
Prints a line of JSON. By default redis-py lets each reply take 5 s, for which asyncio sets a
timer that takes longer than a PING. With shm the connection is shm_fifo_redis' own.
"""

import asyncio
import json
import sys
import time

import redis
import redis.asyncio

kind, socket, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
options = {"socket_timeout": None} if "no-timeout" in sys.argv[4:] else {}
if "shm" in sys.argv[4:]:
    import shm_fifo_redis as library
    import shm_fifo_redis.asyncio
    options["shm"] = "require"
else:
    library = redis


def blocking():
    connection = library.Redis(unix_socket_path=socket, single_connection_client=True, **options)
    for _ in range(count):
        start = time.perf_counter_ns()
        connection.ping()
        yield time.perf_counter_ns() - start


async def asynchronous():
    times = []
    where = {"unix_socket_path": socket, "single_connection_client": True}
    async with library.asyncio.Redis(**where, **options) as connection:
        for _ in range(count):
            start = time.perf_counter_ns()
            await connection.ping()
            times.append(time.perf_counter_ns() - start)
    return times


async def streams():
    times = []
    reader, writer = await asyncio.open_unix_connection(socket)
    for _ in range(count):
        start = time.perf_counter_ns()
        writer.write(b"*1\r\n$4\r\nPING\r\n")
        await reader.readline()
        times.append(time.perf_counter_ns() - start)
    writer.close()
    return times


def run():
    if kind == "blocking":
        return blocking()
    if kind == "asyncio":
        return asyncio.run(asynchronous())
    import uvloop
    return uvloop.run(streams() if kind == "uvloop-streams" else asynchronous())


times = sorted(run())
print(json.dumps({"client": f"redis-py {kind}", "requests": count,
                  "p50_ns": times[count // 2], "p99_ns": times[count * 99 // 100]}))

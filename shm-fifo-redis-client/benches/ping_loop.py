"""How long a PING takes with redis-py, unmodified.

Usage: ping_loop.py blocking|asyncio|uvloop SOCKET COUNT. Prints a line of JSON.
"""

import asyncio
import json
import sys
import time

import redis
import redis.asyncio

kind, socket, count = sys.argv[1], sys.argv[2], int(sys.argv[3])


def blocking():
    connection = redis.Redis(unix_socket_path=socket, single_connection_client=True)
    for _ in range(count):
        start = time.perf_counter_ns()
        connection.ping()
        yield time.perf_counter_ns() - start


async def asynchronous():
    times = []
    async with redis.asyncio.Redis(unix_socket_path=socket, single_connection_client=True) as connection:
        for _ in range(count):
            start = time.perf_counter_ns()
            await connection.ping()
            times.append(time.perf_counter_ns() - start)
    return times


def run():
    if kind == "blocking":
        return blocking()
    if kind == "asyncio":
        return asyncio.run(asynchronous())
    import uvloop
    return uvloop.run(asynchronous())


times = sorted(run())
print(json.dumps({"client": f"redis-py {kind}", "requests": count,
                  "p50_ns": times[count // 2], "p99_ns": times[count * 99 // 100]}))

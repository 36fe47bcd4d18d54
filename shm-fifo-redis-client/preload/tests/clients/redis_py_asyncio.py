"""redis-py on asyncio's own event loop, or on uvloop.

Usage: redis_py_asyncio.py asyncio|uvloop ENDPOINT
"""
import asyncio
import os
import signal
import sys

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

sys.stdout.reconfigure(line_buffering=True)
ENDPOINT = sys.argv[2]
LARGE = bytes(range(256)) * 12288  # 3 MiB


def connect():
    # It waits for the server that is restarted; that a machine is busy is no error.
    patience = {"retry": Retry(ConstantBackoff(0.05), 200), "socket_timeout": None}
    if ENDPOINT.isdigit():
        return redis.Redis(port=int(ENDPOINT), **patience)
    return redis.Redis(unix_socket_path=ENDPOINT, **patience)


async def ask(client, what):
    """The test does what it is asked, and answers."""
    number = await client.client_id()
    await client.rpush("asked", f"{what} {number} {os.getpid()}")
    return (await client.blpop([f"answer:{number}"]))[1].decode()


async def commands(client, count):
    total = 0
    for number in range(count):
        await client.set("key", number)
        assert int(await client.get("key")) == number
        total += await client.incr("counter")
    return total


async def pipeline(client):
    async with client.pipeline(transaction=False) as many:
        for number in range(1000):
            many.set(f"key:{number}", "x" * 100)
            many.incrby("sum", number)
        return (await many.execute())[-1]


async def task(name):
    """One of many at once, each with a connection of its own."""
    client = connect()
    for number in range(100):
        await client.set(f"task:{name}", number)
        assert int(await client.get(f"task:{name}")) == number
    await client.set(f"task:{name}", LARGE)
    equal = await client.get(f"task:{name}") == LARGE
    await ask(client, "check")
    await client.aclose()
    return equal


async def messages(client):
    other = connect()
    await commands(other, 20)
    await ask(other, "check")
    received, ready = [], asyncio.Event()

    async def subscriber():
        async with other.pubsub() as pubsub:
            await pubsub.subscribe("channel")
            async for message in pubsub.listen():
                if message["type"] == "subscribe":
                    ready.set()
                    continue
                received.append(int(message["data"]))
                if len(received) == 10:
                    return

    listening = asyncio.create_task(subscriber())
    await ready.wait()
    for number in range(10):
        await client.publish("channel", number)
    await listening
    await other.aclose()
    return received


async def files(client):
    """What is written to a file goes there, also if its number was a connection's."""
    for number in range(20):
        for _ in range(20):
            await client.ping()
        await client.aclose()
        with open("file.txt", "w+") as file:
            file.write(f"RPUSH leak {number}\r\n")
            file.flush()
            file.seek(0)
            assert file.read() == f"RPUSH leak {number}\n"
    return await client.exists("leak")


async def terminated(client):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    waiting = asyncio.create_task(ask(client, "terminate"))
    await stop.wait()
    # redis-py may swallow one: a signal comes at any moment of a command.
    while not waiting.done():
        waiting.cancel()
        await asyncio.wait([waiting], timeout=0.1)
    await client.aclose()


async def main():
    client = connect()
    print("commands", await commands(client, 100))
    print("pipeline", await pipeline(client))
    await client.set("large", LARGE)
    print("large", await client.get("large") == LARGE)
    print("asked", await ask(client, "check"))
    print("tasks", await asyncio.gather(*map(task, range(8))))
    print("messages", await messages(client))
    print("timeout", await client.blpop(["nothing"], timeout=0.05))
    print("killed", await ask(client, "kill"), await commands(client, 50), await ask(client, "check"))
    print("restarted", await ask(client, "restart"), await commands(client, 50), await ask(client, "check"))
    print("file", await files(client))
    await terminated(client)
    print("stopped")


if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())

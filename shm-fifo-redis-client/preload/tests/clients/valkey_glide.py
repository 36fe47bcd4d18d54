"""valkey-glide: Rust and tokio inside Python.

Usage: valkey_glide.py PORT
"""
import asyncio
import os
import signal
import sys

from glide import Batch, GlideClient, GlideClientConfiguration, Logger, LogLevel, NodeAddress

sys.stdout.reconfigure(line_buffering=True)
LARGE = bytes(range(256)) * 12288  # 3 MiB

Logger.set_logger_config(LogLevel.OFF)


async def connect():
    where = NodeAddress("127.0.0.1", int(sys.argv[1]))
    return await GlideClient.create(GlideClientConfiguration([where], request_timeout=100_000))


async def ask(client, what):
    """The test does what it is asked, and answers."""
    number = int(await client.custom_command(["CLIENT", "ID"]))
    await client.rpush("asked", [f"{what} {number} {os.getpid()}"])
    while True:
        try:
            return (await client.blpop([f"answer:{number}"], 0))[1].decode()
        except Exception:
            await asyncio.sleep(0.02)  # until it has connected again


async def commands(client, count, key="key"):
    total = 0
    for number in range(count):
        await client.set(key, str(number))
        assert int(await client.get(key)) == number
        total += await client.incr("counter")
    return total


async def pipeline(client):
    batch = Batch(is_atomic=False)
    for number in range(1000):
        batch.incrby("sum", number)
    return (await client.exec(batch, raise_on_error=True))[-1]


async def large(client, key):
    await client.set(key, LARGE)
    return await client.get(key) == LARGE


async def task(client, name):
    await commands(client, 20, f"key:{name}")
    return await large(client, f"large:{name}")


async def again(client):
    """Until the library has connected again."""
    while True:
        try:
            return await client.ping()
        except Exception:
            await asyncio.sleep(0.02)


async def main():
    client = await connect()
    print("commands", await commands(client, 100))
    print("pipeline", await pipeline(client))
    print("large", await large(client, "large"))
    print("asked", await ask(client, "check"))
    print("tasks", await asyncio.gather(*(task(client, number) for number in range(8))))
    for what in ("kill", "restart"):
        answer = await ask(client, what)
        await again(client)
        print(what, answer, await commands(client, 50), await ask(client, "check"))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    waiting = asyncio.create_task(ask(client, "terminate"))
    await stop.wait()
    waiting.cancel()
    await client.close()
    print("stopped")


asyncio.run(main())

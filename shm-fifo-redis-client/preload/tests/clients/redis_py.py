"""redis-py, sync and asyncio: pings, a pipeline, pub/sub, a blocking command."""
import asyncio
import sys
import threading

import redis
import redis.asyncio

path = sys.argv[1]


def moved(listing):
    return any(b"hot" in entry or b"parked" in entry for entry in listing)


def sync():
    client = redis.Redis(unix_socket_path=path, socket_timeout=10)
    for number in range(100):
        assert client.ping()
        assert client.set("key", number) and client.get("key") == str(number).encode()
    assert moved(client.execute_command("SHM.LIST")), "the connection did not move"
    with client.pipeline(transaction=True) as pipeline:
        for number in range(1000):
            pipeline.set(f"key:{number}", "x" * 100)
        assert all(pipeline.execute())
    large = b"y" * 5_000_000
    client.set("large", large)
    assert client.get("large") == large
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("channel")
    threading.Timer(0.05, lambda: client.publish("channel", "hello")).start()
    message = None
    while message is None:
        message = pubsub.get_message(timeout=5)
    assert message["data"] == b"hello"
    assert client.blpop("nothing", timeout=0.05) is None
    client.close()


async def asynchronous():
    client = redis.asyncio.Redis(unix_socket_path=path)
    for number in range(100):
        assert await client.ping()
        assert await client.set("key", number) and await client.get("key") == str(number).encode()
    assert moved(await client.execute_command("SHM.LIST")), "the connection did not move"
    many = await asyncio.gather(*(client.incr("counter") for _ in range(50)))
    assert len(set(many)) == 50
    large = b"y" * 5_000_000
    await client.set("large", large)
    assert await client.get("large") == large
    await client.aclose()


sync()
asyncio.run(asynchronous())
print("passed")

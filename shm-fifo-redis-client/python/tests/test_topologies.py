"""Servers that redis-py finds: by Sentinel, and in a cluster."""

import asyncio
import os
import tempfile

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

import shm_fifo_redis
import shm_fifo_redis.asyncio
from conftest import free_port, started


@pytest.fixture
def sentinel(start):
    """The port of a sentinel, and the master that it knows."""
    master = start()
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "sentinel.conf")
        with open(path, "w") as file:
            file.write(f"port {port}\nsentinel monitor mymaster 127.0.0.1 {master.port} 1\n")
        process = started(["redis-server", path, "--sentinel"], lambda line: "Sentinel ID is" in line)
        yield port, master
        process.kill()
        process.wait()


def test_a_master_that_sentinel_names(sentinel):
    port, server = sentinel
    found = redis.sentinel.Sentinel([("127.0.0.1", port)])
    chosen = {"connection_class": shm_fifo_redis.SentinelManagedConnection, "shm": "require"}
    with found.master_for("mymaster", **chosen) as master:
        master.set("key", "value")
        [connection] = master.connection_pool._available_connections
        assert connection.transport == "shm" and connection.port == server.port
    for client in found.sentinels:
        client.close()


def test_a_master_that_sentinel_names_on_asyncio(sentinel):
    port, server = sentinel

    async def main():
        found = redis.asyncio.sentinel.Sentinel([("127.0.0.1", port)])
        chosen = {
            "connection_class": shm_fifo_redis.asyncio.SentinelManagedConnection,
            "shm": "require",
        }
        async with found.master_for("mymaster", **chosen) as master:
            await master.set("key", "value")
            [connection] = master.connection_pool._available_connections
            assert connection.transport == "shm" and connection.port == server.port
        for client in found.sentinels:
            await client.aclose()

    asyncio.run(main())


@pytest.fixture
def cluster(start):
    """Three nodes."""
    buses = [free_port() for _ in range(3)]
    nodes = [start("--cluster-enabled", "yes", "--cluster-port", str(bus)) for bus in buses]
    first = nodes[0]
    for number, (node, bus) in enumerate(zip(nodes, buses)):
        low, high = number * 16384 // 3, (number + 1) * 16384 // 3 - 1
        node.ask("CLUSTER", "ADDSLOTSRANGE", low, high)
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        first.ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
    for node in nodes:
        while b"cluster_state:ok" not in node.ask("CLUSTER", "INFO"):
            pass
        while node.ask("CLUSTER", "NODES").count(b" connected ") < 3:
            pass
    return nodes


def test_each_node_of_a_cluster(cluster):
    url = f"redis+shm://127.0.0.1:{cluster[0].port}"
    ways = [
        lambda: shm_fifo_redis.RedisCluster(host="127.0.0.1", port=cluster[0].port),
        lambda: shm_fifo_redis.RedisCluster.from_url(url),
    ]
    for connect in ways:
        with connect() as client:
            for number in range(100):
                client.set(f"key:{number}", number)
                assert client.get(f"key:{number}") == b"%d" % number
            with client.pipeline() as many:
                for number in range(100):
                    many.get(f"key:{number}")
                assert many.execute() == [b"%d" % number for number in range(100)]
            for node in client.get_nodes():
                connections = node.redis_connection.connection_pool._available_connections
                assert connections and all(c.transport == "shm" for c in connections)


def test_each_node_of_a_cluster_on_asyncio(cluster):
    async def main():
        url = f"redis+shm://127.0.0.1:{cluster[0].port}"
        async with shm_fifo_redis.asyncio.RedisCluster.from_url(url) as client:
            for number in range(100):
                await client.set(f"key:{number}", number)
                assert await client.get(f"key:{number}") == b"%d" % number
            for node in client.get_nodes():
                connections = [c for c in node._connections if c.is_connected]
                assert connections and all(c.transport == "shm" for c in connections)

    asyncio.run(main())

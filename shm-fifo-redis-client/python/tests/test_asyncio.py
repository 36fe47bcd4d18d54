"""The same on event loops: asyncio's own and uvloop."""

import asyncio
import os
import signal
import socket

import pytest
import redis
import redis.asyncio
import uvloop
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

import shm_fifo_redis.asyncio
from conftest import PARSERS

LARGE = bytes(range(256)) * 12288  # 3 MiB, through rings of 128 KiB
RUN = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.fixture(params=RUN)
def run(request):
    return RUN[request.param]


def alone(server, way, **options):
    address = server.address(way)
    return shm_fifo_redis.asyncio.Redis(**address, single_connection_client=True, **options)


def test_a_connection_moves_and_stays_the_same_client(run, server, way):
    async def main():
        async with alone(server, way, client_name="mover", db=3, shm="require") as client:
            number = await client.client_id()
            assert client.connection.transport == "shm"
            assert client.connection.not_moved is None
            await client.set("greeting", "hello")
            assert await client.get("greeting") == b"hello"
            assert await client.client_getname() == "mover"
            assert await client.client_id() == number
        assert client.connection is None

    run(main())


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_and_parsers(run, server, name, protocol):
    async def main():
        pool = redis.asyncio.ConnectionPool(
            connection_class=shm_fifo_redis.asyncio.UnixDomainSocketConnection,
            path=server.path, parser_class=PARSERS[name][1], protocol=protocol, shm="require",
        )
        async with redis.asyncio.Redis(connection_pool=pool) as client:
            await client.hset("hash", mapping={"a": 1, "b": 2})
            assert await client.hgetall("hash") == {b"a": b"1", b"b": b"2"}
            with pytest.raises(redis.ResponseError):
                await client.incr("hash")
            await client.set("large", LARGE)
            assert await client.get("large") == LARGE
        await pool.disconnect()

    run(main())


def test_a_url_asks_for_shared_memory(run, server):
    async def main():
        for url, transport in [
            (f"redis+shm+unix://{server.path}?db=1&shm=require", "shm"),
            (f"redis+shm://127.0.0.1:{server.port}/1", "shm"),
            (f"unix://{server.path}", None),
        ]:
            client = shm_fifo_redis.asyncio.Redis.from_url(url, single_connection_client=True)
            async with client:
                assert await client.ping()
                assert getattr(client.connection, "transport", None) == transport

    run(main())


def test_with_a_password(run, start, way):
    server = start("--requirepass", "secret")

    async def main():
        async with alone(server, way, password="secret") as client:
            assert await client.ping() and client.connection.transport == "shm"
        # A kind of it by TCP; redis-py does not say so by unix socket.
        with pytest.raises(redis.ConnectionError, match="invalid username-password"):
            await alone(server, way, password="wrong", retry=Retry(ConstantBackoff(0), 0)).ping()

    run(main())


def test_what_is_refused_stays_on_its_socket_unless_that_is_an_error(run, start, way):
    without, forbidding, full = start(module=False), start(), start()
    forbidding.ask("ACL", "SETUSER", "ann", "on", ">pass", "+@all", "~*", "-shm.open")
    full.ask("CONFIG", "SET", "shm.max-memory", "1")

    async def refused(server, because, **login):
        async with alone(server, way, **login) as client:
            assert await client.ping()
            assert client.connection.transport == way
            assert because in client.connection.not_moved
            await client.set("large", LARGE)
            assert await client.get("large") == LARGE
        retry = Retry(ConstantBackoff(0), 0)
        with pytest.raises(redis.ConnectionError, match=because):
            await alone(server, way, shm="require", retry=retry, **login).ping()

    async def main():
        await refused(without, "does not have the shm module")
        await refused(forbidding, "NOPERM", username="ann", password="pass")
        await refused(full, "shm.max-memory")

    run(main())


def test_pipelines_transactions_and_many_tasks(run, server, way):
    async def task(client, name):
        for number in range(100):
            await client.set(name, number)
            assert int(await client.get(name)) == number
        await client.set(name, LARGE)
        assert await client.get(name) == LARGE

    async def main():
        async with alone(server, way) as client:
            async with client.pipeline(transaction=False) as many:
                for number in range(2000):
                    many.set(f"key:{number}", "x" * 100).incrby("sum", number)
                assert (await many.execute())[-1] == sum(range(2000))
            async with client.pipeline() as transaction:
                await transaction.watch("sum")
                transaction.multi()
                assert await transaction.set("sum", 1).get("sum").execute() == [True, b"1"]
        async with shm_fifo_redis.asyncio.Redis(**server.address(way)) as client:
            await asyncio.gather(*(task(client, f"task:{n}") for n in range(8)))
            assert all(c.transport == "shm" for c in client.connection_pool._available_connections)

    run(main())


def test_no_task_starves_beside_one_that_finds_each_reply_at_once(run, server):
    async def main():
        turns, done = 0, False

        async def neighbour():
            nonlocal turns
            while not done:
                turns += 1
                await asyncio.sleep(0)

        async with alone(server, "unix") as client:
            beside = asyncio.create_task(neighbour())
            for number in range(500):
                await client.ping()
            done = True
            await beside
        assert turns > 10

    run(main())


def test_blocking_commands_and_timeouts(run, server, way):
    async def main():
        async with alone(server, way, socket_timeout=0.2, retry=Retry(ConstantBackoff(0), 0)) as client:
            assert await client.blpop(["nothing"], timeout=0.05) is None
            with pytest.raises(redis.TimeoutError):
                await client.blpop(["nothing"], timeout=20)
            assert await client.ping() and client.connection.transport == "shm"
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.blpop(["nothing"], timeout=20), 0.05)
            assert await client.ping()
        async with alone(server, way) as client, alone(server, way) as other:
            waiting = asyncio.create_task(client.blpop(["queue"], timeout=4))
            await asyncio.sleep(0)
            await other.rpush("queue", "value")
            assert await waiting == (b"queue", b"value")

    run(main())


def test_subscriptions(run, server, way):
    async def main():
        async with shm_fifo_redis.asyncio.Redis(**server.address(way)) as client:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe("channel")
                assert (await pubsub.get_message(timeout=10))["type"] == "subscribe"
                assert pubsub.connection.transport == "shm"
                assert await pubsub.get_message(timeout=0.05) is None
                for number in range(100):
                    await client.publish("channel", number)
                received = [int((await pubsub.get_message(timeout=10))["data"]) for _ in range(100)]
                assert received == list(range(100))
                # One that listens, while another task subscribes.
                listening = asyncio.create_task(pubsub.listen().__anext__())
                await asyncio.sleep(0)
                await pubsub.subscribe("other")
                assert (await listening)["channel"] == b"other"

    run(main())


def test_a_killed_server_is_an_error_and_its_successor_is_found(run, start, way):
    server = start()

    async def main():
        async with alone(server, way, retry=Retry(ConstantBackoff(0), 0)) as client:
            await client.ping()
            waiting = asyncio.create_task(client.blpop(["nothing"], timeout=4))
            asyncio.get_running_loop().call_later(0.05, server.kill)
            with pytest.raises(redis.ConnectionError):
                await waiting
            with pytest.raises(redis.ConnectionError):
                await client.ping()
            server.start()
            assert await client.ping() and client.connection.transport == "shm"
            # And one that is idle.
            server.kill()
            server.start()
        async with shm_fifo_redis.asyncio.Redis(**server.address(way)) as client:
            await client.ping()
            server.kill()
            server.start()
            assert await client.ping()

    run(main())


def test_a_server_that_stops_answering_is_a_timeout(run, start, way):
    server = start()

    async def main():
        retry = Retry(ConstantBackoff(0), 0)
        async with alone(server, way, retry=retry, socket_timeout=0.2) as client:
            await client.ping()
            os.kill(server.process.pid, signal.SIGSTOP)
            with pytest.raises(redis.TimeoutError):
                await client.ping()
            with pytest.raises((redis.TimeoutError, redis.ConnectionError)):
                await client.set("large", LARGE * 8)
            os.kill(server.process.pid, signal.SIGCONT)
            assert await client.ping()

    run(main())


def test_a_connection_whose_move_is_cancelled_is_given_to_nobody(run, start):
    server = start()

    async def main():
        async with shm_fifo_redis.asyncio.Redis(unix_socket_path=server.path) as client:
            moving = asyncio.Event()
            move = shm_fifo_redis.asyncio.move

            async def slow(*args):
                moving.set()
                await asyncio.Event().wait()
                return await move(*args)

            shm_fifo_redis.asyncio.move = slow
            try:
                asking = asyncio.create_task(client.ping())
                await moving.wait()
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            finally:
                shm_fifo_redis.asyncio.move = move
            [connection] = client.connection_pool._available_connections
            assert not connection.is_connected
            assert await client.ping() and connection.transport == "shm"

    run(main())


def test_a_large_request_waits_for_space_no_longer_than_its_timeout(run, start, way):
    server = start()

    async def main():
        retry = Retry(ConstantBackoff(0), 0)
        async with alone(server, way, retry=retry, socket_timeout=0.2) as client:
            await client.ping()
            os.kill(server.process.pid, signal.SIGSTOP)
            with pytest.raises(redis.TimeoutError):
                await client.set("large", LARGE)
            os.kill(server.process.pid, signal.SIGCONT)

    run(main())


class Given:
    """In the place of a stream: it has what the test gives it, and notes what is sent."""

    def __init__(self, doorbell):
        self.fileno = doorbell.fileno
        self.replies = []
        self.sent = []

    def join_loop(self): ...
    def listen(self): ...
    def close(self): ...

    def spin(self):
        return False

    def take(self):
        return self.replies.pop() if self.replies else None

    def put(self, data, start):
        self.sent.append((data, start))
        return min(1, len(data) - start)


def test_what_comes_just_before_a_sleep_is_not_slept_over(run):
    async def main(doorbell):
        loop = asyncio.get_running_loop()
        stream = Given(doorbell)
        link = shm_fifo_redis.asyncio.Link(stream, loop)

        def park(_writable):
            if stream.replies or link.reader._buffer:
                return True
            # The loop has noticed a doorbell before, and tells it only now.
            stream.replies.append(b"reply")
            loop.call_soon(link._rung)
            return False

        stream.park = park
        assert await asyncio.wait_for(link.reader.readexactly(5), 20) == b"reply"
        link.close()

    doorbell, other = socket.socketpair()
    with doorbell, other:
        run(main(doorbell))


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_what_finds_no_space_is_not_copied_for_each_part_that_does(run, kind):
    async def main(doorbell):
        stream = Given(doorbell)
        link = shm_fifo_redis.asyncio.Link(stream, asyncio.get_running_loop())
        writer = shm_fifo_redis.asyncio.Writer(link, {})

        writer.write(kind(b"abc"))
        while not writer.is_drained():
            writer.writelines([])

        assert stream.sent == [(b"abc", 0), (b"abc", 1), (b"abc", 2)]
        assert len({id(data) for data, _ in stream.sent}) == 1
        link.close()

    doorbell, other = socket.socketpair()
    with doorbell, other:
        run(main(doorbell))


def test_nothing_is_left_of_closed_connections(run, start):
    server = start()

    async def main():
        for _ in range(3):
            async with alone(server, "unix") as client:
                await client.ping()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            async with alone(server, "unix") as client:
                await client.ping()
        # Sockets from before the move are closed by the loop's next turn.
        await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) <= before

    run(main())
    while server.sessions():
        pass

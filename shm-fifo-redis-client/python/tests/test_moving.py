"""Which connections move, as whom, and what is said of those that do not."""

import gc
import os
import socket

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import shm_fifo_redis

ONCE = Retry(NoBackoff(), 0)


def test_a_connection_moves_and_stays_the_same_client(server, alone, way, parser):
    client = alone(server, way, client_name="mover", db=3)
    assert client.connection.transport == "shm"
    assert client.connection.not_moved is None
    number = client.client_id()
    assert client.client_getname() == "mover"
    client.set("greeting", "hello")
    assert client.client_id() == number
    assert server.ask("GET", "greeting", db=3) == b"hello"
    assert client.get("greeting") == b"hello"


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_and_parsers(server, parser, protocol):
    pool = redis.ConnectionPool(
        connection_class=shm_fifo_redis.UnixDomainSocketConnection,
        path=server.path, parser_class=parser[0], protocol=protocol, shm="require",
    )
    with redis.Redis(connection_pool=pool, single_connection_client=True) as client:
        assert client.connection.transport == "shm"
        client.hset("hash", mapping={"a": 1, "b": 2})
        assert client.hgetall("hash") == {b"a": b"1", b"b": b"2"}
        with pytest.raises(redis.ResponseError):
            client.incr("hash")
        assert client.ping()
    pool.disconnect()


def test_a_url_asks_for_shared_memory(server):
    for url, transport in [
        (f"redis+shm+unix://{server.path}?db=1", "shm"),
        (f"redis+shm://127.0.0.1:{server.port}/1", "shm"),
        (f"redis+shm+unix://{server.path}?shm=require", "shm"),
        (f"unix://{server.path}", None),
    ]:
        with shm_fifo_redis.from_url(url, single_connection_client=True) as client:
            assert client.ping()
            assert getattr(client.connection, "transport", None) == transport, url
    with pytest.raises(ValueError, match="shm=never is unknown"):
        shm_fifo_redis.from_url(f"redis+shm+unix://{server.path}?shm=never").ping()


@pytest.mark.parametrize("library", [redis, redis.asyncio])
def test_what_is_asked_of_a_pool_is_said_to_the_pool(library):
    classes = {redis: shm_fifo_redis, redis.asyncio: shm_fifo_redis.asyncio}
    with pytest.raises(ValueError, match="give it to that"):
        classes[library].Redis(connection_pool=library.ConnectionPool(), shm="require")


def test_with_a_password_and_as_a_user(start, alone, way):
    server = start("--requirepass", "secret")
    server.ask("ACL", "SETUSER", "ann", "on", ">pass", "+@all", "~*", password="secret")
    for login in ({"password": "secret"}, {"username": "ann", "password": "pass"}):
        client = alone(server, way, **login)
        assert client.connection.transport == "shm"
        assert client.acl_whoami() == login.get("username", "default")
    with pytest.raises(redis.AuthenticationError):
        alone(server, way, password="wrong", retry=ONCE)


def assert_refused(alone, server, way, because, **login):
    """It works on its socket, and is an error for whoever insists."""
    client = alone(server, way, **login)
    assert client.ping()
    assert client.connection.transport == way
    assert because in client.connection.not_moved
    with pytest.raises(redis.ConnectionError, match=because):
        alone(server, way, shm="require", retry=ONCE, **login)


def test_without_a_module(start, alone, way):
    assert_refused(alone, start(module=False), way, "does not have the shm module")


def test_without_permission(start, alone, way):
    server = start()
    server.ask("ACL", "SETUSER", "ann", "on", ">pass", "+@all", "~*", "-shm.open")
    assert_refused(alone, server, way, "NOPERM", username="ann", password="pass")


def test_without_memory_to_give(start, alone, way):
    server = start()
    server.ask("CONFIG", "SET", "shm.max-memory", "1")
    assert_refused(alone, server, way, "shm.max-memory")


def test_switched_off(start, alone, way):
    server = start()
    server.ask("CONFIG", "SET", "shm.max-sessions", "0")
    client = alone(server, way)
    assert client.connection.transport == way
    server.ask("CONFIG", "SET", "shm.max-sessions", "100")
    client.connection.disconnect()
    assert client.ping() and client.connection.transport == "shm", "a new connection asks again"


class FromElsewhere(shm_fifo_redis.Connection):
    """Its own address is not its server's: as if that were another host."""

    def _connect(self):
        return socket.create_connection((self.host, self.port), source_address=("127.0.0.1", 0))


def test_on_another_host(start, connect):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        host = probe.getsockname()[0]
    server = start("--bind", "0.0.0.0", "--protected-mode", "no")
    client = connect(server, "tcp")
    pool = client.connection_pool
    pool.connection_class = FromElsewhere
    pool.connection_kwargs["host"] = host
    assert client.ping()
    [connection] = pool._available_connections
    assert connection.transport == "tcp"
    assert "runs on another host" in connection.not_moved


def test_where_others_wait_by_sockets_of_their_own(server, alone, monkeypatch):
    """As gevent does, whose hub must not be held up."""
    patched = type("socket", (socket.socket,), {"__module__": "gevent._socket3"})
    monkeypatch.setattr(socket, "socket", patched)
    client = alone(server)
    assert client.ping() and client.connection.transport == "unix"
    assert "waiting is left to gevent" in client.connection.not_moved


def test_nothing_is_left_of_closed_connections(start):
    server = start()
    for _ in range(3):
        with shm_fifo_redis.Redis(unix_socket_path=server.path) as client:
            assert client.ping() and server.sessions() == 1
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with shm_fifo_redis.Redis(unix_socket_path=server.path) as client:
            client.ping()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    while server.sessions():
        pass


def test_a_connection_that_did_not_connect_says_so(server):
    connection = shm_fifo_redis.UnixDomainSocketConnection(path="/nowhere/redis.sock")
    assert connection.transport is None and connection.not_moved == "it is not connected"
    with pytest.raises(redis.ConnectionError):
        connection.connect()

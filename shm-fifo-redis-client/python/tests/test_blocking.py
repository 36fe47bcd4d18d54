"""What programs do with a connection that blocks, in shared memory."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

import shm_fifo_redis
from conftest import child

LARGE = bytes(range(256)) * 12288  # 3 MiB, through rings of 128 KiB
PATIENT = Retry(ConstantBackoff(0.02), 500)


@pytest.fixture
def client(server, alone, way):
    client = alone(server, way)
    assert client.connection.transport == "shm"
    yield client
    assert client.connection.transport == "shm"


def test_values_of_many_rings(client):
    client.set("large", LARGE)
    assert client.get("large") == LARGE
    assert client.echo(memoryview(LARGE)) == LARGE


def test_pipelines_and_transactions(client):
    with client.pipeline(transaction=False) as many:
        for number in range(2000):
            many.set(f"key:{number}", "x" * 100).incrby("sum", number)
        assert many.execute()[-1] == sum(range(2000))
    with client.pipeline() as transaction:
        transaction.watch("sum")
        transaction.multi()
        transaction.set("sum", 1).get("sum")
        assert transaction.execute() == [True, b"1"]
    client.set("other", LARGE)
    with client.pipeline() as transaction:
        assert transaction.get("other").get("other").execute() == [LARGE, LARGE]


def test_blocking_commands_and_timeouts(client, server):
    assert client.blpop(["nothing"], timeout=0.05) is None
    timer = threading.Timer(0.05, server.ask, ("RPUSH", "queue", "late"))
    timer.start()
    assert client.blpop(["queue"], timeout=10) == (b"queue", b"late")
    timer.join()


def test_a_reply_that_does_not_come_in_time_is_redis_pys_error(server, alone, way):
    client = alone(server, way, socket_timeout=0.1, retry=Retry(ConstantBackoff(0), 0))
    with pytest.raises(redis.TimeoutError):
        client.blpop(["nothing"], timeout=10)
    assert client.ping() and client.connection.transport == "shm", "it has connected again"


def test_subscriptions(client, server, connect, way):
    pubsub = connect(server, way).pubsub()
    assert pubsub.get_message(timeout=0) is None
    pubsub.subscribe("channel")
    assert pubsub.get_message(timeout=10)["type"] == "subscribe"
    assert pubsub.connection.transport == "shm"
    assert pubsub.get_message(timeout=0.05) is None
    for number in range(100):
        client.publish("channel", number)
    received = [int(pubsub.get_message(timeout=10)["data"]) for _ in range(100)]
    assert received == list(range(100))

    # Another thread subscribes while this one listens.
    messages = pubsub.listen()
    subscribing = threading.Timer(0.05, pubsub.subscribe, ("other",))
    subscribing.start()
    assert next(messages)["channel"] == b"other"
    subscribing.join()
    pubsub.close()


def test_a_subscription_survives_its_connection(client, server, connect, way):
    pubsub = connect(server, way, retry=PATIENT).pubsub()
    pubsub.subscribe("channel")
    assert pubsub.get_message(timeout=10)["type"] == "subscribe"
    client.client_kill_filter(_type="pubsub")
    message = None
    while message is None:
        message = pubsub.get_message(timeout=0.1)
    assert message["type"] == "subscribe" and pubsub.connection.transport == "shm"
    pubsub.close()


def test_a_connection_that_connects_to_look_waits_in_shared_memory(client, server, connect, way):
    pubsub = connect(server, way).pubsub()
    pubsub.subscribe("channel")
    for _ in range(20):
        pubsub.connection.disconnect()
        message = pubsub.get_message(timeout=10)
        assert message["type"] == "subscribe" and pubsub.connection.transport == "shm"
    pubsub.close()


def test_threads_share_a_pool(server, connect, way):
    client = connect(server, way)
    failures = []

    def work(name):
        for number in range(200):
            client.set(name, number)
            if int(client.get(name)) != number:
                failures.append(name)

    threads = [threading.Thread(target=work, args=(f"thread:{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert all(c.transport == "shm" for c in client.connection_pool._available_connections)


def test_the_interpreter_is_free_while_a_connection_waits(server, connect, way):
    client, other = connect(server, way), connect(server, way)
    waiting = threading.Thread(target=client.blpop, args=(["queue"],), kwargs={"timeout": 20})
    waiting.start()
    # If it held the interpreter, nobody would come to push.
    other.rpush("queue", "value")
    waiting.join()


def test_threads_that_ask_a_connection_do_not_wait_for_one_another_for_ever(client):
    sock = client.connection._sock
    # Who waits frees the interpreter with the connection locked; who is locked out frees it, too.
    asks = [lambda: sock.wait(0.0005), sock.pending, sock.fileno, sock.gettimeout]
    threads = [threading.Thread(target=repeat, args=(ask,)) for ask in asks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def repeat(ask, seconds=0.5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ask()


def test_a_child_connects_anew_and_its_parent_goes_on(client, server):
    number = client.client_id()

    def in_child():
        assert client.client_id() != number
        assert client.connection.transport == "shm"
        client.set("child", os.getpid())

    for _ in range(3):
        assert child(in_child) == 0
        assert client.client_id() == number
    assert client.get("child") is not None


def test_a_childs_pool_connects_anew_also_while_another_thread_waits(server, connect, way):
    client = connect(server, way)
    client.ping()
    waiting = threading.Thread(target=client.blpop, args=(["queue"],), kwargs={"timeout": 20})
    waiting.start()
    while not client.connection_pool._in_use_connections:
        pass
    assert child(lambda: client.set("child", 1)) == 0
    client.rpush("queue", "value")
    waiting.join()


def test_a_connection_that_the_server_ends(client, server):
    number = client.client_id()
    server.ask("CLIENT", "KILL", "ID", str(number))
    assert client.client_id() != number


def test_a_killed_server_is_an_error_at_once_and_its_successor_is_found(start, alone, way):
    server = start()
    client = alone(server, way, retry=Retry(ConstantBackoff(0), 0), socket_timeout=30)
    killer = threading.Timer(0.1, server.kill)
    killer.start()
    with pytest.raises(redis.ConnectionError):
        client.blpop(["nothing"], timeout=20)
    killer.join()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    server.start()
    assert client.ping() and client.connection.transport == "shm"


def test_a_server_that_stops_answering_is_a_timeout(start, alone, way):
    server = start()
    client = alone(server, way, retry=Retry(ConstantBackoff(0), 0), socket_timeout=0.2)
    os.kill(server.process.pid, signal.SIGSTOP)
    with pytest.raises(redis.TimeoutError):
        client.ping()
    # Nor does a connection that is to move wait for ever.
    with pytest.raises((redis.TimeoutError, redis.ConnectionError)):
        client.ping()
    with pytest.raises(redis.TimeoutError):
        client.set("large", LARGE * 8)
    os.kill(server.process.pid, signal.SIGCONT)
    assert client.ping()


def test_another_thread_may_end_a_connection_that_waits(server, connect, way):
    client = connect(server, way, retry=Retry(ConstantBackoff(0), 0), socket_timeout=None)
    connection = client.connection_pool.get_connection()
    connection.send_command("BLPOP", "nothing", 20)
    ending = threading.Timer(0.05, connection.disconnect)
    ending.start()
    with pytest.raises((redis.ConnectionError, AttributeError, ValueError)):
        connection.read_response()
    ending.join()
    assert connection.transport is None
    client.connection_pool.release(connection)


def test_a_signal_handler_runs_while_a_connection_waits(server, way):
    address = server.address(way)
    program = f"""
import signal, sys, shm_fifo_redis
client = shm_fifo_redis.Redis(**{address!r}, single_connection_client=True, shm="require")
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
print(client.client_id(), flush=True)
print(client.blpop(["signals"], timeout=30), flush=True)
try:
    client.blpop(["signals"], timeout=30)
except KeyboardInterrupt:
    print("interrupted")
"""
    # Elsewhere than in the sources, which have no native half.
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=server.directory.name, stdout=subprocess.PIPE, text=True,
    )
    number = process.stdout.readline().strip()
    wait_until_blocked(server, number)
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == "handled\n"
    server.ask("RPUSH", "signals", "value")
    assert "value" in process.stdout.readline()
    wait_until_blocked(server, number)
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == "interrupted\n"
    process.wait()
    process.stdout.close()


def wait_until_blocked(server, number):
    while b" flags=b" not in server.ask("CLIENT", "LIST", "ID", number):
        pass


def test_a_health_check_and_a_connection_with_unread_data(client, server, way):
    connection = client.connection
    connection.send_command("PING")
    assert connection.can_read(10) and connection.can_read(0)
    assert connection.read_response() in (b"PONG", "PONG")
    assert not connection.can_read(0) and not connection.can_read(0.02)
    checked = shm_fifo_redis.Redis(**server.address(way), health_check_interval=1)
    with checked:
        pool = checked.connection_pool
        assert checked.ping()
        pool._available_connections[0].next_health_check = 0
        assert checked.ping()


def test_an_idle_connection_that_has_ended_is_replaced(start, connect, way):
    server = start()
    client = connect(server, way)
    client.ping()
    server.kill()
    server.start()
    assert client.ping(), "the pool has looked before it gave it out"

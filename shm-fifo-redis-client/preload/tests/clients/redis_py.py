"""redis-py, blocking, as it is or in a greenlet of gevent's.

Usage: redis_py.py blocking|gevent ENDPOINT
"""
import os
import signal
import sys
import threading

if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

sys.stdout.reconfigure(line_buffering=True)
ENDPOINT = sys.argv[2]
LARGE = bytes(range(256)) * 12288  # 3 MiB


def connect():
    # It waits for the server that is restarted; that a machine is busy is no error.
    patience = {"retry": Retry(ConstantBackoff(0.05), 200), "socket_timeout": None}
    if ENDPOINT.isdigit():
        return redis.Redis(port=int(ENDPOINT), **patience)
    return redis.Redis(unix_socket_path=ENDPOINT, **patience)


def ask(client, what):
    """The test does what it is asked, and answers: see clients.rs."""
    number = client.client_id()
    client.rpush("asked", f"{what} {number} {os.getpid()}")
    return client.blpop([f"answer:{number}"])[1].decode()


def commands(client, count):
    # Replies that are there at once are no reason to wait, which gevent has to be seen to do.
    client.blpop(["nothing"], timeout=0.001)
    total = 0
    for number in range(count):
        client.set("key", number)
        assert int(client.get("key")) == number
        total += client.incr("counter")
    return total


def pipeline(client):
    with client.pipeline(transaction=False) as many:
        for number in range(1000):
            many.set(f"key:{number}", "x" * 100)
            many.incrby("sum", number)
        return many.execute()[-1]


def messages(client):
    """A subscriber in a thread of its own, on a connection that was used before."""
    received, ready = [], threading.Event()

    def subscriber():
        other = connect()
        commands(other, 20)
        ask(other, "check")
        pubsub = other.pubsub()
        pubsub.subscribe("channel")
        for message in pubsub.listen():
            if message["type"] == "subscribe":
                ready.set()
            if message["type"] == "message":
                received.append(int(message["data"]))
                if len(received) == 10:
                    break
        pubsub.close()
        other.close()

    thread = threading.Thread(target=subscriber)
    thread.start()
    ready.wait()
    for number in range(10):
        client.publish("channel", number)
    thread.join()
    return received


def files(client):
    """What is written to a file goes there, also if its number was a connection's."""
    for number in range(20):
        for _ in range(20):
            client.ping()
        client.close()
        with open("file.txt", "w+") as file:
            file.write(f"RPUSH leak {number}\r\n")
            file.flush()
            file.seek(0)
            assert file.read() == f"RPUSH leak {number}\n"
    return client.exists("leak")


def fork(client):
    """A child takes connections of its own, and the parent's goes on."""
    commands(client, 50)
    pid = os.fork()
    if pid == 0:
        print("child", commands(client, 50), ask(client, "check"))
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    return commands(client, 50)


def main():
    client = connect()
    print("commands", commands(client, 100))
    print("pipeline", pipeline(client))
    client.set("large", LARGE)
    print("large", client.get("large") == LARGE)
    print("asked", ask(client, "check"))
    print("messages", messages(client))
    print("timeout", client.blpop(["nothing"], timeout=0.05))
    print("killed", ask(client, "kill"), commands(client, 50), ask(client, "check"))
    print("restarted", ask(client, "restart"), commands(client, 50), ask(client, "check"))
    print("file", files(client))
    print("parent", fork(client), ask(client, "check"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        ask(client, "terminate")
    except SystemExit:
        client.close()
        print("stopped")


main()

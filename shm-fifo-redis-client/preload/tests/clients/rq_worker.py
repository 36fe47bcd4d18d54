"""RQ: a worker that forks a child for each of ten jobs, which uses a connection of its own.

Usage: rq_worker.py ENDPOINT
"""
import os
import subprocess
import sys

import redis
import rq

ENDPOINT = os.environ.get("ENDPOINT") or sys.argv[1]


def connect():
    if ENDPOINT.isdigit():
        return redis.Redis(port=int(ENDPOINT), socket_timeout=None)
    return redis.Redis(unix_socket_path=ENDPOINT, socket_timeout=None)


def job(number):
    """What the child does: the test does what it is asked, and answers."""
    client = connect()
    for _ in range(30):
        client.incr("counter")
    own = client.client_id()
    client.rpush("asked", f"check {own} {os.getpid()}")
    return number * number, client.blpop([f"answer:{own}"])[1].decode()


def main():
    client = connect()
    queue = rq.Queue(connection=client)
    jobs = [queue.enqueue("rq_worker.job", number) for number in range(10)]
    url = f"redis://127.0.0.1:{ENDPOINT}" if ENDPOINT.isdigit() else f"unix://{ENDPOINT}"
    worker = subprocess.run(
        [sys.executable, "-m", "rq.cli", "worker", "--burst", "--quiet", "--url", url],
        cwd=os.path.dirname(os.path.abspath(__file__)), env=os.environ | {"ENDPOINT": ENDPOINT},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print("ended", worker.returncode)
    print("results", [tuple(job.return_value()) for job in jobs])
    print("counter", int(client.get("counter")))


if __name__ == "__main__":
    main()

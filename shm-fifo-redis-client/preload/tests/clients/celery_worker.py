"""Celery: a worker with two children that take 50 tasks, with Redis as broker and backend.

Usage: celery_worker.py ENDPOINT
"""
import os
import subprocess
import sys

import celery
import redis

ENDPOINT = os.environ.get("ENDPOINT") or sys.argv[1]
if ENDPOINT.isdigit():
    URL = f"redis://127.0.0.1:{ENDPOINT}/0"
    client = redis.Redis(port=int(ENDPOINT), socket_timeout=None)
else:
    URL = f"redis+socket://{ENDPOINT}"
    client = redis.Redis(unix_socket_path=ENDPOINT, socket_timeout=None)
app = celery.Celery("celery_worker", broker=URL, backend=URL)
app.conf.worker_hijack_root_logger = False


@app.task
def square(number):
    """The work: and some commands by a connection that was there before the fork."""
    for _ in range(10):
        client.incr("counter")
    return number * number


@app.task
def ask():
    """The test does what it is asked, and answers."""
    for _ in range(20):
        client.ping()
    number = client.client_id()
    client.rpush("asked", f"check {number} {os.getpid()}")
    return client.blpop([f"answer:{number}"])[1].decode()


def main():
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_worker", "worker", "--concurrency=2",
         "--without-mingle", "--without-gossip", "--loglevel=WARNING"],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        env=os.environ | {"ENDPOINT": ENDPOINT, "C_FORCE_ROOT": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tasks = [square.delay(number) for number in range(50)]
    print("sum", sum(task.get(timeout=100) for task in tasks))
    asked = [ask.delay() for _ in range(4)]
    print("asked", {task.get(timeout=100) for task in asked})
    print("counter", int(client.get("counter")))
    worker.terminate()
    print("ended", worker.wait())


if __name__ == "__main__":
    main()

"""gunicorn with two sync workers, whose application has one pool for the module.

Usage: gunicorn_app.py ENDPOINT
"""
import os
import subprocess
import sys
import urllib.request

import redis

ENDPOINT = os.environ.get("ENDPOINT") or sys.argv[1]
if ENDPOINT.isdigit():
    pool = redis.ConnectionPool(port=int(ENDPOINT), socket_timeout=None)
else:
    pool = redis.ConnectionPool(
        connection_class=redis.UnixDomainSocketConnection, path=ENDPOINT, socket_timeout=None)
client = redis.Redis(connection_pool=pool)


def commands(count):
    total = 0
    for number in range(count):
        client.set(f"key:{os.getpid()}", number)
        total += int(client.get(f"key:{os.getpid()}")) == number
    client.incr("served")
    return total


def ask(what):
    """The test does what it is asked, and answers."""
    number = client.client_id()
    client.rpush("asked", f"{what} {number} {os.getpid()}")
    return client.blpop([f"answer:{number}"])[1].decode()


# The pool was used before the workers are forked.
if __name__ != "__main__":
    commands(50)


def app(environ, start_response):
    """What gunicorn calls for each request."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/check":
        return [f"{commands(20)} {ask('check')}".encode()]
    return [str(commands(20)).encode()]


def main():
    master = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--workers=2", "--preload", "--bind=127.0.0.1:0",
         f"--pythonpath={os.path.dirname(os.path.abspath(__file__))}", "gunicorn_app:app"],
        env=os.environ | {"ENDPOINT": ENDPOINT}, stderr=subprocess.PIPE, text=True)
    for line in master.stderr:
        if "Listening at:" in line:
            address = line.split("Listening at: ")[1].split(" ")[0]
            break

    def get(path):
        with urllib.request.urlopen(address + path) as response:
            return response.read().decode()

    print("served", {get("/") for _ in range(50)})
    print("asked", {get("/check") for _ in range(10)})
    print("requests", int(client.get("served")))
    master.terminate()
    log = master.stderr.read()
    print("ended", master.wait(), log.count("Worker exiting"), "Shutting down: Master" in log)


if __name__ == "__main__":
    main()

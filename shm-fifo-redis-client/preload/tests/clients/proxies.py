"""HAProxy or nutcracker between a client and Redis: it is the proxy's connection that moves.

Usage: proxies.py haproxy|nutcracker ENDPOINT
"""
import os
import shutil
import signal
import socket
import subprocess
import sys

sys.stdout.reconfigure(line_buffering=True)
PROXY, ENDPOINT = sys.argv[1:3]
LARGE = bytes(range(256)) * 12288  # 3 MiB

HAPROXY = """
global
    nbthread 2
defaults
    mode tcp
    timeout connect 100s
    timeout client 100s
    timeout server 100s
frontend front
    bind unix@{front}
    default_backend redis
backend redis
    server redis {server}
"""
NUTCRACKER = """
pool:
  listen: {front}
  redis: true
  server_retry_timeout: 20
  servers:
   - {server}:1 redis
"""


class Client:
    """As little as a proxy understands: nutcracker knows neither HELLO nor CLIENT."""

    def __init__(self, path):
        self.path = path
        self.connect()

    def connect(self):
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(self.path)
                self.input = self.socket.makefile("rb")
                return
            except OSError:
                pass  # the proxy is about to listen

    def send(self, *words):
        request = b"*%d\r\n" % len(words)
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            request += b"$%d\r\n%s\r\n" % (len(word), word)
        self.socket.sendall(request)

    def reply(self):
        line = self.input.readline()
        if not line:
            raise OSError("the end")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise OSError(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.input.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def command(self, *words):
        self.send(*words)
        return self.reply()

    def again(self, *words):
        """Until the proxy has a server again."""
        while True:
            try:
                return self.command(*words)
            except OSError:
                self.socket.close()
                self.connect()


def commands(client, count):
    total = 0
    for number in range(count):
        client.command("SET", "key", number)
        assert int(client.command("GET", "key")) == number
        total += client.command("INCR", "counter")
    return total


def pipeline(client):
    for number in range(1000):
        client.send("INCRBY", "sum", number)
    return [client.reply() for _ in range(1000)][-1]


def large(client):
    client.command("SET", "large", LARGE)
    return client.command("GET", "large") == LARGE


def ask_through(client, what):
    """Through HAProxy a client of Redis' is a connection of the proxy's."""
    number = client.command("CLIENT", "ID")
    client.command("RPUSH", "asked", f"{what} {number} {os.getpid()}")
    return client.again("BLPOP", f"answer:{number}", 0)[1].decode()


def ask_beside(client, what):
    """nutcracker's connection is known by its last command; CLIENT goes past it."""
    direct = Client(ENDPOINT) if not ENDPOINT.isdigit() else Port(int(ENDPOINT))
    client.command("INCR", "counter")
    lines = direct.command("CLIENT", "LIST").decode().splitlines()
    fields = [dict(field.split("=", 1) for field in line.split()) for line in lines]
    number = next(client["id"] for client in fields if client["cmd"] == "incr")
    direct.command("RPUSH", "asked", f"{what} {number} {os.getpid()}")
    return direct.again("BLPOP", f"answer:{number}", 0)[1].decode()


class Port(Client):
    def connect(self):
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", self.path))
                self.input = self.socket.makefile("rb")
                return
            except OSError:
                pass


def start():
    front = os.path.abspath("proxy.sock")
    if PROXY == "haproxy":
        server = f"127.0.0.1:{ENDPOINT}" if ENDPOINT.isdigit() else f"unix@{ENDPOINT}"
        text, words = HAPROXY, ["-db", "-f", "proxy.conf"]
    else:
        server = f"127.0.0.1:{ENDPOINT}" if ENDPOINT.isdigit() else ENDPOINT
        statistics = socket.socket()
        statistics.bind(("127.0.0.1", 0))
        port = statistics.getsockname()[1]
        statistics.close()
        text, words = NUTCRACKER, ["-c", "proxy.conf", "-s", str(port), "-o", "proxy.log"]
    with open("proxy.conf", "w") as file:
        file.write(text.format(front=front, server=server))
    program = shutil.which(PROXY, path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
    log = open("proxy.out", "w")
    return subprocess.Popen([program] + words, stdout=log, stderr=log), front


def main():
    proxy, front = start()
    ask = ask_through if PROXY == "haproxy" else ask_beside
    client = Client(front)
    print("commands", commands(client, 100))
    print("pipeline", pipeline(client))
    print("large", large(client))
    print("asked", ask(client, "check"))
    many = [Client(front) for _ in range(20)]
    print("many", sum(commands(client, 20) > 0 for client in many))
    for what in ("kill", "restart"):
        answer = ask(client, what)
        client.again("GET", "key")
        print(what, answer, commands(client, 50), ask(client, "check"))
    proxy.send_signal(signal.SIGUSR1 if PROXY == "haproxy" else signal.SIGTERM)
    for other in many + [client]:
        other.socket.close()
        other.input.close()
    print("ended", proxy.wait())


main()

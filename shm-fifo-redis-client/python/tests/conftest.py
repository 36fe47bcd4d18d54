"""Real servers, each with its own directory, unix socket and loopback port."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import redis

import shm_fifo_redis
import shm_fifo_redis.asyncio

MODULE = os.environ.get("SHM_FIFO_MODULE", "")
PARSERS = {
    "hiredis": (redis.connection._HiredisParser, redis._parsers._AsyncHiredisParser),
    "python": (redis.connection._RESP2Parser, redis._parsers._AsyncRESP2Parser),
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def started(command, is_ready):
    """A server that has said in its log that it is ready."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if is_ready(line):
            # What it says later is nobody's; a full pipe would stop it.
            process.stdout.close()
            return process
    process.wait()
    raise RuntimeError("redis-server did not start:\n" + "".join(lines))


class Server:
    def __init__(self, *options, module=True, port=None):
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "redis.sock")
        self.port = port or free_port()
        self.options = [*options, *(["--loadmodule", MODULE] if module else [])]
        self.start()

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--unixsocket", self.path,
                   "--save", "", "--dir", self.directory.name, *self.options]
        self.process = started(command, lambda line: self.path in line or "connections unix" in line)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.kill()
        self.directory.cleanup()

    def ask(self, *command, **options):
        with redis.Redis(unix_socket_path=self.path, **options) as client:
            return client.execute_command(*command)

    def sessions(self):
        """How many connections are in shared memory."""
        return len(self.ask("SHM.LIST"))

    def address(self, way):
        """The connections' arguments."""
        if way == "unix":
            return {"unix_socket_path": self.path}
        return {"host": "127.0.0.1", "port": self.port}


@pytest.fixture(scope="session", autouse=True)
def module():
    if not Path(MODULE).is_file():
        pytest.exit("SHM_FIFO_MODULE names no module; run: make test-python", 1)


@pytest.fixture(scope="session")
def shared_server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def server(shared_server):
    """One for tests that leave it as it is."""
    shared_server.ask("FLUSHALL")
    return shared_server


@pytest.fixture
def start():
    """Servers of a test's own."""
    servers = []

    def start(*options, **more):
        servers.append(Server(*options, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(params=["unix", "tcp"])
def way(request):
    return request.param


@pytest.fixture(params=PARSERS)
def parser(request):
    return PARSERS[request.param]


@pytest.fixture
def connect(request):
    """Clients that are closed afterwards."""
    clients = []

    def connect(server, way="unix", **options):
        client = shm_fifo_redis.Redis(**server.address(way), **options)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def alone(connect):
    """A client with one connection, whose transport is known."""

    def alone(server, way="unix", **options):
        return connect(server, way, single_connection_client=True, **options)

    return alone


def child(work):
    """The exit code of a forked child that has done this; 0 is that it went well."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

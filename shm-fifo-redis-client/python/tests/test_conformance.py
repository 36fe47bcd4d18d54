"""Whatever a server does: `redis-shm conformance`, built beside the module, plays it."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import MODULE

PROGRAM = Path(__file__).with_name("conformance.py")


@pytest.mark.parametrize("transport", ["unix", "tcp"])
@pytest.mark.parametrize("kind", ["blocking", "asyncio", "uvloop"])
def test_the_client_conforms(kind, transport):
    tool = Path(MODULE).with_name("redis-shm")
    options = ["--tcp"] if transport == "tcp" else []
    command = [tool, "conformance", *options, "--", sys.executable, PROGRAM, kind]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok ") > 40

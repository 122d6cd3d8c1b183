"""Examples run in processes of their own, against the stand-in and nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lapse.sandbox import Sandbox
from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["sandbox", "sandbox_server"]

EXAMPLES = Path(__file__).parents[2] / "examples"
ALONE = """
import json, os, sys

def local_only(event, args):
    asked = args[1] if event == "socket.connect" else args if event == "socket.getaddrinfo" else None
    if isinstance(asked, tuple) and asked[0] not in ("127.0.0.1", b"127.0.0.1", "localhost", None):
        os.write(2, f"a request to {asked[0]}".encode())
        os._exit(77)

sys.addaudithook(local_only)
sys.path.insert(0, sys.argv[1])
"""
"""What each runs after: no request leaves this machine."""


@pytest.fixture
def run(redis_url: str, sandbox: Sandbox) -> Callable[[str], Any]:
    """Return a way to run code that uses the examples: what it passes to ``say`` comes back, else the words printed."""
    environ = {
        "PATH": os.environ["PATH"],
        "LAPSE_REGISTRY__URL": redis_url,
        "OPENAI_BASE_URL": sandbox.url,
        "OPENAI_API_KEY": "sk-example-0123456789",
        "LANGGRAPH_URL": f"{sandbox.root}/langgraph",
        "LANGGRAPH_GRAPH": "sandbox",
        "FOUNDRY_ENDPOINT": f"{sandbox.root}/foundry",
        "FOUNDRY_OPENAI_URL": sandbox.url,
        "FOUNDRY_KEY": "sk-example-0123456789",
    }

    def run(code: str) -> Any:
        said = "\ndef say(what): print('said ' + json.dumps(what))\n"
        command = [sys.executable, "-c", ALONE + said + code, str(EXAMPLES)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
        assert 0 == done.returncode, done.stderr
        assert "lapse tracking" not in done.stderr, "something could not be followed"
        assert sandbox.requests(), "it asked the stand-in for nothing"
        lines = [line for line in done.stdout.splitlines() if line.startswith("said ")]
        return json.loads(lines[-1].removeprefix("said ")) if lines else done.stdout.split()

    return run

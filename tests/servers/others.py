"""Programs that others wrote, started for one run of tests, and a worker of ours against them."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lapse.providers.account import Account
from lapse.sandbox.redis_server import die_with_parent

BIN = Path(sys.executable).parent
SERVERS = BIN.parent / "servers"
"""Where ``make test-servers`` puts what would not fit into the environment of the tests."""


def program(name: str, *places: Path, install: str) -> str:
    """Return where a program is.

    Raises:
        AssertionError: it is not there; the text has the command that installs it.

    """
    found = next((str(place / name) for place in places if (place / name).exists()), None) or shutil.which(name)
    assert found is not None, f"there is no {name} program: {install}"
    return found


@dataclass(frozen=True, slots=True)
class Client:
    """A plain HTTP client of one server."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the body: parsed if it is JSON, else as text. Bytes are sent as they are."""
        parts = urlsplit(self.url)
        connection = HTTPConnection(parts.netloc, timeout=30)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            sent = {"Content-Type": "application/json", **self.headers, **_named(headers)}
            connection.request(method, parts.path + path, content, sent)
            reply = connection.getresponse()
            text = reply.read().decode()
        finally:
            connection.close()
        try:
            return reply.status, json.loads(text)
        except ValueError:
            return reply.status, text


def account(name: str, type_: str, url: str, *not_found: str) -> Account:
    """Return lapse's account at a server, with its key in KEY."""
    return Account(
        name=name,
        type=type_,
        base_url=url,
        api_key_env="KEY",
        api_key_file=None,
        auth=None,
        rate=None,
        concurrency=4,
        not_found=not_found,
        api_version=None,
        organization=None,
        project=None,
        allow_plaintext=False,
    )


async def free(requests: int = 1) -> None:
    """Spend nothing: these servers have no budget."""


@contextlib.contextmanager
def running(command: Sequence[str], client: Client, ready: str, home: Path, **environ: str) -> Iterator[Client]:
    """Start a server in a directory of its own, and end it; ``ready`` is a path that it answers once it is."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(home), **environ}
    log = home / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen(die_with_parent(*command), stdout=file, stderr=file, env=variables, cwd=home) as process,
    ):
        try:
            deadline = time.monotonic() + 90
            while not _answers(client, ready):
                assert time.monotonic() < deadline, f"{command[0]} does not answer: {log.read_text()[-2000:]}"
                assert process.poll() is None, f"{command[0]} did not start: {log.read_text()[-2000:]}"
                time.sleep(0.1)
            yield client
        finally:
            process.terminate()


@contextlib.contextmanager
def worker(config: str, redis_url: str, home: Path, **environ: str) -> Iterator[None]:
    """Run a Celery worker with its beat on a policy file, and end it."""
    (home / "retention.toml").write_text(config)
    variables = os.environ | {"LAPSE_CONFIG": "retention.toml", "LAPSE_REGISTRY__URL": redis_url} | environ
    command = die_with_parent(sys.executable, str(BIN / "celery"), "-A", "lapse.app", "worker", "--beat")
    with (home / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=variables, cwd=home, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _answers(client: Client, path: str) -> bool:
    try:
        client.ask("GET", path)
    except OSError:
        return False
    return True


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-").title(): value for name, value in headers.items()}

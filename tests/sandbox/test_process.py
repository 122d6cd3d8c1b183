"""The stand-in as a process of its own, and how it starts and ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from lapse.errors import ConfigError
from lapse.sandbox import Sandbox
from sandbox.asking import Asker
from support.sandbox_process import SandboxProcess, command

TESTS = Path(__file__).parents[1]
LAPSE_SANDBOX = (str(Path(sys.executable).with_name("lapse")), "sandbox")


@contextlib.contextmanager
def running(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the stand-in and give it with its URL; it ends with the test."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


async def test_a_process_does_what_a_thread_does(tmp_path: Path) -> None:
    log, script = tmp_path / "log.jsonl", tmp_path / "faults.toml"
    script.write_text('[[rule]]\neffect = "error"\nstatus = 503\nfirst = 1\n')
    with SandboxProcess(log=log, script=script, latency="30ms") as server:
        ids = server.seed("thread", 2, metadata={"a": "b"})
        async with aiohttp.ClientSession() as session:
            ask = Asker(server.root, session)
            began = time.monotonic()
            statuses = [(await ask("DELETE", f"/v1/threads/{id_}")).status for id_ in ids]
            elapsed = time.monotonic() - began
            server.faults([{"effect": "html"}])
            page = await ask("DELETE", f"/v1/threads/{ids[0]}")
        with pytest.raises(ConfigError, match="rule 1: effect: 'no' is not one of"):
            server.faults([{"effect": "no"}])
        with pytest.raises(ConfigError, match="cannot be seeded"):
            server.seed("robot")
        assert (statuses, page.body[:5], elapsed >= 0.06) == ([503, 200], b"<!DOC", True)
        assert server.alive("thread") == {ids[0]}
        assert sum(each["count"] for each in server.counts()) == 3
        records = server.requests()
        server.reset()
        assert (server.requests(), server.alive("thread")) == ([], set())

    assert [json.loads(line) for line in log.read_text().splitlines()] == records


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_at_once_and_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """A request that hangs does not keep it, and what was logged is written."""
    log, script = tmp_path / "log.jsonl", tmp_path / "faults.toml"
    script.write_text('[[rule]]\neffect = "hang"\n')
    with running(*command(log=log, script=script)) as (process, url):
        async with aiohttp.ClientSession() as session:
            with contextlib.suppress(TimeoutError):
                await Asker(url.removesuffix("/v1"), session)("DELETE", "/v1/threads/thread_x", within=0.2)
            began = time.monotonic()
            process.send_signal(number)
            code = process.wait(10)
            elapsed = time.monotonic() - began
        assert process.stderr is not None
        said = process.stderr.read()

    assert (code, said) == (0, "")
    assert elapsed < 2
    assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == [0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--faults", "none.toml"], "File 'none.toml' does not exist"),
        (["--latency", "20"], "Invalid value for '--latency': \"20\" has no unit"),
        (["--log", "none/log.jsonl"], "none/log.jsonl: cannot write the request log"),
    ],
)
def test_a_wrong_option_ends_with_two_and_the_reason(tmp_path: Path, options: list[str], says: str) -> None:
    ended = subprocess.run(
        [*LAPSE_SANDBOX, *options], capture_output=True, text=True, cwd=tmp_path, timeout=30, check=False
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} on 127\.0\.0\.1 cannot be used .* choose another"):
            Sandbox(port).start()
        with pytest.raises(RuntimeError, match="it ended with 1"):
            SandboxProcess(port, errors=subprocess.DEVNULL).start()


@pytest.mark.parametrize("library", ["httptools", "starlette", "uvicorn"])
def test_without_its_libraries_it_says_what_to_install(library: str) -> None:
    text = f"import sys; sys.modules['{library}'] = None; import lapse.sandbox"
    ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False)

    said = f"ConfigError: the provider stand-in needs {library}: install lapse with its extra, lapse[sandbox]"
    assert (ended.returncode, said in ended.stderr) == (1, True), ended.stderr


def test_only_loopback_is_served() -> None:
    with Sandbox() as server:
        assert server.url.startswith("http://127.0.0.1:")


async def test_keys_are_given_as_options() -> None:
    with running(*LAPSE_SANDBOX, "--key", "sk-a=ours", "--key", "sk-b") as (_, url):
        async with aiohttp.ClientSession() as session:
            ask = Asker(url, session)
            keys = ("sk-a", "sk-b", "sk-c")
            replies = [await ask("GET", "/conversations/conv_x", authorization=f"Bearer {key}") for key in keys]

    assert [reply.status for reply in replies] == [404, 404, 401]


def test_it_dies_with_its_parent(wait_until: Callable[..., None]) -> None:
    """Kill -9 of whoever started it leaves no process behind."""
    text = (
        "import time; from support.sandbox_process import SandboxProcess; "
        "server = SandboxProcess().start(); print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, cwd=TESTS) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()

    wait_until(lambda: not _runs(pid), 10, what="the end of the stand-in")


def test_what_is_not_started_says_so() -> None:
    unstarted = SandboxProcess()
    unstarted.stop()
    with pytest.raises(RuntimeError, match=r"not running: call start\(\)"):
        _ = unstarted.pid
    with pytest.raises(RuntimeError, match=r"not running: call start\(\)"):
        Sandbox().seed("thread")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

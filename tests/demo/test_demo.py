"""``lapse demo`` as a newcomer runs it: it ends with the line that says everything, or with nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lapse.sandbox.demo.application import Expectation
from lapse.sandbox.demo.verdict import judge

LAPSE = Path(sys.executable).parent / "lapse"
LINE = re.compile(
    r"registered=(\d+) expired=(\d+) gone=(\d+) alive=(\d+) early=0 missed=0 metric=(\d+) provider_log=(\d+)"
)


def running(marker: str) -> list[int]:
    """Return the processes that carry the marker in their environment."""
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [int(entry.name) for entry in processes if marker.encode() in environment(entry)]


def environment(process: Path) -> bytes:
    """Return a process' environment; empty if it is not ours or has ended."""
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def test_the_demo_ends_with_its_promise_kept(wait_until: Callable[..., None]) -> None:
    marker = f"DEMO_TEST={time.time_ns()}"
    environ = os.environ | dict([marker.split("=")])
    done = subprocess.run([LAPSE, "demo"], env=environ, capture_output=True, text=True, timeout=90, check=False)

    found = LINE.fullmatch(done.stdout.strip().splitlines()[-1])
    assert found, done.stdout + done.stderr
    registered, expired, gone, alive, metric, log = map(int, found.groups())
    assert 0 == done.returncode
    assert registered >= 2000
    assert expired == gone == metric == log
    assert registered == gone + alive
    assert "conversation_item" in done.stderr
    wait_until(lambda: not running(marker), what="every process of the demo ended")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demo_leaves_no_process_behind(number: signal.Signals, wait_until: Callable[..., None]) -> None:
    marker = f"DEMO_TEST={time.time_ns()}"
    environ = os.environ | dict([marker.split("=")])
    with subprocess.Popen(
        [LAPSE, "demo"], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stderr
        said = []
        for line in demo.stderr:
            said.append(line)
            if "registered" in line:
                break
        assert "registered" in said[-1], said
        assert len(running(marker)) > 5
        demo.send_signal(number)
        demo.stderr.read()
        assert 0 != demo.wait(timeout=30)
    wait_until(lambda: not running(marker), what="every process of the demo ended")


def confirmed(id_: str, at: float, kind: str = "thread") -> str:
    record = {"method": "DELETE", "status": 200, "path": f"/v1/{kind}s/{id_}", "kind": kind, "time": at}
    return json.dumps(record) + "\n"


def test_the_verdict_sees_what_was_deleted_too_early_missed_or_miscounted(tmp_path: Path) -> None:
    objects = {
        "early": Expectation("thread", "early", "g", 100.0),
        "never": Expectation("thread", "never", "g", None),
        "missed": Expectation("thread", "missed", "g", 100.0),
        "foreign": Expectation("thread", "foreign", "g", None, registered=False),
    }
    log = tmp_path / "log"
    log.write_text(confirmed("early", 99.0) + confirmed("never", 200.0) + confirmed("foreign", 200.0))

    seen = judge(objects, {"missed"}, log, 'lapse_deletions_total{kind="thread",policy="p"} 2.0\n')

    assert (3, 1, False) == (seen.early, seen.missed, seen.good)
    assert ({"thread": 2}, {"thread": 3}) == (seen.metric, seen.provider_log)
    assert "early=3 missed=1 metric=2 provider_log=3" in seen.line()


def test_a_true_story_is_good(tmp_path: Path) -> None:
    objects = {"gone": Expectation("thread", "gone", "g", 100.0), "alive": Expectation("thread", "alive", "g", None)}
    log = tmp_path / "log"
    log.write_text(confirmed("gone", 100.5) + confirmed("item", 100.4, "conversation_item"))
    metrics = 'lapse_deletions_total{kind="thread"} 1.0\nlapse_deletions_total{kind="conversation_item"} 1.0\n'

    seen = judge(objects, {"alive"}, log, metrics)

    assert seen.good
    assert "registered=2 expired=1 gone=1 alive=1 early=0 missed=0 metric=1 provider_log=1" == seen.line()

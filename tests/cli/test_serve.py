"""metrics, sandbox, demo, health and audit."""

import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

from lapse.sandbox.redis_server import free_port
from support.commandline import ENFORCED, HEAD, Desk
from support.promql import anywhere


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return str(reply.read().decode())


def asked(url: str, method: str = "POST") -> tuple[int, dict[str, object]]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=10)
    with closing(connection):
        connection.request(method, parts.path, b"{}", {"Authorization": "Bearer sk-a"})
        reply = connection.getresponse()
        return reply.status, dict(json.loads(reply.read()))


def ended(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    return process.returncode


def test_metrics_serves_until_it_is_told_to_end(desk: Desk, wait_until: Callable[..., None]) -> None:
    port = free_port()
    with desk.start("metrics", "--port", str(port)) as process:
        wait_until(lambda: process.poll() is not None or listens(port), what="the exporter")
        shown = fetched(f"http://127.0.0.1:{port}/metrics")
        assert "lapse_registry_up 1" in anywhere(shown)
        assert "ok\n" == fetched(f"http://127.0.0.1:{port}/livez")
        assert 0 == ended(process)


def listens(port: int) -> bool:
    try:
        fetched(f"http://127.0.0.1:{port}/livez")
    except OSError:
        return False
    return True


def test_metrics_on_a_port_that_is_taken_says_so(desk: Desk) -> None:
    taken = desk.sandbox.root.rsplit(":", 1)[1]
    shown = desk.run("metrics", "--port", taken)
    assert 2 == shown.code
    assert f"port {taken} on 127.0.0.1 cannot be used" in shown.err


def test_sandbox_prints_its_base_url_and_serves(desk: Desk) -> None:
    (desk.directory / "faults.toml").write_text('[[rule]]\nmethod = "DELETE"\neffect = "error"\nstatus = 500\n')
    options = ("--log", "requests.jsonl", "--faults", "faults.toml", "--latency", "1ms", "--key", "sk-a=one")
    with desk.start("sandbox", *options) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        status, made = asked(f"{url}/conversations")
        assert (200, 500) == (status, asked(f"{url}/conversations/{made['id']}", "DELETE")[0])
        assert 0 == ended(process)
    logged = [json.loads(line) for line in (desk.directory / "requests.jsonl").read_text().splitlines()]
    assert [("POST", 200), ("DELETE", 500)] == [(one["method"], one["status"]) for one in logged]


def test_sandbox_says_what_is_wrong_with_a_fault_script(desk: Desk) -> None:
    (desk.directory / "faults.toml").write_text('[[rule]]\neffekt = "error"\n')
    shown = desk.run("sandbox", "--faults", "faults.toml")
    assert 2 == shown.code
    assert "effekt" in shown.err


def test_demo_ends_at_once_when_it_is_interrupted(desk: Desk) -> None:
    with desk.start("demo") as process:
        assert process.stderr is not None
        assert "private Redis" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert 130 == process.returncode


def ticking(desk: Desk) -> None:
    """Let beat's last wake-up, and the last that came back through a worker, be of now."""
    now = str(round(time.time() * 1000))
    desk.raw.hset("lapse:published", mapping={"beat": now, "tick": now})


def test_health_is_0_while_all_is_well(desk: Desk) -> None:
    ticking(desk)
    shown = desk.good("health")
    assert ["config", "registry", "halted", "paused", "beat", "worker", "providers", "sweeps", "workers"] == [
        line.split()[1].rstrip(":") for line in shown.lines
    ]
    assert all(line.startswith("ok ") for line in shown.lines)


def test_health_is_4_while_something_is_silent(desk: Desk) -> None:
    shown = desk.run("health", "--json")
    assert 4 == shown.code
    assert {"beat", "worker"} == {name for name, one in shown.json.items() if not one["ok"]}
    away = desk.run("health", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert 4 == away.code
    assert "FAIL registry: did not answer" in away.out


def test_health_is_6_while_a_policy_is_halted(desk: Desk) -> None:
    desk.configure(ENFORCED + "max_newly_due = { percent = 20, at_least = 1 }\n")
    desk.seed(3)
    desk.worker()
    ticking(desk)
    shown = desk.run("health")
    assert 6 == shown.code
    assert "FAIL halted: openai/thread/chat: cutoff_jumped" in shown.lines


def events(desk: Desk, *arguments: str) -> list[tuple[str, str]]:
    return [(one["event"], one.get("id", "")) for one in desk.good("audit", "export", *arguments).records]


def test_audit_export_is_the_sinks_file_and_what_waits_for_it(desk: Desk) -> None:
    desk.configure(ENFORCED)
    (deleted,) = desk.seed(1)
    desk.worker()
    moved = events(desk, "threads")
    assert [("intent", deleted), ("settled", deleted)] == [one for one in moved if one[1]]

    (held,) = desk.seed(1, days=1)
    desk.registry.hold("thread", held, reason="case")
    waiting = desk.audit()
    assert [*moved, ("hold", held)] == events(desk, "threads")
    assert waiting == desk.audit()  # nothing was taken out
    assert [("hold", held)] == events(desk, "thread", held)
    assert [] == events(desk, "threads", "--since", "2099-01-01T00:00Z")
    assert [] == events(desk, "conversations", "--since", "2099-01-01T00:00Z")


def test_audit_export_prints_a_record_once_that_was_written_twice(desk: Desk) -> None:
    """Delivery to the sink is at least once; a number names a record for ever."""
    desk.configure(ENFORCED)
    desk.seed(3)
    desk.worker()
    once = desk.good("audit", "export").lines
    file = desk.directory / "audit.jsonl"
    file.write_text(file.read_text() * 2)
    assert once == desk.good("audit", "export").lines


def test_audit_export_prints_what_a_server_with_a_clock_behind_numbered(desk: Desk) -> None:
    """After a failover; the number is less than some before, and is no repetition."""
    desk.configure(ENFORCED)
    desk.seed(3)
    desk.worker()
    file = desk.directory / "audit.jsonl"
    before = desk.good("audit", "export").records
    late = {"seq": f"{int(before[0]['seq'].split('-')[0]) - 5}-0", "provider": "openai", "kind": "thread", "at": 1}
    with file.open("a") as lines:
        lines.write(2 * f"{json.dumps(late)}\n")
    assert [*before, late] == desk.good("audit", "export").records


def test_audit_export_says_where_the_rest_is(desk: Desk) -> None:
    desk.configure(ENFORCED, head=HEAD.replace('sink = "file:{directory}/audit.jsonl"', 'sink = "stdout"'))
    desk.registry.hold("thread", "thread_1", reason="case")
    shown = desk.good("audit", "export")
    assert ["hold"] == [one["event"] for one in shown.records]
    assert "what workers have moved stands in their own output" in shown.err
    desk.configure(ENFORCED)
    assert "audit.jsonl does not exist here" in desk.good("audit", "export").err


def test_audit_export_leaves_out_a_line_that_was_cut_off(desk: Desk) -> None:
    (desk.directory / "audit.jsonl").write_text('{"seq":"1-0","at":1,"event":"hold","provider":"openai","kind":"thr\n')
    shown = desk.good("audit", "export")
    assert "" == shown.out
    assert "audit.jsonl:1: it is not one JSON value" in shown.err

"""The request log and the stand-in's own endpoints."""

import asyncio
import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from lapse.errors import ConfigError
from lapse.sandbox import Sandbox
from sandbox.asking import KEY, Asker


async def test_every_request_is_one_record(ask: Asker, sandbox: Sandbox) -> None:
    [id_] = sandbox.seed("thread")
    before = time.time()
    await ask("DELETE", f"/v1/threads/{id_}")
    await ask("DELETE", f"/v1/threads/{id_}")
    await ask("GET", "/v1/assistants?limit=5")
    await ask("POST", "/v1/conversations", {})
    await ask("POST", "/v1/assistants", {})
    await ask("GET", "/v1/nothing")

    records = sandbox.requests()
    shown = [
        (each["method"], each["path"], each["status"], each["kind"], each["executed"], each["answer"])
        for each in records
    ]
    assert shown == [
        ("DELETE", f"/v1/threads/{id_}", 200, "thread", True, "deleted"),
        ("DELETE", f"/v1/threads/{id_}", 404, "thread", False, "unknown"),
        ("GET", "/v1/assistants?limit=5", 200, "assistant", False, "listed"),
        ("POST", "/v1/conversations", 200, "conversation", True, "created"),
        ("POST", "/v1/assistants", 400, "assistant", False, "refused"),
        ("GET", "/v1/nothing", 404, "", False, "no_route"),
    ]
    assert all(before <= each["time"] <= time.time() and each["fault"] == "" for each in records)


async def test_a_faults_name_is_in_the_record(ask: Asker, sandbox: Sandbox) -> None:
    sandbox.faults([{"name": "storm", "effect": "error", "status": 429, "first": 1}, {"effect": "empty"}])
    await ask("DELETE", "/v1/threads/thread_x")
    await ask("DELETE", "/v1/threads/thread_x")

    assert [(each["fault"], each["answer"]) for each in sandbox.requests()] == [("storm", "error"), ("empty", "empty")]


async def test_the_file_has_the_same_records_and_no_key(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"from": "before"}\n')
    with Sandbox(log=path) as server:
        ids = server.seed("thread", 50)
        async with aiohttp.ClientSession() as session:
            ask = Asker(server.root, session)
            await asyncio.gather(*(ask("DELETE", f"/v1/threads/{id_}") for id_ in ids))
            await ask("GET", "/v1/assistants", authorization=f"Bearer {KEY}x")
        began = time.monotonic()
        while len(path.read_text().splitlines()) < 52:
            assert time.monotonic() - began < 5, "the log was not flushed"
            await asyncio.sleep(0.005)
        await_flush = time.monotonic() - began
        records = server.requests()
        async with aiohttp.ClientSession() as session:
            await Asker(server.root, session)("GET", "/v1/assistants")

    before, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert before == {"from": "before"}
    assert lines[:-1] == records
    assert lines[-1]["path"] == "/v1/assistants", "what was pending at the end is written"
    assert await_flush < 1
    assert KEY not in path.read_text()


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing/log\.jsonl: cannot write the request log: No such file"):
        Sandbox(log=tmp_path / "missing" / "log.jsonl").start()


async def test_counts_add_up(ask: Asker, sandbox: Sandbox) -> None:
    for id_ in [*sandbox.seed("thread", 3), "thread_x"]:
        await ask("DELETE", f"/v1/threads/{id_}")

    expected = [
        {"method": "DELETE", "kind": "thread", "status": 200, "answer": "deleted", "count": 3},
        {"method": "DELETE", "kind": "thread", "status": 404, "answer": "unknown", "count": 1},
    ]
    assert sandbox.counts() == expected
    assert (await ask("GET", "/sandbox/log")).json == {"requests": 4, "counts": expected}
    assert (await ask("GET", "/sandbox/requests")).json == {"requests": sandbox.requests()}


async def test_objects_are_seeded_and_shown_over_http(ask: Asker, sandbox: Sandbox) -> None:
    given = {
        "kind": "assistant",
        "count": 2,
        "name": "prod-1",
        "metadata": {"pin": "true"},
        "created_at": 1_700_000_000,
    }
    made = (await ask("POST", "/sandbox/seed", given)).json["ids"]
    shown = (await ask("GET", "/sandbox/objects?kind=assistant")).json["ids"]
    one = (await ask("GET", f"/v1/assistants/{made[0]}")).json

    assert (made, set(made)) == (shown, sandbox.alive("assistant"))
    assert (one["name"], one["metadata"], one["created_at"]) == ("prod-1", {"pin": "true"}, 1_700_000_000)
    assert [each["path"] for each in sandbox.requests()] == [f"/v1/assistants/{made[0]}"]


async def test_many_objects_are_made_quickly(sandbox: Sandbox) -> None:
    began = time.monotonic()
    ids = sandbox.seed("thread", 20_000)

    assert len(set(ids)) == 20_000 == len(sandbox.alive("thread"))
    assert time.monotonic() - began < 5


async def test_these_very_ids_can_be_made(ask: Asker, sandbox: Sandbox) -> None:
    assert sandbox.seed("thread", ids=["thread_one", "thread_two"]) == ["thread_one", "thread_two"]
    assert (await ask("DELETE", "/v1/threads/thread_one")).status == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"kind": "robot"}, "kind 'robot' cannot be seeded: one of thread, assistant, conversation"),
        ({"kind": "thread", "count": -1}, "count: -1 is not a number of objects"),
        ({"kind": "thread", "count": "3"}, "count: '3' is not a number of objects"),
        ({"kind": "thread", "cuont": 3}, "unknown key 'cuont'"),
        ({"kind": "thread", "project": "other"}, "no project 'other': one of default"),
        ({"kind": "thread", "metadata": 3}, "not iterable"),
        ([], "send a JSON object"),
        (b"{", "Expecting property name"),
    ],
)
async def test_a_wrong_seed_is_refused(ask: Asker, sandbox: Sandbox, body: object, says: str) -> None:
    reply = await ask("POST", "/sandbox/seed", body)

    assert (reply.status, says in reply.error) == (400, True), reply.body
    assert sandbox.alive("thread") == set()


async def test_faults_are_set_as_toml_or_json_and_count_their_hits(ask: Asker) -> None:
    toml = b'[[rule]]\nname = "down"\neffect = "error"\nstatus = 503\n[[rule]]\nlatency = "1ms"'
    assert (await ask("PUT", "/sandbox/faults", toml)).json == {"rules": 2}
    assert (await ask("GET", "/v1/assistants")).status == 503
    shown = [{"name": "down", "hits": 1}, {"name": "latency", "hits": 0}]
    assert (await ask("GET", "/sandbox/faults")).json == {"rules": shown}

    rules = {"rule": [{"effect": "html"}]}
    assert (await ask("PUT", "/sandbox/faults", rules, content_type="application/json")).json == {"rules": 1}
    assert (await ask("GET", "/sandbox/faults")).json == {"rules": [{"name": "html", "hits": 0}]}
    refused = await ask("PUT", "/sandbox/faults", b'[[rule]]\neffect = "no"')
    assert (refused.status, "effect: 'no' is not one of" in refused.error) == (400, True)


async def test_a_reset_forgets_all(ask: Asker, sandbox: Sandbox) -> None:
    sandbox.seed("conversation", 3, items=2)
    sandbox.faults([{"effect": "html"}])
    await ask("GET", "/v1/assistants")

    assert (await ask("POST", "/sandbox/reset")).status == 200
    assert (sandbox.requests(), sandbox.counts()) == ([], [])
    assert sandbox.alive("conversation") | sandbox.alive("conversation_item") == set()
    assert (await ask("GET", "/v1/assistants")).json["data"] == []


async def test_unknown_endpoints_and_kinds_are_refused(ask: Asker, sandbox: Sandbox) -> None:
    assert (await ask("GET", "/threads/thread_x")).status == 404
    assert (await ask("GET", "/sandbox/objects")).status == 400
    assert (await ask("GET", "/sandbox/objects?kind=thread&project=other")).status == 400
    with pytest.raises(ConfigError, match="no kind or project 'robot'"):
        sandbox.alive("robot")
    assert sandbox.requests() == []


def test_a_request_whose_body_never_comes_changes_nothing(sandbox: Sandbox) -> None:
    address = urlsplit(sandbox.root)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        head = (
            "POST /v1/threads HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer key\r\nOpenAI-Beta: assistants=v2\r\n"
        )
        connection.sendall(f"{head}Content-Length: 2\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""

    assert (sandbox.requests(), sandbox.alive("thread")) == ([], set())

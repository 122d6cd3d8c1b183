"""Every effect of a fault script on a real socket, and whether the object is gone after it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from lapse.sandbox import Sandbox
from sandbox.asking import HEADERS, Asker

BROKEN = (aiohttp.ClientError, TimeoutError)


@pytest.fixture
def thread(sandbox: Sandbox) -> str:
    """Return a thread that exists."""
    return sandbox.seed("thread")[0]


def gone(sandbox: Sandbox, thread: str) -> bool:
    return thread not in sandbox.alive("thread")


async def raw(sandbox: Sandbox, thread: str) -> bytes:
    """Send one deletion and return all bytes that come until the connection ends."""
    host, _, port = sandbox.root.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        lines = [
            f"DELETE /v1/threads/{thread} HTTP/1.1",
            "Host: x",
            *(f"{key}: {value}" for key, value in HEADERS.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def test_latency_delays_the_answer_and_nothing_else(ask: Asker, sandbox: Sandbox, thread: str) -> None:
    sandbox.faults([{"latency": "120ms"}, {"latency": "80ms"}])
    began = time.monotonic()

    reply = await ask("DELETE", f"/v1/threads/{thread}")

    assert (reply.status, gone(sandbox, thread)) == (200, True)
    assert time.monotonic() - began >= 0.2


async def test_delays_run_side_by_side(ask: Asker, sandbox: Sandbox) -> None:
    sandbox.latency(0.2)
    ids = sandbox.seed("thread", 40)
    began = time.monotonic()

    replies = await asyncio.gather(*(ask("DELETE", f"/v1/threads/{id_}") for id_ in ids))

    assert {reply.status for reply in replies} == {200}
    assert 0.2 <= time.monotonic() - began < 4


async def test_an_answer_nobody_waits_for_is_logged_as_none(
    ask: Asker, sandbox: Sandbox, thread: str, wait_until: Callable[..., None]
) -> None:
    """A client's timeout shorter than the provider's time: the object is gone, and nobody was told."""
    sandbox.faults([{"latency": "400ms"}])
    with pytest.raises(TimeoutError):
        await ask("DELETE", f"/v1/threads/{thread}", within=0.1)

    # Not in this loop: it still has to close the client's connection.
    await asyncio.to_thread(wait_until, sandbox.requests, 10, what="the record")
    [record] = sandbox.requests()
    assert (record["status"], record["executed"], record["answer"]) == (0, True, "deleted")


@pytest.mark.parametrize(
    ("rule", "status", "message", "code"),
    [
        ({"status": 500}, 500, "The server had an error while processing your request. Sorry about that!", None),
        ({"status": 503}, 503, "The engine is currently overloaded, please try again later.", None),
        ({"status": 502}, 502, "The request failed with status 502.", None),
        (
            {"status": 401},
            401,
            "Incorrect API key provided: sk-*****. You can find your API key in the dashboard.",
            "invalid_api_key",
        ),
        (
            {"status": 401, "message": "Missing scopes: api.threads.write.", "code": ""},
            401,
            "Missing scopes: api.threads.write.",
            None,
        ),
        ({"status": 409}, 409, "The resource is being modified by another request. Please try again later.", None),
        (
            {"status": 429},
            429,
            "You've exceeded the rate limit, please slow down and try again later.",
            "rate_limit_exceeded",
        ),
        (
            {"status": 429, "code": "insufficient_quota"},
            429,
            "You exceeded your current quota, please check your plan and billing details.",
            "insufficient_quota",
        ),
    ],
)
async def test_errors_have_the_providers_words(
    ask: Asker, sandbox: Sandbox, thread: str, *, rule: dict[str, Any], status: int, message: str, code: str | None
) -> None:
    sandbox.faults([{"effect": "error", **rule}])

    reply = await ask("DELETE", f"/v1/threads/{thread}")

    assert (reply.status, reply.error["message"], reply.error["code"]) == (status, message, code)
    assert not gone(sandbox, thread)


async def test_a_rate_limit_says_when_to_come_back(ask: Asker, sandbox: Sandbox, thread: str) -> None:
    sandbox.faults([{"effect": "error", "status": 429, "headers": {"Retry-After": "7"}, "first": 1}])

    limited, after = await ask("DELETE", f"/v1/threads/{thread}"), await ask("DELETE", f"/v1/threads/{thread}")

    assert (limited.status, limited.headers["retry-after"], limited.error["type"]) == (
        429,
        "7",
        "invalid_request_error",
    )
    assert (after.status, "retry-after" in after.headers) == (200, False)


@pytest.mark.parametrize(
    ("rule", "content_type", "body"),
    [
        ({"body": "html"}, "text/html; charset=utf-8", b"<!DOCTYPE html>"),
        ({"body": "empty"}, None, b""),
        ({"text": '{"detail":"Not Found"}'}, "application/json", b'{"detail":"Not Found"}'),
        ({"text": "", "headers": {"X-Edge": "1"}}, "application/json", b""),
    ],
)
async def test_errors_of_an_edge(
    ask: Asker, sandbox: Sandbox, thread: str, rule: dict[str, Any], content_type: str | None, body: bytes
) -> None:
    sandbox.faults([{"effect": "error", "status": 502, **rule}])

    reply = await ask("DELETE", f"/v1/threads/{thread}")

    assert (reply.status, reply.headers.get("content-type")) == (502, content_type)
    assert reply.body.startswith(body)
    assert bool(reply.body) == bool(body)


@pytest.mark.parametrize("execute", [False, True])
@pytest.mark.parametrize(
    ("effect", "status", "body"),
    [
        ("deleted_false", 200, '{"id":"ID","object":"thread.deleted","deleted":false}'),
        ("empty_object", 200, "{}"),
        ("empty", 200, ""),
        ("no_content", 204, ""),
        ("redirect", 302, ""),
        ("error", 500, None),
        ("html", 200, None),
        ("truncated", 200, None),
        ("other_id", 200, None),
    ],
)
async def test_wrong_shapes_whether_or_not_it_was_done(
    ask: Asker, sandbox: Sandbox, thread: str, *, effect: str, status: int, body: str | None, execute: bool
) -> None:
    more = {"status": 500} if effect == "error" else {}
    sandbox.faults([{"effect": effect, "execute": execute, **more}])

    reply = await ask("DELETE", f"/v1/threads/{thread}")

    assert reply.status == status
    assert body is None or reply.body.decode() == body.replace("ID", thread)
    assert gone(sandbox, thread) == execute
    [record] = sandbox.requests()
    assert (record["executed"], record["answer"], record["status"]) == (execute, effect, status)


async def test_a_page_instead_of_an_answer(ask: Asker, sandbox: Sandbox, thread: str) -> None:
    sandbox.faults([{"effect": "html"}])
    page = await ask("DELETE", f"/v1/threads/{thread}")
    sandbox.faults([{"effect": "redirect"}])
    login = await ask("DELETE", f"/v1/threads/{thread}")

    assert (page.headers["content-type"], page.body[:15]) == ("text/html; charset=utf-8", b"<!DOCTYPE html>")
    assert login.headers["location"].startswith("https://login.invalid")


async def test_another_id_and_half_an_answer(ask: Asker, sandbox: Sandbox, thread: str) -> None:
    sandbox.faults([{"effect": "other_id"}])
    other = (await ask("DELETE", f"/v1/threads/{thread}")).json
    sandbox.faults([{"effect": "truncated"}])
    half = await ask("DELETE", f"/v1/threads/{thread}")

    assert (other["deleted"], other["object"], len(other["id"])) == (True, "thread.deleted", len(thread))
    assert other["id"] != thread
    with pytest.raises(ValueError, match=r"Unterminated string|Expecting"):
        _ = half.json


@pytest.mark.parametrize("execute", [False, True])
@pytest.mark.parametrize("effect", ["hang", "reset", "close"])
async def test_no_answer_whether_or_not_it_was_done(
    ask: Asker, sandbox: Sandbox, thread: str, effect: str, *, execute: bool
) -> None:
    sandbox.faults([{"effect": effect, "execute": execute, "first": 1}])

    with pytest.raises(BROKEN):
        await ask("DELETE", f"/v1/threads/{thread}", within=0.3 if effect == "hang" else 10)

    assert gone(sandbox, thread) == execute
    [record] = sandbox.requests()
    assert (record["status"], record["executed"], record["fault"]) == (0, execute, effect)
    assert (await ask("DELETE", f"/v1/threads/{thread}")).status == (404 if execute else 200)


async def test_a_reset_is_a_reset_and_a_close_is_not(sandbox: Sandbox, thread: str) -> None:
    sandbox.faults([{"effect": "reset", "first": 1}, {"effect": "close"}])

    with pytest.raises(ConnectionResetError):
        await raw(sandbox, thread)
    assert await raw(sandbox, thread) == b""


async def test_an_answer_cut_short_was_carried_out(sandbox: Sandbox, thread: str) -> None:
    sandbox.faults([{"effect": "cut"}])

    head, _, body = (await raw(sandbox, thread)).partition(b"\r\n\r\n")

    assert b"200 OK" in head
    assert 0 < len(body) < int(head.lower().partition(b"content-length: ")[2].split()[0])
    assert gone(sandbox, thread)
    assert sandbox.requests()[-1]["status"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/v1/threads/{thread}", None),
        ("POST", "/v1/threads", {}),
        ("GET", "/v1/assistants", None),
        ("POST", "/v1/threads/{thread}/runs", {}),
        ("GET", "/v1/threads/{thread}/messages", None),
    ],
)
async def test_a_sunset_answers_404_with_nothing_to_every_assistants_request(
    ask: Asker, sandbox: Sandbox, thread: str, method: str, path: str, body: object
) -> None:
    sandbox.faults([{"effect": "sunset"}])

    reply = await ask(method, path.format(thread=thread), body)

    assert (reply.status, reply.body) == (404, b"")
    assert sandbox.alive("thread") == {thread}


async def test_a_sunset_leaves_conversations_alone(ask: Asker, sandbox: Sandbox) -> None:
    [id_] = sandbox.seed("conversation")
    sandbox.faults([{"effect": "sunset"}])

    assert (await ask("DELETE", f"/v1/conversations/{id_}")).status == 200


@pytest.mark.parametrize(
    ("body", "start"), [("html", b"<!DOCTYPE html>"), ("json", b'{"error":{"message":"Invalid URL (DELETE')]
)
async def test_a_sunset_may_have_a_body(ask: Asker, sandbox: Sandbox, thread: str, body: str, start: bytes) -> None:
    sandbox.faults([{"effect": "sunset", "body": body}])

    reply = await ask("DELETE", f"/v1/threads/{thread}")

    assert (reply.status, reply.body[: len(start)]) == (404, start)


async def test_in_the_wrong_project_everything_looks_gone(ask: Asker, sandbox: Sandbox, thread: str) -> None:
    ids = sandbox.seed("assistant", 3)
    sandbox.faults([{"effect": "wrong_project"}])

    deleted = await ask("DELETE", f"/v1/threads/{thread}")
    listed = await ask("GET", "/v1/assistants")
    made = await ask("POST", "/v1/threads", {})

    assert (deleted.status, deleted.error["message"]) == (404, f"No thread found with id '{thread}'.")
    assert (listed.json["data"], listed.json["has_more"], made.status) == ([], False, 200)
    assert (sandbox.alive("thread"), sandbox.alive("assistant")) == ({thread}, set(ids))


async def walk(ask: Asker, most: int = 10) -> tuple[list[str], list[int]]:
    """Follow a listing's cursors and return the ids seen and each page's status."""
    seen: list[str] = []
    statuses: list[int] = []
    cursor = ""
    for _ in range(most):
        reply = await ask("GET", f"/v1/assistants?limit=5&order=asc{cursor}")
        statuses.append(reply.status)
        if reply.status != 200:
            break
        seen += [each["id"] for each in reply.json["data"]]
        if not reply.json["has_more"] or not reply.json["data"]:
            break
        cursor = f"&after={reply.json['last_id']}"
    return seen, statuses


@pytest.mark.parametrize(
    ("rule", "shown", "statuses"),
    [
        ({"effect": "list_last", "page": 1}, 5, [200]),
        ({"effect": "list_last", "page": 2}, 10, [200, 200]),
        ({"effect": "error", "status": 500, "page": 3}, 10, [200, 200, 500]),
        ({"effect": "list_empty", "page": 2}, 5, [200, 200]),
        ({"effect": "error", "status": 500, "page": 9}, 18, [200] * 4),
    ],
)
async def test_listings_that_end_too_early(
    ask: Asker, sandbox: Sandbox, rule: dict[str, Any], shown: int, statuses: list[int]
) -> None:
    ids = sandbox.seed("assistant", 18)
    sandbox.faults([rule])

    assert await walk(ask) == (ids[:shown], statuses)
    assert await walk(ask) == (ids[:shown], statuses)


async def test_a_listing_that_never_ends(ask: Asker, sandbox: Sandbox) -> None:
    ids = sandbox.seed("assistant", 18)
    sandbox.faults([{"effect": "list_loop"}])

    seen, statuses = await walk(ask, most=6)

    assert (seen, statuses) == (ids[:5] * 6, [200] * 6)


@pytest.mark.parametrize(
    ("effect", "body"), [("empty_object", b"{}"), ("empty", b""), ("list_empty", b'{"object":"list","data":[],')]
)
async def test_listings_of_a_wrong_shape(ask: Asker, sandbox: Sandbox, effect: str, body: bytes) -> None:
    sandbox.seed("assistant", 3)
    sandbox.faults([{"effect": effect}])

    reply = await ask("GET", "/v1/assistants")

    assert (reply.status, reply.body[: len(body) or None]) == (200, body)


async def test_effects_on_lists_leave_other_requests_alone(ask: Asker, sandbox: Sandbox, thread: str) -> None:
    sandbox.faults([{"effect": "list_empty"}])

    assert (await ask("DELETE", f"/v1/threads/{thread}")).status == 200


async def test_a_listing_refused_stays_refused_under_an_effect(ask: Asker, sandbox: Sandbox) -> None:
    sandbox.faults([{"effect": "list_last"}])

    assert (await ask("GET", "/v1/assistants?limit=0")).status == 400

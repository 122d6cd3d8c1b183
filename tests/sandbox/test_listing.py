"""Pages of a list: limit, order, after and before."""

import pytest

from lapse.sandbox import Sandbox
from sandbox.asking import Asker


@pytest.fixture
def ids(sandbox: Sandbox) -> list[str]:
    """Return 30 assistants, the oldest first."""
    return sandbox.seed("assistant", 30)


async def listed(ask: Asker, query: str) -> tuple[list[str], bool]:
    reply = await ask("GET", f"/v1/assistants?{query}")
    assert reply.status == 200, reply.body
    shown = [each["id"] for each in reply.json["data"]]
    assert (shown[0], shown[-1]) == (reply.json["first_id"], reply.json["last_id"]) if shown else True
    return shown, reply.json["has_more"]


async def test_twenty_of_the_newest_unless_said_otherwise(ask: Asker, ids: list[str]) -> None:
    assert (ids[:9:-1], True) == await listed(ask, "")


async def test_a_page_that_ends_the_list_says_so(ask: Asker, ids: list[str]) -> None:
    assert (ids[::-1], False) == await listed(ask, "limit=30")
    assert (ids[1::][::-1], True) == await listed(ask, "limit=29")


async def test_after_and_before_are_cursors(ask: Asker, ids: list[str]) -> None:
    assert (ids[5:9], True) == await listed(ask, f"order=asc&limit=4&after={ids[4]}")
    assert (ids[28:], False) == await listed(ask, f"order=asc&limit=4&after={ids[27]}")
    assert (ids[6:10], True) == await listed(ask, f"order=asc&limit=4&before={ids[10]}")
    assert (ids[:2], False) == await listed(ask, f"order=asc&limit=4&before={ids[2]}")
    assert (ids[11:13], True) == await listed(ask, f"order=asc&limit=2&after={ids[10]}&before={ids[14]}")
    assert await listed(ask, f"after={ids[0]}") == ([], False)


async def test_an_empty_list_has_no_first_and_last(ask: Asker) -> None:
    reply = await ask("GET", "/v1/assistants")

    assert reply.json == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ("limit=101", "limit", "integer_above_max_value"),
        ("limit=0", "limit", "integer_below_min_value"),
        ("limit=-1", "limit", "integer_below_min_value"),
        ("limit=--1", "limit", "invalid_type"),
        ("limit=ten", "limit", "invalid_type"),
        ("order=up", "order", "invalid_value"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/assistants", "/v1/threads/{thread}/messages", "/v1/conversations/{conversation}/items"]
)
async def test_a_wrong_query_is_refused(
    ask: Asker, sandbox: Sandbox, path: str, query: str, param: str, code: str
) -> None:
    [thread], [conversation] = sandbox.seed("thread"), sandbox.seed("conversation")

    reply = await ask("GET", f"{path.format(thread=thread, conversation=conversation)}?{query}")

    assert (400, param, code) == (reply.status, reply.error["param"], reply.error["code"])


async def test_a_cursor_that_names_nothing_is_unknown(ask: Asker, ids: list[str]) -> None:
    await ask("DELETE", f"/v1/assistants/{ids[7]}")

    reply = await ask("GET", f"/v1/assistants?after={ids[7]}")

    assert (404, f"No assistant found with id '{ids[7]}'.") == (reply.status, reply.error["message"])


async def test_items_and_messages_are_paged_too(ask: Asker, sandbox: Sandbox) -> None:
    [conversation] = sandbox.seed("conversation", items=25)
    first = await ask("GET", f"/v1/conversations/{conversation}/items")
    second = await ask("GET", f"/v1/conversations/{conversation}/items?after={first.json['last_id']}")

    assert (
        [len(page.json["data"]) for page in (first, second)],
        [page.json["has_more"] for page in (first, second)],
    ) == ([20, 5], [True, False])
    assert sandbox.alive("conversation_item") == {each["id"] for page in (first, second) for each in page.json["data"]}

"""The stand-in as a Foundry project's endpoint, and as the identity endpoint that hands out its tokens."""

import pytest

from lapse.sandbox import Sandbox
from sandbox.asking import KEY, Asker, Reply

V1 = "api-version=v1"


async def foundry(ask: Asker, method: str, path: str, authorization: str = f"Bearer {KEY}") -> Reply:
    return await ask(method, f"/foundry{path}", beta="", authorization=authorization)


@pytest.mark.parametrize(
    ("query", "code"), [("", "MissingApiVersionParameter"), ("?api-version=2023-01-01", "UnsupportedApiVersion")]
)
async def test_an_api_version_is_demanded(ask: Asker, query: str, code: str) -> None:
    reply = await foundry(ask, "GET", f"/threads{query}")

    assert (reply.status, reply.error["code"]) == (400, code)


@pytest.mark.parametrize("version", ["v1", "2025-05-01", "2025-05-15-preview"])
async def test_threads_are_listed(ask: Asker, sandbox: Sandbox, version: str) -> None:
    ids = sandbox.seed("thread", 5, dialect="foundry")

    first = await foundry(ask, "GET", f"/threads?limit=3&order=asc&api-version={version}")
    rest = await foundry(ask, "GET", f"/threads?limit=3&order=asc&after={ids[2]}&api-version={version}")

    assert ids == [each["id"] for reply in (first, rest) for each in reply.json["data"]]
    assert [True, False] == [first.json["has_more"], rest.json["has_more"]]


async def test_files_are_listed_whole(ask: Asker, sandbox: Sandbox) -> None:
    ids = sandbox.seed("file", 30, dialect="foundry")

    reply = await foundry(ask, "GET", f"/files?{V1}")

    assert ids == [each["id"] for each in reply.json["data"]]
    assert "has_more" not in reply.json


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/threads/thread_x", 404, "No thread found with id 'thread_x'."),
        ("/threads/x", 400, "Invalid 'thread_id': 'x'. Expected an ID that begins with 'thread'."),
        ("/conversations/conv_x", 404, "Resource not found"),
        ("/threadz/thread_x", 404, "Resource not found"),
        ("/threads/", 404, "Resource not found"),
    ],
)
async def test_what_is_not_there(ask: Asker, path: str, status: int, said: str) -> None:
    reply = await foundry(ask, "DELETE", f"{path}?{V1}")

    assert (status, said) == (reply.status, reply.error["message"])


@pytest.mark.parametrize(
    ("kind", "object_"),
    [
        ("thread", "thread.deleted"),
        ("assistant", "assistant.deleted"),
        ("file", "file"),
        ("vector_store", "vector_store.deleted"),
    ],
)
async def test_a_deletion_names_the_id(ask: Asker, sandbox: Sandbox, kind: str, object_: str) -> None:
    (id_,) = sandbox.seed(kind, dialect="foundry")

    reply = await foundry(ask, "DELETE", f"/{kind}s/{id_}?{V1}")

    assert {"id": id_, "object": object_, "deleted": True} == reply.json
    assert sandbox.alive(kind, dialect="foundry") == set()


async def test_a_token_that_has_ended_is_refused(ask: Asker, sandbox: Sandbox) -> None:
    good, ended = sandbox.token(), sandbox.token(-1)

    replies = [
        await foundry(ask, "GET", f"/threads?{V1}", authorization=value)
        for value in (f"Bearer {good}", f"Bearer {ended}", "")
    ]

    assert [200, 401, 401] == [reply.status for reply in replies]
    assert "The token is expired." in replies[1].error["message"]
    assert "is expired" not in replies[2].error["message"]


async def test_where_keys_are_set_only_they_and_tokens_of_ours_open(ask: Asker) -> None:
    with Sandbox(keys={"static": "default"}) as server:
        asker = Asker(server.root, ask._session)
        replies = [
            await foundry(asker, "GET", f"/threads?{V1}", authorization=f"Bearer {each}")
            for each in ("static", server.token(), server.token(-1), "other")
        ]

    assert [200, 200, 401, 401] == [reply.status for reply in replies]


async def test_the_identity_endpoint_hands_tokens_out(ask: Asker) -> None:
    first = (await ask("GET", "/sandbox/identity?resource=https://ai.azure.com")).json
    await ask("PUT", "/sandbox/identity", {"seconds": -5})
    ended = (await ask("GET", "/sandbox/identity?resource=https://ai.azure.com")).json

    assert ("https://ai.azure.com", "Bearer") == (first["resource"], first["token_type"])
    statuses = [
        (await foundry(ask, "GET", f"/threads?{V1}", authorization=f"Bearer {each['access_token']}")).status
        for each in (first, ended)
    ]
    assert [200, 401] == statuses
    assert int(ended["expires_on"]) < int(first["expires_on"])
    assert (await ask("PUT", "/sandbox/identity", {})).status == 400


async def test_errors_are_azures(ask: Asker, sandbox: Sandbox) -> None:
    sandbox.faults([{"path": "/foundry/*", "effect": "error", "status": 500}])

    reply = await foundry(ask, "DELETE", f"/threads/thread_x?{V1}")

    assert (reply.status, reply.error.keys()) == (500, {"code", "message"})

"""What stands on the wire: bodies, statuses and headers as the provider sends them."""

import re

import aiohttp
import pytest

from lapse.sandbox import Sandbox
from sandbox.asking import Asker

UNKNOWN = {
    "thread": ("/v1/threads/thread_x", "No thread found with id 'thread_x'."),
    "assistant": ("/v1/assistants/asst_x", "No assistant found with id 'asst_x'."),
    "conversation": ("/v1/conversations/conv_x", "Conversation with id 'conv_x' not found."),
}
PATHS = {"thread": "/v1/threads", "assistant": "/v1/assistants", "conversation": "/v1/conversations"}
FORMS = {
    "thread": r"thread_[A-Za-z0-9]{24}",
    "assistant": r"asst_[A-Za-z0-9]{24}",
    "conversation": r"conv_[0-9a-f]{48}",
}


@pytest.mark.parametrize("kind", PATHS)
async def test_a_deletion_is_confirmed_once(ask: Asker, sandbox: Sandbox, kind: str) -> None:
    first, second = sandbox.seed(kind, 2)

    deleted = await ask("DELETE", f"{PATHS[kind]}/{first}")
    again = await ask("DELETE", f"{PATHS[kind]}/{first}")

    assert (200, f'{{"id":"{first}","object":"{kind}.deleted","deleted":true}}') == (
        deleted.status,
        deleted.body.decode(),
    )
    assert again.status == 404
    assert {second} == sandbox.alive(kind)


@pytest.mark.parametrize("kind", UNKNOWN)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_unknown_id_is_named(ask: Asker, kind: str, method: str) -> None:
    path, message = UNKNOWN[kind]

    reply = await ask(method, path, {} if method == "POST" else None)

    expected = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    assert (404, expected) == (reply.status, reply.error)


@pytest.mark.parametrize(("kind", "form"), FORMS.items())
async def test_ids_look_like_the_providers(ask: Asker, sandbox: Sandbox, kind: str, form: str) -> None:
    made = await ask("POST", PATHS[kind], {"model": "m"} if kind == "assistant" else {})

    assert (200, kind) == (made.status, made.json["object"])
    assert all(re.fullmatch(form, id_) for id_ in [made.json["id"], *sandbox.seed(kind, 50)])
    assert len(sandbox.alive(kind)) == 51


@pytest.mark.parametrize(
    ("path", "param", "prefix"),
    [
        ("/v1/threads/undefined", "thread_id", "thread"),
        ("/v1/threads/asst_abc", "thread_id", "thread"),
        ("/v1/assistants/thread_abc", "assistant_id", "asst"),
        ("/v1/conversations/resp_abc", "conversation_id", "conv"),
    ],
)
async def test_a_foreign_prefix_is_refused(ask: Asker, path: str, param: str, prefix: str) -> None:
    reply = await ask("DELETE", path)

    id_ = path.rpartition("/")[2]
    message = f"Invalid '{param}': '{id_}'. Expected an ID that begins with '{prefix}'."
    assert (400, message, param) == (reply.status, reply.error["message"], reply.error["param"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/v1/threadz/thread_x"),
        ("DELETE", "/v1/threads/"),
        ("DELETE", "/v1/threads"),
        ("GET", "/v1/threads"),
        ("GET", "/v1/conversations"),
        ("GET", "/v1/"),
        ("GET", "/v1"),
        ("DELETE", "/v1/v1/threads/thread_x"),
    ],
)
async def test_an_unknown_route_is_an_invalid_url(ask: Asker, method: str, path: str) -> None:
    reply = await ask(method, path)

    expected = {
        "message": f"Invalid URL ({method} {path})",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    assert (404, expected) == (reply.status, reply.error)


@pytest.mark.parametrize("path", ["/v1/threads/thread_x", "/v1/assistants/asst_x", "/v1/assistants"])
async def test_assistants_need_the_beta_header(ask: Asker, path: str) -> None:
    reply = await ask("GET", path, beta="")

    assert (reply.status, reply.error["code"]) == (400, "invalid_beta")
    assert "OpenAI-Beta: assistants=v2" in reply.error["message"]


async def test_conversations_need_no_beta_header(ask: Asker) -> None:
    assert (await ask("POST", "/v1/conversations", {}, beta="")).status == 200


async def test_a_request_without_a_key_is_refused(ask: Asker) -> None:
    reply = await ask("DELETE", "/v1/conversations/conv_x", authorization="")

    assert (reply.status, reply.error["code"]) == (401, None)
    assert "You didn't provide an API key" in reply.error["message"]


async def test_keys_open_their_own_project_only() -> None:
    with Sandbox(keys={"sk-ours-0123456789": "ours", "sk-theirs-0123456789": "theirs"}) as server:
        [id_] = server.seed("conversation", project="ours")
        async with aiohttp.ClientSession() as session:
            ask = Asker(server.root, session)
            theirs = await ask("DELETE", f"/v1/conversations/{id_}", authorization="Bearer sk-theirs-0123456789")
            nobodys = await ask("DELETE", f"/v1/conversations/{id_}", authorization="Bearer sk-wrong-0123456789")
            ours = await ask("DELETE", f"/v1/conversations/{id_}", authorization="Bearer sk-ours-0123456789")

    assert (404, f"Conversation with id '{id_}' not found.") == (theirs.status, theirs.error["message"])
    assert (nobodys.status, nobodys.error["code"]) == (401, "invalid_api_key")
    assert "sk-wrong-0123456789" not in nobodys.error["message"]
    assert ours.status == 200


async def test_every_answer_carries_the_providers_headers(ask: Asker) -> None:
    replies = [await ask("DELETE", "/v1/threads/thread_x") for _ in range(3)]

    assert len({reply.headers["x-request-id"] for reply in replies}) == 3
    for reply in replies:
        assert re.fullmatch(r"req_[0-9a-f]{32}", reply.headers["x-request-id"])
        assert reply.headers["openai-version"] == "2020-10-01"
        assert reply.headers["openai-organization"]
        assert int(reply.headers["openai-processing-ms"]) >= 0
        assert reply.headers["content-type"] == "application/json"
        assert "server" not in reply.headers


async def test_an_encoded_id_is_decoded_and_looked_up(ask: Asker, sandbox: Sandbox) -> None:
    sandbox.seed("thread", ids=["thread_a/b c"])

    reply = await ask("DELETE", "/v1/threads/thread_a%2Fb%20c")

    assert (reply.status, reply.json["id"]) == (200, "thread_a/b c")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/threads", b"{", None),
        ("/v1/threads", [1], None),
        ("/v1/threads", {"messages": ["text"]}, "messages"),
        ("/v1/threads", {"messages": [{"role": "robot", "content": "x"}]}, "role"),
        ("/v1/threads", {"metadata": "text"}, "metadata"),
        ("/v1/threads", {"metadata": {str(n): "v" for n in range(17)}}, "metadata"),
        ("/v1/threads", {"metadata": {"k" * 65: "v"}}, "metadata." + "k" * 65),
        ("/v1/threads", {"metadata": {"k": "v" * 513}}, "metadata.k"),
        ("/v1/threads", {"metadata": {"k": 1}}, "metadata.k"),
        ("/v1/assistants", {}, "model"),
        ("/v1/conversations", {"items": [{"role": "user", "content": "x"}] * 21}, "items"),
        ("/v1/conversations", {"items": "text"}, "items"),
    ],
)
async def test_a_wrong_body_is_refused_and_makes_nothing(
    ask: Asker, sandbox: Sandbox, path: str, body: object, param: str | None
) -> None:
    reply = await ask("POST", path, body)

    assert (400, "invalid_request_error", param) == (reply.status, reply.error["type"], reply.error["param"])
    assert set() == sandbox.alive("thread") | sandbox.alive("assistant") | sandbox.alive("conversation")


@pytest.mark.parametrize("body", [{}, {"items": []}, {"items": [{"role": "user"}] * 21}])
async def test_items_are_refused_as_a_whole(ask: Asker, sandbox: Sandbox, body: object) -> None:
    [id_] = sandbox.seed("conversation")

    assert (await ask("POST", f"/v1/conversations/{id_}/items", body)).status == 400
    assert set() == sandbox.alive("conversation_item")


async def test_metadata_at_its_limits_is_taken(ask: Asker) -> None:
    metadata = {f"{n:064}": "v" * 512 for n in range(16)}

    assert metadata == (await ask("POST", "/v1/threads", {"metadata": metadata})).json["metadata"]


async def test_conversation_metadata_cannot_be_left_out_of_an_update(ask: Asker, sandbox: Sandbox) -> None:
    [id_] = sandbox.seed("conversation")

    assert (await ask("POST", f"/v1/conversations/{id_}", {})).status == 400


async def test_a_body_in_many_pieces_is_read_whole(ask: Asker) -> None:
    text = "x" * 500_000
    thread = (await ask("POST", "/v1/threads", {"messages": [{"role": "user", "content": text}]})).json["id"]

    [message] = (await ask("GET", f"/v1/threads/{thread}/messages")).json["data"]

    assert message["content"] == [{"type": "text", "text": {"value": text, "annotations": []}}]


async def test_messages_of_a_thread(ask: Asker, sandbox: Sandbox) -> None:
    [thread] = sandbox.seed("thread")
    made = await ask("POST", f"/v1/threads/{thread}/messages", {"role": "user", "content": "hello"})
    path = f"/v1/threads/{thread}/messages/{made.json['id']}"

    assert made.json == (await ask("GET", path)).json
    assert {"id": made.json["id"], "object": "thread.message.deleted", "deleted": True} == (
        await ask("DELETE", path)
    ).json
    assert [(await ask(method, path)).status for method in ("GET", "DELETE")] == [404, 404]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/threads/thread_x/messages", None),
        ("POST", "/v1/threads/thread_x/messages", {"role": "user", "content": "x"}),
        ("GET", "/v1/threads/thread_x/messages/msg_x", None),
        ("DELETE", "/v1/threads/thread_x/messages/msg_x", None),
        ("GET", "/v1/conversations/conv_x/items", None),
        ("POST", "/v1/conversations/conv_x/items", {"items": [{"role": "user", "content": "x"}]}),
        ("GET", "/v1/conversations/conv_x/items/msg_x", None),
        ("DELETE", "/v1/conversations/conv_x/items/msg_x", None),
    ],
)
async def test_what_lies_in_an_unknown_object_names_that_object(
    ask: Asker, method: str, path: str, body: object
) -> None:
    reply = await ask(method, path, body)

    assert reply.status == 404
    assert f"'{path.split('/')[3]}'" in reply.error["message"]


async def test_an_item_is_read_and_deleted_once(ask: Asker, sandbox: Sandbox) -> None:
    [conversation] = sandbox.seed("conversation", items=1)
    [item] = sandbox.alive("conversation_item")
    path = f"/v1/conversations/{conversation}/items/{item}"

    assert item == (await ask("GET", path)).json["id"]
    assert (200, conversation) == (
        (await ask("DELETE", path)).status,
        (await ask("GET", path[: -len(item) - 7])).json["id"],
    )
    again = await ask("DELETE", path)
    assert (again.status, f"'{item}'" in again.error["message"]) == (404, True)
    assert (await ask("GET", path)).status == 404

"""What a tracked client's calls leave in the registry: created, used, referred to, deleted."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
import redis

import lapse
from support.canned import Canned

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ALL = ("thread", "assistant", "conversation", "file", "vector_store", "container", "response", "chat_completion")


@pytest.fixture
def track(canned: Canned, registry: lapse.Registry) -> Iterator[Callable[..., Any]]:
    """Return a way to make a tracked client of the canned provider."""
    clients = []

    def made(key: str = "k", http: httpx2.Client | None = None, **given: Any) -> Any:
        client = openai.OpenAI(api_key=key, base_url=canned.url, max_retries=0, http_client=http)
        clients.append(client)
        policies = given.pop("policies", dict.fromkeys(ALL, "chat"))
        return lapse.track(client, policies=policies, registry=given.pop("registry", registry), **given)

    yield made
    for client in clients:
        client.close()


def answering(client: Any, how: str) -> Any:
    return client.with_options(default_headers={"x-answer": how})


def acts(raw: redis.Redis, kind: str) -> list[dict[str, Any]]:
    rows: Any = raw.xrange(f"lapse:{{openai:{kind}}}:acts")
    return [json.loads(fields["e"]) for _, fields in rows]


def uses(registry: lapse.Registry, kind: str, id_: str) -> set[tuple[str, str]]:
    record = registry.get(kind, id_)
    assert record is not None
    return {(use.kind, use.id) for use in record.uses}


@pytest.mark.parametrize(
    ("kind", "create"),
    [
        ("thread", lambda client: client.beta.threads.create()),
        ("assistant", lambda client: client.beta.assistants.create(model="m")),
        ("conversation", lambda client: client.conversations.create()),
        ("file", lambda client: client.files.create(file=b"x", purpose="batch")),
        ("vector_store", lambda client: client.vector_stores.create()),
        ("container", lambda client: client.containers.create(name="c")),
        ("response", lambda client: client.responses.create(model="m", input="hi")),
        ("chat_completion", lambda client: client.chat.completions.create(model="m", messages=[], store=True)),
    ],
)
def test_every_kind_is_registered_when_it_is_created(
    track: Callable[..., Any], registry: lapse.Registry, kind: str, create: Callable[[Any], Any]
) -> None:
    made = create(track())

    record = registry.get(kind, made.id)
    assert record is not None
    assert (record.policy, record.subject, record.labels) == ("chat", None, {})


def test_it_is_registered_before_the_application_knows_its_id(
    track: Callable[..., Any], registry: lapse.Registry
) -> None:
    client = track()
    with client.responses.create(model="m", input="hi", stream=True) as stream:
        first = next(iter(stream))
        assert registry.get("response", first.response.id) is not None
    with client.beta.threads.create_and_run(assistant_id="asst_1", stream=True) as stream:
        first = next(iter(stream))
        assert registry.get("thread", first.data.id) is not None
    with client.conversations.with_streaming_response.create() as response:
        parts = list(response.iter_bytes(1))
        assert registry.get("conversation", json.loads(b"".join(parts))["id"]) is not None


def test_what_is_not_kept_is_not_registered(track: Callable[..., Any], registry: lapse.Registry) -> None:
    client = track()
    registry.register("conversation", "conv_1", "chat")
    answer = client.responses.create(model="m", input="hi", store=False, conversation="conv_1")
    completion = client.chat.completions.create(model="m", messages=[])

    assert registry.get("response", answer.id) is None
    assert registry.get("chat_completion", completion.id) is None
    used = registry.get("conversation", "conv_1")
    assert used is not None
    assert used.last_active_at > used.created_at  # type: ignore[operator]


def test_what_a_request_names_is_touched_and_referred_to(track: Callable[..., Any], registry: lapse.Registry) -> None:
    client = track()
    for kind, id_ in (("conversation", "conv_1"), ("file", "file_1"), ("vector_store", "vs_1"), ("thread", "thread_1")):
        registry.register(kind, id_, "chat")
    answer = client.responses.create(
        model="m",
        input=[{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}],
        conversation="conv_1",
        tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}],
    )
    client.beta.threads.runs.create("thread_1", assistant_id="asst_1")
    client.beta.threads.messages.create(
        "thread_1", role="user", content="x", attachments=[{"file_id": "file_1", "tools": []}]
    )

    assert uses(registry, "response", answer.id) == {
        ("conversation", "conv_1"),
        ("file", "file_1"),
        ("vector_store", "vs_1"),
    }
    assert uses(registry, "thread", "thread_1") == {("assistant", "asst_1"), ("file", "file_1")}
    for kind, id_ in (("conversation", "conv_1"), ("file", "file_1"), ("vector_store", "vs_1"), ("thread", "thread_1")):
        record = registry.get(kind, id_)
        assert record is not None
        assert record.last_active_at > record.created_at, kind  # type: ignore[operator]
    assert registry.get("assistant", "asst_1") is None, "a use registers nothing"
    used = registry.get("file", "file_1")
    assert used is not None
    assert {one.kind for one in used.used_by} == {"response", "thread"}


def test_a_use_of_an_unregistered_owner_leaves_no_edge(track: Callable[..., Any], raw: redis.Redis) -> None:
    track().beta.threads.runs.create("thread_unknown", assistant_id="asst_1")

    assert raw.zrange("lapse:{openai:assistant}:edges", 0, -1) == []


def test_what_is_only_used_for_three_ttls_stays(
    track: Callable[..., Any], registry: lapse.Registry, raw: redis.Redis
) -> None:
    ttl = 1.0
    registry.register("conversation", "conv_1", "chat")
    raw.hset("lapse:{openai:conversation}:chat:rules", "ttl", str(round(ttl * 1000)))
    client, end = track(), time.monotonic() + 3 * ttl

    while time.monotonic() < end:
        client.responses.create(model="m", input="hi", conversation="conv_1")
        record, (seconds, micros) = registry.get("conversation", "conv_1"), raw.time()
        assert seconds + micros / 1e6 - record.last_active_at.timestamp() < ttl  # type: ignore[union-attr]


def test_a_touch_is_said_once_in_a_while(track: Callable[..., Any], raw: redis.Redis, registry: lapse.Registry) -> None:
    registry.register("conversation", "conv_1", "chat")
    client = track()
    client.conversations.retrieve("conv_1")
    before = raw.info("commandstats")["cmdstat_evalsha"]["calls"]
    for _ in range(20):
        client.conversations.retrieve("conv_1")

    assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] == before


def test_reading_is_no_use_where_only_writing_is(track: Callable[..., Any], registry: lapse.Registry) -> None:
    registry.register("conversation", "conv_1", "chat")
    client = track(touch_on=("write",))
    client.conversations.retrieve("conv_1")
    record = registry.get("conversation", "conv_1")
    assert record is not None
    assert record.last_active_at == record.created_at

    client.conversations.update("conv_1", metadata={})

    record = registry.get("conversation", "conv_1")
    assert record is not None
    assert record.last_active_at > record.created_at  # type: ignore[operator]


def test_an_unknown_id_that_is_used_is_learned_if_that_is_wanted(
    track: Callable[..., Any], registry: lapse.Registry, canned: Canned
) -> None:
    registry.forget("conversation", "conv_forgotten")
    http = httpx2.Client()
    track(http=http).conversations.retrieve("conv_old")
    assert registry.get("conversation", "conv_old") is None

    client = track(learn="use", http=httpx2.Client())
    client.conversations.retrieve("conv_old")
    client.conversations.retrieve("conv_forgotten")

    record = registry.get("conversation", "conv_old")
    assert record is not None
    assert record.created_at.timestamp() == 1_760_000_000  # type: ignore[union-attr]
    assert registry.get("conversation", "conv_forgotten") is None


def test_what_the_provider_makes_on_the_way_is_registered_when_it_is_seen(
    track: Callable[..., Any], registry: lapse.Registry
) -> None:
    client = track()
    client.batches.retrieve("batch_1")
    client.responses.create(model="m", input="hi")
    upload = client.uploads.complete("upload_1", part_ids=[])
    client.beta.threads.create(
        tool_resources={"file_search": {"vector_stores": [{"file_ids": ["file_1"]}]}},
    )

    assert registry.get("file", "file_out") is not None
    assert registry.get("container", "cntr_auto") is not None
    assert registry.get("file", upload.file.id) is not None
    registry.forget("file", "file_out")
    track(http=httpx2.Client()).batches.retrieve("batch_1")
    assert registry.get("file", "file_out") is None, "one that was let go of is not taken up again"


def test_a_confirmed_deletion_settles_the_id(
    track: Callable[..., Any], registry: lapse.Registry, raw: redis.Redis
) -> None:
    client = track()
    registry.register("conversation", "conv_1", "chat", uses=[("file", "file_1")])
    registry.hold("conversation", "conv_1", reason="case")
    client.conversations.delete("conv_1")

    assert registry.get("conversation", "conv_1") is None
    assert [act["event"] for act in acts(raw, "conversation")] == ["hold", "unhold", "deleted_by_app"]
    assert acts(raw, "conversation")[-1]["policy"] == "chat"
    assert raw.hlen("lapse:{openai:conversation}:holds") == 1, "only the marker"
    assert raw.hgetall("lapse:{openai:conversation}:released") == {"conv_1": '["openai|file|file_1"]'}
    assert raw.exists("lapse:{openai:conversation}:counters") == 0


@pytest.mark.parametrize("how", ["404", "500", "text"])
def test_what_confirms_no_deletion_settles_nothing(
    track: Callable[..., Any], registry: lapse.Registry, raw: redis.Redis, how: str
) -> None:
    registry.register("conversation", "conv_1", "chat")
    client = answering(track(), how)
    with contextlib.suppress(openai.APIStatusError):
        client.conversations.delete("conv_1")

    assert registry.get("conversation", "conv_1") is not None
    assert acts(raw, "conversation") == []


def test_an_item_or_a_store_s_file_that_is_deleted_settles_neither_owner_nor_file(
    track: Callable[..., Any], registry: lapse.Registry
) -> None:
    client = track()
    registry.register("conversation", "conv_1", "chat")
    registry.register("file", "file_1", "chat")
    client.conversations.items.delete("item_1", conversation_id="conv_1")
    client.vector_stores.files.delete("file_1", vector_store_id="vs_1")

    assert registry.get("conversation", "conv_1") is not None
    assert registry.get("file", "file_1") is not None


def test_a_kind_without_a_policy_is_left_out_and_that_is_said_once(
    track: Callable[..., Any], registry: lapse.Registry, caplog: pytest.LogCaptureFixture
) -> None:
    client = track(policies={"conversation": "chat"})
    made = [client.vector_stores.create() for _ in range(3)]

    assert [registry.get("vector_store", one.id) for one in made] == [None] * 3
    assert [record.message for record in caplog.records if "vector_store" in record.message] == [
        "lapse tracking: policies= names no vector_store: none is registered"
    ]
    assert lapse.tracked_counts()["unnamed"] == 3


def raising(_kind: str, _object: Any) -> str:
    raise KeyError("tenant")


@pytest.mark.parametrize(
    ("policy", "under"),
    [
        (lambda kind, one: f"{kind}-{one['metadata']['ä']}", None),
        (lambda kind, _one: f"by-{kind}", "by-conversation"),
        (lambda _kind, _one: None, ""),
        (raising, "unassigned"),
        (lambda _kind, _one: 7, "unassigned"),
        (lambda _kind, _one: "", "unassigned"),
    ],
    ids=["of its metadata", "of its kind", "none", "raising", "a number", "empty"],
)
def test_a_function_chooses_the_policy(
    track: Callable[..., Any], registry: lapse.Registry, policy: Callable[..., Any], under: str | None
) -> None:
    made = track(policies={"conversation": policy}).conversations.create()

    record = registry.get("conversation", made.id)
    assert (record.policy if record else "") == ("unassigned" if under is None else under)


def test_a_context_says_whose_it_is(track: Callable[..., Any], registry: lapse.Registry) -> None:
    client = track()
    with (
        lapse.context(subject="user:42", labels={"plan": "free"}),
        lapse.context(policy="trial", labels={"app": "web"}, expires_in="7d"),
    ):
        inside = client.conversations.create()
    outside = client.conversations.create()
    with lapse.untracked():
        left_out = client.conversations.create()

    record = registry.get("conversation", inside.id)
    assert record is not None
    assert (record.subject, record.policy, record.labels) == ("user:42", "trial", {"plan": "free", "app": "web"})
    assert record.governed_by == "expires_at"
    plain = registry.get("conversation", outside.id)
    assert plain is not None
    assert (plain.subject, plain.policy, plain.labels) == (None, "chat", {})
    assert registry.get("conversation", left_out.id) is None


def test_a_stream_keeps_the_context_it_began_in(track: Callable[..., Any], registry: lapse.Registry) -> None:
    client = track()
    with lapse.context(subject="user:42"):
        stream = client.responses.create(model="m", input="hi", stream=True)
    first = next(iter(stream))
    stream.close()

    record = registry.get("response", first.response.id)
    assert record is not None
    assert record.subject == "user:42"


@pytest.mark.parametrize(
    "given", [{"subject": ""}, {"labels": {"a": 1}}, {"expires_in": 0}, {"policy": "two words"}, {"expires_in": "soon"}]
)
def test_a_context_that_cannot_be_stored_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(lapse.InvalidResource):
        lapse.context(**given)


def test_a_create_without_what_is_required_is_registered_marked_and_said_once_a_line(
    track: Callable[..., Any], registry: lapse.Registry, caplog: pytest.LogCaptureFixture
) -> None:
    client = track(require=("subject",))
    with lapse.context(subject="user:42"), ThreadPoolExecutor(1) as pool:
        made = [pool.submit(client.conversations.create).result() for _ in range(2)]  # a thread has no context
        whole = client.conversations.create()

    for one in made:
        record = registry.get("conversation", one.id)
        assert record is not None
        assert record.labels == {"lapse.missing": "subject"}
    complete = registry.get("conversation", whole.id)
    assert complete is not None
    assert complete.labels == {}
    assert len([one for one in caplog.records if "without subject" in one.message]) == 1
    assert lapse.tracked_counts()["missing"] == 2


def test_a_registry_that_is_away_costs_a_log_line_and_no_exception(
    track: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    for on_error in ("log", "raise"):
        away = lapse.Registry("redis://127.0.0.1:1/0", provider="openai", on_error=on_error)
        client = track(registry=away, http=httpx2.Client())
        with caplog.at_level(logging.WARNING):
            made = client.conversations.create()
            assert client.conversations.delete(made.id).deleted
        assert made.id in caplog.text
        caplog.clear()


@pytest.mark.parametrize("how", ["reset", "cut"])
def test_a_create_without_an_answer_is_said_and_counted(
    track: Callable[..., Any], caplog: pytest.LogCaptureFixture, wait_until: Callable[..., None], how: str
) -> None:
    client = answering(track(), how)
    try:
        if how == "cut":  # before its first event is whole
            with client.chat.completions.create(model="m", messages=[], store=True, stream=True):
                pass
        else:
            client.conversations.create()
    except openai.APIConnectionError as error:
        del error

    wait_until(lambda: lapse.tracked_counts().get("unanswered") == 1, what="the count")
    assert "not registered" in caplog.text


def test_an_answer_that_was_cut_after_its_id_is_registered(
    track: Callable[..., Any], registry: lapse.Registry, raw: redis.Redis
) -> None:
    with pytest.raises((httpx2.HTTPError, openai.APIError)):
        answering(track(), "cut").conversations.create()

    assert raw.zcard("lapse:{openai:conversation}:chat:fresh") == 1


def test_an_answer_in_an_encoding_of_the_http_client_s_is_read_as_it_reads_it(
    track: Callable[..., Any], registry: lapse.Registry
) -> None:
    made = answering(track(), "br").conversations.create()

    assert registry.get("conversation", made.id) is not None


class Reading(httpx2.HTTPTransport):
    """Reads every answer before anybody else does, as azure-ai-projects' own transport."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        response.read()
        return response


@pytest.mark.parametrize("how", ["", "gzip"])
def test_an_answer_that_was_read_before_is_read_all_the_same(
    track: Callable[..., Any], registry: lapse.Registry, how: str
) -> None:
    made = answering(track(http=httpx2.Client(transport=Reading())), how).conversations.create()

    assert registry.get("conversation", made.id) is not None


def test_requests_of_other_accounts_on_the_same_http_client_are_passed_over(
    track: Callable[..., Any], registry: lapse.Registry, canned: Canned, caplog: pytest.LogCaptureFixture
) -> None:
    http = httpx2.Client()
    mine = track(http=http, key="a")
    others = openai.OpenAI(api_key="b", base_url=canned.url, http_client=http)
    made = [
        others.conversations.create(),
        mine.with_options(api_key="c").conversations.create(),
        openai.OpenAI(api_key="a", base_url=canned.url, http_client=http, project="p").conversations.create(),
    ]

    assert [registry.get("conversation", one.id) for one in made] == [None] * 3
    assert len([one for one in caplog.records if "another account" in one.message]) == 1
    lapse.track(others, policies={"conversation": "chat"}, registry=registry, provider="second")
    second = others.conversations.create()
    assert registry.get("conversation", second.id, provider="second") is not None
    assert registry.get("conversation", mine.with_options(timeout=5).conversations.create().id) is not None


def test_a_second_call_changes_nothing_and_another_registry_is_refused(
    track: Callable[..., Any], registry: lapse.Registry, redis_url: str, raw: redis.Redis
) -> None:
    client = track()
    hooks = {name: list(found) for name, found in client._client.event_hooks.items()}
    assert lapse.track(client, policies={"conversation": "chat"}, registry=registry) is client
    assert client._client.event_hooks == hooks
    with pytest.raises(lapse.ConfigError, match="tracked into another registry"):
        lapse.track(
            client,
            policies={"conversation": "chat"},
            registry=lapse.Registry(redis_url, namespace="other", provider="openai"),
        )


def test_hooks_of_the_application_see_what_they_saw(track: Callable[..., Any], registry: lapse.Registry) -> None:
    seen: list[str] = []
    http = httpx2.Client(
        event_hooks={
            "request": [lambda request: seen.append(request.method)],
            "response": [lambda response: seen.append(response.read().decode()[:1])],
        }
    )
    made = track(http=http).conversations.create()

    assert seen == ["POST", "{"]
    assert registry.get("conversation", made.id) is not None


def test_a_policy_that_no_worker_knows_is_said_with_the_name_that_one_knows(
    track: Callable[..., Any], raw: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    raw.hset("lapse:published", "policies", json.dumps(["openai/file/chats"]))
    track(policies={"file": "chat"}).files.create(file=b"x", purpose="batch")

    assert "did you mean openai/file/chats?" in caplog.text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"policies": {}}, "policies= names nothing"),
        ({"policies": {"chats": "x"}}, "kind 'chats' is not known"),
        ({"policies": {"file": "two words"}}, "policy of file"),
        ({"require": ("user",)}, "lapse.context says"),
        ({"learn": "all"}, 'use "create" or "use"'),
        ({"touch_on": "read"}, "touch_on="),
        ({"provider": "two words"}, "provider"),
    ],
)
def test_wrong_arguments_are_refused(track: Callable[..., Any], given: dict[str, Any], says: str) -> None:
    with pytest.raises(lapse.LapseError, match=says):
        track(**given)


def test_what_is_no_client_that_this_knows_is_refused(
    registry: lapse.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(lapse.ConfigError, match="is none of them"):
        lapse.track(object(), policies={"file": "x"}, registry=registry)
    client = openai.OpenAI(api_key="k")
    client._client = object()  # type: ignore[assignment]
    client.close = lambda: None  # type: ignore[method-assign]
    with pytest.raises(lapse.ConfigError, match=r"tested with openai 3\.57"):
        lapse.track(client, policies={"file": "x"}, registry=registry)
    bare = openai.OpenAI(api_key="k")
    bare.__dict__["_client"]._event_hooks = {}
    with pytest.raises(lapse.ConfigError, match="no event_hooks"):
        lapse.track(bare, policies={"file": "x"}, registry=registry)


def test_a_provider_has_a_name(registry: lapse.Registry, redis_url: str) -> None:
    with pytest.raises(lapse.ConfigError, match="which provider"):
        lapse.track(openai.OpenAI(api_key="k"), policies={"file": "x"}, registry=lapse.Registry(redis_url))

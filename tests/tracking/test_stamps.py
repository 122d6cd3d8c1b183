"""A stamp in what is created: written ahead, the application's own words left alone, and copies foreign."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
import redis

import lapse
from lapse.ledger.nonces import Nonces
from lapse.registry.aio import Carrier
from lapse.registry.model import Resource
from support.canned import Canned


@pytest.fixture
def client(canned: Canned, registry: lapse.Registry, raw: redis.Redis) -> Iterator[Any]:
    raw.hset("lapse:epoch", "id", "e1")
    made = openai.OpenAI(api_key="k", base_url=canned.url, max_retries=1)
    yield lapse.track(
        made,
        policies={"conversation": "chat", "file": "chat", "response": lambda _kind, _one: "x"},
        registry=registry,
        stamp=True,
    )
    made.close()


def sent(canned: Canned, number: int = -1) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(canned.requests[number][2])
    return body


def test_what_is_sent_carries_a_stamp_that_belongs_to_its_object(client: Any, canned: Canned, raw: redis.Redis) -> None:
    made = client.conversations.create(metadata={"a": "b"})

    metadata = sent(canned)["metadata"]
    namespace, epoch, policy, nonce = metadata["lapse"].split("/")
    assert (metadata["a"], namespace, epoch, policy) == ("b", "lapse", "e1", "chat")
    assert raw.hgetall("lapse:stamped") == {nonce: f"openai|conversation|{made.id}"}


def test_each_attempt_has_a_stamp_of_its_own_that_the_registry_knows_before_it(
    client: Any, canned: Canned, raw: redis.Redis
) -> None:
    client.with_options(default_headers={"x-answer": "retry"}).conversations.create()

    nonces = [sent(canned, number)["metadata"]["lapse"].rpartition("/")[2] for number in (-2, -1)]
    assert len(set(nonces)) == 2
    known: dict[str, str] = raw.hgetall("lapse:stamped")  # type: ignore[assignment]
    assert known[nonces[0]] == "openai|conversation|"
    assert known[nonces[1]].startswith("openai|conversation|conv_")


def test_what_has_no_metadata_or_no_name_yet_is_sent_as_it_is(client: Any, canned: Canned) -> None:
    client.files.create(file=b"x", purpose="batch")
    assert b"lapse" not in canned.requests[-1][2]
    client.responses.create(model="m", input="hi")
    assert "metadata" not in sent(canned), "a function names the policy when it sees the object"
    with lapse.context(policy="trial"):
        client.responses.create(model="m", input="hi")
    assert sent(canned)["metadata"]["lapse"].split("/")[2] == "trial"


def test_a_signed_body_is_sent_as_it_is(client: Any, canned: Canned) -> None:
    signed = client.with_options(default_headers={"Authorization": "AWS4-HMAC-SHA256 x"})
    signed.conversations.create()

    assert b"lapse" not in canned.requests[-1][2]


def test_without_a_registry_or_an_epoch_the_request_goes_as_it_is(
    canned: Canned, registry: lapse.Registry, caplog: pytest.LogCaptureFixture
) -> None:
    for used in (registry, lapse.Registry("redis://127.0.0.1:1/0", provider="openai")):
        client = openai.OpenAI(api_key="k", base_url=canned.url, max_retries=0)
        lapse.track(client, policies={"conversation": "chat"}, registry=used, stamp=True)
        assert client.conversations.create().id
        assert b"lapse" not in canned.requests[-1][2]
        client.close()
    assert "no epoch yet" in caplog.text


async def test_a_copy_is_foreign_even_if_it_is_listed_first(client: Any, canned: Canned, redis_url: str) -> None:
    made = client.conversations.create()
    nonce = sent(canned)["metadata"]["lapse"].rpartition("/")[2]
    carrier = Carrier(redis_url, 5)
    nonces = Nonces(carrier, "lapse")

    assert not await nonces.belongs(nonce, Resource("openai", "conversation", "conv_copy"))
    assert await nonces.belongs(nonce, Resource("openai", "conversation", made.id))
    await carrier.aclose()


async def test_a_create_whose_answer_never_came_is_found_by_its_stamp(
    client: Any, canned: Canned, redis_url: str, wait_until: Callable[..., None]
) -> None:
    with pytest.raises(openai.APIConnectionError):
        client.with_options(default_headers={"x-answer": "reset"}, max_retries=0).conversations.create()
    nonce = sent(canned)["metadata"]["lapse"].rpartition("/")[2]
    carrier = Carrier(redis_url, 5)
    nonces = Nonces(carrier, "lapse")

    assert await nonces.owners([nonce]) == {}
    assert await nonces.belongs(nonce, Resource("openai", "conversation", "conv_lost"))
    assert not await nonces.belongs(nonce, Resource("openai", "conversation", "conv_copy"))
    await carrier.aclose()

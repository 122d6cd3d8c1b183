"""Whose a request is, what a context says, and how often something is touched."""

from typing import NamedTuple

import pytest

from lapse.tracking import touches
from lapse.tracking.account import TrackedAccount, fingerprint, lowered
from lapse.tracking.context import context, current, untracked
from lapse.tracking.touches import Touches, every


class Url(NamedTuple):
    raw_scheme: bytes = b"https"
    raw_host: bytes = b"api.openai.com"
    port: int | None = None


class Request(NamedTuple):
    url: Url
    headers: dict[str, str]


ACCOUNT = TrackedAccount((b"https", b"api.openai.com", None), "/v1", ("org", ""), fingerprint("sk-1"))
MINE = {"authorization": "Bearer sk-1", "openai-organization": "org"}


@pytest.mark.parametrize(
    ("target", "below"),
    [
        ("/v1/threads", "/threads"),
        ("/v1/threads/thread_1?limit=2", "/threads/thread_1"),
        ("/v2/threads", None),
        ("/v1threads", None),
        ("/v1", None),
        ("/v1/deployments/gpt/chat/completions?api-version=1", "/chat/completions"),
    ],
)
def test_what_follows_the_base_url(target: str, below: str | None) -> None:
    assert ACCOUNT.below(target) == below


@pytest.mark.parametrize(
    ("url", "headers", "mine"),
    [
        (Url(), MINE, True),
        (Url(raw_host=b"other"), MINE, False),
        (Url(port=8443), MINE, False),
        (Url(raw_scheme=b"http"), MINE, False),
        (Url(), {**MINE, "authorization": "Bearer sk-2"}, False),
        (Url(), {"openai-organization": "org"}, False),
        (Url(), {**MINE, "openai-organization": "other"}, False),
        (Url(), {**MINE, "openai-project": "p"}, False),
    ],
)
def test_whose_a_request_is(url: Url, headers: dict[str, str], *, mine: bool) -> None:
    assert ACCOUNT.owns(Request(url, headers)) is mine


def test_a_key_that_changes_is_no_name() -> None:
    account = TrackedAccount((b"https", b"api.openai.com", None), "/v1")

    assert account.owns(Request(Url(), {"authorization": "Bearer a-token"}))


class Raw(NamedTuple):
    raw: list[tuple[bytes, bytes]]


def test_headers_of_an_http_client_are_looked_through_once() -> None:
    sent = Raw([(b"Authorization", b"Bearer sk-1"), (b"OpenAI-Organization", b"org"), (b"X-Other", b"\xff")])

    assert lowered(sent) == MINE
    assert ACCOUNT.owns(Request(Url(), sent))  # type: ignore[arg-type]


def test_contexts_add_to_each_other_and_end() -> None:
    with context(subject="user:1", labels={"a": "1"}), context(labels={"b": "2"}, policy="trial"):
        inside = current()
        with untracked():
            assert not current().tracked
    assert (inside.subject, inside.policy, inside.labels, inside.tracked) == (
        "user:1",
        "trial",
        {"a": "1", "b": "2"},
        True,
    )
    assert (current().subject, current().labels) == (None, {})


async def test_a_context_may_be_awaited() -> None:
    async with context(expires_in="7d"):
        assert current().expires_in == "7d"
    assert current().expires_in is None


@pytest.mark.parametrize(("ttl", "seconds"), [(None, 1), (100, 10), (10_000, 60), (0.5, 0.05)])
def test_an_id_is_touched_ten_times_in_its_time_to_live(ttl: float | None, seconds: float) -> None:
    assert every(ttl) == seconds


def test_what_was_touched_is_due_again_after_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    done = Touches()
    assert done.due("file", "a", now=0, every=10)
    done.done("file", "a")
    assert not done.due("file", "a", now=9, every=10)
    assert done.due("thread", "a", now=9, every=10)
    assert done.due("file", "a", now=10, every=10)
    done.done("file", "a")
    monkeypatch.setattr(touches, "MOST", 1)
    assert done.due("file", "a", now=11, every=10)

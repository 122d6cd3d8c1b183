"""Deleting one resource: what keeps it, and what the stand-in makes of it."""

import json

import pytest

from lapse.policy import Keep
from lapse.providers.outcomes import Outcome
from lapse.providers.provider import Provider
from lapse.sandbox import Sandbox
from providers.actions import Budget, deletions, remove
from providers.conftest import MakeProvider
from providers.rows import ASSISTANT, THREAD, error, gone
from providers.scripted import CLOSE, Answer, Server, answer

PINNED = Keep(name=None, metadata={"pin": "true"})
NAMED = Keep(name="prod-*", metadata={})


class TestKeep:
    """A keep rule is looked at before anything is deleted."""

    @pytest.mark.parametrize(
        ("keep", "body"),
        [
            (PINNED, {"metadata": {"pin": "true"}}),
            (NAMED, {"name": "prod-1", "metadata": {}}),
            (Keep("*", {"pin": "*"}), {"name": "x", "metadata": {"pin": "false"}}),
        ],
    )
    async def test_what_matches_is_kept(
        self, keep: Keep, body: dict[str, object], server: Server, provider: Provider
    ) -> None:
        server.say(answer(200, json.dumps({"id": ASSISTANT, "object": "assistant", **body})))
        budget = Budget()

        verdict = await remove(provider, "assistant", ASSISTANT, NAMED, keep, budget=budget)

        assert (verdict.outcome, verdict.unknown, verdict.status) == (Outcome.KEPT, False, 200)
        assert server.targets == [f"GET /v1/assistants/{ASSISTANT}"]
        assert budget.spent == 1

    @pytest.mark.parametrize("body", [{"name": "test-1", "metadata": {"pin": "no"}}, {"name": None, "metadata": None}])
    async def test_what_does_not_match_is_deleted(
        self, body: dict[str, object], server: Server, provider: Provider
    ) -> None:
        server.say(
            answer(200, json.dumps({"id": ASSISTANT, "object": "assistant", **body})),
            answer(200, gone("assistant", ASSISTANT)),
        )

        verdict = await remove(provider, "assistant", ASSISTANT, PINNED, NAMED)

        assert verdict.outcome is Outcome.DELETED
        assert server.targets == [f"{verb} /v1/assistants/{ASSISTANT}" for verb in ("GET", "DELETE")]

    @pytest.mark.parametrize(
        ("read", "outcome"),
        [
            (answer(200, "{}"), Outcome.UNCONFIRMED),
            (answer(200, "<html>"), Outcome.UNCONFIRMED),
            (answer(200, json.dumps({"id": "asst_other", "name": "x", "metadata": {}})), Outcome.UNCONFIRMED),
            (answer(200, json.dumps({"id": ASSISTANT, "metadata": {}})), Outcome.UNCONFIRMED),
            (answer(200, json.dumps({"id": ASSISTANT, "name": "x"})), Outcome.UNCONFIRMED),
            (answer(200, json.dumps({"id": ASSISTANT, "name": 1, "metadata": {}})), Outcome.UNCONFIRMED),
            (answer(200, json.dumps({"id": ASSISTANT, "name": "x", "metadata": []})), Outcome.UNCONFIRMED),
            (answer(302, "", {"Location": "/login"}), Outcome.UNCONFIRMED),
            (answer(404, error(f"No assistant found with id '{ASSISTANT}'.")), Outcome.ALREADY_GONE),
            (answer(404, ""), Outcome.UNRECOGNISED),
            (answer(401, ""), Outcome.AUTH),
            (answer(429, ""), Outcome.RATE_LIMITED),
            (answer(500, ""), Outcome.ERROR),
            (CLOSE, Outcome.ERROR),
        ],
    )
    async def test_nothing_is_deleted_unseen(
        self, read: Answer, outcome: Outcome, server: Server, provider: Provider
    ) -> None:
        server.say(read)

        verdict = await remove(provider, "assistant", ASSISTANT, PINNED, NAMED)

        assert (outcome, False) == (verdict.outcome, verdict.unknown)
        assert deletions(server) == []

    async def test_only_what_a_rule_asks_for_has_to_be_there(self, server: Server, provider: Provider) -> None:
        """A thread has no name."""
        server.say(
            answer(200, json.dumps({"id": THREAD, "object": "thread", "metadata": {}})),
            answer(200, gone("thread", THREAD)),
        )

        assert (await remove(provider, "thread", THREAD, PINNED)).outcome is Outcome.DELETED

    async def test_a_large_assistant_can_be_kept(self, server: Server, provider: Provider) -> None:
        body = {"id": ASSISTANT, "instructions": "x" * 256_000, "name": "prod-1", "metadata": {}}
        server.say(answer(200, json.dumps(body)))

        assert (await remove(provider, "assistant", ASSISTANT, NAMED)).outcome is Outcome.KEPT

    async def test_no_budget_to_look(self, server: Server, provider: Provider) -> None:
        verdict = await remove(provider, "assistant", ASSISTANT, NAMED, budget=Budget(0))

        assert (verdict.outcome, verdict.retry_after) == (Outcome.LIMITED, 7.0)
        assert server.asked == []


class TestStandIn:
    """Against the provider stand-in."""

    @pytest.mark.parametrize("kind", ["thread", "assistant", "conversation"])
    async def test_once_and_again(self, kind: str, sandbox: Sandbox, make: MakeProvider) -> None:
        given = {"items": 130} if kind == "conversation" else {}
        (object_id,) = sandbox.seed(kind, **given)
        (other,) = sandbox.seed(kind)
        provider = make(sandbox.url)

        first = await remove(provider, kind, object_id)
        second = await remove(provider, kind, object_id)

        assert (Outcome.DELETED, given.get("items", 0)) == (first.outcome, first.items)
        assert (second.outcome, second.items) == (Outcome.ALREADY_GONE, 0)
        assert sandbox.alive(kind) == {other}
        assert sandbox.alive("conversation_item") == set()

    @pytest.mark.parametrize(
        ("rule", "outcome", "unknown"),
        [
            ({"effect": "sunset"}, Outcome.UNRECOGNISED, False),
            ({"effect": "sunset", "body": "json"}, Outcome.UNRECOGNISED, False),
            ({"effect": "sunset", "body": "html"}, Outcome.UNRECOGNISED, False),
            ({"effect": "wrong_project"}, Outcome.ALREADY_GONE, False),
            ({"effect": "deleted_false"}, Outcome.UNCONFIRMED, True),
            ({"effect": "empty_object"}, Outcome.UNCONFIRMED, True),
            ({"effect": "other_id"}, Outcome.UNCONFIRMED, True),
            ({"effect": "html"}, Outcome.UNCONFIRMED, True),
            ({"effect": "no_content"}, Outcome.UNCONFIRMED, True),
            ({"effect": "redirect"}, Outcome.UNCONFIRMED, True),
            ({"effect": "truncated"}, Outcome.UNCONFIRMED, True),
            ({"effect": "cut"}, Outcome.ERROR, True),
            ({"effect": "reset"}, Outcome.ERROR, True),
            ({"effect": "close"}, Outcome.ERROR, True),
            ({"effect": "hang"}, Outcome.ERROR, True),
            (
                {"effect": "error", "status": 429, "headers": {"Retry-After": "4"}},
                Outcome.RATE_LIMITED,
                False,
            ),
            ({"effect": "error", "status": 500}, Outcome.ERROR, True),
            ({"effect": "error", "status": 401}, Outcome.AUTH, False),
        ],
    )
    async def test_faults(
        self,
        rule: dict[str, object],
        outcome: Outcome,
        unknown: bool,
        sandbox: Sandbox,
        make: MakeProvider,
    ) -> None:
        (object_id,) = sandbox.seed("thread")
        sandbox.faults([rule])

        verdict = await remove(make(sandbox.url, timeout=0.5), "thread", object_id)

        assert (outcome, unknown) == (verdict.outcome, verdict.unknown)

    async def test_executed_but_not_answered(self, sandbox: Sandbox, make: MakeProvider) -> None:
        (object_id,) = sandbox.seed("thread")
        sandbox.faults([{"effect": "hang", "execute": True, "first": 1}])
        provider = make(sandbox.url, timeout=0.5)

        first = await remove(provider, "thread", object_id)
        second = await remove(provider, "thread", object_id)

        assert (first.outcome, first.unknown) == (Outcome.ERROR, True)
        assert second.outcome is Outcome.ALREADY_GONE

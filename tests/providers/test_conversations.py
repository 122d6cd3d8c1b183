"""Deleting a conversation: its items go first, because the provider would keep them."""

import asyncio
import json
from collections.abc import Callable
from itertools import count

import pytest

from lapse.errors import RegistryUnavailable
from lapse.policy import Keep
from lapse.providers.outcomes import Outcome
from lapse.providers.pagination import PAGE_BYTES
from lapse.providers.provider import Provider
from lapse.sweep.deletion.delete import FAILURES, ITEMS_AT_ONCE
from providers.actions import Budget, deletions, remove
from providers.conftest import MakeProvider
from providers.rows import CONVERSATION, error, gone
from providers.scripted import CLOSE, Answer, Asked, Server, answer

PINNED = Keep(name=None, metadata={"pin": "true"})
NO_CONVERSATION = error(f"Conversation with id '{CONVERSATION}' not found.")


class Conversation:
    """A conversation as OpenAI serves it; ``refuse`` may answer any request in its place."""

    def __init__(self, count: int, *, refuse: Callable[[Asked], Answer | None] = lambda _: None) -> None:
        self.items = [f"msg_{number:04d}" for number in range(count)]
        self.alive = True
        self.refuse = refuse

    def __call__(self, asked: Asked) -> Answer:
        if refused := self.refuse(asked):
            return refused
        path = asked.target.split("?")[0].removeprefix(f"/v1/conversations/{CONVERSATION}")
        if not self.alive:
            return answer(404, NO_CONVERSATION)
        if asked.method == "GET":
            return answer(200, self.page())
        if not path:
            self.alive = False
            return answer(200, gone("conversation", CONVERSATION))
        item = path.removeprefix("/items/")
        if item not in self.items:
            return answer(404, error(f"Item with id '{item}' not found."))
        self.items.remove(item)
        return answer(200, json.dumps({"id": CONVERSATION, "object": "conversation", "metadata": {}}))

    def page(self) -> str:
        shown = [{"id": each, "type": "message"} for each in self.items[:100]]
        return json.dumps({"object": "list", "data": shown, "has_more": len(self.items) > 100})


class TestConversation:
    """Its items go first: the provider would keep them."""

    @pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
    async def test_items_first(self, count: int, server: Server, provider: Provider) -> None:
        conversation = Conversation(count)
        server.respond = conversation
        budget = Budget()

        verdict = await remove(provider, "conversation", CONVERSATION, budget=budget)

        assert (Outcome.DELETED, count) == (verdict.outcome, verdict.items)
        assert (conversation.items, conversation.alive) == ([], False)
        assert server.targets[-1] == f"DELETE /v1/conversations/{CONVERSATION}"
        assert server.targets[-2] == f"GET /v1/conversations/{CONVERSATION}/items?limit=100&order=asc"
        assert budget.spent == len(server.asked) - 1
        counted = provider.drain_counters()["conversation"]
        assert counted["requests||items|200"] == len(server.asked) - 1
        assert counted["requests||delete|200"] == 1

    async def test_items_can_be_left(self, server: Server, provider: Provider) -> None:
        server.respond = Conversation(3)

        verdict = await remove(provider, "conversation", CONVERSATION, items=False)

        assert (verdict.outcome, verdict.items) == (Outcome.DELETED, 0)
        assert server.targets == [f"DELETE /v1/conversations/{CONVERSATION}"]

    async def test_kept_with_its_items(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, json.dumps({"id": CONVERSATION, "metadata": {"pin": "true"}})))

        verdict = await remove(provider, "conversation", CONVERSATION, PINNED)

        assert verdict.outcome is Outcome.KEPT
        assert deletions(server) == []

    async def test_an_item_that_is_gone_is_fine_and_not_counted(self, server: Server, provider: Provider) -> None:
        def refuse(asked: Asked) -> Answer | None:
            if asked.target.endswith("msg_0001"):
                conversation.items.remove("msg_0001")
                return answer(404, error("Item with id 'msg_0001' not found."))
            return None

        conversation = Conversation(3, refuse=refuse)
        server.respond = conversation

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert (verdict.outcome, verdict.items) == (Outcome.DELETED, 2)

    @pytest.mark.parametrize(("every", "left", "more"), [(100, 3, "; and 2 more"), (1000, 1, "")])
    async def test_an_items_error_stops_no_other(
        self, every: int, left: int, more: str, server: Server, provider: Provider
    ) -> None:
        def refuse(asked: Asked) -> Answer | None:
            number = asked.target.rsplit("_", 1)[-1]
            return answer(500, "") if number.isdecimal() and int(number) % every == 1 else None

        conversation = Conversation(250, refuse=refuse)
        server.respond = conversation

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert (Outcome.ERROR, 250 - left, left) == (verdict.outcome, verdict.items, len(conversation.items))
        assert verdict.detail.endswith(f"{more} conversation_items" if more else verdict.detail)

    async def test_where_every_item_fails_few_are_asked_for(self, server: Server, provider: Provider) -> None:
        conversation = Conversation(250, refuse=lambda asked: answer(503, "") if asked.method == "DELETE" else None)
        server.respond = conversation

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert (Outcome.ERROR, 0) == (verdict.outcome, verdict.items)
        assert FAILURES <= len(deletions(server)) < FAILURES + 2 * ITEMS_AT_ONCE

    @pytest.mark.parametrize(
        ("refusal", "outcome"),
        [
            (answer(500, ""), Outcome.ERROR),
            (answer(429, "", {"Retry-After": "9"}), Outcome.RATE_LIMITED),
            (answer(401, ""), Outcome.AUTH),
            (answer(409, ""), Outcome.CONFLICT),
            (answer(404, ""), Outcome.UNRECOGNISED),
            (answer(404, error("Item with id 'msg_other' not found.")), Outcome.UNRECOGNISED),
            (answer(200, "{}"), Outcome.UNCONFIRMED),
            (answer(200, json.dumps({"id": "conv_other", "object": "conversation"})), Outcome.UNCONFIRMED),
            (CLOSE, Outcome.ERROR),
        ],
    )
    async def test_an_item_that_stays_keeps_its_conversation(
        self, refusal: Answer, outcome: Outcome, server: Server, provider: Provider
    ) -> None:
        conversation = Conversation(30, refuse=lambda asked: refusal if asked.target.endswith("msg_0010") else None)
        server.respond = conversation

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert (outcome, False) == (verdict.outcome, verdict.unknown)
        assert conversation.alive
        assert verdict.items == 30 - len(conversation.items)
        assert f"/v1/conversations/{CONVERSATION}" not in deletions(server)

    async def test_the_first_refusal_ends_it(self, server: Server, provider: Provider) -> None:
        """What would be refused again is not asked for: no more than was in flight already."""
        server.respond = Conversation(100, refuse=lambda asked: answer(401) if asked.method == "DELETE" else None)

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert (verdict.outcome, verdict.items) == (Outcome.AUTH, 0)
        assert 1 <= len(deletions(server)) <= ITEMS_AT_ONCE

    @pytest.mark.parametrize(
        ("listing", "outcome"),
        [
            (answer(200, "{}"), Outcome.UNCONFIRMED),
            (answer(200, '{"data": [], "has_more": true}'), Outcome.UNCONFIRMED),
            (answer(200, '{"data": [{"type": "message"}], "has_more": false}'), Outcome.UNCONFIRMED),
            (answer(200, "<html>"), Outcome.UNCONFIRMED),
            (
                answer(404, error(f"Invalid URL (GET /v1/conversations/{CONVERSATION}/items)")),
                Outcome.UNRECOGNISED,
            ),
            (answer(403, ""), Outcome.FORBIDDEN),
            (answer(503, ""), Outcome.ERROR),
            (CLOSE, Outcome.ERROR),
        ],
    )
    async def test_items_that_cannot_be_listed_keep_their_conversation(
        self, listing: Answer, outcome: Outcome, server: Server, provider: Provider
    ) -> None:
        server.say(listing)

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert (outcome, False) == (verdict.outcome, verdict.unknown)
        assert deletions(server) == []

    async def test_a_server_that_says_no_has_more(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, '{"data": []}'), answer(200, gone("conversation", CONVERSATION)))

        assert (await remove(provider, "conversation", CONVERSATION)).outcome is Outcome.DELETED

    async def test_gone_already(self, server: Server, provider: Provider) -> None:
        """That its items' list says so is not enough: its own DELETE decides."""
        server.say(answer(404, NO_CONVERSATION))

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert (verdict.outcome, verdict.status) == (Outcome.ALREADY_GONE, 404)
        assert len(deletions(server)) == 1

    async def test_gone_while_its_items_are_deleted(self, server: Server, provider: Provider) -> None:
        def refuse(asked: Asked) -> Answer | None:
            if asked.target.endswith("msg_0010"):
                conversation.alive = False
            return None

        conversation = Conversation(20, refuse=refuse)
        server.respond = conversation

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert verdict.outcome is Outcome.ALREADY_GONE
        assert verdict.items == 20 - len(conversation.items)

    async def test_items_that_stay_on_the_list_are_not_deleted_for_ever(
        self, server: Server, provider: Provider
    ) -> None:
        """The conversation is left for another attempt, when the list has caught up."""
        conversation = Conversation(3)
        frozen = conversation.page()
        conversation.refuse = lambda asked: answer(200, frozen) if asked.method == "GET" else None
        server.respond = conversation

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert (verdict.outcome, verdict.items) == (Outcome.UNCONFIRMED, 3)
        assert "still lists 3 deleted conversation_items" in verdict.detail
        assert len(deletions(server)) == 3

    async def test_items_too_large_for_one_page(self, server: Server, provider: Provider) -> None:
        conversation = Conversation(2)
        padded = json.dumps(json.loads(conversation.page()) | {"padding": "x" * PAGE_BYTES})
        conversation.refuse = lambda asked: answer(200, padded) if "limit=100&" in asked.target else None
        server.respond = conversation

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert (verdict.outcome, verdict.items) == (Outcome.DELETED, 2)

    @pytest.mark.parametrize("most", [0, 1, 5, 12])
    async def test_no_budget_left(self, most: int, server: Server, provider: Provider) -> None:
        """What was deleted is counted; the rest, and the conversation, wait for the next attempt."""
        conversation = Conversation(20)
        server.respond = conversation

        verdict = await remove(provider, "conversation", CONVERSATION, budget=Budget(most))

        assert (verdict.outcome, verdict.retry_after) == (Outcome.LIMITED, 7.0)
        assert verdict.items == max(0, most - 1) == 20 - len(conversation.items)
        assert conversation.alive
        assert len(server.asked) == most

    async def test_items_at_once_are_bounded(self, server: Server, make: MakeProvider) -> None:
        conversation = Conversation(40)

        def slow(asked: Asked) -> Answer:
            given = conversation(asked)
            return Answer(given.data, delay=0.02)

        server.respond = slow

        await remove(make(server.url, concurrency=64), "conversation", CONVERSATION)

        assert server.most_in_flight == ITEMS_AT_ONCE

    async def test_an_error_of_the_budget_is_passed_on_as_it_is(self, server: Server, provider: Provider) -> None:
        server.respond = Conversation(20)

        class Broken(Budget):
            async def __call__(self, requests: int = 1) -> None:
                await super().__call__(requests)
                if self.spent > 3:
                    raise RegistryUnavailable("redis is away")

        with pytest.raises(RegistryUnavailable):
            await remove(provider, "conversation", CONVERSATION, budget=Broken())

    async def test_cancelled(self, server: Server, provider: Provider) -> None:
        conversation = Conversation(20)
        server.respond = lambda asked: Answer(conversation(asked).data, delay=0.05)
        task = asyncio.create_task(remove(provider, "conversation", CONVERSATION))
        async with asyncio.timeout(5):
            await server.arrival.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task

        assert conversation.alive

    async def test_a_conversation_without_end(
        self, server: Server, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server that makes up new items for every page must not hold a worker for ever."""
        monkeypatch.setattr("lapse.sweep.deletion.delete.MAX_PAGES", 3)
        numbers = count()

        def respond(asked: Asked) -> Answer:
            if asked.method == "GET":
                return answer(200, json.dumps({"data": [{"id": f"msg_{next(numbers)}"}], "has_more": True}))
            return answer(200, json.dumps({"id": CONVERSATION, "object": "conversation"}))

        server.respond = respond

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert (verdict.outcome, verdict.items) == (Outcome.UNCONFIRMED, 3)
        assert "more than 3 pages of conversation_items" in verdict.detail

"""Lists are read to their end, or count for nothing."""

import json
from collections.abc import Callable, Sequence
from urllib.parse import parse_qs, urlsplit

import pytest

from lapse.providers.kinds import CONVERSATION_ITEM, KINDS
from lapse.providers.outcomes import Outcome
from lapse.providers.pagination import PAGE_BYTES, Bounds, Listed, read_page
from lapse.providers.provider import Provider
from lapse.providers.response import Reply
from lapse.sandbox import Sandbox
from providers.actions import Budget
from providers.conftest import MakeProvider
from providers.rows import PAGE
from providers.scripted import CLOSE, Answer, Asked, Server, answer

ASSISTANT = KINDS["openai"]["assistant"]


def page(ids: Sequence[str], **more: object) -> str:
    return json.dumps({"object": "list", "data": [{"id": each, "created_at": 1} for each in ids], **more})


def paged(ids: Sequence[str], size: int) -> Callable[[Asked], Answer]:
    """Answer like a provider that gives at most ``size`` objects a page."""

    def respond(asked: Asked) -> Answer:
        query = parse_qs(urlsplit(asked.target).query)
        start = ids.index(query["after"][0]) + 1 if "after" in query else 0
        return answer(200, page(ids[start : start + size], has_more=start + size < len(ids)))

    return respond


class TestComplete:
    """What a whole list is."""

    async def test_every_page_is_read(self, server: Server, provider: Provider) -> None:
        ids = [f"asst_{number}" for number in range(250)]
        server.respond = paged(ids, 100)
        budget = Budget()

        listing = await provider.listing(ASSISTANT, budget)

        assert (listing.complete, listing.reason, listing.verdict) == (True, None, None)
        assert [item.id for item in listing.items] == ids
        assert server.targets == [
            "GET /v1/assistants?limit=100&order=asc",
            "GET /v1/assistants?limit=100&order=asc&after=asst_99",
            "GET /v1/assistants?limit=100&order=asc&after=asst_199",
        ]
        assert budget.spent == 3
        assert provider.drain_counters()["assistant"]["requests||list|200"] == 3

    @pytest.mark.parametrize("n", [100, 200, 250])
    async def test_a_full_page_is_not_believed_to_be_the_last(self, n: int, server: Server, provider: Provider) -> None:
        """Proxies cut a list at a page and say that this was all of it."""
        ids = [f"asst_{number}" for number in range(n)]
        whole = paged(ids, 100)
        server.respond = lambda asked: Answer(whole(asked).data.replace(b'"has_more": true', b'"has_more":false'))

        listing = await provider.listing(ASSISTANT, Budget())

        assert (listing.complete, ids) == (True, [item.id for item in listing.items])

    async def test_a_server_that_knows_no_cursor_ends_with_what_it_repeats(
        self, server: Server, provider: Provider
    ) -> None:
        ids = [f"asst_{number}" for number in range(120)]
        server.respond = lambda _asked: answer(200, page(ids, has_more=False))

        listing = await provider.listing(ASSISTANT, Budget())

        assert (listing.complete, ids, 2) == (True, [item.id for item in listing.items], len(server.asked))

    async def test_what_is_kept_of_an_object(self, server: Server, provider: Provider) -> None:
        objects = [
            {"id": "asst_1", "created_at": 1700000000, "name": "prod-1", "metadata": {"pin": "true", "n": 3}},
            {"id": "asst_2", "created_at": 1.5, "name": None, "metadata": None},
            {"id": "asst_3", "created_at": "2026-01-01", "name": 4, "metadata": []},
            {"id": "asst_4", "created_at": True},
            {"id": "asst_5", "created_at": "2026-11-24T10:00:00.5+00:00"},
            {"id": "asst_6", "created_at": "2026-11-24T10:00:00Z"},
            {"id": "asst_7", "created_at": "2026-11-24T10:00:00"},
            {"id": "asst_8", "created_at": "yesterday"},
        ]
        server.say(answer(200, json.dumps({"data": objects, "has_more": False})))

        listing = await provider.listing(ASSISTANT, Budget())

        assert listing.items == [
            Listed("asst_1", 1700000000.0, "prod-1", {"pin": "true", "n": "3"}),
            Listed("asst_2", 1.5, None, {}),
            Listed("asst_3", None, None, {}),
            Listed("asst_4", None, None, {}),
            Listed("asst_5", 1795514400.5, None, {}),
            Listed("asst_6", 1795514400.0, None, {}),
            Listed("asst_7", None, None, {}),
            Listed("asst_8", None, None, {}),
        ]

    async def test_an_empty_list(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, page([], has_more=False)))

        listing = await provider.listing(ASSISTANT, Budget())

        assert (listing.complete, listing.items) == (True, [])

    async def test_an_object_on_two_pages_is_one(self, server: Server, provider: Provider) -> None:
        """Objects move between pages while they are created and deleted."""
        server.say(
            answer(200, page(["asst_1", "asst_2"], has_more=True)),
            answer(200, page(["asst_2", "asst_3"], has_more=False)),
        )

        listing = await provider.listing(ASSISTANT, Budget())

        assert [item.id for item in listing.items] == ["asst_1", "asst_2", "asst_3"]
        assert listing.complete

    async def test_a_server_that_never_says_has_more_is_read_until_an_empty_page(
        self, server: Server, provider: Provider
    ) -> None:
        server.say(answer(200, page(["asst_1"])), answer(200, page(["asst_2"])), answer(200, page([])))

        listing = await provider.listing(ASSISTANT, Budget())

        assert (listing.complete, len(listing.items), len(server.asked)) == (True, 2, 3)

    async def test_a_cursor_is_percent_encoded(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, page(["a+b=c"], has_more=True)), answer(200, page([], has_more=False)))

        await provider.listing(ASSISTANT, Budget())

        assert server.targets[1].endswith("&after=a%2Bb%3Dc")

    async def test_pages_too_long_to_read_are_asked_for_in_smaller_ones(
        self, server: Server, provider: Provider
    ) -> None:
        def respond(asked: Asked) -> Answer:
            if "limit=1&" in asked.target:
                return answer(200, page(["asst_1"], has_more=False))
            return answer(200, page(["asst_1"], has_more=False, padding="x" * PAGE_BYTES))

        server.respond = respond
        budget = Budget()

        listing = await provider.listing(ASSISTANT, budget)

        assert (listing.complete, [item.id for item in listing.items]) == (True, ["asst_1"])
        assert [asked.target.split("?")[1] for asked in server.asked] == [
            "limit=100&order=asc",
            "limit=10&order=asc",
            "limit=1&order=asc",
            "limit=1&order=asc&after=asst_1",
        ]
        assert budget.spent == 4


class TestIncomplete:
    """What decides nothing."""

    @pytest.mark.parametrize(
        ("second", "outcome", "reason"),
        [
            (answer(200, "{}"), Outcome.UNCONFIRMED, "the text '{}'"),
            (answer(200, PAGE), Outcome.UNCONFIRMED, "HTML page"),
            (answer(200, '{"data": {}, "has_more": false}'), Outcome.UNCONFIRMED, "JSON with data, has_more"),
            (answer(200, page(["asst_2"], has_more="false")), Outcome.UNCONFIRMED, "a list object"),
            (answer(200, page([""], has_more=False)), Outcome.UNCONFIRMED, "a list object"),
            (answer(200, '{"data": [{"id": 7}], "has_more": false}'), Outcome.UNCONFIRMED, "JSON with data"),
            (answer(200, '{"data": ["asst_2"], "has_more": false}'), Outcome.UNCONFIRMED, "JSON with data"),
            (answer(200, '{"data": [{"name": "x"}]}'), Outcome.UNCONFIRMED, "JSON with data"),
            (answer(200, page(["asst_2"], has_more=True)[:50]), Outcome.UNCONFIRMED, "where assistant"),
            (answer(204), Outcome.UNCONFIRMED, "204"),
            (answer(302, "", {"Location": "/login"}), Outcome.UNCONFIRMED, "redirect to /login"),
            (answer(500, PAGE), Outcome.ERROR, "500"),
            (answer(404, ""), Outcome.UNRECOGNISED, "404"),
            (answer(401, ""), Outcome.AUTH, "401"),
            (answer(429, "", {"Retry-After": "9"}), Outcome.RATE_LIMITED, "429"),
            (CLOSE, Outcome.ERROR, "reset"),
        ],
    )
    async def test_a_page_that_is_none(
        self, second: Answer, outcome: Outcome, reason: str, server: Server, provider: Provider
    ) -> None:
        server.say(answer(200, page(["asst_1"], has_more=True)), second)

        listing = await provider.listing(ASSISTANT, Budget())

        assert not listing.complete
        assert reason in (listing.reason or "")
        assert listing.verdict is not None
        assert (outcome, False) == (listing.verdict.outcome, listing.verdict.unknown)
        assert listing.verdict.retry_after == (9 if outcome is Outcome.RATE_LIMITED else None)
        assert [item.id for item in listing.items] == ["asst_1"]

    async def test_an_empty_page_that_says_there_is_more(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, page(["asst_1"], has_more=True)), answer(200, page([], has_more=True)))

        listing = await provider.listing(ASSISTANT, Budget())

        assert not listing.complete
        assert "the page after asst_1 shows nothing new" in (listing.reason or "")

    async def test_a_cursor_that_goes_in_circles(self, server: Server, provider: Provider) -> None:
        server.say(
            answer(200, page(["asst_1", "asst_2"], has_more=True)),
            answer(200, page(["asst_3", "asst_4"], has_more=True)),
            answer(200, page(["asst_1", "asst_2"], has_more=True)),
        )

        listing = await provider.listing(ASSISTANT, Budget())

        assert (listing.complete, len(server.asked)) == (False, 3)

    async def test_more_pages_than_allowed(self, server: Server, provider: Provider) -> None:
        server.respond = paged([f"asst_{number}" for number in range(50)], 10)

        listing = await provider.listing(ASSISTANT, Budget(), bounds=Bounds(pages=4))

        assert (listing.complete, len(server.asked)) == (False, 4)
        assert "longer than 4 pages" in (listing.reason or "")

    async def test_exactly_as_many_pages_as_allowed(self, server: Server, provider: Provider) -> None:
        server.respond = paged([f"asst_{number}" for number in range(50)], 10)

        assert (await provider.listing(ASSISTANT, Budget(), bounds=Bounds(pages=5, objects=50))).complete

    async def test_more_objects_than_allowed(self, server: Server, provider: Provider) -> None:
        server.respond = paged([f"asst_{number}" for number in range(50)], 10)

        listing = await provider.listing(ASSISTANT, Budget(), bounds=Bounds(objects=29))

        assert (listing.complete, len(server.asked)) == (False, 3)
        assert "29 objects" in (listing.reason or "")

    async def test_no_budget(self, server: Server, provider: Provider) -> None:
        server.respond = paged([f"asst_{number}" for number in range(50)], 10)

        listing = await provider.listing(ASSISTANT, Budget(2))

        assert (listing.complete, len(server.asked)) == (False, 2)
        assert listing.verdict is not None
        assert (listing.verdict.outcome, listing.verdict.retry_after) == (Outcome.LIMITED, 7.0)

    async def test_no_credential(self, server: Server, make: MakeProvider) -> None:
        listing = await make(server.url, environ={}).listing(ASSISTANT, Budget())

        assert listing.verdict is not None
        assert (listing.complete, listing.verdict.outcome) == (False, Outcome.AUTH)


def test_a_page_of_items_needs_no_more_than_ids() -> None:
    body = b'{"data": [{"id": "msg_1", "type": "message", "content": []}], "has_more": false}'

    read = read_page(CONVERSATION_ITEM, Reply(200, {}, body))

    assert read is not None
    assert read.items == (Listed("msg_1", None, None, {}),)


class TestStandIn:
    """Against the provider stand-in's own pagination."""

    async def test_the_whole_list(self, sandbox: Sandbox, make: MakeProvider) -> None:
        ids = sandbox.seed("assistant", 230, metadata={"lapse": "x"}, name="idle")

        listing = await make(sandbox.url).listing(ASSISTANT, Budget())

        assert listing.complete
        assert sorted(item.id for item in listing.items) == sorted(ids)
        assert all(item.metadata == {"lapse": "x"} and item.name == "idle" for item in listing.items)
        assert all(item.created_at for item in listing.items)

    @pytest.mark.parametrize(
        "rule",
        [
            {"effect": "list_loop"},
            {"effect": "list_empty", "page": 2},
            {"effect": "empty_object", "page": 2},
            {"effect": "html", "page": 2},
            {"effect": "error", "status": 500, "page": 3},
            {"effect": "cut", "page": 2},
            {"effect": "truncated", "page": 2},
            {"effect": "redirect", "page": 1},
            {"effect": "sunset"},
        ],
        ids=lambda rule: rule["effect"],
    )
    async def test_a_list_that_is_not_whole(
        self, rule: dict[str, object], sandbox: Sandbox, make: MakeProvider
    ) -> None:
        sandbox.seed("assistant", 230)
        sandbox.faults([rule])

        listing = await make(sandbox.url).listing(ASSISTANT, Budget())

        assert not listing.complete
        assert listing.reason

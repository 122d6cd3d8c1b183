"""How requests to each type of provider look, and what decides there."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

import pytest

from lapse.policy import Keep
from lapse.providers.kinds import KINDS, Sunset
from lapse.providers.outcomes import Outcome, Verdict, after_probe, classify
from lapse.providers.pagination import Bounds
from lapse.providers.provider import Provider
from providers.actions import Budget, deletions, remove
from providers.conftest import KEY, MakeProvider
from providers.dialects import ASSISTANT_UUID, detail, idle, made_by
from providers.rows import THREAD, UUID, gone
from providers.scripted import Answer, Asked, Server, answer

NO_CONTENT = answer(204)
UNKNOWN = Verdict(Outcome.UNRECOGNISED, status=404)


def at(server: Server, make: MakeProvider, type_: str, **changes: Any) -> Provider:
    return make(server.url.removesuffix("/v1"), type=type_, **changes)


class TestOnTheWire:
    """Base URL, api-version and key."""

    async def test_foundry(self, server: Server, make: MakeProvider) -> None:
        server.say(answer(200, gone("thread", THREAD)))
        provider = at(server, make, "foundry", api_version="v1")

        await remove(provider, "thread", THREAD)
        await provider.probe(provider.kinds["thread"])
        await provider.listing(provider.kinds["thread"], Budget())
        await provider.listing(provider.kinds["file"], Budget())

        assert server.targets == [
            f"DELETE /threads/{THREAD}?api-version=v1",
            "GET /threads?limit=1&api-version=v1",
            "GET /threads?limit=100&order=asc&api-version=v1",
            "GET /files?api-version=v1",
        ]
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
        assert all("openai-beta" not in asked.headers for asked in server.asked)

    async def test_azure(self, server: Server, make: MakeProvider) -> None:
        server.say(answer(200, gone("conversation", "conv_1")))

        for version in (None, "2025-04-01-preview"):
            provider = at(server, make, "azure-openai", api_version=version)
            await remove(provider, "conversation", "conv_1", items=False)

        assert server.targets == [
            "DELETE /conversations/conv_1",
            "DELETE /conversations/conv_1?api-version=2025-04-01-preview",
        ]
        assert {asked.headers["api-key"] for asked in server.asked} == {KEY}
        assert all("authorization" not in asked.headers for asked in server.asked)

    async def test_langgraph(self, server: Server, make: MakeProvider) -> None:
        server.say(answer(200, idle()), NO_CONTENT, answer(200, "[]"))
        provider = at(server, make, "langgraph")

        verdict = await remove(provider, "thread", UUID)
        probe = await provider.probe(provider.kinds["thread"])

        assert (verdict.outcome, verdict.status) == (Outcome.DELETED, 204)
        assert server.targets == [f"GET /threads/{UUID}", f"DELETE /threads/{UUID}", "POST /threads/search"]
        assert {asked.headers["x-api-key"] for asked in server.asked} == {KEY}
        assert all("authorization" not in asked.headers for asked in server.asked)
        assert json.loads(server.asked[2].body)["limit"] == 1
        assert after_probe(provider.kinds["thread"], UNKNOWN, probe) is UNKNOWN

    async def test_an_account_without_a_key_sends_none(self, server: Server, make: MakeProvider) -> None:
        server.say(answer(200, "{}"))

        for type_ in ("azure-openai", "langgraph"):
            await remove(at(server, make, type_, api_key_env=None), "assistant", ASSISTANT_UUID)

        assert all({"api-key", "x-api-key", "authorization"}.isdisjoint(asked.headers) for asked in server.asked)

    async def test_an_api_version_cannot_add_to_the_query(self, server: Server, make: MakeProvider) -> None:
        server.say(answer(200, "{}"))

        await remove(at(server, make, "foundry", api_version="v1&limit=1#"), "thread", THREAD)

        assert server.targets == [f"DELETE /threads/{THREAD}?api-version=v1%26limit%3D1%23"]

    async def test_a_sunset_begins_on_its_day(self, server: Server, make: MakeProvider) -> None:
        """Nothing is sent any more, in whatever worker still runs then."""
        kind = KINDS["foundry"]["thread"]
        ended = replace(kind, sunsets={"127.0.0.1": Sunset(date(2027, 3, 31), "conversation")})
        server.say(answer(200, gone("thread", THREAD)))
        midnight = datetime(2027, 3, 31, tzinfo=UTC).timestamp()

        before, after = [
            classify(ended, THREAD, await at(server, make, "foundry", clock=lambda now=now: now).delete(ended, THREAD))
            for now in (midnight - 1, midnight)
        ]

        assert (before.outcome, after.outcome) == (Outcome.DELETED, Outcome.UNSUPPORTED)
        assert "shut threads down on 2027-03-31; use conversation instead" in after.detail
        assert len(server.asked) == 1


class TestLangGraph:
    """What a LangGraph server would do without asking."""

    @pytest.mark.parametrize("keep", [(), (Keep(None, {"pin": "true"}),)])
    async def test_a_busy_thread_is_left_alone(
        self, keep: tuple[Keep, ...], server: Server, make: MakeProvider
    ) -> None:
        server.say(answer(200, idle(status="busy")))
        budget = Budget()

        verdict = await remove(at(server, make, "langgraph"), "thread", UUID, *keep, budget=budget)

        assert (verdict.outcome, verdict.unknown, verdict.detail) == (Outcome.CONFLICT, False, "its status is busy")
        assert deletions(server) == []
        assert budget.spent == 1

    @pytest.mark.parametrize("status", ["idle", "interrupted", "error"])
    async def test_a_thread_that_does_not_work_is_deleted(
        self, status: str, server: Server, make: MakeProvider
    ) -> None:
        server.say(answer(200, idle(status=status)), NO_CONTENT)

        assert (await remove(at(server, make, "langgraph"), "thread", UUID)).outcome is Outcome.DELETED

    @pytest.mark.parametrize(
        "read",
        [
            idle(status=None),
            idle(status=["busy"]),
            idle("01a20661-1242-76a4-a2ed-5f1c1d0e9a56"),
            json.dumps({"thread_id": UUID}),
            json.dumps({"id": UUID, "status": "idle"}),
            "[]",
            "",
        ],
    )
    async def test_a_thread_is_not_deleted_unseen(self, read: str, server: Server, make: MakeProvider) -> None:
        server.say(answer(200, read))

        assert (await remove(at(server, make, "langgraph"), "thread", UUID)).outcome is Outcome.UNCONFIRMED
        assert deletions(server) == []

    async def test_a_thread_that_is_gone_is_not_asked_to_go(self, server: Server, make: MakeProvider) -> None:
        server.say(answer(404, detail(f"Thread with ID {UUID} not found")))

        assert (await remove(at(server, make, "langgraph"), "thread", UUID)).outcome is Outcome.ALREADY_GONE
        assert deletions(server) == []

    async def test_a_system_assistant_is_never_deleted(self, server: Server, make: MakeProvider) -> None:
        """Its DELETE would be answered with 204."""
        server.say(answer(200, made_by("system")))

        verdict = await remove(at(server, make, "langgraph"), "assistant", ASSISTANT_UUID)

        assert (verdict.outcome, verdict.detail) == (Outcome.KEPT, "the provider made it for itself")
        assert deletions(server) == []

    @pytest.mark.parametrize("metadata", [None, [], "system"])
    async def test_an_assistant_whose_maker_cannot_be_seen_is_not_deleted(
        self, metadata: object, server: Server, make: MakeProvider
    ) -> None:
        server.say(answer(200, made_by("user", metadata=metadata)), NO_CONTENT)

        verdict = await remove(at(server, make, "langgraph"), "assistant", ASSISTANT_UUID)

        assert verdict.outcome is (Outcome.DELETED if metadata is None else Outcome.UNCONFIRMED)

    async def test_an_assistant_of_the_application_is_deleted(self, server: Server, make: MakeProvider) -> None:
        server.say(answer(200, made_by("user")), NO_CONTENT)

        verdict = await remove(at(server, make, "langgraph"), "assistant", ASSISTANT_UUID)

        assert (verdict.outcome, verdict.status) == (Outcome.DELETED, 204)

    @pytest.mark.parametrize(
        ("versions", "outcome"),
        [
            (answer(404, detail(f"Assistant {ASSISTANT_UUID} not found")), Outcome.ALREADY_GONE),
            (answer(404, detail(f"Assistant {ASSISTANT_UUID}0 not found")), Outcome.UNRECOGNISED),
            (answer(404, detail("Not Found")), Outcome.UNRECOGNISED),
            (answer(200, f"[{made_by('system')}]"), Outcome.UNCONFIRMED),
            (answer(200, made_by("user")), Outcome.UNCONFIRMED),
            (answer(401, ""), Outcome.AUTH),
        ],
    )
    @pytest.mark.parametrize("hidden", ["Not Found", f"assistant {ASSISTANT_UUID} not found"])
    async def test_a_missing_assistant_is_asked_for_where_the_answer_names_it(
        self, hidden: str, versions: Answer, outcome: Outcome, server: Server, make: MakeProvider
    ) -> None:
        """A GET answers the same 404 to a missing assistant, to a missing route, and to one whose graph is gone."""
        server.say(answer(404, detail(hidden)), versions)
        budget = Budget()

        verdict = await remove(at(server, make, "langgraph"), "assistant", ASSISTANT_UUID, budget=budget)

        assert (outcome, False) == (verdict.outcome, verdict.unknown)
        assert server.targets == [f"GET /assistants/{ASSISTANT_UUID}", f"POST /assistants/{ASSISTANT_UUID}/versions"]
        assert budget.spent == 2

    async def test_no_budget_to_look_twice(self, server: Server, make: MakeProvider) -> None:
        server.say(answer(404, detail("Not Found")))

        verdict = await remove(at(server, make, "langgraph"), "assistant", ASSISTANT_UUID, budget=Budget(1))

        assert verdict.outcome is Outcome.LIMITED


class Shelf:
    """Objects behind a search, oldest first; ``meanwhile`` runs before each page but the first."""

    def __init__(self, ids: list[str], meanwhile: Callable[[list[str]], None], most: int = 1000) -> None:
        self.ids = ids
        self._meanwhile = meanwhile
        self._most = most
        self._asked = False

    def __call__(self, asked: Asked) -> Answer:
        if self._asked:
            self._meanwhile(self.ids)
        self._asked = True
        body = json.loads(asked.body)
        assert (body["sort_by"], body["sort_order"]) == ("created_at", "asc")
        shown = self.ids[body["offset"] :][: min(body["limit"], self._most)]
        objects = [{"thread_id": each, "created_at": "2026-11-24T10:00:00+00:00", "metadata": {}} for each in shown]
        return answer(200, json.dumps(objects))


class TestSearch:
    """A search is read to its end, whatever others delete and create meanwhile."""

    THREADS = KINDS["langgraph"]["thread"]

    @pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 99, 100, 101, 1000])
    @pytest.mark.parametrize("most", [10, 1000])
    async def test_all_of_them(self, count: int, most: int, server: Server, make: MakeProvider) -> None:
        """Also where the server gives fewer at once than it was asked for."""
        ids = [f"id-{number:04}" for number in range(count)]
        server.respond = Shelf(ids, lambda _ids: None, most)

        listing = await at(server, make, "langgraph").listing(self.THREADS, Budget())

        assert listing.complete
        assert ids == [item.id for item in listing.items]

    async def test_the_end_costs_one_request_more(self, server: Server, make: MakeProvider) -> None:
        server.respond = Shelf([f"id-{number:04}" for number in range(2500)], lambda _ids: None)
        budget = Budget()

        await at(server, make, "langgraph").listing(self.THREADS, budget)

        assert [json.loads(asked.body)["offset"] for asked in server.asked] == [0, 995, 1990, 2495]
        assert budget.spent == 4
        assert json.loads(server.asked[0].body) == {
            "limit": 1000,
            "offset": 0,
            "sort_by": "created_at",
            "sort_order": "asc",
            "select": ["thread_id", "created_at", "metadata", "status"],
        }

    @pytest.mark.parametrize("gone", [1, 4, 5, 6, 30, 99, 100, 150, 600])
    async def test_nobody_is_lost_while_others_delete_the_oldest(
        self, gone: int, server: Server, make: MakeProvider
    ) -> None:
        ids = [f"id-{number:04}" for number in range(1000)]
        deleted: list[str] = []

        def meanwhile(left: list[str]) -> None:
            if len(deleted) < 1200:
                deleted.extend(left[:gone])
                del left[:gone]

        server.respond = Shelf(ids, meanwhile, most=100)

        listing = await at(server, make, "langgraph").listing(self.THREADS, Budget())

        found = [item.id for item in listing.items]
        assert listing.complete
        assert set(ids) <= set(found)
        assert len(found) == len(set(found))

    async def test_what_is_created_meanwhile_is_found_at_the_end(self, server: Server, make: MakeProvider) -> None:
        new = iter(f"new-{number:04}" for number in range(250))
        server.respond = Shelf(
            [f"id-{number:04}" for number in range(300)], lambda ids: ids.extend(islice(new, 50)), most=100
        )

        listing = await at(server, make, "langgraph").listing(self.THREADS, Budget())

        assert len(listing.items) == 550

    async def test_a_search_that_never_ends_decides_nothing(self, server: Server, make: MakeProvider) -> None:
        server.respond = Shelf(["id-0"], lambda ids: ids.extend(f"id-{len(ids) + more}" for more in range(100)))

        listing = await at(server, make, "langgraph").listing(self.THREADS, Budget(), bounds=Bounds(pages=10))

        assert (listing.complete, listing.reason) == (False, "longer than 10 pages or 200000 objects")

    @pytest.mark.parametrize("body", ["{}", '{"data": []}', "", "<html>", '[{"id": "x"}]', '["x"]', "null"])
    async def test_what_is_no_answer_to_a_search_is_no_list(
        self, body: str, server: Server, make: MakeProvider
    ) -> None:
        server.say(answer(200, body))

        listing = await at(server, make, "langgraph").listing(self.THREADS, Budget())

        assert not listing.complete
        assert listing.verdict is not None
        assert listing.verdict.outcome is Outcome.UNCONFIRMED

    async def test_system_assistants_are_no_candidates(self, server: Server, make: MakeProvider) -> None:
        server.say(answer(200, f"[{made_by('system')},{made_by('user', UUID)}]"))

        listing = await at(server, make, "langgraph").listing(KINDS["langgraph"]["assistant"], Budget())

        assert listing.complete
        assert [UUID] == [item.id for item in listing.items]


class TestWholeLists:
    """Foundry lists files whole, and without has_more."""

    async def test_a_list_without_has_more_is_whole(self, server: Server, make: MakeProvider) -> None:
        files = [{"id": f"file-{number}", "created_at": 1, "filename": "x"} for number in range(300)]
        server.say(answer(200, json.dumps({"object": "list", "data": files})))

        listing = await at(server, make, "foundry").listing(KINDS["foundry"]["file"], Budget())

        assert (listing.complete, len(listing.items)) == (True, 300)
        assert len(server.asked) == 1

    async def test_has_more_is_believed_all_the_same(self, server: Server, make: MakeProvider) -> None:
        one, two = ([{"id": each, "created_at": 1}] for each in ("file-1", "file-2"))
        server.say(
            answer(200, json.dumps({"data": one, "has_more": True})),
            answer(200, json.dumps({"data": two, "has_more": False})),
        )

        listing = await at(server, make, "azure-openai").listing(KINDS["azure-openai"]["file"], Budget())

        assert ["file-1", "file-2"] == [item.id for item in listing.items]
        assert server.targets == ["GET /files", "GET /files?after=file-1"]

"""Servers that speak a provider's API in ways of their own: other words, other ids, other limits, absurd values."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from lapse.policy import Keep
from lapse.policy.preconditions import Preconditions
from lapse.providers.invented import Invented, invented
from lapse.providers.kinds import KINDS
from lapse.providers.outcomes import Outcome, Verdict
from lapse.providers.pagination import USUAL_MOST, less, read_object
from lapse.providers.provider import Provider
from lapse.providers.response import Reply
from lapse.registry.keys import identifier
from lapse.sweep.deletion.delete import delete
from lapse.sweep.deletion.precheck import Target
from providers.actions import Budget, deletions
from providers.conftest import MakeProvider
from providers.dialects import idle
from providers.rows import CONVERSATION, RESPONSE, UUID, error, gone
from providers.scripted import Answer, Asked, Server, answer

ASSISTANT = KINDS["openai"]["assistant"]
THREADS = KINDS["langgraph"]["thread"]


async def remove(
    provider: Provider,
    kind: str,
    object_id: str,
    *,
    budget: Budget | None = None,
    known: Invented | None = None,
    **preconditions: Any,
) -> Verdict:
    given = Preconditions(**({"resting": True} | preconditions))
    return await delete(
        Target(provider, provider.kinds[kind], object_id, budget or Budget()), preconditions=given, invented=known
    )


class TestOpaqueIds:
    """LiteLLM encrypts the ids of responses anew in each answer."""

    @staticmethod
    def proxy(stranger: Answer) -> Callable[[Asked], Answer]:
        """Return a proxy: it knows one response, calls it something else each time, and answers so to all others."""

        def respond(asked: Asked) -> Answer:
            if RESPONSE not in asked.target:
                return stranger
            said = {"id": "resp_bGl0ZWxsbTo1", "object": "response", "status": "completed", "metadata": {}}
            return answer(200, json.dumps(said | ({"deleted": True} if asked.method == "DELETE" else {})))

        return respond

    MISSING = answer(404, error("Response with id 'resp_upstream' not found."))

    async def test_they_are_said_to_be_so_and_nothing_is_deleted(self, server: Server, make: MakeProvider) -> None:
        server.respond = self.proxy(self.MISSING)
        provider = make(server.url)

        verdict = await remove(provider, "response", RESPONSE, keep=[Keep(None, {"pin": "1"})])

        assert (Outcome.UNCONFIRMED, []) == (verdict.outcome, deletions(server))
        assert 'ids = "opaque"' in verdict.detail

    @pytest.mark.parametrize(
        ("stranger", "outcome"),
        [
            (MISSING, Outcome.DELETED),
            (answer(404, ""), Outcome.DELETED),
            (answer(200, gone("response", RESPONSE)), Outcome.UNCONFIRMED),
            (answer(200, json.dumps({"id": "resp_x", "object": "response", "deleted": True})), Outcome.UNCONFIRMED),
            (answer(500, ""), Outcome.UNCONFIRMED),
            (answer(403, ""), Outcome.UNCONFIRMED),
            (answer(204), Outcome.UNCONFIRMED),
        ],
    )
    async def test_stated_they_are_confirmed_where_an_invented_id_is_not_found(
        self, stranger: Answer, outcome: Outcome, server: Server, make: MakeProvider
    ) -> None:
        server.respond = self.proxy(stranger)
        provider = make(server.url, ids="opaque")
        known, budget = Invented(provider), Budget()

        verdict = await remove(
            provider, "response", RESPONSE, known=known, budget=budget, keep=[Keep(None, {"pin": "1"})]
        )
        again = await remove(provider, "response", RESPONSE, known=known)

        assert (outcome, outcome) == (verdict.outcome, again.outcome)
        assert (outcome is Outcome.UNCONFIRMED) == verdict.unknown == bool(verdict.detail)
        others = [target for target in deletions(server) if RESPONSE not in target]
        assert (1, 2) == (len(others), budget.spent)

    async def test_without_tokens_for_the_question_nothing_is_confirmed(
        self, server: Server, make: MakeProvider
    ) -> None:
        server.respond = self.proxy(self.MISSING)
        provider = make(server.url, ids="opaque")

        verdict = await remove(provider, "response", RESPONSE, known=Invented(provider), budget=Budget(0))

        assert (Outcome.UNCONFIRMED, True) == (verdict.outcome, verdict.unknown)

    async def test_outside_of_a_sweep_nothing_is_confirmed(self, server: Server, make: MakeProvider) -> None:
        server.respond = self.proxy(self.MISSING)

        verdict = await remove(make(server.url, ids="opaque"), "response", RESPONSE)

        assert verdict.outcome is Outcome.UNCONFIRMED

    async def test_another_kinds_deletion_confirms_nothing(self, server: Server, make: MakeProvider) -> None:
        server.respond = lambda asked: (
            answer(200, gone("assistant", "asst_1")) if RESPONSE in asked.target else self.MISSING
        )
        provider = make(server.url, ids="opaque")

        verdict = await remove(provider, "response", RESPONSE, known=Invented(provider))

        assert verdict.outcome is Outcome.UNCONFIRMED

    @pytest.mark.parametrize("object_id", [RESPONSE, UUID, "file-4wDz5b167pAf72nx1h9eiN", "7", "chatcmpl-x"])
    def test_an_invented_id_has_the_prefix_and_is_new(self, object_id: str) -> None:
        first, second = invented(object_id), invented(object_id)

        assert identifier(first) != second
        assert first != object_id
        for prefix in ("resp_", "file-", "chatcmpl-"):
            assert first.startswith(prefix) == object_id.startswith(prefix)


class Aegra:
    """Searches of Aegra: whole objects only, and of assistants at most 100 at once."""

    def __init__(self, count: int) -> None:
        self.ids = [f"id-{number:04}" for number in range(count)]

    def __call__(self, asked: Asked) -> Answer:
        body = json.loads(asked.body)
        if "select" in body:
            return answer(422, json.dumps({"error": "unprocessable", "message": "select projection is not supported"}))
        if body["limit"] > USUAL_MOST:
            return answer(422, json.dumps({"detail": [{"loc": ["body", "limit"], "msg": "less than or equal to 100"}]}))
        shown = self.ids[body["offset"] :][: body["limit"]]
        return answer(200, json.dumps([json.loads(idle(each)) for each in shown]))


async def test_a_search_without_select_and_with_small_pages_is_read_whole(server: Server, make: MakeProvider) -> None:
    aegra = server.respond = Aegra(250)
    provider, budget = make(server.url, type="langgraph"), Budget()

    listing = await provider.listing(THREADS, budget)
    again = await provider.listing(THREADS, Budget())
    probe = await provider.probe(THREADS)

    assert (True, aegra.ids, aegra.ids) == (
        listing.complete,
        [item.id for item in listing.items],
        [item.id for item in again.items],
    )
    assert sum("select" in json.loads(asked.body) for asked in server.asked) == 1
    assert probe
    assert probe.status == 200


async def test_every_request_of_such_a_search_is_in_the_budget(server: Server, make: MakeProvider) -> None:
    server.respond = Aegra(250)
    provider, budget = make(server.url, type="langgraph"), Budget()

    await provider.listing(THREADS, budget)

    assert budget.spent == len(server.asked)


@pytest.mark.parametrize("most", [0, 1, 2])
async def test_a_budget_that_ends_in_it_leaves_it_incomplete(most: int, server: Server, make: MakeProvider) -> None:
    server.respond = Aegra(250)

    listing = await make(server.url, type="langgraph").listing(THREADS, Budget(most))

    assert not listing.complete
    assert listing.verdict
    assert (Outcome.LIMITED, most) == (listing.verdict.outcome, len(server.asked))


@pytest.mark.parametrize(
    ("status", "size", "smaller"),
    [(422, 10_000, 1000), (422, 1000, 100), (400, 250, 100), (413, 101, 100), (422, 100, None), (500, 1000, None)],
)
def test_a_page_that_is_refused_is_asked_for_smaller(status: int, size: int, smaller: int | None) -> None:
    assert smaller == less(Reply(status), size)


class TestWordsOfAGet:
    """DevUI says "Conversation not found" to a GET, and something else to a DELETE."""

    OTHER = error(f"Conversation {CONVERSATION} could not be located")

    @staticmethod
    def saying(read: Answer, deletion: Answer, items: Answer | None = None) -> Callable[[Asked], Answer]:
        def respond(asked: Asked) -> Answer:
            if asked.method == "DELETE":
                return deletion
            return items if items and "/items" in asked.target else read

        return respond

    NOT_FOUND = answer(404, error(f"Conversation with id '{CONVERSATION}' not found."))

    @pytest.mark.parametrize(
        ("read", "outcome"),
        [
            (answer(404, OTHER), Outcome.ALREADY_GONE),
            (answer(410, OTHER), Outcome.ALREADY_GONE),
            (answer(404, '{"detail": "Not Found"}'), Outcome.UNRECOGNISED),
            (answer(404, ""), Outcome.UNRECOGNISED),
            (answer(405, OTHER), Outcome.UNRECOGNISED),
            (answer(500, OTHER), Outcome.ERROR),
        ],
    )
    async def test_the_deletion_decides_where_nothing_read_could_protect_it(
        self, read: Answer, outcome: Outcome, server: Server, provider: Provider
    ) -> None:
        server.respond = self.saying(read, self.NOT_FOUND)

        verdict = await remove(provider, "conversation", CONVERSATION, whole=True, items=False)

        assert outcome is verdict.outcome
        assert (outcome is Outcome.ALREADY_GONE) == (deletions(server) != [])

    async def test_what_a_keep_rule_may_protect_is_not_deleted_unseen(self, server: Server, provider: Provider) -> None:
        server.respond = self.saying(answer(404, self.OTHER), answer(200, gone("conversation", CONVERSATION)))

        verdict = await remove(provider, "conversation", CONVERSATION, keep=[Keep(None, {"pin": "1"})])

        assert (Outcome.UNRECOGNISED, []) == (verdict.outcome, deletions(server))
        assert 'not_found = ["Conversation {id} could not be located"]' in verdict.detail

    @pytest.mark.parametrize(
        ("read", "outcome"),
        [
            (answer(404, OTHER), Outcome.ALREADY_GONE),
            (answer(200, json.dumps({"id": CONVERSATION, "object": "conversation"})), Outcome.UNRECOGNISED),
            (answer(500, ""), Outcome.UNRECOGNISED),
        ],
    )
    async def test_a_list_of_items_that_is_missing_is_empty_only_with_its_conversation(
        self, read: Answer, outcome: Outcome, server: Server, provider: Provider
    ) -> None:
        server.respond = self.saying(read, self.NOT_FOUND, items=answer(404, self.OTHER))

        verdict = await remove(provider, "conversation", CONVERSATION)

        assert outcome is verdict.outcome
        assert (outcome is Outcome.ALREADY_GONE) == (deletions(server) != [])

    async def test_without_tokens_for_that_look_it_stays(self, server: Server, provider: Provider) -> None:
        server.respond = self.saying(answer(404, self.OTHER), self.NOT_FOUND, items=answer(404, self.OTHER))

        verdict = await remove(provider, "conversation", CONVERSATION, budget=Budget(1))

        assert (Outcome.LIMITED, []) == (verdict.outcome, deletions(server))


async def test_items_that_no_request_can_name_keep_their_conversation(server: Server, provider: Provider) -> None:
    """They would be left behind, and nobody would know of them."""
    server.say(answer(200, json.dumps({"data": [{"id": "s3://bucket/item"}], "has_more": False})))

    verdict = await remove(provider, "conversation", CONVERSATION)

    assert (Outcome.UNCONFIRMED, []) == (verdict.outcome, deletions(server))
    assert "s3://bucket/item" in verdict.detail


class TestStrangeIds:
    """What could be none of ours is named, left alone, and hides nothing else."""

    STRANGE = ("s3://bucket/file", "https://host/asst", "a b", "asst/2", "\u00e9", "x" * 2000, "..")

    @pytest.mark.parametrize("id_", STRANGE)
    @pytest.mark.parametrize("at", [0, 1, 2])
    async def test_the_others_are_listed(self, id_: str, at: int, server: Server, provider: Provider) -> None:
        ids = ["asst_1", "asst_2"]
        shown = [*ids[:at], id_, *ids[at:]]
        server.say(answer(200, json.dumps({"data": [{"id": each} for each in shown], "has_more": False})))

        listing = await provider.listing(ASSISTANT, Budget())

        assert (True, ids, 2) == (listing.complete, [item.id for item in listing.items], listing.count)
        assert 1 == len(listing.strange)
        assert listing.strange[0][:4] == id_[:4]
        assert len(listing.strange[0]) <= 300

    async def test_a_page_of_nothing_else_leads_on(self, server: Server, provider: Provider) -> None:
        def page(ids: list[str], *, more: bool) -> Answer:
            return answer(200, json.dumps({"data": [{"id": each} for each in ids], "has_more": more}))

        server.say(page(["asst_1", "s3://a/1"], more=True), page(["s3://a/2"], more=True), page(["asst_2"], more=False))

        listing = await provider.listing(ASSISTANT, Budget())

        assert (True, ["asst_1", "asst_2"]) == (listing.complete, [item.id for item in listing.items])
        assert [target.partition("after=")[2] for target in server.targets] == [
            "",
            "s3%3A%2F%2Fa%2F1",
            "s3%3A%2F%2Fa%2F2",
        ]

    async def test_the_same_page_of_them_again_leads_nowhere(self, server: Server, provider: Provider) -> None:
        server.say(answer(200, json.dumps({"data": [{"id": "s3://a/1"}], "has_more": True})))

        listing = await provider.listing(ASSISTANT, Budget())

        assert (False, 2) == (listing.complete, len(server.asked))

    async def test_a_search_counts_them(self, server: Server, make: MakeProvider) -> None:
        ids = ["s3://a/1" if number == 3 else f"id-{number}" for number in range(12)]

        def respond(asked: Asked) -> Answer:
            body = json.loads(asked.body)
            shown = ids[body["offset"] :][: min(body["limit"], 7)]
            return answer(200, json.dumps([json.loads(idle(each)) for each in shown]))

        server.respond = respond

        listing = await make(server.url, type="langgraph").listing(THREADS, Budget())

        assert (True, 11, ("s3://a/1",)) == (listing.complete, listing.count, listing.strange)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1795514400", 1795514400.0),
        ("1795514400000", 1795514400.0),
        ("1795514400123", 1795514400.123),
        ("NaN", None),
        ("Infinity", None),
        ("-Infinity", None),
        ("1e999", None),
        ("-1", None),
        ("1" + "0" * 400, None),
        ("1795514400000000000", None),
        ('"9999-12-31T23:59:59Z"', None),
        ('"0001-01-01T00:00:00+14:00"', None),
        ('"1795514400"', None),
    ],
)
def test_an_absurd_time_is_none_and_milliseconds_are_what_they_are(written: str, seconds: float | None) -> None:
    """Myla writes milliseconds."""
    found = read_object(ASSISTANT, json.loads(f'{{"id": "asst_1", "created_at": {written}}}'))

    assert found
    assert seconds == found.created_at


async def test_an_assistant_that_aegra_names_is_not_asked_for_twice(server: Server, make: MakeProvider) -> None:
    server.say(answer(404, json.dumps({"error": "not_found", "message": f"Assistant '{UUID}' not found"})))

    verdict = await remove(make(server.url, type="langgraph"), "assistant", UUID)

    assert (Outcome.ALREADY_GONE, 1) == (verdict.outcome, len(server.asked))

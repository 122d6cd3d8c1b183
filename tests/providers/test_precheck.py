"""The look at an object just before its deletion: last activity, running work, and its end on request."""

import json
import time
from dataclasses import replace

import pytest

from lapse.policy.preconditions import Preconditions
from lapse.providers.deadline import Deadline, Requests
from lapse.providers.outcomes import Outcome, Verdict
from lapse.providers.provider import Provider
from lapse.sweep.deletion.delete import delete
from lapse.sweep.deletion.precheck import Target
from providers.actions import Budget, deletions
from providers.rows import RESPONSE, STORE, THREAD, error, gone
from providers.scripted import Answer, Asked, Server, answer

RUNS = f"GET /v1/threads/{THREAD}/runs?limit=1&order=desc"


async def remove(
    provider: Provider, kind: str, object_id: str, budget: Budget | None = None, **preconditions: object
) -> Verdict:
    given = Preconditions(**preconditions)  # type: ignore[arg-type]
    return await delete(Target(provider, provider.kinds[kind], object_id, budget or Budget()), preconditions=given)


def runs(*statuses: str) -> Answer:
    return answer(200, json.dumps({"object": "list", "data": [{"id": "run_1", "status": each} for each in statuses]}))


def store(**body: object) -> Answer:
    return answer(200, json.dumps({"id": STORE, "object": "vector_store", **body}))


@pytest.mark.parametrize("status", ["queued", "in_progress", "requires_action", "cancelling"])
async def test_a_thread_with_an_active_run_is_left_alone(status: str, server: Server, provider: Provider) -> None:
    server.say(runs(status))
    budget = Budget()

    verdict = await remove(provider, "thread", THREAD, budget)

    assert (Outcome.CONFLICT, f"a run on it is {status}") == (verdict.outcome, verdict.detail)
    assert ([RUNS], 1) == (server.targets, budget.spent)


@pytest.mark.parametrize("statuses", [(), ("completed",), ("failed",), ("expired",), ("cancelled",)])
async def test_a_thread_whose_runs_are_over_goes(statuses: tuple[str, ...], server: Server, provider: Provider) -> None:
    server.say(runs(*statuses), answer(200, gone("thread", THREAD)))

    assert (await remove(provider, "thread", THREAD)).outcome is Outcome.DELETED
    assert [RUNS, f"DELETE /v1/threads/{THREAD}"] == server.targets


@pytest.mark.parametrize("reply", [answer(404, error("Invalid URL")), answer(405, ""), answer(200, "{}")])
async def test_a_server_without_runs_does_not_tell_and_the_deletion_decides(
    reply: Answer, server: Server, provider: Provider
) -> None:
    server.say(reply, answer(200, gone("thread", THREAD)))

    assert (await remove(provider, "thread", THREAD)).outcome is Outcome.DELETED


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(500, Outcome.ERROR), (401, Outcome.AUTH), (429, Outcome.RATE_LIMITED), (503, Outcome.ERROR)],
)
async def test_a_look_that_failed_deletes_nothing(
    status: int, outcome: Outcome, server: Server, provider: Provider
) -> None:
    server.say(answer(status, ""))

    verdict = await remove(provider, "thread", THREAD)

    assert (outcome, False, []) == (verdict.outcome, verdict.unknown, deletions(server))


async def test_a_run_is_cancelled_if_the_policy_says_so_and_the_thread_waits(
    server: Server, provider: Provider
) -> None:
    server.say(runs("in_progress"), answer(200, json.dumps({"id": "run_1", "status": "cancelling"})))

    verdict = await remove(provider, "thread", THREAD, cancel=True)

    assert (Outcome.CONFLICT, "what runs on it was told to end") == (verdict.outcome, verdict.detail)
    assert [RUNS, f"POST /v1/threads/{THREAD}/runs/run_1/cancel"] == server.targets
    assert 1 == provider.drain_counters("thread")["thread"]["requests||cancel|200"]


@pytest.mark.parametrize("status", ["in_progress", "completed"])
async def test_neither_an_end_is_asked_for_nor_a_deletion_after_the_time_of_the_claim(
    status: str, server: Server, provider: Provider
) -> None:
    requests = Requests(Deadline.of(60))

    def at_the_end_of_the_time_to_begin(_: Asked) -> Answer:
        requests.deadline = replace(requests.deadline, begin_by=time.monotonic())
        return runs(status)

    server.respond = at_the_end_of_the_time_to_begin

    with requests:
        verdict = await remove(provider, "thread", THREAD, cancel=True)

    assert (Outcome.LIMITED, False) == (verdict.outcome, verdict.unknown)
    assert [RUNS] == server.targets


@pytest.mark.parametrize("id_", [None, "", "a/../b", 7])
async def test_a_run_without_an_id_that_could_be_one_is_not_cancelled(
    id_: object, server: Server, provider: Provider
) -> None:
    server.say(answer(200, json.dumps({"object": "list", "data": [{"id": id_, "status": "in_progress"}]})))

    assert (await remove(provider, "thread", THREAD, cancel=True)).outcome is Outcome.CONFLICT
    assert [RUNS] == server.targets


async def test_a_response_in_the_background_is_left_alone_or_cancelled(server: Server, provider: Provider) -> None:
    server.say(answer(200, json.dumps({"id": RESPONSE, "object": "response", "status": "in_progress"})))

    left = await remove(provider, "response", RESPONSE)
    cancelled = await remove(provider, "response", RESPONSE, cancel=True)

    assert [Outcome.CONFLICT, Outcome.CONFLICT] == [left.outcome, cancelled.outcome]
    assert f"POST /v1/responses/{RESPONSE}/cancel" == server.targets[-1]
    assert [] == deletions(server)


async def test_a_response_without_a_status_is_not_deleted(server: Server, provider: Provider) -> None:
    server.say(answer(200, json.dumps({"id": RESPONSE, "object": "response"})))

    assert (await remove(provider, "response", RESPONSE)).outcome is Outcome.UNCONFIRMED


@pytest.mark.parametrize(
    ("last_active_at", "outcome"),
    [(1000, Outcome.DELETED), (1001, Outcome.ACTIVE), (None, Outcome.DELETED), ("1001", Outcome.DELETED)],
)
async def test_a_vector_store_used_since_the_cut_off_lives_on(
    last_active_at: object, outcome: Outcome, server: Server, provider: Provider
) -> None:
    server.say(store(last_active_at=last_active_at), answer(200, gone("vector_store", STORE)))

    assert outcome is (await remove(provider, "vector_store", STORE, idle_since=1000.0)).outcome


async def test_no_tokens_for_a_look_is_a_limit(server: Server, provider: Provider) -> None:
    verdict = await remove(provider, "thread", THREAD, Budget(0))

    assert (Outcome.LIMITED, []) == (verdict.outcome, server.targets)

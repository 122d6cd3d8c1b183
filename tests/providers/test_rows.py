"""Every row of the table of outcomes over a real socket."""

import pytest

from lapse.deletion import delete
from lapse.outcomes import Outcome
from lapse.providers import Provider
from lapse.terms import Terms
from providers.conftest import MakeProvider
from providers.rows import ROWS, Row
from providers.scripted import Server, answer


async def spend(requests: int = 1) -> None:
    """Let every request pass."""
    assert requests == 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.outcome}-{row.name}")
async def test_row(row: Row, server: Server, provider: Provider) -> None:
    server.say(answer(row.status, row.body, row.headers | {"X-Request-Id": "req_1"}))
    kind = provider.kinds[row.kind]

    verdict = await delete(provider, kind, row.object_id, terms=Terms(items=False, resting=True), spend=spend)

    assert (row.outcome, row.unknown) == (verdict.outcome, verdict.unknown)
    assert (row.status, "req_1") == (verdict.status, verdict.request_id)
    assert row.retry_after == verdict.retry_after
    assert row.says in verdict.detail
    assert server.targets == [f"DELETE /v1{kind.path}/{row.object_id}"]
    assert provider.drain_tally()[row.kind][f"requests||delete|{row.status}"] == 1


async def test_a_recogniser_of_the_account_counts(server: Server, make: MakeProvider) -> None:
    server.say(answer(404, '{"message": "Assistant not found"}'))
    provider = make(server.url, not_found=("Assistant not found",))

    verdict = await delete(provider, provider.kinds["assistant"], "asst_1", spend=spend)

    assert verdict.outcome is Outcome.ALREADY_GONE

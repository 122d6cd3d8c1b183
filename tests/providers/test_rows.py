"""Every row of the table of outcomes over a real socket."""

import pytest

from lapse.policy.preconditions import Preconditions
from lapse.providers.outcomes import Outcome
from lapse.sweep.deletion.delete import delete
from lapse.sweep.deletion.precheck import Target
from providers.conftest import MakeProvider
from providers.dialects import API_VERSIONS, DIALECT_ROWS, idle
from providers.rows import ROWS, Row
from providers.scripted import Server, answer


async def spend(requests: int = 1) -> None:
    """Let every request pass."""
    assert requests == 1


@pytest.mark.parametrize("row", [*ROWS, *DIALECT_ROWS], ids=lambda row: f"{row.type}-{row.outcome}-{row.name}")
async def test_row(row: Row, server: Server, make: MakeProvider) -> None:
    said = answer(row.status, row.body, row.headers | {"X-Request-Id": "req_1"})
    server.respond = lambda asked: said if asked.method == "DELETE" else answer(200, idle())
    version = API_VERSIONS.get(row.type)
    provider = make(server.url, type=row.type, api_version=version)
    kind = provider.kinds[row.kind]

    verdict = await delete(
        Target(provider, kind, row.object_id, spend), preconditions=Preconditions(items=False, resting=True)
    )

    assert (row.outcome, row.unknown) == (verdict.outcome, verdict.unknown)
    assert (row.status, "req_1") == (verdict.status, verdict.request_id)
    assert row.retry_after == verdict.retry_after
    assert row.says in verdict.detail
    url = f"/v1{kind.path}/{row.object_id}" + (f"?api-version={version}" if version else "")
    assert server.targets == [*([f"GET {url}"] if row.type == "langgraph" else []), f"DELETE {url}"]
    assert provider.drain_counters()[row.kind][f"requests||delete|{row.status}"] == 1


async def test_a_recogniser_of_the_account_counts(server: Server, make: MakeProvider) -> None:
    server.say(answer(404, '{"message": "Assistant not found"}'))
    provider = make(server.url, not_found=("Assistant not found",))

    verdict = await delete(Target(provider, provider.kinds["assistant"], "asst_1", spend))

    assert verdict.outcome is Outcome.ALREADY_GONE

"""The guards around an account: is it the one whose ids these are, and does it answer? Each names its accident."""

from typing import Any

import pytest

from lapse.policy import Share
from world import DAY, World


@pytest.mark.parametrize(
    "change", [{"project": "proj_other"}, {"organization": "org-other"}, {"base_url": "http://127.0.0.1:9/v1"}]
)
async def test_another_account_under_the_same_name_halts_before_any_request(
    world: World, change: dict[str, Any]
) -> None:
    """A config that is edited to another project: there, every id of this one answers 404, as if it were gone."""
    world.seed(3)
    await world.sweep()
    ids = set(world.seed(3))
    sent = len(world.sandbox.requests())

    report = await world.sweep(means=world.means(**change))

    assert ("halted", sent) == (report.result, len(world.sandbox.requests()))
    assert ["*|identity_changed"] == list(world.halts())
    assert ids == world.sandbox.alive("thread")
    assert 1 == world.counters()["guard_trips|chat|identity_changed"]
    assert "halted" == (await world.sweep()).result


async def test_a_rotated_key_is_the_same_account(world: World) -> None:
    world.seed(3)
    await world.sweep()
    world.seed(3)

    assert 3 == (await world.sweep(means=world.means(key="sk-test-another-0123456789"))).outcomes["deleted"]


async def test_observing_writes_no_account_down(world: World) -> None:
    """Whoever looks first with a wrong file must not halt those who delete later with the right one."""
    world.seed(3)
    await world.sweep(means=world.means(project="proj_other"), enforce=False)

    assert 3 == (await world.sweep(enforce=True)).outcomes["deleted"]


async def test_a_shorter_max_age_waits_for_approval_where_ids_have_their_own_expiry(world: World) -> None:
    """The cap alone can make everything due, and no ttl reads the index that it reads."""
    world.seed(20, days=3, expires_in="300d")
    await world.sweep(max_age=365 * DAY, max_newly_due=Share(percent=20, at_least=10))
    assert [] == world.deletes()

    report = await world.sweep(max_age=DAY, digest="digest000002")

    assert ("halted", []) == (report.result, world.deletes())
    assert ["chat|cutoff_jumped"] == list(world.halts())

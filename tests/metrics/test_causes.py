"""What a registry keeps of a refused key and of sweeps that fail: the first time of a row, which a good one ends."""

from typing import Any

from lapse.ledger import failures
from lapse.metrics import causes
from lapse.metrics.snapshot import View
from support.world import World

FLOW = "lapse:{openai}:flow"


def throttle(world: World) -> dict[str, str]:
    return View(world.raw, "lapse").throttle("openai")


async def test_a_refused_key_is_named_with_the_first_time_of_its_row(world: World) -> None:
    world.seed(3)
    world.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 401}])
    await world.sweep()
    first = throttle(world)
    assert "auth" == first["breaker"]
    assert first["cause_detail"].startswith("401")
    assert first["cause_since"] == first["breaker_since"]
    identity = await world.context().provider.identity()
    assert first["cause_key"].endswith(f", fingerprint {identity}")

    world.raw.hset(FLOW, "breaker_until", 0)
    await world.sweep()
    assert first["cause_since"] == throttle(world)["cause_since"]
    now = View(world.raw, "lapse").now()
    assert "refuses the credentials since " in str(causes.breaker("openai", throttle(world), now))

    world.sandbox.faults([])
    world.raw.hset(FLOW, "breaker_until", 0)
    await world.sweep()
    assert not {"breaker", "cause_since", "cause_detail", "cause_key"} & set(throttle(world))


async def test_a_row_of_bad_sweeps_has_its_first_time_and_a_good_one_ends_it(world: World) -> None:
    ledger, at = world.context().ledger, world.rule.partition
    for i, result in enumerate(("unproven", "stopped", "breaker", "error")):
        assert [] == failures.look(world.raw, "lapse", [at])
        await failures.note(ledger, at, result, f"number {i}", 1000 + i)
    (row,) = failures.look(world.raw, "lapse", [at])
    assert (1000, 3, "error", "number 3") == (row.since, row.times, row.result, row.detail)
    await failures.note(ledger, at, "halted", "", 2000)
    assert failures.look(world.raw, "lapse", [at])

    await world.sweep()

    assert [] == failures.look(world.raw, "lapse", [at])


def test_hosts_are_gone_when_none_of_their_processes_is_there() -> None:
    now = 10_000_000
    workers: dict[str, dict[str, Any]] = {
        "a:1": {"at": now - 1_200_000},
        "a:2": {"at": now - 1000},
        "b:1": {"at": now - 1_200_000},
    }
    assert ["b was last seen 20m ago"] == causes.gone(workers, now)

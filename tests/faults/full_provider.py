"""``make test-faults``: a provider that fails now and then, and one that is away."""

import time

import pytest

from deployment import policy
from faults import provider
from faults.rig import Rig

pytestmark = pytest.mark.timeout(900)
SHARE = {"method": "DELETE", "probability": 0.06}
MIX = [
    {**SHARE, "effect": "error", "status": 500},
    {**SHARE, "effect": "error", "status": 502},
    {**SHARE, "effect": "error", "status": 503},
    {**SHARE, "effect": "reset"},
    {**SHARE, "effect": "close"},
]


def test_a_third_of_all_requests_fails(rig: Rig) -> None:
    history = provider.misbehaving(rig, MIX, ids=500, within=400)

    assert len(history.requests) <= 1.6 * 501


def test_an_outage_costs_a_probe_now_and_then_and_no_attempt(rig: Rig) -> None:
    rig.configure(policy())
    rig.beat()
    rig.worker(children=2)
    rig.gone(rig.seed(1), 30)
    rig.to_provider.cut()
    ids = rig.seed(200)
    time.sleep(60)
    assert rig.quarantined("chat") == set()
    rig.to_provider.mend()

    rig.gone(ids, 90)
    rig.judge(within=180)

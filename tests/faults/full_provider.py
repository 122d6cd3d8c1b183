"""``make test-faults``: a provider that fails now and then, is away, wants to be left alone, or knows us no more."""

import time
from collections import Counter
from itertools import pairwise

import pytest

from faults import provider
from faults.rig import IN_FLIGHT, RIG, Rig
from support.deployment import policy

pytestmark = pytest.mark.timeout(900)
SHARE = {"method": "DELETE", "probability": 0.069}  # of what the ones before left over: 30 % together
MIX = [
    {**SHARE, "effect": "error", "status": 500},
    {**SHARE, "effect": "error", "status": 502},
    {**SHARE, "effect": "error", "status": 503},
    {**SHARE, "effect": "reset"},
    {**SHARE, "effect": "hang"},
]
CHILDREN = 2
PROBE_EVERY = 10.0
LOST = {"method": "DELETE", "effect": "reset", "execute": True}


def test_a_third_of_all_requests_fails(rig: Rig) -> None:
    """Every id is asked for 1 / 0.7 times on average, and nothing but lapse's own attempts asks again."""
    provider.misbehaving(rig, MIX, ids=200, within=400)

    asked = Counter(one.id for one in rig.traffic.deletes())
    intents = Counter(one["id"] for one in rig.audited() if one["event"] == "intent")
    assert 1.25 * 201 < asked.total() <= 1.6 * 201
    assert asked <= intents


def test_an_outage_costs_a_probe_now_and_then_and_no_attempt(rig: Rig) -> None:
    """Twenty failures open the breaker; what was in flight then fails as well, and afterwards one probe in 10 s."""
    rig.configure(policy())
    rig.beat()
    rig.worker(children=CHILDREN)
    rig.gone(rig.seed(1), 30)
    rig.witness()
    ids = rig.seed(200)
    rig.to_provider.cut()
    time.sleep(60)
    assert rig.quarantined("chat") == set()
    asked = list(rig.to_provider.refused)
    rig.to_provider.mend()
    mended = time.monotonic()
    left = rig.alive()
    rig.wait_until(lambda: rig.alive() < left, 15, what="a deletion after the outage")

    rig.gone(ids, 90 - (time.monotonic() - mended))
    rig.judge(within=180)
    first = [at for at in asked if at < asked[0] + 5]
    probes = [at for at in asked if at >= asked[0] + 5]
    assert len(first) <= 20 + CHILDREN * IN_FLIGHT
    assert probes
    assert all(after - before > PROBE_EVERY - 0.5 for before, after in pairwise(probes))
    attempts = Counter(one["attempt"] for one in rig.audited() if one["event"] == "intent")
    assert max(attempts) <= 2
    assert attempts[2] <= 20 + CHILDREN * IN_FLIGHT


@pytest.mark.parametrize("seconds", [1, 30])
def test_a_retry_after_is_kept_by_every_process(rig: Rig, seconds: int) -> None:
    rig.configure(policy())
    rig.beat()
    rig.worker(children=CHILDREN)
    rig.worker(children=CHILDREN)
    rig.gone(rig.seed(1), 30)
    rig.witness()
    slow_down = {"effect": "error", "status": 429, "headers": {"Retry-After": str(seconds)}}
    rig.provider.faults([{"method": "DELETE", "first": 1, **slow_down}])
    ids = rig.seed(500)
    rig.gone(ids, seconds + 30)
    rig.judge(within=seconds + 60)

    (refused,) = [one for one in rig.traffic.deletes() if one.status == 429]
    assert refused.answered is not None
    within = [one for one in rig.traffic.deletes() if refused.answered < one.at < refused.answered + seconds]
    assert len(within) <= 2 * CHILDREN * IN_FLIGHT
    held_up = [line for one in rig.processes for line in one.events("sweep.finished", result="limited")]
    assert held_up or seconds == 1  # as long as that a process waits
    assert max((line["seconds"] for line in held_up), default=0) <= 1
    assert rig.traffic.deletes()[-1].at < refused.answered + seconds + 15


def test_refused_credentials_cost_three_requests_a_minute_and_no_attempt(rig: Rig) -> None:
    rig.configure(policy())
    rig.beat()
    rig.worker(children=CHILDREN)
    rig.worker(children=CHILDREN)
    rig.provider.faults([{"effect": "error", "status": 401}])
    ids = rig.seed(200)
    rig.wait_until(rig.traffic.exchanges, 30, what="the first request")
    time.sleep(20)
    asked = len(rig.traffic.exchanges())
    rig.provider.faults()
    rig.gone(ids, 90)
    rig.judge(within=150)

    assert asked <= 3
    assert {one["attempt"] for one in rig.audited() if one["event"] == "intent"} == {1}


def test_answers_that_are_lost_all_and_then_some_are_gone_already(rig: Rig) -> None:
    """The provider does all it is asked, and for a while nobody hears of it."""
    rig.configure(policy())
    rig.beat()
    rig.worker(children=CHILDREN)
    rig.gone(rig.seed(1), 30)
    rig.witness()
    rig.provider.faults([LOST])
    ids = rig.seed(300)
    rig.wait_until(lambda: len(rig.alive() & set(ids)) < len(ids) - 10, 30, what="deletions whose answer was lost")
    time.sleep(10)
    rig.provider.faults([{**LOST, "probability": 0.05}], seed=20)
    rig.gone(ids, 90)
    rig.judge(within=180)

    ended = Counter(one["outcome"] for one in rig.audited() if one["event"] == "settled")
    assert rig.quarantined("chat") == set()
    assert ended["deleted"] + ended["already_gone"] == 1 + len(ids)
    assert ended["already_gone"] >= 10


def test_conflicts_back_off_and_are_deleted_in_the_end(rig: Rig) -> None:
    conflict = {"method": "DELETE", "effect": "error", "status": 409, "first": 50}

    provider.misbehaving(rig, [conflict], ids=50, within=120)

    assert max(Counter(one.id for one in rig.traffic.deletes()).values()) > 1


def test_answers_slower_than_the_timeout_delete_nothing_twice(rig: Rig) -> None:
    slow = {"method": "DELETE", "latency": "60s", "probability": 0.1}

    provider.misbehaving(rig, [slow], ids=200, within=120)


def test_a_backlog_of_one_policy_keeps_no_other_waiting(rig: Rig) -> None:
    """Two policies, two processes: the 95th percentile from due until deleted is no more than twice what it was."""
    head = RIG.replace("concurrency = 8", "concurrency = 4")
    rig.configure(policy("chat"), policy("other"), head=head)
    rig.provider.faults([{"latency": "50ms"}])
    rig.beat()
    rig.worker(children=CHILDREN)
    rig.gone(rig.seed(1), 30)
    rig.witness()
    alone = provider.lags(rig, "other", seconds=20)
    backlog = rig.seed(4000)
    among = provider.lags(rig, "other", seconds=20)

    assert set(backlog) & rig.alive(), "the backlog was gone too early"
    assert among <= 2 * alone
    rig.gone(backlog, 120)
    rig.judge(within=300)

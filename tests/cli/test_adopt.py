"""adopt: what is listed and unregistered comes under a policy, after a look, and nothing that is not to."""

import json
import time
from typing import Any

import pytest

from lapse.registry.model import Partition
from support.commandline import DAY, Desk

IDLE = '[policies.idle]\nkind = "assistant"\nttl = "30d"\nanchor = "created_at"\n'
ENFORCED = IDLE + 'mode = "enforce"\nmax_newly_due = { percent = 20, at_least = 2 }\n'
ADOPT = ("adopt", "assistants", "--policy", "idle")
SURE = (*ADOPT, "--unstamped", "--confirm=openai")
AT = Partition("openai", "assistant", "idle")
SLOT = "lapse:{openai:assistant}:"


def make(desk: Desk, count: int = 1, *, days: float = 40, **given: Any) -> list[str]:
    """Create assistants at the provider that nobody registers."""
    return desk.sandbox.seed("assistant", count, created_at=int(time.time() - days * DAY), **given)


def adopted(desk: Desk) -> set[str]:
    return {id_ for index in ("fresh", "active") for id_ in map(str, desk.raw.zrange(f"{SLOT}idle:{index}", 0, -1))}


def ahead(desk: Desk) -> dict[str, str]:
    """Return a stamp as a tracked application writes it down before its request."""
    return desk.registry.say(desk.registry.protocol.stamp_ahead("idle", "openai", "assistant"))


def nonce(stamp: dict[str, str]) -> str:
    return stamp["lapse"].rpartition("/")[2]


def begun(desk: Desk, policies: str = IDLE) -> None:
    """Let a worker begin the registry: from then on it can stamp."""
    desk.configure(policies)
    desk.worker()


def test_a_name_forges_no_line(desk: Desk) -> None:
    begun(desk)
    (id_,) = make(desk, name="helper\nleft out: 9\tof \u2028others")
    told = desk.run(*ADOPT, "--unstamped")

    assert "  helper\\u000aleft out: 9\\u0009of \\u2028others\n" in told.err
    assert [id_] == [line.split()[0] for line in told.err.splitlines() if "left out: 9" in line]


def test_it_shows_what_it_would_track_and_asks(desk: Desk) -> None:
    begun(desk)
    (old,), (young,) = make(desk, name="helper"), make(desk, days=1)
    told = desk.run(*ADOPT, "--unstamped")
    assert (8, "") == (told.code, told.out)
    for said in (
        "2 assistants at openai to track under idle, 1 due now",
        old,
        young,
        "helper",
        "account: ",
        "2 of them without a stamp",
    ):
        assert said in told.err
    assert set() == adopted(desk)


def test_what_is_adopted_is_as_old_as_the_list_says(desk: Desk) -> None:
    begun(desk)
    ids = make(desk, 3)
    told = desk.good(*SURE, "--json").json
    assert (3, 3, {}) == (told["adopted"], told["due_now"], told["left_out"])
    assert set(ids) == adopted(desk)
    record = desk.registry.get("assistant", ids[0])
    assert record
    assert record.created_at
    assert 40 * DAY == pytest.approx(time.time() - record.created_at.timestamp(), abs=60)
    again = desk.good(*SURE, "--json").json
    assert (0, {"known": 3}) == (again["adopted"], again["left_out"])


def test_what_is_not_to_be_adopted_is_left_out_and_counted(desk: Desk) -> None:
    begun(desk)
    known, forgotten, settled, held, quarantined = make(desk, 5)
    desk.registry.register("assistant", known, "idle")
    desk.registry.forget("assistant", forgotten)
    desk.registry.hold("assistant", held, reason="case 7")
    desk.raw.zadd(f"{SLOT}tombstones", {settled: 1})
    desk.raw.zadd(f"{SLOT}idle:quarantine", {quarantined: 1})
    desk.raw.hset(f"{SLOT}aside", quarantined, json.dumps({"p": "idle", "s": "quarantined", "f": 1, "d": 1}))
    desk.good("quarantine", "drop", "assistants", quarantined, "--confirm=openai")
    stamp = desk.registry.stamp("idle")
    mine, copy = (make(desk, days=days, metadata=stamp)[0] for days in (50, 40))
    make(desk, metadata=desk.registry.stamp("other"))
    make(desk, metadata={"lapse": "elsewhere/epoch/idle/nonce"})
    make(desk, metadata={"lapse": "lapse/before/idle/nonce"})
    unanswered, answered, taken = ahead(desk), ahead(desk), ahead(desk)
    (lost,), (told_of,) = make(desk, metadata=unanswered), make(desk, metadata=answered)
    desk.registry.say(desk.registry.protocol.stamp_belongs(nonce(answered), "assistant", told_of, "openai"))
    desk.registry.say(desk.registry.protocol.stamp_belongs(nonce(taken), "assistant", "asst_deleted", "openai"))
    make(desk, metadata=taken)  # a copy of what is gone
    bare = make(desk)
    told = desk.good(*ADOPT, "--confirm=openai", "--json")
    left = {
        "known": 1, "forgotten": 2, "settled": 1, "held": 1, "foreign": 4, "other_policy": 1, "unstamped": 1
    }  # fmt: skip
    assert (3, left) == (told.json["adopted"], told.json["left_out"])
    assert {known, mine, lost, told_of} == adopted(desk)
    assert "left out: 2 forgotten, or dropped from quarantine" in told.err
    assert 1 == desk.good(*SURE, "--json").json["adopted"]
    assert {known, mine, lost, told_of, *bare} == adopted(desk)
    assert copy not in adopted(desk)


def test_more_than_may_be_newly_due_halts_before_one_of_them_is_deleted(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(20, kind="assistant", policy="idle", days=1)
    desk.worker()
    assert "base_at" in desk.rules(AT)
    old = set(make(desk, 10))
    told = desk.good(*SURE, "--json")
    plan = told.json["plan"]
    assert f"lapse approve {plan} --confirm=PROVIDER" in told.err
    (halt,) = desk.halts("assistant").values()
    assert (plan, "10 of 30 ids would become due at once: 10 of them are adopted") == (halt["plan"], halt["detail"])
    desk.worker(sweeps=2)
    assert old <= desk.sandbox.alive("assistant")
    desk.good("approve", plan, "--confirm=openai")
    desk.worker()
    assert not old & desk.sandbox.alive("assistant")


def test_the_next_sweep_counts_them_as_newly_due_too(desk: Desk) -> None:
    """Ids are adopted while the policy observes: nothing is to halt, and enforcing it must not delete them unasked."""
    desk.configure(ENFORCED)
    desk.seed(20, kind="assistant", policy="idle", days=1)
    desk.worker()
    desk.configure(ENFORCED.replace("enforce", "observe"))
    desk.worker()
    old = set(make(desk, 10))
    assert desk.good(*SURE, "--json").json["plan"] is None
    desk.configure(
        ENFORCED.replace("at_least = 2", "at_least = 3")
    )  # the rules of before do not come back by themselves
    desk.worker()
    assert old <= desk.sandbox.alive("assistant")
    (halt,) = desk.halts("assistant").values()
    assert halt["detail"].startswith("10 of 30 ids would become due at once")


def test_a_few_are_deleted_as_due(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(20, kind="assistant", policy="idle", days=1)
    desk.worker()
    old = set(make(desk, 2))
    desk.good(*SURE)
    desk.worker()
    assert not old & desk.sandbox.alive("assistant")


def test_a_list_that_is_not_complete_adopts_nothing(desk: Desk) -> None:
    begun(desk)
    make(desk, 2)
    desk.sandbox.faults([{"method": "GET", "kind": "assistant", "effect": "error", "status": 500}])
    assert 4 == desk.run(*SURE).code
    assert set() == adopted(desk)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("threads", "--policy", "chat"), "openai cannot list threads: lapse import takes them from a table"),
        (("asistants", "--policy", "idle"), "did you mean 'assistant'?"),
        (("assistants", "--policy", "chat"), "there is openai/assistant/idle, openai/thread/chat"),
        (("assistants", "--policy", "idle", "--provider", "azure"), "there is openai/assistant/idle"),
    ],
    ids=["a kind without a list", "no kind", "another kind's policy", "no provider"],
)
def test_what_cannot_be_adopted_is_refused_with_what_can(desk: Desk, asked: tuple[str, ...], says: str) -> None:
    desk.configure(IDLE + '[policies.chat]\nkind = "thread"\nttl = "7d"\nanchor = "created_at"\n')
    told = desk.run("adopt", *asked)
    assert (2, True) == (told.code, says in told.err), told.err


def test_the_list_of_another_account_is_not_adopted(desk: Desk) -> None:
    begun(desk)
    make(desk)
    desk.raw.hset(f"{SLOT}marks", "place", "https://elsewhere.example/v1")
    told = desk.run(*SURE)
    assert (6, "at another account than this list" in told.err, set()) == (told.code, True, adopted(desk)), told


def test_a_policy_that_is_halted_for_what_is_newly_due_takes_no_more_of_it(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.worker()
    make(desk, 10)
    desk.good(*SURE)
    (halt,) = desk.halts("assistant").values()
    late = make(desk)
    told = desk.run(*SURE)
    assert (6, "halted for what is newly due already" in told.err) == (told.code, True), told
    assert not set(late) & adopted(desk)
    assert [halt] == list(desk.halts("assistant").values())

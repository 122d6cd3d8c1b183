"""Every state that waits for somebody says in ``status`` what to type next, to end it or to look at it.

The states are those of the code: a new one without a line here fails.
"""

import json
import re
import time
from collections.abc import Callable

import click
import pytest

from lapse.cli.inspect.status import STYLES
from lapse.cli.main import lapse
from lapse.cli.operate.remedies import REMEDIES
from lapse.ledger.failures import BADLY, OFTEN
from lapse.ledger.reasons import HaltReason
from lapse.metrics.causes import CAUSES
from lapse.metrics.snapshot import UNMANAGED
from lapse.registry import keys
from support.commandline import CHAT, ENFORCED, HEAD, Desk

HOUR = 3_600_000
SLOT = "lapse:{openai:thread}:"
RULES = SLOT + "chat:rules"
BY_ITSELF = {"enforcing", "limited"}
"""States in which everything goes on without anybody."""


def now() -> int:
    return round(time.time() * 1000)


def commands(text: str, after: str) -> list[str]:
    """Return the commands to copy that stand below a line, up to the next line that says something."""
    lines = text.splitlines()
    (at,) = [number for number, line in enumerate(lines) if re.search(after, line)]
    found = []
    for line in lines[at + 1 :]:
        if line.startswith("  "):
            found += [line.strip()] if line.strip().startswith(("lapse ", "celery ")) else []
        else:
            break
    return found


def exists(command: str) -> None:
    """Check that a printed command is one: its name, its options, its arguments."""
    words = command.split(" --reason ", maxsplit=1)[0].split()
    if words[0] == "celery":
        return
    group: click.Command = lapse
    context = click.Context(lapse, info_name="lapse")
    rest = words[1:]
    while isinstance(group, click.Group) and rest and (inner := group.get_command(context, rest[0])):
        group, rest = inner, rest[1:]
    group.make_context(group.name, rest, resilient_parsing=True)
    assert not isinstance(group, click.Group), command


@pytest.mark.parametrize("reason", list(HaltReason))
def test_every_halt_says_how_to_look_and_what_to_do(desk: Desk, reason: HaltReason) -> None:
    desk.configure(ENFORCED)
    desk.worker()
    halt = {"since": now(), "detail": "the detail", **({"plan": "3f2a91c0d4e5"} if reason == "cutoff_jumped" else {})}
    desk.raw.hset(SLOT + "halts", f"chat|{reason}", json.dumps(halt))
    shown = desk.good("status").out
    found = commands(shown, f": {reason}: the detail")
    assert REMEDIES[reason].check.split()[1] in found[0]
    for command in found:
        exists(command)


def test_every_reason_of_a_halt_has_its_answer() -> None:
    assert set(HaltReason) == set(REMEDIES)


def test_every_word_for_a_policys_state_has_its_line() -> None:
    assert BY_ITSELF | {"halted"} | {state for state, *_ in STATES} >= set(STYLES)


def observing(desk: Desk) -> None:
    desk.seed(1)


def paused(desk: Desk) -> None:
    desk.good("pause", "openai/threads", "--reason", "looking")


def unmanaged(desk: Desk) -> None:
    desk.seed(1, policy="other")


def quarantined(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.seed(1)
    desk.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 400}])
    desk.worker()


def held_elsewhere(desk: Desk) -> None:
    desk.registry.hold("thread", "thread_1", provider="opanai", reason="a case")


def retry_after(desk: Desk) -> None:
    desk.raw.hset("lapse:{openai}:flow", "blocked_until", now() + HOUR)


def shut(desk: Desk) -> None:
    desk.worker()
    desk.raw.hset(SLOT + "marks", mapping={"shut": "refused", "shut_detail": "403", "shut_until": now() + HOUR})


def failing(desk: Desk) -> None:
    desk.worker()
    row: dict[str, str | int] = {
        "failing_since": now(),
        "failing_times": OFTEN,
        "failing_result": min(BADLY),
        "failing_detail": "why",
    }
    for name, value in row.items():
        desk.raw.hset(RULES, name, value)


def gone(desk: Desk) -> None:
    desk.raw.hset("lapse:workers", "away:1", json.dumps({"at": now() - HOUR // 2, "hash": "x", "version": "0"}))


def indexing(desk: Desk) -> None:
    desk.worker()
    desk.registry.register("thread", "thread_1", "chat", created_at=time.time() - 86_400 * 30)
    desk.raw.hset(RULES, "creations", "indexing")


def subjects(desk: Desk) -> None:
    desk.worker()
    desk.seed(1, subject="user:42")
    desk.raw.hdel(SLOT + keys.SUBJECT_INDEX, "whole")


def full(desk: Desk) -> None:
    desk.configure(ENFORCED, head=HEAD.replace("[audit]", "[audit]\nmax_pending = 1000"))
    with desk.raw.pipeline(transaction=False) as pipe:
        for _ in range(1000):
            pipe.xadd(SLOT + "audit", {"e": "{}"})
        pipe.execute()


def erasing(desk: Desk) -> None:
    desk.worker()
    desk.seed(1, subject="user:42")
    options = ("--request-id", "0190a5c2-7d0e-7b1c-9f2a-3c5d8e7f6a10", "--no-wait", "--confirm=openai")
    desk.run("erase", "--subject", "user:42", *options)


def edited(desk: Desk) -> None:
    desk.configure(ENFORCED)
    desk.worker()
    desk.configure(ENFORCED.replace("7d", "8d"))


def invalid(desk: Desk) -> None:
    desk.worker()
    about = json.loads(desk.raw.hget("lapse:published", "config"))  # type: ignore[arg-type]
    desk.raw.hset("lapse:published", "config", json.dumps(about | {"ok": False}))


def silent(desk: Desk) -> None:
    desk.raw.hset("lapse:published", "beat", now() - 10 * HOUR)


STATES: tuple[tuple[str, Callable[[Desk], None], str, str], ...] = (
    ("observing", observing, "thread/chat: observing: would send", "lapse plan threads --policy chat"),
    ("paused", paused, "openai/thread was paused", "lapse resume openai/thread"),
    (UNMANAGED, unmanaged, "a policy that the file does not have", "lapse ls threads --policy other"),
    ("quarantined", quarantined, "in quarantine", "lapse quarantine list threads"),
    ("held elsewhere", held_elsewhere, "no provider opanai", "lapse ls threads --provider opanai --state held"),
    ("Retry-After", retry_after, "its Retry-After ends", "lapse resume --provider openai"),
    ("shut", shut, "all ids are answered so", "lapse resume --provider openai"),
    ("failing", failing, "sweeps in a row ended badly", "lapse doctor"),
    ("workers gone", gone, "away was last seen", "lapse doctor"),
    ("indexing", indexing, "indexed by their creation", "lapse status --watch"),
    ("subjects", subjects, "older registrations are indexed", "lapse status --watch"),
    ("audit full", full, "1,000 audit records wait", "lapse doctor"),
    ("erasures", erasing, "requests to erase a subject", "lapse erase list"),
    ("edited", edited, "openai/thread/chat: workers have not taken", "lapse doctor"),
    ("invalid", invalid, "is invalid by now", "lapse check-config"),
    ("beat silent", silent, "beat: last tick", "lapse doctor"),
    ("no worker", lambda _desk: None, "workers: never seen", "celery -A lapse.app worker --beat"),
)


@pytest.mark.parametrize(("come_about", "line", "command"), [row[1:] for row in STATES], ids=[row[0] for row in STATES])
def test_every_state_says_what_to_type_next(
    desk: Desk, come_about: Callable[[Desk], None], line: str, command: str
) -> None:
    desk.configure(CHAT)
    come_about(desk)
    found = commands(desk.good("status").out, line)
    assert command in found
    for one in found:
        exists(one)


@pytest.mark.parametrize("why", sorted(CAUSES))
def test_every_breaker_says_what_to_type_next(desk: Desk, why: str) -> None:
    desk.raw.hset(
        "lapse:{openai}:flow", mapping={"breaker": why, "breaker_since": now(), "breaker_until": now() + HOUR}
    )
    assert ['lapse resume --reason "..."'] == commands(desk.good("status").out, r"breaker open")


def test_what_is_printed_names_the_account_where_there_are_several(desk: Desk) -> None:
    other = '[providers.staging]\ntype = "openai"\nbase_url = "https://staging.example/v1"\napi_key_env = "KEY"\n'
    desk.configure(
        CHAT.replace("[policies.chat]", '[policies.chat]\nprovider = "openai"'), head=HEAD + other + 'rate = "60/m"\n'
    )
    desk.seed(1)
    desk.seed(1, policy="other")
    shown = desk.good("status").out
    assert ["lapse plan threads --provider openai --policy chat"] == commands(shown, "thread/chat: observing")
    (command,) = commands(shown, "thread/other: ")
    assert "thread" in desk.good(*command.split()[1:]).out

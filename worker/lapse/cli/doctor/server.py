"""The registry's Redis: may it hold the only record, does its clock run true, may our user do more than it should?"""

import asyncio
import time
from collections.abc import Iterator

from lapse.guards.integrity import preflight, replication
from lapse.guards.integrity.preflight import Finding, Level
from lapse.policy import Config
from lapse.policy.tables import AUTO
from lapse.registry.aio import Carrier

APART = 0.25  # seconds between two looks at the clock
BEHIND = 2.0  # seconds that this host's clock may differ without a word
UNTRUE = 0.1  # seconds that the server's clock may gain or lose between the two looks
ADMIN = (("CONFIG", "GET", "maxmemory"), ("SLOWLOG", "LEN"), ("CLIENT", "LIST", "TYPE", "pubsub"))
"""Harmless commands that only an administrator needs: a user that may run them may run their siblings."""
RIGHTS = "give lapse a user of its own: deploy/redis/lapse.conf has the lines"


async def server(carrier: Carrier, settings: Config) -> list[Finding]:
    """Return what is to be said of the server; one finding if it does not answer."""
    facts = await preflight.look(carrier)
    if facts.error is not None:
        return [Finding("server", Level.FATAL, facts.error, "start Redis, or correct the registry URL")]
    number, said = (
        (await replication.published(carrier, settings.registry.namespace)).number,
        settings.registry.replicas,
    )
    number = number if said == AUTO else int(said)
    had = await replication.in_step(carrier, number) if number else None
    replicas = replication.judge(number, said, facts.info, had)
    return [*preflight.judge(facts, settings), replicas, *await _clock(carrier), await _rights(carrier)]


async def _clock(carrier: Carrier) -> list[Finding]:
    """Compare the server's clock with this host's, and its pace with time that nobody can set."""
    first, second = await _moment(carrier), None
    await asyncio.sleep(APART)
    second = await _moment(carrier)
    ahead = first[0] - time.time() + (time.monotonic() - first[1])
    drift = (second[0] - first[0]) - (second[1] - first[1])
    error = first[2] + second[2]
    return [_offset(ahead), _pace(drift, error)]


def _offset(ahead: float) -> Finding:
    detail = f"this host's clock is {abs(ahead):.3f} s {'behind' if ahead > 0 else 'ahead of'} the registry's"
    if abs(ahead) <= BEHIND:
        return Finding("clock", Level.OK, detail)
    said = f"{detail}; what is due goes by the registry's, and created_at= of an application 60 s ahead is refused"
    return Finding("clock", Level.WARNING, said, "let both follow the same time servers (NTP)")


def _pace(drift: float, error: float) -> Finding:
    if abs(drift) <= UNTRUE + error:
        return Finding("clock_pace", Level.OK, "the registry's clock keeps pace with the monotonic clock")
    detail = f"the registry's clock moved {drift:+.3f} s against the monotonic clock within {APART} s"
    return Finding(
        "clock_pace", Level.WARNING, detail, "look at the time service of the Redis host: it is setting the clock"
    )


async def _moment(carrier: Carrier) -> tuple[float, float, float]:
    """Return registry time, monotonic time, and half of what the way to and fro took: by how much they may be off."""
    began = time.monotonic()
    ((seconds, micros),) = await carrier.run([("TIME",)])
    took = time.monotonic() - began
    return int(seconds) + int(micros) / 1e6, began + took / 2, took / 2


async def _rights(carrier: Carrier) -> Finding:
    """Say which user this is, and what it may do that lapse never does."""
    (name,) = await carrier.run([("ACL", "WHOAMI")])
    (rights,) = await carrier.run([("ACL", "GETUSER", name.decode())]) if isinstance(name, bytes) else (name,)
    user = f"user {name.decode()}" if isinstance(name, bytes) else "a user that may not ask its name"
    if isinstance(rights, list):
        fields = {_text(key): value for key, value in zip(rights[::2], rights[1::2], strict=False)}
        excess = list(_excess(fields))
        excess.append("read and change users (ACL)")
        return Finding("acl", Level.WARNING, f"{user} may {', '.join(excess)}", RIGHTS)
    may = [command[0] for command in ADMIN if not isinstance((await carrier.run([command]))[0], Exception)]
    if may:
        return Finding("acl", Level.WARNING, f"{user} may run {', '.join(may)}, which lapse does not need", RIGHTS)
    return Finding("acl", Level.OK, f"{user}, without an administrator's rights")


def _excess(fields: dict[str, object]) -> Iterator[str]:
    flags = [_text(flag) for flag in _list(fields.get("flags"))]
    commands, patterns = _text(fields.get("commands", "")), fields.get("keys", "")
    if "nopass" in flags:
        yield "log in without a password"
    if "+@all" in commands.split() or "allcommands" in flags:
        yield "run every command, FLUSHALL too"
    if "*" in {_text(one) for one in _list(patterns)} or "~*" in _text(patterns).split() or "allkeys" in flags:
        yield "touch every key"


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple | set) else []


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

"""Checks of the registry's Redis when a worker, beat or exporter starts: may it hold the only record?

What a check needs is read from INFO; CONFIG is asked where INFO does not say, and is often denied. What
cannot be read is ``unknown``: a warning, never a refusal.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import structlog

from lapse.errors import ConfigError, LapseError, RegistryUnavailable
from lapse.policy import Config
from lapse.registry.aio import Carrier
from lapse.registry.pools.credentials.endpoint import RedisEndpoint

OLDEST = (6, 2)
REPLICAS = "connected_slaves"
"""The field of INFO that says how many replicas a server has; of a cluster, the node with the fewest."""
ANSWERING = "lapse_answering_replicas"
"""Added to INFO: how many of them have said within ``SILENT`` seconds how far they are."""
SILENT = 10
"""Seconds, as Redis has them for ``min-replicas-max-lag``: a replica says it each second."""
TIMEOUT = 5.0
_REPLICA = re.compile(r"slave\d+")

log = structlog.get_logger("lapse")


class Level(StrEnum):
    """How much a finding matters: ``fatal`` refuses to start."""

    OK = "ok"
    WARNING = "warning"
    FATAL = "fatal"
    UNKNOWN = "unknown"


_WORSE = (Level.OK, Level.UNKNOWN, Level.WARNING, Level.FATAL)


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result.

    Attributes:
        name: The check: ``server``, ``version``, ``cluster``, ``eviction`` or ``persistence``.
        level: What follows from it.
        detail: What was found.
        fix: What to do about it; empty where there is nothing to do.

    """

    name: str
    level: Level
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the server says of itself.

    Attributes:
        info: The fields of INFO; empty if they could not be read.
        save: The ``save`` setting; None if CONFIG is denied.
        error: Why the server did not answer at all; None if it did.
        clustered: Whether its URL is that of a cluster.
        where: Which node of a cluster this is of.
        others: Of the other nodes of it.

    """

    info: Mapping[str, str]
    save: str | None = None
    error: str | None = None
    clustered: bool = False
    where: str = ""
    others: tuple["Facts", ...] = ()

    @property
    def nodes(self) -> tuple["Facts", ...]:
        """Those of each node."""
        return (self, *self.others)


async def look(carrier: Carrier) -> Facts:
    """Read the facts of the server, or of each node of a cluster; never raises for what is away or denies commands."""
    try:
        said = await carrier.everywhere(("INFO",), ("CONFIG", "GET", "save"))
    except RegistryUnavailable as error:
        return Facts({}, error=str(error))
    found = [_facts(where, replies, clustered=carrier.clustered) for where, replies in said.items()]
    first, *others = sorted(found, key=lambda one: one.error is not None)
    if first.error is None and all(REPLICAS in one.info for one in found if one.error is None):
        known = [one.info for one in found if one.error is None]
        fewest = {name: min((info[name] for info in known), key=int) for name in (REPLICAS, ANSWERING)}
        first = replace(first, info={**first.info, **fewest})
    return replace(first, others=tuple(others))


def _facts(where: str, replies: Sequence[Any] | LapseError, *, clustered: bool) -> Facts:
    if isinstance(replies, LapseError):
        return Facts({}, error=str(replies), clustered=clustered, where=where)
    info, setting = replies
    save = bytes(setting[1]).decode() if isinstance(setting, list) and len(setting) > 1 else None
    return Facts(_fields(info) if isinstance(info, bytes) else {}, save, clustered=clustered, where=where)


def _fields(info: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    fields = {name: value for name, colon, value in pairs if colon}
    if REPLICAS in fields:
        silent = [value for name, value in fields.items() if _REPLICA.fullmatch(name) and _lag(value) >= SILENT]
        fields[ANSWERING] = str(int(fields[REPLICAS]) - len(silent))
    return fields


def _lag(replica: str) -> int:
    return int(dict(part.partition("=")[::2] for part in replica.split(",")).get("lag", "0"))


def start(url: str | RedisEndpoint, config: Config) -> None:
    """Check the registry once when a process starts, and log what is not right.

    Raises:
        ConfigError: this server must not hold the registry; the text says why and what to do.

    """
    findings = judge(asyncio.run(_look_once(url)), config)
    for finding in findings:
        if finding.level is not Level.OK:
            log.warning(
                "preflight.finding",
                check=finding.name,
                severity=str(finding.level),
                detail=finding.detail,
                fix=finding.fix,
            )
    if reason := refusal(findings):
        raise ConfigError(reason)


def start_broker(url: str | RedisEndpoint) -> None:
    """Check Celery's Redis once when a process starts; one that is away is waited for later.

    Raises:
        ConfigError: it cannot be a broker; the text says why and what to do.

    """
    facts = asyncio.run(_look_once(url))
    if facts.error is None and (reason := refusal(_alone(facts.info, "Name another server: kombu knows no cluster"))):
        raise ConfigError(reason.replace("as the registry", "as Celery's broker"))


async def _look_once(url: str | RedisEndpoint) -> Facts:
    carrier = Carrier(url, TIMEOUT)
    try:
        return await look(carrier)
    finally:
        await carrier.aclose()


def judge(facts: Facts, config: Config) -> tuple[Finding, ...]:
    """Return one finding a check: of a cluster that of the node with which it is worst."""
    enforcing = any(rule.enforce for rule in config.rules)
    worst: dict[str, Finding] = {}
    for node in facts.nodes:
        for one in _judge(node, enforcing=enforcing, allow_volatile=config.registry.allow_volatile):
            if one.name not in worst or _WORSE.index(one.level) > _WORSE.index(worst[one.name].level):
                bad = facts.others and one.level is not Level.OK
                worst[one.name] = replace(one, detail=f"{node.where}: {one.detail}") if bad else one
    return tuple(worst.values())


def _judge(facts: Facts, *, enforcing: bool, allow_volatile: bool) -> tuple[Finding, ...]:
    if facts.error is not None:
        detail = f"no answer from the registry: {facts.error}"
        return (Finding("server", Level.UNKNOWN, detail, "start Redis, or correct the registry URL"),)
    return (
        _version(facts.info),
        *(() if facts.clustered else _alone(facts.info)),
        _eviction(facts.info),
        _persistence(facts, enforcing=enforcing, allow_volatile=allow_volatile),
    )


def refusal(findings: Iterable[Finding]) -> str | None:
    """Return why a process must not start, with the fixes; None if it may."""
    fatal = [finding for finding in findings if finding.level is Level.FATAL]
    if not fatal:
        return None
    return "\n".join(["refusing to use this Redis as the registry:", *(f"  {f.detail}. {f.fix}" for f in fatal)])


def _version(info: Mapping[str, str]) -> Finding:
    text = info.get("redis_version", "")
    numbers = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    if len(numbers) < len(OLDEST):
        return Finding("version", Level.UNKNOWN, "the server does not say its version", "use Redis 6.2 or newer")
    if numbers < OLDEST:
        return Finding("version", Level.FATAL, f"the server is Redis {text}", "Use Redis 6.2 or newer, or Valkey")
    return Finding("version", Level.OK, f"the server is compatible with Redis {text}")


def _alone(info: Mapping[str, str], fix: str = "Use redis+cluster:// in the registry's URL") -> tuple[Finding, ...]:
    if info.get("cluster_enabled") != "1":
        return ()
    detail = "this server is a cluster: what belongs together would be spread over many"
    return (Finding("cluster", Level.FATAL, detail, fix),)


def _eviction(info: Mapping[str, str]) -> Finding:
    policy = info.get("maxmemory_policy", "")
    if not policy:
        return Finding(
            "eviction", Level.UNKNOWN, "the server does not say its maxmemory-policy", "set it to noeviction"
        )
    if policy.startswith("allkeys-"):
        return Finding(
            "eviction",
            Level.FATAL,
            f"maxmemory-policy is {policy}: it may evict registered ids, which would then never be deleted",
            "Set maxmemory-policy to noeviction, or use another server",
        )
    if policy.startswith("volatile-"):
        detail = f"maxmemory-policy is {policy}: registered ids are safe, locks and queues may be evicted"
        return Finding("eviction", Level.WARNING, detail, "noeviction is better")
    return Finding("eviction", Level.OK, f"maxmemory-policy is {policy}")


def _persistence(facts: Facts, *, enforcing: bool, allow_volatile: bool) -> Finding:
    if facts.info.get("aof_enabled") == "1":
        return Finding("persistence", Level.OK, "append-only file")
    advice = "set appendonly yes"
    if facts.save or (facts.save is None and _snapshots(facts.info)):
        detail = "snapshots only: a crash loses what was registered since the last one"
        return Finding("persistence", Level.WARNING, detail, advice)
    if facts.save is None:
        return Finding("persistence", Level.UNKNOWN, "the server does not say whether it persists", advice)
    detail = "the server persists nothing: a restart forgets every registered id"
    if allow_volatile or not enforcing:
        return Finding("persistence", Level.WARNING, detail, advice)
    advice = "Set appendonly yes, or allow_volatile = true in [registry] if that is acceptable"
    return Finding("persistence", Level.FATAL, detail, advice)


def _snapshots(info: Mapping[str, str]) -> bool:
    # -1: no snapshot since the server started. A managed server may still take them by other means.
    return info.get("rdb_last_bgsave_time_sec", "-1") != "-1"

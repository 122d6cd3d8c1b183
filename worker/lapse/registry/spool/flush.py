"""Send what waits in a spool to the registry that it is for: in order, by one process at a time."""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import redis

from lapse.errors import RegistryRefused, RegistryUnavailable, SpoolUnusable, TooManyUses, Unreplicated
from lapse.registry import codec, keys, notices
from lapse.registry.connection import refused, translated
from lapse.registry.pools.replicas import Replicas
from lapse.registry.scripts import packed
from lapse.registry.spool import identity, statements
from lapse.registry.spool.identity import Identity
from lapse.registry.spool.place import prepare
from lapse.registry.spool.statements import KEPT_FOR, NAMING, Origin
from lapse.registry.spool.store import SpoolStore, Waiting

Exchange = Callable[[list[bytes]], list[Any]]
"""Sends packed commands and returns a reply each, an error reply in its place; raises RegistryUnavailable."""

BATCH = 500
TOGETHER = 1_000_000
"""Characters of calls that are sent together: Redis needs 5 s for 500 registrations with 1,000 uses each."""
WITHIN = 1.0
"""Seconds for which a flush waits until replicas have what must not be lost."""
_PASSING = (
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ConnectionError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.AskError,  # MOVED too
    redis.exceptions.MasterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.NoScriptError,
    redis.exceptions.NoPermissionError,
)
_PASSING_TEXTS = ("MISCONF", "NOREPLICAS", "BUSY", "ACL failure in script", "The user executing the script can't")
"""What no class of redis-py stands for; the last two are said to a user without the rights, in Redis 7 and 6.2."""


class Flushed(NamedTuple):
    """What became of statements: how many were sent, refused, and too old to be sent."""

    sent: int = 0
    refused: int = 0
    old: int = 0


class Flusher:
    """Flushes one spool into one registry.

    Args:
        store: The spool.
        exchange: What reaches the registry.
        origin: Which registry it is; its epoch is asked for.

    """

    def __init__(self, store: SpoolStore, exchange: Exchange, origin: Origin) -> None:
        self._store = store
        self._exchange = exchange
        self._origin = origin
        self._holder = f"{os.getpid()}/{secrets.token_hex(8)}"

    def flush(self) -> Flushed | None:
        """Send all that waits; return None if another process does that now.

        Raises:
            RegistryUnavailable: Redis went away again; what was not acknowledged waits still. ``Unreplicated``: all
                was sent, and too few replicas have holds, their ends or what was forgotten: these wait still.
            SpoolUnusable: the file cannot be read or written.

        """
        known = identity.read(self._exchange(identity.asking(self._origin.namespace)))
        origin = self._origin._replace(epoch=known.epoch)
        if not self._store.batch(origin, 1):
            return Flushed()
        with self._leased() as mine:
            if not mine:
                return None
            total, lacking = Flushed(), 0
            for batch in self._batches(origin):
                sent, unsafe = self._send(batch, known)
                total = Flushed(*map(sum, zip(total, sent, strict=True)))
                lacking += unsafe
                if not self._store.lease(self._holder, codec.now_millis()):
                    break
            if lacking:
                raise Unreplicated(
                    f"{lacking} of hold, unhold and forget are written, and fewer than {known.replicas} replicas have"
                    " them: they wait still, and are sent again"
                )
            return total

    def _batches(self, origin: Origin) -> Iterator[list[Waiting]]:
        """Yield what waits, in order, as much together as Redis does in time however many uses it names."""
        last = 0
        while found := self._store.batch(origin, BATCH, last):
            last, batch = found[-1].seq, list[Waiting]()
            size = 0
            for one in found:
                size += len(one.statement.calls)
                if batch and size > TOGETHER:
                    yield batch
                    batch, size = [], len(one.statement.calls)
                batch.append(one)
            yield batch

    @contextmanager
    def _leased(self) -> Iterator[bool]:
        mine = self._store.lease(self._holder, codec.now_millis())
        try:
            yield mine
        finally:
            if mine:
                self._store.release(self._holder)

    def _send(self, batch: list[Waiting], known: Identity) -> tuple[Flushed, int]:
        """Send statements; return what became of them, and how many of them wait for replicas still."""
        now = codec.now_millis() + known.ahead
        said = {one.seq: one.statement.said(known.ahead, now) for one in batch}
        old = [one for one in batch if now - said[one.seq] > KEPT_FOR]
        if old:
            self._put_aside(old)
        fresh = [one for one in batch if now - said[one.seq] <= KEPT_FOR]
        refused = self._refused(fresh, said) if fresh else []
        put_aside = dict(refused)
        lasting = [one for one in fresh if one.statement.lasting and one.seq not in put_aside]
        unsafe = set() if self._replicated(lasting, known.replicas) else {one.seq for one in lasting}
        self._store.done([one.seq for one in batch if one.seq not in unsafe], refused)
        return Flushed(len(fresh) - len(refused) - len(unsafe), len(refused), len(old)), len(unsafe)

    def _replicated(self, sent: list[Waiting], number: int) -> bool:
        """Return True if that many replicas have what was sent."""
        replicas = Replicas(number, WITHIN)
        for prefix in sorted({one.statement.prefix for one in sent}) if number else ():
            try:
                # The slot's own server is asked, by a key of it.
                replicas.demand(self._exchange([packed("EXISTS", prefix + keys.HOLDS), *replicas.asking])[1:])
            except Unreplicated:
                return False
        return True

    def _refused(self, batch: list[Waiting], said: dict[int, int]) -> list[tuple[int, str]]:
        """Send statements; return the number of each that Redis refused, and why."""
        calls = [(one, one.statement.sent(said[one.seq])) for one in batch]
        scripts = {call.script.name: call for _, sent in calls for call in sent}
        slots = {f"{c.args[0]}/{c.args[1]}" for _, sent in calls for c in sent if c.script.name in NAMING}
        before = [call.load() for call in scripts.values()]
        if slots:
            before.append(packed("SADD", keys.slots(self._origin.namespace), *sorted(slots)))
        replies = self._exchange([*before, *(call.command() for _, sent in calls for call in sent)])[len(before) :]
        refused, unsaid = [], []
        for one, sent in calls:
            mine, replies = replies[: len(sent)], replies[len(sent) :]
            errors = [reply for reply in mine if isinstance(reply, redis.RedisError)]
            if any(map(_passing, errors)):
                raise RegistryUnavailable(f"the registry takes nothing for now: {errors[0]}")
            if errors:
                why = RegistryRefused(f"the registry refused: {errors[0]}")
                notices.lost(why, [one.statement.given])
                refused.append((one.seq, str(errors[0])))
                unsaid += statements.unsaid(sent) if isinstance(translated(errors[0]), TooManyUses) else []
        if unsaid:
            self._exchange([unsaid[0].load(), *(call.command() for call in unsaid)])
        return refused

    def _put_aside(self, old: list[Waiting]) -> None:
        """Write what is too old into a file: who said it may have said otherwise since, and nobody would know."""
        path = self._store.path.with_name(f"{self._store.path.name}.old")
        prepare(path)
        lines = (json.dumps({"at": one.statement.at / 1000, **one.statement.given}) + "\n" for one in old)
        try:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())  # before they leave the spool
        except OSError as why:
            raise SpoolUnusable(f"{path} cannot be written, so what is too old waits still: {why}") from None
        error = RegistryRefused(f"it waited for more than 7 days; it stands in {path}")
        notices.lost(error, [one.statement.given for one in old])


def _passing(error: redis.RedisError) -> bool:
    """Return True if it is no answer to this statement, but to any at this time."""
    return isinstance(error, _PASSING) or refused([error]) or str(error).startswith(_PASSING_TEXTS)

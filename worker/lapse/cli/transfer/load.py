"""An export into an empty registry. Each line is applied once, however often this is begun again.

The hash slot that a line belongs to notes its number in the step that applies it, and the epoch does afterwards: a
cluster has no step of two hash slots. What belongs to none may be applied a second time, to the same effect. So each
node of a cluster says for itself how far it has come: one that a crash or a failover has put back gets its lines again.

While it goes on, and after it ended in the middle, everything is halted: nothing is decided by half of what is known.
"""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import redis

from lapse.cli.exit_codes import Code, Refused
from lapse.cli.transfer.format import Chunk, Header
from lapse.errors import RegistryUnavailable
from lapse.guards.integrity.continuity import HALF_IMPORTED
from lapse.ledger.halts import REWIND
from lapse.ledger.reasons import HaltReason
from lapse.registry import codec, keys

_HALT = f"*|{HaltReason.HALF_IMPORTED}"
_LINE = "importing_line"
"""Up to which line this was applied, in the epoch and in the marks of each slot."""
_TOGETHER = {
    keys.ACTIVE: (keys.CREATED,),
    keys.CREATED: (keys.ACTIVE,),
    keys.EXPLICIT: (keys.CAPPED,),
    keys.CAPPED: (keys.EXPLICIT,),
}
"""Where an id stands in two of them at once."""

_PLACES = {*keys.STANDING, keys.CREATED, keys.CAPPED}
_ENDS = {keys.TOMBSTONES, keys.FORGOTTEN}
"""Who is in these is tracked no more."""

_SHARED = {keys.HALTS, keys.COUNTERS, keys.MARKS, "epoch", "published", "slots"}
"""What is there before its line comes: this import's own, and what workers say that find everything halted."""


class Load:
    """Applies the lines of one export.

    Args:
        client: As ``Dump`` takes it.
        namespace: Where to; it may be another one than the export's.
        header: What the export is of.

    """

    def __init__(self, client: redis.Redis, namespace: str, header: Header) -> None:
        self._client: Any = client
        self._namespace = namespace
        self._header = header
        self._epoch = keys.epoch(namespace)
        self._seen: set[str] = set()
        self._standing: dict[str, list[str]] = {}
        self._slots = {self._slot(slot) for slot in header.slots}
        self._going = self._slots
        self._reached: dict[str, int] = {}
        """Up to which line each slot has come: what it said in the beginning, and what was applied since."""
        self._applied: set[str] = set()
        self._after = 1
        """Up to which line all was applied, for what the epoch's server remembers."""
        self._kept: set[str] = set()
        self._again = False
        """True if what belongs to no slot may have been applied before."""

    def begin(self) -> int:
        """Halt the registry, and return how many lines of the export it has already.

        Raises:
            Refused: it is not empty, has this export, or half of another one.

        """
        importing, line, done = self._client.hmget(self._epoch, "importing", _LINE, self._done)
        halted = {slot for slot in self._slots if self._client.hexists(slot + keys.HALTS, _HALT)}
        if done and not halted:
            raise Refused(Code.USAGE, "this export was imported here before; nothing was done")
        if importing and importing != self._header.id:
            raise Refused(Code.USAGE, f"half of another export is here: import that one first; its id is {importing}")
        if importing or done:
            # Of one that was imported, a slot is halted still whose server went back to before the end.
            self._going = halted if done else self._slots
            return self._begin_again(halted, sys.maxsize if done else int(line))
        if name := next(self._there(), None):
            raise Refused(
                Code.USAGE,
                f"this registry is not empty, it has {name}: an export goes into an empty Redis or another namespace,"
                " before workers and applications know of it",
            )
        self._mark()
        return 1

    def _begin_again(self, halted: set[str], after: int) -> int:
        """Learn how far each slot has come, and return how far all of them have, for what its server remembers."""
        for slot in self._going:
            noted = self._client.hget(slot + keys.MARKS, _LINE)
            named = [slot + name for name in keys.SLOT_KEYS if name not in _SHARED]
            # Where an import ended in its end, the note is gone with the halt, and all the rest is there.
            whole = not noted and slot not in halted and any(self._exist(named))
            self._reached[slot] = sys.maxsize if whole else int(noted or 0)
        if after < sys.maxsize:
            self._halt()
        self._after, self._again = after, True
        return after

    def apply(self, chunks: Iterable[tuple[int, Chunk]], after: int) -> Iterator[int]:
        """Apply what stands behind a line; yield the number of each line that is applied.

        Raises:
            Refused: somebody else writes to the registry meanwhile.
            RegistryUnavailable: a server of it went back to before what was applied; begun again, that is too.

        """
        for number, chunk in chunks:
            if self._lacks(number, chunk):
                self._line(number, chunk)
            if number > after:
                self._client.hset(self._epoch, _LINE, number)
                yield number
            self._seen.add(chunk.key)
            if chunk.index in _PLACES and chunk.key not in self._standing.setdefault(chunk.slot, []):
                self._standing[chunk.slot].append(chunk.key)

    def _lacks(self, number: int, chunk: Chunk) -> bool:
        """Return True if a line is to be applied: its slot has not come so far, or it belongs to none."""
        slot = f"{self._namespace}:{chunk.slot}"
        if slot in self._slots:
            return slot in self._going and number > self._reached.get(slot, 0)
        if number > self._after or chunk.index in _SHARED:
            return number > self._after
        # Of a registry that may be in use by now, what is there has its own say.
        if self._after == sys.maxsize and chunk.key not in self._seen and self._client.exists(self._full(chunk)):
            self._kept.add(chunk.key)
        return chunk.key not in self._kept

    def _line(self, number: int, chunk: Chunk) -> None:
        slot = f"{self._namespace}:{chunk.slot}"
        noted: list[tuple[Any, ...]] = []
        if slot in self._slots:
            self._check(self._applied & {slot})
            noted = [("HSET", slot + keys.MARKS, _LINE, number)]
        if noted or not self._again:
            self._alone(chunk)
        self._do([*self._overruled(chunk), *self._commands(chunk), *noted])
        if noted:
            self._reached[slot] = number
            self._applied.add(slot)

    def _check(self, slots: Iterable[str]) -> None:
        """Refuse to go on where a server has forgotten lines since: its connection may be another one by now.

        Raises:
            RegistryUnavailable: one has.

        """
        for slot in sorted(slots):
            line = self._client.hget(slot + keys.MARKS, _LINE)
            if line != str(self._reached[slot]):
                raise RegistryUnavailable(f"the server of {slot} went back to line {line} of {self._reached[slot]}")

    def claimed(self) -> list[tuple[str, str]]:
        """Return every (provider, kind) in which ids are leased to workers of the old registry."""
        return [one for one in self._header.slots if self._slot(one) in self._going and self._leases(one)]

    def finish(self) -> None:
        """Let the registry act: it is whole.

        Raises:
            RegistryUnavailable: a server has forgotten lines since.

        """
        self._check(self._applied)
        header = self._header
        for slot in self._going:  # nothing is decided all the same, as long as the epoch says that this goes on
            self._do([("HDEL", slot + keys.HALTS, _HALT), ("HDEL", slot + keys.MARKS, _LINE)])
        commands: list[tuple[Any, ...]] = [("HSET", self._epoch, self._done, header.made)]
        if header.epoch and header.namespace != self._namespace:
            commands.append(("HSET", self._epoch, f"stamp|{header.namespace}/{header.epoch}", header.made))
        self._do([*commands, ("HDEL", self._epoch, "importing", _LINE)])

    @property
    def _done(self) -> str:
        return f"imported|{self._header.id}"

    def _slot(self, slot: tuple[str, str]) -> str:
        return keys.slot(self._namespace, *slot)

    def _there(self) -> Iterator[str]:
        """Yield the names of keys that are there."""
        asked = [f"{self._namespace}:{name}" for name in sorted(keys.NAMESPACE_KEYS)]
        for slot in self._header.slots:
            asked += [self._slot(slot) + name for name in keys.SLOT_KEYS]
            asked.append(keys.throttle(self._namespace, slot[0]))
        for start in range(0, len(asked), 500):
            some = asked[start : start + 500]
            yield from (name for name, found in zip(some, self._exist(some), strict=True) if found)

    def _mark(self) -> None:
        identity = ("id", self._header.epoch, "created", self._header.made) if self._header.epoch else ()
        self._do([("HSET", self._epoch, "importing", self._header.id, _LINE, 1, *identity)])
        self._halt()

    def _halt(self) -> None:
        now = self._client.time()
        halt = codec.dump({"since": now[0] * 1000 + now[1] // 1000, "detail": HALF_IMPORTED})
        for slot in self._slots:
            self._client.hsetnx(slot + keys.HALTS, _HALT, halt)

    def _alone(self, chunk: Chunk) -> None:
        """Refuse where a key is there that only this import could have made."""
        if chunk.key in self._seen or chunk.index in _SHARED or not self._client.exists(self._full(chunk)):
            return
        raise Refused(
            Code.USAGE,
            f"somebody wrote {self._full(chunk)} while this registry was imported: empty it, and import again before"
            " workers and applications know of it",
        )

    def _full(self, chunk: Chunk) -> str:
        return f"{self._namespace}:{chunk.key}"

    def _overruled(self, chunk: Chunk) -> Iterator[tuple[Any, ...]]:
        """Yield what takes ids out of where earlier lines said that they stand.

        An application that went on during the export moved them: the last line about an id counts.
        """
        if chunk.index not in _PLACES | _ENDS:
            return
        leased = self._leased(chunk) if chunk.index in _ENDS else set()
        ids = [id_ for id_ in chunk.ids if id_ not in leased]  # what was said of these, their claim's end carries out
        mine = {chunk.key, *(chunk.key.removesuffix(chunk.index) + name for name in _TOGETHER.get(chunk.index, ()))}
        for key in self._standing.get(chunk.slot, ()) if ids else ():
            if key not in mine:
                yield "ZREM", f"{self._namespace}:{key}", *ids
        if chunk.index in _ENDS and ids:
            yield "HDEL", f"{self._namespace}:{chunk.slot}{keys.ASIDE}", *ids

    def _leased(self, chunk: Chunk) -> set[str]:
        found: set[str] = set()
        for key in self._standing.get(chunk.slot, ()):
            if key.endswith(f":{keys.CLAIMS}"):
                scores = self._client.zmscore(f"{self._namespace}:{key}", list(chunk.ids))
                found |= {id_ for id_, score in zip(chunk.ids, scores, strict=True) if score is not None}
        return found

    def _leases(self, slot: tuple[str, str]) -> bool:
        prefix = self._slot(slot)
        claims = [f"{prefix}{policy}:{keys.CLAIMS}" for policy in self._client.smembers(prefix + keys.POLICIES)]
        return any(self._exist(claims))

    def _commands(self, chunk: Chunk) -> Iterator[tuple[Any, ...]]:
        """Yield what puts a chunk into its key."""
        full = self._full(chunk)
        match chunk.type:
            case "zset":
                yield "ZADD", full, *(part for id_, score in chunk.members for part in (score, id_))
            case "hash" if chunk.index == keys.COUNTERS:
                yield from (("HINCRBY", full, name, value) for name, value in chunk.members)
            case "hash":
                yield "HSET", full, *(part for pair in self._stepped(chunk) for part in pair)
            case "set":
                yield "SADD", full, *chunk.members
            case "string":
                yield "SET", full, *chunk.members
            case "stream":
                yield from self._stream(full, chunk)
            case _:
                raise Refused(Code.USAGE, f"{chunk.key}: no export has a key of type {chunk.type}")
        if chunk.ttl is not None:
            yield "PEXPIRE", full, chunk.ttl

    def _stream(self, full: str, chunk: Chunk) -> Iterator[tuple[Any, ...]]:
        for id_, fields in chunk.members:
            yield "XADD", full, id_, *(part for pair in fields for part in pair)
        if chunk.last is not None:
            # A stream that is empty remembers its last id all the same.
            yield "XGROUP", "CREATE", full, self._header.id, "$", "MKSTREAM"
            yield "XGROUP", "DESTROY", full, self._header.id
            yield "XSETID", full, chunk.last

    def _stepped(self, chunk: Chunk) -> Iterator[tuple[str, str]]:
        """Yield the fields of a hash; what only ever grows goes on beyond what anybody of the old registry knows."""
        grows = {("marks", "fence"), ("epoch", "sequence" if self._header.moved else "")}
        for name, value in chunk.members:
            yield name, str(int(value) + REWIND) if (chunk.index, name) in grows else value

    def _exist(self, names: Iterable[str]) -> list[int]:
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.exists(name)
            return list(pipe.execute())

    def _do(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        with self._client.pipeline(transaction=True) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return list(pipe.execute())

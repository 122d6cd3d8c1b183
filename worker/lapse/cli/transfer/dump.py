"""Everything of a registry, key by key in steps that keep Redis free for others.

The order is such that a registry in use comes out usable. Where an id stands is read in the order in which ids move, so
that whoever moves meanwhile is met again, and the later line counts; who moves back from aside is looked for then.
What an id uses is read before what protects it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import redis

from lapse.cli.transfer.format import Chunk
from lapse.registry import keys
from lapse.registry.codec import dump
from lapse.registry.model import EDGES_MARKER, FORGOTTEN_MARKER, HOLDS_MARKER, PURGED

PAGE = 500
"""How many members Redis is asked for at a time."""

_TRACKED = {keys.FRESH: "", keys.ACTIVE: keys.CREATED, keys.EXPLICIT: keys.CAPPED}
"""Where an id stands that is not set aside, in the order in which ids move -> the index in which it stands besides."""

_PLACES = {
    "claimed": (keys.CLAIMS,),
    "waiting": (keys.WAITING, keys.SUSPECTS, keys.TRIED),
    "parked": (keys.PARKED,),
    "kept": (keys.KEPT,),
    "quarantined": (keys.QUARANTINE,),
}
"""Where an id whose record stands aside may stand, by its state."""

_STANDING = {*keys.STANDING, keys.CREATED, keys.CAPPED, keys.ASIDE}
_FIRST = (keys.FACTS,)
"""What is read of every slot before what protects ids in any."""


class Dump:
    """One registry.

    Args:
        client: It decodes replies, and what is no UTF-8 as the file has it: ``Invocation.exact``.
        namespace: The registry's.
        policies: Every (provider, kind) -> policies that the policy file names there; others are found.

    """

    def __init__(self, client: redis.Redis, namespace: str, policies: Mapping[tuple[str, str], Iterable[str]]) -> None:
        self._client: Any = client
        self._namespace = namespace
        self._policies = policies
        self.slots = self._slots()

    def chunks(self) -> Iterator[Chunk]:
        """Yield everything that is carried."""
        for slot in self.slots:
            yield from self._ids(slot)
            for name in _FIRST:
                yield from self._key(_of(slot) + name)
        for slot in self.slots:
            for name in self._others(slot):
                yield from self._key(name)
            yield from self._counts(slot)
        for name in sorted(keys.CARRIED.intersection(keys.NAMESPACE_KEYS)):
            yield from self._key(name)
        for provider in sorted({provider for provider, _kind in self.slots}):
            yield from self._key(keys.throttle("", provider)[1:])

    def size(self) -> int:
        """Return about how many members that is."""
        with self._client.pipeline(transaction=False) as pipe:
            for slot in self.slots:
                for name in self._indexes(slot, *_TRACKED, *(beside for beside in _TRACKED.values() if beside)):
                    pipe.zcard(self._full(name))
                for name in (keys.EDGES, keys.TOMBSTONES, keys.DELETED, keys.FORGOTTEN):
                    pipe.zcard(self._full(_of(slot) + name))
                for name in (keys.ASIDE, keys.ASIDE, keys.FACTS, keys.HOLDS, keys.REFERENCED, keys.GRAVES):
                    pipe.hlen(self._full(_of(slot) + name))
            return sum(pipe.execute())

    def _ids(self, slot: tuple[str, str]) -> Iterator[Chunk]:
        """Yield where the ids of a slot stand."""
        left = {id_ for page in self._hash(self._full(_of(slot) + keys.ASIDE)) for id_, _record in page}
        for name in self._indexes(slot, *_TRACKED):
            for chunk in self._beside(name, self._key(name)):
                left.difference_update(chunk.ids)
                yield chunk
        for chunk in self._aside(slot):
            left.difference_update(id_ for id_, _said in chunk.members)
            yield chunk
        # What stood aside at first, and nowhere since, came back to an index after that was read.
        back = sorted(left)
        for start in range(0, len(back), PAGE):
            for name in self._indexes(slot, *_TRACKED):
                yield from self._beside(name, self._scored(name, back[start : start + PAGE]))

    def _beside(self, name: str, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield what stands in an index, and where the same ids stand besides."""
        beside = _TRACKED[name.rpartition(":")[2]]
        for chunk in chunks:
            yield chunk
            if beside:
                yield from self._scored(f"{name.rpartition(':')[0]}:{beside}", chunk.ids)

    def _indexes(self, slot: tuple[str, str], *indexes: str) -> list[str]:
        """Return the names of keys of a slot's policies, index by index."""
        policies = self._policies_of(slot)
        return [f"{_of(slot)}{policy}:{index}" for index in indexes for policy in policies]

    def _aside(self, slot: tuple[str, str]) -> Iterator[Chunk]:
        """Yield the records of what stands aside, before them the places in which that is."""
        for chunk in self._key(_of(slot) + keys.ASIDE):
            told = ((id_, _carried(said)) for id_, said in chunk.members)
            members = tuple((id_, said) for id_, said in told if said)
            yield from self._places(slot, {id_: _record(said) for id_, said in members})
            if members:
                yield replace(chunk, members=members)

    def _places(self, slot: tuple[str, str], records: Mapping[str, Mapping[str, Any]]) -> Iterator[Chunk]:
        wanted: dict[str, dict[str, float]] = {}
        for id_, record in records.items():
            for name in _PLACES.get(record.get("s", ""), ()):
                wanted.setdefault(f"{_of(slot)}{record['p']}:{name}", {})[id_] = record.get("d", 0)
        placed: set[str] = set()
        for name, ids in wanted.items():
            for chunk in self._scored(name, tuple(ids)):
                placed.update(chunk.ids)
                yield _at_rest(chunk)
        # It moved between two looks: it stands where its record says.
        for name, ids in wanted.items():
            if moved := {id_: score for id_, score in ids.items() if id_ not in placed}:
                placed.update(moved)
                yield _at_rest(Chunk(name, "zset", tuple(moved.items())))

    def _counts(self, slot: tuple[str, str]) -> Iterator[Chunk]:
        """Yield what says whether the keys that protect ids are whole: all of it of one moment, behind those keys."""
        at = _of(slot)
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(self._full(at + keys.PROTECTED))
            pipe.hget(self._full(at + keys.HOLDS), HOLDS_MARKER)
            pipe.zscore(self._full(at + keys.EDGES), EDGES_MARKER)
            pipe.zscore(self._full(at + keys.FORGOTTEN), FORGOTTEN_MARKER)
            counted, holds, edges, forgotten = pipe.execute()
        if counted:
            yield Chunk(at + keys.PROTECTED, "hash", tuple(counted.items()))
        if holds is not None:
            yield Chunk(at + keys.HOLDS, "hash", ((HOLDS_MARKER, holds),))
        for name, marker, score in (
            (keys.EDGES, EDGES_MARKER, edges),
            (keys.FORGOTTEN, FORGOTTEN_MARKER, forgotten),
        ):
            if score is not None:
                yield Chunk(at + name, "zset", ((marker, _number(score)),))

    def _others(self, slot: tuple[str, str]) -> Iterator[str]:
        """Yield the names of what else is carried of a slot."""
        yield from self._indexes(slot, *(name for name in keys.PARTITION_KEYS if name in keys.CARRIED - _STANDING))
        left = keys.CARRIED - _STANDING - {*_FIRST, keys.PROTECTED, *keys.OUTCOMES}
        # Who was forgotten or settled meanwhile is told of after all that said where it stood.
        yield from (_of(slot) + name for name in keys.SLOT_KEYS if name in left)
        requests = self._client.hkeys(keys.erasures(self._namespace))
        for name in keys.OUTCOMES:
            yield from (f"{_of(slot)}{name}:{one}" for one in requests if keys.REQUEST.fullmatch(one))

    def _scored(self, name: str, ids: Sequence[str]) -> Iterator[Chunk]:
        """Yield those of these ids that stand in a sorted set."""
        scores = self._client.zmscore(self._full(name), list(ids)) if ids else []
        found = tuple((id_, _number(score)) for id_, score in zip(ids, scores, strict=True) if score is not None)
        if found:
            yield Chunk(name, "zset", found)

    def _key(self, name: str) -> Iterator[Chunk]:
        """Yield a whole key, whatever it is."""
        full = self._full(name)
        with self._client.pipeline(transaction=False) as pipe:
            type_, ttl = pipe.type(full).pttl(full).execute()
        read = {
            "zset": self._zset,
            "hash": self._hash,
            "set": self._set,
            "stream": self._stream,
            "string": self._string,
        }
        for members in read[type_](full) if type_ != "none" else ():
            kept = tuple(one for one in members if not _left_out(name, one))
            if kept:
                yield Chunk(name, type_, kept, ttl if ttl > 0 else None)
        if type_ == "stream":
            yield Chunk(name, type_, (), last=self._client.xinfo_stream(full)["last-generated-id"])

    def _zset(self, full: str) -> Iterator[Sequence[Any]]:
        for found in self._pages(self._client.zscan, full):
            yield [(member, _number(score)) for member, score in found]

    def _hash(self, full: str) -> Iterator[Sequence[Any]]:
        for found in self._pages(self._client.hscan, full):
            yield tuple(found.items())

    def _set(self, full: str) -> Iterator[Sequence[Any]]:
        yield from self._pages(self._client.sscan, full)

    def _stream(self, full: str) -> Iterator[Sequence[Any]]:
        after = "-"
        while rows := self._client.xrange(full, min=after, count=PAGE):
            yield [(id_, tuple(fields.items())) for id_, fields in rows]
            after = f"({rows[-1][0]}"

    def _string(self, full: str) -> Iterator[Sequence[Any]]:
        stored = self._client.get(full)
        yield [] if stored is None else [stored]

    def _pages(self, scan: Any, full: str) -> Iterator[Any]:
        cursor = 0
        while True:
            cursor, found = scan(full, cursor, count=PAGE)
            yield found
            if cursor == 0:
                return

    def _slots(self) -> tuple[tuple[str, str], ...]:
        """Return every (provider, kind) that the policy file names, a worker knew, or an application wrote to."""
        stored = self._client.hget(keys.published(self._namespace), "slots")
        every = {*self._policies, *((provider, kind) for provider, kind in json.loads(stored or "[]"))}
        every |= {*keys.slots_named(self._client.smembers(keys.slots(self._namespace)))}
        return tuple(sorted(every))

    def _policies_of(self, slot: tuple[str, str]) -> list[str]:
        stored = self._client.smembers(self._full(_of(slot) + keys.POLICIES))
        return sorted(name for name in {*stored, *self._policies.get(slot, ())} if keys.NAME.fullmatch(name))

    def _full(self, name: str) -> str:
        return f"{self._namespace}:{name}"


def _of(slot: tuple[str, str]) -> str:
    return keys.slot("", *slot)[1:]


def _at_rest(chunk: Chunk) -> Chunk:
    """Return leases as those that have ended: whoever holds them works on another registry; and all else as it is."""
    if chunk.index != keys.CLAIMS:
        return chunk
    return Chunk(chunk.key, chunk.type, tuple((id_, 0) for id_ in chunk.ids))


def _left_out(name: str, member: Any) -> bool:
    index = name.rpartition(":")[2]
    said = member if isinstance(member, str) else member[0]
    return bool(said.startswith(keys.LEFT_OUT_FIELDS.get(index, ())))


def _record(said: str) -> Mapping[str, Any]:
    """Return a record; an application's Redis user may write what is none."""
    try:
        found = json.loads(said)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and keys.NAME.fullmatch(str(found.get("p"))) else {}


def _carried(said: str) -> str | None:
    """Return a record as it is carried; None of what a purge alone knows of: it has no policy to stand under."""
    try:
        record = json.loads(said) if f'"{PURGED}"' in said else None
    except ValueError:
        return said
    if not isinstance(record, dict) or record.get("p") != PURGED:
        return said
    policy = record.pop("l", None)  # it was registered since
    return dump({**record, "p": policy}) if policy else None


def _number(score: float) -> float:
    return int(score) if score.is_integer() else score

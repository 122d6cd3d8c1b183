"""Which keys a script may touch: on a cluster each call declares them all. No I/O.

Which they are stands in the script itself. A word of its code that is the name of a key is one; so is, of each policy,
one that names a key of a policy. What a name is made of at run time stands in its head:

- ``-- @key claim:ARGV[3].name``: a key of the slot, with a field of the JSON object that is the third argument;
- ``-- @part used:ARGV[5]``: a key of each policy;
- ``-- @policy ARGV[4...+3]``: a policy, or a JSON list of them, in the fourth argument and each third one after it.

The policies of a slot, and the requests to erase that it knows of, are the client's copy of what the slot has. A script
that finds others answers ``LAPSE-AGAIN`` with its own (``include/keys.lua``) and has done nothing.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import redis

from lapse.registry import keys
from lapse.registry.pools.unpacking import bulk, unpacked
from lapse.registry.scripts import Script, of_digest

_CODE = re.compile(r"--.*")
_WORD = re.compile(r"\w+")
_SAID = re.compile(r"^-- @(key|part|policy) (\S+)$", re.MULTILINE)
_ARGUMENT = re.compile(r"ARGV\[(\d+)(?:\.\.\.\+(\d+))?\](?:\.(\w+))?$")
_AGAIN = re.compile(r"LAPSE-AGAIN (policies|requests) (.*)")
_MADE = frozenset({keys.USED, keys.CLAIM, keys.BATCH, keys.SETTLING, *keys.OUTCOMES, keys.MEMBERS, keys.SEEN})
"""What only begins the name of a key."""

ALWAYS = (keys.ASIDE, keys.POLICIES)
"""Declared by every script of a slot: the first is a hash, which ``include/full.lua`` needs."""


@dataclass(frozen=True, slots=True)
class Names:
    """The keys that a script's text names: of a slot, and of each of its policies and requests to erase."""

    slot: tuple[str, ...]
    policy: tuple[str, ...]
    request: tuple[str, ...]
    said: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SlotCopy:
    """What a client knows of a slot."""

    policies: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()


@cache
def names(script: Script) -> Names | None:
    """Return what a script's text names; None if it runs on one key of its own."""
    if "local function part(" not in script.text:
        return None
    words = set(_WORD.findall(_CODE.sub("", script.text))) - _MADE
    request = [name for name in keys.OUTCOMES if f"'{name}:'" in script.text]
    if script.application:
        words -= keys.WORKERS_ALONE
        request = [name for name in request if name not in keys.WORKERS_ALONE]
    slot = sorted((words & set(keys.SLOT_KEYS)) - set(ALWAYS))
    policy = sorted((words & set(keys.PARTITION_KEYS)) - {keys.RULES})
    said = tuple(_SAID.findall(script.text))
    return Names((*ALWAYS, *slot), (keys.RULES, *policy), tuple(request), said)


class Declaring:
    """Makes the calls of one registry declare their keys."""

    def __init__(self) -> None:
        self._known: dict[bytes, SlotCopy] = {}

    def command(self, command: bytes, *, text: bool = False) -> bytes:
        """Return a command that runs a script on a slot with all keys declared; any other as it is.

        Args:
            command: Packed.
            text: Send the script's text, to a server that does not know it. ``SCRIPT LOAD`` has no key to go by.

        """
        parts, rest = unpacked(command, 4)
        script = of_digest(parts[1]) if parts[0] == b"EVALSHA" else None
        if script is None:
            return command
        run = [b"EVAL", script.text.encode()] if text else parts[:2]
        block, count = self._block(script, command, parts[3])
        total = int(command[1 : command.index(b"\r\n")]) - 1 + count
        return b"".join([b"*%d\r\n" % total, bulk([*run, b"%d" % count]), block, command[rest:]])

    def learned(self, command: bytes, reply: object) -> bool:
        """Return True if a reply says what has to be declared instead, and remember it."""
        said = _AGAIN.search(str(reply)) if isinstance(reply, redis.ResponseError) else None
        if said is None:
            return False
        prefix = unpacked(command, 4)[0][3]
        found, _ = json.JSONDecoder().raw_decode(said[2])
        self._known[prefix] = replace(self._known.get(prefix, SlotCopy()), **{said[1]: tuple(sorted(found))})
        return True

    def _block(self, script: Script, command: bytes, prefix: bytes) -> tuple[bytes, int]:
        named = names(script)
        if named is None:
            return bulk([prefix]), 1
        known = self._known.get(prefix, SlotCopy())
        if not named.said:
            return _packed(named, prefix, known, (), ())
        arguments = [part.decode() for part in unpacked(command)[0][4:]]
        made = {what: tuple(_made(named, what, arguments)) for what in ("key", "part", "policy")}
        policies = tuple(sorted({*known.policies, *made["policy"]}))
        return _packed(named, prefix, replace(known, policies=policies), made["key"], made["part"])


@lru_cache(maxsize=1024)
def _packed(
    named: Names, prefix: bytes, known: SlotCopy, slot: tuple[str, ...], policy: tuple[str, ...]
) -> tuple[bytes, int]:
    suffixes = [*named.slot, *slot]
    suffixes += [f"{name}:{one}" for name in known.policies for one in (*named.policy, *policy)]
    suffixes += [f"{name}:{one}" for one in known.requests for name in named.request]
    return bulk(prefix + suffix.encode() for suffix in suffixes), len(suffixes)


def _made(named: Names, what: str, arguments: list[str]) -> Iterator[str]:
    for verb, text in named.said:
        if verb != what:
            continue
        argument = _ARGUMENT.search(text)
        if argument is None:
            yield text
            continue
        first, step, field = int(argument[1]) - 1, int(argument[2] or 0), argument[3]
        for value in arguments[first::step] if step else arguments[first : first + 1]:
            yield from (text[: argument.start()] + one for one in _values(value, field) if one)


def _values(value: str, field: str | None) -> list[str]:
    if field:
        return [str(json.loads(value).get(field) or "")]
    return list(json.loads(value)) if value.startswith("[") else [value]

"""Calls about all ids of a subject: found, held, let go, expired. No I/O; ``client`` and ``aio`` carry the bytes."""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from lapse.errors import InvalidResource, RegistryRefused
from lapse.registry import codec, facts, keys
from lapse.registry.codec import When
from lapse.registry.commands import Commands, actor
from lapse.registry.facts import request_id
from lapse.registry.model import Record, Resource, SubjectAnswer, SubjectPage
from lapse.registry.protocol import Conversation, asked, carried
from lapse.registry.scripts import Call, script, text

STEP = 200
"""Ids that one script looks at: what else Redis has to do waits for as long."""
AT_ONCE = 10_000
"""Ids of a slot that a call changes itself; workers come to the others."""

SAID = "\x1f"
"""Among a hash's subjects, which have no control characters: the number of what was said last."""

ERASURE = "\x1e"
"""Before a subject, in lists of what is said of subjects: the requests to erase it."""

ENDED = "ended"
"""In a slot's list: the hold is over, and what was parked for it is still to be let go. As ``include/subjects.lua``."""

Slot = tuple[str, str]


def name_of(subject: object) -> str:
    """Return a subject as calls take it: one name.

    Raises:
        InvalidResource: none, several, blank, or longer than 512 characters.

    """
    if not isinstance(subject, str):
        raise InvalidResource(f"subject {ascii(subject)[:80]}: give one name")
    return facts.subjects(subject)[0]


def last_said(namespace: str) -> Conversation[int]:
    """Return the number of what was last said of a subject: claims insist that their slot knows of it."""
    (number,) = yield from asked(("HGET", keys.held_subjects(namespace), SAID))
    return int(number or 0)


class Subjects:
    """The conversations about subjects, with the commands of one registry. What is not acknowledged is raised.

    Raises:
        InvalidResource: the subject, reason or time cannot be stored, or the subject looks like a pattern.
        RegistryUnavailable: no answer in time; what was said may stand in a part of the registry. Say it again.
        RegistryRefused: Redis said no.

    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def resources(self, subject: str, after: str | None, limit: int) -> Conversation[SubjectPage]:
        """Return a page of what is tracked as a subject's, by provider, kind and id."""
        name = name_of(subject)
        if not 0 < limit <= AT_ONCE:
            raise InvalidResource(f"limit {limit}: give 1 to {AT_ONCE}")
        slots = yield from self._literal(name)
        first, last = _cursor(after)
        found: list[Record] = []
        whole = True
        for slot in (slot for slot in slots if slot >= first):
            start = last if slot == first else ""
            while len(found) <= limit:
                ids, indexed = yield from self._ids(slot, name, start, limit)
                whole &= indexed
                found += yield from self._records(slot, name, ids)
                if len(ids) < limit:
                    break
                start = ids[-1]
        last_shown = found[limit - 1].resource if len(found) > limit else None
        following = f"{last_shown.provider}/{last_shown.kind}/{last_shown.id}" if last_shown else None
        return SubjectPage(tuple(found[:limit]), following, whole)

    def hold(self, subject: str, reason: str, by: str | None, until: When | None) -> Conversation[SubjectAnswer]:
        """Hold all of a subject's, also what is registered later; parked in steps, and what is due as it comes up."""
        name = name_of(subject)
        if not codec.text(reason or " ", "reason").strip():
            raise InvalidResource(f"hold of {name}: say why (reason=)")
        stored: dict[str, Any] = {
            "reason": reason,
            "actor": codec.text(by, "actor") if by else actor(),
            "since": codec.now_millis(),
        }
        if until is not None:
            stored["until"] = codec.ahead(until, f"hold of {name}: until")
        return (yield from self._said(name, codec.dump(stored)))

    def unhold(self, subject: str) -> Conversation[SubjectAnswer]:
        """End the hold of a subject; ids with a hold of their own stay held."""
        return (yield from self._said(name_of(subject), ""))

    def end(self, subject: str, hold: str) -> Conversation[SubjectAnswer]:
        """End one hold of a subject, as it is stored; another one that was said meanwhile stands."""
        return (yield from self._said(subject, "", hold))

    def expire(self, subject: str, at: When | None) -> Conversation[SubjectAnswer]:
        """Give each of a subject's tracked ids an expiry of its own."""
        name = name_of(subject)
        changed = claimed = 0
        failed: list[str] = []
        for slot in (yield from self._literal(name)):
            try:
                start: str | None = ""
                while start is not None:
                    ids, _ = yield from self._ids(slot, name, start, STEP)
                    told = yield from carried(self._commands.expire_of(name, Resource(*slot, id_), at) for id_ in ids)
                    changed += sum(map(bool, told))
                    claimed += sum(answer == "too_late" for answer in told)
                    start = ids[-1] if len(ids) == STEP else None
            except RegistryRefused as error:
                failed.append(f"{'/'.join(slot)}: {error}")
        return SubjectAnswer(changed, 0, claimed, tuple(failed))

    def _said(self, subject: str, hold: str, *meant: str) -> Conversation[SubjectAnswer]:
        """Write a hold, or its end, down for the namespace, copy it into each slot, and let it take effect there.

        The list of slots is read after the statement stands: who adds a slot later reads the statement after that.
        """
        yield from self.regain((yield from self._literal(subject)))
        say = self._say(keys.held_subjects(self._commands.namespace), subject, hold, *meant)
        ((number, before),) = yield from carried([say])
        if not number:
            return SubjectAnswer()
        answers, failed = [], []
        for slot in (yield from self.slots()):
            try:
                yield from self.copy(slot, (number, before), subject, hold)
                answers.append((yield from self.apply(slot, subject, AT_ONCE)))
            except RegistryRefused as error:
                failed.append(f"{'/'.join(slot)}: {error}")
        changed, claimed, remaining = (sum(column) for column in zip(*answers, (0, 0, 0), strict=True))
        return SubjectAnswer(changed, remaining, claimed, tuple(failed))

    def literal(self, subject: str) -> Conversation[str]:
        """Return a subject as it is stored; refuse what is meant as a pattern."""
        name = name_of(subject)
        yield from self._literal(name)
        return name

    def ask_erasure(
        self, subject: str, request: str, reason: str, received: When | None, by: str | None
    ) -> Conversation[str]:
        """Ask workers to erase a subject, as an application; return ``asked``, or how far the request has come."""
        id_, namespace = request_id(request), self._commands.namespace
        name = yield from self.literal(subject)
        known, taken, clock = yield from asked(
            ("HGET", keys.erasures(namespace), id_), ("HGET", keys.published(namespace), "erasure"), ("TIME",)
        )
        if not known and text(taken or "") != "by_application":
            raise RegistryRefused(
                "workers take no request of an application to erase a subject: the policy file has to say [erasure]"
                " by_application = true"
            )
        if not known:
            now = int(clock[0]) * 1000 + int(clock[1]) // 1000
            said = {
                "subject": name,
                "at": now,
                "received": now if received is None else codec.moment(received, "received"),
            }
            said |= {
                "reason": reason and codec.text(reason, "reason"),
                "actor": (by and codec.text(by, "actor")) or actor(),
            }
            call: Call[str] = Call(
                script("registry/lua/subjects/ask_erasure"),
                keys.asked_erasures(namespace),
                (id_, codec.dump(said)),
                text,
            )
            (known,) = yield from carried([call])
        stands = json.loads(known)
        if stands.get("subject") != name:
            raise InvalidResource(f"request id {id_} belongs to another subject: give each request its own")
        return str(stands.get("state", "asked"))

    def erase(self, subject: str, request: str, fact: str) -> Conversation[SubjectAnswer]:
        """Write down everywhere that a request erases a subject.

        ``fact``: JSON ``{id, at, until}``; "" ends it.
        """
        yield from self.regain((yield from self.slots()))
        say: Call[tuple[int, int, str]] = Call(
            script("registry/lua/subjects/say_erasure"),
            keys.held_subjects(self._commands.namespace),
            (subject, request, fact),
            _numbered,
        )
        ((number, before, said),) = yield from carried([say])
        failed = []
        for slot in (yield from self.slots()):
            try:
                yield from self.copy(slot, (number, before), ERASURE + subject, said)
            except RegistryRefused as error:
                failed.append(f"{'/'.join(slot)}: {error}")
        return SubjectAnswer(failed=tuple(failed))

    @staticmethod
    def over(listed: Any, now: int) -> list[tuple[str, str]]:
        """Return subjects whose stored hold was to end by now, in registry milliseconds, with that hold."""
        held = [pair for pair in _pairs(listed).items() if pair[0] != SAID and not pair[0].startswith(ERASURE)]
        return [(name, hold) for name, hold in held if json.loads(hold).get("until", now + 1) <= now]

    def copy(self, slot: Slot, numbers: tuple[int, int], subject: str, hold: str) -> Conversation[None]:
        """Bring one statement into a slot, or where the one before it is not the last one there, all of them."""
        number, before = numbers
        (answer,) = yield from carried([self._copy(slot, number, str(before), (subject, hold))])
        if answer != "ok":
            yield from self.copy_all(slot)

    def copy_all(self, slot: Slot) -> Conversation[int]:
        """Bring every statement into a slot; return the number of the last one."""
        (listed,) = yield from asked(("HGETALL", keys.held_subjects(self._commands.namespace)))
        held = _pairs(listed)
        number = int(held.pop(SAID, "0"))
        flat = (part for pair in held.items() for part in pair)
        yield from carried([self._copy(slot, number, "all", flat)])
        return number

    def regain(self, slots: Iterable[Slot]) -> Conversation[bool]:
        """Write the namespace's list anew from the slot that knows most of it, if the list was lost; True if it was."""
        namespace, chosen = self._commands.namespace, sorted(slots)
        prefixes = [keys.slot(namespace, *slot) for slot in chosen]
        (said, *known) = yield from asked(
            ("HGET", keys.held_subjects(namespace), SAID),
            *(("HGET", prefix + keys.PROTECTED, keys.SUBJECTS) for prefix in prefixes),
        )
        lost = int(said or 0)
        pairs = ((int(one or 0), prefix) for one, prefix in zip(known, prefixes, strict=True))
        for number, prefix in sorted((pair for pair in pairs if pair[0] > lost), reverse=True):
            with suppress(RegistryRefused):  # of this slot, only the count is left
                if (yield from self._regained(prefix, number, lost)):
                    return True
        return False

    def _regained(self, prefix: str, number: int, lost: int) -> Conversation[bool]:
        """Take the list from one slot, if its copy is whole up to that number.

        What the list has as well went back with it, and stands as it was said later; but what is said meanwhile stays.
        """
        name = keys.held_subjects(self._commands.namespace)
        listed, before = yield from asked(("HGETALL", prefix + keys.SUBJECT_HOLDS), ("HGETALL", name))
        held, there = _pairs(listed), _pairs(before)
        if held.pop(SAID, "") != str(number):
            return False
        later = {subject: hold for subject, hold in held.items() if hold != ENDED}
        yield from asked(
            *(("HSETNX", name, subject, hold) for subject, hold in later.items()),
            ("HINCRBY", name, SAID, str(number - lost)),
        )
        changed = [subject for subject in later.keys() & there.keys() if later[subject] != there[subject]]
        if changed:
            yield from carried(self._say(name, subject, later[subject], there[subject]) for subject in sorted(changed))
        return True

    @staticmethod
    def _say(name: str, subject: str, hold: str, *meant: str) -> Call[list[int]]:
        return Call(script("registry/lua/subjects/say_subject"), name, (subject, hold, *meant), list)

    def apply(self, slot: Slot, subject: str, most: int) -> Conversation[tuple[int, int, int]]:
        """Let what is said of a subject take effect in a slot; return how many changed, are claimed, are left."""
        changed = claimed = looked = left = 0
        after = ""
        while looked < most:
            call = self._commands.on_slot(
                "registry/lua/subjects/apply_subject", *slot, subject, after, STEP, parse=_applied
            )
            ((more, busy, after, left),) = yield from carried([call])
            changed, claimed, looked = changed + more, claimed + busy, looked + STEP
            if not after:
                break
        return changed, claimed, left

    def _copy(self, slot: Slot, number: int, all_: str, said: Iterable[str]) -> Call[str]:
        return self._commands.on_slot("registry/lua/subjects/copy_subjects", *slot, number, all_, *said, parse=text)

    def _ids(self, slot: Slot, subject: str, after: str, limit: int) -> Conversation[tuple[list[str], bool]]:
        call = self._commands.on_slot("registry/lua/subjects/ids_of_subject", *slot, subject, after, limit, parse=list)
        ((indexed, *ids),) = yield from carried([call])
        return [text(id_) for id_ in ids], indexed == 1

    def _records(self, slot: Slot, subject: str, ids: list[str]) -> Conversation[list[Record]]:
        """Return what is tracked of these ids, and is the subject's by its facts."""
        calls = [call for id_ in ids for call in self._commands.get(Resource(*slot, id_)).calls]
        return [one for one in (yield from carried(calls)) if one and subject in one.subjects]

    def slots(self) -> Conversation[list[Slot]]:
        """Return every (provider, kind) that anybody ever wrote to."""
        namespace = self._commands.namespace
        told, published = yield from asked(
            ("SMEMBERS", keys.slots(namespace)), ("HGET", keys.published(namespace), "slots")
        )
        known = {(str(provider), str(kind)) for provider, kind in json.loads(published or "[]")}
        return sorted({*keys.slots_named(told), *known})

    def _literal(self, subject: str) -> Conversation[list[Slot]]:
        """Return the slots, and refuse what is meant as a pattern: it would silently cover nothing."""
        slots = yield from self.slots()
        if "*" in subject:
            for slot in slots:
                if (yield from self._ids(slot, subject, "", 1))[0]:
                    return slots
            raise InvalidResource(f"subject {subject!r} is taken literally, * is no wildcard: name one subject")
        return slots


def _cursor(after: str | None) -> tuple[Slot, str]:
    if not after:
        return ("", ""), ""
    match after.split("/", 2):
        case [provider, kind, id_]:
            return (provider, kind), id_
    raise InvalidResource(f"after {after!r}: give what the page before ended with")


def _numbered(reply: Any) -> tuple[int, int, str]:
    number, before, said = reply
    return int(number), int(before), text(said)


def _applied(reply: Any) -> tuple[int, int, str, int]:
    changed, claimed, last, left = reply
    return changed, claimed, text(last), left


def _pairs(listed: Any) -> dict[str, str]:
    """Return a hash as Redis answers it: a list of fields and values, or by RESP 3 a mapping."""
    flat = [part for pair in listed.items() for part in pair] if isinstance(listed, dict) else listed
    return {text(flat[i]): text(flat[i + 1]) for i in range(0, len(flat), 2)}

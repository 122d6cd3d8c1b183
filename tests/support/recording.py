"""The application's own log: a registry that writes down what it was told, when, and what it answered."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from lapse import Registry
from lapse.durations import parse
from oracle.history import Call, Resource

T = TypeVar("T")


class RecordingRegistry(Registry):
    """A registry as applications use it; ``calls`` is what they would swear to."""

    def __init__(self, url: str | None = None, *, provider: str | None = None, **options: Any) -> None:
        super().__init__(url, provider=provider, **options)
        self._of = provider
        self.calls: list[Call] = []
        self._owners: dict[Resource, set[str]] = {}
        self._held: dict[str, float | None] = {}
        self._erased: dict[str, float] = {}

    def register(self, kind: str, id: str, policy: str, **facts: Any) -> Any:
        said = {"kind": kind, "id": id, "policy": policy, **facts}
        answer = None
        called = time.time()
        try:
            answer = super().register(kind, id, policy, **facts)
        finally:
            self._registered([said], called, acknowledged=answer is not None and answer.governed_by != "unavailable")
        return answer

    def register_many(self, registrations: Iterable[Mapping[str, Any]]) -> Any:
        said = [dict(one) for one in registrations]
        done = None
        called = time.time()
        try:
            done = super().register_many(said)
        finally:
            self._registered(said, called, acknowledged=done is not None and done.registered == len(said))
        return done

    @contextmanager
    def recorded(self, said: Iterable[Mapping[str, Any]]) -> Iterator[None]:
        """Write registrations down that an operator makes in another way."""
        called, done = time.time(), False
        try:
            yield
            done = True
        finally:
            self._registered(said, called, acknowledged=done)

    def touch(self, kind: str, id: str, **where: Any) -> Any:
        return self._say("touch", kind, id, where, super().touch)

    def hold(self, kind: str, id: str, **said: Any) -> Any:
        return self._say("hold", kind, id, said, super().hold, until=_moment(said.get("until")))

    def unhold(self, kind: str, id: str, **said: Any) -> Any:
        return self._say("unhold", kind, id, said, super().unhold)

    def hold_subject(self, subject: str, **said: Any) -> Any:
        """Swear to a hold of each id of the subject, once all of them have it; what is registered later has it too."""
        called = time.time()
        answer = super().hold_subject(subject, **said)
        if answer:
            self._held[subject] = _moment(said.get("until"))
            self._of_subject("hold", subject, called, until=self._held[subject])
        return answer

    def unhold_subject(self, subject: str) -> Any:
        """Take that back; no id of it has a hold of its own in a test that says this."""
        called = time.time()
        answer = super().unhold_subject(subject)
        self._held.pop(subject, None)
        self._of_subject("unhold", subject, called)
        return answer

    def erased(self, subject: str, until: float) -> None:
        """Note that a subject's ids are to be erased that were made before ``until``, also what is registered later."""
        self._erased[subject] = until
        for resource in self._owners:
            self._covered(resource, time.time())

    def anew(self, kind: str, id_: str) -> None:
        """Note that an id is nobody's: what is said of whose it is next is so."""
        self._owners.pop(Resource(self._of or "", kind, id_), None)

    def _covered(self, resource: Resource, called: float) -> None:
        subjects = self._owners[resource]
        if subjects and subjects <= self._erased.keys():
            until = min(self._erased[subject] for subject in subjects)
            self.calls.append(Call("erase", resource, called, time.time(), "ok", until=until))

    def _of_subject(self, verb: str, subject: str, called: float, **facts: Any) -> None:
        for resource, subjects in self._owners.items():
            if subject in subjects and not (verb == "unhold" and subjects & self._held.keys()):
                self.calls.append(Call(verb, resource, called, time.time(), "ok", **facts))

    def forget(self, kind: str, id: str, **where: Any) -> Any:
        return self._say("forget", kind, id, where, super().forget, release=where.get("release", False))

    def deleted(self, kind: str, id: str, **where: Any) -> Any:
        """To whom it asks, the id is none of lapse's any more, as a forgotten one that needs nothing."""
        return self._say("forget", kind, id, where, super().deleted, release=True)

    def expire(self, kind: str, id: str, at: Any = None, **where: Any) -> Any:
        given = where if at is None else {"at": at, **where}
        return self._say("expire", kind, id, given, super().expire, expires_at=_moment(at))

    def _say(self, verb: str, kind: str, id_: str, given: Mapping[str, Any], call: Callable[..., T], **facts: Any) -> T:
        answer = None
        called = time.time()
        try:
            answer = call(kind, id_, **given)
        finally:
            acknowledged = None if answer is None or answer == "failed" else time.time()
            resource = Resource(given.get("provider") or self._of or "", kind, id_)
            heard = "" if answer is None else str(answer)  # all but ok are falsy
            self.calls.append(Call(verb, resource, called, acknowledged, heard, **facts))
        return answer

    def _registered(self, said: Iterable[Mapping[str, Any]], called: float, *, acknowledged: bool) -> None:
        answered = time.time() if acknowledged else None
        for one in said:
            call = self._registration(one, called, answered)
            self.calls.append(call)
            named = one.get("subject") or ()
            said_of = {named} if isinstance(named, str) else set(named)
            subjects = self._owners[call.resource] = self._owners.get(call.resource) or said_of
            for subject in subjects & self._held.keys() if answered else ():
                self.calls.append(Call("hold", call.resource, called, answered, "ok", until=self._held[subject]))
            self._covered(call.resource, called)

    def _registration(self, said: Mapping[str, Any], called: float, answered: float | None) -> Call:
        provider = said.get("provider") or self._of or ""
        uses = tuple(Resource(*((provider, *use) if len(use) == 2 else use)) for use in said.get("uses") or ())
        return Call(
            "register",
            Resource(provider, said["kind"], said["id"]),
            called,
            answered,
            policy=said["policy"],
            created_at=_moment(said.get("created_at")),
            last_active_at=_moment(said.get("last_active_at")),
            expires_at=_moment(said.get("expires_at")),
            expires_in=_span(said.get("expires_in")),
            uses=uses,
        )


def _moment(said: datetime | float | None) -> float | None:
    return said.timestamp() if isinstance(said, datetime) else said


def _span(said: timedelta | float | str | None) -> float | None:
    if isinstance(said, str):
        return parse(said)
    return said.total_seconds() if isinstance(said, timedelta) else said

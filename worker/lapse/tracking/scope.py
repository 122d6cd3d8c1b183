"""What a piece of code creates goes when it ends: for notebooks, scripts and tests."""

import contextvars
import time
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, Self, TypeVar

from lapse.errors import ConfigError
from lapse.registry import codec
from lapse.registry.codec import Span
from lapse.registry.model import Record
from lapse.registry.pools.steps import Steps, taken
from lapse.tracking import notices, removal, seam
from lapse.tracking.apis.endpoints import Name
from lapse.tracking.context import Within
from lapse.tracking.following import Followed
from lapse.tracking.statements import Means, Statement
from lapse.tracking.track import hook_of

P = ParamSpec("P")
T = TypeVar("T")


def scope(client: Any, *, within: Span = "1h", wait: bool = False, timeout: float = 30.0) -> "CreationScope":
    """Make all that is created inside ``with`` or ``async with`` due when that ends, also after an exception.

    It belongs to the context (``contextvars``), not to the client: what other tasks create meanwhile is not in it, and
    a thread joins by ``created.run(function)``. Ids are registered with an expiry of their own, so that a process that
    is killed leaves nothing behind. Of two scopes, the inner one owns what is created inside it.

    Args:
        client: A client that ``lapse.track`` tracks.
        within: When they go if this process ends before the scope does.
        wait: Delete them with the client itself before this returns, the newest first; what is held, what something
            outside uses, and what cannot be deleted in time is left to the worker. Nothing that goes wrong is raised.
        timeout: Seconds that this may take.

    Raises:
        ConfigError: the client is not tracked, or a time is none.

    """
    found = seam.of(client)
    hook = hook_of(found)
    if hook is None or not any(entry.account == found.account for entry in hook.entries):
        raise ConfigError("this client is not tracked: client = lapse.track(client, policies={...}) comes first")
    codec.span(within, "within")
    codec.span(timeout, "timeout")
    return CreationScope(client, within, timeout if wait else None, asynchronous=found.asynchronous)


class CreationScope:
    """What was created inside, the oldest first.

    Args:
        client: Deletes, where that is waited for.
        within: The expiry of what is registered.
        wait: Seconds that deleting may take; None to leave it to the worker.
        asynchronous: True if the client awaits.

    """

    def __init__(self, client: Any, within: Span, wait: float | None, *, asynchronous: bool) -> None:
        self._client = client
        self._wait = wait
        self._asynchronous = asynchronous
        self._created: dict[Name, Followed] = {}
        self._kept: dict[Name, Followed] = {}
        self._within = Within({"expires_in": within, "collect": self._collect})
        self._context = contextvars.copy_context()

    def keep(self, kind: str, id: str) -> None:
        """Take one out: when the scope ends, it lives on by its policy."""
        name = Name(kind, id)
        if name in self._created:
            self._kept[name] = self._created.pop(name)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function inside this scope, from any thread."""
        return self._context.copy().run(function, *args, **kwargs)

    def __iter__(self) -> Iterator[Name]:
        return iter(list(self._created))

    def __len__(self) -> int:
        return len(self._created)

    def __enter__(self) -> Self:
        if self._asynchronous:
            raise ConfigError("an asynchronous client has an asynchronous scope: async with lapse.scope(client)")
        return self._entered()

    def __exit__(self, *raised: object) -> None:
        taken(self._ended(*raised), awaits=False)

    async def __aenter__(self) -> Self:
        return self._entered()

    async def __aexit__(self, *raised: object) -> None:
        await taken(self._ended(*raised), awaits=True)

    def _ended(self, *raised: object) -> Steps[None]:
        self._within.__exit__(*raised)
        own = {name: followed for name, followed in self._created.items() if not self._strange(name, followed)}
        for name, followed in self._removing(own):
            try:
                if self._may_go((yield followed.carry(followed.registrar.look(name)))):
                    yield from removal.remove(self._client, *name)
            except Exception as error:  # whatever the SDK raises: the worker deletes it
                self._left(name, error)
        for name, followed in {**own, **self._kept}.items():
            try:
                yield followed.carry(followed.registrar.ended(name, gone=name in own))
            except Exception as error:
                self._left(name, error)

    def _entered(self) -> Self:
        self._within.__enter__()
        self._context = contextvars.copy_context()
        return self

    def _collect(self, one: Statement, followed: Followed) -> None:
        if one.means is Means.CREATED:
            self._created[one.object] = followed
        elif one.means is Means.DELETED:
            self._created.pop(one.object, None)

    def _strange(self, name: Name, followed: Followed) -> bool:
        """Return True for what a client of the other kind made, synchronous or not: nothing can be said of it here."""
        if followed.awaits == self._asynchronous:
            return False
        notices.once("scope", name.kind, f"{name.kind} {name.id} is of another kind of client: it expires by itself")
        return True

    def _removing(self, own: dict[Name, Followed]) -> Iterator[tuple[Name, Followed]]:
        """Return what is to be deleted, the newest first, while there is time."""
        end = time.monotonic() + (self._wait or 0)
        for name in reversed(own):
            if time.monotonic() >= end:
                return
            yield name, own[name]

    def _may_go(self, record: Record | None) -> bool:
        """Return True for what nobody holds and only this scope uses; where the registry cannot say, nothing goes."""
        if record is None or record.hold is not None:
            return False
        return all(Name(one.kind, one.id) in self._created for one in record.used_by)

    def _left(self, name: Name, error: Exception) -> None:
        notices.once("scope", name.kind, f"{name.kind} {name.id} was not deleted ({error!r}): the worker deletes it")

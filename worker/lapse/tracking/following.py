"""An exchange under way: what it says so far, and the stream that reads the rest of its answer while it passes."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from lapse.registry.aio import AsyncRegistry
from lapse.registry.client import Registry
from lapse.registry.protocol import Conversation
from lapse.tracking import notices
from lapse.tracking.context import ContextFacts
from lapse.tracking.reading import AnswerBody, UnreadableAnswer
from lapse.tracking.registrar import Registrar
from lapse.tracking.statements import Statement

T = TypeVar("T")


@dataclass(slots=True)
class Followed:
    """One exchange of an account.

    Attributes:
        registrar: Says what statements mean.
        registry: Where to: a Registry, or an AsyncRegistry, whose ``say`` is awaited.
        facts: What the application said of it.
        request: What was asked.
        said: What is to be said yet.
        nonce: That of the stamp which its object carries; "" without one.
        answer: Reads the rest, or None where the request said it all.

    """

    registrar: Registrar
    registry: Registry | AsyncRegistry
    facts: ContextFacts
    request: Any
    said: list[Statement] = field(default_factory=list)
    nonce: str = ""
    answer: AnswerBody | None = None

    @property
    def awaits(self) -> bool:
        """True if what ``carry`` returns is awaited."""
        return isinstance(self.registry, AsyncRegistry)

    def carry(self, conversation: Conversation[T]) -> Any:
        """Return what a conversation with the registry comes to."""
        return self.registry.say(conversation)

    @property
    def streamed(self) -> bool:
        """True while events are read one by one."""
        return self.answer is not None and self.answer.streamed

    @property
    def about(self) -> str:
        """The request, for the log."""
        return f"{self.request.method} {self.request.url.path}"

    def take(self, chunk: bytes) -> None:
        """Read the next bytes of the answer."""
        if self.answer is not None:
            try:
                self.said += self.answer.passed(chunk)
            except Exception as error:  # it would hide from the application what the provider has made
                failed(error, self.about)

    def end(self, *, cut: bool) -> None:
        """Read what the answer says as a whole."""
        if self.answer is not None:
            try:
                self.said += self.answer.ended(cut=cut)
            except Exception as error:
                failed(error, self.about)
            if self.answer.silent:
                notices.unanswered(self.about, "its answer ended before it said an id")
            self.answer = None

    def say(self) -> Conversation[None]:
        """Say to the registry what is to be said."""
        said, self.said = self.said, []
        try:
            yield from self.registrar.record(said, self.facts, self.nonce)
        except Exception as error:
            failed(error, self.about)
        if self.facts.collect is not None:
            for one in said:
                self.facts.collect(one, self)


def failed(error: Exception, about: str) -> None:
    """Say that an exchange could not be followed: once for each kind of failure."""
    unread = isinstance(error, UnreadableAnswer)
    notices.once(
        "failed", str(error) if unread else type(error).__name__, f"{about}: {error if unread else repr(error)}"
    )


@cache
def stream(base: type) -> type:
    """Return the stream of a synchronous client's response: bytes pass as they come, and are read on the way.

    The last ones of a JSON answer wait until what it says is in the registry: nobody knows its id before.

    Args:
        base: What the client's module wants a response's stream to be.

    """

    class Following(base):  # type: ignore[misc]
        def __init__(self, inner: Any, followed: Followed) -> None:
            self._inner, self._followed = inner, followed

        def __iter__(self) -> Iterator[bytes]:
            held = b""
            for chunk in self._inner:
                if held:
                    yield held
                self._followed.take(chunk)
                held = b"" if self._followed.streamed else chunk
                if not held:
                    self._followed.carry(self._followed.say())
                    yield chunk
            self._end(cut=False)
            if held:
                yield held

        def close(self) -> None:
            self._end(cut=True)
            self._inner.close()

        def _end(self, *, cut: bool) -> None:
            self._followed.end(cut=cut)
            if self._followed.said:
                self._followed.carry(self._followed.say())

    return Following


@cache
def async_stream(base: type) -> type:
    """Return the stream of an asynchronous client's response; see ``stream``."""

    class AsyncFollowing(base):  # type: ignore[misc]
        def __init__(self, inner: Any, followed: Followed) -> None:
            self._inner, self._followed = inner, followed

        async def __aiter__(self) -> AsyncIterator[bytes]:
            held = b""
            async for chunk in self._inner:
                if held:
                    yield held
                self._followed.take(chunk)
                held = b"" if self._followed.streamed else chunk
                if not held:
                    await self._followed.carry(self._followed.say())
                    yield chunk
            await self._end(cut=False)
            if held:
                yield held

        async def aclose(self) -> None:
            try:
                await self._end(cut=True)
            finally:
                await self._inner.aclose()

        async def _end(self, *, cut: bool) -> None:
            self._followed.end(cut=cut)
            if self._followed.said:
                await self._followed.carry(self._followed.say())

    return AsyncFollowing

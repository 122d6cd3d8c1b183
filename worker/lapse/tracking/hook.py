"""The hooks on an HTTP client: recognise what belongs to an account, and have its answer read while it passes."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from lapse.registry.pools.steps import Steps, taken
from lapse.tracking import following, notices, reading, stamps
from lapse.tracking.account import TrackedAccount, lowered
from lapse.tracking.apis.endpoints import Endpoints, Matched
from lapse.tracking.context import current
from lapse.tracking.following import Followed
from lapse.tracking.reading import AnswerBody
from lapse.tracking.registrar import Registrar
from lapse.tracking.statements import KnownRequest

PENDING = "lapse"
SUCCESS = 2
"""The first digit of a status that says so."""
_SIGNED = "AWS4-"
"""How the header begins where a signature covers the body (SigV4): it may not change any more."""


class Entry(NamedTuple):
    """One account that is tracked on an HTTP client, and the registry that it is tracked into."""

    account: TrackedAccount
    endpoints: Endpoints
    registrars: Callable[[Any], Registrar | None]
    """Returns who says what a request means; None for one that is nobody's."""
    registry: Any  # a Registry, or an AsyncRegistry for an asynchronous client
    stamps: bool = False


class Asked(NamedTuple):
    """What of a request says whose it is."""

    method: str
    url: Any
    headers: Any


class Pending:
    """A create on its way. It goes with its request: if that ends unanswered, somebody has to say so."""

    __slots__ = ("_request", "answered", "candidates", "nonce")

    def __init__(self, request: Any, candidates: list[tuple[Entry, Matched]]) -> None:
        self._request = Asked(request.method, request.url, request.headers)  # not itself: it holds this
        self.candidates = candidates
        self.answered = False
        self.nonce = ""

    def __del__(self) -> None:
        if not self.answered and owner(self._request, self.candidates):
            notices.unanswered(_about(self._request), "no answer came")


class Tracker:
    """The accounts tracked on one HTTP client, and what one of its exchanges means to them.

    Args:
        body: Makes what a request sends of bytes; None where none is changed.

    """

    def __init__(self, body: Callable[[bytes], Any] | None = None) -> None:
        self.entries: list[Entry] = []
        self._body = body or bytes
        self._parse: Callable[[bytes], Any] = reading.parser()

    def begun(self, request: Any) -> tuple[Entry, Registrar, str] | None:
        """Take note of a request that is about to create something; return who stamps what, if it is to be stamped."""
        candidates = self._candidates(request) if request.method == "POST" else ()
        creating = [one for one in candidates if one[1].endpoint.creates]
        if not creating or not current().tracked:
            return None
        request.extensions[PENDING] = Pending(request, creating)
        known = owner(request, creating) if any(entry.stamps for entry, _ in creating) else None
        if known is None or request.headers.get("authorization", "").startswith(_SIGNED):
            return None
        entry, (endpoint, _) = known
        registrar = entry.registrars(request)
        return (entry, registrar, endpoint.creates) if registrar and endpoint.stamps else None

    def put(self, request: Any, stamp: Mapping[str, str]) -> None:
        """Put a stamp into the metadata that a request is about to send."""
        body = stamps.stamped(request.content, stamp) if stamp else None
        if body is not None:
            request.stream = self._body(body)
            request.headers["Content-Length"] = str(len(body))
            request.extensions[PENDING].nonce = stamp["lapse"].rpartition("/")[2]

    def answered(self, response: Any) -> Followed | None:
        """Return what there is to follow of a response; nothing for most of them."""
        request = response.request
        pending: Pending | None = request.extensions.get(PENDING)
        if pending:
            pending.answered = True
        if response.status_code // 100 != SUCCESS:
            return None
        candidates = pending.candidates if pending else self._candidates(request)
        if not candidates or not current().tracked:
            return None
        known = owner(request, candidates)
        if known is None:
            notices.once("foreign", str(request.url.host), f"{_about(request)} is another account's: passed over")
            return None
        return self._followed(*known, response)

    def _candidates(self, request: Any) -> list[tuple[Entry, Matched]]:
        """Return the accounts that a request could belong to by its path, and what it means there."""
        target = request.url.raw_path.decode("ascii")
        below = [(entry, entry.account.below(target)) for entry in self.entries]
        found = [(entry, entry.endpoints.find(request.method, path)) for entry, path in below if path is not None]
        return [(entry, one) for entry, one in found if one]

    def _followed(self, entry: Entry, found: Matched, response: Any) -> Followed | None:
        endpoint, request = found.endpoint, response.request
        registrar = entry.registrars(request)
        if registrar is None:
            return None
        settings = registrar.settings
        exchange = KnownRequest(entry.endpoints, found, self._asked(request, found))
        uses = settings.reads or request.method != "GET"
        said = list(exchange.asked()) if uses else []
        followed = Followed(registrar, entry.registry, current(), request, said)
        if pending := request.extensions.get(PENDING):
            followed.nonce = pending.nonce
        if endpoint.reads_answer or (settings.learns and found.named):
            decode = partial(_decoded, type(response))
            # A transport may have read it already, as that of azure-ai-projects does: then it is decoded, too.
            whole = getattr(response, "is_stream_consumed", False)
            headers = {**lowered(response.headers), **({"content-encoding": ""} if whole else {})}
            followed.answer = AnswerBody(exchange, headers, self._parse, decode)
            if whole:
                followed.take(response.content)
                followed.end(cut=False)
        return followed

    def _asked(self, request: Any, found: Matched) -> Any:
        if not found.endpoint.reads_body or request.method == "GET":
            return None
        try:
            return reading.asked(request.content, self._parse)
        except Exception:  # a stream; each of the HTTP libraries has a class of its own for it
            return None


def _decoded(response: type, body: bytes, encoding: str) -> bytes:
    """Return a body decoded as the HTTP client itself does, by whatever packages it found for that."""
    decoded: bytes = response(200, headers={"content-encoding": encoding}, content=body).content
    return decoded


def owner(request: Any, candidates: Iterable[tuple[Entry, Matched]]) -> tuple[Entry, Matched] | None:
    """Return the account that a request belongs to."""
    return next((one for one in candidates if one[0].account.owns(request)), None)


def _about(request: Any) -> str:
    return f"{request.method} {request.url.path}"


class Hook(Tracker):
    """The hooks of an HTTP client.

    Args:
        base: The class that a response's stream has to be of.
        body: Makes what a request sends of bytes.
        awaits: True for an asynchronous client.

    """

    def __init__(self, base: type, body: Callable[[bytes], Any], *, awaits: bool) -> None:
        super().__init__(body)
        self._awaits = awaits
        self._stream = (following.async_stream if awaits else following.stream)(base)

    def request(self, request: Any) -> Any:
        """Take note of a request before it is sent."""
        return taken(self._noted(request), awaits=self._awaits)

    def response(self, response: Any) -> Any:
        """Follow a response."""
        return taken(self._follow(response), awaits=self._awaits)

    def _noted(self, request: Any) -> Steps[None]:
        try:
            if stamping := self.begun(request):
                entry, registrar, kind = stamping
                self.put(request, (yield entry.registry.say(registrar.stamp(kind, current()))))
        except Exception as error:  # it would stop the application's request
            following.failed(error, _about(request))

    def _follow(self, response: Any) -> Steps[None]:
        try:
            followed = self.answered(response)
            if followed is not None:
                if followed.answer is None or followed.streamed:
                    yield followed.carry(followed.say())
                if followed.answer is not None:
                    response.stream = self._stream(response.stream, followed)
        except Exception as error:  # it would hide from the application what the provider has made
            following.failed(error, _about(response.request))

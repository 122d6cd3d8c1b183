"""The same for Azure's own clients, which have a pipeline of policies in place of an HTTP client with hooks."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.pipeline.transport import AsyncHttpTransport

from lapse.registry.aio import AsyncRegistry
from lapse.registry.client import Registry
from lapse.tracking import following
from lapse.tracking.account import TrackedAccount
from lapse.tracking.apis.openai import OPENAI_ENDPOINTS
from lapse.tracking.hook import Entry, Tracker
from lapse.tracking.registrar import registrars
from lapse.tracking.settings import Policy, Tracking
from lapse.tracking.track import registry_for

_SENT = "lapse"


class Address(NamedTuple):
    """The parts of an address, by the names that httpx has for them."""

    raw_scheme: bytes
    raw_host: bytes
    port: int | None
    raw_path: bytes
    path: str

    @classmethod
    def of(cls, url: str) -> "Address":
        """Return the parts of an address."""
        parts: SplitResult = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        host = (parts.hostname or "").encode()
        return cls(parts.scheme.encode(), host, parts.port, target.encode(), parts.path)


class Sent(NamedTuple):
    """A request of azure-core's, as a tracker looks at it."""

    method: str
    url: Address
    headers: Mapping[str, str]
    extensions: dict[str, Any]
    content: bytes


class Answered(NamedTuple):
    """Its answer; what was read of it is decoded."""

    request: Sent
    status_code: int
    headers: Mapping[str, str]
    content: bytes
    is_stream_consumed: bool


class TrackingPolicy(SansIOHTTPPolicy):  # type: ignore[type-arg]
    """Follows what a client of azure-core sends and hears.

    Args:
        tracker: Makes what knows the account, with a registry that awaits or one that does not.

    """

    def __init__(self, tracker: Callable[..., Tracker]) -> None:
        super().__init__()
        self._tracker = cache(tracker)

    def on_request(self, request: Any) -> None:
        """Take note of a request before it is sent."""
        try:
            sent = request.context[_SENT] = _sent(request.http_request)
            self._tracker(asynchronous=_awaits(request)).begun(sent)
        except Exception as error:  # it would stop the application's request
            following.failed(error, "a request")

    def on_response(self, request: Any, response: Any) -> Awaitable[None] | None:
        """Follow an answer; a body that the application streams is left to it."""
        try:
            sent, http = request.context.get(_SENT), response.http_response
            if sent is None:
                return None
            read = not request.context.options.get("stream")
            body = (http.content if hasattr(http, "content") else http.body()) if read else b""
            answered = Answered(sent, http.status_code, http.headers, body, read)
            followed = self._tracker(asynchronous=_awaits(request)).answered(answered)
            if followed is None:
                return None
            said = followed.carry(followed.say())
            return said if _awaits(request) else None
        except Exception as error:  # it would hide from the application what the provider has made
            following.failed(error, "an answer")
        return None


def azure_policy(
    endpoint: str,
    *,
    policies: Mapping[str, Policy],
    registry: Registry | AsyncRegistry | None = None,
    provider: str | None = None,
    require: Iterable[str] = (),
    learn: str = "create",
    touch_on: Iterable[str] = ("write", "read"),
) -> TrackingPolicy:
    """Return a policy for azure-core's clients, such as ``AgentsClient(..., per_call_policies=[azure_policy(...)])``.

    Args:
        endpoint: The client's own, such as ``https://RESOURCE.services.ai.azure.com/api/projects/PROJECT``.
        policies: As in ``lapse.track``.
        registry: As in ``lapse.track``.
        provider: As in ``lapse.track``.
        require: As in ``lapse.track``.
        learn: As in ``lapse.track``.
        touch_on: As in ``lapse.track``.

    Raises:
        ConfigError: as ``lapse.track``.

    """
    named = registry.settings.provider if registry else None
    chosen = Tracking(provider, policies, require, learn, touch_on).checked(named)
    at = Address.of(endpoint)
    account = TrackedAccount((at.raw_scheme, at.raw_host, at.port), at.path.rstrip("/"))

    def tracker(*, asynchronous: bool) -> Tracker:
        made, used = Tracker(), registry_for(registry, asynchronous=asynchronous)
        made.entries.append(Entry(account, OPENAI_ENDPOINTS, registrars(chosen, used.protocol.logging()), used))
        return made

    return TrackingPolicy(tracker)


def _awaits(request: Any) -> bool:
    return isinstance(request.context.transport, AsyncHttpTransport)


def _sent(request: Any) -> Sent:
    body = getattr(request, "content", None) or b""
    content = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else b""
    return Sent(request.method, Address.of(request.url), request.headers, {}, content)

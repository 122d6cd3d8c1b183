"""track: one line after which what a client creates is registered, what it uses touched, what it deletes settled."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from lapse.errors import ConfigError
from lapse.registry.aio import AsyncRegistry
from lapse.registry.client import Registry
from lapse.tracking import seam
from lapse.tracking.hook import Entry, Hook
from lapse.tracking.registrar import registrars
from lapse.tracking.seam import Seam
from lapse.tracking.settings import Policy, Tracking

C = TypeVar("C")


def track(
    client: C,
    *,
    policies: Mapping[str, Policy],
    registry: Registry | AsyncRegistry | None = None,
    provider: str | None = None,
    require: Iterable[str] = (),
    learn: str = "create",
    touch_on: Iterable[str] = ("write", "read"),
    stamp: bool = False,
) -> C:
    """Register what a client creates, touch what it uses, and settle what it deletes; return the same client.

    Its answers stay the same to the byte, and nothing that goes wrong here reaches the application: it is logged. Only
    requests of this client's own account count, whoever else shares its HTTP client. A second call changes nothing.

    Args:
        client: ``OpenAI``, ``AsyncOpenAI``, ``AzureOpenAI``, ``AsyncAzureOpenAI``, or one of langgraph_sdk's.
        policies: Kind -> the policy of what is created, or a function of (kind, object) that returns its name, or None
            for "not this one". A kind that is not named is not registered, which is said once.
        registry: Where; else one made of ``LAPSE_REGISTRY__URL`` with ``on_error="spool"``. One that raises only
            logs here what it cannot say. An asynchronous client gets an AsyncRegistry of the same settings.
        provider: The account's name in ``retention.toml``; else the registry's own, else ``LAPSE_PROVIDER``.
        require: What ``lapse.context`` has to say, such as ``"subject"``: what is created without it is registered all
            the same, with the label ``lapse.missing``, and logged once for each line of code.
        learn: ``"use"`` registers an id of a kind in ``policies`` also when it is used and unknown; ``"create"`` not.
        touch_on: ``"write"`` alone: reading is no use. A backup that reads everything keeps everything otherwise.
        stamp: Put this registry's stamp into the metadata of what is created, where its kind has any: if its answer is
            lost, a listing shows whose it is. One round trip to the registry more, before the request.

    Raises:
        ConfigError: a client that this does not know, an argument that is wrong, or another registry for an account
            that is tracked already.

    """
    wanted = Tracking(provider, policies, require, learn, touch_on, stamp)
    return _install(client, seam.of(client), wanted, registry)


def track_http(
    http: C,
    *,
    policies: Mapping[str, Policy],
    registry: Registry | AsyncRegistry | None = None,
    provider: str | Callable[[Any], str | None] | None = None,
    base_url: str | None = None,
    api: str = "openai",
    require: Iterable[str] = (),
    learn: str = "create",
    touch_on: Iterable[str] = ("write", "read"),
    stamp: bool = False,
) -> C:
    """Track what goes through an HTTP client of httpx or httpx2 below a base URL; see ``track``.

    Only requests with the key of the HTTP client's own headers count; every key does where those have none, or where
    ``provider`` is a function.

    Args:
        http: The HTTP client.
        policies: As in ``track``.
        registry: As in ``track``.
        provider: As in ``track``; or, where one HTTP client serves several accounts, a function of the request that
            returns the account's name, or None for "not this one".
        base_url: What the addresses of the API begin with; else the HTTP client's own.
        api: ``"openai"``, for it and for servers compatible with it, or ``"langgraph"``.
        require: As in ``track``.
        learn: As in ``track``.
        touch_on: As in ``track``.
        stamp: As in ``track``.

    Raises:
        ConfigError: as ``track``.

    """
    wanted = Tracking(provider, policies, require, learn, touch_on, stamp)
    return _install(http, seam.of_http(http, base_url, api, every_key=callable(provider)), wanted, registry)


def _install(client: C, found: Seam, wanted: Tracking, registry: Registry | AsyncRegistry | None) -> C:
    wanted = wanted.checked(registry.settings.provider if registry else None)
    hook = hook_of(found) or _new_hook(found)
    for entry in hook.entries:
        if entry.account == found.account:
            if registry is not None and entry.registry.settings != registry.settings:
                raise ConfigError("this account is tracked into another registry already, on the same HTTP client")
            return client
    used = registry_for(registry, asynchronous=found.asynchronous)
    said_by = registrars(wanted, used.protocol.logging())
    hook.entries.append(Entry(found.account, found.endpoints, said_by, used, stamps=wanted.stamp))
    return client


def hook_of(found: Seam) -> Hook | None:
    """Return the hook that an HTTP client has, if it has one."""
    owners = (getattr(installed, "__self__", None) for installed in found.http.event_hooks["response"])
    return next((own for own in owners if isinstance(own, Hook)), None)


def _new_hook(found: Seam) -> Hook:
    """Put a hook on an HTTP client, before those that others put there."""
    hook = Hook(found.stream, found.body, awaits=found.asynchronous)
    found.http.event_hooks["request"].insert(0, hook.request)
    found.http.event_hooks["response"].insert(0, hook.response)
    return hook


def registry_for(given: Registry | AsyncRegistry | None, *, asynchronous: bool) -> Registry | AsyncRegistry:
    """Return a registry of a client's kind: a call that blocks would hold up a whole event loop."""
    wanted = AsyncRegistry if asynchronous else Registry
    if isinstance(given, wanted):
        return given
    if given is not None:
        return wanted(**given.settings._asdict())
    return wanted(on_error="spool")

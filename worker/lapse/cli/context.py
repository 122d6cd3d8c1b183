"""What one call works with: the policy file, the registry and its clients, each opened on first use."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lapse import Registry
from lapse.audit.subjects import SubjectsShown
from lapse.cli import output
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.options import config_option, provider_option
from lapse.errors import ConfigError
from lapse.guards.integrity import replication
from lapse.guards.integrity.continuity import ContinuityCheck, Known
from lapse.guards.integrity.statefile import state_file_of
from lapse.ledger.halts import Halts
from lapse.ledger.partition import Ledger
from lapse.log import register_secret, register_url
from lapse.metrics.snapshot import View
from lapse.policy import Config, Rule, load
from lapse.policy.reload import DEFAULT, find, plain, registry_source
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.commands import Commands
from lapse.registry.model import Partition
from lapse.registry.pools.credentials.endpoint import RedisEndpoint, endpoint_of
from lapse.registry.pools.credentials.password_file import tell
from lapse.registry.pools.plain import reader_of

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT = 5.0
"""Seconds for one exchange with the registry: a person is waiting, not a request."""


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """What a command reads and changes the registry with, inside the event loop."""

    carrier: Carrier
    control: Halts
    ledger: Ledger
    commands: Commands

    async def lasting(self) -> None:
        """Wait for replicas from now on, as many as workers do, before what a command says is told."""
        self.carrier.replicas = await replication.published(self.carrier, self.ledger.namespace)


class Invocation:
    """One call's config and connections."""

    def __init__(self, config: str | None = None, provider: str | None = None) -> None:
        self.environ: dict[str, str] = dict(os.environ)
        if config is not None:
            self.environ["LAPSE_CONFIG"] = config
        self.given_provider = provider

    @cached_property
    def config(self) -> Config:
        """The policy file.

        Raises:
            ConfigError: there is none, or it is invalid.

        """
        return load(find(self.environ, Path.cwd()), self.environ)

    @cached_property
    def configured(self) -> bool:
        """True if there is a policy file: an application's host has none, and only its registry's URL."""
        return bool(self.environ.get("LAPSE_CONFIG")) or (Path.cwd() / DEFAULT).is_file()

    @cached_property
    def endpoint(self) -> RedisEndpoint:
        """Where the registry is, and what opens it.

        Raises:
            ConfigError: none is configured.

        """
        tell(register_secret)
        if self.configured:
            endpoint = registry_source(self.config, self.environ).endpoint
        else:
            endpoint = endpoint_of(None)
            endpoint = replace(endpoint, url=plain(endpoint.url, "the registry's URL"))
        register_url(endpoint.url)
        return endpoint

    @cached_property
    def known(self) -> Known | None:
        """What this host remembers of the registry, if it has a witness file.

        Raises:
            ConfigError: the file is no such thing.

        """
        witness = state_file_of(self.config, self.environ) if self.configured else None
        return witness.load() if witness else None

    @cached_property
    def namespace(self) -> str:
        """The first part of every key."""
        if self.configured:
            return self.config.registry.namespace
        return self.environ.get("LAPSE_REGISTRY__NAMESPACE") or "lapse"

    @property
    def named_provider(self) -> str | None:
        """The account that ``--provider`` or ``LAPSE_PROVIDER`` names; None: all of them."""
        return self.given_provider or self.environ.get("LAPSE_PROVIDER")

    @cached_property
    def default_provider(self) -> str | None:
        """The account of what names none: ``--provider``, ``LAPSE_PROVIDER``, or the only one configured; else None."""
        chosen = self.named_provider
        known = list(self.config.accounts) if self.configured else []
        if chosen:
            return keys.provider(chosen)
        return known[0] if len(known) == 1 else None

    @cached_property
    def provider(self) -> str:
        """The account that a command is about.

        Raises:
            ConfigError: there is no telling which.

        """
        if self.default_provider:
            return self.default_provider
        known = sorted(self.config.accounts) if self.configured else []
        advice = f"--provider, one of {', '.join(known)}" if known else "--provider, or set LAPSE_PROVIDER"
        raise ConfigError(f"which provider? Give {advice}")

    def rules(self, kind: str | None = None, policy: str | None = None) -> list[Rule]:
        """Return the rules of a kind, a policy and the provider named; without those, all.

        Raises:
            ConfigError: there is none.

        """
        wanted = self.named_provider
        found = [
            rule
            for rule in self.config.rules
            if (wanted is None or rule.partition.provider == wanted)
            and (kind is None or rule.partition.kind == kind)
            and (policy is None or rule.partition.policy == policy)
        ]
        if not found:
            asked = "/".join(part or "*" for part in (wanted, kind, policy))
            there = ", ".join(str(rule.partition) for rule in self.config.rules)
            raise ConfigError(f"no policy of {self.config.path} covers {asked}: there is {there}")
        return found

    def rule_for(self, partition: Partition) -> Rule | None:
        """Return the rule of a partition: its own, or that of the policy that was formerly called so."""
        for rule in self.config.rules:
            at = rule.partition
            if (at.provider, at.kind) == (partition.provider, partition.kind) and partition.policy in {
                at.policy,
                *rule.formerly,
            }:
                return rule
        return None

    @cached_property
    def registry(self) -> Registry:
        """The registry as an application uses it, for one account."""
        return self.registry_of(self.provider)

    def registry_of(self, provider: str | None) -> Registry:
        """Return the registry as an application uses it; ``provider`` is that of calls that name none."""
        return Registry(self.endpoint, namespace=self.namespace, provider=provider, timeout=TIMEOUT)

    @cached_property
    def client(self) -> redis.Redis:
        """A plain client for reading; it decodes replies."""
        return reader_of(self.endpoint, TIMEOUT)

    @cached_property
    def subjects_shown(self) -> SubjectsShown:
        """How subjects are told outside of the registry, as ``[audit] subjects`` says."""
        salt = cast("str | None", self.client.hget(keys.epoch(self.namespace), "salt"))
        return SubjectsShown(self.config.audit.subjects, (salt or "").encode())

    @cached_property
    def exact(self) -> redis.Redis:
        """A plain client that reads and writes every byte as it is, and sends nothing a second time."""
        return reader_of(self.endpoint, TIMEOUT, encoding_errors="surrogateescape", retry=Retry(NoBackoff(), 0))

    @cached_property
    def view(self) -> View:
        """What the registry shows of the whole."""
        return View(self.client, self.namespace, ContinuityCheck(self.known))

    def key_of(self, partition: Partition, name: str) -> str:
        """Return the name of one of a partition's keys."""
        return keys.partition(self.namespace, partition.provider, partition.kind, partition.policy) + name

    def run(self, work: Callable[[RegistryAccess], Awaitable[T]]) -> T:
        """Run asynchronous work and return its result."""

        async def inside() -> T:
            async with self._access() as access:
                return await work(access)

        return asyncio.run(inside())

    @asynccontextmanager
    async def _access(self) -> AsyncIterator[RegistryAccess]:
        carrier = Carrier(self.endpoint, TIMEOUT)
        name = f"{socket.gethostname()}:{os.getpid()}"
        pending = self.config.audit.max_pending if self.configured else 0
        try:
            yield RegistryAccess(
                carrier,
                Halts(carrier, self.namespace),
                Ledger(carrier, self.namespace, name, max_pending=pending),
                Commands(self.namespace, None),
            )
        finally:
            await carrier.aclose()

    async def slots(self, access: RegistryAccess) -> list[tuple[str, str]]:
        """Return every (provider, kind) that the file or a worker ever knew."""
        configured = {(rule.partition.provider, rule.partition.kind) for rule in self.config.rules}
        published = json.loads((await access.control.published()).get("slots", "[]"))
        return sorted(configured | {(provider, kind) for provider, kind in published})


def with_session(command: F) -> F:
    """Add ``--provider`` and ``--config``; the command gets what they lead to, as ``session``."""

    @wraps(command)
    def opened(*, provider: str | None, config: str | None, **given: Any) -> Any:
        return command(session=Invocation(config, provider), **given)

    return cast("F", provider_option(config_option(opened)))


def one_provider(rules: Sequence[Rule]) -> str:
    """Return the provider of these rules.

    Raises:
        Refused: there are several.

    """
    names = sorted({rule.partition.provider for rule in rules})
    if len(names) > 1:
        raise Refused(Code.USAGE, f"which provider? Give --provider, one of {', '.join(names)}")
    return names[0]


def confirmed(provider: str, given: str | None, what: str) -> None:
    """Return if the operator says the provider's name, by option or by typing it.

    Raises:
        Refused: not said, or another name; nothing was done.

    """
    if given is None and output.can_ask():
        given = click.prompt(f"Type {provider} to {what}", default="", show_default=False, err=True).strip()
        hint = "nothing was done"
    else:
        hint = f"nothing was done; give --confirm={provider} to {what}"
    if given != provider:
        raise Refused(Code.CONFIRM, f"not confirmed: {hint}")

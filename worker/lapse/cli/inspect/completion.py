"""What a shell completes from what workers published: providers, policies, scopes, plans that wait for an approval.

A person presses a key and waits: the registry is asked for 0.3 s at most, by a thread that is left behind if it takes
longer, in a name's resolution too. Nothing is ever printed about it. What the policy file says is there without it.
"""

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import click
from click.shell_completion import CompletionItem

from lapse.cli.context import Invocation
from lapse.errors import LapseError
from lapse.registry import keys

PATIENCE = 0.3
"""Seconds that the registry is waited for."""
_POLICY = re.compile("[^/]*/[^/]*/[^/]*")
_HARMLESS = re.compile(r"[A-Za-z0-9_.*|/-]{1,256}")
"""What a shell takes for one word: a name of anybody who may write to the registry is printed."""


@dataclass(slots=True)
class KnownNames:
    """What there is: providers, ``PROVIDER/KIND``, ``PROVIDER/KIND/POLICY``, and plan -> where it waits, and why."""

    providers: set[str] = field(default_factory=set)
    slots: set[str] = field(default_factory=set)
    policies: set[str] = field(default_factory=set)
    plans: dict[str, str] = field(default_factory=dict)


def providers(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the providers that begin so."""
    return _items(_known(context, _published).providers, incomplete)


def policies(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the names of policies that begin so: those of the provider that is typed already, if one is."""
    wanted = context.params.get("provider")
    found = (name.partition("/")[::2] for name in _known(context, _published).policies)
    return _items({rest.rpartition("/")[2] for provider, rest in found if wanted in {None, provider}}, incomplete)


def scopes(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return what a pause may be about and begins so."""
    known = _known(context, _published)
    return _items(known.providers | known.slots | known.policies, incomplete)


def plans(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """Return the plans that wait for an approval and begin so, with where and why."""
    found = _known(context, _waiting).plans
    return [CompletionItem(item.value, help=found[item.value]) for item in _items(found, incomplete)]


def _items(names: Any, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete) and _HARMLESS.fullmatch(name)]


def _known(context: click.Context, ask: Callable[[Invocation, KnownNames], None]) -> KnownNames:
    """Return what the policy file has, and what the registry says within ``PATIENCE``."""
    logging.disable()
    session = Invocation(context.params.get("config"))
    known = KnownNames()
    with suppress(LapseError, OSError):  # no file, or one that cannot be read: workers know it
        at = [rule.partition for rule in session.config.rules] if session.configured else []
        known.providers |= set(session.config.accounts) if session.configured else set()
        known.slots |= {f"{one.provider}/{one.kind}" for one in at}
        known.policies |= {str(one) for one in at}
    told = KnownNames()

    def asked() -> None:
        with suppress(Exception):  # whatever it is: there is nobody to tell
            ask(session, told)
        heard.set()

    heard = threading.Event()
    threading.Thread(target=asked, name="lapse-completion", daemon=True).start()
    if heard.wait(PATIENCE):
        known.providers |= told.providers
        known.slots |= told.slots
        known.policies |= told.policies
        known.plans |= told.plans
    return known


def _published(session: Invocation, told: KnownNames) -> None:
    published = session.view.published()
    told.providers |= set(_names(published, "providers"))
    told.policies |= {name for name in _names(published, "policies") if _POLICY.fullmatch(name)}
    told.slots |= {f"{provider}/{kind}" for provider, kind in _slots(published)}


def _waiting(session: Invocation, told: KnownNames) -> None:
    slots = _slots(session.view.published())
    with session.client.pipeline(transaction=False) as pipe:
        for provider, kind in slots:
            pipe.hgetall(keys.slot(session.namespace, provider, kind) + keys.HALTS)
        for slot, halts in zip(slots, pipe.execute(), strict=True):
            told.plans |= dict(_plans("/".join(slot), halts))


def _plans(slot: str, halts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, stored in halts.items():
        if (plan := json.loads(stored).get("plan")) and _HARMLESS.fullmatch(name):
            policy, _, reason = name.partition("|")
            yield plan, f"{slot}/{policy}: {reason}"


def _names(published: Mapping[str, str], name: str) -> list[str]:
    """Return the names in a field that workers write; what it is not is left out."""
    found = json.loads(published.get(name, "[]"))
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _slots(published: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(str(provider), str(kind)) for provider, kind in json.loads(published.get("slots", "[]"))]

"""What an application says at ``track``. No I/O."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from lapse.errors import ConfigError
from lapse.registry import keys
from lapse.registry.kind_names import singular

Policy = str | Callable[[str, Any], str | None]

FACTS = ("subject", "policy", "labels", "expires_in")
"""What ``lapse.context`` says."""


@dataclass(frozen=True, slots=True)
class Tracking:
    """What an application asks for; the arguments of ``track``.

    Attributes:
        provider: The account's name in the registry, or what returns it of an HTTP request; None for "not this one".
        policies: Kind -> name of the policy, or what returns one, or None for "not this one".
        require: What ``lapse.context`` has to have said of a create.
        learn: ``"use"`` or ``"create"``.
        touch_on: ``"write"``, and ``"read"`` or not.
        stamp: Whether what is created carries a stamp.

    """

    provider: str | Callable[[Any], str | None] | None
    policies: Mapping[str, Policy]
    require: Iterable[str] = ()
    learn: str = "create"
    touch_on: Iterable[str] = ("write", "read")
    stamp: bool = False

    @property
    def learns(self) -> bool:
        """True if an id that is used and not known is registered."""
        return self.learn == "use"

    @property
    def reads(self) -> bool:
        """True if a GET is a use."""
        return "read" in self.touch_on

    def checked(self, named: str | None) -> Self:
        """Return the same, checked, with sets and names as they are stored.

        Args:
            named: The provider of a registry that was given, for a call that names none.

        Raises:
            ConfigError: no provider, or an argument that is wrong.
            InvalidResource: no name of a policy, or no kind.

        """
        provider = self.provider or named or os.environ.get("LAPSE_PROVIDER")
        if not provider:
            raise ConfigError("which provider? Give provider= to track or to the registry, or set LAPSE_PROVIDER")
        if self.learn not in {"create", "use"}:
            raise ConfigError(f'learn={self.learn!r}: use "create" or "use"')
        require, touch_on = _texts(self.require), _texts(self.touch_on)
        if unknown := [name for name in require if name not in FACTS]:
            raise ConfigError(f"require={unknown}: lapse.context says {', '.join(FACTS)}")
        if set(touch_on) not in ({"write", "read"}, {"write"}):
            raise ConfigError(f'touch_on={self.touch_on!r}: use ("write", "read") or "write"')
        name = provider if callable(provider) else keys.provider(provider)
        return replace(self, provider=name, policies=_policies(self.policies), require=require, touch_on=touch_on)


def _texts(given: Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _policies(given: Mapping[str, Policy]) -> dict[str, Policy]:
    if not isinstance(given, Mapping) or not given:
        raise ConfigError('policies= names nothing: give a policy for each kind, such as {"conversation": "chat"}')
    for kind, policy in given.items():
        if not callable(policy):
            keys.name(policy, f"policy of {kind}")
    return {singular(kind): policy for kind, policy in given.items()}
